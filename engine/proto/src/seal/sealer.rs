//! The sending half of a key.

use alloc::boxed::Box;

use zerocopy::IntoBytes;

use super::{
    aead::{Aead, RingAead},
    key::{KeyBytes, Suite},
    limits::{KeyLimits, KeyUse, MAX_SEALED_BYTES, blocks},
};
use crate::{
    mutate,
    time::Instant,
    wire::header::{
        HEADER_BYTES, Header, PACKET_NUMBER_LIMIT, PACKET_OVERHEAD_BYTES, PHASES, ReceiverIndex, TAG_BYTES,
    },
};

/// Why a packet was not sealed.
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
    /// Its packet number.
    pub number: u64,
    /// Its length in bytes, header and tag included.
    pub bytes: usize,
}

/// Seals the packets of one direction of one session, and owns their numbers.
///
/// Not `Clone`: two copies would give two packets the same number, and so the same nonce.
#[derive(Debug)]
pub struct Sealer {
    aead: Box<dyn Aead>,
    limits: KeyLimits,
    /// Which of the session's keys it is.
    phase: u8,
    /// The first number under this key; at most `next`.
    first: u64,
    /// The number of the next packet.
    next: u64,
    /// Blocks sealed under this key.
    blocks: u64,
    /// When the key was established.
    born: Instant,
}

impl Sealer {
    /// A sealer for a key established at `now`, with the limits of [`KeyLimits::new`].
    pub fn new(suite: Suite, key: &KeyBytes, now: Instant) -> Self {
        Self::with_limits(suite, key, KeyLimits::new(suite), now)
    }

    /// A sealer for a key established at `now`, with given limits.
    pub fn with_limits(suite: Suite, key: &KeyBytes, limits: KeyLimits, now: Instant) -> Self {
        Self::with_aead(Box::new(RingAead::new(suite, key)), limits, now)
    }

    /// A sealer over a given cipher and limits. The key behind `aead` must never have sealed anything.
    pub fn with_aead(aead: Box<dyn Aead>, limits: KeyLimits, now: Instant) -> Self {
        Self { aead, limits, phase: 0, first: 0, next: 0, blocks: 0, born: now }
    }

    /// Makes this key the successor of `former`: it gets the next phase and goes on with the packet numbers,
    /// so that acknowledgements are independent of keys. It must not have sealed anything; as the keys
    /// differ, no nonce is used twice under either.
    #[must_use]
    pub fn succeed(mut self, former: &Self) -> Self {
        debug_assert!(self.next == 0, "a key that has sealed packets cannot succeed another");
        self.phase = (former.phase + 1) % PHASES;
        self.first = former.next;
        self.next = mutate!(former.next, "numbers-restart" => 0);
        self
    }

    /// Seals a packet in place.
    ///
    /// `buf[HEADER_BYTES..HEADER_BYTES + plaintext_bytes]` holds the frames; the header is written before
    /// them and the tag behind. What is sent again is sealed again under a new number; the same sealed bytes
    /// may go to the kernel again only if it refused them.
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
        // Incremented first, so that the number is not used again if the cipher fails.
        self.next += 1;
        self.blocks += blocks(bytes);
        let sealed = self.aead.seal(number, head, body).map_err(|_| SealError::NoRoom)?;
        debug_assert_eq!(tag.len(), TAG_BYTES);
        tag.copy_from_slice(&sealed);
        Ok(SealedPacket { number, bytes })
    }

    /// Leaves the next number out.
    pub(crate) const fn skip(&mut self) {
        self.next += 1;
    }

    /// The number of the next packet.
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// How far the key is used up.
    pub fn key_use(&self, now: Instant) -> KeyUse {
        if self.next >= PACKET_NUMBER_LIMIT {
            return KeyUse::Spent;
        }
        self.limits.judge(self.next - self.first, self.blocks, now - self.born)
    }

    /// Which of the session's keys this is; named in the headers of its packets.
    pub const fn phase(&self) -> u8 {
        self.phase
    }

    /// The limits of the key.
    pub const fn limits(&self) -> &KeyLimits {
        &self.limits
    }

    /// When the key was established.
    pub const fn born(&self) -> Instant {
        self.born
    }
}
