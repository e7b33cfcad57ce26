//! Why a datum was not sent.

use core::fmt;
use core::ops::Deref;

use crate::datum::EncodeError;

/// Why a datum was not sent. Every variant gives the datum back. There are three, so that a `match` over them
/// is complete: what to do is to wait, to try again, or to stop offering this datum.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error<D> {
    /// The condition of `online_when` does not hold: by default, no consumer is connected.
    #[error(
        "the producer is offline: wait with `producer.when().online().await`, or use `send`, which waits"
    )]
    Offline(D),
    /// The ring has no room and its policy makes none, 1,024 sends wait for room already, or the datum that
    /// would make room is being read in place. `send` waits for room only under
    /// [`PauseUpstream`](crate::BackpressurePolicy::PauseUpstream), the default.
    #[error(
        "the stream is full: try again once consumers caught up, use `send`, which waits under the policy `PauseUpstream`, or give the stream more room with `with_buffer_size` and `with_buffer_bytes`"
    )]
    Full(D),
    /// This producer never sends this datum: the stream is closed, or closed to a datum like this. The
    /// [cause](Unsendable::cause) tells which.
    #[error("{0}")]
    Closed(Unsendable<D>),
}

/// A datum that its producer never sends, and why. Derefs to the datum.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsendable<D> {
    datum: D,
    cause: UnsendableCause,
}

/// Why a producer never sends a datum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsendableCause {
    /// The producer or its network was closed.
    #[error("the stream is closed: its network was shut down or `close` was called; build a new producer")]
    Closed,
    /// The encoded datum is longer than this stream carries; with the limit, in bytes. Shorter ones are sent.
    #[error(
        "the datum is longer than the {0} bytes that this stream carries: raise the limit with `with_max_datum_bytes`, or split the datum"
    )]
    TooLarge(usize),
    /// The datum cannot be encoded. Others are sent.
    #[error("the datum cannot be encoded: {0}")]
    Encoding(EncodeError),
}

impl<D> Unsendable<D> {
    /// `datum`, and why it is never sent.
    pub const fn new(datum: D, cause: UnsendableCause) -> Self {
        Self { datum, cause }
    }

    /// Why it is never sent.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::streams::producer::{Error, UnsendableCause};
    ///
    /// let producer = network.streams().produce::<u64>();
    /// producer.close();
    /// let Err(Error::Closed(refused)) = producer.try_send(7) else { panic!("it is closed") };
    /// assert_eq!(refused.cause(), &UnsendableCause::Closed);
    /// assert_eq!(refused.into_inner(), 7);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub const fn cause(&self) -> &UnsendableCause {
        &self.cause
    }

    /// The datum.
    pub fn into_inner(self) -> D {
        self.datum
    }
}

impl<D> Deref for Unsendable<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.datum
    }
}

/// The cause.
impl<D> fmt::Display for Unsendable<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// The cause, without the datum.
impl<D> fmt::Debug for Unsendable<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".., {:?}", self.cause)
    }
}

impl<D> Error<D> {
    /// [`Error::Closed`] because the producer or its network was closed.
    pub const fn closed(datum: D) -> Self {
        Self::Closed(Unsendable::new(datum, UnsendableCause::Closed))
    }

    /// [`Error::Closed`] because the encoded datum is longer than `limit` bytes.
    pub const fn too_large(datum: D, limit: usize) -> Self {
        Self::Closed(Unsendable::new(datum, UnsendableCause::TooLarge(limit)))
    }

    /// [`Error::Closed`] because the datum cannot be encoded.
    pub const fn encoding(datum: D, error: EncodeError) -> Self {
        Self::Closed(Unsendable::new(datum, UnsendableCause::Encoding(error)))
    }

    /// The datum that was not sent.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// assert_eq!(producer.try_send(7).map_err(|error| error.into_inner()), Err(7));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_inner(self) -> D {
        match self {
            Self::Offline(datum) | Self::Full(datum) => datum,
            Self::Closed(refused) => refused.into_inner(),
        }
    }
}

/// Without the datum, so that every datum's error can be printed and unwrapped.
impl<D> fmt::Debug for Error<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(_) => f.write_str("Offline(..)"),
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Closed(refused) => write!(f, "Closed({refused:?})"),
        }
    }
}
