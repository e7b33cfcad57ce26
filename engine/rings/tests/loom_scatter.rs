//! Rings with scattered records under loom; `loom.rs` shows how to run it. As few blocks as possible, so that
//! the next lap reuses the same one. Each model runs on rings with swaps only and on rings with stores.
#![cfg(loom)]

use corewire_rings::{RecordState, Ring, RingConfig, RingConfigError};
use loom::thread;
use loom_rig::{fill, push, push_evicting, take_with, whole, whole_twice};

mod loom_rig;

/// The longest small record, and a longer one.
const SMALL: usize = 128;
const LONG: usize = 129;

type Make = fn(RingConfig) -> Result<Ring, RingConfigError>;

/// Runs `scenario` on both kinds of ring.
fn model(scenario: fn(Make)) {
    for make in [Ring::new as Make, Ring::with_stores] {
        loom::model(move || scenario(make));
    }
}

/// A ring of blocks only.
fn blocks(make: Make, datums: usize) -> Ring {
    make(RingConfig { datums, bytes: datums * SMALL, max_record: SMALL, readers: 1, scatter_small: true })
        .unwrap()
}

/// A ring of blocks, and of units for a long record besides at most two small ones.
fn mixed(make: Make, datums: usize) -> Ring {
    let bytes = (datums * SMALL).max(RingConfig::cost(LONG));
    make(RingConfig { datums, bytes, max_record: LONG, readers: 1, scatter_small: true }).unwrap()
}

/// One writer and one reader. The records have these lengths, and their sequences as values.
fn laps(ring: &Ring, lengths: &'static [usize]) {
    let mut reader = ring.subscribe().unwrap();
    let writer = ring.writer();
    let thread = thread::spawn(move || {
        for (seq, len) in (0..).zip(lengths) {
            push(&writer, *len, seq);
        }
    });
    for seq in 0..lengths.len() {
        let look = if seq % 2 == 0 { whole } else { whole_twice };
        assert_eq!(take_with(&mut reader, look), (seq as u64, seq as u8, 0));
    }
    thread.join().unwrap();
}

#[test]
fn a_block_is_reused_after_its_last_read() {
    model(|make| laps(&blocks(make, 1), &[SMALL, 1, SMALL, 16, SMALL]));
}

#[test]
fn two_blocks_are_reused_in_any_order_of_laps() {
    model(|make| laps(&blocks(make, 2), &[SMALL, 1, SMALL, SMALL, 64]));
}

#[test]
fn small_and_long_records_alternate() {
    model(|make| laps(&mixed(make, 1), &[SMALL, LONG, SMALL, LONG]));
}

#[test]
fn long_and_small_records_alternate_across_the_wrap() {
    model(|make| laps(&mixed(make, 2), &[LONG, 1, LONG, SMALL]));
}

#[test]
fn two_producers_never_share_a_block() {
    // With a reader. Not with stores: loom lets two threads that wait by turns starve a third.
    loom::model(|| {
        let ring = blocks(Ring::new, 2);
        let mut reader = ring.subscribe().unwrap();
        let threads = [20u8, 30].map(|value| {
            let writer = ring.writer();
            thread::spawn(move || fill(writer.try_claim(SMALL).unwrap(), value))
        });
        let seen = [(); 2].map(|()| take_with(&mut reader, whole));
        let [twenty, thirty] = threads.map(|thread| thread.join().unwrap());
        assert_eq!((seen[twenty as usize], seen[thirty as usize]), ((twenty, 20, 0), (thirty, 30, 0)));
    });
}

#[test]
fn a_second_producer_never_shares_a_block_with_the_owner() {
    model(|make| {
        let ring = blocks(make, 4);
        let mut reader = ring.subscribe().unwrap();
        push(&ring.writer(), SMALL, 10); // This thread owns the ring, if one can.
        let writer = ring.writer();
        let thread = thread::spawn(move || push(&writer, SMALL, 20));
        let here = [push(&ring.writer(), SMALL, 30), push(&ring.writer(), SMALL, 30)];
        let there = thread.join().unwrap();
        for seq in 1..4 {
            reader.advance_to(1).unwrap();
            assert_eq!(take_with(&mut reader, whole), (seq, if seq == there { 20 } else { 30 }, 0));
        }
        assert!(!here.contains(&there));
    });
}

#[test]
fn two_producers_never_share_a_block_of_the_next_lap() {
    model(|make| {
        let ring = blocks(make, 1);
        let mut reader = ring.subscribe().unwrap();
        push(&ring.writer(), SMALL, 0);
        let writer = ring.writer();
        let thread = thread::spawn(move || writer.try_claim(SMALL).map(|claim| fill(claim, 1)).is_ok());
        assert_eq!(take_with(&mut reader, whole_twice), (0, 0, 0));
        let here = ring.writer().try_claim(SMALL).map(|claim| fill(claim, 2)).is_ok();
        let there = thread.join().unwrap();
        assert!(here != there, "one block, one winner");
        assert_eq!(take_with(&mut reader, whole_twice), (1, if here { 2 } else { 1 }, 0));
    });
}

#[test]
fn eviction_and_reading_in_place_exclude_each_other() {
    model(|make| {
        let ring = blocks(make, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, SMALL, 0);
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        let (seq, value, gap) = take_with(&mut reader, whole_twice);
        assert_eq!((seq, u64::from(value)), (gap, gap));
        let lost = thread.join().unwrap();
        assert_eq!((lost, reader.lost()), (gap, gap));
    });
}

#[test]
fn eviction_spares_the_blocks_of_a_pinned_reader() {
    model(|make| {
        let ring = blocks(make, 2);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, SMALL, 0);
        push(&writer, SMALL, 1);
        let thread = thread::spawn(move || push_evicting(&writer, 2));
        let start = reader.pin().unwrap();
        for seq in start..2 {
            let RecordState::Published(record) = reader.get(seq) else { panic!("{seq} is published") };
            assert_eq!(u64::from(whole_twice(record)), seq);
        }
        reader.unpin(2);
        assert_eq!((thread.join().unwrap(), reader.lost()), (start, start));
    });
}

/// A reader that takes records in batches while the writer laps.
fn batches(ring: &Ring, lengths: &'static [usize]) {
    let mut reader = ring.subscribe().unwrap();
    let writer = ring.writer();
    push(&writer, lengths[0], 0);
    let thread = thread::spawn(move || {
        for (seq, len) in (0..).zip(lengths).skip(1) {
            push(&writer, *len, seq);
        }
    });
    let mut next = 0;
    while next < lengths.len() {
        let read = reader.pin_guard().unwrap().for_each(2, |seq, record| {
            assert_eq!((seq, record.len()), (next as u64, lengths[next]));
            assert_eq!(usize::from(whole_twice(record)), next);
            next += 1;
        });
        if read == 0 {
            thread::yield_now();
        }
    }
    thread.join().unwrap();
}

#[test]
fn a_run_of_blocks_is_read_while_the_writer_laps() {
    model(|make| batches(&blocks(make, 2), &[SMALL; 5]));
}

#[test]
fn a_batch_over_blocks_and_units_is_read_while_the_writer_laps() {
    model(|make| batches(&mixed(make, 2), &[LONG, 1, SMALL, LONG]));
}
