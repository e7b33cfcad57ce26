//! When producer channels that wait for credit ask for it. Each has its own time, so channels that wait for
//! long cost nothing when others begin to wait.
//!
//! Not inside: the channels. A channel knows its next time; an entry with another time is passed over, as is
//! one whose channel is gone.

use alloc::collections::BinaryHeap;
use core::{cmp::Reverse, time::Duration};

use crate::{
    channel::{Label, TxChannel},
    time::Instant,
};

/// The time between two probes grows up to this many times the first.
const MAX_BACKOFF: u32 = 10;

/// When blocked channels ask.
#[derive(Debug, Default)]
pub(super) struct CreditWait {
    /// The earliest first. A channel adds an entry when it has none, or asks earlier than it says.
    due: BinaryHeap<Reverse<(Instant, Label)>>,
}

impl CreditWait {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// A channel became blocked: it asks at `at`, or earlier if that was planned.
    pub(super) fn push(&mut self, channel: &mut TxChannel, at: Instant) {
        channel.probe_backoff = 0;
        if channel.probe_at.is_none_or(|planned| at < planned) {
            self.plan(channel, at);
        }
    }

    /// A channel has asked, and asks again after `interval` or some times as much.
    pub(super) fn push_again(&mut self, channel: &mut TxChannel, now: Instant, interval: Duration) {
        channel.probe_backoff = (channel.probe_backoff * 2).clamp(1, MAX_BACKOFF);
        self.plan(channel, now + interval * channel.probe_backoff);
    }

    fn plan(&mut self, channel: &mut TxChannel, at: Instant) {
        channel.probe_at = Some(at);
        self.due.push(Reverse((at, channel.label())));
    }

    /// The next entry that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Label)> {
        self.poll_timeout().filter(|at| *at <= now)?;
        self.due.pop().map(|Reverse(entry)| entry)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}
