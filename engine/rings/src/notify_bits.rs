//! Wake-ups that say what they are for: many threads set bits, one thread sleeps until there is one.
//!
//! Not inside: a sleeper protocol. That is [`Doorbell`]'s; here it is combined with what the ringers leave
//! behind.

use crate::bugs::{bug, mutate};
use crate::doorbell::Doorbell;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use std::task::Waker;

/// A wake-up that is remembered until it is taken: a flag behind a [`Doorbell`].
///
/// Set before the sleeper arms, it keeps the sleeper awake; set after, it wakes the sleeper. Arming costs no
/// system call, setting costs a full fence, so this is for threads that sleep often and are seldom woken.
#[derive(Debug)]
pub struct WakeLatch {
    /// The work that the doorbell rings for.
    set: AtomicBool,
    bell: Doorbell,
}

impl WakeLatch {
    /// A latch that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self { set: AtomicBool::new(false), bell: Doorbell::symmetric() }
    }

    /// Sets the latch and wakes the sleeper, if it sleeps.
    pub fn set(&self) {
        // A swap, not a store: `take` then sees what was done before each of several sets, not only before
        // the last.
        mutate!(_ = self.set.swap(true, Ordering::Release), "latch-stored" => self.set.store(true, Ordering::Release));
        self.bell.ring();
    }

    /// Wakes the sleeper, if it sleeps, for work that is visible elsewhere. The latch stays as it is.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Whether the latch is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Clears the latch. `true`: it was set, and what was done before each set is visible here.
    pub fn take(&self) -> bool {
        // A plain load first: the swap would take the line from the ringers each time.
        self.set.load(Ordering::Relaxed) && self.set.swap(false, Ordering::AcqRel)
    }

    /// Prepares a sleep. `true`: look for other work, then sleep until `waker` is woken, then
    /// [`Self::disarm`]. `false`: the latch is set, do not sleep; nothing is armed. For one thread only.
    #[must_use]
    pub fn arm(&self, waker: &Waker) -> bool {
        if self.bell.arm(waker) && !mutate!(self.is_set(), "latch-unchecked" => false) {
            return true;
        }
        self.bell.disarm();
        false
    }

    /// Ends a sleep. Harmless when not armed.
    pub fn disarm(&self) {
        self.bell.disarm();
    }
}

impl Default for WakeLatch {
    fn default() -> Self {
        Self::new()
    }
}

/// A set of small numbers that any thread may add to and that one thread drains and sleeps on. Adding a
/// number that is in the set already changes nothing, so the memory depends on the capacity alone.
///
/// The bit comes before the latch, and draining clears the latch before it reads the bits: a number that a
/// drain misses has the latch set again.
///
/// ```
/// # use corewire_rings::NotifyBits;
/// # use std::task::Waker;
/// let bits = NotifyBits::new(100);
/// bits.notify(42);
/// bits.notify(7);
/// assert!(!bits.arm(Waker::noop()), "there is something to do");
/// let mut seen = Vec::new();
/// bits.drain(|number| seen.push(number));
/// assert_eq!(seen, [7, 42]);
/// assert!(bits.arm(Waker::noop()));
/// // sleep until the waker is woken
/// bits.disarm();
/// ```
#[derive(Debug)]
pub struct NotifyBits {
    /// Set after each bit. While it is clear, a drain costs one load.
    latch: CachePadded<WakeLatch>,
    /// One bit for each word of `words`, set after a bit of that word.
    summary: Box<[AtomicU64]>,
    words: Box<[AtomicU64]>,
}

impl NotifyBits {
    /// An empty set for numbers below `capacity`.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        let words = (capacity as usize).div_ceil(64).max(1);
        let zeroed = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            latch: CachePadded::new(WakeLatch::new()),
            summary: zeroed(words.div_ceil(64)),
            words: zeroed(words),
        }
    }

    /// Adds `number`, which must be below the capacity, and wakes the sleeper, if it sleeps. What was done
    /// before is visible to the drain that finds the number.
    pub fn notify(&self, number: u32) {
        debug_assert!((number as usize) < self.words.len() * 64, "{number} is beyond the capacity");
        let word = (number / 64) as usize;
        let Some(bits) = self.words.get(word) else { return };
        if bug("latch-before-bit") {
            self.latch.set();
        }
        bits.fetch_or(1 << (number % 64), Ordering::Release);
        self.summary[word / 64].fetch_or(1 << (word % 64), Ordering::Release);
        if !bug("latch-before-bit") {
            self.latch.set();
        }
    }

    /// Wakes the sleeper, if it sleeps, for work that is visible elsewhere. Adds no number.
    pub fn ring(&self) {
        self.latch.ring();
    }

    /// Whether a number was added since the last drain began.
    #[must_use]
    pub fn any(&self) -> bool {
        self.latch.is_set()
    }

    /// Prepares a sleep. `true`: look for work that [`Self::ring`] stands for, then sleep until `waker` is
    /// woken, then [`Self::disarm`]. `false`: there is a number, do not sleep; nothing is armed. For one
    /// thread only.
    #[must_use]
    pub fn arm(&self, waker: &Waker) -> bool {
        self.latch.arm(waker)
    }

    /// Ends a sleep. Harmless when not armed.
    pub fn disarm(&self) {
        self.latch.disarm();
    }

    /// Takes every number out, in rising order.
    pub fn drain(&self, mut on: impl FnMut(u32)) {
        if !self.latch.take() {
            return;
        }
        for (index, summary) in self.summary.iter().enumerate() {
            let pending =
                if summary.load(Ordering::Relaxed) == 0 { 0 } else { summary.swap(0, Ordering::AcqRel) };
            for bit in ones(pending) {
                let word = index * 64 + bit as usize;
                for bit in ones(self.words[word].swap(0, Ordering::AcqRel)) {
                    on(word as u32 * 64 + bit);
                }
            }
        }
    }
}

/// The positions of the bits that are set, in rising order.
fn ones(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let next = (bits != 0).then(|| bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
        next
    })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn numbers_are_drained_once_and_in_order() {
        let bits = NotifyBits::new(10_000);
        for number in [9_999, 0, 63, 64, 4_096, 64] {
            bits.notify(number);
        }
        assert!(bits.any());
        let mut seen = Vec::new();
        bits.drain(|number| seen.push(number));
        assert_eq!(seen, [0, 63, 64, 4_096, 9_999]);
        assert!(!bits.any());
        bits.drain(|number| panic!("{number} came twice"));
    }

    #[test]
    fn no_number_is_lost_between_many_threads() {
        let rounds = if cfg!(miri) { 20 } else { 2_000 };
        let bits = NotifyBits::new(256);
        let counts: Vec<AtomicUsize> = (0..256).map(|_| AtomicUsize::new(0)).collect();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for part in 0..4u32 {
                let (bits, counts, done) = (&bits, &counts, &done);
                scope.spawn(move || {
                    for round in 0..rounds {
                        let number = (round * 7 + part * 64) % 256;
                        counts[number as usize].fetch_add(1, Ordering::Relaxed);
                        bits.notify(number);
                    }
                    done.fetch_add(1, Ordering::Release);
                });
            }
            // What was counted before a number was added is visible to the drain that finds it.
            let mut seen = [0usize; 256];
            loop {
                let last = done.load(Ordering::Acquire) == 4;
                bits.drain(|number| {
                    seen[number as usize] = counts[number as usize].load(Ordering::Relaxed);
                });
                if last {
                    break;
                }
                std::thread::yield_now();
            }
            for (number, seen) in seen.iter().enumerate() {
                assert_eq!(*seen, counts[number].load(Ordering::Relaxed), "{number} was lost");
            }
        });
    }
}
