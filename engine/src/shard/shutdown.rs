//! How a shard ends, in three steps, each as early as it can and all before the deadline:
//!
//! 1. Streams whose ring was closed drain: what was published is sent, and acknowledged where that is
//!    promised.
//! 2. Every session is closed, and stays a moment to repeat that to its peer.
//! 3. Channels, rings, inboxes and sockets are released, the clerk is told, and the shard has stopped. Memory
//!    that the kernel still reads stays the driver's until it is dropped.

use corewire_proto::{session::CloseCode, time::Instant};

use super::{ShardCore, channel::ChannelRole, command::Event, limits::DRAIN_SHARE};
use crate::driver::Driver;

/// How far the shutdown is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardShutdown {
    /// When the shard stops in any case.
    deadline: Instant,
    /// Until when streams may drain. Not after the deadline.
    drain_until: Instant,
    step: ShutdownStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownStep {
    /// Closed rings are sent.
    Draining,
    /// Sessions repeat their close.
    Closing,
    /// Everything was released.
    Stopped,
}

/// Time for the shutdown of a shard whose clerk went away without asking for one: enough to repeat the close
/// of every session.
const ORPHAN_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

impl ShardCore {
    /// Begins the end, which comes before `deadline`. If it has begun already, the earlier deadline holds.
    pub(crate) fn begin_shutdown(&mut self, deadline: Instant) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.deadline = shutdown.deadline.min(deadline);
            shutdown.drain_until = shutdown.drain_until.min(shutdown.deadline);
            return;
        }
        let left = deadline.saturating_since(self.now);
        let drain_until = self.now + left / DRAIN_SHARE.1 * DRAIN_SHARE.0;
        self.shutdown = Some(ShardShutdown { deadline, drain_until, step: ShutdownStep::Draining });
    }

    /// Takes the next step of a shutdown, if one has begun.
    pub(crate) fn step_shutdown(&mut self) {
        if self.shutdown.is_none() && self.commands.is_finished() {
            self.begin_shutdown(self.now + ORPHAN_GRACE);
        }
        let Some(mut shutdown) = self.shutdown else { return };
        if shutdown.step == ShutdownStep::Draining {
            let draining = self.streams.iter().any(|(_, stream)| stream.ring().is_closed());
            if !draining || self.now >= shutdown.drain_until {
                let slots: Vec<_> = self.sessions.iter().map(|(slot, _)| slot).collect();
                for slot in slots {
                    self.close_session(slot, CloseCode::GRACEFUL);
                }
                shutdown.step = ShutdownStep::Closing;
                self.work.did = true;
            }
        }
        if shutdown.step == ShutdownStep::Closing
            && (self.sessions.len() == 0 || self.now >= shutdown.deadline)
        {
            self.release_all(CloseCode::GRACEFUL, None);
            shutdown.step = ShutdownStep::Stopped;
            self.work.did = true;
        }
        self.shutdown = Some(shutdown);
    }

    /// When the shutdown needs its next turn.
    pub(crate) fn shutdown_deadline(&self) -> Option<Instant> {
        let shutdown = self.shutdown?;
        match shutdown.step {
            ShutdownStep::Draining => Some(shutdown.drain_until),
            ShutdownStep::Closing => Some(shutdown.deadline),
            // Only the clerk's mailbox is waited for, which has a retry of its own.
            ShutdownStep::Stopped => None,
        }
    }

    /// Whether everything was released. The clerk may not know yet.
    pub(crate) fn has_stopped(&self) -> bool {
        self.shutdown.is_some_and(|shutdown| shutdown.step == ShutdownStep::Stopped)
    }

    /// Whether nothing is left to do: everything is released, and the clerk was told or the deadline has
    /// passed.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shutdown.is_some_and(|shutdown| {
            shutdown.step == ShutdownStep::Stopped
                && (self.backlog.is_empty() || self.now >= shutdown.deadline)
        })
    }

    /// The driver is broken: no turn can do anything any more. Handles and the clerk learn that this shard is
    /// gone, and it has stopped. One that has stopped already keeps its end.
    pub(crate) fn fail(&mut self, why: String) {
        if self.failure.is_none() && !self.has_stopped() {
            self.failure = Some(why.clone());
            self.release_all(CloseCode::PEER_LOST, Some(why));
            self.backlog.flush();
            let step = ShutdownStep::Stopped;
            self.shutdown = Some(ShardShutdown { deadline: self.now, drain_until: self.now, step });
        }
    }

    /// Releases everything that is left, without sending to any peer, and tells the clerk.
    pub(crate) fn release_all(&mut self, code: CloseCode, failure: Option<String>) {
        let sessions: Vec<_> = self.sessions.iter().map(|(slot, entry)| (slot, entry.index)).collect();
        for (slot, index) in sessions {
            self.end_channels(slot, code, code);
            self.remove_session(slot);
            // At most one for each session: bounded.
            self.backlog.push_anyway(Event::SessionClosed { index, code, by_peer: false });
        }
        // No channel is without a session and no stream without a channel, unless a panic left the tables so.
        for channel in self.channels.drain().collect::<Vec<_>>() {
            self.close_channel(&channel, code);
        }
        for _ in self.streams.drain() {}
        self.by_ring.clear();
        self.polled.clear();
        self.ready.clear();
        self.held_up.clear();
        self.refuse_commands();
        self.backlog.push_anyway(Event::ShardStopped { shard: self.config.id, failure });
    }
}

/// Terminates the channels of a shard that is dropped without a shutdown, so that their handles do not wait.
impl Drop for ShardCore {
    fn drop(&mut self) {
        for channel in self.channels.drain() {
            if let ChannelRole::Consumer(consumer) = &channel.role {
                consumer.inbox.close();
            }
            channel.shared.terminate(CloseCode::PEER_LOST, self.now);
        }
        self.refuse_commands();
    }
}

impl<D: Driver> super::Shard<D> {
    /// The end after a panic in a turn: handles and the clerk learn that this shard is gone.
    pub(crate) fn abandon(&mut self, panic: String) {
        self.core.counters.bump(crate::counters::Counter::Panics);
        self.core.release_all(CloseCode::PEER_LOST, Some(panic));
        self.core.publish_driver(&self.driver);
        self.core.backlog.flush();
    }
}
