//! The only atomics of this crate: a flag and a counter. No algorithm is built on them; ordering between threads
//! is the rings' and the board's.

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

/// Counts what does not happen for each datum: refusals, cancellations, panics.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
