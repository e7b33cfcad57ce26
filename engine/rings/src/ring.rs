//! The ring as a whole: create, subscribe, close, inspect.

use crate::{
    config::{ConfigError, RingConfig},
    reader::Reader,
    writer::Writer,
};
use std::sync::Arc;
use thiserror::Error;

pub(crate) struct Shared {
    pub(crate) config: RingConfig,
}

/// A fanout ring. Cloning clones the handle.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

/// All reader places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all {limit} reader places of the ring are taken; drop a reader or raise `readers`")]
pub struct NoReaderSlot {
    /// The configured number of readers.
    pub limit: usize,
}

/// Names one reader of one ring for as long as it lives; never names a later reader in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What can be seen of one reader from outside. A snapshot; each field may be stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderStatus {
    /// Which reader.
    pub id: ReaderId,
    /// Sequence of the oldest record that it still needs.
    pub position: u64,
    /// Records between its position and the tail.
    pub lag: u64,
    /// It reads in place right now, so it can be neither moved nor detached.
    pub held: bool,
    /// It stands at the gate: nobody is further behind.
    pub at_gate: bool,
    /// Records that eviction took from it, in total.
    pub lost: u64,
}

/// Why a reader was not detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DetachError {
    /// It reads in place right now. Try again after its hold.
    #[error("the reader is reading in place; try again")]
    Held,
    /// No such reader any more.
    #[error("the reader has left already")]
    Gone,
}

/// A position in datums and in bytes, both absolute; bytes count [`RingConfig::cost`] of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Sequence of the next record.
    pub seq: u64,
    pub(crate) units: u64,
    pub(crate) modulus: u64,
}

impl Mark {
    /// Bytes from `earlier` to here. Right as long as less than 2 TiB lie between them.
    #[must_use]
    pub fn bytes_since(&self, _earlier: &Mark) -> u64 {
        todo!()
    }
}

/// Counters of one ring; all monotone, none of them costs a shared write on the way of a datum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Records claimed so far (= the tail), abandoned ones included.
    pub accepted: u64,
    /// Claims dropped without commit.
    pub abandoned: u64,
    /// Records that eviction took, summed over readers.
    pub evicted: u64,
    /// Evictions refused because a reader was reading the oldest record in place.
    pub blocked_by_hold: u64,
    /// Evictions refused because the oldest record was claimed and not yet published.
    pub blocked_by_claim: u64,
    /// Sleeping readers woken.
    pub reader_wakes: u64,
    /// Writers that waited for room and were woken.
    pub room_wakes: u64,
}

impl Ring {
    /// Builds a ring. Allocates all memory that the ring will ever use, except one queue entry per waiting writer.
    pub fn new(config: RingConfig) -> Result<Ring, ConfigError> {
        let _ = config;
        todo!()
    }
    /// A new writing handle.
    #[must_use]
    pub fn writer(&self) -> Writer {
        todo!()
    }
    /// A new reader at the tail ("latest"): it sees what is claimed after this call.
    pub fn subscribe(&self) -> Result<Reader, NoReaderSlot> {
        todo!()
    }
    /// No claim succeeds after this. Readers drain what was claimed, then see the end. Idempotent.
    pub fn close(&self) {
        todo!()
    }
    /// Whether `close` was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }
    /// The sizes.
    #[must_use]
    pub fn config(&self) -> &RingConfig {
        &self.shared.config
    }
    /// Sequence of the next record to be claimed = records claimed so far.
    #[must_use]
    pub fn tail(&self) -> u64 {
        todo!()
    }
    /// Oldest sequence that some reader still needs (fresh: the cursors are scanned). With no reader, the end of
    /// the published prefix.
    #[must_use]
    pub fn gate(&self) -> u64 {
        self.gate_mark().seq
    }
    /// As [`Ring::gate`], with the byte position: the inbox's credit is computed from this.
    #[must_use]
    pub fn gate_mark(&self) -> Mark {
        todo!()
    }
    /// Readers at present.
    #[must_use]
    pub fn readers(&self) -> usize {
        todo!()
    }
    /// Records between gate and tail.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether `len` is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Detaches a reader: it no longer holds the ring back and is told so on its next call. Never while it reads in
    /// place.
    pub fn detach(&self, id: ReaderId) -> Result<(), DetachError> {
        let _ = id;
        todo!()
    }
    /// Calls `each` for every reader.
    pub fn each_reader(&self, each: impl FnMut(ReaderStatus)) {
        let _ = each;
        todo!()
    }
    /// Readers that lag and that nobody lags behind: those that a full ring waits for.
    #[must_use]
    pub fn blockers(&self) -> Vec<ReaderId> {
        todo!()
    }
    /// The counters.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        todo!()
    }
}
