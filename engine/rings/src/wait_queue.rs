//! A FIFO queue of waiting tasks.
//!
//! Not inside: a lock. The owner keeps the queue behind the lock of what is waited for, so that a change of
//! the resource and the choice of the waiter are one step. That is why no wake-up is lost between them.

use crate::bugs::mutate;
use std::collections::VecDeque;
use std::task::Waker;

/// Tasks that wait, first come first served.
///
/// Wakers are user code, so no method runs, clones or drops one. A waker that comes out of `wake_first`,
/// `wake_next`, `wake_all` or [`CancelledWaiter::PassOn`] must be woken, any other one dropped, after the
/// lock is released.
#[derive(Debug, Default)]
pub struct WaitQueue {
    /// In order of arrival; tickets rise from front to back. At most [`WaitQueue::MAX_WAITERS`].
    waiters: VecDeque<Waiter>,
    /// Given to the next waiter; never reused.
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// `None` while the waiter is awake: it was woken and has not renewed its waker since.
    waker: Option<Waker>,
}

/// The place of one waiter. Valid until it is given back to [`WaitQueue::remove`] or [`WaitQueue::cancel`].
#[derive(Debug)]
#[must_use = "a place that is not given back holds up the waiters behind it"]
pub struct QueueTicket(u64);

/// What [`WaitQueue::cancel`] took out of the queue.
#[derive(Debug)]
#[must_use = "a wake-up may have to be passed on"]
pub enum CancelledWaiter {
    /// The waiter was asleep. Drop its waker.
    Asleep(Waker),
    /// The waiter had been woken and has not used its wake-up. Wake this one, the first that sleeps, instead.
    PassOn(Option<Waker>),
}

impl WaitQueue {
    /// Most waiters of one queue.
    pub const MAX_WAITERS: usize = 1_024;

    /// An empty queue. Allocates nothing before the first waiter.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiters: VecDeque::new(), next_ticket: 0 }
    }

    /// Waiters, awake and asleep.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether there is no waiter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Whether no other waiter is in front of this one.
    #[must_use]
    pub fn is_first(&self, ticket: &QueueTicket) -> bool {
        self.waiters.front().is_some_and(|first| first.ticket == ticket.0)
    }

    /// Adds a waiter at the back.
    ///
    /// # Errors
    ///
    /// The waker, if there are [`Self::MAX_WAITERS`] already.
    pub fn join(&mut self, waker: Waker) -> Result<QueueTicket, Waker> {
        if self.waiters.len() == Self::MAX_WAITERS {
            return Err(waker);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiters.push_back(Waiter { ticket, waker: Some(waker) });
        Ok(QueueTicket(ticket))
    }

    /// The waiter keeps its place and sleeps again, with a new waker. Gives its old one, if it was asleep.
    #[must_use = "drop it outside the lock"]
    pub fn renew(&mut self, ticket: &QueueTicket, waker: Waker) -> Option<Waker> {
        let at = self.position(ticket);
        let place = &mut self.waiters[at].waker;
        mutate!(place.replace(waker), "renew-keeps-waker" => Some(waker))
    }

    /// Removes a waiter that was served. Gives its waker, if it was asleep. Its wake-up is used up: if there
    /// may be more for the others, call [`Self::wake_first`].
    #[must_use = "drop it outside the lock"]
    pub fn remove(&mut self, ticket: QueueTicket) -> Option<Waker> {
        let at = self.position(&ticket);
        self.waiters.remove(at).and_then(|waiter| waiter.waker)
    }

    /// Removes a waiter that gives up. A wake-up that it had not used passes on.
    pub fn cancel(&mut self, ticket: QueueTicket) -> CancelledWaiter {
        match self.remove(ticket) {
            Some(waker) => CancelledWaiter::Asleep(waker),
            None => CancelledWaiter::PassOn(mutate!(self.wake_next(), "cancel-drops-wakeup" => None)),
        }
    }

    /// Wakes the first waiter, unless it is awake. For resources that only the first may take.
    #[must_use = "it sleeps until it is woken"]
    pub fn wake_first(&mut self) -> Option<Waker> {
        self.waiters.front_mut().and_then(|first| first.waker.take())
    }

    /// Wakes the first waiter that sleeps. For resources that any waiter may take: one call for each unit.
    #[must_use = "it sleeps until it is woken"]
    pub fn wake_next(&mut self) -> Option<Waker> {
        self.waiters.iter_mut().find_map(|waiter| waiter.waker.take())
    }

    /// Wakes all waiters. They stay in the queue until each has left.
    #[must_use = "they sleep until they are woken"]
    pub fn wake_all(&mut self) -> Vec<Waker> {
        self.waiters.iter_mut().filter_map(|waiter| waiter.waker.take()).collect()
    }

    /// Where the waiter stands.
    fn position(&self, ticket: &QueueTicket) -> usize {
        let at = self.waiters.binary_search_by_key(&ticket.0, |waiter| waiter.ticket);
        at.expect("a ticket is valid until it is given back to its own queue")
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn queue_of(waiters: usize) -> (WaitQueue, Vec<QueueTicket>) {
        let mut queue = WaitQueue::new();
        let tickets = (0..waiters).map(|_| queue.join(Waker::noop().clone()).unwrap()).collect();
        (queue, tickets)
    }

    #[test]
    fn waiters_are_woken_in_order_and_once_per_sleep() {
        let (mut queue, tickets) = queue_of(2);
        assert!(queue.is_first(&tickets[0]) && !queue.is_first(&tickets[1]));
        assert!(queue.wake_first().is_some() && queue.wake_first().is_none());
        assert!(queue.wake_next().is_some() && queue.wake_next().is_none());
        assert!(queue.renew(&tickets[0], Waker::noop().clone()).is_none(), "it was awake");
        assert_eq!(queue.wake_all().len(), 1);
    }

    #[test]
    fn cancelling_an_awake_waiter_passes_its_wakeup_on() {
        let (mut queue, mut tickets) = queue_of(3);
        assert!(queue.wake_first().is_some());
        assert!(matches!(queue.cancel(tickets.remove(0)), CancelledWaiter::PassOn(Some(_))));
        assert!(queue.is_first(&tickets[0]));
        assert!(queue.wake_first().is_none(), "the next one is awake now");
        assert!(matches!(queue.cancel(tickets.remove(1)), CancelledWaiter::Asleep(_)));
        assert!(matches!(queue.cancel(tickets.remove(0)), CancelledWaiter::PassOn(None)));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_served_waiter_keeps_its_wakeup() {
        let (mut queue, mut tickets) = queue_of(2);
        assert!(queue.wake_first().is_some());
        assert!(queue.remove(tickets.remove(0)).is_none());
        assert!(queue.wake_first().is_some(), "the second one still sleeps");
    }

    #[test]
    fn a_full_queue_gives_the_waker_back() {
        let (mut queue, tickets) = queue_of(WaitQueue::MAX_WAITERS);
        assert!(queue.join(Waker::noop().clone()).is_err());
        for ticket in tickets {
            assert!(queue.remove(ticket).is_some());
        }
        assert!(queue.join(Waker::noop().clone()).is_ok());
    }
}
