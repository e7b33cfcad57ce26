//! What a consumer keeps of a channel that came before its turn.

use alloc::vec::Vec;

use super::HELD_OVERHEAD_BYTES;

/// A row of sequences that came before its turn.
#[derive(Debug)]
pub(super) enum EarlyRun {
    Data { count: u32, uniform: bool, offset: u64, bytes: Vec<u8> },
    Skip { until: u64, offset: u64 },
}

impl EarlyRun {
    pub(super) fn end(&self, first: u64) -> u64 {
        match self {
            Self::Data { count, .. } => first + u64::from(*count),
            Self::Skip { until, .. } => *until,
        }
    }

    pub(super) fn charge(&self) -> usize {
        HELD_OVERHEAD_BYTES
            + match self {
                Self::Data { bytes, .. } => bytes.len(),
                Self::Skip { .. } => 0,
            }
    }
}
