//! The atomics of the typed API: a flag and a counter.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A condition that is read for each datum and seldom changes. What was done before a change is visible to a
/// thread that reads it.
#[derive(Debug, Default)]
pub(crate) struct AtomicFlag(AtomicBool);

impl AtomicFlag {
    #[inline]
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the flag and gives what it was.
    pub(crate) fn set(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::AcqRel)
    }
}

/// Counts events. It orders nothing between threads.
#[derive(Debug, Default)]
pub(crate) struct EventCounter(AtomicU64);

impl EventCounter {
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
