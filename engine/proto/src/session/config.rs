//! The configuration of a session, its bounds, and what they cost in memory.

use alloc::vec::Vec;
use core::time::Duration;

use super::{SessionEvent, control::CONTROL_WINDOW_BYTES, recovery::SENT_PACKET_BYTES};
use crate::{
    channel::{LARGE_ACKS_BYTES, Label, RESEND_ENTRY_BYTES, RxChannel, SentFrame, TxChannel},
    congestion::Congestion,
    seal::{KEY_SOFT_AGE, KeyLimits, MAX_SEALED_BYTES, Suite},
    wire::{MAX_TICKETS, frames::message::SMALL_MESSAGE_BYTES},
};

/// The size that packets begin with, and the smallest allowed `max_packet_bytes`: what every IPv6 path
/// carries (1,280 bytes), minus IPv6 and UDP headers.
pub const BASE_PACKET_BYTES: usize = 1_232;

/// The smallest size that packets fall back to: the longest packet of a handshake, so every path on which a
/// session comes about carries it. An MTU of 316 bytes, with IPv4 and UDP headers.
pub const MIN_PACKET_BYTES: usize = 288;

/// Keep-alives per `dead_after`.
const KEEPALIVES: u32 = 5;

/// How a session behaves and what it may use. The two peers may differ in every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Upper limit of packets to send, in bytes of UDP payload: header, frames and tag. Packets begin at
    /// [`BASE_PACKET_BYTES`] and grow as far as the path is found to carry them; if it does not carry that,
    /// they shrink to [`MIN_PACKET_BYTES`] at the least. Clamped to
    /// [`BASE_PACKET_BYTES`]..=[`MAX_SEALED_BYTES`], the default. Packets of any size are received.
    pub max_packet_bytes: usize,
    /// A session without channels and control messages closes with `IDLE` after this time. Default 5 min, so
    /// that a consumer that returns within it needs no handshake.
    pub idle_timeout: Duration,
    /// A PING is sent after this time without a packet from the peer, if nothing else is in flight. Default a
    /// fifth of `dead_after`, so that losing PINGs does not look like a dead peer.
    pub keepalive: Option<Duration>,
    /// The session closes with `PEER_LOST` when packets in flight go without any packet from the peer for
    /// this long; CLOSE tells a peer that only this side does not hear. Default 10 s: a process that is
    /// stopped for some seconds keeps its sessions.
    pub dead_after: Duration,
    /// Such a silence is reported as [`SessionEvent::Suspect`] after this time. Default 1 s.
    pub suspect_after: Duration,
    /// How long an acknowledgement may wait for a packet to ride on. Default 250 µs: several round trips
    /// over loopback, so that an answer carries it, and too short for a producer to notice whose ring waits
    /// for it.
    pub ack_delay: Duration,
    /// Shortest timer that the driver keeps: loss is detected no sooner. Default 100 µs.
    pub timer_granularity: Duration,
    /// An acknowledgement is sent at once after this many packets that ask for one. Default 2 (RFC 9000,
    /// 13.2.2).
    pub ack_every: u32,
    /// The round trip assumed before the first one was measured. Default 25 ms: a continent; RFC 9002 assumes
    /// 333 ms.
    pub initial_rtt: Duration,
    /// A channel is reset with `GAVE_UP` when an acknowledgement shows that a datum is lost this long or more
    /// after it was first sent: the peer answers other packets. Default `dead_after`.
    pub give_up_after: Option<Duration>,
    /// How long a channel waits for credit before it asks again. Doubles up to ten times as long. Default 100
    /// ms.
    pub blocked_probe: Duration,
    /// After `close`: how long at least to repeat the reason to a peer that goes on sending. On a long path
    /// it is repeated for three probe timeouts, up to `dead_after`; at most 16 times, evenly spread over that
    /// time. Default 50 ms: two of the assumed round trips.
    pub close_linger: Duration,
    /// What limits the packets in flight. Default CUBIC.
    pub congestion: Congestion,
    /// Bytes per turn of a channel of weight 1 in the scheduler. Default 4,096: a few packets, so that
    /// channels take turns often and still fill packets.
    pub quantum_bytes: u32,
    /// Age at which a key is to be replaced while traffic goes on; at most [`KEY_SOFT_AGE`], the default. A
    /// key stops at [`crate::seal::KEY_HARD_AGE`] in any case.
    pub rekey_after: Duration,
    /// Packets after which a key is to be replaced, if fewer than its cipher recommends. Default `u64::MAX`.
    pub rekey_after_packets: u64,
    /// Bounds on memory.
    pub limits: SessionLimits,
}

/// Bounds of everything in a session that can grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Channels in each direction; at most and by default [`crate::channel::Label::MAX_CHANNELS`].
    pub max_channels: usize,
    /// Channels that the peer may open per second, and at once. Default 1,000: each costs the owner a
    /// decision.
    pub opens_per_second: u32,
    /// Bytes of early datums and of incomplete large datums that all channels together hold. One half is for
    /// large Reliable datums, which are begun one after the other when they do not fit in together; no datum
    /// may be longer. A packet that would need more is not acknowledged. Default 256 MiB.
    pub max_held_bytes: usize,
    /// Frames with datums or credit in unacknowledged packets. When reached, nothing new is sent. Default
    /// 65,536: one for each of `max_packets_in_flight`.
    pub max_frames_in_flight: usize,
    /// Packets sent and not yet acknowledged. When reached, nothing new is sent. Default 65,536: in packets
    /// of the smallest size 80 MB, which fill a path of 1 Gbit/s and 640 ms. The congestion window bounds
    /// bytes.
    pub max_packets_in_flight: usize,
    /// Longest control message, in bytes. Default 64 KiB, which holds the longest signed record of a
    /// peer (36 KiB).
    pub max_control_bytes: usize,
    /// Bytes of control messages that `send_control` queues. Default 256 KiB: four of the longest.
    pub control_queue_bytes: usize,
    /// Events that wait to be polled. While there are that many, messages of the peer wait. Default 1,024.
    pub max_events: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max_channels: Label::MAX_CHANNELS,
            opens_per_second: 1_000,
            max_held_bytes: 256 << 20,
            max_frames_in_flight: 65_536,
            max_packets_in_flight: 65_536,
            max_control_bytes: 64 << 10,
            control_queue_bytes: 256 << 10,
            max_events: 1_024,
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_packet_bytes: MAX_SEALED_BYTES,
            idle_timeout: Duration::from_secs(300),
            keepalive: None,
            dead_after: Duration::from_secs(10),
            suspect_after: Duration::from_secs(1),
            ack_delay: Duration::from_micros(250),
            timer_granularity: Duration::from_micros(100),
            ack_every: 2,
            initial_rtt: Duration::from_millis(25),
            give_up_after: None,
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
    /// When a key of this session is due for replacement, and when it stops.
    pub fn key_limits(&self, suite: Suite) -> KeyLimits {
        let limits = KeyLimits::new(suite);
        KeyLimits {
            soft_packets: limits.soft_packets.min(self.rekey_after_packets),
            soft_age: limits.soft_age.min(self.rekey_after),
            ..limits
        }
    }

    /// The time without a packet from the peer after which a PING is sent.
    pub fn keepalive(&self) -> Duration {
        self.keepalive.unwrap_or(self.dead_after / KEEPALIVES)
    }

    /// The time since its first sending after which a datum that is lost again is given up.
    pub fn give_up_after(&self) -> Duration {
        self.give_up_after.unwrap_or(self.dead_after)
    }

    /// The most that a session with this configuration ever allocates, in bytes, whatever its peer does.
    ///
    /// Buffers that grow by doubling are counted twice. Packet memory and rings belong to the owner.
    pub const fn memory_bound(&self) -> usize {
        let limits = &self.limits;
        // A channel, with its entries in table, scheduler and queues.
        let channels = 2 * limits.max_channels * (CHANNEL_BYTES + 12 * 8);
        // A frame in flight, and the intervals and resend entries that its loss can lead to.
        let frames = 2
            * (2 * limits.max_frames_in_flight)
            * (size_of::<SentFrame>() + 2 * INTERVAL_BYTES + RESEND_ENTRY_BYTES);
        let packets = 2 * limits.max_packets_in_flight * SENT_PACKET_BYTES;
        // What is known of large datums that were begun, each at least a packet long.
        let large = limits.max_held_bytes / MIN_PACKET_BYTES * LARGE_ACKS_BYTES;
        // Messages to be sent, to be completed and to be polled. An event holds at most one message, and a
        // packet brings at most what fits into it.
        let own = limits.max_channels * 4 * SMALL_MESSAGE_BYTES;
        let sending = 2 * (limits.control_queue_bytes + limits.max_control_bytes + own);
        // The buffer may hold as much behind as in front of the read position.
        let receiving = 4 * (2 * CONTROL_WINDOW_BYTES as usize + limits.max_control_bytes + (128 << 10));
        let events = (limits.max_events + 4 * limits.max_channels) * EVENT_BYTES
            + limits.max_events * (limits.max_control_bytes + TICKETS_BYTES);
        channels
            + frames
            + packets
            + large
            + sending
            + receiving
            + events
            + 2 * limits.max_held_bytes
            + FIXED_BYTES
    }
}

const CHANNEL_BYTES: usize = if size_of::<RxChannel>() > size_of::<TxChannel>() {
    size_of::<RxChannel>()
} else {
    size_of::<TxChannel>()
};
const INTERVAL_BYTES: usize = size_of::<(u64, u64)>();
const EVENT_BYTES: usize = 2 * size_of::<SessionEvent>();
/// What the tickets of a request cost beside their bytes.
const TICKETS_BYTES: usize = MAX_TICKETS * size_of::<Vec<u8>>();
/// The session itself, its replay windows, ciphers and scratch, and spare buffers of 8 MiB.
const FIXED_BYTES: usize = (8 << 20) + (64 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_bound_follows_the_limits() {
        let mut config = SessionConfig::default();
        let before = config.memory_bound();
        config.limits.max_held_bytes /= 2;
        config.limits.max_events = 16;
        config.limits.max_channels = 16;
        assert!(config.memory_bound() < before / 2);
        assert!(config.memory_bound() > config.limits.max_held_bytes);
    }
}
