//! The cursor cells: one place for each reader. Storage and places only; the moves are in `gate`, `evict`, `reader`.

use crate::sync::{AtomicU64, Ordering};
use crate::word::Cursor;
use atomic_waker::AtomicWaker;
use crossbeam_utils::CachePadded;

/// What one reader shows to the others. Alone on its cache lines.
pub(crate) struct Cell {
    /// A `Cursor`. Written by the reader; by others only by compare-and-swap, and never while it is pinned.
    pub(crate) word: AtomicU64,
    /// 1 while the reader has it pinned by a store; see `pin`. Written by the reader.
    pub(crate) inside: AtomicU64,
    /// Records below this are of no interest to the reader even if its cursor stands before them (it joined while
    /// older records were not yet published). Written by the reader before its word.
    pub(crate) wanted_from: AtomicU64,
    /// How many readers had this place. Written by the new owner before its word.
    pub(crate) generation: AtomicU64,
    /// Records that eviction took from this reader. Written by evictors.
    pub(crate) lost: AtomicU64,
    /// The sleeping reader's waker. Whoever clears the reader's bit in `sleepers` may take it.
    pub(crate) waker: AtomicWaker,
}

/// All cells and which are taken.
pub(crate) struct Cells {
    cells: Box<[CachePadded<Cell>]>,
    /// One bit for each place that has an owner. Set before the owner's join swaps the gate, so that whoever loads
    /// that gate sees the bit.
    places: CachePadded<AtomicU64>,
}

impl Cells {
    pub(crate) fn new(readers: usize) -> Self {
        let cell = || {
            CachePadded::new(Cell {
                word: AtomicU64::new(Cursor::FREE.0),
                inside: AtomicU64::new(0),
                wanted_from: AtomicU64::new(0),
                generation: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                waker: AtomicWaker::new(),
            })
        };
        Self { cells: (0..readers).map(|_| cell()).collect(), places: CachePadded::new(AtomicU64::new(0)) }
    }

    /// Takes a free place.
    pub(crate) fn take(&self) -> Option<usize> {
        let mut places = self.places.load(Ordering::Relaxed);
        loop {
            let index = places.trailing_ones() as usize;
            if index >= self.cells.len() {
                return None;
            }
            // Acquire: the previous owner's last writes to the cell come before ours.
            match self.places.compare_exchange(
                places,
                places | 1 << index,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(index),
                Err(now) => places = now,
            }
        }
    }

    /// Gives a place back; its word is `FREE` already.
    pub(crate) fn give_back(&self, index: usize) {
        self.places.fetch_and(!(1 << index), Ordering::AcqRel);
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&Cell> {
        self.cells.get(index).map(|cell| &**cell)
    }

    /// The cell of a place that is known to exist.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> &Cell {
        &self.cells[index]
    }

    /// Every taken place with its word. Load the gate first: all readers that had joined by then are among them.
    #[inline]
    pub(crate) fn taken(&self) -> impl Iterator<Item = (usize, &Cell, Cursor)> {
        let mut places = self.places.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            if places == 0 {
                return None;
            }
            let index = places.trailing_zeros() as usize;
            places &= places - 1;
            let cell = self.at(index);
            // Acquire: what the reader read before it moved here comes before our reuse of it.
            Some((index, cell, Cursor(cell.word.load(Ordering::Acquire))))
        })
    }
}
