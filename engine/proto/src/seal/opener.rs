//! The receiving half of a key. Not inside: which session the packet is for; the caller looked that up.

use alloc::boxed::Box;

use super::{
    aead::{Aead, RingAead},
    key::{SecretKey, Suite},
    limits::{KeyLimits, KeyUse},
    window::ReplayWindow,
};
use crate::{
    time::Instant,
    wire::header::{HEADER_BYTES, Header, HeaderError, PacketKind},
};

/// Why a packet was not opened. Nothing changed but counters; nothing is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is no packet of ours.
    #[error("malformed: {0}")]
    Header(#[from] HeaderError),
    /// It is a handshake packet.
    #[error("not a data packet")]
    NotData,
    /// Its number was seen, or is too old to tell.
    #[error("replayed, or older than the window")]
    Replay,
    /// It does not open under this key: forged, damaged, or sealed under another key.
    #[error("does not open under this key")]
    Forged,
    /// The key has stopped, by age or by failed opens.
    #[error("the key is used up: the peers need a new handshake")]
    Spent,
    /// Its header names a key of the session that is not here any more, or not yet.
    #[error("sealed under a key that is not here any more, or not yet")]
    OtherKey,
}

/// A packet that was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenedPacket<'packet> {
    /// Its number.
    pub number: u64,
    /// The frames, in place.
    pub plaintext: &'packet mut [u8],
}

/// Opens the packets of one direction of one session, and owns the replay window.
#[derive(Debug)]
pub struct Opener {
    aead: Box<dyn Aead>,
    limits: KeyLimits,
    window: ReplayWindow,
    /// The number of the first packet that opened; the sender counts on from key to key.
    first: Option<u64>,
    opened: u64,
    forged: u64,
    born: Instant,
}

impl Opener {
    /// An opener for a fresh key that came to be at `now`, with the limits of [`KeyLimits::new`].
    pub fn new(suite: Suite, key: &SecretKey, max_packet_bytes: usize, now: Instant) -> Self {
        Self::with_limits(suite, key, KeyLimits::new(suite, max_packet_bytes), now)
    }

    /// An opener for a fresh key with given limits.
    pub fn with_limits(suite: Suite, key: &SecretKey, limits: KeyLimits, now: Instant) -> Self {
        Self::with_aead(Box::new(RingAead::new(suite, key)), limits, now)
    }

    /// An opener over a given cipher and limits.
    pub fn with_aead(aead: Box<dyn Aead>, limits: KeyLimits, now: Instant) -> Self {
        Self { aead, limits, window: ReplayWindow::new(), first: None, opened: 0, forged: 0, born: now }
    }

    /// Opens a packet in place: window looked up first, number marked only after the packet opened.
    ///
    /// On [`UnsealError::Forged`] the content of `packet` behind the header is lost.
    pub fn open<'packet>(
        &mut self,
        now: Instant,
        packet: &'packet mut [u8],
    ) -> Result<OpenedPacket<'packet>, UnsealError> {
        let (header, kind) = Header::parse(packet)?;
        if kind != PacketKind::Data {
            return Err(UnsealError::NotData);
        }
        let number = header.number();
        if !self.window.check(number) {
            return Err(UnsealError::Replay);
        }
        if self.key_use(now) == KeyUse::Spent {
            return Err(UnsealError::Spent);
        }
        let (head, body) = packet.split_at_mut(HEADER_BYTES);
        let Ok(bytes) = self.aead.open(number, head, body) else {
            self.forged += 1;
            return Err(UnsealError::Forged);
        };
        self.window.commit(number);
        self.first.get_or_insert(number);
        self.opened += 1;
        Ok(OpenedPacket { number, plaintext: &mut body[..bytes] })
    }

    /// Packets that opened.
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Packets that did not open.
    pub const fn forged(&self) -> u64 {
        self.forged
    }

    /// One more than the highest number that opened; 0 before the first.
    pub const fn window_end(&self) -> u64 {
        self.window.end()
    }

    /// How far the key is used up. Packets are counted by the sender's numbers: a gap was sealed as well.
    pub fn key_use(&self, now: Instant) -> KeyUse {
        if self.forged >= self.limits.forgeries {
            return KeyUse::Spent;
        }
        // The sender stops at its own limit; here the count only says that a new key is due. A single far jump
        // in the numbers must not stop the key.
        let sealed = self.window.end() - self.first.unwrap_or(0).min(self.window.end());
        match self.limits.judge(self.opened, now - self.born) {
            KeyUse::Fresh if sealed >= self.limits.soft_packets => KeyUse::RekeyDue,
            other => other,
        }
    }
}
