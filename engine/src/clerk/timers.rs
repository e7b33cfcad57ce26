//! When the clerk wants to look at something again.
//!
//! Not inside: what is looked at. Each thing has at most one deadline, so the table is as large as what it is
//! about; a deadline that fires for something that is gone does nothing.

use std::collections::{BTreeMap, BTreeSet};

use corewire_proto::{PeerId, time::Instant, wire::header::ReceiverIndex};

use crate::shard::NodeId;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A handshake of ours.
    Attempt(NodeId, ReceiverIndex),
    /// Handshakes that others began.
    Responder(NodeId),
    /// A peer that could not be reached, or could not be tried.
    Dial(NodeId, PeerId),
    /// A bootstrap address, by its place.
    Bootstrap(NodeId, usize),
    /// Channels with a peer that is to be judged again.
    Review(NodeId, PeerId),
    /// The slots of a peer's sessions.
    Slots(NodeId, PeerId),
    /// A producer that a subscription waits to try again.
    RetryProducer(NodeId, u64, PeerId),
    /// A verdict about a producer that holds for a time.
    Accepted(NodeId, u64, PeerId),
    /// A verdict about a consumer that holds for a time.
    Admitted(NodeId, u64, u64),
    /// A leg of this engine whose consumer is to be cut off as soon as it does not read in place.
    Detach(u64),
    /// A publication whose ring is full.
    Lagging(NodeId, u64),
    /// The node's own record, and those that have expired.
    Records(NodeId),
    /// Records that a session had no room for.
    Exchange(ReceiverIndex),
    /// A session whose key is due for replacement.
    Rekey(ReceiverIndex),
    /// A node that drains.
    Leave(NodeId),
    /// The engine's end.
    Shutdown,
}

/// The deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Instant, Timer)>,
    at: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Replaces the deadline of `timer`.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.at.insert(timer, at) {
            self.due.remove(&(before, timer));
        }
        self.due.insert((at, timer));
    }

    /// As [`Timers::set`], or forgets it.
    pub(crate) fn set_option(&mut self, timer: Timer, at: Option<Instant>) {
        match at {
            Some(at) => self.set(timer, at),
            None => self.cancel(timer),
        }
    }

    /// Sets the deadline unless there is one already.
    pub(crate) fn set_if_none(&mut self, timer: Timer, at: Instant) {
        if !self.at.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(before) = self.at.remove(&timer) {
            self.due.remove(&(before, timer));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.due.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }

    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_has_one_deadline_and_fires_once() {
        let mut timers = Timers::default();
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        timers.set(Timer::Shutdown, at(10));
        timers.set(Timer::Leave(NodeId(1)), at(7));
        timers.set(Timer::Shutdown, at(5));
        assert_eq!(timers.len(), 2);
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(9)), Some(Timer::Shutdown));
        assert_eq!(timers.pop_due(at(9)), Some(Timer::Leave(NodeId(1))));
        assert_eq!(timers.pop_due(at(99)), None);
        assert_eq!(timers.next(), None);
    }
}
