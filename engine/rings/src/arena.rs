//! The bytes of a ring's records. It knows addresses, not who may use them when.
//!
//! ```text
//!  cells: a power of two >= datums, 128 bytes each      units: `bytes`, then a spill of the longest record
//! ┌──────────┬──────────┬──────────┬───────────────┐   ┌──────────────────────────────────┬──────────┐
//! │ record 0 │ record 5 │ record 2 │ …             │   │ 16-byte units │ record s │ s+1 │ … s+1    │
//! └──────────┴──────────┴──────────┴───────────────┘   └──────────────────────────────────┴──────────┘
//!   of up to 128 bytes: in cell (s · step) mod cells       place = position mod capacity; a record that
//!                                                        starts before the end runs on into the spill
//! ```
//!
//! **Why cells, and why in this order.** A processor that reads or writes along a row of lines fetches the next ones, and
//! the other half of each pair, before they are asked for. In a ring those are the lines that the other side is about to
//! write or has just read, and each such fetch costs both of them a trip. A record in a pair of lines of its own, whose
//! neighbours in memory are nobody's neighbours in time, moves once: see the notebook, "what do records cost that lie in
//! cells?". A reader that takes many at a time loses nothing: where the next record lies depends on its sequence alone, so
//! the processor asks for several of them at once. For one that takes them one by one, and is behind, see `hold`.
//!
//! Whether there are cells changes no other number: room is counted in units as if all records lay one behind the other.
//!
//! Not inside: the slots (see `slots`), the arithmetic of positions (see `units`), the cursors' cells (see `cursor`).

use crate::bugs::bug;
use crate::config::RingConfig;
use crate::limits::{SMALL_RECORD_BYTES, UNIT_BYTES};
use crate::units::Units;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::hint::assert_unchecked;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// Where a record begins: bytes from the beginning of the memory, a multiple of [`UNIT_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At(usize);

/// The memory of the records: cells, units, spill, in one piece. Without cells, or without units if all records fit cells.
pub(crate) struct Arena {
    base: NonNull<u8>,
    layout: Layout,
    /// Records shorter than this lie in cells: 0 or [`SMALL_RECORD_BYTES`] + 1.
    short: usize,
    /// From the cell of one record to that of the next, and the bits of a cell's place, in bytes.
    cell_step: usize,
    cell_mask: usize,
    /// Bytes of all cells: where the units begin.
    cells: usize,
    units: Units,
    /// One witness a unit: loom reports two uses of a unit that are not ordered by the ring's atomics.
    #[cfg(loom)]
    witnesses: Vec<loom::cell::UnsafeCell<()>>,
}

// SAFETY: the arena hands out addresses only. Who may read or write which record when is the ring's protocol (claimed:
// one writer; published and pinned: readers), which orders the uses across threads.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// How far the cell of the next record lies, in cells, if there are `cells` of them: about 0.618 of all. Odd, so that each
/// cell has its turn; and of all ratios this one keeps records that follow each other furthest apart, and so do all
/// those that follow soon (D. Knuth, The Art of Computer Programming 3, 6.4, on Fibonacci hashing).
const fn cell_step(cells: usize) -> usize {
    (cells * 633 / 1024) | 1
}

/// Alignment of the memory: a pair of cache lines, as a cell is.
const ALIGN: usize = SMALL_RECORD_BYTES;

/// How far in front of a claim the writer asks for memory, where records lie one behind the other: eight records of 64
/// bytes.
const WRITE_AHEAD_BYTES: usize = 512;

impl Arena {
    /// Bytes of cells, and of units with their spill.
    pub(crate) fn sizes(config: &RingConfig) -> (usize, usize) {
        let spill = Units::of(config.max_record).saturating_sub(if bug("spill-short") { 2 } else { 0 });
        let units = (config.capacity_units() + spill) as usize * UNIT_BYTES;
        let cells = config.cell_count() * SMALL_RECORD_BYTES;
        (cells, if cells > 0 && config.max_record <= SMALL_RECORD_BYTES { 0 } else { units })
    }

    /// `units`: the arithmetic of the ring's positions.
    pub(crate) fn new(config: &RingConfig, units: Units) -> Option<Self> {
        let (cells, rest) = Self::sizes(config);
        let layout = Layout::from_size_align(cells + rest, ALIGN).ok()?;
        assert!(layout.size() > 0, "a ring has at least one unit");
        // SAFETY: the layout's size is not zero, asserted above.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self {
            base,
            layout,
            short: if cells == 0 { 0 } else { SMALL_RECORD_BYTES + 1 },
            cell_step: if bug("cells-collide") { 2 } else { cell_step(config.cell_count()) }
                * SMALL_RECORD_BYTES,
            cell_mask: cells.saturating_sub(SMALL_RECORD_BYTES),
            cells,
            units,
            #[cfg(loom)]
            witnesses: (0..layout.size() / UNIT_BYTES).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        })
    }

    /// Whether a record of `len` bytes lies in a cell.
    #[inline(always)]
    pub(crate) fn is_short(&self, len: usize) -> bool {
        len < self.short
    }

    /// Where the record `seq` of `len` bytes lies, which ends at the position that `end` gives.
    #[inline(always)]
    pub(crate) fn find(&self, seq: u64, len: usize, end: impl FnOnce() -> u64) -> At {
        if self.is_short(len) {
            return self.cell(seq);
        }
        self.unit(self.units.place_before(end(), Units::of(len)))
    }

    /// The cell of record `seq`, if there are cells.
    #[inline(always)]
    fn cell(&self, seq: u64) -> At {
        At((seq as usize).wrapping_mul(self.cell_step) & self.cell_mask)
    }

    #[inline(always)]
    fn unit(&self, place: u64) -> At {
        At(self.cells + place as usize * UNIT_BYTES)
    }

    /// Where the record lies that follows one at `at` of `len` bytes, if neither is short.
    #[inline(always)]
    pub(crate) fn behind(&self, at: At, len: usize) -> At {
        let place = (at.0 - self.cells) / UNIT_BYTES;
        self.unit(self.units.place_after(place as u64, Units::of(len)))
    }

    /// The address of a record's first byte.
    #[inline(always)]
    pub(crate) fn address(&self, at: At) -> NonNull<u8> {
        debug_assert!(at.0 < self.layout.size());
        // SAFETY: an `At` is made here only: of a cell's index below their number, or of a place below the capacity. So it
        // stays inside the allocation; debug-asserted above.
        unsafe { self.base.add(at.0) }
    }

    /// Asks for the first line of the cell of record `seq`, if there are cells.
    #[inline(always)]
    pub(crate) fn expect_short(&self, seq: u64) {
        if self.short != 0 {
            prefetch(self.address(self.cell(seq)).as_ptr());
        }
    }

    /// Asks for the first line of the record at `at`.
    #[inline(always)]
    pub(crate) fn expect_at(&self, at: At) {
        prefetch(self.address(at).as_ptr());
    }

    /// Asks for the line that a writer at `at` will reach some records later, if those are not short. It was written a lap
    /// ago and has been read by other processors since; brought near in time, it costs the writer's stores less.
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, at: At) {
        // Wrapping, because it may point behind the memory near its end, where the hint is wasted.
        prefetch(self.base.as_ptr().wrapping_add(at.0 + WRITE_AHEAD_BYTES));
    }

    /// Tells loom that a record is read. Nothing otherwise.
    #[inline(always)]
    #[cfg_attr(not(loom), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn witness_read(&self, at: At, len: usize) {
        #[cfg(loom)]
        for witness in &self.witnesses[at.0 / UNIT_BYTES..][..Units::of(len) as usize] {
            witness.with(|_| ());
        }
    }

    /// Tells loom that a record is written. Nothing otherwise.
    #[inline(always)]
    #[cfg_attr(not(loom), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn witness_write(&self, at: At, len: usize) {
        #[cfg(loom)]
        for witness in &self.witnesses[at.0 / UNIT_BYTES..][..Units::of(len) as usize] {
            witness.with_mut(|_| ());
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this layout, and nobody has the arena any more.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

#[inline(always)]
fn prefetch(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it neither faults nor reads in the sense of the memory model.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

/// The bytes of a record that begins at `at`.
///
/// # Safety
/// As for `slice::from_raw_parts`; and `at` is the beginning of a unit or of a cell. Said to the compiler, that spares
/// whoever looks at the bytes as at a value of its own type the test of their alignment.
#[inline(always)]
pub(crate) unsafe fn slice_at<'a>(at: NonNull<u8>, len: usize) -> &'a [u8] {
    // SAFETY: units and cells begin at multiples of a unit's size, since the arena does; the caller vouches for the rest.
    unsafe {
        assert_unchecked(at.addr().get().is_multiple_of(UNIT_BYTES));
        from_raw_parts(at.as_ptr(), len)
    }
}

/// As [`slice_at`], to write.
///
/// # Safety
/// As for `slice::from_raw_parts_mut`; and `at` is the beginning of a unit or of a cell.
#[inline(always)]
pub(crate) unsafe fn slice_mut_at<'a>(at: NonNull<u8>, len: usize) -> &'a mut [u8] {
    // SAFETY: as in `slice_at`.
    unsafe {
        assert_unchecked(at.addr().get().is_multiple_of(UNIT_BYTES));
        from_raw_parts_mut(at.as_ptr(), len)
    }
}

/// Strides over published records of one length, sequence by sequence. One kind for each way in which records lie, so that a
/// loop over them has nothing to decide.
pub(crate) trait Stride {
    /// Goes to the next record, and gives the address of its first byte.
    fn next(&mut self) -> NonNull<u8>;
}

/// Short records, in cells.
pub(crate) struct CellStride<'a> {
    /// Of the arena, by value: a compiler keeps them in registers whatever the loop calls.
    base: NonNull<u8>,
    step: usize,
    mask: usize,
    /// The present record's cell.
    at: usize,
    _arena: PhantomData<&'a Arena>,
    #[cfg(loom)]
    witness: (&'a Arena, usize),
}

impl<'a> CellStride<'a> {
    /// At the record at `at` of `len` bytes, which is short.
    #[inline(always)]
    pub(crate) fn new(arena: &'a Arena, at: At, len: usize) -> Self {
        debug_assert!(arena.is_short(len));
        Self {
            base: arena.base,
            step: arena.cell_step,
            mask: arena.cell_mask,
            at: at.0,
            _arena: PhantomData,
            #[cfg(loom)]
            witness: (arena, len),
        }
    }
}

impl Stride for CellStride<'_> {
    #[inline(always)]
    fn next(&mut self) -> NonNull<u8> {
        self.at = self.at.wrapping_add(self.step) & self.mask;
        #[cfg(loom)]
        self.witness.0.witness_read(At(self.at), self.witness.1);
        // SAFETY: the mask leaves the place of a cell.
        unsafe { self.base.add(self.at) }
    }
}

/// Records that lie one behind the other.
pub(crate) struct UnitStride<'a> {
    arena: &'a Arena,
    address: NonNull<u8>,
    /// Bytes from one record to the next.
    step: usize,
    /// Where the units end, without the spill; `lap` bytes behind where they begin.
    end: NonNull<u8>,
    lap: usize,
}

impl<'a> UnitStride<'a> {
    /// At the record at `at` of `len` bytes, which is not short.
    #[inline(always)]
    pub(crate) fn new(arena: &'a Arena, at: At, len: usize) -> Self {
        debug_assert!(!arena.is_short(len));
        let (lap, step) = (arena.units.capacity as usize * UNIT_BYTES, Units::of(len) as usize * UNIT_BYTES);
        // SAFETY: the units begin behind the cells, and `lap` is their size without the spill. A record that is not short
        // lies in units, so there are some.
        let end = unsafe { arena.base.add(arena.cells + lap) };
        Self { arena, address: arena.address(at), step, end, lap }
    }

    /// Where the present record lies.
    #[inline(always)]
    pub(crate) fn at(&self) -> At {
        At(self.address.addr().get() - self.arena.base.addr().get())
    }
}

impl Stride for UnitStride<'_> {
    /// With a branch that is hardly ever taken, rather than arithmetic that each record would have to wait for.
    #[inline(always)]
    fn next(&mut self) -> NonNull<u8> {
        // SAFETY: the present record begins in front of `end` and ends within the spill, hence inside the allocation.
        let mut next = unsafe { self.address.add(self.step) };
        if next >= self.end {
            seldom();
            // SAFETY: `next` is at or behind `end`, which is `lap` bytes behind where the units begin.
            next = unsafe { next.sub(self.lap) };
        }
        self.address = next;
        self.arena.witness_read(self.at(), self.step);
        next
    }
}

/// Tells the compiler that the branch which calls this is the unusual one.
#[cold]
#[inline]
fn seldom() {}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn arena(datums: usize, bytes: usize, max_record: usize) -> Arena {
        let config = RingConfig {
            datums,
            bytes,
            max_record,
            readers: 1,
            scatter_small: RingConfig::scatter_fits(datums, bytes),
        };
        Arena::new(&config, Units::new(config.capacity_units())).unwrap()
    }

    #[test]
    fn as_many_records_as_there_are_datums_lie_in_cells_of_their_own() {
        for datums in [1, 2, 3, 5, 8, 100, 1_000, 1_024] {
            let arena = arena(datums, datums.next_power_of_two() * SMALL_RECORD_BYTES, SMALL_RECORD_BYTES);
            for from in [0, 1, 77, crate::word::LAST_SEQ - 2_000] {
                let cells: HashSet<_> =
                    (from..from + datums as u64).map(|seq| arena.find(seq, 1, || unreachable!()).0).collect();
                assert_eq!(cells.len(), datums);
                assert!(
                    cells
                        .iter()
                        .all(|at| at % SMALL_RECORD_BYTES == 0
                            && at + SMALL_RECORD_BYTES <= arena.layout.size())
                );
            }
        }
    }

    #[test]
    fn records_that_follow_each_other_soon_lie_far_from_each_other() {
        for datums in [256, 1_024, 65_536] {
            let arena = arena(datums, datums * SMALL_RECORD_BYTES, 64);
            let cell = |seq: u64| arena.find(seq, 64, || unreachable!()).0 / SMALL_RECORD_BYTES;
            for (one, other) in (0..40u64).flat_map(|one| (one + 1..one + 9).map(move |other| (one, other))) {
                let apart = cell(one).abs_diff(cell(other));
                let apart = apart.min(datums - apart);
                assert!(apart >= datums / 32, "{one} and {other} are {apart} cells apart, of {datums}");
            }
        }
    }

    #[test]
    fn the_memory_has_cells_if_they_take_no_more_than_the_bytes_asked_for() {
        let sizes = |datums, bytes, max_record| {
            Arena::sizes(&RingConfig {
                datums,
                bytes,
                max_record,
                readers: 1,
                scatter_small: RingConfig::scatter_fits(datums, bytes),
            })
        };
        assert_eq!(sizes(4, 4 * 128, 64), (512, 0), "all records fit cells");
        assert_eq!(sizes(4, 4 * 128, 129), (512, 512 + 144), "some do not");
        assert_eq!(sizes(4, 4 * 128 - 1, 64), (0, 31 * 16 + 64), "no cells");
        assert_eq!(sizes(5, 5 * 128, 64), (0, 640 + 64), "cells for 5 are 8");
    }

    #[test]
    fn long_records_follow_each_other_also_where_short_ones_lie_in_cells() {
        let arena = arena(2, 3 * 128, 200);
        assert_eq!((arena.cells, arena.units.capacity), (256, 24));
        let at = arena.find(7, 200, || 13);
        assert_eq!(at, At(256));
        assert_eq!(arena.behind(at, 200), At(256 + 13 * 16));
        assert_eq!(arena.behind(At(256 + 13 * 16), 200), At(256 + 2 * 16), "past the end of the units");
    }
}
