//! The bounds of a session, and what they cost.

use core::time::Duration;

use super::{SessionEvent, control::CONTROL_WINDOW_BYTES};
use crate::{
    channel::{RxChannel, SentFrame, TxChannel},
    congestion::Congestion,
    seal::{KEY_SOFT_AGE, KeyLimits, Suite},
    wire::frames::message::SMALL_MESSAGE_BYTES,
};

/// How a session behaves and what it may use. Both peers may differ in every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Largest packet to send, in bytes of UDP payload: header, frames and tag. Clamped to
    /// [`MIN_PACKET_BYTES`]..=[`crate::seal::MAX_SEALED_BYTES`]. Any size is received.
    pub max_packet_bytes: usize,
    /// A session without channels and control messages closes with `IDLE` after this time.
    pub idle_timeout: Duration,
    /// A ping is sent when nothing was heard for this long. A quarter of `dead_after` or less, so that losing one
    /// does not look like death.
    pub keepalive: Duration,
    /// The session closes with `PEER_LOST` when nothing was heard for this long although something is waiting for
    /// an acknowledgement.
    pub dead_after: Duration,
    /// How long an acknowledgement may wait for a packet to ride on. The default of 250 microseconds is several
    /// loopback round trips, so that an answer carries it, and still short enough that a producer whose ring
    /// waits for the last acknowledgement of a burst does not notice.
    pub ack_delay: Duration,
    /// An acknowledgement is sent at once after this many packets that ask for one.
    pub ack_every: u32,
    /// The round trip that is assumed before the first one was measured.
    pub initial_rtt: Duration,
    /// How often the same datum is sent before its channel is reset with `GAVE_UP`, and how many probes in a row
    /// may stay unanswered before the session closes with `GAVE_UP`.
    pub max_attempts: u8,
    /// How long a channel that waits for credit waits before it asks again. Doubles up to ten times as long.
    pub blocked_probe: Duration,
    /// After `close`: how long to stay and repeat the reason to a peer that did not hear it.
    pub close_linger: Duration,
    /// What limits the packets in flight.
    pub congestion: Congestion,
    /// Bytes per turn of a channel of weight 1 in the scheduler.
    pub quantum_bytes: u32,
    /// The age at which a key is to be replaced while traffic goes on; at most [`KEY_SOFT_AGE`]. A key stops at
    /// [`crate::seal::KEY_HARD_AGE`] in any case.
    pub rekey_after: Duration,
    /// The packets after which a key is to be replaced, if that is fewer than its cipher recommends.
    pub rekey_after_packets: u64,
    /// The bounds.
    pub limits: SessionLimits,
}

/// Bounds of everything in a session that could grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Channels in each direction; at most [`crate::channel::Label::MAX_CHANNELS`].
    pub max_channels: usize,
    /// Channels that the peer may open per second, and at once.
    pub opens_per_second: u32,
    /// Bytes of early datums and parts of datums that all channels together hold. Packets that would need more
    /// are not acknowledged. Must exceed the largest datum for each channel that receives large datums at the
    /// same time.
    pub max_held_bytes: usize,
    /// Runs of datums and other things in unacknowledged packets. When reached, nothing new is sent.
    pub max_records: usize,
    /// Packets sent and not yet acknowledged. When reached, nothing new is sent.
    pub max_packets_in_flight: usize,
    /// Longest control message, in bytes.
    pub max_control_bytes: usize,
    /// Bytes of control messages that `send_control` queues.
    pub control_queue_bytes: usize,
    /// Events that wait to be polled. A packet that could make more is not acknowledged.
    pub max_events: usize,
}

/// Smallest allowed `max_packet_bytes`: what every IPv6 path carries, minus IPv6 and UDP headers.
pub const MIN_PACKET_BYTES: usize = 1_232;

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max_channels: 4_096,
            opens_per_second: 1_000,
            max_held_bytes: 256 << 20,
            max_records: 8_192,
            max_packets_in_flight: 8_192,
            max_control_bytes: 64 << 10,
            control_queue_bytes: 256 << 10,
            max_events: 1_024,
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_packet_bytes: MIN_PACKET_BYTES,
            idle_timeout: Duration::from_secs(300),
            keepalive: Duration::from_millis(250),
            dead_after: Duration::from_secs(1),
            ack_delay: Duration::from_micros(250),
            ack_every: 2,
            initial_rtt: Duration::from_millis(25),
            max_attempts: 16,
            blocked_probe: Duration::from_millis(100),
            close_linger: Duration::from_millis(50),
            congestion: Congestion::default(),
            quantum_bytes: 4_096,
            rekey_after: KEY_SOFT_AGE,
            rekey_after_packets: u64::MAX,
            limits: SessionLimits::default(),
        }
    }
}

impl SessionConfig {
    /// When a key of such a session is due for replacement and when it stops.
    pub fn key_limits(&self, suite: Suite) -> KeyLimits {
        let limits = KeyLimits::new(suite, self.max_packet_bytes);
        KeyLimits {
            soft_packets: limits.soft_packets.min(self.rekey_after_packets),
            soft_age: limits.soft_age.min(self.rekey_after),
            ..limits
        }
    }

    /// An upper bound of what a session with this configuration ever allocates, in bytes, whatever its peer does.
    ///
    /// Buffers that grow by doubling are counted twice over. Packet memory and rings belong to the owner.
    pub const fn memory_bound(&self) -> usize {
        let limits = &self.limits;
        // A channel with its slot in table, scheduler and queues, and the intervals and spans of what is open in it.
        let channels = 2 * limits.max_channels * (CHANNEL_BYTES + 8 * 8);
        let records = 2 * (2 * limits.max_records) * (RECORD_BYTES + 2 * INTERVAL_BYTES + SPAN_BYTES);
        let packets = 2 * limits.max_packets_in_flight * PACKET_BYTES;
        // Messages that wait to be sent, to be whole and to be polled. An event holds at most one message, and a
        // packet brings at most what fits into it.
        let own = limits.max_channels * 4 * SMALL_MESSAGE_BYTES;
        let sending = 2 * (limits.control_queue_bytes + limits.max_control_bytes + own);
        let receiving = 2 * (2 * CONTROL_WINDOW_BYTES as usize + limits.max_control_bytes + (128 << 10));
        let events = (limits.max_events + 4 * limits.max_channels) * EVENT_BYTES
            + limits.max_events * limits.max_control_bytes;
        channels + records + packets + sending + receiving + events + 2 * limits.max_held_bytes + FIXED_BYTES
    }
}

const CHANNEL_BYTES: usize = if size_of::<RxChannel>() > size_of::<TxChannel>() {
    size_of::<RxChannel>()
} else {
    size_of::<TxChannel>()
};
const RECORD_BYTES: usize = size_of::<SentFrame>();
const INTERVAL_BYTES: usize = 16;
const SPAN_BYTES: usize = 40;
const PACKET_BYTES: usize = 64;
const EVENT_BYTES: usize = 2 * size_of::<SessionEvent>();
/// The session itself, its replay window, its cipher, its scratch and a spare buffer of 4 MiB.
const FIXED_BYTES: usize = (4 << 20) + (64 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_follows_the_limits() {
        let mut config = SessionConfig::default();
        let before = config.memory_bound();
        config.limits.max_held_bytes /= 2;
        config.limits.max_events = 16;
        config.limits.max_channels = 16;
        assert!(config.memory_bound() < before / 2);
        assert!(config.memory_bound() > config.limits.max_held_bytes);
    }
}
