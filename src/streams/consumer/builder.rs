//! Configuring a consumer.

use core::marker::PhantomData;

use super::Consumer;
use crate::datum::{Codec, Postcard};
use crate::discovery::PeerEntry;
use crate::id::StreamId;
use crate::streams::backoff::ExponentialBackoff;
use crate::streams::conditions::ChannelConditions;
use crate::streams::policy::Reliability;

/// Configures a consumer; made by [`Streams::consumer`](crate::streams::Streams::consumer).
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<D, C = Postcard>(PhantomData<fn(D, C)>);

impl<D: Send + 'static, C> Builder<D, C> {
    /// Names the stream.
    pub fn with_stream_id(self, _id: impl Into<StreamId>) -> Self {
        todo!()
    }
    /// Bytes that a producer on another host may have on the way to this consumer. Default: 65,536.
    pub fn with_window_bytes(self, _bytes: usize) -> Self {
        todo!()
    }
    /// Datums that may be on the way likewise. Default: 1024.
    pub fn with_buffer_size(self, _datums: usize) -> Self {
        todo!()
    }
    /// When to try again.
    pub fn with_backoff(self, _backoff: ExponentialBackoff) -> Self {
        todo!()
    }
    /// When the consumer is online. Default: at least one producer.
    pub fn online_when(
        self,
        _condition: impl FnOnce(ChannelConditions) -> ChannelConditions + Send + Sync + 'static,
    ) -> Self {
        todo!()
    }
    /// Adds a requirement for producers.
    pub fn require(self, _predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        todo!()
    }
    /// Another name of [`require`](Self::require).
    pub fn subscribe_if(self, _predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        todo!()
    }
    /// Whether lost packets are sent again; a consumer may ask for less than the producer offers.
    pub fn reliability(self, _reliability: Reliability) -> Self {
        todo!()
    }
    /// The codec, [`Postcard`] by default.
    pub fn codec<K: Codec<D>>(self, _codec: K) -> Builder<D, K> {
        todo!()
    }
}

impl<D: Send + 'static, C: Codec<D>> Builder<D, C> {
    /// Makes the consumer.
    pub fn build(self) -> Consumer<D, C> {
        todo!()
    }
}
