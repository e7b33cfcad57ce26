//! The wait queue, the latch and the notify bits under loom, as `loom.rs`, which says how to run it. A lost
//! wake-up leaves a thread asleep for ever, which fails the model.
#![cfg(loom)]

use corewire_rings::{CancelledWaiter, ConsumerProgress, NotifyBits, QueueTicket, WaitQueue, WakeLatch};
use loom::future::block_on;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A semaphore: the queue behind the lock of what is waited for, as its users have it.
#[derive(Default)]
struct Semaphore(Mutex<Permits>);

#[derive(Default)]
struct Permits {
    free: usize,
    queue: WaitQueue,
}

impl Semaphore {
    fn release(&self) {
        let mut permits = self.0.lock().unwrap();
        permits.free += 1;
        let waker = permits.queue.wake_next();
        drop(permits);
        waker.into_iter().for_each(Waker::wake);
    }
}

struct Acquire {
    semaphore: Arc<Semaphore>,
    ticket: Option<QueueTicket>,
}

impl Acquire {
    fn new(semaphore: &Arc<Semaphore>) -> Self {
        Self { semaphore: Arc::clone(semaphore), ticket: None }
    }
}

impl Future for Acquire {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let semaphore = Arc::clone(&self.semaphore);
        let mut permits = semaphore.0.lock().unwrap();
        if permits.free > 0 {
            permits.free -= 1;
            drop(self.ticket.take().and_then(|ticket| permits.queue.remove(ticket)));
            return Poll::Ready(());
        }
        match &self.ticket {
            Some(ticket) => drop(permits.queue.renew(ticket, cx.waker().clone())),
            None => self.ticket = Some(permits.queue.join(cx.waker().clone()).unwrap()),
        }
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let cancelled = self.semaphore.0.lock().unwrap().queue.cancel(ticket);
        if let CancelledWaiter::PassOn(Some(next)) = cancelled {
            next.wake();
        }
    }
}

#[test]
fn a_waiter_that_joins_during_a_release_is_served() {
    loom::model(|| {
        let semaphore = Arc::new(Semaphore::default());
        let waiters = [(); 2].map(|()| {
            let acquire = Acquire::new(&semaphore);
            thread::spawn(move || block_on(acquire))
        });
        semaphore.release();
        semaphore.release();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(semaphore.0.lock().unwrap().queue.is_empty());
    });
}

#[test]
fn a_cancelled_waiter_passes_its_wakeup_on() {
    loom::model(|| {
        let semaphore = Arc::new(Semaphore::default());
        let mut fickle = Acquire::new(&semaphore);
        assert!(Pin::new(&mut fickle).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let steady = Acquire::new(&semaphore);
        let steady = thread::spawn(move || block_on(steady));
        let other = Arc::clone(&semaphore);
        let releases = thread::spawn(move || other.release());
        drop(fickle);
        steady.join().unwrap();
        releases.join().unwrap();
        assert!(semaphore.0.lock().unwrap().queue.is_empty());
    });
}

/// Sleeps as the driver does: not if the latch was set before, otherwise until it is set.
fn sleep_on(latch: &WakeLatch) {
    block_on(poll_fn(|cx| if latch.arm(cx.waker()) { Poll::Pending } else { Poll::Ready(()) }));
    latch.disarm();
    assert!(latch.take(), "woken, and the latch is not set");
}

#[test]
fn a_latch_set_while_the_sleeper_arms_is_seen() {
    loom::model(|| {
        let latch = Arc::new(WakeLatch::new());
        let data = Arc::new(AtomicUsize::new(0));
        let setter = {
            let (latch, data) = (Arc::clone(&latch), Arc::clone(&data));
            thread::spawn(move || {
                data.store(1, Ordering::Relaxed);
                latch.set();
            })
        };
        sleep_on(&latch);
        assert_eq!(data.load(Ordering::Relaxed), 1);
        setter.join().unwrap();
        assert!(!latch.is_set());
    });
}

#[test]
fn a_latch_set_between_two_sleeps_ends_the_second() {
    loom::model(|| {
        let latch = Arc::new(WakeLatch::new());
        let other = Arc::clone(&latch);
        let setter = thread::spawn(move || other.set());
        // A sleep that ends by its deadline, at any moment beside the set.
        let armed = latch.arm(Waker::noop());
        latch.disarm();
        if armed && !latch.take() {
            sleep_on(&latch);
        } else if !armed {
            assert!(latch.take());
        }
        setter.join().unwrap();
    });
}

/// Sleeps until `expected` bits have come, and gives what each one's cell showed then. Every 4,096 numbers
/// have a word of the summary, and here a cell.
fn collect(bits: &NotifyBits, cells: &[AtomicUsize], expected: usize) -> Vec<(u32, usize)> {
    let mut seen = Vec::new();
    block_on(poll_fn(|cx| {
        loop {
            bits.disarm();
            bits.drain(|number| seen.push((number, cells[number as usize / 4096].load(Ordering::Relaxed))));
            if seen.len() == expected {
                return Poll::Ready(());
            }
            if bits.arm(cx.waker()) {
                return Poll::Pending;
            }
        }
    }));
    seen.sort_unstable();
    seen
}

#[test]
fn a_bit_set_while_the_sleeper_arms_is_seen() {
    loom::model(|| {
        let bits = Arc::new(NotifyBits::new(1));
        let cells = Arc::new([AtomicUsize::new(0)]);
        let ringer = {
            let (bits, cells) = (Arc::clone(&bits), Arc::clone(&cells));
            thread::spawn(move || {
                cells[0].store(1, Ordering::Relaxed);
                bits.notify(0);
            })
        };
        assert_eq!(collect(&bits, &*cells, 1), [(0, 1)]);
        ringer.join().unwrap();
    });
}

#[test]
fn bits_of_two_ringers_all_reach_the_sleeper() {
    loom::model(|| {
        let bits = Arc::new(NotifyBits::new(4097));
        let cells = Arc::new([0, 1].map(AtomicUsize::new));
        let ringers = [0u32, 4096].map(|number| {
            let (bits, cells) = (Arc::clone(&bits), Arc::clone(&cells));
            thread::spawn(move || {
                cells[number as usize / 4096].store(7, Ordering::Relaxed);
                bits.notify(number);
            })
        });
        assert_eq!(collect(&bits, &*cells, 2), [(0, 7), (4096, 7)]);
        ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
    });
}

#[test]
fn a_ring_without_a_bit_wakes_for_work_that_is_elsewhere() {
    loom::model(|| {
        let bits = Arc::new(NotifyBits::new(1));
        let work = Arc::new(AtomicUsize::new(0));
        let ringer = {
            let (bits, work) = (Arc::clone(&bits), Arc::clone(&work));
            thread::spawn(move || {
                work.store(1, Ordering::Release);
                bits.ring();
            })
        };
        block_on(poll_fn(|cx| {
            let sleeps = bits.arm(cx.waker()) && work.load(Ordering::Acquire) == 0;
            if sleeps { Poll::Pending } else { Poll::Ready(()) }
        }));
        bits.disarm();
        ringer.join().unwrap();
        assert!(!bits.any());
    });
}

#[test]
fn credit_that_returns_while_the_shard_reads_is_not_lost() {
    loom::model(|| {
        let shared = Arc::new((ConsumerProgress::new(0), NotifyBits::new(1)));
        let consumer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for seq in 1..=2 {
                    shared.0.advance(seq, 16 * seq);
                    if shared.0.mark() {
                        shared.1.notify(0);
                    }
                }
            })
        };
        let mut taken = (0, 0);
        let mut look = || {
            shared.1.drain(|_| {
                let before = taken;
                taken = shared.0.read();
                assert!(before.0 <= taken.0 && before.1 <= taken.1, "{taken:?} after {before:?}");
                assert!(taken.1 >= 16 * taken.0, "the bytes of {taken:?} fall behind");
            });
        };
        look();
        consumer.join().unwrap();
        look();
        assert_eq!(taken, (2, 32));
    });
}

#[test]
fn a_consumer_that_is_gone_has_told_all_that_it_took() {
    loom::model(|| {
        let progress = Arc::new(ConsumerProgress::new(7));
        let consumer = {
            let progress = Arc::clone(&progress);
            thread::spawn(move || {
                progress.advance(8, 16);
                progress.leave();
            })
        };
        if progress.is_gone() {
            assert_eq!(progress.peek(), (8, 16));
        }
        consumer.join().unwrap();
        assert!(progress.is_gone());
    });
}
