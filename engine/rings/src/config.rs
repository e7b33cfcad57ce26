//! The sizes of a ring, and the check of their limits.

use crate::error::RingConfigError;
use crate::limits::{
    MAX_ARENA_BYTES, MAX_DATUMS, MAX_READERS, MAX_RECORD_BYTES, SMALL_RECORD_BYTES, UNIT_BYTES,
};
use crate::units::Units;

/// The sizes of one ring. All are exact: a ring of 1000 datums takes 1000 and refuses the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Datums that the ring holds, 1 to [`MAX_DATUMS`].
    pub datums: usize,
    /// Bytes that the ring holds, each record counted by [`RingConfig::cost`]; [`UNIT_BYTES`] to
    /// [`MAX_ARENA_BYTES`]. Rounded down to whole units.
    pub bytes: usize,
    /// Longest record in bytes, 1 to [`MAX_RECORD_BYTES`]; its cost must not exceed `bytes`.
    pub max_record: usize,
    /// Readers at one time, 1 to [`MAX_READERS`].
    pub readers: usize,
    /// Whether each record of up to [`SMALL_RECORD_BYTES`] gets two cache lines of its own, scattered so that
    /// consecutive records are never neighbours in memory. Faster on some processors and slower on others.
    /// Takes [`SMALL_RECORD_BYTES`] for each datum, with the datums rounded up to a power of two: besides
    /// `bytes`, or in place of them if `max_record` is small. Capacity in datums and bytes is the same either
    /// way.
    pub scatter_small: bool,
}

impl RingConfig {
    /// Bytes of capacity that a record of `len` bytes uses: `len` rounded up to whole units, at least one.
    #[must_use]
    pub const fn cost(len: usize) -> usize {
        Units::of(len) as usize * UNIT_BYTES
    }

    /// Whether scattering the small records of `datums` takes no more memory than `bytes`.
    #[must_use]
    pub const fn scatter_fits(datums: usize, bytes: usize) -> bool {
        match datums.checked_next_power_of_two() {
            Some(blocks) => blocks <= bytes / SMALL_RECORD_BYTES,
            None => false,
        }
    }

    /// How many blocks for small records there are: 0, or a power of two that is at least `datums`.
    pub(crate) const fn block_count(&self) -> usize {
        if self.scatter_small { self.datums.next_power_of_two() } else { 0 }
    }

    pub(crate) const fn capacity_units(&self) -> u64 {
        (self.bytes / UNIT_BYTES) as u64
    }

    /// Checks every limit.
    pub(crate) fn check(&self) -> Result<(), RingConfigError> {
        if !(1..=MAX_DATUMS).contains(&self.datums) {
            return Err(RingConfigError::Datums(self.datums));
        }
        if !(UNIT_BYTES..=MAX_ARENA_BYTES).contains(&self.bytes) {
            return Err(RingConfigError::Bytes(self.bytes));
        }
        if !(1..=MAX_RECORD_BYTES).contains(&self.max_record) {
            return Err(RingConfigError::MaxRecord(self.max_record));
        }
        if Units::of(self.max_record) > self.capacity_units() {
            return Err(RingConfigError::RecordExceedsRing {
                max_record: self.max_record,
                bytes: self.bytes,
            });
        }
        if !(1..=MAX_READERS).contains(&self.readers) {
            return Err(RingConfigError::Readers(self.readers));
        }
        Ok(())
    }
}
