//! Why a datum was not pushed or popped, and what to do next.

use core::fmt;

use corewire_rings::WaitQueue;

use crate::policy::{BackpressurePolicy, MAX_BUFFER_SIZE};

/// Why a push, or a payload of a raw channel ([`raw`](crate::raw)), was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// There is no room now, and the form that was called does not wait for it; or 1,024 callers wait
    /// already. Nothing was put in. Of local streams only under `pause_upstream`.
    #[error(
        "there is no room now: use `push` or `send`, or their blocking forms, which wait (up to {} of them), or try \
         again later",
        WaitQueue::MAX_WAITERS
    )]
    Backpressure,
    /// Only of raw channels: the peer has not opened the channel or is gone, or this handle's channel was
    /// closed.
    #[error(
        "the channel is not connected: wait until the peer has opened it, or open it again if it was closed here"
    )]
    NotConnected,
    /// Only of raw channels: it can't be opened, or can't carry the payload. The text has the reason and the
    /// cure.
    #[error("{0}")]
    Transport(String),
    /// The buffer is full and the policy is `fail`.
    #[error(
        "the stream is full under policy {policy} (capacity {buffer_capacity}): push again once consumers caught up, or build it with a larger capacity or another policy"
    )]
    Overflow {
        /// The policy.
        policy: BackpressurePolicy,
        /// The stream's capacity in datums.
        buffer_capacity: usize,
    },
    /// The stream was closed.
    #[error("the stream was closed: stop pushing, or build a new one")]
    Cancelled,
    /// The buffer is full and the policy is `degrade_quality`, but the stream has no degrader. Nothing was
    /// dropped.
    #[error(
        "the stream is full and its policy is degrade_quality, but it has no degrader: build it with `Stream::with_degrader`"
    )]
    MissingDegrader,
    /// There was no room before the deadline.
    #[error("there was no room in time: wait longer, or let consumers catch up")]
    TimedOut,
}

/// A datum that was not pushed, with the reason.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct PushError<T> {
    /// The reason.
    pub error: StreamError,
    /// The datum. If the stream was closed while the degrader ran, the degrader's result.
    pub item: T,
}

impl<T> From<PushError<T>> for StreamError {
    fn from(refused: PushError<T>) -> Self {
        refused.error
    }
}

/// Without the datum, so that it needs no `Debug`.
impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushError").field("error", &self.error).finish_non_exhaustive()
    }
}

/// Why `try_pop` gave no datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryPopError {
    /// The buffer is empty.
    #[error("the stream is empty: try again later, or use `pop`, which waits")]
    Empty,
    /// The stream is closed and everything was taken.
    #[error("the stream is closed and everything was taken: stop popping")]
    Closed,
}

/// Why `pop_timeout` gave no datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PopTimeoutError {
    /// No datum came before the deadline.
    #[error("no datum came in time")]
    Timeout,
    /// The stream is closed and everything was taken.
    #[error("the stream is closed and everything was taken: stop popping")]
    Closed,
}

/// Why a stream was not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Neither the program nor the annotation gives a capacity.
    #[error("the stream has no capacity: give one, or `buffer_size` in the annotation")]
    NoCapacity,
    /// The program gives one capacity and the annotation another.
    #[error(
        "the stream is built with a capacity of {capacity} and its annotation has buffer_size={buffer_size}: keep one, or make them equal"
    )]
    CapacityConflict {
        /// The program's, in datums.
        capacity: usize,
        /// The annotation's, in datums.
        buffer_size: usize,
    },
    /// The capacity is 0 or above 8,388,608 datums.
    #[error("a stream holds 1 to {MAX_BUFFER_SIZE} datums, not {0}")]
    BadCapacity(usize),
    /// There is no memory for so many datums.
    #[error("there is no memory for {0} datums: build the stream with a smaller capacity")]
    NoMemory(usize),
}
