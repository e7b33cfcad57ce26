//! Counts of rare events. Relaxed, never part of a decision, on lines of their own.

use std::sync::atomic::{AtomicU64, Ordering};

/// Plain std atomics also under loom: nothing depends on them.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) abandoned: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) blocked_by_pin: AtomicU64,
    pub(crate) blocked_by_claim: AtomicU64,
    pub(crate) reader_wakes: AtomicU64,
    pub(crate) writer_wakes: AtomicU64,
}

impl Counters {
    pub(crate) fn add(&self, counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
