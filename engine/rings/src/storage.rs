//! The memory of a ring: descriptor slots and the byte arena. It knows addresses, not who may use them when.

use crate::bugs::bug;
use crate::config::UNIT_BYTES;
use crate::sync::{AtomicU64, Ordering};
use crate::word::Stamp;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::hint::assert_unchecked;
use std::ptr::NonNull;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// Descriptor of one record.
#[repr(C, align(16))]
pub(crate) struct SlotCell {
    /// A `Stamp`, of the record that was last published here. Written by that record's writer (Release), read by
    /// everybody (Acquire): it carries the meta and the bytes.
    pub(crate) stamp: AtomicU64,
    /// A `Meta`, written before the stamp by the same writer.
    pub(crate) meta: AtomicU64,
}

impl SlotCell {
    /// The stamp. Acquire: with the meta and the bytes of its record.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Ordering::Acquire))
    }
}

/// Bytes of one slot.
pub(crate) const SLOT_BYTES: usize = 16;

/// All slots; a power of two of them. Sequence `s` lives in slot `s & mask`.
pub(crate) struct Slots {
    cells: Box<[SlotCell]>,
    mask: u64,
}

/// The same for a loop: address and mask by value, which a compiler keeps in registers whatever the loop calls.
#[derive(Clone, Copy)]
pub(crate) struct SlotsView<'a> {
    cells: &'a [SlotCell],
    mask: u64,
}

impl<'a> SlotsView<'a> {
    #[inline(always)]
    pub(crate) fn at(self, seq: u64) -> &'a SlotCell {
        let index = (seq & self.mask) as usize;
        debug_assert!(index < self.cells.len());
        // SAFETY: index <= mask = cells.len() - 1, set in `Slots::new` and never changed.
        unsafe { self.cells.get_unchecked(index) }
    }

    /// The slots of `from` and what follows, up to `to` or the last one before the wrap.
    #[inline(always)]
    pub(crate) fn run(self, from: u64, to: u64) -> std::slice::Iter<'a, SlotCell> {
        let tail = &self.cells[(from & self.mask) as usize..];
        tail[..tail.len().min((to - from) as usize)].iter()
    }
}

impl Slots {
    /// Slots for `datums` records. One more than the capacity at least: the slot before the gate must survive while
    /// the ring is full, because it tells the gate's byte position.
    pub(crate) const fn count(datums: usize) -> usize {
        (datums + 1).next_power_of_two()
    }

    pub(crate) fn new(datums: usize) -> Option<Self> {
        let count = Self::count(datums - usize::from(bug("no-slot-before-gate")));
        let mut cells = Vec::new();
        cells.try_reserve_exact(count).ok()?;
        // One lap behind: as if the records before sequence 0 had been published and read.
        cells.extend((0..count as u64).map(|index| SlotCell {
            stamp: AtomicU64::new(Stamp::new(index.wrapping_sub(count as u64), Some(0)).0),
            meta: AtomicU64::new(0),
        }));
        Some(Self { cells: cells.into_boxed_slice(), mask: count as u64 - 1 })
    }

    #[inline(always)]
    pub(crate) fn view(&self) -> SlotsView<'_> {
        SlotsView { cells: &self.cells, mask: self.mask }
    }

    #[inline(always)]
    pub(crate) fn at(&self, seq: u64) -> &SlotCell {
        self.view().at(seq)
    }
}

/// The bytes: `capacity` units and after them a spill, so that a record which starts near the end stays in one piece.
pub(crate) struct Arena {
    base: NonNull<u8>,
    layout: Layout,
    /// One witness a unit: loom reports two uses of a unit that are not ordered by the ring's atomics.
    #[cfg(loom)]
    witnesses: Vec<loom::cell::UnsafeCell<()>>,
}

// SAFETY: the arena hands out addresses only. Who may read or write which unit when is the ring's protocol (claimed:
// one writer; published and pinned: readers), which orders the uses across threads.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// Alignment of the arena: two cache lines, because the hardware fetches lines in pairs.
const ARENA_ALIGN: usize = 128;

/// How far in front of a claim the writer asks for memory: eight records of 64 bytes.
const WRITE_AHEAD_BYTES: usize = 512;

impl Arena {
    pub(crate) const fn bytes(capacity_units: u64, spill_units: u64) -> usize {
        (capacity_units + spill_units) as usize * UNIT_BYTES
    }

    pub(crate) fn new(capacity_units: u64, spill_units: u64) -> Option<Self> {
        let layout = Layout::from_size_align(Self::bytes(capacity_units, spill_units), ARENA_ALIGN).ok()?;
        assert!(layout.size() > 0, "a ring has at least one unit");
        // SAFETY: the layout's size is not zero, asserted above.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self {
            base,
            layout,
            #[cfg(loom)]
            witnesses: (0..capacity_units + spill_units).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        })
    }

    /// Address of a unit.
    #[inline(always)]
    pub(crate) fn unit(&self, place: u64) -> NonNull<u8> {
        let offset = place as usize * UNIT_BYTES;
        debug_assert!(offset < self.layout.size());
        // SAFETY: callers give a place below capacity + spill (a position reduced by `Units::place`), so the offset
        // stays inside the allocation; debug-asserted above.
        unsafe { self.base.add(offset) }
    }

    /// Asks for the cache line of a unit, which will be read soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, place: u64) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch is a hint; it neither faults nor reads in the sense of the memory model.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.unit(place).as_ptr().cast()) }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = place;
    }

    /// Asks for the line that a writer at `place` will reach some records later. It was written a lap ago and has been
    /// read by other processors since; brought near in time, it costs the writer's stores less.
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, place: u64) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // Wrapping, because it may point behind the arena near its end, where the hint is wasted.
            let line = self.base.as_ptr().wrapping_add(place as usize * UNIT_BYTES + WRITE_AHEAD_BYTES);
            // SAFETY: a prefetch is a hint; it neither faults nor reads in the sense of the memory model.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = place;
    }

    /// Tells loom that units are read. Nothing otherwise.
    #[inline(always)]
    #[cfg_attr(not(loom), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn witness_read(&self, place: u64, units: u64) {
        #[cfg(loom)]
        for witness in &self.witnesses[place as usize..(place + units) as usize] {
            witness.with(|_| ());
        }
    }

    /// Tells loom that units are written. Nothing otherwise.
    #[inline(always)]
    #[cfg_attr(not(loom), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn witness_write(&self, place: u64, units: u64) {
        #[cfg(loom)]
        for witness in &self.witnesses[place as usize..(place + units) as usize] {
            witness.with_mut(|_| ());
        }
    }
}

/// The bytes of a record that begins at `at`.
///
/// # Safety
/// As for `slice::from_raw_parts`; and `at` is the beginning of a unit. Said to the compiler, that spares whoever looks
/// at the bytes as at a value of its own type the test of their alignment.
#[inline(always)]
pub(crate) unsafe fn slice_at<'a>(at: NonNull<u8>, len: usize) -> &'a [u8] {
    // SAFETY: units begin at multiples of their size, since the arena does, and the caller vouches for the rest.
    unsafe {
        assert_unchecked(at.addr().get().is_multiple_of(UNIT_BYTES));
        from_raw_parts(at.as_ptr(), len)
    }
}

/// As [`slice_at`], to write.
///
/// # Safety
/// As for `slice::from_raw_parts_mut`; and `at` is the beginning of a unit.
#[inline(always)]
pub(crate) unsafe fn slice_mut_at<'a>(at: NonNull<u8>, len: usize) -> &'a mut [u8] {
    // SAFETY: as in `slice_at`.
    unsafe {
        assert_unchecked(at.addr().get().is_multiple_of(UNIT_BYTES));
        from_raw_parts_mut(at.as_ptr(), len)
    }
}

/// Walks over records of one cost that lie one behind the other.
pub(crate) struct Stride<'a> {
    arena: &'a Arena,
    at: NonNull<u8>,
    /// Where the arena ends, without the spill; `lap` bytes behind where it begins.
    end: NonNull<u8>,
    lap: usize,
    step: usize,
}

impl<'a> Stride<'a> {
    /// At the record at `place`, which costs `units`, in an arena of `capacity` units without its spill.
    #[inline(always)]
    pub(crate) fn new(arena: &'a Arena, capacity: u64, place: u64, units: u64) -> Self {
        debug_assert!(place < capacity && (place + units) as usize * UNIT_BYTES <= arena.layout.size());
        let (lap, step) = (capacity as usize * UNIT_BYTES, units as usize * UNIT_BYTES);
        // SAFETY: `lap` is the size of the allocation without the spill.
        let end = unsafe { arena.base.add(lap) };
        Self { arena, at: arena.unit(place), end, lap, step }
    }

    /// Where the present record lies.
    #[inline(always)]
    pub(crate) fn at(&self) -> NonNull<u8> {
        self.at
    }

    /// The place of the present record.
    #[inline(always)]
    pub(crate) fn place(&self) -> u64 {
        ((self.at.addr().get() - self.arena.base.addr().get()) / UNIT_BYTES) as u64
    }

    /// Goes to the record right behind. A branch that is hardly ever taken, rather than arithmetic that each record would
    /// have to wait for.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        // SAFETY: the present record begins in front of `end` and ends within the spill, hence inside the allocation.
        let mut next = unsafe { self.at.add(self.step) };
        if next >= self.end {
            seldom();
            // SAFETY: `next` is at or behind `end`, which is `lap` bytes behind the beginning of the allocation.
            next = unsafe { next.sub(self.lap) };
        }
        self.at = next;
        self.arena.witness_read(self.place(), (self.step / UNIT_BYTES) as u64);
    }
}

/// Tells the compiler that the branch which calls this is the unusual one.
#[cold]
#[inline]
fn seldom() {}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this layout, and nobody has the arena any more.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}
