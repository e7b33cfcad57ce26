//! What do the bytes of a record cost in the fanout ring?
//!
//! Unit: bytes a second from one writer to one reader, in records of 16, 64, 256 and 1,024 bytes, one publish
//! for each; the reader takes up to 32 in place at a time and looks at the first word. Limit: a bare ring of
//! records of the same size.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{bare_stream, between_cpus, drain_all, send};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const DRAIN_MAX: usize = 32;

fn stream(records: u64, len: usize) -> Duration {
    let ring = common::ring(len, 1);
    let (writer, mut readers) = (ring.writer(), common::readers(&ring));
    between_cpus(
        move || drain_all(&mut readers, records, DRAIN_MAX),
        move || (0..records).for_each(|n| send(&writer, len, n)),
    )
}

fn sizes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_sizes/1_to_1");
    for len in [16, 64, 256, 1024] {
        group.throughput(Throughput::Bytes(len as u64));
        let limit = format!("bare_{len}_limit");
        group.bench_function(limit, |b| b.iter_custom(|n| black_box(bare_stream(n, len, 1))));
        group.bench_function(len.to_string(), |b| b.iter_custom(|n| black_box(stream(n, len))));
    }
    group.finish();
}

criterion_group! { name = benches; config = common::config(); targets = sizes }
criterion_main!(benches);
