//! What the consumer's channels of a session may hold until something before it arrives.
//!
//! ```text
//! max / 2   large Reliable datums, reserved whole when their first fragment arrives
//! max / 2   early runs, and fragments of large FireAndForget datums
//! ```
//!
//! A large datum takes its whole length at once: fragments never fill the memory that the rest of the datums
//! they belong to would need. The producer knows the first half and begins no more than fits
//! ([`super::TxChannel`]), so that nothing has to be refused. The second half may be full without harm: what
//! is at the position of its channel needs no room there.

use alloc::vec::Vec;

use super::{Fault, Partial};
use crate::mutate;

/// What holding an early run costs beside its bytes: its entry and its buffer's header, rounded up.
pub(crate) const HELD_OVERHEAD_BYTES: usize = 96;
/// What a large datum costs beside its bytes: its entry, and the list of what has arrived.
pub(crate) const PARTIAL_OVERHEAD_BYTES: usize = 384;
/// Buffers that are kept for reuse, so that loss in steady state allocates nothing.
const SPARE_BUFFERS: usize = 16;
/// A larger buffer of an early run is not kept: runs are joined up to half of it, and buffers double.
const SPARE_RUN_BYTES: usize = 128 << 10;
/// Large datums that are kept for reuse: as many as are usually in reassembly at once.
const SPARE_PARTIALS: usize = 8;
/// Most bytes of their buffers, so that an idle session keeps 4 MiB at most.
const SPARE_PARTIAL_BYTES: usize = 4 << 20;

/// Most bytes by which buffers of large datums may grow ahead of what arrives: as many as are kept for reuse.
/// A longer gap in a datum is taken when what has arrived earns it.
const ALLOWANCE_BYTES: usize = SPARE_PARTIAL_BYTES;

/// The bytes that large Reliable datums may take under a bound of `max` bytes in total.
pub(crate) const fn large_share(max: usize) -> usize {
    max / 2
}

/// The longest datum that can be held under a bound of `max` bytes in total.
pub(crate) const fn longest_held(max: usize) -> usize {
    large_share(max).saturating_sub(PARTIAL_OVERHEAD_BYTES)
}

/// The bytes that are held, by kind. `early <= max - max / 2` and `early + large <= max`.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    /// Taken by early runs and FireAndForget datums.
    early: usize,
    /// Reserved by large Reliable datums.
    large: usize,
    /// Empty buffers of early runs; not counted.
    spare_runs: Vec<Vec<u8>>,
    /// Large datums to reuse; not counted.
    spare_partials: Vec<Partial>,
    /// Bytes by which their buffers may still grow ahead of what arrives; at most [`ALLOWANCE_BYTES`].
    allowance: usize,
}

impl Budget {
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            max,
            early: 0,
            large: 0,
            spare_runs: Vec::new(),
            spare_partials: Vec::new(),
            allowance: ALLOWANCE_BYTES,
        }
    }

    /// A buffer grows by `bytes` more than what has arrived earns, or not at all.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.allowance = self.allowance.checked_sub(bytes).ok_or(Fault::Refuse)?;
        Ok(())
    }

    /// `bytes` of large datums have arrived.
    pub(super) fn earn(&mut self, bytes: usize) {
        self.allowance = self.allowance.saturating_add(bytes).min(ALLOWANCE_BYTES);
    }

    /// Charges `bytes` of an early run, or refuses without a change.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        let early = self.early.saturating_add(bytes);
        let bound = (self.max - large_share(self.max)).min(self.max - self.large);
        if mutate!(early > bound, "held-without-bound" => false) {
            return Err(Fault::Refuse);
        }
        self.early = early;
        Ok(())
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.early, "more given back than was taken");
        self.early = self.early.saturating_sub(bytes);
    }

    /// Reserves `bytes` of a large Reliable datum, or refuses without a change. `in_order`: its channel waits
    /// for nothing else.
    pub(crate) fn reserve(&mut self, bytes: usize, in_order: bool) -> Result<(), Fault> {
        let large = self.large.saturating_add(bytes);
        let bound = if in_order { self.max } else { large_share(self.max) };
        if large > bound || large.saturating_add(self.early) > self.max {
            return Err(Fault::Refuse);
        }
        self.large = large;
        Ok(())
    }

    /// Gives back what was reserved.
    pub(crate) fn free(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.large, "more given back than was reserved");
        self.large = self.large.saturating_sub(bytes);
    }

    pub(crate) const fn held(&self) -> usize {
        self.early + self.large
    }

    /// A copy of `bytes`, in a buffer that was used before if there is one.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        // The largest, as others will be joined to the run.
        let largest = (0..self.spare_runs.len()).max_by_key(|at| self.spare_runs[*at].capacity());
        let mut buffer = largest.map_or(Vec::new(), |at| self.spare_runs.swap_remove(at));
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Keeps the buffer of an early run for the next.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare_runs.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_RUN_BYTES {
            buffer.clear();
            self.spare_runs.push(buffer);
        }
    }

    /// A large datum to reuse, with `bytes` of room if there is one.
    pub(super) fn take_partial(&mut self, bytes: usize) -> Option<Partial> {
        let fits = self.spare_partials.iter().position(|partial| partial.buffer_bytes() >= bytes);
        match fits {
            Some(at) => Some(self.spare_partials.swap_remove(at)),
            None => self.spare_partials.pop(),
        }
    }

    /// Keeps a large datum for the next one.
    pub(super) fn keep_partial(&mut self, partial: Partial) {
        let kept: usize = self.spare_partials.iter().map(Partial::buffer_bytes).sum();
        if self.spare_partials.len() < SPARE_PARTIALS && kept + partial.buffer_bytes() <= SPARE_PARTIAL_BYTES
        {
            self.spare_partials.push(partial);
        }
    }
}
