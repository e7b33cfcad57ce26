//! Who sleeps: one line of flags that is hardly ever written, so loading it is a cache hit.

use crate::bugs::mutate;
use crate::contain::contain;
use crate::counters::RingCounters;
use crate::fence::Fences;
use crate::pin::{PinMode, PinSwitch};
use crate::reader_slots::{FIRST_SLOTS, ReaderSlots};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

/// The bit of `sleepers` for all readers in groups of slots.
const GROUPS_SLEEP: u64 = 1 << FIRST_SLOTS;

/// The flags.
pub(crate) struct Signals {
    /// One bit for each sleeping reader in one of the first slots. Set by the reader, cleared by the thread
    /// that wakes it, or by itself. A reader in a group sets its bit there, and then [`GROUPS_SLEEP`] here,
    /// which stays set until readers are woken.
    sleepers: AtomicU64,
    /// Writers that wait for room. Stored under the wait queue's lock.
    pub(crate) waiters: AtomicU64,
    /// Cursors that hold the gate.
    pub(crate) live: AtomicU64,
    /// A copy of the tail's closed bit, set after it, so that idle readers do not load the tail's line.
    pub(crate) closed: AtomicBool,
    /// How readers pin. Changed by the first eviction or detachment only.
    pub(crate) pin_switch: PinSwitch,
}

/// Wakes, and contains a panic: a waker is code of the user's executor, other waiters come after it, and this
/// thread may be a shard's.
pub(crate) fn wake(waker: Waker) {
    if cfg!(any(loom, shuttle)) {
        return waker.wake(); // They end a failed run by unwinding.
    }
    contain(|| waker.wake());
}

impl Signals {
    pub(crate) fn new(mode: PinMode) -> Self {
        Self {
            sleepers: AtomicU64::new(0),
            waiters: AtomicU64::new(0),
            live: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            pin_switch: PinSwitch::new(mode),
        }
    }

    /// Whether a reader sleeps or a writer waits.
    #[inline(always)]
    pub(crate) fn any_sleeper(&self) -> bool {
        // Acquire on `waiters`: a publisher that sees a writer which queued after the last reader left must
        // also see `live` = 0.
        self.sleepers.load(Ordering::Relaxed) | self.waiters.load(Ordering::Acquire) != 0
    }

    /// Wakes every sleeping reader, once.
    pub(crate) fn wake_readers(&self, readers: &ReaderSlots, counters: &RingCounters) {
        if self.sleepers.load(Ordering::Relaxed) == 0 {
            return;
        }
        // AcqRel: the waker that was registered before the bit is seen here; what we published is seen by the
        // reader that sets its bit again.
        let bits = self.sleepers.swap(0, Ordering::AcqRel);
        Self::wake_bits(bits & !GROUPS_SLEEP, 0, readers, counters);
        if bits & GROUPS_SLEEP != 0 {
            Self::wake_groups(readers, counters);
        }
    }

    #[cold]
    fn wake_groups(readers: &ReaderSlots, counters: &RingCounters) {
        for (start, group) in readers.groups() {
            let bits = group.sleepers.swap(0, Ordering::AcqRel);
            Self::wake_bits(bits, start, readers, counters);
        }
    }

    /// Wakes the readers whose bits are set, of those from `start` on.
    #[inline]
    fn wake_bits(mut bits: u64, start: usize, readers: &ReaderSlots, counters: &RingCounters) {
        while bits != 0 {
            let index = start + bits.trailing_zeros() as usize;
            bits = mutate!(bits & (bits - 1), "wake-first-only" => 0);
            Self::wake_slot(index, readers, counters);
        }
    }

    /// The word that has the bit of this reader, and the bit.
    #[inline(always)]
    fn sleeper<'a>(&'a self, index: usize, readers: &'a ReaderSlots) -> (&'a AtomicU64, u64) {
        match readers.group_of(index) {
            None => (&self.sleepers, 1 << index),
            Some((group, place)) => (&group.sleepers, 1 << place),
        }
    }

    /// Wakes one reader if it sleeps.
    pub(crate) fn wake_reader(&self, index: usize, readers: &ReaderSlots, counters: &RingCounters) {
        let (word, bit) = self.sleeper(index, readers);
        if word.fetch_and(!bit, Ordering::AcqRel) & bit != 0 {
            Self::wake_slot(index, readers, counters);
        }
    }

    fn wake_slot(index: usize, readers: &ReaderSlots, counters: &RingCounters) {
        if let Some(waker) = readers.at(index).waker.take() {
            counters.add(&counters.reader_wakes, 1);
            wake(waker);
        }
    }

    /// Puts a reader to sleep: it must check for records once more afterwards. `false`: the kernel refused
    /// the barrier, so the reader must stay awake.
    pub(crate) fn fall_asleep(
        &self,
        index: usize,
        waker: &Waker,
        readers: &ReaderSlots,
        fences: Fences,
    ) -> bool {
        let (word, bit) = self.sleeper(index, readers);
        readers.at(index).waker.register(waker);
        // Release: the waker comes before the bit. Acquire: if a publisher cleared our bit, we see its
        // record.
        let before = word.fetch_or(bit, Ordering::AcqRel);
        if mutate!(!std::ptr::eq(word, &self.sleepers), "group-unmarked" => false) {
            // After the bit: a thread that clears this one looks for those of the groups.
            self.sleepers.fetch_or(GROUPS_SLEEP, Ordering::AcqRel);
        }
        if before & bit != 0 {
            // Set by an earlier poll, and fenced then: a publisher would have cleared it.
            return true;
        }
        if mutate!(fences.heavy(), "sleep-unfenced" => true) {
            return true;
        }
        self.stay_awake(index, readers);
        false
    }

    /// Undoes [`Signals::fall_asleep`].
    pub(crate) fn stay_awake(&self, index: usize, readers: &ReaderSlots) {
        let (word, bit) = self.sleeper(index, readers);
        if word.load(Ordering::Relaxed) & bit != 0 {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
        drop(readers.at(index).waker.take());
    }
}
