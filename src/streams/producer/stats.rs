//! The counters of a producer.

use core::fmt;

/// Counters of a producer: all its handles together. A snapshot; the numbers are read one after the other.
///
/// Once no send or claim is under way, [`offered`](Self::offered) is the number of datums that were given to
/// a sending method, or for which room was claimed. Of a slice it counts those that were tried: not the ones
/// behind a datum that was refused or withdrawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datums that entered the ring.
    pub accepted: u64,
    /// Datums refused because the ring was full.
    pub refused_full: u64,
    /// Datums refused because the producer was offline.
    pub refused_offline: u64,
    /// Datums refused because the producer was closed.
    pub refused_closed: u64,
    /// Datums refused because they were longer than the stream carries.
    pub too_large: u64,
    /// Datums refused because they could not be encoded.
    pub unencodable: u64,
    /// Datums withdrawn: their future was dropped before it resolved, or their claim before it was committed.
    pub cancelled: u64,
    /// Accepted datums that the degrader made cheaper first, under `DegradeQuality`.
    pub degraded: u64,
    /// Datums evicted to make room, under the policies that drop. A datum counts once per reader that loses
    /// it: a consumer on this engine, or a shard that serves consumers on others. What one channel lost is in
    /// its own [`Stats`](crate::streams::Stats::dropped_oldest).
    ///
    /// The ring evicts sequence numbers. A number without a datum counts too: that of a claim that was given
    /// up, or of a datum whose encoding failed after its room was claimed.
    pub dropped_oldest: u64,
    /// Datums that were accepted for consumers on other engines and not acknowledged by them when their
    /// places in the ring were given up, summed over consumers. Those on their way at that moment may still
    /// have arrived. After [`discard`](crate::Producer::discard) also what consumers on this engine had not
    /// taken. Of one consumer: [`Stats::skipped_at_close`](crate::streams::Stats::skipped_at_close).
    pub skipped_at_close: u64,
    /// Datums that consumers on other engines missed while they were not connected, summed over those that
    /// came back: exactly what they were told as missing. It counts the datums of
    /// [`skipped_at_close`](Self::skipped_at_close) that did not arrive, and those that were accepted after
    /// it, until the consumer was back.
    pub missed_while_away: u64,
    /// Times that a consumer on another engine went on where its last connection had stopped.
    pub resumed: u64,
    /// Panics of the degrader; each time, the datum was sent as it was.
    pub degrader_panics: u64,
    /// Accepted datums that no consumer wanted, given to the undelivered sink.
    pub undelivered: u64,
    /// Accepted datums that no consumer wanted and that the undelivered sink did not take.
    pub undelivered_lost: u64,
    /// Datums in the ring that at least one consumer has not taken.
    pub in_ring: u64,
    /// Datums that the ring holds at most.
    pub capacity: u64,
    /// Panics of the predicates given to `online_when` and `require`; each time, the condition counted as not
    /// met, or the consumer as not wanted.
    pub predicate_panics: u64,
    /// Consumers connected, each time.
    pub consumers_admitted: u64,
    /// Consumers refused or disconnected because `require` or `require_ticket` does not let them in.
    pub consumers_not_allowed: u64,
    /// Consumers refused because they ask for another datum type, or use another codec.
    pub consumers_type_mismatch: u64,
    /// Consumers refused because their criteria do not fit the keys of this stream.
    pub consumers_criteria_mismatch: u64,
    /// Consumers refused because of `max_consumers`, or of a limit of the node.
    pub consumers_no_capacity: u64,
    /// Consumers disconnected because they kept the ring full.
    pub consumers_too_slow: u64,
}

impl Stats {
    /// Datums that a sending method tried: accepted, refused for any reason, or withdrawn.
    pub fn offered(&self) -> u64 {
        self.accepted
            + self.refused_full
            + self.refused_offline
            + self.refused_closed
            + self.too_large
            + self.unencodable
            + self.cancelled
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted: {}, refused: {} full, {} offline, {} closed, {} too large, {} unencodable, cancelled: {}, \
             degraded: {}, dropped for room: {}, skipped at close: {}, missed while away: {}, \
             resumed: {}, undelivered: {} and {} lost, ring: {} of {}, consumers: {} admitted, \
             refused: {} not allowed, {} of another type, {} with other keys, {} without room, \
             {} disconnected as too slow, panics: {} of predicates, {} of the degrader",
            self.accepted,
            self.refused_full,
            self.refused_offline,
            self.refused_closed,
            self.too_large,
            self.unencodable,
            self.cancelled,
            self.degraded,
            self.dropped_oldest,
            self.skipped_at_close,
            self.missed_while_away,
            self.resumed,
            self.undelivered,
            self.undelivered_lost,
            self.in_ring,
            self.capacity,
            self.consumers_admitted,
            self.consumers_not_allowed,
            self.consumers_type_mismatch,
            self.consumers_criteria_mismatch,
            self.consumers_no_capacity,
            self.consumers_too_slow,
            self.predicate_panics,
            self.degrader_panics,
        )
    }
}
