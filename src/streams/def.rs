//! Definitions: a stream's identity, written down once as a constant.

use core::fmt;
use core::marker::PhantomData;

use crate::datum::Datum;
use crate::id::StreamId;
use crate::network::Network;

/// The definition of a producer: its type and its stream.
///
/// ```
/// use corewire::{streams::ProducerDef, unique_id};
///
/// const PRICES: ProducerDef<f64> = ProducerDef::new(Some(unique_id!("prices")));
/// ```
pub struct ProducerDef<D> {
    stream_id: Option<StreamId>,
    datum: PhantomData<fn(D)>,
}

/// The definition of a consumer: its type and its stream.
pub struct ConsumerDef<D> {
    stream_id: Option<StreamId>,
    datum: PhantomData<fn() -> D>,
}

impl<D> ProducerDef<D> {
    /// The stream with this id, or with the one derived from `D`.
    pub const fn new(stream_id: Option<StreamId>) -> Self {
        Self { stream_id, datum: PhantomData }
    }
}

impl<D: Datum> ProducerDef<D> {
    /// The id of the stream.
    pub fn stream_id(&self) -> StreamId {
        self.stream_id.unwrap_or_else(D::derived_stream_id)
    }

    /// A builder for a producer of this stream in `network`.
    pub fn open(&self, network: &Network) -> super::producer::Builder<D> {
        network.streams().producer::<D>().with_stream_id(self.stream_id())
    }
}

impl<D> ConsumerDef<D> {
    /// The stream with this id, or with the one derived from `D`.
    pub const fn new(stream_id: Option<StreamId>) -> Self {
        Self { stream_id, datum: PhantomData }
    }
}

impl<D: Datum> ConsumerDef<D> {
    /// The id of the stream.
    pub fn stream_id(&self) -> StreamId {
        self.stream_id.unwrap_or_else(D::derived_stream_id)
    }

    /// A builder for a consumer of this stream in `network`.
    pub fn open(&self, network: &Network) -> super::consumer::Builder<D> {
        network.streams().consumer::<D>().with_stream_id(self.stream_id())
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
