//! Records that wait for room without a task, under loom; `loom.rs` shows how to run it.
#![cfg(loom)]

use corewire_rings::{ClaimError, QueuedSend, Reader, Ring, RingConfig};
use loom::future::block_on;
use loom::thread;
use loom_rig::{fill, push, take};
use std::future::poll_fn;
use std::sync::Arc;

mod loom_rig;

/// A ring of one record, which is full of it, and its reader.
fn full() -> (Ring, Reader) {
    let ring =
        Ring::new(RingConfig { datums: 1, bytes: 16, max_record: 16, readers: 1, scatter_small: false })
            .unwrap();
    let reader = ring.subscribe().unwrap();
    push(&ring.writer(), 16, 0);
    (ring, reader)
}

fn queue(ring: &Ring, value: u8) -> Arc<QueuedSend> {
    QueuedSend::start(ring.writer(), vec![value; 16], || ())
}

fn result(queued: &QueuedSend) -> Result<(), ClaimError> {
    block_on(poll_fn(|cx| queued.poll(cx)))
}

#[test]
fn a_queued_send_enters_when_room_comes() {
    loom::model(|| {
        let (ring, mut reader) = full();
        let thread = thread::spawn(move || [(); 2].map(|()| take(&mut reader).1));
        let queued = queue(&ring, 1);
        assert_eq!(result(&queued), Ok(()));
        assert_eq!(thread.join().unwrap(), [0, 1]);
    });
}

#[test]
fn a_queued_send_that_is_not_polled_enters_when_room_comes() {
    loom::model(|| {
        let (ring, mut reader) = full();
        let thread = thread::spawn(move || [(); 2].map(|()| take(&mut reader).1));
        drop(queue(&ring, 1));
        assert_eq!(thread.join().unwrap(), [0, 1]);
    });
}

#[test]
fn a_withdrawal_beside_room_decides_for_one_side() {
    loom::model(|| {
        let (ring, mut reader) = full();
        let queued = queue(&ring, 1);
        let thread = thread::spawn(move || {
            assert_eq!(take(&mut reader).1, 0);
            reader
        });
        let withdrawn = queued.withdraw();
        let mut reader = thread.join().unwrap();
        let entered = reader.try_recv().unwrap().map(|record| record[0]);
        assert_eq!(entered, if withdrawn { None } else { Some(1) });
    });
}

#[test]
fn a_withdrawn_send_passes_its_room_on() {
    loom::model(|| {
        let (ring, mut reader) = full();
        let first = queue(&ring, 1);
        let second = queue(&ring, 2);
        let thread = thread::spawn(move || {
            assert_eq!(take(&mut reader).1, 0);
            reader
        });
        let withdrawn = first.withdraw();
        let mut reader = thread.join().unwrap();
        if !withdrawn {
            assert_eq!(take(&mut reader).1, 1);
        }
        // A withdrawal during the attempt abandons the claim, which the reader has to pass.
        assert_eq!((take(&mut reader).1, result(&second)), (2, Ok(())));
    });
}

#[test]
fn a_queued_send_and_a_waiting_writer_are_both_served() {
    loom::model(|| {
        let (ring, mut reader) = full();
        let writer = ring.writer();
        let thread = thread::spawn(move || fill(block_on(writer.claim(16)).unwrap(), 2));
        let queued = queue(&ring, 1);
        let sum: u8 = [(); 3].map(|()| take(&mut reader).1).iter().sum();
        assert_eq!((result(&queued), sum), (Ok(()), 3));
        thread.join().unwrap();
    });
}

#[test]
fn a_close_beside_room_ends_a_queued_send() {
    loom::model(|| {
        let (ring, mut reader) = full();
        let queued = queue(&ring, 1);
        let closing = ring.clone();
        let thread = thread::spawn(move || closing.close());
        assert_eq!(take(&mut reader).1, 0);
        let ended = result(&queued);
        thread.join().unwrap();
        let mut entered = None;
        while let Ok(Some(record)) = reader.try_recv() {
            entered = Some(record[0]);
        }
        assert_eq!(
            (ended.is_ok(), ended),
            (entered == Some(1), entered.map(|_| ()).ok_or(ClaimError::Closed))
        );
    });
}
