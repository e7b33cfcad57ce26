//! Counters of a channel.

use crate::time::Instant;

/// Counters of one end of a channel. They start at 0 when the channel opens and only grow, except those
/// marked as levels. The producer's end leaves the consumer's fields at 0, and the other way round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChannelStats {
    /// Producer: the sequence to be sent next.
    pub tx_seq: u64,
    /// Consumer: one past the highest sequence seen.
    pub rx_seq: u64,
    /// Producer: one past the last sequence that may be sent.
    pub published: u64,
    /// Producer: every sequence below is acknowledged (Reliable) or sent (FireAndForget).
    pub released: u64,
    /// Consumer: every sequence below was delivered, skipped or lost.
    pub in_order: u64,
    /// Producer: datums sent for the first time.
    pub tx_datums: u64,
    /// Producer: their bytes.
    pub tx_bytes: u64,
    /// Consumer: datums delivered to the sink.
    pub rx_datums: u64,
    /// Consumer: their bytes.
    pub rx_bytes: u64,
    /// Producer: times that the channel had data and no credit.
    pub backpressure_events: u64,
    /// Producer: bytes of credit left (a level); `u64::MAX` when the consumer set no limit.
    pub tx_credit_remaining: u64,
    /// The window in bytes that the consumer asked for; 0 means no limit.
    pub tx_window: u64,
    /// Producer: CREDIT frames that raised the limit.
    pub credit_grants_received: u64,
    /// Consumer: CREDIT frames sent.
    pub credit_grants_sent: u64,
    /// Producer: whether it waits for credit (a level).
    pub blocked: bool,
    /// Producer: times that the channel had something to send and waited for what it had booked.
    pub paced: u64,
    /// Producer: how long it waited for that, in nanoseconds. The present wait is not included.
    pub paced_ns: u64,
    /// Producer: since when it waits for that (a level).
    pub paced_since: Option<Instant>,
    /// Producer: datums (whole ones, or first fragments) sent again.
    pub resends: u64,
    /// Producer: sequences skipped because the source no longer had them.
    pub tx_skipped: u64,
    /// Consumer: sequences that the producer skipped.
    pub rx_skipped: u64,
    /// Producer: sequences that the consumer did not ask for.
    pub tx_filtered: u64,
    /// Consumer: sequences that it did not ask for.
    pub rx_filtered: u64,
    /// Consumer: those of them behind the last datum that was delivered (a level).
    pub filtered_at_end: u64,
    /// Consumer: sequences lost on the way (FireAndForget only).
    pub lost: u64,
    /// Consumer: gaps of lost sequences.
    pub gaps: u64,
    /// Consumer: datums dropped because they arrived after a later one (FireAndForget only).
    pub dropped_late: u64,
    /// Consumer: datums or fragments dropped because they had arrived before.
    pub dropped_duplicate: u64,
    /// Consumer: bytes held until a missing sequence arrives (a level).
    pub held_bytes: u64,
}
