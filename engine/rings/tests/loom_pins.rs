//! Pins by store and their revocation under loom; `loom.rs` shows how to run it.
//! Rings are built with `Ring::with_stores`; in the other models all pins are swaps.
#![cfg(loom)]

use corewire_rings::{Reader, RecordState, Ring, RingConfig, Writer};
use loom::thread;
use loom_rig::{push_evicting, take, whole};
use scenarios::push_if_room;

mod loom_rig;
mod scenarios;

fn ring() -> Ring {
    // One record, so that the next one reuses its memory.
    Ring::with_stores(RingConfig { datums: 1, bytes: 16, max_record: 16, readers: 1, scatter_small: false })
        .unwrap()
}

/// A ring that is full of one record of zeros, its reader and its writer.
fn full() -> (Ring, Reader, Writer) {
    let ring = ring();
    let (reader, writer) = (ring.subscribe().unwrap(), ring.writer());
    assert!(push_if_room(&writer, 0));
    (ring, reader, writer)
}

#[test]
fn the_first_eviction_and_a_pin_exclude_each_other() {
    loom::model(|| {
        let (ring, mut reader, writer) = full();
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        let (_, value, gap) = take(&mut reader);
        assert_eq!(u64::from(value), gap);
        let lost = thread.join().unwrap();
        assert_eq!((lost, reader.lost()), (gap, gap));
        // Pins are swaps now in any case, and a pinned reader is not moved.
        push_if_room(&ring.writer(), 1);
        let guard = reader.pin_guard().unwrap();
        assert_eq!(push_evicting(&ring.writer(), 1), 0);
        drop(guard);
    });
}

#[test]
fn a_pinned_reader_is_not_moved_while_it_waits() {
    loom::model(|| {
        let (_, mut reader, writer) = full();
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        let guard = reader.pin_guard().unwrap();
        let start = guard.start();
        let lost = thread.join().unwrap();
        assert_eq!((lost, guard.lost_before()), (start, start), "moved before it was pinned, or not at all");
        assert_eq!(guard.get(start), RecordState::Published(&[start as u8; 16]));
    });
}

#[test]
fn a_reader_pinned_by_a_store_is_not_moved() {
    loom::model(|| {
        let (_, mut reader, writer) = full();
        let guard = reader.pin_guard().unwrap();
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        assert_eq!(guard.get(0), RecordState::Published(&[0; 16]));
        assert_eq!(guard.get(0), RecordState::Published(&[0; 16]));
        drop(guard);
        let lost = thread.join().unwrap();
        assert_eq!(take_gap(&mut reader), lost);
    });
}

fn take_gap(reader: &mut Reader) -> u64 {
    drop(reader.pin_guard().unwrap());
    reader.lost()
}

#[test]
fn two_first_evictors_and_a_pin() {
    loom::model(|| {
        let (ring, mut reader, writer) = full();
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        let other = ring.writer();
        let second = thread::spawn(move || push_evicting(&other, 1));
        if let Some(record) = reader.try_recv().unwrap() {
            whole(&record);
        }
        let lost = thread.join().unwrap() + second.join().unwrap();
        assert_eq!(take_gap(&mut reader), lost);
    });
}

#[test]
fn detachment_and_a_pin_exclude_each_other() {
    loom::model(|| scenarios::detachment_and_a_pin_guard_exclude_each_other(&ring()));
}

#[test]
fn a_reader_and_evicting_writers_alternate() {
    loom::model(|| {
        let (_, mut reader, writer) = full();
        let thread = thread::spawn(move || push_evicting(&writer, 1) + push_evicting(&writer, 1));
        let mut seen = 0;
        for _ in 0..2 {
            if let Some(record) = reader.try_recv().unwrap() {
                whole(&record);
                seen += 1;
            }
        }
        let lost = thread.join().unwrap();
        let gap = take_gap(&mut reader);
        assert_eq!(gap, lost);
        assert!(seen + lost <= 3);
    });
}
