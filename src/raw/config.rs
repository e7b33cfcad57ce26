//! The settings of a raw channel, and its names.

use corewire_engine::Reliability;

use crate::id::{PeerId, StreamId};

/// The window of a channel for which none is given, in bytes.
pub const DEFAULT_STREAM_WINDOW_BYTES: u32 = 65_536;

/// The longest payload in bytes, if the window is not smaller: 1 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Bytes that a channel holds at each side, at most.
const MAX_WINDOW_BYTES: usize = 64 << 20;

/// Bytes of window for each payload that it takes.
const BYTES_EACH: usize = 64;

/// Separates the names of raw channels from all other hashes.
const NAME_CONTEXT: &str = "corewire v1 raw channel";

/// What becomes of payloads that wait to be sent when a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseBehavior {
    /// They are delivered; then the peer sees the end. Closing does not wait for that.
    DrainThenClose,
    /// They are dropped at once, and counted in [`StreamStats::undelivered`](super::StreamStats).
    DropAndClose,
}

/// The settings of a raw channel. They are fixed when it is opened: opening the same peer and number with
/// others gives the channel as it is, and logs a warning once.
///
/// ```
/// use corewire::raw::{CloseBehavior, DEFAULT_STREAM_WINDOW_BYTES, Reliability, StreamConfig};
///
/// let config = StreamConfig::new()
///     .with_reliability(Reliability::Reliable)
///     .with_window_bytes(1 << 20)
///     .with_fairness_weight(4)
///     .with_close_behavior(CloseBehavior::DrainThenClose);
/// assert_eq!(StreamConfig::default().window_bytes, DEFAULT_STREAM_WINDOW_BYTES);
/// # assert_eq!(config.fairness_weight, 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// What happens to payloads of this side that the network loses. Default: `FireAndForget`.
    pub reliability: Reliability,
    /// Bytes that may wait at this side to be sent or acknowledged, and likewise bytes that the peer may have
    /// sent and this side has not read. Default: [`DEFAULT_STREAM_WINDOW_BYTES`]. More than 64 MiB counts as
    /// 64 MiB. 0 turns backpressure off: `FireAndForget` then drops the oldest payloads beyond 64 MiB, and
    /// waits while a shard copies those into a packet; `Reliable`, which may drop none, has a window of 64
    /// MiB.
    pub window_bytes: u32,
    /// Share of the session's bandwidth that this side's payloads get, relative to the other channels that
    /// have something to send. 0 counts as 1. Default: 1.
    pub fairness_weight: u8,
    /// What becomes of payloads that wait when this side closes the channel. Default: `DropAndClose`.
    pub close_behavior: CloseBehavior,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            reliability: Reliability::FireAndForget,
            window_bytes: DEFAULT_STREAM_WINDOW_BYTES,
            fairness_weight: 1,
            close_behavior: CloseBehavior::DropAndClose,
        }
    }
}

impl StreamConfig {
    /// Every setting at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`reliability`](Self::reliability).
    #[must_use]
    pub fn with_reliability(mut self, reliability: Reliability) -> Self {
        self.reliability = reliability;
        self
    }

    /// Sets [`window_bytes`](Self::window_bytes); 0 turns backpressure off.
    #[must_use]
    pub fn with_window_bytes(mut self, bytes: u32) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets [`fairness_weight`](Self::fairness_weight); 0 becomes 1.
    #[must_use]
    pub fn with_fairness_weight(mut self, weight: u8) -> Self {
        self.fairness_weight = weight.max(1);
        self
    }

    /// Sets [`close_behavior`](Self::close_behavior).
    #[must_use]
    pub fn with_close_behavior(mut self, behavior: CloseBehavior) -> Self {
        self.close_behavior = behavior;
        self
    }

    /// Whether the oldest payloads make room for new ones.
    pub(super) fn drops_oldest(&self) -> bool {
        self.window_bytes == 0 && self.reliability == Reliability::FireAndForget
    }

    /// Bytes of the ring, and of the window that the peer may fill.
    pub(super) fn room_bytes(&self) -> usize {
        match self.window_bytes {
            0 => MAX_WINDOW_BYTES,
            bytes => (bytes as usize).next_multiple_of(16).min(MAX_WINDOW_BYTES),
        }
    }

    /// Payloads likewise. One less than a power of two for a window that is one, which is what fits a ring's
    /// descriptors best.
    pub(super) fn room_payloads(&self) -> usize {
        (self.room_bytes() / BYTES_EACH).max(16) - 1
    }

    /// The longest payload.
    pub(super) fn max_payload(&self) -> usize {
        self.room_bytes().min(MAX_PAYLOAD_BYTES)
    }
}

/// The number of the channel that `key` names: the same on every host and in every version.
///
/// ```
/// use corewire::raw::stream_id_from_key;
///
/// assert_eq!(stream_id_from_key("telemetry"), stream_id_from_key("telemetry"));
/// assert_ne!(stream_id_from_key("telemetry"), stream_id_from_key("control"));
/// ```
pub fn stream_id_from_key(key: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(key.as_bytes()).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The stream that carries the payloads of channel `number` from one peer to another.
pub(super) fn direction(from: &PeerId, to: &PeerId, number: u64) -> StreamId {
    let mut hasher = blake3::Hasher::new_derive_key(NAME_CONTEXT);
    hasher.update(&from.to_bytes()).update(&to.to_bytes()).update(&number.to_le_bytes());
    StreamId::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_decides_the_room_for_bytes_and_payloads() {
        let room = |bytes| {
            let config = StreamConfig::new().with_window_bytes(bytes);
            (config.room_bytes(), config.room_payloads(), config.max_payload())
        };
        assert_eq!(room(65_536), (65_536, 1_023, 65_536));
        assert_eq!(room(1), (16, 15, 16));
        assert_eq!(room(u32::MAX).2, MAX_PAYLOAD_BYTES);
        assert_eq!(room(0), (MAX_WINDOW_BYTES, (1 << 20) - 1, MAX_PAYLOAD_BYTES));
    }

    #[test]
    fn only_fire_and_forget_without_a_window_drops_the_oldest() {
        let drops = |reliability, bytes| {
            StreamConfig::new().with_reliability(reliability).with_window_bytes(bytes).drops_oldest()
        };
        assert!(drops(Reliability::FireAndForget, 0));
        assert!(!drops(Reliability::FireAndForget, 1) && !drops(Reliability::Reliable, 0));
    }

    #[test]
    fn each_direction_of_each_channel_has_its_stream() {
        let (one, other) = (PeerId::random(), PeerId::random());
        let names = [(one, other, 1), (other, one, 1), (one, other, 2)];
        let names = names.map(|(from, to, number)| direction(&from, &to, number));
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
    }
}
