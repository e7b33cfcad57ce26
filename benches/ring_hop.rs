//! What does one hop through the fanout ring cost, when both sides spin?
//!
//! Unit: the time of one round trip of a 64-byte record. Limit: the round trip of one cache line. A ring
//! moves two lines each way, the slot and the bytes. The cost of a sleeping reader is the question of
//! `ring_wake`.

mod common;

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Line, RECORD, between_cpus, receive, send};
use criterion::{Criterion, criterion_group, criterion_main};

fn cache_line(rounds: u64) -> Duration {
    let line = &Line::new();
    between_cpus(
        || {
            for round in 0..rounds {
                line.wait(2 * round + 1);
                line.0.store(2 * round + 2, Ordering::Release);
            }
        },
        || {
            for round in 0..rounds {
                line.0.store(2 * round + 1, Ordering::Release);
                line.wait(2 * round + 2);
            }
        },
    )
}

fn ring(rounds: u64) -> Duration {
    let (there, back) = (common::ring(RECORD, 1), common::ring(RECORD, 1));
    let (mut there_rx, mut back_rx) = (common::readers(&there).remove(0), common::readers(&back).remove(0));
    let (there, back) = (there.writer(), back.writer());
    between_cpus(
        move || {
            for _ in 0..rounds {
                let value = receive(&mut there_rx);
                send(&back, RECORD, value);
            }
        },
        move || {
            for round in 0..rounds {
                send(&there, RECORD, round);
                assert_eq!(receive(&mut back_rx), round);
            }
        },
    )
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_hop/round_trip");
    group.bench_function("cache_line_limit", |b| b.iter_custom(|n| black_box(cache_line(n))));
    group.bench_function("ring_64_bytes", |b| b.iter_custom(|n| black_box(ring(n))));
    group.finish();
}

criterion_group! { name = benches; config = common::config(); targets = round_trip }
criterion_main!(benches);
