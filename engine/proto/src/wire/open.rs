//! The values that open a channel: what a consumer asks for, what a producer grants, what a datum costs.

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
