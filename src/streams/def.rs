//! Definitions: a stream's type and identity as one constant.

use core::fmt;
use core::marker::PhantomData;

use super::Streams;
use crate::datum::Datum;
use crate::id::StreamId;

/// The definition of a producer: its type and its stream.
///
/// ```
/// use corewire::{ConsumerDef, Network, NetworkId, ProducerDef, unique_id};
///
/// const PRICES: ProducerDef<f64> = ProducerDef::new(Some(unique_id!("prices")));
/// const PRICES_IN: ConsumerDef<f64> = ConsumerDef::new(Some(unique_id!("prices")));
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let producer = PRICES.open(&network).build()?;
/// let mut consumer = PRICES_IN.open(&network).build();
/// producer.send_blocking(3200.0)?;
/// assert_eq!(consumer.recv_blocking(), Some(3200.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ProducerDef<D> {
    stream_id: Option<StreamId>,
    datum: PhantomData<fn(D)>,
}

/// The definition of a consumer: its type and its stream. For an example see [`ProducerDef`].
pub struct ConsumerDef<D> {
    stream_id: Option<StreamId>,
    datum: PhantomData<fn() -> D>,
}

impl<D> ProducerDef<D> {
    /// The stream with this id; `None` is the stream whose id is derived from `D`.
    pub const fn new(stream_id: Option<StreamId>) -> Self {
        Self { stream_id, datum: PhantomData }
    }
}

impl<D: Datum> ProducerDef<D> {
    /// The id of the stream.
    pub fn stream_id(&self) -> StreamId {
        self.stream_id.unwrap_or_else(D::derived_stream_id)
    }

    /// A builder for a producer of this stream, in a [`Network`](crate::Network) or its [`Streams`].
    pub fn open(&self, network: &impl AsRef<Streams>) -> super::producer::Builder<D> {
        network.as_ref().producer::<D>().with_stream_id(self.stream_id())
    }
}

impl<D> ConsumerDef<D> {
    /// The stream with this id; `None` is the stream whose id is derived from `D`.
    pub const fn new(stream_id: Option<StreamId>) -> Self {
        Self { stream_id, datum: PhantomData }
    }
}

impl<D: Datum> ConsumerDef<D> {
    /// The id of the stream.
    pub fn stream_id(&self) -> StreamId {
        self.stream_id.unwrap_or_else(D::derived_stream_id)
    }

    /// A builder for a consumer of this stream, in a [`Network`](crate::Network) or its [`Streams`].
    pub fn open(&self, network: &impl AsRef<Streams>) -> super::consumer::Builder<D> {
        network.as_ref().consumer::<D>().with_stream_id(self.stream_id())
    }
}

macro_rules! plain_traits {
    ($($name:ident),*) => {$(
        impl<D> Clone for $name<D> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<D> Copy for $name<D> {}
        impl<D> fmt::Debug for $name<D> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("stream_id", &self.stream_id).finish()
            }
        }
    )*};
}

plain_traits!(ProducerDef, ConsumerDef);
