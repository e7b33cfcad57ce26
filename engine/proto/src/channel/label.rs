//! The number that names a channel inside a session.

use core::fmt;

/// Names a channel inside one session, on this side.
///
/// ```text
/// bit 31  | 30 ............ 12 | 11 ........ 0
/// by peer | life of the slot   | slot
/// ```
///
/// Bit 31 is local: set when the peer opened the channel (then this side is the producer). The other 31 bits
/// are chosen by the opener and the same on both sides. A slot's life only grows, so a label is never used
/// twice in a session, and finding a channel is one index into a table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(u32);

impl Label {
    pub(crate) const SLOT_BITS: u32 = 12;
    /// Channels that either side may have open at once; the slot number of a label has this many values.
    pub const MAX_CHANNELS: usize = 1 << Self::SLOT_BITS;
    pub(crate) const LIFE_LIMIT: u32 = 1 << (31 - Self::SLOT_BITS);
    const BY_PEER: u32 = 1 << 31;

    /// The label of slot `slot` in its life `life`.
    pub(crate) const fn new(slot: usize, life: u32, by_peer: bool) -> Self {
        debug_assert!(slot < Self::MAX_CHANNELS && life < Self::LIFE_LIMIT);
        Self((slot as u32) | (life << Self::SLOT_BITS) | if by_peer { Self::BY_PEER } else { 0 })
    }

    /// The label that a frame carries; `None` when the reserved bit is set.
    pub(crate) const fn from_wire(bits: u32, by_peer: bool) -> Option<Self> {
        if bits & Self::BY_PEER != 0 {
            return None;
        }
        Some(Self(bits | if by_peer { Self::BY_PEER } else { 0 }))
    }

    /// The 31 bits that travel.
    pub(crate) const fn wire(self) -> u32 {
        self.0 & !Self::BY_PEER
    }

    /// Whether the peer opened this channel, that is, whether this side is the producer.
    pub const fn is_by_peer(self) -> bool {
        self.0 & Self::BY_PEER != 0
    }

    /// The slot of the table that the channel lives in, below [`Label::MAX_CHANNELS`]. Good as an index for
    /// tables beside the session's; channels opened here and channels opened by the peer count separately.
    pub const fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    pub(crate) const fn life(self) -> u32 {
        (self.0 & !Self::BY_PEER) >> Self::SLOT_BITS
    }

    /// The whole label as a number, unique in its session on this side.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// The label with this number, as [`Label::as_u32`] gave it.
    pub const fn from_u32(bits: u32) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.is_by_peer() { "theirs" } else { "ours" };
        write!(f, "Label({side} {}.{})", self.slot(), self.life())
    }
}
