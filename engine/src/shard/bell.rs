//! How other threads get a shard's attention without a queue that could be full.
//!
//! Not inside: what is new. A mark says "look at this ring" or "look at this inbox"; the shard then reads the
//! ring or the inbox itself. Marks coalesce, so their memory is a function of the configuration alone.
//!
//! # No wake-up is lost
//!
//! The marker writes its mark, then looks whether the shard sleeps. The shard writes that it sleeps, then looks
//! for marks. All four accesses are sequentially consistent, so at least one of the two sees the other. A wake
//! that comes before the shard has reached the driver's sleep is kept by the driver's waker, which is sticky.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

use crossbeam_utils::CachePadded;

/// A set of small numbers that any thread may add to and one thread drains.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Set after a mark; while it is clear a shard's look costs this one load.
    any: CachePadded<AtomicBool>,
    /// One bit for each word of `words`.
    summary: Box<[AtomicU64]>,
    words: Box<[AtomicU64]>,
}

impl Marks {
    fn new(capacity: usize) -> Self {
        let words = capacity.div_ceil(64).max(1);
        let zeroed = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            any: CachePadded::new(AtomicBool::new(false)),
            summary: zeroed(words.div_ceil(64)),
            words: zeroed(words),
        }
    }

    /// Adds `number`; what lies beyond the capacity is ignored.
    fn add(&self, number: u32) {
        let word = (number / 64) as usize;
        let Some(cell) = self.words.get(word) else { return };
        cell.fetch_or(1 << (number % 64), Ordering::Release);
        self.summary[word / 64].fetch_or(1 << (word % 64), Ordering::Release);
        self.any.store(true, Ordering::SeqCst);
    }

    /// True when something was added since the last drain.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Takes every number out, in rising order.
    pub(crate) fn drain(&self, mut on: impl FnMut(u32)) {
        // A plain load first: the swap would take the line from the markers in every turn.
        if !self.any.load(Ordering::Relaxed) || !self.any.swap(false, Ordering::SeqCst) {
            return;
        }
        for (index, summary) in self.summary.iter().enumerate() {
            let mut pending =
                if summary.load(Ordering::Relaxed) == 0 { 0 } else { summary.swap(0, Ordering::AcqRel) };
            while pending != 0 {
                let word = index * 64 + pending.trailing_zeros() as usize;
                pending &= pending - 1;
                let mut bits = self.words[word].swap(0, Ordering::AcqRel);
                while bits != 0 {
                    on(word as u32 * 64 + bits.trailing_zeros());
                    bits &= bits - 1;
                }
            }
        }
    }
}

/// The bell of one shard: its marks, whether it sleeps, and how to wake it.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Streams (by slot) whose ring has something new, after the ring's waker was armed.
    pub(crate) rings: Marks,
    /// Channels (by slot) whose consumer opened half its window, or left.
    pub(crate) inboxes: Marks,
    asleep: CachePadded<AtomicBool>,
    sleeper: Waker,
}

impl Bell {
    /// A bell for `streams` rings and `channels` inboxes; `sleeper` ends the driver's sleep.
    pub(crate) fn new(streams: usize, channels: usize, sleeper: Waker) -> Arc<Self> {
        Arc::new(Self {
            rings: Marks::new(streams),
            inboxes: Marks::new(channels),
            asleep: CachePadded::new(AtomicBool::new(false)),
            sleeper,
        })
    }

    /// Marks the ring of the stream in `slot` and wakes the shard if it sleeps.
    pub(crate) fn ring_has_news(&self, slot: u32) {
        self.rings.add(slot);
        self.rouse();
    }

    /// Marks the inbox of the channel in `slot` and wakes the shard if it sleeps.
    pub(crate) fn inbox_has_room(&self, slot: u32) {
        self.inboxes.add(slot);
        self.rouse();
    }

    /// Wakes the shard if it sleeps. One wake per sleep reaches the driver, however many threads call.
    fn rouse(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.sleeper.wake_by_ref();
        }
    }

    /// Says that the shard is about to sleep. The caller must look for work once more afterwards.
    pub(crate) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Says that the shard is awake; nobody needs to wake it.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// True when a mark waits.
    pub(crate) fn any(&self) -> bool {
        self.rings.any() || self.inboxes.any()
    }
}

/// Rung without a mark: a mailbox has something.
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rouse();
    }
}

/// What the waker of one ring does: mark that ring, then wake its shard if it sleeps.
#[derive(Debug)]
pub(crate) struct RingBell {
    /// The shard's bell.
    pub(crate) bell: Arc<Bell>,
    /// The stream's slot in the shard.
    pub(crate) slot: u32,
}

impl Wake for RingBell {
    fn wake(self: Arc<Self>) {
        self.bell.ring_has_news(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring_has_news(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct CountWakes(AtomicUsize);

    impl Wake for CountWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn marks_are_drained_once_and_in_order() {
        let marks = Marks::new(10_000);
        for number in [9_999, 0, 63, 64, 4_096, 64] {
            marks.add(number);
        }
        marks.add(1_000_000);
        assert!(marks.any());
        let mut seen = Vec::new();
        marks.drain(|n| seen.push(n));
        assert_eq!(seen, [0, 63, 64, 4_096, 9_999]);
        assert!(!marks.any());
        marks.drain(|n| panic!("{n} came twice"));
    }

    #[test]
    fn a_sleeping_shard_is_woken_once_and_an_awake_one_never() {
        let wakes = Arc::new(CountWakes(AtomicUsize::new(0)));
        let bell = Bell::new(64, 64, wakes.clone().into());
        bell.ring_has_news(1);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
        bell.fall_asleep();
        assert!(bell.any());
        bell.inbox_has_room(5);
        bell.inbox_has_room(6);
        Waker::from(bell.clone()).wake();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn no_mark_is_lost_between_many_threads() {
        let marks = Marks::new(256);
        let counts: Vec<AtomicUsize> = (0..256).map(|_| AtomicUsize::new(0)).collect();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for part in 0..4u32 {
                let (marks, counts, done) = (&marks, &counts, &done);
                scope.spawn(move || {
                    for round in 0..2_000u32 {
                        let number = (round * 7 + part * 64) % 256;
                        counts[number as usize].fetch_add(1, Ordering::SeqCst);
                        marks.add(number);
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
            // After a mark is seen, everything that was counted before it is visible; so after the last drain
            // nothing may be left over.
            let mut seen = [0usize; 256];
            loop {
                let last = done.load(Ordering::SeqCst) == 4;
                marks.drain(|n| seen[n as usize] = counts[n as usize].load(Ordering::SeqCst));
                if last {
                    break;
                }
                std::thread::yield_now();
            }
            for (number, seen) in seen.iter().enumerate() {
                assert_eq!(*seen, counts[number].load(Ordering::SeqCst), "mark {number} was lost");
            }
        });
    }
}
