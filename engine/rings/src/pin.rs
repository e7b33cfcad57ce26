//! How a reader pins its cursor: by a store until the first eviction or detachment of the ring, by a swap
//! afterwards.
//!
//! A swap waits until the slot's line is back from the writers that scanned the cursors, and for all earlier
//! stores; a store waits for neither. So a reader stores `pinned = 1` and then, after a light fence, checks
//! that its cursor is unchanged and that stores still count. The first writer that wants to move a cursor
//! revokes pinning by store:
//!
//! ```text
//!   reader:  store pinned = 1; light fence;  load cursor and mode;  pinned if unchanged and `Store`
//!   writer:  CAS mode = Revoking; heavy fence; mode = Swap; then, for each cursor, load pinned
//! ```
//!
//! At least one of the two sees the other's store: the reader unpins and swaps, or the writer leaves the
//! cursor alone. After the revocation pins are decided by compare-and-swap of the cursor word. Where the
//! light fence is a full one a swap costs no more, so such rings start in `Swap`.

use crate::bugs::mutate;
use crate::fence::Fences;
use crate::reader_slots::ReaderSlot;
use crate::sync::{self, AtomicU64, Ordering};
use crate::word::{Cursor, CursorKind};

/// How all readers of a ring pin. Only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum PinMode {
    /// By a store to the slot's `pinned`.
    Store = 0,
    /// A writer is revoking `Store`: readers swap already, its fence is not over.
    Revoking = 1,
    /// By a swap of the cursor to `Pinned`.
    Swap = 2,
}

/// How one reader has pinned its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Not at all: a writer may move it.
    None,
    /// By a store: the cursor's kind is `Joined`, the slot's `pinned` is 1.
    ByStore,
    /// By a swap: the cursor's kind is `Pinned`, the slot's `pinned` is 0.
    BySwap,
}

/// The word of a ring's [`PinMode`].
pub(crate) struct PinSwitch(AtomicU64);

impl PinSwitch {
    pub(crate) fn new(mode: PinMode) -> Self {
        Self(AtomicU64::new(mode as u64))
    }

    #[inline(always)]
    fn is(&self, mode: PinMode, order: Ordering) -> bool {
        self.0.load(order) == mode as u64
    }

    /// For writers, before they load the cursors that they want to move: from here on, a reader whose
    /// `pinned` is 0 pins by a swap.
    #[inline]
    pub(crate) fn revoke_store_pins(&self, fences: Fences) {
        // Acquire: after the fence of the writer that revoked them.
        if !self.is(PinMode::Swap, Ordering::Acquire) {
            self.revoke_now(fences);
        }
    }

    #[cold]
    fn revoke_now(&self, fences: Fences) {
        // Several writers may come here at a time; each issues its own fence.
        let (from, to) = (PinMode::Store as u64, PinMode::Revoking as u64);
        let _ = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        if !mutate!(fences.heavy(), "pins-unfenced" => true) {
            // As in `BiasedTail::revoke`: time takes the place of a barrier that the kernel refuses.
            sync::sleep_a_moment();
        }
        self.0.store(PinMode::Swap as u64, Ordering::Release);
    }

    /// Pins the reader's cursor by a store, unless it is not `unpinned` any more or pins are made by swaps.
    #[inline(always)]
    pub(crate) fn try_pin_by_store(&self, slot: &ReaderSlot, unpinned: Cursor, fences: Fences) -> bool {
        if !self.is(PinMode::Store, Ordering::Relaxed) {
            return false;
        }
        slot.pinned.store(1, Ordering::Relaxed);
        fences.light();
        // Acquire: no load of a descriptor comes before the pin.
        let unmoved = slot.cursor.load(Ordering::Acquire) == unpinned.0;
        if unmoved && mutate!(self.is(PinMode::Store, Ordering::Acquire), "pin-looks-once" => true) {
            return true;
        }
        slot.unpin_store();
        false
    }

    /// The mode now.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn mode(&self) -> PinMode {
        [PinMode::Store, PinMode::Revoking, PinMode::Swap][self.0.load(Ordering::Relaxed) as usize]
    }
}

impl ReaderSlot {
    /// Whether its reader reads in place. For writers, after [`PinSwitch::revoke_store_pins`] and after the
    /// cursor was loaded as `cursor`.
    #[inline]
    pub(crate) fn is_pinned(&self, cursor: Cursor) -> bool {
        // Acquire: of a reader that has unpinned we see the cursor that it left, so a swap of an older one
        // fails.
        let by_store = || self.pinned.load(Ordering::Acquire) != 0;
        cursor.kind() == CursorKind::Pinned || mutate!(by_store(), "moves-pinned-by-store" => false)
    }

    /// Ends a pin by store.
    #[inline(always)]
    pub(crate) fn unpin_store(&self) {
        // Release: the cursor and all reads in place come before the writer that sees 0.
        self.pinned.store(0, Ordering::Release);
    }
}
