//! When a key is due for replacement and when it stops.
//!
//! The figures follow RFC 9001, 6.6 and appendix B.1. The confidentiality of AES-GCM is limited by the blocks
//! of 16 bytes that are sealed under one key: 2³⁵ keep an attacker's advantage below 2⁻⁵⁷, in packets of
//! any size. So blocks are counted, not packets. ChaCha20-Poly1305 has no such limit below 2⁶² packets; it
//! gets the same limit, so that a session behaves alike under either cipher. Forgery limits: 2⁵² failed opens
//! for AES-GCM, 2³⁶ for ChaCha20.
//!
//! Not inside: the replacement, which is a new handshake started by the owner of the session.

use core::time::Duration;

use super::key::Suite;
use crate::wire::header::PACKET_OVERHEAD_BYTES;

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

/// Bytes of a block of AES.
const BLOCK_BYTES: usize = 16;

/// Blocks that may be sealed under one AES-GCM key.
const AES_BLOCKS: u64 = 1 << 35;

/// The soft limit is this fraction of the hard one, which leaves time for many handshakes at any packet rate.
const SOFT_DIVISOR: u64 = 4;

/// Blocks of the smallest packet that can be sealed: header, one byte and tag.
pub(super) const SMALLEST_PACKET_BLOCKS: u64 = blocks(PACKET_OVERHEAD_BYTES + 1);

const _: () = assert!(KEY_SOFT_AGE.as_secs() * 3 / 2 == KEY_HARD_AGE.as_secs());

/// Blocks of a packet of `bytes`, header and tag included.
pub(super) const fn blocks(bytes: usize) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) as u64
}

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
    /// Packets after which the key should be replaced; by itself no limit.
    pub soft_packets: u64,
    /// Packets after which the key stops; by itself no limit.
    pub hard_packets: u64,
    /// Blocks of 16 bytes after which the key should be replaced.
    pub soft_blocks: u64,
    /// Blocks of 16 bytes after which the key stops.
    pub hard_blocks: u64,
    /// Age at which the key should be replaced.
    pub soft_age: Duration,
    /// Age at which the key stops.
    pub hard_age: Duration,
    /// Failed opens after which the key stops.
    pub forgeries: u64,
}

impl KeyLimits {
    /// The limits under `suite`.
    pub const fn new(suite: Suite) -> Self {
        let forgeries = match suite {
            Suite::Aes256Gcm => AES_FORGERY_LIMIT,
            Suite::ChaCha20Poly1305 => CHACHA_FORGERY_LIMIT,
        };
        Self {
            soft_packets: u64::MAX,
            hard_packets: u64::MAX,
            soft_blocks: AES_BLOCKS / SOFT_DIVISOR,
            // The packet that passes the limit is still sealed.
            hard_blocks: AES_BLOCKS - blocks(MAX_SEALED_BYTES),
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

    /// How far a key is used up after `packets` of `blocks` in total at this age.
    pub(super) fn judge(&self, packets: u64, blocks: u64, age: Duration) -> KeyUse {
        if packets >= self.hard_packets || blocks >= self.hard_blocks || age >= self.hard_age {
            KeyUse::Spent
        } else if packets >= self.soft_packets || blocks >= self.soft_blocks || age >= self.soft_age {
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
    fn limits_in_packets_of_any_size_follow_the_rfc_table() {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let limits = KeyLimits::new(suite);
            let packets =
                |bytes| (limits.soft_blocks / blocks(bytes), limits.hard_blocks / blocks(bytes) + 1);
            assert_eq!(packets(2_048).0, 1 << 26);
            assert!(((1 << 28) - 64..=1 << 28).contains(&packets(2_048).1));
            assert_eq!(packets(65_507), ((1 << 33) / 4_095, (1 << 35) / 4_095));
            assert!(packets(64).0 > 1 << 30, "small packets do not rekey for want of large ones");
        }
    }

    #[test]
    fn jitter_stays_within_a_tenth_of_the_soft_age() {
        let limits = KeyLimits::new(Suite::Aes256Gcm);
        assert_eq!(limits.jittered(0).soft_age, Duration::from_secs(108));
        assert_eq!(limits.jittered(255).soft_age, Duration::from_secs(132));
    }

    #[test]
    fn soft_limit_comes_before_the_hard_one_by_count_and_age() {
        let limits = KeyLimits::new(Suite::Aes256Gcm);
        let judge = |blocks, age| limits.judge(0, blocks, age);
        assert_eq!(judge(limits.soft_blocks - 1, Duration::ZERO), KeyUse::Fresh);
        assert_eq!(judge(limits.soft_blocks, Duration::ZERO), KeyUse::RekeyDue);
        assert_eq!(judge(limits.hard_blocks, Duration::ZERO), KeyUse::Spent);
        assert_eq!(judge(0, KEY_SOFT_AGE), KeyUse::RekeyDue);
        assert_eq!(judge(0, KEY_HARD_AGE), KeyUse::Spent);
        let counted = KeyLimits { soft_packets: 2, hard_packets: 4, ..limits };
        assert_eq!(counted.judge(1, 0, Duration::ZERO), KeyUse::Fresh);
        assert_eq!(counted.judge(2, 0, Duration::ZERO), KeyUse::RekeyDue);
        assert_eq!(counted.judge(4, 0, Duration::ZERO), KeyUse::Spent);
    }
}
