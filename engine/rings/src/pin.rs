//! How a reader pins its cursor: by a store, for as long as no writer wants to move a cursor; by a swap afterwards.
//!
//! A writer at a full ring looks at the cursors, and each look takes their lines from the readers. A swap waits until its
//! line is back, and for all stores before it; a store waits for nothing. So a reader *steps inside* with a store and
//! looks, behind a light fence, whether its cursor is where it was and pins are still made that way.
//!
//! The first writer that evicts or detaches ends that, once in the life of a ring: it says so, and issues a heavy fence.
//! From then on, of a reader that stepped inside and a writer that looks whether somebody is inside, at least one sees the
//! other: the reader steps out and swaps, or the writer takes the cursor for held, as it is. Where the light fence is a
//! full one, a swap costs no more, and all pins are swaps from the beginning.
//!
//! Not inside: what a pin protects, and who moves cursors; see `reader` and `evict`.

use crate::bugs::bug;
use crate::cursor::Cell;
use crate::fence::Fences;
use crate::ring::Shared;
use crate::sync::{self, AtomicU64, Ordering};
use crate::word::{Cursor, Kind};

/// Values of `Pins`. Only upwards.
const BY_STORE: u64 = 0;
const ENDING: u64 = 1;
const BY_SWAP: u64 = 2;

/// How all readers of a ring pin.
pub(crate) struct Pins(AtomicU64);

impl Pins {
    /// `stores`: whether they pay here.
    pub(crate) fn new(stores: bool) -> Self {
        Self(AtomicU64::new(if stores { BY_STORE } else { BY_SWAP }))
    }

    /// Before cursors are looked at to be moved: from here on, a reader that is not inside will swap.
    #[inline]
    fn end_stores(&self, fences: Fences) {
        // Acquire: behind the fence of whoever ended them.
        if self.0.load(Ordering::Acquire) != BY_SWAP {
            self.end_stores_now(fences);
        }
    }

    #[cold]
    fn end_stores_now(&self, fences: Fences) {
        // Several writers may come here at a time; each issues its own fence.
        let _ = self.0.compare_exchange(BY_STORE, ENDING, Ordering::AcqRel, Ordering::Acquire);
        if !bug("pins-unfenced") && !fences.heavy() {
            // As in `Alone::share`: time takes the place of a barrier that is refused.
            sync::sleep_a_moment();
        }
        self.0.store(BY_SWAP, Ordering::Release);
    }
}

impl Cell {
    /// Whether its reader reads in place. For writers, behind [`Shared::before_moving_cursors`], and after the word was
    /// loaded as `cursor`.
    #[inline]
    pub(crate) fn is_pinned(&self, cursor: Cursor) -> bool {
        // Acquire: of a reader that stepped out we see the word that it left, so a swap of an older one fails.
        cursor.kind() == Kind::Held || self.inside.load(Ordering::Acquire) != 0 && !bug("moves-who-is-inside")
    }

    /// Ends what [`Shared::step_inside`] began.
    #[inline(always)]
    pub(crate) fn step_out(&self) {
        // Release: the word and all reads in place come before whoever sees us outside.
        self.inside.store(0, Ordering::Release);
    }
}

impl Shared {
    /// A writer is about to move or detach readers.
    #[inline]
    pub(crate) fn before_moving_cursors(&self) {
        self.signals.pins.end_stores(self.fences);
    }

    /// Pins the reader's cursor, which was `idle`, unless it was moved or pins are made by swaps.
    #[inline(always)]
    pub(crate) fn step_inside(&self, cell: &Cell, idle: Cursor) -> bool {
        let pins = &self.signals.pins.0;
        if pins.load(Ordering::Relaxed) != BY_STORE {
            return false;
        }
        cell.inside.store(1, Ordering::Relaxed);
        self.fences.light();
        // Acquire: no look at a slot comes before the pin.
        let unmoved = cell.word.load(Ordering::Acquire) == idle.0;
        if unmoved && (pins.load(Ordering::Acquire) == BY_STORE || bug("pin-looks-once")) {
            return true;
        }
        cell.step_out();
        false
    }
}
