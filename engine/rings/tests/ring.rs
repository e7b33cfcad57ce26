//! The ring in one thread: order, exact capacity, every refusal, wake-ups, leaks.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::{
    ClaimError, DetachError, Detached, ForkError, NoReaderSlot, RecordState, RecvError, Ring, RingConfig,
};
use corewire_testkit::CountingWaker;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

fn config(datums: usize, bytes: usize) -> RingConfig {
    RingConfig {
        datums,
        bytes,
        max_record: bytes.min(256),
        readers: 4,
        scatter_small: RingConfig::scatter_fits(datums, bytes),
    }
}

fn ring(datums: usize, bytes: usize) -> Ring {
    Ring::new(config(datums, bytes)).unwrap()
}

#[test]
fn every_reader_sees_every_record_in_order() {
    let ring = ring(8, 1024);
    let writer = ring.writer();
    let mut readers = [ring.subscribe().unwrap(), ring.subscribe().unwrap()];
    for round in 0..100u64 {
        assert_eq!(writer.try_push(&round.to_le_bytes()), Ok(round));
        for reader in &mut readers {
            let record = reader.try_recv().unwrap().unwrap();
            assert_eq!(
                (record.seq(), &record[..], record.lost_before()),
                (round, &round.to_le_bytes()[..], 0)
            );
            drop(record);
            assert!(reader.try_recv().unwrap().is_none());
        }
    }
    assert_eq!((ring.tail(), ring.gate(), ring.len(), ring.stats().accepted), (100, 100, 0, 100));
}

#[test]
fn the_capacity_in_datums_is_exact() {
    for datums in [1, 2, 3, 4, 5, 7, 8, 9] {
        let ring = ring(datums, 4096);
        let writer = ring.writer();
        let mut reader = ring.subscribe().unwrap();
        for round in 0..3 * datums {
            for n in 0..datums {
                assert!(writer.try_push(&[n as u8]).is_ok(), "{datums} {round} {n}");
            }
            assert_eq!(writer.try_push(&[0]), Err(ClaimError::Full));
            assert_eq!(ring.len(), datums);
            for n in 0..datums {
                assert_eq!(&reader.try_recv().unwrap().unwrap()[..], &[n as u8]);
            }
        }
    }
}

#[test]
fn the_capacity_in_bytes_is_exact_across_the_spill() {
    // 7 units, a prime: records cross the end at every offset.
    let ring = Ring::new(RingConfig {
        datums: 64,
        bytes: 7 * 16 + 5,
        max_record: 7 * 16,
        readers: 1,
        scatter_small: false,
    })
    .unwrap();
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    for round in 0..200usize {
        let len = round % 113;
        let mut used = 0;
        let mut pushed = Vec::new();
        for n in 0.. {
            let record = vec![(round + n) as u8; len];
            if used + RingConfig::cost(len) > 7 * 16 {
                assert_eq!(writer.try_push(&record), Err(ClaimError::Full), "len {len}");
                break;
            }
            writer.try_push(&record).unwrap();
            used += RingConfig::cost(len);
            pushed.push(record);
        }
        for expected in pushed {
            assert_eq!(&reader.try_recv().unwrap().unwrap()[..], &expected[..]);
        }
    }
}

#[test]
fn the_longest_record_fits_an_empty_ring_and_one_byte_more_is_refused() {
    let ring =
        Ring::new(RingConfig { datums: 2, bytes: 96, max_record: 96, readers: 1, scatter_small: false })
            .unwrap();
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    for fill in 0..20u8 {
        writer.try_push(&[fill; 96]).unwrap();
        assert_eq!(writer.try_push(&[]), Err(ClaimError::Full));
        assert_eq!(&reader.try_recv().unwrap().unwrap()[..], &[fill; 96]);
    }
    let refused = ClaimError::TooLarge { len: 97, limit: 96 };
    assert_eq!(writer.try_push(&[0; 97]), Err(refused));
    assert_eq!(writer.try_claim_many(97, 2).err(), Some(refused));
    assert_eq!(writer.evict(97, |_, _| ()), Err(refused));
    assert_eq!(writer.claim_evicting(97, |_, _| ()).err(), Some(refused));
}

#[test]
fn without_readers_the_ring_never_fills() {
    let ring = ring(4, 1024);
    let writer = ring.writer();
    for round in 0..100 {
        assert_eq!(writer.try_push(&[1]), Ok(round));
    }
    let mut late = ring.subscribe().unwrap();
    assert_eq!((late.position(), late.try_recv().unwrap().is_none()), (100, true));
    writer.try_push(&[7]).unwrap();
    assert_eq!(late.try_recv().unwrap().unwrap().seq(), 100);
}

#[test]
fn without_readers_an_unpublished_claim_is_never_lapped() {
    let ring = ring(4, 1024);
    let writer = ring.writer();
    let claim = writer.try_claim(1).unwrap();
    for _ in 0..3 {
        writer.try_push(&[1]).unwrap();
    }
    assert_eq!(writer.try_push(&[1]), Err(ClaimError::Full));
    assert_eq!(writer.evict(1, |_, _| ()), Err(ClaimError::Full));
    assert_eq!(ring.stats().blocked_by_claim, 1);
    claim.commit();
    assert!(writer.try_push(&[1]).is_ok());
}

#[test]
fn an_abandoned_claim_is_skipped() {
    let ring = ring(8, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    drop(writer.try_claim(3).unwrap());
    drop(writer.try_claim_many(3, 2).unwrap());
    writer.try_push(b"x").unwrap();
    assert_eq!(reader.pin_guard().unwrap().get(0), RecordState::Abandoned);
    let record = reader.try_recv().unwrap().unwrap();
    assert_eq!((record.seq(), &record[..], record.lost_before()), (3, &b"x"[..], 0));
    assert_eq!(ring.stats().abandoned, 3);
}

#[test]
fn readers_wait_for_an_earlier_claim() {
    let ring = ring(8, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    let first = writer.try_claim(1).unwrap();
    writer.try_push(b"b").unwrap();
    assert!(reader.try_recv().unwrap().is_none());
    {
        let mut guard = reader.pin_guard().unwrap();
        assert_eq!(
            (guard.get(0), guard.get(1), guard.published_to(8)),
            (RecordState::Pending, RecordState::Published(b"b"), 0)
        );
        assert_eq!(guard.advance_to(2), 0, "a cursor never passes an unpublished record");
    }
    first.commit();
    assert_eq!(reader.try_recv().unwrap().unwrap().seq(), 0);
    assert_eq!(reader.try_recv().unwrap().unwrap().seq(), 1);
}

#[test]
fn a_reader_that_joins_during_a_claim_starts_behind_it() {
    let ring = ring(4, 1024);
    let writer = ring.writer();
    let claim = writer.try_claim(1).unwrap();
    let mut reader = ring.subscribe().unwrap();
    writer.try_push(b"new").unwrap();
    assert_eq!(reader.position(), 1);
    assert_eq!(reader.try_recv().unwrap().unwrap().seq(), 1, "it need not wait for what it does not want");
    // Its cursor stays before the claim, so that the claim is not lapped.
    writer.try_push(b"b").unwrap();
    writer.try_push(b"c").unwrap();
    assert_eq!(writer.try_push(b"d"), Err(ClaimError::Full));
    claim.commit();
    assert_eq!(reader.try_recv().unwrap().unwrap().seq(), 2);
    assert!(writer.try_push(b"d").is_ok());
    assert!(writer.try_push(b"e").is_ok());
}

#[test]
fn a_guard_reads_a_batch_and_releases_a_part_of_it() {
    let ring = ring(8, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    for n in 0..6u8 {
        writer.try_push(&[n]).unwrap();
    }
    {
        let mut guard = reader.pin_guard().unwrap();
        assert_eq!((guard.start(), guard.lost_before()), (0, 0));
        assert_eq!((guard.published_to(3), guard.published_to(100)), (3, 6));
        assert_eq!(guard.get(5), RecordState::Published(&[5]));
        assert_eq!(guard.get(0), RecordState::Published(&[0]));
        assert_eq!(guard.get(6), RecordState::Pending);
        assert_eq!(guard.get(u64::MAX), RecordState::Pending);
        assert_eq!(guard.advance_to(u64::MAX), 6);
        assert_eq!(guard.advance_to(4), 4);
        guard.release_now();
        assert_eq!(ring.gate(), 4);
        assert_eq!(
            (guard.start(), guard.get(3), guard.get(4)),
            (4, RecordState::Passed, RecordState::Published(&[4]))
        );
        assert_eq!(guard.advance_to(0), 4);
    }
    assert_eq!((reader.position(), reader.lag()), (4, 2));
    drop(reader.pin_guard().unwrap());
    assert_eq!(reader.position(), 4, "by default a guard releases nothing");
}

#[test]
fn a_batch_claim_takes_what_fits() {
    let ring = ring(5, 16 * 16);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    let mut claim = writer.try_claim_many(40, 100).unwrap();
    assert_eq!((claim.len(), claim.seq()), (5, 0));
    for n in 0..5 {
        claim.record(n).fill(n as u8);
    }
    assert_eq!(claim.commit_first(4), 0..4);
    assert_eq!(writer.try_claim_many(40, 1).err(), Some(ClaimError::Full));
    for n in 0..4u8 {
        assert_eq!(&reader.try_recv().unwrap().unwrap()[..], &[n; 40]);
    }
    assert!(reader.try_recv().unwrap().is_none());
    // Bytes are the limit here: 16 units, 5 each.
    let claim = writer.try_claim_many(80, 0).unwrap();
    assert_eq!(claim.len(), 1);
    assert_eq!(claim.commit(), 5..6);
    let claim = writer.try_claim_many(80, 4).unwrap();
    assert_eq!(claim.len(), 2);
    drop(claim);
}

#[test]
#[should_panic(expected = "record 1 of a claim of 1")]
fn a_batch_claim_has_no_record_behind_its_end() {
    let ring = ring(1, 64);
    let writer = ring.writer();
    writer.try_claim_many(1, 1).unwrap().record(1);
}

#[test]
fn closing_refuses_claims_and_lets_readers_drain() {
    let ring = ring(8, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    writer.try_push(b"a").unwrap();
    let open = writer.try_claim(1).unwrap();
    ring.close();
    writer.close();
    assert!(ring.is_closed() && writer.is_closed());
    assert_eq!(writer.try_push(b"b"), Err(ClaimError::Closed));
    assert_eq!(writer.try_claim_many(1, 1).err(), Some(ClaimError::Closed));
    assert_eq!(writer.evict(1, |_, _| ()), Err(ClaimError::Closed));
    assert_eq!(writer.claim_evicting(1, |_, _| ()).err(), Some(ClaimError::Closed));
    assert_eq!(reader.try_recv().unwrap().unwrap().seq(), 0);
    assert!(reader.try_recv().unwrap().is_none(), "a claim is still open");
    open.commit();
    assert_eq!(reader.try_recv().unwrap().unwrap().seq(), 1);
    assert_eq!(reader.try_recv().unwrap_err(), RecvError::Closed);
    assert!(reader.is_finished() && reader.is_ready());
    let mut late = ring.subscribe().unwrap();
    assert_eq!(late.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn eviction_takes_few_records_and_reports_their_readers() {
    let ring = ring(4, 1024);
    let writer = ring.writer();
    let mut slow = ring.subscribe().unwrap();
    let mut fast = ring.subscribe().unwrap();
    for n in 0..4u8 {
        writer.try_push(&[n]).unwrap();
        drop(fast.try_recv().unwrap().unwrap());
    }
    for n in 4..10u8 {
        let mut lost = Vec::new();
        let mut claim = writer.claim_evicting(1, |id, count| lost.push((id, count))).unwrap();
        claim[0] = n;
        claim.commit();
        assert_eq!(lost, [(slow.id(), 1)]);
        assert_eq!(&fast.try_recv().unwrap().unwrap()[..], &[n]);
    }
    assert!(slow.is_ready());
    let record = slow.try_recv().unwrap().unwrap();
    assert_eq!((record.seq(), record[0], record.lost_before()), (6, 6, 6));
    drop(record);
    assert_eq!((slow.lost(), fast.lost(), ring.stats().evicted), (6, 0, 6));
    assert_eq!(slow.try_recv().unwrap().unwrap().lost_before(), 0);
}

#[test]
fn eviction_for_bytes_takes_several_small_records() {
    let ring = Ring::new(RingConfig {
        datums: 64,
        bytes: 8 * 16,
        max_record: 8 * 16,
        readers: 1,
        scatter_small: false,
    })
    .unwrap();
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    for _ in 0..8 {
        writer.try_push(&[1; 16]).unwrap();
    }
    let mut lost = 0;
    writer.evict(3 * 16, |_, count| lost += count).unwrap();
    assert_eq!((lost, ring.gate()), (3, 3));
    writer.try_push(&[2; 48]).unwrap();
    // All of it: only the gap is left, which the next record reports.
    writer.evict(8 * 16, |_, count| lost += count).unwrap();
    assert_eq!(lost, 9);
    assert!(reader.is_ready());
    assert!(reader.try_recv().unwrap().is_none());
    assert!(!reader.is_ready());
    writer.try_push(&[3]).unwrap();
    let record = reader.try_recv().unwrap().unwrap();
    assert_eq!((record.seq(), record.lost_before()), (9, 9));
}

#[test]
fn a_refused_eviction_takes_no_record_from_any_reader() {
    let ring = ring(2, 1024);
    let writer = ring.writer();
    let mut held = ring.subscribe().unwrap();
    let idle = ring.subscribe().unwrap();
    writer.try_push(b"a").unwrap();
    writer.try_push(b"b").unwrap();
    let guard = held.pin_guard().unwrap();
    assert_eq!(writer.evict(1, |_, _| panic!("no reader loses a record")), Err(ClaimError::Full));
    assert_eq!(writer.claim_evicting(1, |_, _| ()).err(), Some(ClaimError::Full));
    assert_eq!(guard.get(0), RecordState::Published(b"a"));
    assert_eq!(ring.stats().blocked_by_pin, 2);
    drop(guard);
    let mut lost = Vec::new();
    writer.evict(1, |id, n| lost.push((id, n))).unwrap();
    assert_eq!(lost, [(held.id(), 1), (idle.id(), 1)]);
}

#[test]
fn a_detached_reader_frees_the_ring_and_gets_an_error_each_time() {
    let ring = ring(2, 1024);
    let writer = ring.writer();
    let mut stuck = ring.subscribe().unwrap();
    let mut other = ring.subscribe().unwrap();
    writer.try_push(b"a").unwrap();
    writer.try_push(b"b").unwrap();
    drop(other.try_recv().unwrap());
    assert_eq!(ring.blockers(), [stuck.id()]);
    let guard = stuck.pin_guard().unwrap();
    assert_eq!(ring.detach(ring.blockers()[0]), Err(DetachError::Pinned));
    drop(guard);
    let (count, waker) = CountingWaker::pair();
    assert_eq!(ring.detach(stuck.id()), Ok(0), "it has taken nothing");
    assert_eq!(ring.detach(stuck.id()), Err(DetachError::Gone));
    assert_eq!(ring.readers(), 1);
    assert!(writer.try_push(b"c").is_ok());
    for _ in 0..2 {
        assert!(stuck.is_ready());
        assert_eq!(stuck.poll_ready(&mut Context::from_waker(&waker)), Poll::Ready(()));
        assert_eq!(stuck.pin_guard().err(), Some(Detached));
        assert_eq!(stuck.try_recv().unwrap_err(), RecvError::Detached);
    }
    let id = stuck.id();
    drop(stuck);
    assert_eq!(ring.readers(), 1);
    let next = ring.subscribe().unwrap();
    assert_eq!(ring.detach(id), Err(DetachError::Gone), "an old name never hits the next reader");
    assert_ne!(next.id(), id);
    assert_eq!(count.wakes(), 0);
}

#[test]
fn a_sleeping_reader_is_woken_once_by_publication_close_or_detachment() {
    let ring = ring(4, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    let (count, waker) = CountingWaker::pair();
    let mut cx = Context::from_waker(&waker);
    for round in 1..=5 {
        assert_eq!(reader.poll_ready(&mut cx), Poll::Pending);
        assert_eq!(reader.poll_ready(&mut cx), Poll::Pending);
        writer.try_push(b"a").unwrap();
        writer.try_push(b"b").unwrap();
        assert_eq!(count.wakes(), round, "one wake a sleep, whatever is published");
        drop(reader.try_recv().unwrap().unwrap());
        assert_eq!(reader.poll_ready(&mut cx), Poll::Ready(()));
        drop(reader.try_recv().unwrap().unwrap());
    }
    assert_eq!(ring.stats().reader_wakes, 5);
    let mut second = ring.subscribe().unwrap();
    assert_eq!(reader.poll_ready(&mut cx), Poll::Pending);
    assert_eq!(second.poll_ready(&mut cx), Poll::Pending);
    ring.detach(second.id()).unwrap();
    assert_eq!(count.wakes(), 6);
    ring.close();
    ring.close();
    assert_eq!(count.wakes(), 7);
}

#[test]
fn a_reader_that_found_a_record_is_not_woken_for_it_later() {
    let ring = ring(4, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    let (count, waker) = CountingWaker::pair();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(reader.poll_ready(&mut cx), Poll::Pending);
    drop(reader);
    writer.try_push(b"a").unwrap();
    assert_eq!((count.wakes(), Arc::strong_count(&count)), (0, 2), "the waker went with the reader");
}

#[test]
fn a_leaked_guard_pins_until_the_reader_pins_again() {
    let ring = ring(2, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    writer.try_push(b"a").unwrap();
    writer.try_push(b"b").unwrap();
    mem::forget(reader.pin_guard().unwrap());
    mem::forget(reader.try_recv().unwrap());
    assert_eq!(writer.evict(1, |_, _| ()), Err(ClaimError::Full));
    assert_eq!(ring.detach(reader.id()), Err(DetachError::Pinned));
    assert_eq!(reader.try_recv().unwrap().unwrap().seq(), 0);
    assert_eq!(writer.evict(1, |_, _| ()), Ok(()));
    mem::forget(reader.pin_guard().unwrap());
    drop(reader);
    assert_eq!(ring.readers(), 0);
    assert!(writer.try_push(b"c").is_ok());
}

#[test]
fn a_leaked_claim_stops_the_ring_there() {
    let ring = ring(2, 1024);
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    mem::forget(writer.try_claim(1).unwrap());
    writer.try_push(b"b").unwrap();
    assert_eq!(writer.claim_evicting(1, |_, _| ()).err(), Some(ClaimError::Full));
    assert!(reader.try_recv().unwrap().is_none());
    drop(reader);
    assert_eq!(writer.try_push(b"c"), Err(ClaimError::Full));
    ring.close();
    assert_eq!(writer.try_push(b"c"), Err(ClaimError::Closed));
}

#[test]
fn reader_slots_are_bounded_and_reused() {
    let ring = ring(2, 1024);
    let mut readers: Vec<_> = (0..4).map(|_| ring.subscribe().unwrap()).collect();
    let refused = ring.subscribe().unwrap_err();
    assert_eq!(refused.limit, 4);
    for _ in 0..300 {
        readers.remove(0);
        readers.push(ring.subscribe().unwrap());
    }
    assert_eq!(ring.readers(), 4);
}

#[test]
fn a_reader_id_never_names_a_later_reader_of_the_slot() {
    let ring = ring(2, 64);
    let gone = ring.subscribe().unwrap().id();
    for _ in 0..200 {
        let reader = ring.subscribe().unwrap();
        assert_ne!(reader.id(), gone);
        assert_eq!(ring.detach(gone), Err(DetachError::Gone));
        assert_eq!(ring.readers(), 1);
    }
}

#[test]
fn the_status_of_readers_is_readable_from_outside() {
    let ring = ring(4, 1024);
    let writer = ring.writer();
    let mut fast = ring.subscribe().unwrap();
    let slow = ring.subscribe().unwrap();
    assert_eq!(ring.blockers(), []);
    for _ in 0..4 {
        writer.try_push(b"a").unwrap();
        drop(fast.try_recv().unwrap());
    }
    writer.evict(1, |_, _| ()).unwrap();
    let guard = fast.pin_guard().unwrap();
    let mut seen = Vec::new();
    ring.each_reader(|reader| seen.push(reader));
    drop(guard);
    assert_eq!((seen[0].id, seen[0].position, seen[0].lag, seen[0].pinned), (fast.id(), 4, 0, true));
    assert_eq!((seen[1].id, seen[1].position, seen[1].lag, seen[1].pinned), (slow.id(), 1, 3, false));
    assert_eq!((seen[0].blocks, seen[1].blocks, seen[1].lost), (false, true, 1));
    // The next reader of the slot has lost nothing.
    drop(slow);
    let next = ring.subscribe().unwrap();
    ring.each_reader(|reader| assert!(reader.id != next.id() || reader.lost == 0));
}

#[test]
fn marks_measure_consumption_in_bytes() {
    let ring =
        Ring::new(RingConfig { datums: 8, bytes: 5 * 16, max_record: 40, readers: 1, scatter_small: false })
            .unwrap();
    let writer = ring.writer();
    let mut reader = ring.subscribe().unwrap();
    let mut before = ring.gate_mark();
    for len in [0, 1, 16, 17, 40, 33, 32] {
        writer.try_push(&vec![0; len]).unwrap();
        assert_eq!(ring.gate_mark(), before);
        drop(reader.try_recv().unwrap());
        let after = ring.gate_mark();
        assert_eq!((after.seq - before.seq, after.bytes_since(&before)), (1, RingConfig::cost(len) as u64));
        before = after;
    }
}

#[test]
fn a_read_that_panics_counts_the_record_as_read() {
    let ring = ring(4, 64);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    for record in [b"a", b"b", b"c"] {
        writer.try_push(record).unwrap();
    }
    let mut guard = reader.pin_guard().unwrap();
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        guard.for_each(8, |seq, _| assert!(seq != 1, "the second one panics"))
    }));
    assert!(read.is_err());
    drop(guard);
    assert_eq!(reader.position(), 2);
    assert_eq!(&reader.try_recv().unwrap().unwrap()[..], b"c");
}

#[test]
fn a_forked_reader_keeps_and_reads_every_record_from_its_start() {
    let ring = ring(4, 1024);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    for value in 0..4 {
        writer.try_push(&[value; 16]).unwrap();
    }
    reader.advance_to(1).unwrap();
    let mut forked = reader.fork_at(2).unwrap();
    assert_eq!((reader.position(), forked.position(), ring.readers()), (1, 2, 2));
    drop(reader);
    assert_eq!((ring.gate(), ring.len()), (2, 2));
    assert_eq!(forked.try_recv().unwrap().unwrap()[..], [2; 16]);
    assert_eq!(forked.try_recv().unwrap().unwrap()[..], [3; 16]);
    assert!(forked.try_recv().unwrap().is_none());
    assert_eq!(forked.lost(), 0);
}

#[test]
fn a_reader_is_forked_only_inside_what_it_holds() {
    let ring = ring(4, 1024);
    let (writer, mut reader) = (ring.writer(), ring.subscribe().unwrap());
    writer.try_push(&[0; 16]).unwrap();
    writer.try_push(&[1; 16]).unwrap();
    let claim = writer.try_claim(16).unwrap();
    writer.try_push(&[3; 16]).unwrap();
    reader.advance_to(1).unwrap();
    assert_eq!(reader.fork_at(0).err(), Some(ForkError::Passed { oldest: 1 }));
    assert_eq!(reader.fork_at(3).err(), Some(ForkError::Unpublished { published: 2 }));
    let forked: Vec<_> = (0..3).map(|_| reader.fork_at(2).unwrap()).collect();
    assert_eq!(reader.fork_at(2).err(), Some(ForkError::NoReaderSlot(NoReaderSlot { limit: 4 })));
    drop(forked);
    claim.commit();
    assert_eq!(reader.fork_at(4).unwrap().position(), 4);
    assert_eq!(reader.pin(), Ok(1));
    assert_eq!(reader.fork_at(1).unwrap().position(), 1);
    assert_eq!(reader.get(1), RecordState::Published(&[1; 16]), "a pin outlives a fork");
    reader.unpin(1);
    ring.detach(reader.id()).unwrap();
    assert_eq!(reader.fork_at(1).err(), Some(ForkError::Detached(Detached)));
}
