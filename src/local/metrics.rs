//! The counters of a stream.

use corewire_engine::rings::Ring;

use crate::local::error::StreamError;
use crate::streams::cells::{Gauge, Tally};

/// The counters of one stream, shared by all its handles.
#[derive(Debug)]
pub struct StreamMetrics {
    /// Counts what was accepted and what is in there, without a shared write for each datum.
    ring: Ring,
    pub(super) delivered: Tally,
    pub(super) dropped: Tally,
    pub(super) degraded: Tally,
    pub(super) paused: Tally,
    pub(super) undecodable: Tally,
    pub(super) decode_panics: Tally,
    pub(super) degrader_panics: Tally,
    pub(super) cancelled: Tally,
    pub(super) waiting: Gauge,
    overflows: Tally,
    full: Tally,
    closed: Tally,
    timed_out: Tally,
    too_large: Tally,
    unencodable: Tally,
    not_degraded: Tally,
}

/// What the counters said at one moment.
///
/// Every datum that was offered is somewhere. While no call is under way, exactly:
///
/// `items_pushed = items_delivered + drop_oldest_hits + undecodable + refused() + cancelled + waiting + depth`
///
/// The names of the first six are those of the interface that this stream took over; the others close the sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamMetricsSnapshot {
    /// Datums offered, whatever became of them. A `push` counts from its first poll on.
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
    /// Datums refused with [`TooLarge`](StreamError::TooLarge).
    pub too_large: u64,
    /// Datums refused with [`Encoding`](StreamError::Encoding).
    pub unencodable: u64,
    /// Datums refused with [`MissingDegrader`](StreamError::MissingDegrader) or
    /// [`DegraderPanicked`](StreamError::DegraderPanicked).
    pub not_degraded: u64,
    /// Datums whose `push` was dropped, or that were taken back, while it waited.
    pub cancelled: u64,
    /// Datums that were taken but did not decode. They are lost; the next one was given instead.
    pub undecodable: u64,
    /// How many of `undecodable` panicked.
    pub decode_panics: u64,
    /// How often the degrader panicked.
    pub degrader_panics: u64,
    /// Pushes that wait for room now.
    pub waiting: u64,
    /// Datums in the buffer now.
    pub depth: u64,
}

impl StreamMetrics {
    pub(super) fn new(ring: Ring) -> Self {
        Self {
            ring,
            delivered: Tally::default(),
            dropped: Tally::default(),
            degraded: Tally::default(),
            paused: Tally::default(),
            undecodable: Tally::default(),
            decode_panics: Tally::default(),
            degrader_panics: Tally::default(),
            cancelled: Tally::default(),
            waiting: Gauge::default(),
            overflows: Tally::default(),
            full: Tally::default(),
            closed: Tally::default(),
            timed_out: Tally::default(),
            too_large: Tally::default(),
            unencodable: Tally::default(),
            not_degraded: Tally::default(),
        }
    }

    #[cold]
    pub(super) fn refused(&self, error: &StreamError) {
        let tally = match error {
            StreamError::Overflow { .. } => &self.overflows,
            StreamError::Cancelled => &self.closed,
            StreamError::TimedOut => &self.timed_out,
            StreamError::TooLarge { .. } => &self.too_large,
            StreamError::Encoding(_) => &self.unencodable,
            StreamError::MissingDegrader | StreamError::DegraderPanicked => &self.not_degraded,
            StreamError::Backpressure | StreamError::NotConnected | StreamError::Transport(_) => &self.full,
        };
        tally.add_one();
    }

    /// The counters now. A snapshot: while others push and pop, its parts may stem from moments that are some
    /// instructions apart.
    #[must_use]
    pub fn snapshot(&self) -> StreamMetricsSnapshot {
        let mut snapshot = StreamMetricsSnapshot {
            items_pushed: 0,
            items_delivered: self.delivered.get(),
            drop_oldest_hits: self.dropped.get(),
            degrade_quality_hits: self.degraded.get(),
            pause_upstream_blocks: self.paused.get(),
            fail_overflows: self.overflows.get(),
            refused_full: self.full.get(),
            refused_closed: self.closed.get(),
            timed_out: self.timed_out.get(),
            too_large: self.too_large.get(),
            unencodable: self.unencodable.get(),
            not_degraded: self.not_degraded.get(),
            cancelled: self.cancelled.get(),
            undecodable: self.undecodable.get(),
            decode_panics: self.decode_panics.get(),
            degrader_panics: self.degrader_panics.get(),
            waiting: self.waiting.get(),
            depth: self.ring.len() as u64,
        };
        let accepted = self.ring.tail();
        snapshot.items_pushed = accepted + snapshot.refused() + snapshot.cancelled + snapshot.waiting;
        snapshot
    }
}

impl StreamMetricsSnapshot {
    /// Datums that were refused, for whatever reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.fail_overflows
            + self.refused_full
            + self.refused_closed
            + self.timed_out
            + self.too_large
            + self.unencodable
            + self.not_degraded
    }

    /// Whether the sum of the type's description closes. Always true while no call is under way.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let taken = self.items_delivered + self.drop_oldest_hits + self.undecodable;
        self.items_pushed == taken + self.refused() + self.cancelled + self.waiting + self.depth
    }
}
