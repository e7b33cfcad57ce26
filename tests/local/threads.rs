//! Many threads on one stream: each datum once, in order, every loss counted, no wake-up lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use corewire::BackpressurePolicy::{self, DegradeQuality, DropOldest, Fail, PauseUpstream};
use corewire::local::{PushError, Stream, StreamError};
use futures::executor::block_on;

use super::support::{assert_balanced, in_time};

const PRODUCERS: u64 = 3;
const CONSUMERS: usize = 3;
const EACH: u64 = 8_000;

/// Producer, number, degraded.
type Marked = (u64, u64, bool);

fn shared(policy: BackpressurePolicy, capacity: usize) -> Stream<Marked> {
    Stream::with_degrader(capacity, policy, Arc::new(|&(producer, n, _)| (producer, n, true)))
}

/// Pushes from some threads and pops in others, blocking and async; gives what each consumer took.
fn traffic(s: &Stream<Marked>) -> Vec<Vec<Marked>> {
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|consumer| {
            let s = s.clone();
            thread::spawn(move || {
                let next = || if consumer % 2 == 0 { s.pop_blocking() } else { block_on(s.pop()) };
                std::iter::from_fn(next).collect()
            })
        })
        .collect();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let s = s.clone();
            thread::spawn(move || {
                for n in 0..EACH {
                    let mut datum = Some((producer, n, false));
                    while let Some(marked) = datum.take() {
                        match if n % 2 == 0 {
                            s.push_blocking(marked)
                        } else {
                            let mut push = s.push(marked);
                            block_on(&mut push)
                                .map_err(|error| PushError { error, item: push.take_item().unwrap() })
                        } {
                            Ok(()) => {}
                            Err(refused) => {
                                assert!(matches!(refused.error, StreamError::Overflow { .. }), "{refused:?}");
                                assert_eq!(refused.item, marked);
                                datum = Some(marked);
                                thread::yield_now();
                            }
                        }
                    }
                }
            })
        })
        .collect();
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    s.close();
    consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
}

fn check(policy: BackpressurePolicy, capacity: usize) {
    let s = shared(policy, capacity);
    let taken = traffic(&s);
    let m = s.metrics();
    assert!(m.is_balanced(), "{policy}: {m:#?}");
    assert_eq!((m.depth, m.waiting, m.cancelled), (0, 0, 0), "{policy}");
    assert_eq!(m.items_pushed, PRODUCERS * EACH + m.fail_overflows, "{policy}");
    assert_eq!(m.items_delivered, taken.iter().map(|one| one.len() as u64).sum::<u64>(), "{policy}");
    assert_eq!(m.items_delivered + m.drop_oldest_hits, PRODUCERS * EACH, "{policy}");
    let mut all: Vec<Marked> = taken.concat();
    all.sort_unstable();
    all.dedup_by_key(|(producer, n, _)| (*producer, *n));
    assert_eq!(all.len() as u64, m.items_delivered, "{policy}: no datum twice");
    for one in &taken {
        for producer in 0..PRODUCERS {
            let numbers: Vec<u64> = one.iter().filter(|(p, ..)| *p == producer).map(|(_, n, _)| *n).collect();
            assert!(numbers.is_sorted(), "{policy}: a consumer sees a producer's datums in their order");
        }
    }
    match policy {
        PauseUpstream | Fail => assert_eq!(m.drop_oldest_hits, 0),
        DropOldest => assert_eq!(m.degrade_quality_hits, 0),
        DegradeQuality => {
            assert!(all.iter().filter(|(.., degraded)| *degraded).count() as u64 <= m.degrade_quality_hits)
        }
    }
}

#[test]
fn many_threads_pause_upstream() {
    in_time(|| [1, 2, 16].map(|capacity| check(PauseUpstream, capacity)));
}

#[test]
fn many_threads_fail() {
    in_time(|| [1, 2, 16].map(|capacity| check(Fail, capacity)));
}

#[test]
fn many_threads_drop_the_oldest() {
    in_time(|| [1, 2, 16].map(|capacity| check(DropOldest, capacity)));
}

#[test]
fn many_threads_degrade() {
    in_time(|| [1, 2, 16].map(|capacity| check(DegradeQuality, capacity)));
}

/// Each hop waits for the other side's: one lost wake-up and it stands still.
#[test]
fn a_ping_pong_never_stops() {
    in_time(|| {
        let there: Stream<u64> = Stream::new(1, PauseUpstream);
        let back: Stream<u64> = Stream::new(1, PauseUpstream);
        let echo = {
            let (there, back) = (there.clone(), back.clone());
            thread::spawn(move || {
                while let Some(n) = there.pop_blocking() {
                    back.push_blocking(n).unwrap();
                }
            })
        };
        for n in 0..50_000 {
            there.push_blocking(n).unwrap();
            assert_eq!(back.pop_blocking(), Some(n));
        }
        there.close();
        echo.join().unwrap();
    });
}

/// Consumers that give up all the time, beside one that does not.
#[test]
fn consumers_that_give_up_lose_nothing() {
    in_time(|| {
        let s: Stream<u64> = Stream::new(2, PauseUpstream);
        let over = Arc::new(AtomicBool::new(false));
        let fickle: Vec<_> = (0..2)
            .map(|_| {
                let (s, over) = (s.clone(), Arc::clone(&over));
                thread::spawn(move || {
                    let mut taken = 0;
                    while !over.load(Ordering::Acquire) {
                        taken += u64::from(s.pop_timeout(std::time::Duration::ZERO).is_ok());
                    }
                    taken
                })
            })
            .collect();
        let steady = {
            let s = s.clone();
            thread::spawn(move || std::iter::from_fn(|| s.pop_blocking()).count() as u64)
        };
        for n in 0..50_000 {
            s.push_blocking(n).unwrap();
        }
        s.close();
        let mut taken = steady.join().unwrap();
        over.store(true, Ordering::Release);
        taken += fickle.into_iter().map(|one| one.join().unwrap()).sum::<u64>();
        assert_eq!(taken, 50_000);
        assert_balanced(&s);
    });
}

/// The close comes while both sides are about to fall asleep.
#[test]
fn a_close_is_never_missed() {
    in_time(|| {
        for _ in 0..2_000 {
            let s: Stream<u64> = Stream::new(1, PauseUpstream);
            let popper = {
                let s = s.clone();
                thread::spawn(move || std::iter::from_fn(|| s.pop_blocking()).count())
            };
            let closer = {
                let s = s.clone();
                thread::spawn(move || {
                    s.close();
                })
            };
            let pushed = (0..3).filter(|n| s.push_blocking(*n).is_ok()).count();
            closer.join().unwrap();
            assert_eq!(popper.join().unwrap(), pushed);
            assert_balanced(&s);
        }
    });
}
