//! What does a sleeping reader cost, itself and the writer that wakes it?
//!
//! Unit: `wake` is the time from before the publish to after the receive by a reader that slept, `publish`
//! the time of the publish. Limit of both: the standard library's park and unpark, which is one futex word.
//! Each publish follows a pause of 20 us; after longer pauses processors sleep deeper, and both sides of the
//! ratio grow.

mod common;

use std::hint::black_box;

use common::{RECORD, Wakes, bare_wakes, first_word, send, wakes};
use corewire_rings::park::block_on;
use criterion::{Criterion, criterion_group, criterion_main};

fn ring(count: u64) -> Wakes {
    let ring = common::ring(RECORD, 1);
    let (writer, mut reader) = (ring.writer(), common::readers(&ring).remove(0));
    let seen = wakes(
        count,
        move |number| send(&writer, RECORD, number),
        move |number| {
            let record = block_on(reader.recv()).expect("an open ring");
            assert_eq!(first_word(&record), number, "a record of another place");
        },
    );
    assert!(ring.stats().reader_wakes <= count, "a sleep gets one wake at most");
    seen
}

fn sleeping(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_wake/64_bytes");
    // Most of the time is the pause before each wake, which is not in the figure.
    group.measurement_time(std::time::Duration::from_millis(300));
    group.bench_function("wake_park_limit", |b| b.iter_custom(|n| black_box(bare_wakes(n)).latency));
    group.bench_function("wake_ring", |b| b.iter_custom(|n| black_box(ring(n)).latency));
    group.bench_function("publish_park_limit", |b| b.iter_custom(|n| black_box(bare_wakes(n)).sends));
    group.bench_function("publish_ring", |b| b.iter_custom(|n| black_box(ring(n)).sends));
    group.finish();
}

criterion_group! { name = benches; config = common::config(); targets = sleeping }
criterion_main!(benches);
