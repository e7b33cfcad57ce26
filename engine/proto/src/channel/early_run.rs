//! What a consumer holds of a Reliable channel until the sequences before it have arrived.

use alloc::vec::Vec;

use super::{HELD_OVERHEAD_BYTES, datum_cost};

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

    /// Whether datums of `len` bytes from `seq` on, which starts at `offset`, are a continuation of it.
    pub(super) fn goes_on_with(&self, first: u64, seq: u64, len: usize, offset: u64) -> bool {
        let Self::Data { count, uniform: true, offset: start, bytes } = self else { return false };
        // Behind a resent part an offset is only a lower bound, and then it does not fit.
        self.end(first) == seq
            && bytes.len() == *count as usize * len
            && start.saturating_add(u64::from(*count) * datum_cost(len)) == offset
    }

    /// Adds `more` datums, of which [`EarlyRun::goes_on_with`] is true.
    pub(super) fn extend(&mut self, more: u32, more_bytes: &[u8]) {
        if let Self::Data { count, bytes, .. } = self {
            *count += more;
            bytes.extend_from_slice(more_bytes);
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
