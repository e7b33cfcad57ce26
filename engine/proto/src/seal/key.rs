//! Keys, and the names of the ciphers that they are for.

use core::fmt;

use zeroize::Zeroize;

/// A cipher that seals packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Suite {
    /// ChaCha20-Poly1305 (RFC 8439): fast on every CPU.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM: several times faster where the CPU has AES and carry-less multiplication.
    Aes256Gcm = 2,
}

/// A set of [`Suite`]s, as a peer offers it in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suites(u16);

impl Suites {
    const CHACHA: u16 = 1 << Suite::ChaCha20Poly1305 as u16;
    const AES: u16 = 1 << Suite::Aes256Gcm as u16;

    /// What a machine should offer. `aes_in_hardware` is whether its CPU has AES instructions; without them
    /// AES is not offered, because it would be the slower choice.
    pub const fn for_cpu(aes_in_hardware: bool) -> Self {
        Self(if aes_in_hardware { Self::CHACHA | Self::AES } else { Self::CHACHA })
    }

    /// Only this suite.
    pub const fn only(suite: Suite) -> Self {
        Self(1 << suite as u16)
    }

    /// Whether the set has this suite.
    pub const fn contains(self, suite: Suite) -> bool {
        self.0 & (1 << suite as u16) != 0
    }

    /// The set in wire format.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set from its wire format. Bits of unknown suites are kept and never chosen.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The suite of a session between peers that offered `self` and `other`: AES if both have it, else
    /// ChaCha20-Poly1305, else none. Symmetric, so both sides agree. The handshake authenticates both offers,
    /// so no attacker can force a downgrade.
    pub const fn agree(self, other: Self) -> Option<Suite> {
        let both = self.0 & other.0;
        if both & Self::AES != 0 {
            Some(Suite::Aes256Gcm)
        } else if both & Self::CHACHA != 0 {
            Some(Suite::ChaCha20Poly1305)
        } else {
            None
        }
    }
}

impl fmt::Debug for Suites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries([Suite::ChaCha20Poly1305, Suite::Aes256Gcm].iter().filter(|s| self.contains(**s)))
            .finish()
    }
}

/// 32 secret bytes, erased when dropped. `Debug` does not show them.
#[derive(Clone)]
pub struct KeyBytes([u8; 32]);

impl KeyBytes {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(..)")
    }
}

/// The keys of one session, as this side uses them.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    /// Seals what this side sends.
    pub send: KeyBytes,
    /// Opens what the other side sent.
    pub recv: KeyBytes,
    /// The cipher for both directions.
    pub suite: Suite,
}
