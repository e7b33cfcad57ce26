//! The shared part of a stream: its datums and the tasks that wait, behind one lock.
//!
//! A change of the buffer and the choice of the waiter that it serves are one step under the lock, so no
//! wake-up is lost. No user code runs under it: degraders run before, and what a step leaves to be woken or
//! dropped ([`Deferred`]) is handled after the lock is released.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use corewire_rings::sync::Lock;
use corewire_rings::{CancelledWaiter, QueueTicket, WaitQueue};

use crate::contain::contain;
use crate::local::metrics::{StreamMetrics, StreamMetricsSnapshot};

pub(super) struct Buffer<T> {
    contents: Lock<Contents<T>>,
    /// Most datums, at least 1.
    capacity: usize,
    metrics: Arc<StreamMetrics>,
}

/// What the lock protects. While datums are left, at least as many pops are awake, or none sleeps. While
/// there is room, the first push is awake.
struct Contents<T> {
    /// Oldest first.
    items: VecDeque<T>,
    closed: bool,
    /// Only the first may put its datum in, and no newcomer while there is one.
    push_waiters: WaitQueue,
    /// Each may take a datum, as may newcomers.
    pop_waiters: WaitQueue,
}

/// What becomes of a datum that finds no room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    Refuse,
    DropOldest,
}

/// What became of a datum that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Done,
    Full,
    /// Full, and as many pushes wait as may wait.
    Crowded,
    Closed,
}

pub(super) enum Take<T> {
    Item(T),
    Empty,
    /// Closed, and everything was taken.
    Ended,
}

/// User values that leave a locked step, to be woken or dropped after it.
struct Deferred<T> {
    wake_push: Option<Waker>,
    wake_pop: Option<Waker>,
    /// The waker of a waiter that left the queue or brought another one.
    gone: Option<Waker>,
    /// The datum that was dropped for another one.
    evicted: Option<T>,
}

impl<T> Deferred<T> {
    /// Runs with the lock released. A panic in it costs no other task anything.
    fn run(self) {
        for waker in [self.wake_push, self.wake_pop].into_iter().flatten() {
            contain(|| waker.wake());
        }
        contain(|| drop((self.gone, self.evicted)));
    }
}

impl<T> Buffer<T> {
    /// `items` is empty and has memory for `capacity` datums.
    pub(super) fn new(items: VecDeque<T>, capacity: usize, metrics: Arc<StreamMetrics>) -> Self {
        let contents =
            Contents { items, closed: false, push_waiters: WaitQueue::new(), pop_waiters: WaitQueue::new() };
        Self { contents: Lock::new(contents), capacity, metrics }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn is_closed(&self) -> bool {
        self.contents.lock().closed
    }

    /// Runs `step` under the lock, and what it defers without it.
    fn locked<R>(
        &self,
        step: impl FnOnce(&mut Contents<T>, &mut Deferred<T>, &mut StreamMetricsSnapshot) -> R,
    ) -> R {
        let mut deferred = Deferred { wake_push: None, wake_pop: None, gone: None, evicted: None };
        let mut contents = self.contents.lock();
        let mut counts = self.metrics.lock();
        let result = step(&mut contents, &mut deferred, &mut counts);
        debug_assert!(contents.items.len() <= self.capacity);
        counts.depth = contents.items.len() as u64;
        counts.waiting = contents.push_waiters.len() as u64;
        drop((contents, counts));
        deferred.run();
        result
    }

    /// Ends the stream and wakes every waiter.
    pub(super) fn close(&self) {
        let mut contents = self.contents.lock();
        contents.closed = true;
        let wakers = [contents.pop_waiters.wake_all(), contents.push_waiters.wake_all()];
        drop(contents);
        wakers.into_iter().flatten().for_each(|waker| _ = contain(|| waker.wake()));
    }

    /// Moves the datum out of `item` and into the buffer, or leaves it there.
    pub(super) fn try_put(&self, item: &mut Option<T>, when_full: WhenFull) -> Put {
        self.offer(item, when_full, &mut None, &mut None)
    }

    /// As [`try_put`](Self::try_put). With a context, a datum that finds no room waits at `place`; otherwise
    /// the place is given back.
    pub(super) fn put(
        &self,
        item: &mut Option<T>,
        place: &mut Option<QueueTicket>,
        cx: Option<&Context<'_>>,
    ) -> Put {
        let put = self.offer(item, WhenFull::Refuse, place, &mut None);
        match cx {
            // The waker is cloned outside the lock, and not at all by a push that finds room.
            Some(cx) if put == Put::Full => {
                self.offer(item, WhenFull::Refuse, place, &mut Some(cx.waker().clone()))
            }
            _ => put,
        }
    }

    /// One step of a push. It takes the waker if the datum has to wait.
    fn offer(
        &self,
        item: &mut Option<T>,
        when_full: WhenFull,
        place: &mut Option<QueueTicket>,
        waker: &mut Option<Waker>,
    ) -> Put {
        self.locked(|contents, deferred, counts| {
            let put = if contents.closed {
                Put::Closed
            } else if when_full == WhenFull::Refuse && !contents.may_put(place, self.capacity) {
                let Some(waker) = waker.take() else { return Put::Full };
                let newcomer = place.is_none();
                let waits = wait(&mut contents.push_waiters, place, waker);
                let put = if waits.is_ok() { Put::Full } else { Put::Crowded };
                if newcomer && waits.is_ok() {
                    counts.pause_upstream_blocks += 1;
                }
                deferred.gone = waits.unwrap_or_else(Some);
                return put;
            } else {
                if contents.items.len() == self.capacity {
                    deferred.evicted = contents.items.pop_front();
                    counts.drop_oldest_hits += 1;
                }
                contents.items.extend(item.take());
                counts.items_pushed += 1;
                deferred.wake_pop = contents.pop_waiters.wake_next();
                Put::Done
            };
            if let Some(ticket) = place.take() {
                deferred.gone = contents.push_waiters.remove(ticket);
                if contents.items.len() < self.capacity {
                    deferred.wake_push = contents.push_waiters.wake_first();
                }
            }
            put
        })
    }

    /// A push that waits gives up.
    pub(super) fn cancel_put(&self, ticket: QueueTicket) {
        self.locked(|contents, deferred, _| match contents.push_waiters.cancel(ticket) {
            CancelledWaiter::Asleep(waker) => deferred.gone = Some(waker),
            CancelledWaiter::PassOn(next) => deferred.wake_push = next,
        });
    }

    /// Takes the oldest datum. With a context, a pop that finds none waits at `place`.
    pub(super) fn take(&self, place: &mut Option<QueueTicket>, cx: Option<&Context<'_>>) -> Take<T> {
        let take = self.try_take(place, &mut None);
        match cx {
            Some(cx) if matches!(take, Take::Empty) => self.try_take(place, &mut Some(cx.waker().clone())),
            _ => take,
        }
    }

    /// One step of a pop. It takes the waker if there is no datum.
    fn try_take(&self, place: &mut Option<QueueTicket>, waker: &mut Option<Waker>) -> Take<T> {
        self.locked(|contents, deferred, counts| {
            let take = match contents.items.pop_front() {
                Some(item) => {
                    counts.items_delivered += 1;
                    deferred.wake_push = contents.push_waiters.wake_first();
                    Take::Item(item)
                }
                None if contents.closed => Take::Ended,
                None => {
                    let Some(waker) = waker.take() else { return Take::Empty };
                    match wait(&mut contents.pop_waiters, place, waker) {
                        Ok(old) => deferred.gone = old,
                        // As many wait as may wait: this one polls instead.
                        Err(waker) => deferred.wake_pop = Some(waker),
                    }
                    return Take::Empty;
                }
            };
            deferred.gone = place.take().and_then(|ticket| contents.pop_waiters.remove(ticket));
            take
        })
    }

    /// A pop that waits gives up.
    pub(super) fn cancel_take(&self, ticket: QueueTicket) {
        self.locked(|contents, deferred, _| match contents.pop_waiters.cancel(ticket) {
            CancelledWaiter::Asleep(waker) => deferred.gone = Some(waker),
            CancelledWaiter::PassOn(next) => deferred.wake_pop = next,
        });
    }
}

impl<T> Contents<T> {
    /// Whether there is room for the push at `place`, or for a newcomer without one.
    fn may_put(&self, place: &Option<QueueTicket>, capacity: usize) -> bool {
        let is_next = match place {
            Some(ticket) => self.push_waiters.is_first(ticket),
            None => self.push_waiters.is_empty(),
        };
        is_next && self.items.len() < capacity
    }
}

/// Joins the queue, or keeps the place there. Gives the waker that was there before; `Err`: the queue is
/// full.
fn wait(
    queue: &mut WaitQueue,
    place: &mut Option<QueueTicket>,
    waker: Waker,
) -> Result<Option<Waker>, Waker> {
    match place {
        Some(ticket) => Ok(queue.renew(ticket, waker)),
        None => {
            *place = Some(queue.join(waker)?);
            Ok(None)
        }
    }
}
