//! What a world counts.

/// What the network did so far, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldStats {
    /// Handed to the network.
    pub sent: u64,
    /// Put into a socket's queue.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost to a partition or a cut.
    pub cut: u64,
    /// Arrived a second time.
    pub duplicated: u64,
    /// Made late, so that others could pass.
    pub reordered: u64,
    /// Had bits flipped.
    pub corrupted: u64,
    /// Had their end cut off.
    pub truncated: u64,
    /// Larger than the link takes.
    pub too_large: u64,
    /// Dropped by the full queue of a slow link.
    pub queue_full: u64,
    /// Dropped by a full receive queue.
    pub overflowed: u64,
    /// Sent to an address where no socket is bound.
    pub refused: u64,
}
