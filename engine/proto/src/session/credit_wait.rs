//! Producer channels that wait for credit, and when they ask for it.
//!
//! Not inside: the channels. An entry whose channel is gone, or has credit again, leaves with the next probe.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{channel::Label, time::Instant};

/// The time between two probes grows up to this many times the first.
const MAX_BACKOFF: u32 = 10;

/// The list of blocked channels, and its timer.
#[derive(Debug, Default)]
pub(super) struct CreditWait {
    /// Each label at most once; its channel is marked `listed_blocked`.
    labels: Vec<Label>,
    /// When the channels ask; set whenever `labels` is not empty.
    probe_at: Option<Instant>,
    /// The time until the next probe, in units of the configured one; 0 before the first probe.
    backoff: u32,
}

impl CreditWait {
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Adds a channel that is not in the list.
    pub(super) fn push(&mut self, label: Label) {
        debug_assert!(!self.labels.contains(&label), "each channel is listed once");
        if self.labels.is_empty() {
            self.backoff = 0;
        }
        self.labels.push(label);
    }

    /// Asks at `at`, or earlier if that was planned.
    pub(super) fn probe_by(&mut self, at: Instant) {
        self.probe_at = Some(self.probe_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The timer fired: keeps the labels for which `ask` returns `true`, and plans the next probe.
    pub(super) fn probe(&mut self, now: Instant, interval: Duration, ask: impl FnMut(&Label) -> bool) {
        self.labels.retain(ask);
        self.probe_at = None;
        if !self.labels.is_empty() {
            self.backoff = (self.backoff * 2).clamp(1, MAX_BACKOFF);
            self.probe_at = Some(now + interval * self.backoff);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }
}
