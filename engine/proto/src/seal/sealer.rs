//! The sending half of a key. Not inside: what is sealed.

use alloc::boxed::Box;

use zerocopy::IntoBytes;

use super::{
    aead::{Aead, RingAead},
    key::{SecretKey, Suite},
    limits::{KeyLimits, KeyUse, MAX_SEALED_BYTES},
};
use crate::{
    time::Instant,
    wire::header::{
        HEADER_BYTES, Header, PACKET_NUMBER_LIMIT, PACKET_OVERHEAD_BYTES, PHASES, ReceiverIndex, TAG_BYTES,
    },
};

/// Why a packet was not sealed. No packet number was used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// The key has reached its limit of packets or of age: a new handshake is needed before more can be sent.
    #[error("the key is used up: a new handshake is needed before more can be sent")]
    Spent,
    /// The buffer cannot hold header, plaintext and tag, or the packet is longer than a datagram can be.
    #[error("the buffer has no room for header, plaintext and tag")]
    NoRoom,
}

/// A packet that was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedPacket {
    /// The number that the packet got.
    pub number: u64,
    /// Its length in bytes, header and tag included.
    pub bytes: usize,
}

/// Seals the packets of one direction of one session, and owns their numbers.
///
/// Not `Clone`: two copies would give two packets one number, and with it one nonce.
#[derive(Debug)]
pub struct Sealer {
    aead: Box<dyn Aead>,
    limits: KeyLimits,
    phase: u8,
    /// The first number under this key.
    first: u64,
    next: u64,
    born: Instant,
}

impl Sealer {
    /// A sealer for a fresh key that came to be at `now`, with the limits of [`KeyLimits::new`].
    pub fn new(suite: Suite, key: &SecretKey, max_packet_bytes: usize, now: Instant) -> Self {
        Self::with_limits(suite, key, KeyLimits::new(suite, max_packet_bytes), now)
    }

    /// A sealer for a fresh key with given limits.
    pub fn with_limits(suite: Suite, key: &SecretKey, limits: KeyLimits, now: Instant) -> Self {
        Self::with_aead(Box::new(RingAead::new(suite, key)), limits, now)
    }

    /// A sealer over a given cipher and limits. The key behind `aead` must never have sealed anything.
    pub fn with_aead(aead: Box<dyn Aead>, limits: KeyLimits, now: Instant) -> Self {
        Self { aead, limits, phase: 0, first: 0, next: 0, born: now }
    }

    /// Takes the place of `former`: this key is in the phase after it, and goes on with its packet numbers, so that
    /// an acknowledgement need not say which key it is about. This key must not have sealed anything; as it is
    /// another one than `former`'s, no nonce comes twice under either.
    #[must_use]
    pub fn succeed(mut self, former: &Self) -> Self {
        debug_assert!(self.next == 0, "a key that was in use can't take another one's place");
        self.phase = (former.phase + 1) % PHASES;
        self.first = former.next;
        self.next = former.next;
        self
    }

    /// Seals a packet in place.
    ///
    /// `buf[HEADER_BYTES..HEADER_BYTES + plaintext_bytes]` holds the frames; the header is written in front of
    /// them and the tag behind. A resend is sealed anew under a new number; the same sealed bytes may be handed to
    /// the kernel again only when it refused them.
    pub fn seal(
        &mut self,
        now: Instant,
        receiver: ReceiverIndex,
        buf: &mut [u8],
        plaintext_bytes: usize,
    ) -> Result<SealedPacket, SealError> {
        if self.key_use(now) == KeyUse::Spent {
            return Err(SealError::Spent);
        }
        let bytes = plaintext_bytes.saturating_add(PACKET_OVERHEAD_BYTES);
        if bytes > buf.len() || bytes > MAX_SEALED_BYTES {
            return Err(SealError::NoRoom);
        }
        let number = self.next;
        let header = Header::data(receiver, number).in_phase(self.phase);
        let (head, rest) = buf[..bytes].split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header.as_bytes());
        let (body, tag) = rest.split_at_mut(plaintext_bytes);
        // The number is spent before the cipher runs: whatever happens in there, it is not used again.
        self.next += 1;
        let sealed = self.aead.seal(number, head, body).map_err(|_| SealError::NoRoom)?;
        debug_assert_eq!(tag.len(), TAG_BYTES);
        tag.copy_from_slice(&sealed);
        Ok(SealedPacket { number, bytes })
    }

    /// The number that the next packet will get.
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// How far the key is used up.
    pub fn key_use(&self, now: Instant) -> KeyUse {
        if self.next >= PACKET_NUMBER_LIMIT {
            return KeyUse::Spent;
        }
        self.limits.judge(self.next - self.first, now - self.born)
    }

    /// Which of the session's keys this is, as the headers of its packets say.
    pub const fn phase(&self) -> u8 {
        self.phase
    }

    /// The limits under which this key lives.
    pub const fn limits(&self) -> &KeyLimits {
        &self.limits
    }

    /// When the key came to be.
    pub const fn born(&self) -> Instant {
        self.born
    }
}
