//! The descriptor slots of a ring. It knows addresses, not who may use them when.

use crate::bugs::bug;
use crate::sync::{AtomicU64, Ordering};
use crate::word::Stamp;

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
