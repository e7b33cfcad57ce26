//! The number that names a channel within a session.

use core::fmt;

/// Names a channel within one session, as this side sees it.
///
/// ```text
/// bit 31  | 30 ............ 14 | 13 ........ 0
/// by peer | life of the slot   | slot
/// ```
///
/// Bit 31 is local: it is set when the peer opened the channel, so that this side is the producer. The opener
/// chooses the other 31 bits, which are the same on both sides. It counts a slot's lives upwards, so a label
/// is never reused in a session. Finding a channel is one index into a table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(u32);

impl Label {
    pub(crate) const SLOT_BITS: u32 = 14;
    /// Channels that each side may have open at once: the number of slots that a label can name.
    pub const MAX_CHANNELS: usize = 1 << Self::SLOT_BITS;
    /// Lives of a slot; a slot that has had them all is not used again.
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

    /// The table slot of the channel, below [`Label::MAX_CHANNELS`]. Owners may use it as an index into
    /// tables of their own. Channels opened here and channels opened by the peer have separate slots.
    pub const fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    pub(crate) const fn life(self) -> u32 {
        (self.0 & !Self::BY_PEER) >> Self::SLOT_BITS
    }

    /// The label as a number, unique in its session on this side.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// The label that [`Label::as_u32`] turned into this number.
    pub const fn from_u32(bits: u32) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.is_by_peer() { "tx" } else { "rx" };
        write!(f, "Label({side} {}.{})", self.slot(), self.life())
    }
}
