//! Limits on the bytes that leave: one for a publication, one for a node.
//!
//! All shards that send under a limit share it, so it is exact over all of them. It is one number, and it is
//! touched once or twice for each pass of a limited channel, never for a datum.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use corewire_proto::time::Instant;

/// How long a limit may have been unused and still be used afterwards: the burst. Above the time by which a
/// shard may wake too late.
const BURST: Duration = Duration::from_millis(10);

/// What has to wait waits at least this long, so that one wake-up serves several packets. Far below
/// [`BURST`], so it costs no throughput.
const PAUSE: Duration = Duration::from_millis(1);

/// A rate that is not exceeded: at any time at most what it gives in that time, the burst of 10 ms, and one
/// turn of each channel. A virtual clock of the link's occupation (GCRA, ITU-T I.371).
#[derive(Debug)]
pub(crate) struct EgressLimit {
    bytes_per_second: NonZeroU64,
    /// When everything that was booked has left at this rate, in nanoseconds of the shards' clock. A time in
    /// the past means the same as now.
    occupied_until: AtomicU64,
}

impl EgressLimit {
    pub(crate) fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, occupied_until: AtomicU64::new(0) }
    }

    /// Nanoseconds that `bytes` take, rounded up.
    fn nanos(&self, bytes: u64) -> u64 {
        let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.bytes_per_second.get()));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Books `bytes` and returns when they may leave.
    fn book(&self, now: Instant, bytes: u64) -> Instant {
        let until = self.occupy(now, self.nanos(bytes));
        let at = Instant::from_nanos(until.max(now.as_nanos())) - BURST;
        if at <= now { now } else { at.max(now + PAUSE) }
    }

    /// Of `booked` bytes `sent` were sent.
    fn settle(&self, now: Instant, booked: u64, sent: u64) {
        if sent > booked {
            self.occupy(now, self.nanos(sent - booked));
        } else if sent < booked {
            let back = self.nanos(booked - sent);
            let update = |until: u64| Some(until.saturating_sub(back));
            let _ = self.occupied_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        }
    }

    /// Occupies the link for `nanos` more; returns until when it was occupied before.
    fn occupy(&self, now: Instant, nanos: u64) -> u64 {
        let update = |until: u64| Some(until.max(now.as_nanos()).saturating_add(nanos));
        match self.occupied_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(until) | Err(until) => until,
        }
    }
}

/// The limits under which a channel sends; it needs room under each.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    /// The publication's.
    pub(crate) stream: Option<Arc<EgressLimit>>,
    /// The node's.
    pub(crate) node: Option<Arc<EgressLimit>>,
    /// What the channel has booked and not yet settled. Written by its shard only.
    pub(crate) booked: AtomicU64,
}

impl Egress {
    fn limits(&self) -> impl Iterator<Item = &EgressLimit> {
        [&self.stream, &self.node].into_iter().flatten().map(Arc::as_ref)
    }

    /// Whether there is any.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits().next().is_some()
    }

    /// Books `bytes` under each limit and returns when they may leave.
    pub(crate) fn book(&self, now: Instant, bytes: u64) -> Instant {
        self.booked.store(bytes, Ordering::Relaxed);
        self.limits().map(|limit| limit.book(now, bytes)).max().unwrap_or(now)
    }

    /// Of `booked` bytes `sent` were sent.
    pub(crate) fn settle(&self, now: Instant, booked: u64, sent: u64) {
        self.booked.store(0, Ordering::Relaxed);
        self.limits().for_each(|limit| limit.settle(now, booked, sent));
    }

    /// The channel has ended: gives back what it had booked.
    pub(crate) fn forget(&self) {
        let booked = self.booked.swap(0, Ordering::Relaxed);
        self.limits().for_each(|limit| limit.settle(Instant::ZERO, booked, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> EgressLimit {
        EgressLimit::new(NonZeroU64::new(1_000_000).unwrap())
    }

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1_000)
    }

    #[test]
    fn bookings_are_served_in_turn_at_the_rate() {
        let limit = limit();
        // The burst: ten milliseconds.
        assert_eq!(limit.book(at(1_000), 10_000), at(1_000));
        assert_eq!(limit.book(at(1_000), 2_000), at(1_000));
        assert_eq!(limit.book(at(1_000), 3_000), at(3_000));
        assert_eq!(limit.book(at(1_000), 1), at(6_000));
    }

    #[test]
    fn what_was_not_sent_is_given_back_and_more_is_charged() {
        let limit = limit();
        limit.book(at(0), 30_000);
        limit.settle(at(0), 30_000, 12_000);
        assert_eq!(limit.book(at(0), 0), at(2_000));
        limit.settle(at(0), 1_000, 4_000);
        assert_eq!(limit.book(at(0), 0), at(5_000));
    }

    #[test]
    fn channel_that_ends_gives_back_what_it_had_booked() {
        let stream = Arc::new(limit());
        let egress = Egress { stream: Some(stream.clone()), ..Egress::default() };
        egress.book(at(0), 30_000);
        egress.forget();
        egress.forget();
        assert_eq!(stream.book(at(0), 0), at(0));
        egress.book(at(0), 30_000);
        egress.settle(at(0), 30_000, 30_000);
        egress.forget();
        assert_eq!(stream.book(at(0), 0), at(20_000), "what was sent stays charged");
    }

    #[test]
    fn time_without_use_gives_no_more_than_the_burst() {
        let limit = limit();
        limit.book(at(0), 5_000);
        assert_eq!(limit.book(at(1_000_000), 10_000), at(1_000_000));
        assert_eq!(limit.book(at(1_000_000), 1_000), at(1_000_000));
        assert_eq!(limit.book(at(1_000_000), 1), at(1_001_000));
    }

    #[test]
    fn extreme_rates_and_sizes_do_not_overflow() {
        for rate in [NonZeroU64::MIN, NonZeroU64::MAX] {
            let limit = EgressLimit::new(rate);
            for bytes in [0, 1, u64::MAX] {
                limit.book(Instant::FAR_FUTURE, bytes);
                limit.settle(at(5), bytes, bytes / 2);
            }
        }
    }
}
