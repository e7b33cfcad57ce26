//! When a key is due for replacement and when it stops.
//!
//! The figures follow RFC 9001, 6.6 and appendix B.1. The confidentiality limit of AES-GCM falls with the
//! packet size: 2³⁵ / (packet size in 16-byte blocks) packets keep an attacker's advantage below
//! 2⁻⁵⁷. ChaCha20-Poly1305 has no such limit below 2⁶²; it gets the limit of the smallest packets
//! all the same, so that a session behaves alike under either cipher. Forgery limits: 2⁵² failed opens for
//! AES-GCM, 2³⁶ for ChaCha20.
//!
//! Not inside: the replacement, which is a new handshake started by the owner of the session.

use core::time::Duration;

use super::key::Suite;
use crate::wire::header::PACKET_NUMBER_LIMIT;

/// The largest packet that can be sealed, in bytes with header and tag: the largest UDP payload over IPv4.
pub const MAX_SEALED_BYTES: usize = 65_507;

/// From this age on a key should be replaced; WireGuard's interval.
pub const KEY_SOFT_AGE: Duration = Duration::from_secs(120);

/// At this age a key stops: nothing is sealed or opened with it any more. A handshake has a minute to replace
/// it.
pub const KEY_HARD_AGE: Duration = Duration::from_secs(180);

/// Failed opens after which an AES-256-GCM key stops.
pub const AES_FORGERY_LIMIT: u64 = 1 << 52;

/// Failed opens after which a ChaCha20-Poly1305 key stops.
pub const CHACHA_FORGERY_LIMIT: u64 = 1 << 36;

/// 2³⁵ blocks of 16 bytes may be sealed under one AES-GCM key.
const AES_BLOCKS: u64 = 1 << 35;

/// The smallest packet size that is distinguished: below it the limit stays 2²⁸ packets.
const SMALLEST_PACKET_BYTES: u64 = 2_048;

/// The soft limit is this fraction of the hard one, which leaves time for many handshakes at any packet rate.
const SOFT_DIVISOR: u64 = 4;

const _: () = assert!(KEY_SOFT_AGE.as_secs() * 3 / 2 == KEY_HARD_AGE.as_secs());
const _: () = assert!(AES_BLOCKS / (SMALLEST_PACKET_BYTES / 16) == 1 << 28);
const _: () = assert!(AES_BLOCKS / (65_536 / 16) == 1 << 23);
const _: () = assert!(1 << 28 < PACKET_NUMBER_LIMIT);

/// How far a key is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum KeyUse {
    /// Nothing has to be done.
    Fresh,
    /// Start a new handshake; traffic goes on meanwhile.
    RekeyDue,
    /// The key has stopped: every further packet is refused.
    Spent,
}

/// When one key is due for replacement and when it stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyLimits {
    /// Packets after which the key should be replaced.
    pub soft_packets: u64,
    /// Packets after which the key stops.
    pub hard_packets: u64,
    /// Age at which the key should be replaced.
    pub soft_age: Duration,
    /// Age at which the key stops.
    pub hard_age: Duration,
    /// Failed opens after which the key stops.
    pub forgeries: u64,
}

impl KeyLimits {
    /// The limits for packets of up to `max_packet_bytes` under `suite`.
    pub fn new(suite: Suite, max_packet_bytes: usize) -> Self {
        let bytes = u64::try_from(max_packet_bytes).unwrap_or(u64::MAX).max(SMALLEST_PACKET_BYTES);
        let (hard_packets, forgeries) = match suite {
            Suite::Aes256Gcm => (AES_BLOCKS / bytes.div_ceil(16), AES_FORGERY_LIMIT),
            Suite::ChaCha20Poly1305 => (AES_BLOCKS / (SMALLEST_PACKET_BYTES / 16), CHACHA_FORGERY_LIMIT),
        };
        Self {
            soft_packets: hard_packets / SOFT_DIVISOR,
            hard_packets,
            soft_age: KEY_SOFT_AGE,
            hard_age: KEY_HARD_AGE,
            forgeries,
        }
    }

    /// Moves the soft age by up to 10 % either way (`noise` 0 is −10 %, 255 is +10 %), so that sessions
    /// that began at the same moment do not all rekey at the same moment.
    #[must_use]
    pub fn jittered(mut self, noise: u8) -> Self {
        let tenth = self.soft_age / 10;
        self.soft_age = self.soft_age - tenth + tenth * 2 * u32::from(noise) / 255;
        self
    }

    /// How far a key is used up after `packets` at this age.
    pub(super) fn judge(&self, packets: u64, age: Duration) -> KeyUse {
        if packets >= self.hard_packets || age >= self.hard_age {
            KeyUse::Spent
        } else if packets >= self.soft_packets || age >= self.soft_age {
            KeyUse::RekeyDue
        } else {
            KeyUse::Fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_limits_follow_the_rfc_table() {
        let aes = |bytes| KeyLimits::new(Suite::Aes256Gcm, bytes);
        assert_eq!(aes(1_500).hard_packets, 1 << 28);
        assert_eq!(aes(1_500).soft_packets, 1 << 26);
        assert_eq!(aes(65_536).hard_packets, 1 << 23);
        assert_eq!(aes(65_536).soft_packets, 1 << 21);
        assert!(aes(9_000).hard_packets < 1 << 26 && aes(9_000).hard_packets > 1 << 25);
        assert_eq!(KeyLimits::new(Suite::ChaCha20Poly1305, 65_536).hard_packets, 1 << 28);
        assert!(aes(usize::MAX).hard_packets < aes(65_536).hard_packets);
    }

    #[test]
    fn jitter_stays_within_a_tenth_of_the_soft_age() {
        let limits = KeyLimits::new(Suite::Aes256Gcm, 1_500);
        assert_eq!(limits.jittered(0).soft_age, Duration::from_secs(108));
        assert_eq!(limits.jittered(255).soft_age, Duration::from_secs(132));
    }

    #[test]
    fn soft_limit_comes_before_the_hard_one_by_count_and_age() {
        let limits = KeyLimits::new(Suite::Aes256Gcm, 1_500);
        assert_eq!(limits.judge(limits.soft_packets - 1, Duration::ZERO), KeyUse::Fresh);
        assert_eq!(limits.judge(limits.soft_packets, Duration::ZERO), KeyUse::RekeyDue);
        assert_eq!(limits.judge(limits.hard_packets, Duration::ZERO), KeyUse::Spent);
        assert_eq!(limits.judge(0, KEY_SOFT_AGE), KeyUse::RekeyDue);
        assert_eq!(limits.judge(0, KEY_HARD_AGE), KeyUse::Spent);
    }
}
