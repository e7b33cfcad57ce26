//! What a consumer holds of a Reliable channel until the sequences before it have arrived.

use alloc::vec::Vec;

use super::HELD_OVERHEAD_BYTES;

/// Consecutive sequences that arrived early; its first sequence is its key in [`super::RxChannel`].
#[derive(Debug)]
pub(super) enum EarlyRun {
    /// The body of a DATA frame, or a part of one.
    Data { count: u32, uniform: bool, offset: u64, bytes: Vec<u8> },
    /// Sequences up to `until` that the producer skipped; `until` starts at `offset`.
    Skip { until: u64, offset: u64 },
}

impl EarlyRun {
    /// One past its last sequence.
    pub(super) fn end(&self, first: u64) -> u64 {
        match self {
            Self::Data { count, .. } => first + u64::from(*count),
            Self::Skip { until, .. } => *until,
        }
    }

    /// Bytes charged to the budget for it.
    pub(super) fn charge(&self) -> usize {
        HELD_OVERHEAD_BYTES
            + match self {
                Self::Data { bytes, .. } => bytes.len(),
                Self::Skip { .. } => 0,
            }
    }
}
