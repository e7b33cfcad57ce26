//! How a shard ends: in order, and in time.
//!
//! Not inside: the thread. The steps, each as early as it can and all before the deadline:
//!
//! 1. Streams whose ring was closed drain: what was published is sent, and acknowledged where that is promised.
//! 2. Every session is closed, and stays a moment to repeat that to its peer.
//! 3. Channels, rings, inboxes and sockets are let go of, the clerk is told, and the shard has stopped. Memory
//!    that the kernel still reads is the driver's care, when it is dropped.

use corewire_proto::{session::CloseCode, time::Instant};

use super::{Core, channel::Role, command::Event, limits::DRAIN_SHARE};
use crate::driver::Driver;

/// How far the end is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    deadline: Instant,
    /// Until when streams may drain.
    drain_until: Instant,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Draining,
    Closing,
    Stopped,
}

/// How long a shard takes to end whose clerk is gone without a word.
const ORPHAN_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

impl Core {
    /// The shard is to end before `deadline`. Asked again, the earlier deadline holds.
    pub(crate) fn begin_ending(&mut self, deadline: Instant) {
        if let Some(ending) = &mut self.ending {
            ending.deadline = ending.deadline.min(deadline);
            ending.drain_until = ending.drain_until.min(ending.deadline);
            return;
        }
        let left = deadline.saturating_since(self.now);
        let drain_until = self.now + left / DRAIN_SHARE.1 * DRAIN_SHARE.0;
        self.ending = Some(Ending { deadline, drain_until, step: Step::Draining });
    }

    /// Goes on with the end, if one was asked for.
    pub(crate) fn step_ending(&mut self) {
        if self.ending.is_none() && self.commands.is_finished() {
            self.begin_ending(self.now + ORPHAN_GRACE);
        }
        let Some(mut ending) = self.ending else { return };
        if ending.step == Step::Draining {
            let draining = self.streams.iter().any(|(_, stream)| stream.ring().is_closed());
            if !draining || self.now >= ending.drain_until {
                let slots: Vec<u32> = self.sessions.slots().collect();
                for slot in slots {
                    self.close_session(slot, CloseCode::GRACEFUL);
                }
                ending.step = Step::Closing;
                self.work.did = true;
            }
        }
        if ending.step == Step::Closing && (self.sessions.len() == 0 || self.now >= ending.deadline) {
            self.let_everything_go(CloseCode::GRACEFUL, None);
            ending.step = Step::Stopped;
            self.work.did = true;
        }
        self.ending = Some(ending);
    }

    /// When the end wants to be looked at again.
    pub(crate) fn ending_wish(&self) -> Option<Instant> {
        let ending = self.ending?;
        match ending.step {
            Step::Draining => Some(ending.drain_until),
            Step::Closing => Some(ending.deadline),
            // Only the clerk's mailbox is waited for, and that has its own wish.
            Step::Stopped => None,
        }
    }

    /// Whether everything was let go of. The clerk may not know yet.
    pub(crate) fn has_stopped(&self) -> bool {
        self.ending.is_some_and(|ending| ending.step == Step::Stopped)
    }

    /// Whether nothing is left to do: all is let go, and the clerk knows or had its time.
    pub(crate) fn is_stopped(&self) -> bool {
        self.ending.is_some_and(|ending| {
            ending.step == Step::Stopped && (self.backlog.is_empty() || self.now >= ending.deadline)
        })
    }

    /// Ends what is still there without another word to any peer, and tells the clerk.
    pub(crate) fn let_everything_go(&mut self, code: CloseCode, panic: Option<String>) {
        let slots: Vec<u32> = self.sessions.slots().collect();
        for slot in slots {
            let index = self.sessions.get(slot).map(|seat| seat.index);
            self.end_channels(slot, code);
            self.vacate(slot);
            if let Some(index) = index {
                // At most one for each session: bounded.
                self.backlog.push_anyway(Event::SessionClosed { index, code });
            }
        }
        // Channels without a session do not exist; streams without a channel neither. This is for a shard whose
        // tables a panic has left in between.
        for channel in self.channels.drain().collect::<Vec<_>>() {
            self.let_go(channel, code);
        }
        for _ in self.streams.drain() {}
        self.by_ring.clear();
        self.awake.clear();
        self.ready.clear();
        self.held_up.clear();
        self.refuse_commands();
        self.backlog.push_anyway(Event::ShardStopped { shard: self.config.id, panic });
    }
}

/// A shard that is dropped without an end in order still leaves nobody waiting.
impl Drop for Core {
    fn drop(&mut self) {
        for channel in self.channels.drain() {
            if let Role::Consumer(consumer) = &channel.role {
                consumer.inbox.close();
            }
            channel.shared.terminate(CloseCode::PEER_LOST);
        }
        self.refuse_commands();
    }
}

impl<D: Driver> super::Shard<D> {
    /// The end without order, after a panic in a turn: whoever waits for this shard learns that it is gone.
    pub(crate) fn abandon(&mut self, panic: String) {
        self.core.counters.bump(crate::counters::Counter::Panics);
        self.core.let_everything_go(CloseCode::PEER_LOST, Some(panic));
        self.core.backlog.flush();
    }
}
