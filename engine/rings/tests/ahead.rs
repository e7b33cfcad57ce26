//! Reading ahead: a reader that leaves its cursor before records it has already read.
#![cfg(not(any(loom, shuttle)))]

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use corewire_rings::{ClaimError, Detached, RecordState, Ring, RingConfig};
use corewire_testkit::CountingWaker;

fn ring(datums: usize) -> Ring {
    Ring::new(RingConfig { datums, bytes: datums * 16, max_record: 16, readers: 4, scatter_small: false })
        .unwrap()
}

#[test]
fn a_record_read_ahead_can_be_read_again_until_it_is_released() {
    let ring = ring(4);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    for n in 0..4u8 {
        writer.try_push(&[n]).unwrap();
    }
    assert_eq!(reader.published_from(0, 100), 4);
    assert_eq!(reader.published_from(0, 3), 3);
    assert_eq!(reader.published_from(4, 100), 4);
    assert_eq!(reader.get(0), RecordState::Passed, "not pinned");
    for _ in 0..2 {
        assert_eq!(reader.pin(), Ok(0));
        assert_eq!(reader.pin(), Ok(0), "pinning twice is harmless");
        assert_eq!(reader.get(3), RecordState::Published(&[3]));
        assert_eq!(reader.get(0), RecordState::Published(&[0]));
        assert_eq!(reader.get(4), RecordState::Pending);
        reader.unpin(0);
    }
    assert_eq!(writer.try_push(&[4]), Err(ClaimError::Full));
    reader.advance_to(2).unwrap();
    reader.advance_to(1).unwrap();
    assert_eq!(reader.position(), 2, "never back");
    assert_eq!(writer.try_push(&[4]), Ok(4));
    assert_eq!(writer.try_push(&[5]), Ok(5));
    assert_eq!(writer.try_push(&[6]), Err(ClaimError::Full));
    reader.pin().unwrap();
    assert_eq!(reader.get(1), RecordState::Passed);
    assert_eq!(reader.get(5), RecordState::Published(&[5]));
    reader.advance_to(4).unwrap();
    assert_eq!(reader.get(4), RecordState::Published(&[4]), "still pinned");
    reader.unpin(6);
    assert_eq!(ring.gate(), 6);
}

#[test]
fn only_a_pinned_reader_is_safe_from_eviction() {
    let ring = ring(4);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    for n in 0..4u8 {
        writer.try_push(&[n]).unwrap();
    }
    reader.pin().unwrap();
    assert_eq!(writer.evict(1, |_, _| {}), Err(ClaimError::Full));
    assert_eq!(reader.get(0), RecordState::Published(&[0]));
    reader.unpin(0);
    let mut lost = 0;
    for n in 4..11u8 {
        writer.evict(1, |_, n| lost += n).unwrap();
        writer.try_push(&[n]).unwrap();
    }
    assert_eq!(lost, 7);
    assert_eq!(reader.published_from(4, 100), 11, "what was taken counts as published");
    assert_eq!(reader.published_from(0, 2), 9);
    assert_eq!(reader.pin(), Ok(7));
    assert_eq!(reader.get(6), RecordState::Passed);
    assert_eq!(reader.get(7), RecordState::Published(&[7]));
    assert_eq!(reader.lost(), 7);
    reader.unpin(11);
    assert_eq!(ring.len(), 0);
}

#[test]
fn a_pinned_reader_that_advances_stays_pinned() {
    let ring = ring(2);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    writer.try_push(&[0]).unwrap();
    writer.try_push(&[1]).unwrap();
    reader.pin().unwrap();
    reader.advance_to(1).unwrap();
    writer.try_push(&[2]).unwrap();
    assert_eq!(writer.evict(1, |_, _| {}), Err(ClaimError::Full));
    assert_eq!(ring.detach(reader.id()), Err(corewire_rings::DetachError::Pinned));
    assert_eq!(reader.get(1), RecordState::Published(&[1]));
    reader.unpin(1);
    assert_eq!(writer.evict(1, |_, _| {}), Ok(()));
}

#[test]
fn a_reader_is_woken_for_a_record_far_ahead_of_its_cursor() {
    let ring = ring(8);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    for n in 0..3u8 {
        writer.try_push(&[n]).unwrap();
    }
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    assert_eq!(reader.poll_ready(&mut cx), Poll::Ready(()));
    assert_eq!(reader.poll_published(2, &mut cx), Poll::Ready(()));
    assert_eq!(reader.poll_published(3, &mut cx), Poll::Pending);
    assert_eq!(count.wakes(), 0);
    writer.try_push(&[3]).unwrap();
    writer.try_push(&[4]).unwrap();
    assert_eq!(count.wakes(), 1, "one wake per sleep");
    assert_eq!(reader.poll_published(3, &mut cx), Poll::Ready(()));
    assert_eq!(reader.poll_published(5, &mut cx), Poll::Pending);
    ring.close();
    assert_eq!(count.wakes(), 2);
    assert_eq!(reader.poll_published(5, &mut cx), Poll::Ready(()));
}

#[test]
fn a_reader_that_noticed_its_eviction_is_not_woken_for_it_later() {
    let ring = ring(2);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    writer.try_push(&[0]).unwrap();
    writer.try_push(&[1]).unwrap();
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    assert_eq!(reader.poll_published(2, &mut cx), Poll::Pending);
    writer.evict(1, |_, _| {}).unwrap();
    assert_eq!(reader.poll_published(2, &mut cx), Poll::Ready(()));
    writer.try_push(&[2]).unwrap();
    assert_eq!((count.wakes(), Arc::strong_count(&count)), (0, 2), "it sleeps no more");
}

#[test]
fn a_detached_reader_gets_an_error_and_no_record() {
    let ring = ring(2);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    writer.try_push(&[0]).unwrap();
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    assert_eq!(reader.poll_published(1, &mut Context::from_waker(&waker)), Poll::Pending);
    ring.detach(reader.id()).unwrap();
    assert_eq!(count.wakes(), 1);
    assert_eq!(reader.poll_published(1, &mut Context::from_waker(&waker)), Poll::Ready(()));
    assert_eq!(reader.pin(), Err(Detached));
    assert_eq!(reader.get(0), RecordState::Passed);
    assert_eq!(reader.advance_to(1), Err(Detached));
}

#[test]
fn an_abandoned_record_differs_from_a_pending_one() {
    let ring = ring(4);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    drop(writer.try_claim(3).unwrap());
    let pending = writer.try_claim(3).unwrap();
    assert_eq!(reader.published_from(0, 10), 1);
    reader.pin().unwrap();
    assert_eq!(reader.get(0), RecordState::Abandoned);
    assert_eq!(reader.get(1), RecordState::Pending);
    pending.commit();
    assert!(matches!(reader.get(1), RecordState::Published(_)));
    reader.unpin(2);
}

#[test]
fn a_sequence_out_of_range_is_pending_and_out_of_reach() {
    let ring = ring(4);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    writer.try_push(&[0]).unwrap();
    for far in [1, 5, 1 << 54, u64::MAX - 1, u64::MAX] {
        assert_eq!(reader.published_from(far, 10), far);
        reader.pin().unwrap();
        assert_eq!(reader.get(far), RecordState::Pending);
    }
    reader.unpin(u64::MAX);
    assert_eq!(reader.position(), 1, "only what is published can be given up");
    reader.advance_to(u64::MAX).unwrap();
    assert_eq!(reader.position(), 1);
    writer.try_push(&[1]).unwrap();
    assert_eq!(&reader.try_recv().unwrap().unwrap()[..], &[1]);
}

#[test]
fn a_peeked_record_can_be_taken_without_another_search() {
    let ring = ring(4);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    assert_eq!(reader.peek(), Ok(None));
    assert!(reader.take_peeked().is_none(), "nothing was shown");
    drop(writer.try_claim(1).unwrap());
    for n in 1..4u8 {
        writer.try_push(&[n]).unwrap();
    }
    assert_eq!(reader.peek(), Ok(Some(&[1][..])));
    assert_eq!(reader.peek(), Ok(Some(&[1][..])), "it was left");
    std::mem::forget(reader.take_peeked());
    let record = reader.take_peeked().unwrap();
    assert_eq!((record.seq(), &*record, record.lost_before()), (1, &[1][..], 0));
    drop(record);
    assert!(reader.take_peeked().is_none(), "it was taken");
    assert_eq!((reader.position(), ring.gate()), (2, 2));

    assert_eq!(reader.peek(), Ok(Some(&[2][..])));
    reader.unpin(2);
    assert!(reader.take_peeked().is_none(), "not pinned");
    for n in 4..7u8 {
        let mut claim = writer.claim_evicting(1, |_, _| {}).unwrap();
        claim.copy_from_slice(&[n]);
        claim.commit();
    }
    reader.pin().unwrap();
    assert!(reader.take_peeked().is_none(), "another one is the next");
    reader.unpin(0);
}
