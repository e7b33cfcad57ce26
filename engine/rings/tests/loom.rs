//! The production types under loom: every interleaving within the preemption bound, and every memory order
//! that the C11 model allows. Run with `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p
//! corewire-rings --release --test loom`.
//!
//! The arena has a witness for each unit, so two unordered uses of the same bytes fail the model, as does a
//! thread that is never woken.
#![cfg(loom)]

use corewire_rings::{ClaimError, Detached, RecordState, RecvError, Ring, RingConfig, WaitTicket, mailbox};
use loom::future::block_on;
use loom::thread;
use loom_rig::{fill, push, take};
use std::future::poll_fn;
use std::task::Poll;

mod loom_rig;
mod scenarios;

fn ring(datums: usize, readers: usize) -> Ring {
    // The smallest arena, so that the next record of 32 bytes reuses memory of the last one: two units for
    // one datum, three (and a spill) for two.
    Ring::new(RingConfig { datums, bytes: (datums + 1) * 16, max_record: 32, readers, scatter_small: false })
        .unwrap()
}

#[test]
fn published_records_are_read_intact_and_in_order() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || {
            push(&writer, 1, 10);
            push(&writer, 32, 11);
        });
        assert_eq!(take(&mut reader), (0, 10, 0));
        assert_eq!(take(&mut reader), (1, 11, 0));
        thread.join().unwrap();
    });
}

#[test]
fn two_producers_never_share_a_byte() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let threads = [20u8, 30].map(|value| {
            let writer = ring.writer();
            thread::spawn(move || assert_eq!(fill(writer.try_claim(16).unwrap(), value) & !1, 0))
        });
        let (first, second) = (take(&mut reader), take(&mut reader));
        assert_eq!((first.0, second.0, u32::from(first.1) + u32::from(second.1)), (0, 1, 50));
        let _ = threads.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_gate_stops_the_writer_before_the_reader_across_the_wrap() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || {
            for value in 0..3 {
                push(&writer, 32, value);
            }
        });
        for value in 0..3 {
            assert_eq!(take(&mut reader), (u64::from(value), value, 0));
        }
        thread.join().unwrap();
    });
}

#[test]
fn two_producers_move_the_gate_of_a_full_ring() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        push(&ring.writer(), 32, 1);
        let threads = [2u8, 3].map(|value| {
            let writer = ring.writer();
            thread::spawn(move || match writer.try_claim(32) {
                Ok(claim) => fill(claim, value),
                Err(refused) => {
                    assert_eq!(refused, ClaimError::Full);
                    0
                }
            })
        });
        assert_eq!(take(&mut reader), (0, 1, 0));
        let won: u64 = threads.map(|thread| thread.join().unwrap()).iter().sum();
        assert!(won <= 1, "one place, one winner");
    });
}

#[test]
fn a_joining_reader_is_never_passed() {
    loom::model(|| {
        let ring = ring(1, 1);
        let writer = ring.writer();
        let thread = thread::spawn(move || {
            for value in 0..3 {
                match writer.try_claim(32) {
                    Ok(claim) => fill(claim, value),
                    Err(_) => break,
                };
            }
        });
        let mut reader = ring.subscribe().unwrap();
        let from = reader.position();
        let guard = reader.pin_guard().unwrap();
        match guard.get(from) {
            RecordState::Published(bytes) => {
                assert_eq!(guard.start(), from);
                assert!(bytes.iter().all(|byte| u64::from(*byte) == from), "{from}: {bytes:?}");
                thread::yield_now();
                assert!(bytes.iter().all(|byte| u64::from(*byte) == from), "{from}: {bytes:?}");
            }
            slot => assert_eq!(slot, RecordState::Pending),
        }
        drop(guard);
        thread.join().unwrap();
        assert_eq!(reader.lost(), 0);
    });
}

#[test]
fn two_readers_join_and_leave_under_a_writer() {
    loom::model(|| {
        let ring = ring(1, 2);
        let writer = ring.writer();
        let threads = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                let mut reader = ring.subscribe().unwrap();
                if let Some(record) = reader.try_recv().unwrap() {
                    assert!(record.iter().all(|byte| u64::from(*byte) == record.seq()));
                }
            })
        });
        for value in 0..2 {
            if let Ok(claim) = writer.try_claim(32) {
                fill(claim, value);
            }
        }
        let _ = threads.map(|thread| thread.join().unwrap());
        assert_eq!(ring.readers(), 0);
        assert!(writer.try_claim(32).is_ok(), "without readers there is room");
    });
}

#[test]
fn a_leaving_reader_frees_its_room_after_its_last_read() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || {
            let record = reader.try_recv().unwrap().unwrap();
            assert_eq!(record[0], 0);
        });
        push(&writer, 32, 1);
        thread.join().unwrap();
    });
}

#[test]
fn eviction_and_a_pin_guard_exclude_each_other() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || {
            let mut lost = 0;
            if let Ok(claim) = writer.claim_evicting(32, |_, n| lost += n) {
                fill(claim, 1);
            }
            lost
        });
        let (seq, value, gap) = take(&mut reader);
        assert_eq!((seq, u64::from(value)), (gap, seq));
        let lost = thread.join().unwrap();
        assert_eq!((lost, reader.lost()), (gap, gap));
    });
}

#[test]
fn a_pinned_reader_is_not_evicted() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let guard = reader.pin_guard().unwrap();
        let thread =
            thread::spawn(move || writer.claim_evicting(32, |_, _| ()).map(|claim| fill(claim, 1)).is_ok());
        assert_eq!(guard.get(0), RecordState::Published(&[0; 32]));
        assert_eq!(guard.get(0), RecordState::Published(&[0; 32]));
        drop(guard);
        let evicted = thread.join().unwrap();
        assert!(reader.is_ready());
        drop(reader.pin_guard().unwrap());
        assert_eq!(reader.lost(), u64::from(evicted));
    });
}

#[test]
fn two_evictors_count_each_loss_once() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        push(&ring.writer(), 32, 0);
        let threads = [(); 2].map(|()| {
            let writer = ring.writer();
            thread::spawn(move || {
                let mut lost = 0;
                // Refused while the other writer has claimed and not yet published.
                if let Ok(mut claim) = writer.claim_evicting(32, |_, n| lost += n) {
                    let seq = claim.seq() as u8;
                    claim.fill(seq);
                    claim.commit();
                }
                lost
            })
        });
        let lost: u64 = threads.map(|thread| thread.join().unwrap()).iter().sum();
        let (seq, value, gap) = take(&mut reader);
        assert_eq!((seq, u64::from(value), lost), (gap, seq, gap));
    });
}

#[test]
fn a_joining_reader_survives_eviction() {
    loom::model(|| {
        let ring = ring(1, 1);
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || {
            let mut lost = 0;
            if let Ok(claim) = writer.claim_evicting(32, |_, n| lost += n) {
                fill(claim, 1);
            }
            lost
        });
        let mut reader = ring.subscribe().unwrap();
        if let Some(record) = reader.try_recv().unwrap() {
            assert_eq!((record.seq(), record[0]), (1, 1));
        }
        let lost = thread.join().unwrap();
        assert_eq!(lost, reader.lost());
    });
}

#[test]
fn detachment_and_a_pin_guard_exclude_each_other() {
    loom::model(|| scenarios::detachment_and_a_pin_guard_exclude_each_other(&ring(1, 1)));
}

#[test]
fn a_reader_that_falls_asleep_is_woken_by_publication() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || push(&writer, 1, 7));
        assert_eq!(block_on(reader.recv()).unwrap()[0], 7);
        thread.join().unwrap();
        assert!(ring.stats().reader_wakes <= 1);
    });
}

#[test]
fn a_reader_is_woken_when_the_first_of_two_claims_is_published_last() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let threads = [1u8, 2].map(|value| {
            let writer = ring.writer();
            thread::spawn(move || push(&writer, 1, value))
        });
        let first = block_on(reader.recv()).unwrap().seq();
        let second = block_on(reader.recv()).unwrap().seq();
        assert_eq!((first, second), (0, 1));
        let _ = threads.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn two_sleeping_readers_are_both_woken() {
    loom::model(|| {
        let ring = ring(2, 2);
        let threads = [(); 2].map(|()| {
            let mut reader = ring.subscribe().unwrap();
            thread::spawn(move || assert_eq!(block_on(reader.recv()).unwrap()[0], 7))
        });
        push(&ring.writer(), 1, 7);
        let _ = threads.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_reader_that_falls_asleep_is_woken_by_close() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || writer.close());
        assert_eq!(block_on(reader.recv()).unwrap_err(), RecvError::Closed);
        thread.join().unwrap();
    });
}

#[test]
fn a_claim_that_beats_the_close_is_delivered() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || writer.try_claim(1).map(|claim| fill(claim, 7)).is_ok());
        ring.close();
        let got = match block_on(reader.recv()) {
            Ok(record) => record[0] == 7,
            Err(ended) => {
                assert_eq!(ended, RecvError::Closed);
                false
            }
        };
        assert_eq!(thread.join().unwrap(), got);
        assert_eq!(block_on(reader.recv()).unwrap_err(), RecvError::Closed);
    });
}

#[test]
fn a_reader_that_falls_asleep_is_woken_by_detachment() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let id = reader.id();
        let other = ring.clone();
        let thread = thread::spawn(move || other.detach(id).is_ok());
        let ended = block_on(async {
            loop {
                poll_fn(|cx| reader.poll_ready(cx)).await;
                match reader.pin_guard() {
                    Ok(_) => thread::yield_now(),
                    Err(Detached) => return,
                }
            }
        });
        assert!(thread.join().unwrap());
        ended
    });
}

#[test]
fn an_abandoned_claim_wakes_and_is_skipped() {
    loom::model(|| {
        let ring = ring(2, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || {
            drop(writer.try_claim(16).unwrap());
            push(&writer, 16, 9);
        });
        let record = block_on(reader.recv()).unwrap();
        assert_eq!((record.seq(), record[0]), (1, 9));
        drop(record);
        thread.join().unwrap();
    });
}

#[test]
fn a_writer_that_waits_for_room_is_woken_by_reading() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || fill(block_on(writer.claim(32)).unwrap(), 1));
        assert_eq!(take(&mut reader).0, 0);
        assert_eq!(take(&mut reader).0, 1);
        assert_eq!(thread.join().unwrap(), 1);
    });
}

#[test]
fn a_writer_that_waits_for_room_is_woken_by_the_last_reader_leaving() {
    loom::model(|| {
        let ring = ring(1, 1);
        let reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || fill(block_on(writer.claim(32)).unwrap(), 1));
        drop(reader);
        assert_eq!(thread.join().unwrap(), 1);
    });
}

#[test]
fn a_writer_that_waits_for_room_is_woken_by_detachment() {
    loom::model(|| {
        let ring = ring(1, 1);
        let reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || fill(block_on(writer.claim(32)).unwrap(), 1));
        ring.detach(reader.id()).unwrap();
        assert_eq!(thread.join().unwrap(), 1);
    });
}

#[test]
fn a_writer_that_waits_for_room_is_woken_by_close() {
    loom::model(|| {
        let ring = ring(1, 1);
        let _reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || block_on(writer.claim(32)).err());
        ring.close();
        assert_eq!(thread.join().unwrap(), Some(ClaimError::Closed));
    });
}

#[test]
fn without_readers_a_waiting_writer_is_woken_by_publication() {
    loom::model(|| {
        let ring = ring(1, 1);
        let writer = ring.writer();
        let claim = writer.try_claim(32).unwrap();
        let other = ring.writer();
        let thread = thread::spawn(move || fill(block_on(other.claim(32)).unwrap(), 1));
        fill(claim, 0);
        assert_eq!(thread.join().unwrap(), 1);
    });
}

#[test]
fn a_waiting_writer_is_woken_after_the_last_reader_left_a_claim() {
    loom::model(|| {
        let ring = ring(1, 1);
        let reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let claim = writer.try_claim(32).unwrap();
        let other = ring.writer();
        let waiting = thread::spawn(move || fill(block_on(other.claim(32)).unwrap(), 1));
        let leaving = thread::spawn(move || drop(reader));
        fill(claim, 0);
        leaving.join().unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

#[test]
fn two_waiting_writers_are_both_served() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        push(&ring.writer(), 32, 0);
        let threads = [1u8, 2].map(|value| {
            let writer = ring.writer();
            thread::spawn(move || fill(block_on(writer.claim(32)).unwrap(), value))
        });
        for seq in 0..3 {
            assert_eq!(take(&mut reader).0, seq);
        }
        let seqs = threads.map(|thread| thread.join().unwrap());
        assert_eq!(seqs[0] + seqs[1], 3);
    });
}

#[test]
fn a_waiter_that_gives_up_passes_its_wake_on() {
    loom::model(|| {
        let ring = ring(1, 1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        // First in the queue, and not polled again.
        let mut turn = WaitTicket::default();
        block_on(poll_fn(|cx| {
            assert!(writer.poll_claim(&mut turn, 32, cx).is_pending());
            Poll::Ready(())
        }));
        let other = ring.writer();
        let waiting = thread::spawn(move || fill(block_on(other.claim(32)).unwrap(), 1));
        let reading = thread::spawn(move || {
            assert_eq!(take(&mut reader).0, 0);
            reader
        });
        drop(turn);
        assert_eq!(waiting.join().unwrap(), 1);
        drop(reading.join().unwrap());
    });
}

#[test]
fn a_mailbox_wakes_its_sleeping_receiver() {
    loom::model(|| {
        let (sender, mut receiver) = mailbox(1);
        let thread = thread::spawn(move || sender.try_send(5).unwrap());
        assert_eq!(block_on(poll_fn(|cx| receiver.poll_recv(cx))), Some(5));
        assert_eq!(block_on(poll_fn(|cx| receiver.poll_recv(cx))), None);
        thread.join().unwrap();
    });
}

#[test]
fn a_mailbox_wakes_its_receiver_when_the_last_sender_leaves() {
    loom::model(|| {
        let (sender, mut receiver) = mailbox(2);
        let threads = [sender.clone(), sender].map(|sender| {
            thread::spawn(move || {
                sender.try_send(1).unwrap();
            })
        });
        let mut sum = 0;
        while let Some(message) = block_on(poll_fn(|cx| receiver.poll_recv(cx))) {
            sum += message;
        }
        assert_eq!(sum, 2);
        let _ = threads.map(|thread| thread.join().unwrap());
    });
}
