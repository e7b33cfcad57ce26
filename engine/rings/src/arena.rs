//! The bytes of a ring's records. It knows addresses, not who may use them when.
//!
//! ```text
//!  blocks: a power of two >= datums, 128 bytes each     units: `bytes`, then a spill of the longest record
//! ┌──────────┬──────────┬──────────┬───────────────┐   ┌──────────────────────────────────┬──────────┐
//! │ record 0 │ record 5 │ record 2 │ …             │   │ 16-byte units │ record s │ s+1 │ … s+1    │
//! └──────────┴──────────┴──────────┴───────────────┘   └──────────────────────────────────┴──────────┘
//!   small records, scattered: block                      other records, packed: position mod capacity;
//!   s · step mod blocks, step ≈ 0.618 blocks             one that starts before the end runs into the spill
//! ```
//!
//! Consecutive small records are far apart in memory, so the prefetcher does not fetch lines that another
//! core is writing (see the crate's page, "Micro-architecture"). Where a small record lies depends on its
//! sequence alone. Scattering changes addresses only: room is counted in units as if all records were packed.

use crate::bugs::mutate;
use crate::config::RingConfig;
use crate::limits::{PAGE_BYTES, SMALL_RECORD_BYTES, UNIT_BYTES};
use crate::units::Units;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::hint::assert_unchecked;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// Where a record begins: bytes from the beginning of the arena, a multiple of [`UNIT_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArenaOffset(usize);

/// The memory of the records, in one allocation: blocks, units, spill. There are no blocks unless small
/// records are scattered, and no units if all records are.
pub(crate) struct Arena {
    /// The first multiple of [`ALIGN`] in the allocation.
    base: NonNull<u8>,
    /// Where the allocation begins, and what was asked for: [`ALIGN_SLACK`] bytes more than the arena has.
    allocation: NonNull<u8>,
    layout: Layout,
    /// Records shorter than this are scattered: 0 or [`SMALL_RECORD_BYTES`] + 1.
    scatter_below: usize,
    /// Bytes from the block of one record to that of the next.
    block_step: usize,
    /// Bits of a block's offset.
    block_mask: usize,
    /// Bytes of all blocks: where the units begin.
    block_bytes: usize,
    units: Units,
    /// One witness for each unit: loom reports two uses of a unit that the ring's atomics do not order.
    #[cfg(loom)]
    witnesses: Vec<loom::cell::UnsafeCell<()>>,
}

// SAFETY: the arena hands out addresses only. Who may read or write which record when is the ring's protocol
// (claimed: one writer; published and pinned: readers), which orders the uses across threads.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// Blocks from one small record to the next, of `blocks`: about 0.618 of them (Fibonacci hashing; D. Knuth,
/// The Art of Computer Programming 3, 6.4), the ratio that keeps records that follow each other soon furthest
/// apart. Odd, so that a lap visits every block.
const fn block_step(blocks: usize) -> usize {
    (blocks * 633 / 1024) | 1
}

/// Alignment of the arena: that of a block.
const ALIGN: usize = SMALL_RECORD_BYTES;

/// Alignment of the allocation. Not [`ALIGN`]: zeroed memory of a larger alignment than an allocator's own is
/// written by `std` in any case, and a ring made by [`Arena::new`] alone shall not be resident before it is
/// used.
const ALLOCATION_ALIGN: usize = UNIT_BYTES;

/// What is allocated to find a multiple of [`ALIGN`] in it.
pub(crate) const ALIGN_SLACK: usize = ALIGN - ALLOCATION_ALIGN;

/// How far ahead of a claim of a packed record the writer prefetches: eight records of 64 bytes.
const WRITE_AHEAD_BYTES: usize = 512;

impl Arena {
    /// Bytes of blocks, and of units with their spill.
    pub(crate) fn sizes(config: &RingConfig) -> (usize, usize) {
        let spill = Units::of(config.max_record);
        let spill = mutate!(spill, "spill-short" => spill.saturating_sub(2));
        let units = (config.capacity_units() + spill) as usize * UNIT_BYTES;
        let blocks = config.block_count() * SMALL_RECORD_BYTES;
        (blocks, if blocks > 0 && config.max_record <= SMALL_RECORD_BYTES { 0 } else { units })
    }

    /// Memory that the system may give page by page, when it is first written. `units`: the arithmetic of the
    /// ring's positions. `None`: no memory.
    pub(crate) fn new(config: &RingConfig, units: Units) -> Option<Self> {
        let (block_bytes, rest) = Self::sizes(config);
        assert!(block_bytes + rest > 0, "a ring has at least one unit");
        let layout = Layout::from_size_align(block_bytes + rest + ALIGN_SLACK, ALLOCATION_ALIGN).ok()?;
        // SAFETY: the layout's size is not zero, asserted above.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let ahead = allocation.addr().get().wrapping_neg() % ALIGN;
        // SAFETY: both addresses are multiples of `ALLOCATION_ALIGN`, so the base lies at most `ALIGN_SLACK`
        // bytes ahead, and the bytes of the arena behind it.
        let base = unsafe { allocation.add(ahead) };
        let step = mutate!(block_step(config.block_count()), "blocks-collide" => 2);
        Some(Self {
            base,
            allocation,
            layout,
            scatter_below: if block_bytes == 0 { 0 } else { SMALL_RECORD_BYTES + 1 },
            block_step: step * SMALL_RECORD_BYTES,
            block_mask: block_bytes.saturating_sub(SMALL_RECORD_BYTES),
            block_bytes,
            units,
            #[cfg(loom)]
            witnesses: (0..(block_bytes + rest) / UNIT_BYTES)
                .map(|_| loom::cell::UnsafeCell::new(()))
                .collect(),
        })
    }

    /// Writes to each page once, so that no record waits for one. To be called before the first record.
    /// Volatile, because a compiler may leave out zeros that are written to memory it knows to be zero.
    pub(crate) fn touch(&mut self) {
        let last = self.layout.size() - 1;
        for at in (0..last).step_by(PAGE_BYTES).chain([last]) {
            // SAFETY: the byte is inside the allocation, which no record uses yet: the borrow is exclusive.
            unsafe { self.allocation.add(at).write_volatile(0) }
        }
    }

    /// Whether a record of `len` bytes is scattered; otherwise it is packed.
    #[inline(always)]
    pub(crate) fn is_scattered(&self, len: usize) -> bool {
        len < self.scatter_below
    }

    /// Where the record `seq` of `len` bytes lies. `end` gives the position where it ends.
    #[inline(always)]
    pub(crate) fn find(&self, seq: u64, len: usize, end: impl FnOnce() -> u64) -> ArenaOffset {
        if self.is_scattered(len) {
            return self.block(seq);
        }
        self.unit(self.units.place_before(end(), Units::of(len)))
    }

    /// The block of record `seq`, if there are blocks.
    #[inline(always)]
    fn block(&self, seq: u64) -> ArenaOffset {
        ArenaOffset((seq as usize).wrapping_mul(self.block_step) & self.block_mask)
    }

    #[inline(always)]
    fn unit(&self, place: u64) -> ArenaOffset {
        ArenaOffset(self.block_bytes + place as usize * UNIT_BYTES)
    }

    /// Where the record lies that follows one at `at` of `len` bytes, if both are packed.
    #[inline(always)]
    pub(crate) fn next_packed(&self, at: ArenaOffset, len: usize) -> ArenaOffset {
        let place = (at.0 - self.block_bytes) / UNIT_BYTES;
        self.unit(self.units.place_after(place as u64, Units::of(len)))
    }

    /// The address of a record's first byte.
    #[inline(always)]
    pub(crate) fn address(&self, at: ArenaOffset) -> NonNull<u8> {
        debug_assert!(at.0 < self.layout.size() - ALIGN_SLACK);
        // SAFETY: an `ArenaOffset` is made in this file only, from a block's number below their count or from
        // a place below the capacity, so it is inside the allocation; debug-asserted above.
        unsafe { self.base.add(at.0) }
    }

    /// Prefetches the first line of the block of record `seq`, if there are blocks.
    #[inline(always)]
    pub(crate) fn prefetch_small(&self, seq: u64) {
        if self.scatter_below != 0 {
            prefetch(self.address(self.block(seq)).as_ptr());
        }
    }

    /// Prefetches the first line of the record at `at`.
    #[inline(always)]
    pub(crate) fn prefetch_at(&self, at: ArenaOffset) {
        prefetch(self.address(at).as_ptr());
    }

    /// Prefetches the line that a writer of packed records at `at` will reach some records later. It was last
    /// read by other processors, a lap ago; fetched early, it delays the writer's stores less.
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, at: ArenaOffset) {
        // Wrapping, because near the end it points behind the arena, where the prefetch does nothing.
        prefetch(self.base.as_ptr().wrapping_add(at.0 + WRITE_AHEAD_BYTES));
    }

    /// Tells loom that a record is read. Nothing otherwise.
    #[inline(always)]
    #[cfg_attr(not(loom), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn witness_read(&self, at: ArenaOffset, len: usize) {
        #[cfg(loom)]
        for witness in &self.witnesses[at.0 / UNIT_BYTES..][..Units::of(len) as usize] {
            witness.with(|_| ());
        }
    }

    /// Tells loom that a record is written. Nothing otherwise.
    #[inline(always)]
    #[cfg_attr(not(loom), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn witness_write(&self, at: ArenaOffset, len: usize) {
        #[cfg(loom)]
        for witness in &self.witnesses[at.0 / UNIT_BYTES..][..Units::of(len) as usize] {
            witness.with_mut(|_| ());
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `allocation` came from `alloc_zeroed` with this layout, and no handle has the arena now.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) }
    }
}

#[inline(always)]
fn prefetch(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it does not fault, and is no read in the sense of the memory model.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

/// The bytes of a record that begins at `at`.
///
/// # Safety
/// As for `slice::from_raw_parts`; and `at` is the beginning of a unit or of a block. The function asserts
/// that alignment to the compiler, so that callers which cast the bytes to their own type pay no test.
#[inline(always)]
pub(crate) unsafe fn slice_at<'a>(at: NonNull<u8>, len: usize) -> &'a [u8] {
    // SAFETY: units and blocks begin at multiples of a unit's size, since the arena does; the caller keeps
    // the rest.
    unsafe {
        assert_unchecked(at.addr().get().is_multiple_of(UNIT_BYTES));
        from_raw_parts(at.as_ptr(), len)
    }
}

/// As [`slice_at`], to write.
///
/// # Safety
/// As for `slice::from_raw_parts_mut`; and `at` is the beginning of a unit or of a block.
#[inline(always)]
pub(crate) unsafe fn slice_mut_at<'a>(at: NonNull<u8>, len: usize) -> &'a mut [u8] {
    // SAFETY: as in `slice_at`.
    unsafe {
        assert_unchecked(at.addr().get().is_multiple_of(UNIT_BYTES));
        from_raw_parts_mut(at.as_ptr(), len)
    }
}

/// Walks over published records of one length, sequence by sequence. One type for each layout, so that a loop
/// over records does not branch on it.
pub(crate) trait Stride {
    /// Goes to the next record, and gives the address of its first byte.
    fn next(&mut self) -> NonNull<u8>;
}

/// Small records in blocks.
pub(crate) struct ScatteredStride<'a> {
    /// Of the arena, by value, so that the compiler keeps them in registers across calls.
    base: NonNull<u8>,
    step: usize,
    mask: usize,
    /// Offset of the current record's block.
    at: usize,
    _arena: PhantomData<&'a Arena>,
    #[cfg(loom)]
    witness: (&'a Arena, usize),
}

impl<'a> ScatteredStride<'a> {
    /// At the record at `at` of `len` bytes, which is scattered.
    #[inline(always)]
    pub(crate) fn new(arena: &'a Arena, at: ArenaOffset, len: usize) -> Self {
        debug_assert!(arena.is_scattered(len));
        Self {
            base: arena.base,
            step: arena.block_step,
            mask: arena.block_mask,
            at: at.0,
            _arena: PhantomData,
            #[cfg(loom)]
            witness: (arena, len),
        }
    }
}

impl Stride for ScatteredStride<'_> {
    #[inline(always)]
    fn next(&mut self) -> NonNull<u8> {
        self.at = self.at.wrapping_add(self.step) & self.mask;
        #[cfg(loom)]
        self.witness.0.witness_read(ArenaOffset(self.at), self.witness.1);
        // SAFETY: the mask leaves the offset of a block.
        unsafe { self.base.add(self.at) }
    }
}

/// Records one after the other in units.
pub(crate) struct PackedStride<'a> {
    arena: &'a Arena,
    address: NonNull<u8>,
    /// Bytes from one record to the next.
    step: usize,
    /// Where the units end, without the spill.
    end: NonNull<u8>,
    /// Bytes of the units, without the spill.
    lap: usize,
}

impl<'a> PackedStride<'a> {
    /// At the record at `at` of `len` bytes, which is packed.
    #[inline(always)]
    pub(crate) fn new(arena: &'a Arena, at: ArenaOffset, len: usize) -> Self {
        debug_assert!(!arena.is_scattered(len));
        let (lap, step) = (arena.units.capacity as usize * UNIT_BYTES, Units::of(len) as usize * UNIT_BYTES);
        // SAFETY: the units begin after the blocks, and `lap` is their size without the spill. There are
        // units, since a packed record lies in them.
        let end = unsafe { arena.base.add(arena.block_bytes + lap) };
        Self { arena, address: arena.address(at), step, end, lap }
    }

    /// Where the current record lies.
    #[inline(always)]
    pub(crate) fn at(&self) -> ArenaOffset {
        ArenaOffset(self.address.addr().get() - self.arena.base.addr().get())
    }
}

impl Stride for PackedStride<'_> {
    /// With a branch that is rarely taken, rather than arithmetic on which each record's load would depend.
    #[inline(always)]
    fn next(&mut self) -> NonNull<u8> {
        // SAFETY: the current record begins before `end` and ends within the spill, so inside the allocation.
        let mut next = unsafe { self.address.add(self.step) };
        if next >= self.end {
            unlikely();
            // SAFETY: `next` is at or after `end`, which is `lap` bytes after the beginning of the units.
            next = unsafe { next.sub(self.lap) };
        }
        self.address = next;
        self.arena.witness_read(self.at(), self.step);
        next
    }
}

/// Marks the branch that calls it as unlikely.
#[cold]
#[inline]
fn unlikely() {}

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
    fn no_two_of_the_records_in_a_full_ring_share_a_block() {
        for datums in
            [1, 2, 3, 5, 8, 100, 1_000, 1_024].into_iter().filter(|&datums| !cfg!(miri) || datums < 100)
        {
            let arena = arena(datums, datums.next_power_of_two() * SMALL_RECORD_BYTES, SMALL_RECORD_BYTES);
            for from in [0, 1, 77, crate::word::LAST_SEQ - 2_000] {
                let blocks: HashSet<_> =
                    (from..from + datums as u64).map(|seq| arena.find(seq, 1, || unreachable!()).0).collect();
                assert_eq!(blocks.len(), datums);
                assert!(blocks.iter().all(|at| at % SMALL_RECORD_BYTES == 0
                    && at + SMALL_RECORD_BYTES <= arena.layout.size() - ALIGN_SLACK));
            }
        }
    }

    #[test]
    fn consecutive_small_records_lie_far_apart() {
        for datums in [256, 1_024, 65_536] {
            let arena = arena(datums, datums * SMALL_RECORD_BYTES, 64);
            let block = |seq: u64| arena.find(seq, 64, || unreachable!()).0 / SMALL_RECORD_BYTES;
            for (one, other) in (0..40u64).flat_map(|one| (one + 1..one + 9).map(move |other| (one, other))) {
                let apart = block(one).abs_diff(block(other));
                let apart = apart.min(datums - apart);
                assert!(apart >= datums / 32, "{one} and {other} are {apart} blocks apart, of {datums}");
            }
        }
    }

    #[test]
    fn blocks_and_units_are_sized_by_what_the_records_need() {
        let sizes = |datums, bytes, max_record| {
            Arena::sizes(&RingConfig {
                datums,
                bytes,
                max_record,
                readers: 1,
                scatter_small: RingConfig::scatter_fits(datums, bytes),
            })
        };
        assert_eq!(sizes(4, 4 * 128, 64), (512, 0), "all records fit blocks");
        assert_eq!(sizes(4, 4 * 128, 129), (512, 512 + 144), "some do not");
        assert_eq!(sizes(4, 4 * 128 - 1, 64), (0, 31 * 16 + 64), "no blocks");
        assert_eq!(sizes(5, 5 * 128, 64), (0, 640 + 64), "blocks for 5 would be 8");
    }

    #[test]
    fn long_records_are_packed_also_where_small_ones_are_scattered() {
        let arena = arena(2, 3 * 128, 200);
        assert_eq!((arena.block_bytes, arena.units.capacity), (256, 24));
        let at = arena.find(7, 200, || 13);
        assert_eq!(at, ArenaOffset(256));
        assert_eq!(arena.next_packed(at, 200), ArenaOffset(256 + 13 * 16));
        assert_eq!(
            arena.next_packed(ArenaOffset(256 + 13 * 16), 200),
            ArenaOffset(256 + 2 * 16),
            "past the end of the units"
        );
    }
}
