//! The counters of a channel, or of a whole consumer.

use core::fmt;
use core::time::Duration;

use super::consumer::LegStats;

/// Counters of a channel, or of a whole consumer. A snapshot: it does not change. A counter that does not
/// apply is 0.
///
/// ```
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let mut consumer = network.streams().consume::<u64>();
/// network.streams().produce::<u64>().send_blocking(7)?;
/// assert_eq!(consumer.recv_blocking(), Some(7));
/// let stats = consumer.stats();
/// assert_eq!((stats.datums(), stats.skipped(), stats.filtered(), stats.undecodable()), (1, 0, 0, 0));
/// println!("{stats}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub(super) datums: u64,
    pub(super) bytes: u64,
    pub(super) uptime: Option<Duration>,
    pub(super) lag: u64,
    pub(super) skipped: u64,
    pub(super) filtered: u64,
    pub(super) dropped_oldest: u64,
    pub(super) skipped_at_close: u64,
    pub(super) missed_while_away: u64,
    pub(super) resent: u64,
    pub(super) duplicates: u64,
    pub(super) credit_bytes: u64,
    pub(super) blocked: u64,
    pub(super) paced: u64,
    pub(super) paced_for: Duration,
    pub(super) undecodable: u64,
    pub(super) restarts: u64,
    pub(super) predicate_panics: u64,
}

impl Stats {
    /// The counters of a consumer, over all its channels.
    pub(super) fn of_consumer(
        taken: &LegStats,
        lag: u64,
        uptime: Option<Duration>,
        predicate_panics: u64,
    ) -> Self {
        let LegStats { datums, bytes, skipped, filtered, undecodable, restarts } = *taken;
        let counted = Self { datums, bytes, skipped, filtered, undecodable, restarts, ..Self::default() };
        Self { lag, uptime, predicate_panics, ..counted }
    }

    /// Datums that have passed:
    ///
    /// | of | counts datums |
    /// |---|---|
    /// | a channel between engines, at the producer | sent for the first time |
    /// | a channel between engines, at the consumer | that arrived in order |
    /// | a channel within an engine, either end | taken by the application |
    /// | a consumer | taken by the application |
    pub fn datums(&self) -> u64 {
        self.datums
    }

    /// Encoded bytes of those datums, without headers.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long the channel is, or was, connected; `None` if it never was. Of a consumer: of the channel that
    /// has been connected longest.
    pub fn uptime(&self) -> Option<Duration> {
        self.uptime
    }

    /// Datums that the producer has accepted for this channel and that are not yet acknowledged (between
    /// engines) or not yet taken. Of a consumer: that have arrived and are not yet taken.
    pub fn lag(&self) -> u64 {
        self.lag
    }

    /// Datums that will never be delivered: lost without being sent again, or dropped by policy.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Datums that the consumer's [criteria](crate::streams::Criteria) do not want, at either end. No other
    /// number includes them. Within an engine they are counted when the consumer looks for its next datum.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Of a channel: datums that the producer's policy dropped to make room. Counted when the gap is seen: by
    /// a shard when it reaches the place, within an engine when the consumer takes the next datum. Between
    /// engines, sequence numbers whose claim the producer abandoned count here too.
    pub fn dropped_oldest(&self) -> u64 {
        self.dropped_oldest
    }

    /// Of a channel that lost its place in the producer's ring, for instance as too slow: datums that were
    /// accepted for it and not taken (within an engine) or not acknowledged (between engines, at the
    /// producer). Datums in flight at that moment may still have arrived.
    pub fn skipped_at_close(&self) -> u64 {
        self.skipped_at_close
    }

    /// Of a channel between engines, at the producer's end: datums that the consumer missed between its
    /// channels so far, exactly as it was told. All consumers together:
    /// [`Stats::missed_while_away`](crate::streams::producer::Stats::missed_while_away).
    pub fn missed_while_away(&self) -> u64 {
        self.missed_while_away
    }

    /// Datums sent again after a loss; at the producer's end.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Datums that arrived again and were dropped; at the consumer's end.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Bytes that may be sent before the consumer takes something; at the producer's end of a channel between
    /// engines. `u64::MAX`: no limit ([`with_window_bytes(0)`]).
    ///
    /// [`with_window_bytes(0)`]: crate::streams::consumer::Builder::with_window_bytes
    pub fn credit_bytes(&self) -> u64 {
        self.credit_bytes
    }

    /// Times that there was a datum to send and no credit; at the producer's end of a channel between
    /// engines.
    pub fn blocked(&self) -> u64 {
        self.blocked
    }

    /// Times that a [limit of the bandwidth](crate::streams::producer::Builder::with_max_bandwidth) held the
    /// channel back; at the producer's end of a channel between engines.
    pub fn paced(&self) -> u64 {
        self.paced
    }

    /// For how long it did so, in total; a present wait is added when it ends.
    pub fn paced_for(&self) -> Duration {
        self.paced_for
    }

    /// Of a consumer: records that did not decode as its type and were skipped.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Of a consumer: gaps of unknown size. Each is a producer that came back and does not know any more
    /// where this consumer stopped, most often because it was restarted.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Of a consumer: panics of the predicates given to `online_when` and `require`. Each time, the condition
    /// counted as not met, or the producer as not wanted.
    pub fn predicate_panics(&self) -> u64 {
        self.predicate_panics
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uptime {
            Some(uptime) => write!(f, "uptime: {uptime:.1?}")?,
            None => f.write_str("uptime: none")?,
        }
        write!(f, ", datums: {}, bytes: {}", self.datums, self.bytes)?;
        for (count, what) in [
            (self.lag, "lag"),
            (self.skipped, "skipped"),
            (self.filtered, "filtered"),
            (self.skipped_at_close, "skipped at close"),
            (self.missed_while_away, "missed while away"),
            (self.resent, "resent"),
            (self.duplicates, "duplicates"),
            (self.blocked, "blocked"),
            (self.paced, "paced"),
            (self.undecodable, "undecodable"),
            (self.restarts, "restarts"),
            (self.predicate_panics, "panics of predicates"),
        ] {
            if count > 0 {
                write!(f, ", {what}: {count}")?;
            }
        }
        Ok(())
    }
}
