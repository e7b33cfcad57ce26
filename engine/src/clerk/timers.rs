//! The deadlines of the clerk.
//!
//! Each timer has at most one deadline, so the table is as large as what it is about. A timer that fires for
//! something that is gone does nothing.

use corewire_proto::{
    PeerId,
    ordered::{OrderedMap, OrderedSet},
    time::Instant,
    wire::header::ReceiverIndex,
};

use crate::{
    shard::NodeId,
    shared::keys::{InboundKey, LegKey, OutboundKey, PublicationKey, SubscriptionKey},
};

/// What has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A handshake that was begun here is to be repeated, or given up.
    Attempt(NodeId, ReceiverIndex),
    /// Handshakes that peers began are to be forgotten.
    Responder(NodeId),
    /// A peer is to be dialled again.
    Dial(NodeId, PeerId),
    /// A bootstrap address, by its place, is to be dialled again.
    Bootstrap(NodeId, usize),
    /// Channels with a peer are to be judged again.
    Review(NodeId, PeerId),
    /// The protocol's slots for the sessions with a peer.
    Slots(NodeId, PeerId),
    /// A producer is to be tried again.
    RetryProducer(InboundKey),
    /// A producer has not answered a request for a channel.
    Unanswered(InboundKey),
    /// A subscription is to choose among its producers.
    Rank(SubscriptionKey),
    /// A verdict about a producer ends.
    Accepted(InboundKey),
    /// A verdict about a consumer ends.
    Admitted(OutboundKey),
    /// The verdict about a consumer ends that was refused by this publication.
    Refused(PublicationKey),
    /// A local consumer is to be cut off as soon as it does not read in place.
    Detach(LegKey),
    /// A full ring is to be checked.
    Lagging(PublicationKey),
    /// Places of absent consumers are to be given up.
    Places(PublicationKey),
    /// The node's record is to be made anew, and expired ones are to be forgotten.
    Records(NodeId),
    /// The membership protocol of a node has something to do.
    Members(NodeId),
    /// Records and tickets wait to be sent on a session.
    Exchange(ReceiverIndex),
    /// The key of a session is to be replaced.
    Rekey(ReceiverIndex),
    /// A node that leaves is to be checked.
    Leave(NodeId),
    /// The engine's end is to go on.
    Shutdown,
}

/// The deadlines.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Every deadline of `at`, in order.
    due: OrderedSet<(Instant, Timer)>,
    at: OrderedMap<Timer, Instant>,
}

impl Deadlines {
    /// Replaces the deadline of `timer`.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.at.insert(timer, at) {
            self.due.remove(&(before, timer));
        }
        self.due.insert((at, timer));
    }

    /// Sets the deadline unless there is one already.
    pub(crate) fn ensure(&mut self, timer: Timer, at: Instant) {
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
        let mut timers = Deadlines::default();
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

    #[test]
    fn ensure_keeps_the_deadline_that_is_there() {
        let mut timers = Deadlines::default();
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        timers.ensure(Timer::Shutdown, at(10));
        timers.ensure(Timer::Shutdown, at(5));
        assert_eq!(timers.next(), Some(at(10)));
    }
}
