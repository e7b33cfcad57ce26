//! Counts of rare events, on cache lines of their own. Relaxed; no decision depends on them.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters behind `RingStats`. Std atomics also under loom and shuttle, which need not explore them.
#[derive(Default)]
pub(crate) struct RingCounters {
    pub(crate) abandoned: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) blocked_by_pin: AtomicU64,
    pub(crate) blocked_by_claim: AtomicU64,
    pub(crate) reader_wakes: AtomicU64,
    pub(crate) writer_wakes: AtomicU64,
}

impl RingCounters {
    pub(crate) fn add(&self, counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
