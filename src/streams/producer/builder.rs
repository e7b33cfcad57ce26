//! Configuring a producer.

use core::marker::PhantomData;

use super::Producer;
use crate::datum::{Codec, Postcard};
use crate::discovery::PeerEntry;
use crate::id::StreamId;
use crate::streams::conditions::ChannelConditions;
use crate::streams::policy::{OnFull, Reliability};

/// Configures a producer; made by [`Streams::producer`](crate::streams::Streams::producer).
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<D, C = Postcard>(PhantomData<fn(D, C)>);

impl<D: Send + 'static, C> Builder<D, C> {
    /// Names the stream.
    pub fn with_stream_id(self, _id: impl Into<StreamId>) -> Self {
        todo!()
    }
    /// Datums that the ring holds. Default: 1024.
    pub fn with_buffer_size(self, _datums: usize) -> Self {
        todo!()
    }
    /// Bytes that the ring holds.
    pub fn with_buffer_bytes(self, _bytes: usize) -> Self {
        todo!()
    }
    /// The longest datum, in encoded bytes.
    pub fn with_max_datum_bytes(self, _bytes: usize) -> Self {
        todo!()
    }
    /// Consumers at the same time. Default: no limit.
    pub fn with_max_consumers(self, _consumers: usize) -> Self {
        todo!()
    }
    /// When the producer is online. Default: at least one consumer.
    pub fn online_when(
        self,
        _condition: impl FnOnce(ChannelConditions) -> ChannelConditions + Send + Sync + 'static,
    ) -> Self {
        todo!()
    }
    /// Adds a requirement for consumers.
    pub fn require(self, _predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        todo!()
    }
    /// Another name of [`require`](Self::require).
    pub fn accept_if(self, _predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        todo!()
    }
    /// What happens when the ring is full.
    pub fn on_full(self, _policy: OnFull) -> Self {
        todo!()
    }
    /// Whether lost packets are sent again.
    pub fn reliability(self, _reliability: Reliability) -> Self {
        todo!()
    }
    /// The share of this stream's channels when they compete with others. Default: 1.
    pub fn fairness_weight(self, _weight: u8) -> Self {
        todo!()
    }
    /// The codec, [`Postcard`] by default.
    pub fn codec<K: Codec<D>>(self, _codec: K) -> Builder<D, K> {
        todo!()
    }
}

impl<D: Send + 'static, C: Codec<D>> Builder<D, C> {
    /// Makes the producer.
    pub fn build(self) -> Result<Producer<D, C>, BuilderError<Producer<D, C>>> {
        todo!()
    }
}

/// Why a producer was not made.
#[derive(thiserror::Error)]
pub enum BuilderError<P> {
    /// The stream already has a producer in this network: here it is.
    #[error("this network already has a producer for the stream: use the one inside this error")]
    AlreadyExists(P),
}

impl<P> core::fmt::Debug for BuilderError<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BuilderError")
    }
}
