//! What the two ends of a channel agree on, and what they count.

use alloc::vec::Vec;

use crate::ids::StreamId;

/// What happens to a datum that the network lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Reliability {
    /// Nothing: the sequence shows the gap, and its size is reported.
    FireAndForget,
    /// It is sent again. In order, no hole, no duplicate, or the channel is closed with a reason.
    #[default]
    Reliable,
}

/// What a consumer asks of a producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenRequest {
    /// The stream.
    pub stream_id: StreamId,
    /// What the consumer wants; the producer may grant less.
    pub reliability: Reliability,
    /// Bytes that may wait for the application, each datum costing [`datum_cost`]. Zero: the application's
    /// slowness never stops the producer.
    pub window_bytes: u64,
    /// Datums that may wait for the application. Zero: no limit by number.
    pub window_datums: u64,
    /// The largest datum that the consumer takes, in bytes.
    pub max_datum_bytes: u32,
    /// The consumer's wish for its weight in the producer's scheduler; the producer decides. The engine's producers
    /// do not heed it: the publication sets the weight.
    pub weight: u8,
    /// Which datums it wants; opaque here. Empty: all of them. The engine's producers can't choose, and refuse
    /// anything else with `NOT_ALLOWED` rather than send what was not asked for.
    pub criteria: Vec<u8>,
    /// What it shows to be let in; opaque here.
    pub tickets: Vec<Vec<u8>>,
}

/// What a producer answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accept {
    /// The first sequence that the consumer will get; everything before never existed for it.
    pub first_seq: u64,
    /// The largest datum that the producer will send, in bytes. The inbox needs room for the window and one of
    /// these.
    pub max_datum_bytes: u32,
    /// What the channel does about loss: not more than was asked for.
    pub reliability: Reliability,
    /// The channel's share in the producer's scheduler, at least 1. Not sent.
    pub weight: u8,
}

/// What a datum of `len` bytes costs in a channel's offset space and in an inbox.
pub const fn datum_cost(len: usize) -> u64 {
    let rounded = (len as u64).next_multiple_of(16);
    if rounded < 16 { 16 } else { rounded }
}

/// What a channel counted. All counters start at zero when the channel opens and only grow, unless the text says
/// otherwise. A producer's channel leaves the consumer's fields at zero and the other way round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChannelStats {
    /// Producer: the sequence that will be sent next.
    pub tx_seq: u64,
    /// Consumer: one past the highest sequence seen.
    pub rx_seq: u64,
    /// Producer: one past the last sequence that may be sent.
    pub published: u64,
    /// Producer: everything below is acknowledged or, on FireAndForget, sent.
    pub released: u64,
    /// Consumer: everything below was delivered, skipped or given up.
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
    /// The window in bytes that the consumer asked for; zero means no limit.
    pub tx_window: u64,
    /// Producer: credit frames that raised the limit.
    pub credit_grants_received: u64,
    /// Consumer: credit frames sent.
    pub credit_grants_sent: u64,
    /// Producer: whether it waits for credit now (a level).
    pub blocked: bool,
    /// Producer: datums (whole ones, or first fragments) sent again.
    pub resends: u64,
    /// Producer: sequences skipped because the source no longer had them or filtered them.
    pub tx_skipped: u64,
    /// Consumer: sequences that the producer said it skipped.
    pub rx_skipped: u64,
    /// Consumer: sequences lost on the way (FireAndForget only).
    pub lost: u64,
    /// Consumer: times that a gap of lost sequences was seen.
    pub gaps: u64,
    /// Consumer: datums dropped because they came after a later one (FireAndForget only).
    pub dropped_late: u64,
    /// Consumer: datums or fragments dropped because they were there already.
    pub dropped_duplicate: u64,
    /// Consumer: bytes held because something before them is missing (a level).
    pub held_bytes: u64,
}
