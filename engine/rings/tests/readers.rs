//! More readers than have slots from the start.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::limits::MAX_READERS;
use corewire_rings::{NoReaderSlot, Reader, RecvError, Ring, RingConfig};
use corewire_testkit::CountingWaker;
use std::task::{Context, Poll};

fn ring(readers: usize) -> Ring {
    Ring::new(RingConfig { datums: 4, bytes: 256, max_record: 64, readers, scatter_small: false }).unwrap()
}

fn join_all(ring: &Ring) -> Vec<Reader> {
    (0..ring.config().readers).map(|_| ring.subscribe().unwrap()).collect()
}

/// Some of everything: the first slots, the first and the last of a group, the last slot of all.
const SAMPLE: [usize; 6] = [0, 62, 63, 126, 127, MAX_READERS - 1];

#[test]
fn a_thousand_readers_each_see_every_record_in_order() {
    let ring = ring(MAX_READERS);
    let writer = ring.writer();
    let mut readers = join_all(&ring);
    assert_eq!(ring.readers(), MAX_READERS);
    for round in 0..10u64 {
        assert_eq!(writer.try_push(&round.to_le_bytes()), Ok(round));
        for reader in &mut readers {
            let record = reader.try_recv().unwrap().unwrap();
            assert_eq!((record.seq(), &record[..]), (round, &round.to_le_bytes()[..]));
        }
    }
    assert_eq!((ring.gate(), ring.len()), (10, 0));
}

#[test]
fn one_reader_more_than_configured_is_refused_until_one_leaves() {
    for limit in [1, 63, 64, 127, 128, MAX_READERS] {
        let ring = ring(limit);
        let mut readers = join_all(&ring);
        assert_eq!(ring.subscribe().err(), Some(NoReaderSlot { limit }));
        for place in SAMPLE.into_iter().filter(|place| *place < limit) {
            let left = readers[place].id();
            readers.swap_remove(place);
            let reader = ring.subscribe().unwrap();
            assert_ne!(reader.id(), left, "a slot names its next reader otherwise");
            readers.push(reader);
        }
        assert_eq!(ring.subscribe().err(), Some(NoReaderSlot { limit }));
    }
}

#[test]
fn the_slowest_of_a_thousand_readers_holds_the_ring() {
    let ring = ring(MAX_READERS);
    let writer = ring.writer();
    let mut readers = join_all(&ring);
    for slow in SAMPLE {
        while writer.try_push(b"record").is_ok() {}
        for (index, reader) in readers.iter_mut().enumerate() {
            while index != slow && reader.try_recv().unwrap().is_some() {}
        }
        assert!(writer.try_push(b"record").is_err(), "reader {slow} holds it");
        assert_eq!(ring.blockers(), [readers[slow].id()]);
        while readers[slow].try_recv().unwrap().is_some() {}
        assert!(writer.try_push(b"record").is_ok());
    }
}

#[test]
fn eviction_is_counted_for_each_of_a_thousand_readers() {
    let ring = ring(MAX_READERS);
    let writer = ring.writer();
    let mut readers = join_all(&ring);
    let mut lost = 0;
    for _ in 0..6 {
        let claim = writer.claim_evicting(8, |_, count| lost += count).unwrap();
        claim.commit();
    }
    assert_eq!(lost, 2 * MAX_READERS as u64);
    for reader in &mut readers {
        assert_eq!(reader.try_recv().unwrap().unwrap().lost_before(), 2);
    }
}

#[test]
fn sleeping_readers_in_every_group_are_woken_once_each() {
    let ring = ring(MAX_READERS);
    let writer = ring.writer();
    let mut readers = join_all(&ring);
    let wakers: Vec<_> = readers.iter().map(|_| CountingWaker::pair()).collect();
    for round in 1..=3 {
        for (reader, (_, waker)) in readers.iter_mut().zip(&wakers) {
            assert_eq!(reader.poll_ready(&mut Context::from_waker(waker)), Poll::Pending);
        }
        writer.try_push(b"record").unwrap();
        writer.try_push(b"another").unwrap();
        for ((count, _), reader) in wakers.iter().zip(&mut readers) {
            assert_eq!(count.wakes(), round);
            while reader.try_recv().unwrap().is_some() {}
        }
    }
    assert_eq!(ring.stats().reader_wakes, 3 * MAX_READERS as u64);
}

#[test]
fn a_reader_in_a_group_is_woken_by_its_detachment_alone() {
    let ring = ring(MAX_READERS);
    let mut readers = join_all(&ring);
    let wakers: Vec<_> = readers.iter().map(|_| CountingWaker::pair()).collect();
    for (reader, (_, waker)) in readers.iter_mut().zip(&wakers) {
        assert_eq!(reader.poll_ready(&mut Context::from_waker(waker)), Poll::Pending);
    }
    for place in SAMPLE {
        ring.detach(readers[place].id()).unwrap();
        assert_eq!(readers[place].try_recv().err(), Some(RecvError::Detached));
    }
    let woken: Vec<usize> = (0..MAX_READERS).filter(|place| wakers[*place].0.wakes() > 0).collect();
    assert_eq!(woken, SAMPLE);
}

#[test]
fn reader_of_another_ring_is_not_detached() {
    let config = |readers| RingConfig { datums: 4, bytes: 64, max_record: 16, readers, scatter_small: false };
    let (large, small) = (Ring::new(config(128)).unwrap(), Ring::new(config(128)).unwrap());
    let readers: Vec<_> = (0..100).map(|_| large.subscribe().unwrap()).collect();
    let _only = small.subscribe().unwrap();
    assert!(small.detach(readers[99].id()).is_err());
}
