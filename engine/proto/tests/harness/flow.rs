//! What a channel carries: the bytes of each datum are a function of its flow and its sequence.

use corewire_proto::channel::Reliability;
use corewire_testkit::SplitMix64;

/// What a channel carries and how its consumer behaves.
#[derive(Clone, Debug)]
pub struct Flow {
    pub reliability: Reliability,
    pub window_bytes: u64,
    pub window_datums: u64,
    pub max_datum: u32,
    pub first_seq: u64,
    pub datums: u64,
    /// Length of each datum, by sequence.
    pub length: fn(u64) -> usize,
    /// Per thousand datums that the producer's criteria leave out.
    pub skip: u64,
    /// Datums that the application takes per tick.
    pub take: u64,
    pub weight: u8,
    /// The producer's ring holds this many datums; older ones are overwritten (drop oldest) when it is not 0.
    pub overwrite: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            reliability: Reliability::Reliable,
            window_bytes: 65_536,
            window_datums: 0,
            max_datum: 1 << 20,
            first_seq: 0,
            datums: 500,
            length: |seq| (seq * 37 % 300) as usize,
            skip: 0,
            take: 50,
            weight: 1,
            overwrite: 0,
        }
    }
}

pub fn mix(a: u64, b: u64) -> u64 {
    SplitMix64::new(a.wrapping_mul(0x1_0000_01b3) ^ b).next_u64()
}

/// The bytes of a datum, different for each.
pub fn content(flow: u64, seq: u64, len: usize) -> Vec<u8> {
    let mut rng = SplitMix64::new(mix(flow, seq));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub fn is_skipped(flow: u64, config: &Flow, seq: u64) -> bool {
    config.skip > 0 && mix(flow ^ 0x55, seq) % 1000 < config.skip
}
