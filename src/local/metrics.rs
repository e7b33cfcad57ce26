//! The counters of a stream.

use corewire_rings::sync::{Lock, LockGuard};

use crate::local::error::StreamError;

/// The counters of one stream, shared by all its handles.
#[derive(Debug, Default)]
pub struct StreamMetrics(Lock<StreamMetricsSnapshot>);

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
    /// The counters, to be changed. Their `items_pushed` is the number of datums that went in.
    pub(super) fn lock(&self) -> LockGuard<'_, StreamMetricsSnapshot> {
        self.0.lock()
    }

    #[cold]
    pub(super) fn refused(&self, error: &StreamError) {
        let mut counts = self.lock();
        *match error {
            StreamError::Overflow { .. } => &mut counts.fail_overflows,
            StreamError::Backpressure => &mut counts.refused_full,
            StreamError::Cancelled => &mut counts.refused_closed,
            StreamError::TimedOut => &mut counts.timed_out,
            StreamError::MissingDegrader => &mut counts.not_degraded,
            // Of raw channels only.
            StreamError::NotConnected | StreamError::Transport(_) => return,
        } += 1;
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> StreamMetricsSnapshot {
        let mut snapshot = self.lock().clone();
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
