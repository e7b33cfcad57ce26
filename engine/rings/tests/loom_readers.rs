//! As `loom.rs`: readers that read ahead of their cursor, readers that join and leave, and special cases.
#![cfg(loom)]

use corewire_rings::{Detached, ForkError, Reader, RecordState, Ring, RingConfig, mailbox};
use loom::future::block_on;
use loom::thread;
use loom_rig::{claim, fill, push, push_evicting};
use std::future::poll_fn;

mod loom_rig;

fn ring(datums: usize) -> Ring {
    Ring::new(RingConfig {
        datums,
        bytes: (datums + 1) * 16,
        max_record: 32,
        readers: 1,
        scatter_small: false,
    })
    .unwrap()
}

/// A ring whose readers are all in a group, but the first, which is returned too.
fn grouped(datums: usize, readers: usize) -> (Ring, Reader) {
    let config = RingConfig { datums, bytes: 128, max_record: 32, readers, scatter_small: false };
    let ring = Ring::with_groups(config).unwrap();
    let first = ring.subscribe().unwrap();
    (ring, first)
}

/// The record at `seq` of a pinned reader, read twice with other threads running in between.
fn look_twice(reader: &Reader, seq: u64, value: u8) {
    assert_eq!(reader.get(seq), RecordState::Published(&[value; 32]));
    thread::yield_now();
    assert_eq!(reader.get(seq), RecordState::Published(&[value; 32]));
}

#[test]
fn pinned_records_are_neither_evicted_nor_overwritten() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        let start = reader.pin().unwrap();
        assert_eq!(reader.lost(), start, "pinned, or evicted before");
        if start == 0 {
            look_twice(&reader, 0, 0);
        }
        reader.unpin(start);
        let lost = thread.join().unwrap();
        assert_eq!(reader.pin(), Ok(lost));
        assert_eq!(reader.lost(), lost);
        if lost == 1 {
            look_twice(&reader, 1, 1);
        }
    });
}

#[test]
fn released_records_are_overwritten_after_the_last_read() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || push(&writer, 32, 1));
        assert_eq!(reader.pin(), Ok(0));
        look_twice(&reader, 0, 0);
        reader.unpin(1);
        assert_eq!(thread.join().unwrap(), 1);
        assert_eq!(reader.pin(), Ok(1));
        look_twice(&reader, 1, 1);
        assert_eq!(reader.lost(), 0);
    });
}

#[test]
fn released_records_do_not_count_as_evicted() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        reader.advance_to(1).unwrap();
        assert_eq!(reader.position(), 1);
        let lost = thread.join().unwrap();
        assert_eq!(reader.lost(), lost, "evicted before it was released, or not at all");
        assert_eq!(reader.pin(), Ok(1));
        // It is refused if it came while the cursor was pinned.
        if reader.get(1) != RecordState::Pending {
            look_twice(&reader, 1, 1);
        }
    });
}

#[test]
fn advancing_while_pinned_frees_only_what_is_passed() {
    loom::model(|| {
        let ring =
            Ring::new(RingConfig { datums: 2, bytes: 64, max_record: 32, readers: 1, scatter_small: false })
                .unwrap();
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        push(&writer, 32, 1);
        let thread = thread::spawn(move || push_evicting(&writer, 2));
        let start = reader.pin().unwrap();
        if start == 0 {
            look_twice(&reader, 0, 0);
        }
        reader.advance_to(1).unwrap();
        assert_eq!(reader.get(0), RecordState::Passed);
        look_twice(&reader, 1, 1);
        reader.unpin(1);
        assert_eq!((thread.join().unwrap(), reader.lost()), (start, start));
    });
}

#[test]
fn published_from_is_right_while_the_cursor_is_evicted() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || {
            // Evicted records count as published.
            let to = reader.published_from(0, 8);
            assert!((1..=2).contains(&to), "{to}");
            let start = reader.pin().unwrap();
            assert!(
                start <= to && to <= start + 1,
                "{start} {to}: the second record needs the first one's place"
            );
            assert!(reader.published_from(0, 8) >= to, "never back");
            if start < to {
                look_twice(&reader, start, start as u8);
            }
            reader.unpin(start);
            reader
        });
        let lost = push_evicting(&writer, 1);
        let mut reader = thread.join().unwrap();
        assert_eq!((reader.published_from(0, 8), reader.pin()), (1 + lost, Ok(lost)));
    });
}

#[test]
fn detachment_and_a_long_pin_exclude_each_other() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let (id, writer) = (reader.id(), ring.writer());
        push(&writer, 32, 0);
        let thread = thread::spawn(move || {
            let detached = writer.ring().detach(id).is_ok();
            if let Ok(claim) = writer.try_claim(32) {
                fill(claim, 1);
            }
            detached
        });
        match reader.pin() {
            Ok(start) => {
                assert_eq!(start, 0);
                look_twice(&reader, 0, 0);
                reader.unpin(0);
            }
            Err(Detached) => assert_eq!(reader.get(0), RecordState::Passed),
        }
        let detached = thread.join().unwrap();
        assert_eq!(reader.pin().is_err(), detached);
        assert_eq!(reader.advance_to(1).is_err(), detached);
    });
}

#[test]
fn waiting_for_a_record_ahead_ends_at_its_publication() {
    loom::model(|| {
        let ring = ring(2);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || {
            push(&writer, 1, 0);
            push(&writer, 1, 1);
        });
        block_on(poll_fn(|cx| reader.poll_published(1, cx)));
        assert_eq!(reader.published_from(0, 8), 2);
        thread.join().unwrap();
    });
}

#[test]
fn waiting_for_a_record_ahead_ends_at_close() {
    loom::model(|| {
        let ring = ring(2);
        let mut reader = ring.subscribe().unwrap();
        let other = ring.clone();
        let thread = thread::spawn(move || other.close());
        block_on(poll_fn(|cx| reader.poll_published(1, cx)));
        assert!(ring.is_closed());
        thread.join().unwrap();
    });
}

#[test]
fn waiting_for_a_record_ahead_ends_at_detachment_and_eviction() {
    for evicts in [true, false] {
        loom::model(move || {
            let ring = ring(1);
            let mut reader = ring.subscribe().unwrap();
            let (id, writer) = (reader.id(), ring.writer());
            push(&writer, 32, 0);
            let thread = thread::spawn(move || {
                if evicts { push_evicting(&writer, 1) } else { u64::from(writer.ring().detach(id).is_ok()) }
            });
            block_on(poll_fn(|cx| reader.poll_published(1, cx)));
            assert_eq!(reader.pin().is_err(), !evicts);
            assert_eq!(thread.join().unwrap(), 1);
        });
    }
}

#[test]
fn a_release_wakes_a_waiting_writer() {
    for keeps in [true, false] {
        loom::model(move || {
            let ring = ring(1);
            let mut reader = ring.subscribe().unwrap();
            let writer = ring.writer();
            push(&writer, 32, 0);
            let thread = thread::spawn(move || fill(block_on(writer.claim(32)).unwrap(), 1));
            if keeps {
                reader.pin().unwrap();
                reader.unpin(1);
            } else {
                reader.advance_to(1).unwrap();
            }
            assert_eq!(thread.join().unwrap(), 1);
        });
    }
}

#[test]
fn a_reader_asleep_before_an_unwanted_record_lets_the_writer_pass() {
    loom::model(|| {
        let ring = ring(1);
        let writer = ring.writer();
        let claim = writer.try_claim(32).unwrap();
        let mut reader = ring.subscribe().unwrap();
        let other = ring.writer();
        let waiting = thread::spawn(move || fill(block_on(other.claim(32)).unwrap(), 1));
        let reading = thread::spawn(move || block_on(reader.recv()).unwrap().seq());
        fill(claim, 0);
        assert_eq!((waiting.join().unwrap(), reading.join().unwrap()), (1, 1));
    });
}

#[test]
fn eviction_reports_the_previous_owner_after_slot_reuse() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let (id, writer) = (reader.id(), ring.writer());
        push(&writer, 32, 0);
        let thread = thread::spawn(move || {
            let mut reported = None;
            drop(writer.claim_evicting(32, |id, n| reported = Some((id, n))));
            reported
        });
        drop(reader.pin_guard().unwrap());
        let noticed = reader.lost();
        drop(reader);
        let _next = ring.subscribe().unwrap();
        let reported = thread.join().unwrap();
        assert!(noticed == 0 || reported == Some((id, noticed)), "{noticed} noticed, {reported:?} reported");
        assert!(reported.is_none_or(|(reported, n)| (reported, n) == (id, 1)), "{reported:?}");
    });
}

#[test]
fn a_reader_that_joins_slowly_never_passes_an_unpublished_record() {
    loom::model(|| {
        let ring = ring(2);
        let writer = ring.writer();
        push(&writer, 1, 0);
        push(&writer, 1, 1);
        // It may load the gate now, and the descriptor before the gate after a later record was stamped
        // there.
        let other = ring.clone();
        let joining = thread::spawn(move || other.subscribe().unwrap());
        let claim = claim(&writer, 1);
        push(&writer, 1, 3);
        let reader = joining.join().unwrap();
        assert!(ring.gate() <= claim.seq(), "{} passed", claim.seq());
        claim.commit();
        drop(reader);
    });
}

#[test]
fn a_record_that_continues_in_the_spill_is_read_intact() {
    loom::model(|| {
        let ring = ring(2);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || {
            for (len, value) in [(1, 0), (1, 1), (32, 2)] {
                push(&writer, len, value);
            }
        });
        for seq in 0..3 {
            let record = block_on(reader.recv()).unwrap();
            assert_eq!((record.seq(), record.len()), (seq, if seq == 2 { 32 } else { 1 }));
            assert!(record.iter().all(|byte| u64::from(*byte) == seq));
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_mailbox_is_not_finished_before_its_last_message_is_taken() {
    loom::model(|| {
        let (sender, mut receiver) = mailbox(1);
        let thread = thread::spawn(move || sender.try_send(5).unwrap());
        if receiver.is_finished() {
            panic!("the message is still there: {:?}", receiver.try_recv());
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_batch_is_read_intact_while_its_room_is_reused() {
    loom::model(|| {
        let ring = ring(2);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || {
            for (len, value) in [(1, 0), (32, 1), (17, 2)] {
                push(&writer, len, value);
            }
        });
        let mut next = 0;
        while next < 3 {
            let read = reader.pin_guard().unwrap().for_each(2, |seq, bytes| {
                assert_eq!((seq, bytes.len()), (next, [1, 32, 17][next as usize]));
                assert!(bytes.iter().all(|byte| u64::from(*byte) == seq));
                next += 1;
            });
            if read == 0 {
                thread::yield_now();
            }
        }
        assert_eq!((reader.position(), reader.lost()), (3, 0));
        thread.join().unwrap();
    });
}

#[test]
fn a_run_of_one_length_ends_at_the_first_unpublished_record() {
    loom::model(|| {
        let ring = ring(2);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 16, 0);
        let thread = thread::spawn(move || push(&writer, 16, 1));
        let mut next = 0;
        while next < 2 {
            let read = reader.pin_guard().unwrap().for_each(2, |seq, bytes| {
                assert_eq!((seq, bytes), (next, &[next as u8; 16][..]));
                next += 1;
            });
            if read == 0 {
                thread::yield_now();
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_batch_that_is_being_read_is_not_evicted() {
    loom::model(|| {
        let ring = ring(1);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || push_evicting(&writer, 1));
        let mut guard = reader.pin_guard().unwrap();
        let lost = guard.lost_before();
        guard.for_each(2, |seq, bytes| {
            for _ in 0..2 {
                assert_eq!(bytes, [seq as u8; 32]);
                thread::yield_now();
            }
        });
        drop(guard);
        assert_eq!(thread.join().unwrap(), lost);
    });
}

#[test]
fn a_forked_reader_is_never_passed() {
    loom::model(|| {
        let config = RingConfig { datums: 2, bytes: 64, max_record: 32, readers: 3, scatter_small: false };
        let ring = Ring::new(config).unwrap();
        let mut reader = ring.subscribe().unwrap();
        let other = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        push(&writer, 32, 1);
        // Moves the gate as soon as the readers allow it.
        let writing = thread::spawn(move || writer.try_claim(32).map(|claim| fill(claim, 2)).ok());
        let leaving = thread::spawn(move || drop(other));
        reader.advance_to(1).unwrap();
        let mut forked = reader.fork_at(1).unwrap();
        drop(reader);
        assert_eq!(forked.pin(), Ok(1));
        look_twice(&forked, 1, 1);
        writing.join().unwrap();
        leaving.join().unwrap();
        look_twice(&forked, 1, 1);
        assert!(ring.gate() <= 1, "the gate passed the forked reader");
        forked.unpin(2);
        assert_eq!((forked.position(), forked.lost()), (2, 0));
    });
}

#[test]
fn forking_and_eviction_exclude_each_other() {
    // With two preemptions it would take minutes.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(1);
    model.check(|| {
        let config = RingConfig { datums: 1, bytes: 32, max_record: 32, readers: 2, scatter_small: false };
        let ring = Ring::new(config).unwrap();
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        push(&writer, 32, 0);
        let evicting = thread::spawn(move || push_evicting(&writer, 1));
        match reader.fork_at(0) {
            Ok(mut forked) => {
                drop(reader);
                let start = forked.pin().unwrap();
                assert_eq!(forked.lost(), start, "pinned, or evicted before");
                if start == 0 {
                    look_twice(&forked, 0, 0);
                }
                forked.unpin(start);
            }
            Err(refused) => assert_eq!(refused, ForkError::Passed { oldest: 1 }),
        }
        evicting.join().unwrap();
    });
}

#[test]
fn a_reader_in_a_group_that_falls_asleep_is_woken_by_publication() {
    loom::model(|| {
        let (ring, _first) = grouped(2, 2);
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        let thread = thread::spawn(move || push(&writer, 1, 7));
        assert_eq!(block_on(reader.recv()).unwrap()[0], 7);
        thread.join().unwrap();
    });
}

#[test]
fn readers_in_a_group_are_woken_by_either_of_two_publications() {
    loom::model(|| {
        let (ring, first) = grouped(2, 2);
        drop(first);
        let _first = ring.subscribe().unwrap();
        let mut reader = ring.subscribe().unwrap();
        let thread = {
            let writer = ring.writer();
            thread::spawn(move || push(&writer, 1, 1))
        };
        push(&ring.writer(), 1, 2);
        for _ in 0..2 {
            drop(block_on(reader.recv()).unwrap());
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_reader_that_joins_a_new_group_is_never_passed() {
    loom::model(|| {
        let (ring, mut first) = grouped(1, 2);
        let writer = ring.writer();
        push(&writer, 32, 0);
        let thread = thread::spawn(move || writer.try_claim(32).map(|claim| fill(claim, 1)).is_ok());
        first.advance_to(1).unwrap();
        let mut reader = ring.subscribe().unwrap();
        let from = reader.position();
        let guard = reader.pin_guard().unwrap();
        if let RecordState::Published(bytes) = guard.get(from) {
            assert!(bytes.iter().all(|byte| u64::from(*byte) == from), "{from}: {bytes:?}");
            thread::yield_now();
            assert!(bytes.iter().all(|byte| u64::from(*byte) == from), "{from}: {bytes:?}");
        }
        drop(guard);
        thread.join().unwrap();
        assert_eq!(reader.lost(), 0);
    });
}

#[test]
fn a_reader_in_a_group_that_falls_asleep_is_woken_by_detachment() {
    loom::model(|| {
        let (ring, _first) = grouped(2, 2);
        let mut reader = ring.subscribe().unwrap();
        let id = reader.id();
        let other = ring.clone();
        let thread = thread::spawn(move || {
            while other.detach(id).is_err() {
                thread::yield_now()
            }
        });
        assert_eq!(block_on(reader.recv()).unwrap_err(), corewire_rings::RecvError::Detached);
        thread.join().unwrap();
    });
}
