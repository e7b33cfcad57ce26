//! The reader slots: what each reader shows to the other threads. Storage; the transitions are in `pin`,
//! `gate`, `evict` and `reader`.

use crate::sync::{AtomicU64, Ordering};
use crate::word::Cursor;
use atomic_waker::AtomicWaker;
use crossbeam_utils::CachePadded;

/// Names one reader of one ring. It never names a later reader in the same slot (until 2^32 readers had that
/// slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId {
    /// Which slot.
    pub(crate) index: u32,
    /// Which reader of that slot.
    pub(crate) generation: u32,
}

/// What one reader shows to the other threads, on cache lines of its own.
pub(crate) struct ReaderSlot {
    /// A `Cursor`. Stored by the reader while pinned; otherwise changed by compare-and-swap, by reader and
    /// writers.
    pub(crate) cursor: AtomicU64,
    /// 1 while the reader has pinned by a store; see `pin`. Stored by the reader.
    pub(crate) pinned: AtomicU64,
    /// Records below this do not count as lost for this reader, even if its cursor is before them (it joined
    /// while older records were not yet published). Stored by the reader before its cursor.
    pub(crate) wanted_from: AtomicU64,
    /// How many readers had this slot. Stored by the new reader before its cursor.
    pub(crate) generation: AtomicU64,
    /// Records that eviction took from this reader. Added to by evictors.
    pub(crate) lost: AtomicU64,
    /// The sleeping reader's waker. The thread that clears the reader's bit in `sleepers` may take it.
    pub(crate) waker: AtomicWaker,
}

/// All reader slots, and which are taken.
pub(crate) struct ReaderSlots {
    slots: Box<[CachePadded<ReaderSlot>]>,
    /// One bit for each taken slot. Set before its reader's join swaps the gate, so a thread that loads that
    /// gate sees the bit.
    taken: CachePadded<AtomicU64>,
}

impl ReaderSlots {
    pub(crate) fn new(readers: usize) -> Self {
        let slot = || {
            CachePadded::new(ReaderSlot {
                cursor: AtomicU64::new(Cursor::FREE.0),
                pinned: AtomicU64::new(0),
                wanted_from: AtomicU64::new(0),
                generation: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                waker: AtomicWaker::new(),
            })
        };
        Self { slots: (0..readers).map(|_| slot()).collect(), taken: CachePadded::new(AtomicU64::new(0)) }
    }

    /// Takes a free slot.
    pub(crate) fn take(&self) -> Option<usize> {
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let index = taken.trailing_ones() as usize;
            if index >= self.slots.len() {
                return None;
            }
            // Acquire: the previous reader's last stores to the slot come before ours.
            match self.taken.compare_exchange(taken, taken | 1 << index, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Some(index),
                Err(now) => taken = now,
            }
        }
    }

    /// Gives a slot back. Its cursor is `FREE` already.
    pub(crate) fn give_back(&self, index: usize) {
        debug_assert!(self.slots[index].cursor.load(Ordering::Relaxed) == Cursor::FREE.0);
        self.taken.fetch_and(!(1 << index), Ordering::AcqRel);
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&ReaderSlot> {
        self.slots.get(index).map(|slot| &**slot)
    }

    /// A slot that is known to exist.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> &ReaderSlot {
        &self.slots[index]
    }

    /// Every taken slot with its cursor. Load the gate first: all readers that had joined by then are among
    /// them.
    #[inline]
    pub(crate) fn taken(&self) -> impl Iterator<Item = (usize, &ReaderSlot, Cursor)> {
        let mut taken = self.taken.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            if taken == 0 {
                return None;
            }
            let index = taken.trailing_zeros() as usize;
            taken &= taken - 1;
            let slot = self.at(index);
            // Acquire: what the reader read before it moved here comes before the reuse of that memory.
            Some((index, slot, Cursor(slot.cursor.load(Ordering::Acquire))))
        })
    }
}
