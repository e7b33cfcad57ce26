//! What does each policy cost the sender at a full ring?
//!
//! Unit: the time of one 64-byte send. `refused` is `Fail`: the claim finds no room. `evicts` is
//! `DropOldest`: the oldest record is taken from each of 1, 3 or 16 readers that take nothing. Both run on
//! one thread; their limit is a send into a ring without readers. `hands_over` is `PauseUpstream`: from the
//! reader's release of a place to the sleeping writer's record in it, beside the standard library's park and
//! unpark.

mod common;

use std::hint::black_box;

use common::{RECORD, bare_wakes, fill, first_word, wakes};
use corewire_rings::ClaimError;
use corewire_rings::park::block_on;
use criterion::{Bencher, Criterion, criterion_group, criterion_main};

fn no_readers(b: &mut Bencher<'_>) {
    let writer = common::ring(RECORD, 1).writer();
    let mut value = 0;
    b.iter(|| {
        value += 1;
        common::send(&writer, RECORD, value);
    });
}

fn refused(b: &mut Bencher<'_>) {
    let ring = common::ring(RECORD, 1);
    let (writer, readers) = (ring.writer(), common::readers(&ring));
    while writer.try_push(&[7; RECORD]).is_ok() {}
    b.iter(|| assert_eq!(black_box(writer.try_push(&[7; RECORD])), Err(ClaimError::Full)));
    drop(readers);
}

fn evicts(b: &mut Bencher<'_>, standing: usize) {
    let ring = common::ring(RECORD, standing);
    let (writer, readers) = (ring.writer(), common::readers(&ring));
    while writer.try_push(&[7; RECORD]).is_ok() {}
    let (mut value, mut lost) = (0, 0);
    b.iter(|| {
        value += 1;
        let mut claim =
            writer.claim_evicting(RECORD, |_, records| lost += records).expect("nobody reads in place");
        fill(&mut claim, value);
        claim.commit();
    });
    assert_eq!(lost, value * standing as u64, "each send takes one record from each reader");
    drop(readers);
}

/// The ring is small, so that its writer waits from the first send on.
fn hands_over(count: u64) -> common::Wakes {
    const ROOM: usize = 8;
    let ring = common::ring_of(ROOM, RECORD, 1);
    let (writer, mut reader) = (ring.writer(), common::readers(&ring).remove(0));
    (0..ROOM as u64).for_each(|n| common::send(&writer, RECORD, n));
    let give_back = move |number| {
        let record = reader.try_recv().expect("an open ring").expect("a full ring");
        assert_eq!(first_word(&record), number, "a record of another place");
    };
    wakes(count, give_back, move |number| {
        let mut claim = block_on(writer.claim(RECORD)).expect("an open ring");
        fill(&mut claim, ROOM as u64 + number);
        claim.commit();
    })
}

fn full(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_full/64_bytes");
    group.bench_function("no_readers_limit", no_readers);
    group.bench_function("refused", refused);
    for standing in [1, 3, 16] {
        group.bench_function(format!("evicts_{standing}"), |b| evicts(b, standing));
    }
    // Most of the time is the pause before each hand-over, which is not in the figure.
    group.measurement_time(std::time::Duration::from_millis(300));
    group.bench_function("park_limit", |b| b.iter_custom(|n| black_box(bare_wakes(n)).latency));
    group.bench_function("hands_over", |b| b.iter_custom(|n| black_box(hands_over(n)).latency));
    group.finish();
}

criterion_group! { name = benches; config = common::config(); targets = full }
criterion_main!(benches);
