//! Why a datum was not sent.

use crate::datum::EncodeError;

/// Why a datum was not sent. Every variant gives the datum back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error<D> {
    /// The condition of `online_when` does not hold: by default, no consumer is connected.
    #[error(
        "the producer is offline: wait with `producer.when().online().await`, or use `send`, which waits"
    )]
    Offline(D),
    /// The ring has no room, and its policy makes none.
    #[error(
        "the stream is full: try again once consumers caught up, use `send`, which waits, or give the stream more room with `with_buffer_size` and `with_buffer_bytes`"
    )]
    Full(D),
    /// The producer or its network was closed.
    #[error("the stream is closed: its network was shut down or `close` was called; build a new producer")]
    Closed(D),
    /// The encoded datum is longer than this stream carries; with the limit, in bytes.
    #[error(
        "the datum is longer than the {1} bytes that this stream carries: raise the limit with `with_max_datum_bytes`, or split the datum"
    )]
    TooLarge(D, usize),
    /// The datum cannot be encoded.
    #[error("the datum cannot be encoded: {1}")]
    Encoding(D, EncodeError),
}

impl<D> Error<D> {
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
            Self::Offline(datum)
            | Self::Full(datum)
            | Self::Closed(datum)
            | Self::TooLarge(datum, _)
            | Self::Encoding(datum, _) => datum,
        }
    }
}

/// Without the datum, so that every datum's error can be printed and unwrapped.
impl<D> core::fmt::Debug for Error<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Offline(_) => f.write_str("Offline(..)"),
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::TooLarge(_, limit) => write!(f, "TooLarge(.., {limit})"),
            Self::Encoding(_, error) => write!(f, "Encoding(.., {error:?})"),
        }
    }
}
