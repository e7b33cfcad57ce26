//! Real threads and wakers for a few seconds at most: what takes more steps than loom can explore.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::{ClaimError, Reader, RecvError, Ring, RingConfig, mailbox, park};
use corewire_testkit::LIMIT;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

/// Steps of one test.
const STEPS: u64 = if cfg!(miri) { 30 } else { 20_000 };

fn ring(datums: usize) -> Ring {
    // An odd capacity, so that records continue in the spill at every offset.
    Ring::new(RingConfig { datums, bytes: 37 * 16, max_record: 100, readers: 8, scatter_small: false })
        .unwrap()
}

/// Length and content of writer `writer`'s record number `n`.
fn record(writer: u64, n: u64) -> Vec<u8> {
    let mut bytes = vec![(writer * 31 + n) as u8; 16 + (n * 7 % 80) as usize];
    bytes[..8].copy_from_slice(&writer.to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> (usize, u64) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (writer, n) = (word(0), word(8));
    assert_eq!(bytes, record(writer, n), "torn");
    (writer as usize, n)
}

/// Reads to the end, checks that each writer's records come in order, and counts (records, lost, skipped
/// sequences).
fn drain(mut reader: Reader, writers: usize, pace: impl Fn(u64)) -> (u64, u64) {
    let mut last = vec![None; writers];
    let (mut seen, mut next) = (0, reader.position());
    let ended = loop {
        let record = match park::block_on(reader.recv()) {
            Ok(record) => record,
            Err(ended) => break ended,
        };
        let (writer, n) = parse(&record);
        assert!(last[writer] < Some(n), "writer {writer}: {n} after {:?}", last[writer]);
        last[writer] = Some(n);
        assert_eq!(record.seq(), next + record.lost_before());
        next = record.seq() + 1;
        seen += 1;
        pace(seen);
    };
    assert_eq!(ended, RecvError::Closed);
    (seen, reader.lost())
}

#[test]
fn waiting_writers_and_sleeping_readers_lose_nothing() {
    let ring = ring(5);
    let readers: Vec<_> = (0..3).map(|_| ring.subscribe().unwrap()).collect();
    thread::scope(|scope| {
        let readers: Vec<_> =
            readers.into_iter().map(|reader| scope.spawn(|| drain(reader, 2, |_| ()))).collect();
        let writers: Vec<_> = (0..2)
            .map(|id| {
                let writer = ring.writer();
                scope.spawn(move || {
                    for n in 0..STEPS / 4 {
                        let bytes = record(id, n);
                        let mut claim = park::block_on(writer.claim(bytes.len())).unwrap();
                        claim.copy_from_slice(&bytes);
                        claim.commit();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        ring.close();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (STEPS / 4 * 2, 0));
        }
    });
    assert_eq!(ring.stats().accepted, STEPS / 4 * 2);
}

#[test]
fn evicting_writers_report_losses_exactly() {
    let ring = ring(7);
    let slow = ring.subscribe().unwrap();
    let fast = ring.subscribe().unwrap();
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            drain(slow, 3, |seen| {
                if seen % 8 == 0 {
                    thread::yield_now()
                }
            })
        });
        let fast = scope.spawn(|| drain(fast, 3, |_| ()));
        let writers: Vec<_> = (0..3)
            .map(|id| {
                let writer = ring.writer();
                scope.spawn(move || {
                    let (mut sent, mut lost) = (0, 0);
                    for n in 0..STEPS {
                        let bytes = record(id, n);
                        // Refused while a reader reads the oldest record in place.
                        if let Ok(mut claim) = writer.claim_evicting(bytes.len(), |_, n| lost += n) {
                            claim.copy_from_slice(&bytes);
                            claim.commit();
                            sent += 1;
                        }
                    }
                    (sent, lost)
                })
            })
            .collect();
        let (mut sent, mut reported) = (0, 0);
        for writer in writers {
            let (s, l) = writer.join().unwrap();
            (sent, reported) = (sent + s, reported + l);
        }
        // No record follows what was evicted at the end; the reader counts it all the same.
        ring.close();
        let (slow, fast) = (slow.join().unwrap(), fast.join().unwrap());
        assert_eq!((slow.0 + slow.1, fast.0 + fast.1), (sent, sent));
        assert_eq!((slow.1 + fast.1, ring.stats().evicted), (reported, reported));
    });
}

#[test]
fn readers_come_and_go_under_running_writers() {
    let ring = ring(4);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in 0..2 {
            let (writer, stop) = (ring.writer(), &stop);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let bytes = record(id, n);
                    match writer.try_claim_many(bytes.len(), 3) {
                        Ok(mut claim) => {
                            claim.record(0).copy_from_slice(&bytes);
                            claim.commit_first(1);
                        }
                        Err(ClaimError::Full) => thread::yield_now(),
                        Err(refused) => panic!("{refused}"),
                    }
                }
            });
        }
        let visitors: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..STEPS / 40 {
                        let mut reader = ring.subscribe().unwrap();
                        let from = reader.position();
                        for _ in 0..round % 5 {
                            let record = park::block_on(reader.recv()).unwrap();
                            assert!(record.seq() >= from);
                            parse(&record);
                        }
                        assert_eq!(reader.lost(), 0);
                    }
                })
            })
            .collect();
        visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(ring.readers(), 0);
}

#[test]
fn detaching_a_reader_wakes_waiting_writers() {
    let ring = ring(2);
    for _ in 0..STEPS / 100 {
        let stuck = ring.subscribe().unwrap();
        let writer = ring.writer();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                for _ in 0..4 {
                    park::block_on(writer.claim(8)).unwrap().commit();
                }
            });
            while ring.blockers().is_empty() {
                thread::yield_now();
            }
            ring.detach(ring.blockers()[0]).unwrap();
            waiting.join().unwrap();
        });
        drop(stuck);
    }
}

#[test]
fn a_mailbox_moves_everything_to_a_sleeping_receiver() {
    let (sender, mut receiver) = mailbox(3);
    thread::scope(|scope| {
        for id in 0..3u64 {
            let sender = sender.clone();
            scope.spawn(move || {
                for n in 0..STEPS / 4 {
                    let mut message = (id, n);
                    while let Err(refused) = sender.try_send(message) {
                        message = refused.into_inner();
                        thread::yield_now();
                    }
                }
            });
        }
        drop(sender);
        let mut next = [0; 3];
        while let Some((id, n)) = park::wait(|cx| receiver.poll_recv(cx)) {
            assert_eq!(n, next[id as usize]);
            next[id as usize] += 1;
        }
        assert_eq!(next, [STEPS / 4; 3]);
    });
}

#[test]
fn a_deadline_ends_a_wait_and_leaves_the_reader_usable() {
    let ring = ring(2);
    let mut reader = ring.subscribe().unwrap();
    let soon = Instant::now() + Duration::from_millis(1);
    assert!(park::block_on_until(soon, reader.recv()).is_none());
    assert!(Instant::now() >= soon);
    ring.writer().try_push(b"x").unwrap();
    // The deadline has passed: there is one poll all the same.
    assert_eq!(&park::block_on_until(soon, reader.recv()).unwrap().unwrap()[..], b"x");
}

#[test]
fn a_deadline_ends_a_wait_whose_poll_wakes_itself() {
    let start = Instant::now();
    let soon = start + Duration::from_millis(10);
    let mut last = start;
    let got = park::wait_until(soon, |cx| {
        last = Instant::now();
        cx.waker().wake_by_ref();
        if start.elapsed() > LIMIT { Poll::Ready(()) } else { Poll::Pending }
    });
    assert_eq!(got, None);
    assert!(last >= soon, "the last poll begins after the deadline");
}

#[test]
fn waits_nest_in_one_thread() {
    let ring = ring(2);
    let mut reader = ring.subscribe().unwrap();
    ring.writer().try_push(b"x").unwrap();
    let got = park::block_on(async {
        let inner = park::block_on(async { 1 });
        inner + park::block_on(reader.recv()).unwrap().len()
    });
    assert_eq!(got, 2);
}
