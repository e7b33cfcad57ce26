//! What a ring refuses, and why.

use crate::limits::{
    MAX_ARENA_BYTES, MAX_DATUMS, MAX_READERS, MAX_RECORD_BYTES, MAX_ROOM_WAITERS, UNIT_BYTES,
};
use thiserror::Error;

/// A `RingConfig` from which no ring can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RingConfigError {
    /// `datums` is out of range.
    #[error("a ring holds 1 to {MAX_DATUMS} datums, not {0}")]
    Datums(usize),
    /// `bytes` is out of range.
    #[error("a ring holds {UNIT_BYTES} to {MAX_ARENA_BYTES} bytes, not {0}")]
    Bytes(usize),
    /// `max_record` is out of range.
    #[error("a record is 1 to {MAX_RECORD_BYTES} bytes long, not {0}; split larger ones")]
    MaxRecord(usize),
    /// A record of `max_record` bytes would not fit.
    #[error(
        "a record of {max_record} bytes does not fit a ring of {bytes}; give the ring more, or records less"
    )]
    RecordExceedsRing {
        /// The configured `max_record`, in bytes.
        max_record: usize,
        /// The configured `bytes`.
        bytes: usize,
    },
    /// `readers` is out of range.
    #[error("a ring has 1 to {MAX_READERS} readers, not {0}; share one reader, or use a second ring")]
    Readers(usize),
    /// The allocator refused the memory.
    #[error("no memory for a ring of {0} bytes; ask for a smaller one")]
    Memory(usize),
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// No room now, or other writers wait for room already. Wait with `Writer::claim`, evict, or try again
    /// later.
    #[error("the ring is full; wait for room, evict, or try again later")]
    Full,
    /// The ring is closed. This is final.
    #[error("the ring is closed")]
    Closed,
    /// The record can never fit. Split it, or build the ring with a larger `max_record`.
    #[error("a record of {len} bytes is longer than the ring's limit of {limit}; split it")]
    TooLarge {
        /// The requested length, in bytes.
        len: usize,
        /// The ring's `max_record`.
        limit: usize,
    },
    /// [`MAX_ROOM_WAITERS`] writers wait for room already.
    #[error("{MAX_ROOM_WAITERS} writers wait for room already; send from fewer tasks")]
    TooManyWaiters,
}

/// A writer detached this reader; it will never see another record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ring detached this reader; subscribe again")]
pub struct Detached;

/// Why there will never be another record for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecvError {
    /// The ring is closed and everything was read.
    #[error("the ring is closed and drained")]
    Closed,
    /// A writer detached this reader. Subscribe again.
    #[error("the ring detached this reader; subscribe again")]
    Detached,
}

impl From<Detached> for RecvError {
    fn from(_: Detached) -> Self {
        Self::Detached
    }
}

/// All reader slots of the ring are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all {limit} reader slots of the ring are taken; drop a reader or raise `readers`")]
pub struct NoReaderSlot {
    /// The configured number of readers.
    pub limit: usize,
}

/// Why a reader could not be forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ForkError {
    /// The reader holds nothing before `oldest`.
    #[error("the reader is at {oldest} and keeps nothing before it; fork it there")]
    Passed {
        /// The reader's position.
        oldest: u64,
    },
    /// Not every record before the wanted one is published.
    #[error("the ring is published up to {published} only; fork the reader there")]
    Unpublished {
        /// End of the published run.
        published: u64,
    },
    /// The ring has no slot for another reader.
    #[error(transparent)]
    NoReaderSlot(#[from] NoReaderSlot),
    /// A writer detached the reader.
    #[error(transparent)]
    Detached(#[from] Detached),
}

/// Why a reader was not detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DetachError {
    /// It is pinned: it reads in place. Try again later.
    #[error("the reader is reading in place; try again")]
    Pinned,
    /// It has left, or was detached before.
    #[error("the reader has left already")]
    Gone,
}
