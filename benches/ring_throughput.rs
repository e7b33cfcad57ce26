//! How many 64-byte records a second pass through the fanout ring, one publish for each?
//!
//! Unit: records that *each* reader gets, from 1 or 4 writers to 1, 4 or 16 readers. Limit: a bare ring with
//! one writer, one reader and nothing else, which publishes its index for each record. All writers take turns
//! on one thread and all readers on another, reading up to 32 records in place at a time: this measures the
//! cost of the handles, not of competing threads.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{RECORD, bare_stream, between_cpus, drain_all, send};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const DRAIN_MAX: usize = 32;

fn stream(records: u64, writers: usize, readers: usize) -> Duration {
    let ring = common::ring(RECORD, readers);
    let mut readers = common::readers(&ring);
    let writers: Vec<_> = (0..writers).map(|_| ring.writer()).collect();
    between_cpus(
        move || drain_all(&mut readers, records, DRAIN_MAX),
        move || (0..records).zip(writers.iter().cycle()).for_each(|(n, writer)| send(writer, RECORD, n)),
    )
}

fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_throughput/64_bytes");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare_1_to_1_limit", |b| b.iter_custom(|n| black_box(bare_stream(n, RECORD, 1))));
    for (writers, readers) in [(1, 1), (1, 4), (1, 16), (4, 1), (4, 4)] {
        let name = format!("{writers}_to_{readers}");
        group.bench_function(name, |b| b.iter_custom(|n| black_box(stream(n, writers, readers))));
    }
    group.finish();
}

criterion_group! { name = benches; config = common::config(); targets = throughput }
criterion_main!(benches);
