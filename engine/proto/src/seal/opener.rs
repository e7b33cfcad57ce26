//! The receiving half of a key.

use alloc::boxed::Box;

use super::{
    aead::{Aead, RingAead},
    key::{KeyBytes, Suite},
    limits::{KeyLimits, KeyUse, SMALLEST_PACKET_BLOCKS, blocks},
    window::ReplayWindow,
};
use crate::{
    time::Instant,
    wire::header::{DataPacket, HeaderError},
};

/// Why a packet was not opened. Nothing changed but counters, and no answer is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnsealError {
    /// Its header is malformed.
    #[error("malformed: {0}")]
    Header(#[from] HeaderError),
    /// It is a handshake packet.
    #[error("not a data packet")]
    NotData,
    /// Its number was seen, or is behind the window.
    #[error("replayed, or older than the window")]
    Replay,
    /// It does not open under this key: forged, damaged, or sealed under another key.
    #[error("does not open under this key")]
    Forged,
    /// The key has stopped, by age or by failed opens.
    #[error("the key is used up: the peers need a new handshake")]
    Spent,
    /// Its header names a key of the session that was dropped or has not been established.
    #[error("sealed under a key that was dropped or has not been established")]
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
    /// The number of the first packet that opened; not 0 for a later key, as the sender counts across keys.
    first: Option<u64>,
    /// Packets that opened.
    opened: u64,
    /// Their blocks.
    blocks: u64,
    /// Packets that did not open.
    forged: u64,
    /// When the key was established.
    born: Instant,
}

impl Opener {
    /// An opener for a key established at `now`, with the limits of [`KeyLimits::new`].
    pub fn new(suite: Suite, key: &KeyBytes, now: Instant) -> Self {
        Self::with_limits(suite, key, KeyLimits::new(suite), now)
    }

    /// An opener for a key established at `now`, with given limits.
    pub fn with_limits(suite: Suite, key: &KeyBytes, limits: KeyLimits, now: Instant) -> Self {
        Self::with_aead(Box::new(RingAead::new(suite, key)), limits, now)
    }

    /// An opener over a given cipher and limits.
    pub fn with_aead(aead: Box<dyn Aead>, limits: KeyLimits, now: Instant) -> Self {
        let window = ReplayWindow::new();
        Self { aead, limits, window, first: None, opened: 0, blocks: 0, forged: 0, born: now }
    }

    /// Opens a packet in place. On [`UnsealError::Forged`] the content of `packet` behind the header is
    /// undefined. [`UnsealError::Spent`] says nothing of the packet, which was not looked at.
    pub fn open<'packet>(
        &mut self,
        now: Instant,
        packet: &'packet mut [u8],
    ) -> Result<OpenedPacket<'packet>, UnsealError> {
        self.open_parsed(now, DataPacket::parse(packet)?.ok_or(UnsealError::NotData)?)
    }

    /// As [`Opener::open`], for a packet whose header was parsed.
    pub fn open_parsed<'packet>(
        &mut self,
        now: Instant,
        packet: DataPacket<'packet>,
    ) -> Result<OpenedPacket<'packet>, UnsealError> {
        if self.key_use(now) == KeyUse::Spent {
            return Err(UnsealError::Spent);
        }
        let (number, packet_bytes) = (packet.header().number(), packet.bytes());
        let vacancy = self.window.vacancy(number).ok_or(UnsealError::Replay)?;
        let (head, body) = packet.split();
        let Ok(bytes) = self.aead.open(number, head, body) else {
            self.forged += 1;
            return Err(UnsealError::Forged);
        };
        vacancy.commit();
        self.first.get_or_insert(number);
        self.opened += 1;
        self.blocks += blocks(packet_bytes);
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

    /// One past the highest number that opened; 0 before the first.
    pub const fn window_end(&self) -> u64 {
        self.window.end()
    }

    /// How far the key is used up. A gap in the packet numbers counts, because the sender sealed those
    /// packets too.
    pub fn key_use(&self, now: Instant) -> KeyUse {
        if self.forged >= self.limits.forgeries {
            return KeyUse::Spent;
        }
        // The sender enforces the hard limit. Here numbers only make a new key due: one far jump must not
        // stop the key.
        let sealed = self.window.end() - self.first.unwrap_or(0).min(self.window.end());
        let sealed_blocks = sealed.saturating_mul(SMALLEST_PACKET_BLOCKS);
        let soft = sealed >= self.limits.soft_packets || sealed_blocks >= self.limits.soft_blocks;
        match self.limits.judge(self.opened, self.blocks, now - self.born) {
            KeyUse::Fresh if soft => KeyUse::RekeyDue,
            other => other,
        }
    }
}
