//! Why no producer was made.

use core::fmt;

use corewire_rings::RingConfigError;

use super::Producer;
use crate::datum::{EncodeError, Postcard};
use crate::id::StreamId;

/// Why [`Builder::build`](super::Builder::build) made no producer.
#[derive(thiserror::Error)]
pub enum BuilderError<D, C = Postcard> {
    /// This network has a producer for the stream already: this one, with the configuration that it was made
    /// with.
    #[error("this network has a producer for the stream already: use the one inside this error")]
    AlreadyExists(Producer<D, C>),
}

/// Without the handle inside, so that the error of any producer can be printed and unwrapped.
impl<D, C> fmt::Debug for BuilderError<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AlreadyExists(..)")
    }
}

/// Why [`Builder::try_build`](super::Builder::try_build) made no producer.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TryBuildError<D, C = Postcard> {
    /// As [`BuilderError::AlreadyExists`].
    #[error("this network has a producer for the stream already: use the one inside this error")]
    AlreadyExists(Producer<D, C>),
    /// This network has a producer for the stream already, of another type or codec.
    #[error(
        "this network has a producer for stream {stream_id} already, and it sends {existing}, not {requested}: \
         name one of the two with `with_stream_id`"
    )]
    TypeConflict {
        /// The stream.
        stream_id: StreamId,
        /// Type and codec of the existing producer.
        existing: &'static str,
        /// Type and codec of the refused one.
        requested: &'static str,
    },
    /// No consumer could read what this producer sends: the codec cannot carry the type.
    #[error("the codec cannot carry this type: {0}")]
    Unreadable(EncodeError),
    /// The sizes make no ring.
    #[error(
        "these sizes make no ring: {0}; they are set with `with_buffer_size` (datums), `with_buffer_bytes` and \
         `with_max_datum_bytes` (the longest record)"
    )]
    Ring(#[from] RingConfigError),
    /// The node has as many producers as its engine's limit.
    #[error(
        "this node has {limit} producers already: drop one, or raise the limit in the engine's configuration"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The policy is `DegradeQuality`, and there is no degrader.
    #[error(
        "the policy degrade_quality needs a function that makes datums cheaper: give one with `degrader`"
    )]
    MissingDegrader,
    /// The bandwidth is limited to 0.
    #[error("a bandwidth of 0 lets nothing leave: give at least 1 byte per second, or no limit")]
    NoBandwidth,
    /// The network was shut down.
    #[error("the network was shut down: join it again with `Network::new`")]
    Closed,
}

/// Without the handle inside, so that the error of any producer can be printed and unwrapped.
impl<D, C> fmt::Debug for TryBuildError<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists(_) => f.write_str("AlreadyExists(..)"),
            other => write!(f, "{other}"),
        }
    }
}
