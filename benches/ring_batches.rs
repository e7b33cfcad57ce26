//! What does claiming and publishing in batches save?
//!
//! Unit: 64-byte records a second from one writer to one reader, in batches of 1, 4, 32 and 256; the reader
//! takes as many in place at a time as the writer publishes. Limit: a bare ring that moves one index for each
//! batch.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{RECORD, bare_stream, between_cpus, drain_all, fill, relax};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn stream(records: u64, batch: u64) -> Duration {
    let ring = common::ring(RECORD, 1);
    let (writer, mut readers) = (ring.writer(), common::readers(&ring));
    between_cpus(
        move || drain_all(&mut readers, records, batch as usize),
        move || {
            let mut next = 0;
            while next < records {
                let Ok(mut claim) = writer.try_claim_many(RECORD, batch.min(records - next) as usize) else {
                    relax();
                    continue;
                };
                for index in 0..claim.len() {
                    fill(claim.record(index), next + index as u64);
                }
                next = claim.commit().end;
            }
        },
    )
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_batches/64_bytes");
    group.throughput(Throughput::Elements(1));
    for batch in [1, 4, 32, 256] {
        let limit = format!("bare_{batch}_limit");
        group.bench_function(limit, |b| b.iter_custom(|n| black_box(bare_stream(n, RECORD, batch))));
        group.bench_function(batch.to_string(), |b| b.iter_custom(|n| black_box(stream(n, batch))));
    }
    group.finish();
}

criterion_group! { name = benches; config = common::config(); targets = batches }
criterion_main!(benches);
