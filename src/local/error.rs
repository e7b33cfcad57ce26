//! Why a datum was not pushed or popped, and what to do next.

use core::fmt;

use crate::datum::EncodeError;
use crate::local::line::MAX_WAITING;
use crate::streams::BackpressurePolicy;

/// Why a stream refused. Each text says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// There is no room right now, and the form that was called does not wait for it; or more than 1,024 tasks wait
    /// for room already. Under `drop_oldest` and `degrade_quality` only `try_push` can meet it, while another thread
    /// stands between taking its place in the ring and filling it.
    #[error(
        "there is no room right now: use `push().await` or `push_blocking`, which wait (up to {MAX_WAITING} of them), or try again later"
    )]
    Backpressure,
    /// There is no session to the peer. A stream without a network never answers this; the streams of a session share
    /// this type.
    #[error("there is no session to the peer: connect, then open the stream again")]
    NotConnected,
    /// The network failed. A stream without a network never answers this.
    #[error("the transport failed: {0}; open the stream again once the network is back")]
    Transport(String),
    /// The buffer is full and the policy is to say so.
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
    /// The datum has to be degraded and there is no degrader.
    #[error(
        "the stream is full and its policy is degrade_quality, but it has no degrader: build it with `Stream::with_degrader`"
    )]
    MissingDegrader,
    /// The degrader panicked. The datum was not pushed, and nothing was dropped for it.
    #[error("the degrader panicked: see the panic message, and mend it")]
    DegraderPanicked,
    /// There was no room before the deadline.
    #[error("there was no room in time: wait longer, or let consumers catch up")]
    TimedOut,
    /// The encoded datum is longer than the stream carries.
    #[error(
        "the datum is {len} bytes long and this stream carries {limit}: raise the limit with `max_datum_bytes`, or split the datum"
    )]
    TooLarge {
        /// The encoded length, in bytes.
        len: usize,
        /// The stream's limit, in bytes.
        limit: usize,
    },
    /// The datum has no encoded form.
    #[error("the datum cannot be encoded: {0}")]
    Encoding(EncodeError),
}

/// Why a datum was not pushed, and the datum.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct PushError<T> {
    /// The reason.
    pub error: StreamError,
    /// The datum. If the degrader has run already, its result. `None` only after the degrader panicked with a datum
    /// that does not decode from its own encoded form.
    pub item: Option<T>,
}

impl<T> From<PushError<T>> for StreamError {
    fn from(refused: PushError<T>) -> Self {
        refused.error
    }
}

/// Without the datum, so that every datum's error can be printed and unwrapped.
impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushError").field("error", &self.error).finish_non_exhaustive()
    }
}

/// Why there is no datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryPopError {
    /// Nothing can be taken now.
    #[error("nothing can be taken now: try again later, or use `pop`, which waits")]
    Empty,
    /// The stream is closed and everything was taken.
    #[error("the stream is closed and everything was taken: stop popping")]
    Closed,
}

/// Why there is no datum in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PopTimeoutError {
    /// Nothing came in time.
    #[error("nothing came in time")]
    Timeout,
    /// The stream is closed and everything was taken.
    #[error("the stream is closed and everything was taken: stop popping")]
    Closed,
}

/// Why a stream was not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Neither the program nor the annotation says how many datums the stream holds.
    #[error(
        "nothing says how many datums the stream holds: give a capacity, or `buffer_size` in the annotation"
    )]
    NoCapacity,
    /// The program says one capacity and the annotation another.
    #[error(
        "the stream is built with a capacity of {capacity} and its annotation says buffer_size={buffer_size}: keep one, or make them equal"
    )]
    CapacityConflict {
        /// What the program says, in datums.
        capacity: usize,
        /// What the annotation says, in datums.
        buffer_size: usize,
    },
    /// The ring that was asked for cannot be.
    #[error("no ring can be built like this: {0}")]
    Ring(#[from] corewire_engine::rings::RingConfigError),
}
