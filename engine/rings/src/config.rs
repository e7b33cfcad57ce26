//! What a ring is made of: sizes, their limits and their errors. No memory is touched here.

use crate::arena::Arena;
use crate::cursor::Cell;
use crate::limits::{
    MAX_ARENA_BYTES, MAX_DATUMS, MAX_READERS, MAX_RECORD_BYTES, SMALL_RECORD_BYTES, UNIT_BYTES,
};
use crate::ring::Shared;
use crate::slots::{SLOT_BYTES, Slots};
use crate::units::Units;
use crossbeam_utils::CachePadded;
use thiserror::Error;

/// What `Arc` allocates: its two counts, then the value where its alignment lets it be.
#[repr(C)]
struct Counted<T> {
    counts: [usize; 2],
    value: T,
}

/// The sizes of one ring. All of them are exact: a ring of 1000 datums takes 1000 and refuses the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Datums that the ring holds, 1 to [`MAX_DATUMS`].
    pub datums: usize,
    /// Bytes that the ring holds, each record counted by [`RingConfig::cost`]. Rounded down to whole units.
    pub bytes: usize,
    /// Longest record in bytes, 1 to [`MAX_RECORD_BYTES`]; its cost must not exceed `bytes`.
    pub max_record: usize,
    /// Readers at one time, 1 to [`MAX_READERS`].
    pub readers: usize,
    /// Whether records of up to [`SMALL_RECORD_BYTES`] lie in cells, each in a pair of cache lines of its own: then they pass faster
    /// between processors, mostly two to three times as fast. Costs [`SMALL_RECORD_BYTES`] for each datum, with the datums rounded
    /// up to a power of two, on top of `bytes`; if all records fit cells, in place of them. It changes nothing else.
    pub scatter_small: bool,
}

/// A [`RingConfig`] that no ring can be built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RingConfigError {
    /// `datums` is out of range.
    #[error("a ring holds 1 to {MAX_DATUMS} datums, not {0}")]
    Datums(usize),
    /// `bytes` is out of range.
    #[error("a ring holds 16 to {MAX_ARENA_BYTES} bytes, not {0}")]
    Bytes(usize),
    /// `max_record` is out of range.
    #[error("a record is 1 to {MAX_RECORD_BYTES} bytes long, not {0}; split larger ones")]
    MaxRecord(usize),
    /// One record of the longest kind would not fit.
    #[error("a record of {max_record} bytes does not fit a ring of {bytes}; raise `bytes`")]
    RecordExceedsRing {
        /// The longest record asked for, in bytes.
        max_record: usize,
        /// The ring's bytes asked for.
        bytes: usize,
    },
    /// `readers` is out of range.
    #[error("a ring has 1 to {MAX_READERS} readers, not {0}; share one reader, or use a second ring")]
    Readers(usize),
    /// The memory was not granted.
    #[error("no memory for a ring of {0} bytes; ask for a smaller one")]
    Memory(usize),
}

impl RingConfig {
    /// Bytes of capacity that a record of `len` bytes uses: `len` rounded up to whole units, at least one.
    #[must_use]
    pub const fn cost(len: usize) -> usize {
        let units = len.div_ceil(UNIT_BYTES);
        if units == 0 { UNIT_BYTES } else { units * UNIT_BYTES }
    }

    /// Whether cells for `datums` take no more memory than `bytes`.
    #[must_use]
    pub const fn scatter_fits(datums: usize, bytes: usize) -> bool {
        match datums.checked_next_power_of_two() {
            Some(cells) => cells <= bytes / SMALL_RECORD_BYTES,
            None => false,
        }
    }

    /// Memory that a ring of this size allocates, in bytes; 0 for sizes that `Ring::new` refuses.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        if self.check().is_err() {
            return 0;
        }
        let (cells, units) = Arena::sizes(self);
        let slots = Slots::count(self.datums) * SLOT_BYTES;
        cells + units + slots + self.readers * size_of::<CachePadded<Cell>>() + size_of::<Counted<Shared>>()
    }

    /// How many cells there are. Sequences count modulo this, so it is a power of two.
    pub(crate) const fn cell_count(&self) -> usize {
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
