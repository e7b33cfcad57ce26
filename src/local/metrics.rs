//! The counters of a stream.

use crate::counters::{EventCounter, Gauge};
use crate::local::error::StreamError;

/// The counters of one stream, shared by all its handles.
#[derive(Debug, Default)]
pub struct StreamMetrics {
    pub(super) accepted: EventCounter,
    pub(super) delivered: EventCounter,
    pub(super) dropped: EventCounter,
    pub(super) degraded: EventCounter,
    pub(super) paused: EventCounter,
    pub(super) degrader_panics: EventCounter,
    pub(super) cancelled: EventCounter,
    pub(super) waiting: Gauge,
    pub(super) depth: Gauge,
    overflows: EventCounter,
    full: EventCounter,
    closed: EventCounter,
    timed_out: EventCounter,
    not_degraded: EventCounter,
}

/// The counters at one moment.
///
/// They account for every datum that was offered. While no call is under way, exactly:
///
/// `items_pushed = items_delivered + drop_oldest_hits + refused() + cancelled + waiting + depth`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamMetricsSnapshot {
    /// Datums offered. A `push` counts from its first poll on.
    pub items_pushed: u64,
    /// Datums that a consumer took.
    pub items_delivered: u64,
    /// Datums that were dropped to make room, under `drop_oldest` and under `degrade_quality`.
    pub drop_oldest_hits: u64,
    /// Datums that went in degraded.
    pub degrade_quality_hits: u64,
    /// Pushes that had to wait under `pause_upstream`, once each.
    pub pause_upstream_blocks: u64,
    /// Datums refused with [`Overflow`](StreamError::Overflow).
    pub fail_overflows: u64,
    /// Datums refused with [`Backpressure`](StreamError::Backpressure).
    pub refused_full: u64,
    /// Datums refused with [`Cancelled`](StreamError::Cancelled): the stream was closed.
    pub refused_closed: u64,
    /// Datums refused with [`TimedOut`](StreamError::TimedOut).
    pub timed_out: u64,
    /// Datums refused with [`MissingDegrader`](StreamError::MissingDegrader).
    pub not_degraded: u64,
    /// Datums whose `push` was dropped, or that were taken back, while it waited.
    pub cancelled: u64,
    /// Panics of the degrader. Each time the datum went in unchanged.
    pub degrader_panics: u64,
    /// Pushes that wait for room now.
    pub waiting: u64,
    /// Datums in the buffer now.
    pub depth: u64,
}

impl StreamMetrics {
    #[cold]
    pub(super) fn refused(&self, error: &StreamError) {
        let counter = match error {
            StreamError::Overflow { .. } => &self.overflows,
            StreamError::Backpressure => &self.full,
            StreamError::Cancelled => &self.closed,
            StreamError::TimedOut => &self.timed_out,
            StreamError::MissingDegrader => &self.not_degraded,
        };
        counter.add_one();
    }

    /// The counters now. While other threads push and pop, they may stem from moments some instructions
    /// apart.
    #[must_use]
    pub fn snapshot(&self) -> StreamMetricsSnapshot {
        let mut snapshot = StreamMetricsSnapshot {
            items_pushed: self.accepted.get(),
            items_delivered: self.delivered.get(),
            drop_oldest_hits: self.dropped.get(),
            degrade_quality_hits: self.degraded.get(),
            pause_upstream_blocks: self.paused.get(),
            fail_overflows: self.overflows.get(),
            refused_full: self.full.get(),
            refused_closed: self.closed.get(),
            timed_out: self.timed_out.get(),
            not_degraded: self.not_degraded.get(),
            cancelled: self.cancelled.get(),
            degrader_panics: self.degrader_panics.get(),
            waiting: self.waiting.get(),
            depth: self.depth.get(),
        };
        snapshot.items_pushed += snapshot.refused() + snapshot.cancelled + snapshot.waiting;
        snapshot
    }
}

impl StreamMetricsSnapshot {
    /// Datums that were refused, for any reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.fail_overflows + self.refused_full + self.refused_closed + self.timed_out + self.not_degraded
    }

    /// Whether the equation of the type's description holds. Always true while no call is under way.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let taken = self.items_delivered + self.drop_oldest_hits;
        self.items_pushed == taken + self.refused() + self.cancelled + self.waiting + self.depth
    }
}
