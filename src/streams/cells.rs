//! The only atomics of this crate: a flag, a counter and a gauge. Ordering between threads is the rings' and the
//! board's; the one thing built on a pair of flags is the bell of a local stream, which says why it is right.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A condition that many threads read for each datum and that few change.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    #[inline]
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the flag and tells what it was.
    pub(crate) fn set(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::AcqRel)
    }
}

/// Counts events. What happens for each datum of a network's stream is counted by its ring instead.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
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

/// How many there are of something that is counted under a lock, for those who do not take it.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Release);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
