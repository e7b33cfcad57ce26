//! Who sleeps. One line of flags that is hardly ever written, so that looking at it costs a cached load.

use crate::bugs::bug;
use crate::pin::Pins;
use crate::ring::Shared;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// The flags.
pub(crate) struct Signals {
    /// One bit for each sleeping reader. Set by the reader, cleared by whoever wakes it (or by itself).
    pub(crate) sleepers: AtomicU64,
    /// Writers that queue for room. Written under the queue's lock.
    pub(crate) waiters: AtomicU64,
    /// Cursors that count for the gate.
    pub(crate) live: AtomicU64,
    /// A copy of the tail's closed bit, set after it, so that idle readers need not touch the tail's line.
    pub(crate) closed: AtomicBool,
    /// How readers pin. Changed by the first eviction or detachment, and never again.
    pub(crate) pins: Pins,
}

impl Signals {
    /// `pins_by_store`: see [`Pins::new`].
    pub(crate) fn new(pins_by_store: bool) -> Self {
        Self {
            sleepers: AtomicU64::new(0),
            waiters: AtomicU64::new(0),
            live: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            pins: Pins::new(pins_by_store),
        }
    }
}

/// Wakes, and goes on if that panics: a waker is code of somebody's executor, others wait behind it, and this thread
/// may be a shard's. The panic hook has told of it.
pub(crate) fn wake(waker: Waker) {
    if cfg!(any(loom, shuttle)) {
        return waker.wake(); // They end a failed run by unwinding.
    }
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // What it carried may panic when dropped; then that is leaked.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
    }
}

impl Shared {
    /// After publishing: wakes who waits for it.
    ///
    /// Dekker pair: here stamp, fence, load of the flags; there flag, heavy fence, second look at the stamp.
    #[inline(always)]
    pub(crate) fn published(&self) {
        if !bug("publish-unfenced") {
            self.fences.light();
        }
        // Acquire on `waiters`: whoever queued after the last reader left must also see `live` = 0.
        let sleepers = self.signals.sleepers.load(Ordering::Relaxed);
        if sleepers | self.signals.waiters.load(Ordering::Acquire) != 0 {
            self.published_to_sleepers();
        }
    }

    #[cold]
    fn published_to_sleepers(&self) {
        self.wake_readers();
        if bug("publish-forgets-room") {
            return;
        }
        // Readers that read on will free the room themselves. Without readers, publishing is what frees it.
        if self.signals.waiters.load(Ordering::Acquire) != 0 && self.signals.live.load(Ordering::Acquire) == 0
        {
            self.wake_room();
        }
    }

    /// After a cursor moved on: wakes the first writer that waits for room.
    ///
    /// Dekker pair: here cursor, fence, load of `waiters`; there `waiters`, heavy fence, scan of the cursors.
    #[inline(always)]
    pub(crate) fn moved_on(&self) {
        if !bug("move-unfenced") {
            self.fences.light();
        }
        if self.signals.waiters.load(Ordering::Relaxed) != 0 {
            self.wake_room();
        }
    }

    /// Wakes every sleeping reader, once.
    pub(crate) fn wake_readers(&self) {
        if self.signals.sleepers.load(Ordering::Relaxed) == 0 {
            return;
        }
        // AcqRel: the waker that was registered before the bit is seen; what we published is seen by who re-arms.
        let mut bits = self.signals.sleepers.swap(0, Ordering::AcqRel);
        while bits != 0 {
            let index = bits.trailing_zeros() as usize;
            bits &= if bug("wake-first-only") { 0 } else { bits - 1 };
            self.wake_cell(index);
        }
    }

    /// Wakes one reader if it sleeps.
    pub(crate) fn wake_reader(&self, index: usize) {
        if self.signals.sleepers.fetch_and(!(1 << index), Ordering::AcqRel) & 1 << index != 0 {
            self.wake_cell(index);
        }
    }

    fn wake_cell(&self, index: usize) {
        if let Some(waker) = self.cells.at(index).waker.take() {
            self.counters.add(&self.counters.reader_wakes, 1);
            wake(waker);
        }
    }

    /// Puts a reader to sleep. `false`: no barrier to be had; it must stay awake.
    pub(crate) fn fall_asleep(&self, index: usize, waker: &Waker) -> bool {
        let bit = 1 << index;
        self.cells.at(index).waker.register(waker);
        // Release: the waker comes before the bit. Acquire: if a publisher cleared our bit, we see what it published.
        if self.signals.sleepers.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            // Still set from an earlier poll, and fenced then: nobody who published since has passed it by.
            return true;
        }
        if bug("sleep-unfenced") || self.fences.heavy() {
            return true;
        }
        self.stay_awake(index);
        false
    }

    /// Takes `fall_asleep` back.
    pub(crate) fn stay_awake(&self, index: usize) {
        let bit = 1 << index;
        if self.signals.sleepers.load(Ordering::Relaxed) & bit != 0 {
            self.signals.sleepers.fetch_and(!bit, Ordering::AcqRel);
        }
        drop(self.cells.at(index).waker.take());
    }
}
