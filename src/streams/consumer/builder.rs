//! Configuring a consumer.

use core::fmt;
use core::marker::PhantomData;
use std::sync::Arc;

use super::Consumer;
use crate::datum::{Codec, Postcard};
use crate::discovery::{NamedPeer, PeerEntry};
use crate::id::StreamId;
use crate::streams::backoff::ExponentialBackoff;
use crate::streams::conditions::{ChannelConditions, Predicate, Spec};
use crate::streams::policy::Reliability;
use crate::streams::{Streams, conditions};

/// Bytes that may be under way to a consumer unless told otherwise.
const DEFAULT_WINDOW_BYTES: usize = 65_536;

/// Datums that may be under way to a consumer unless told otherwise.
const DEFAULT_WINDOW_DATUMS: usize = 1024;

/// What windows may be: from one datum of one unit to what an inbox may be made of.
const WINDOW_BYTES: core::ops::RangeInclusive<usize> = 16..=1 << 30;
const WINDOW_DATUMS: core::ops::RangeInclusive<usize> = 1..=1 << 22;

/// Configures a consumer; made by [`Streams::consumer`].
///
/// Building cannot fail: values beyond a documented range count as the nearest one inside it.
///
/// ```
/// # use corewire::{Network, Datum};
/// # fn example<MyDatum: Datum>(network: &Network) {
/// let consumer = network.streams()
///     .consumer::<MyDatum>()
///     .require(|peer| peer.tags().contains(&"trusted".into()))
///     .with_stream_id("custom-id")
///     .with_window_bytes(1 << 20)
///     .build();
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<D, C = Postcard> {
    streams: Streams,
    settings: Settings,
    types: PhantomData<fn(D, C)>,
}

/// What a consumer is configured with.
pub(crate) struct Settings {
    pub(crate) stream_id: StreamId,
    pub(crate) window_bytes: usize,
    pub(crate) window_datums: usize,
    pub(crate) backoff: ExponentialBackoff,
    pub(crate) online: Spec,
    pub(crate) require: Vec<Predicate>,
    pub(crate) reliability: Reliability,
}

impl<D: Send + 'static> Builder<D> {
    pub(crate) fn new(streams: Streams) -> Self {
        let settings = Settings {
            stream_id: crate::datum::derived_stream_id::<D>(),
            window_bytes: DEFAULT_WINDOW_BYTES,
            window_datums: DEFAULT_WINDOW_DATUMS,
            backoff: streams.config().backoff().clone(),
            online: Spec::subscribed(),
            require: Vec::new(),
            reliability: Reliability::default(),
        };
        Self { streams, settings, types: PhantomData }
    }
}

impl<D: Send + 'static, C> Builder<D, C> {
    /// Names the stream. Default: the name is derived from the type; see
    /// [`Datum::derived_stream_id`](crate::Datum::derived_stream_id).
    pub fn with_stream_id(mut self, id: impl Into<StreamId>) -> Self {
        self.settings.stream_id = id.into();
        self
    }

    /// How many bytes a producer on another engine may have under way: sent and not yet taken by the application.
    /// From 16 bytes to 1 GiB. Default: 65,536. A producer on the same engine has its own ring as the window.
    pub fn with_window_bytes(mut self, bytes: usize) -> Self {
        self.settings.window_bytes = bytes.clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end());
        self
    }

    /// How many datums may be under way likewise. From 1 to 4,194,304. Default: 1024.
    pub fn with_buffer_size(mut self, datums: usize) -> Self {
        self.settings.window_datums = datums.clamp(*WINDOW_DATUMS.start(), *WINDOW_DATUMS.end());
        self
    }

    /// How to try again when a connection fails. Default: that of the network's
    /// [`Config`](crate::streams::Config).
    pub fn with_backoff(mut self, backoff: ExponentialBackoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// When the consumer is online. Default: at least one producer is connected.
    ///
    /// The condition is evaluated when channels change, on the engine's control thread; a predicate that panics
    /// counts as not met.
    pub fn online_when(mut self, condition: impl FnOnce(ChannelConditions) -> ChannelConditions) -> Self {
        self.settings.online = conditions::spec_of(condition);
        self
    }

    /// Adds a requirement for producers: all have to hold. Default: every producer of the stream.
    ///
    /// Evaluated before subscribing, and again when the producer's entry changes: once it does not hold any more,
    /// the channel is closed. A predicate that panics denies.
    pub fn require(mut self, predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        self.settings.require.push(Arc::new(predicate));
        self
    }

    /// [`require`](Self::require) for predicates that write tags as text:
    /// `.subscribe_if(|peer| peer.tags().contains("tag2"))`.
    pub fn subscribe_if(self, predicate: impl Fn(&NamedPeer<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.require(move |peer| predicate(&NamedPeer::new(peer)))
    }

    /// Whether what the network loses is sent again. A channel is only as reliable as both ends want. Default:
    /// [`Reliability::Reliable`], which leaves it to the producer.
    pub fn reliability(mut self, reliability: Reliability) -> Self {
        self.settings.reliability = reliability;
        self
    }

    /// How bytes become datums: [`Postcard`], the default, or [`Plain`](crate::Plain). Producer and consumers have
    /// to agree.
    pub fn codec<K: Codec<D>>(self, _codec: K) -> Builder<D, K> {
        Builder { streams: self.streams, settings: self.settings, types: PhantomData }
    }
}

impl<D: Send + 'static, C: Codec<D>> Builder<D, C> {
    /// Makes the consumer, which begins to look for producers. In a network that was shut down it is closed from
    /// the start.
    pub fn build(self) -> Consumer<D, C> {
        self.streams.subscribe::<D, C>(self.settings)
    }
}

impl<D, C> fmt::Debug for Builder<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("stream_id", &self.settings.stream_id).finish_non_exhaustive()
    }
}
