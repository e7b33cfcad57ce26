//! Configuring a consumer.

use core::fmt;
use core::marker::PhantomData;
use core::ops::RangeInclusive;
use std::sync::Arc;

use corewire_engine::subscription::{WINDOW_BYTES_DEFAULT, WINDOW_DATUMS_DEFAULT};

use super::{Consumer, Preference};
use crate::datum::{Codec, Postcard};
use crate::discovery::PeerEntry;
use crate::id::StreamId;
use crate::streams::backoff::ExponentialBackoff;
use crate::streams::conditions::{ChannelConditions, ConditionSpec, Predicate};
use crate::streams::criteria::Criteria;
use crate::streams::{Reliability, Streams};
use crate::tickets::{SharedValidator, TicketValidator};

/// From one datum of the least cost to the most that an inbox of the engine's default limit (256 MiB) has
/// room for beside the longest datum, which takes its room twice (128 MiB), and a header of each datum.
const WINDOW_BYTES: RangeInclusive<usize> = 16..=96 << 20;
const WINDOW_DATUMS: RangeInclusive<usize> = 1..=1 << 20;

/// Configures a consumer; made by [`Streams::consumer`].
///
/// A value outside its documented range counts as the nearest one inside.
///
/// ```
/// use corewire::streams::ExponentialBackoffBuilder;
/// use corewire::{Network, NetworkId, Plain, Reliability};
/// use std::time::Duration;
///
/// let network = Network::builder(NetworkId::random()).with_tags("eu-west").build_blocking()?;
/// let known = [*network.local().id()];
/// let mut consumer = network
///     .streams()
///     .consumer::<u64>()
///     .with_stream_id("prices")
///     .codec(Plain)
///     .require(move |peer| known.contains(peer.id()))
///     .online_when(|producers| producers.minimum_of(1).with_tags("eu-west"))
///     .reliability(Reliability::FireAndForget)
///     .with_window_bytes(1 << 20)
///     .with_window_datums(4096)
///     .with_backoff(ExponentialBackoffBuilder::new().with_max_interval(Duration::from_secs(5)).build())
///     .build();
///
/// let producer = network.streams().producer::<u64>().with_stream_id("prices").codec(Plain).build()?;
/// producer.send_blocking(7)?;
/// assert_eq!(consumer.recv_blocking(), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<D, C = Postcard> {
    streams: Streams,
    settings: ConsumerSettings,
    types: PhantomData<fn(D, C)>,
}

/// What a consumer is configured with.
pub(crate) struct ConsumerSettings {
    pub(crate) stream_id: StreamId,
    pub(crate) window_bytes: usize,
    pub(crate) window_datums: usize,
    pub(crate) backoff: ExponentialBackoff,
    pub(crate) online: ConditionSpec,
    pub(crate) require: Vec<Predicate>,
    pub(crate) tickets: Vec<SharedValidator>,
    pub(crate) reliability: Reliability,
    pub(crate) criteria: Option<Criteria>,
    pub(crate) prefer: Option<Preference>,
}

impl<D: Send + 'static> Builder<D> {
    pub(crate) fn new(streams: Streams) -> Self {
        let settings = ConsumerSettings {
            stream_id: crate::datum::derived_stream_id::<D>(),
            window_bytes: WINDOW_BYTES_DEFAULT as usize,
            window_datums: WINDOW_DATUMS_DEFAULT as usize,
            backoff: streams.config().backoff().clone(),
            online: ConditionSpec::subscribed(),
            require: Vec::new(),
            tickets: Vec::new(),
            reliability: Reliability::default(),
            criteria: None,
            prefer: None,
        };
        Self { streams, settings, types: PhantomData }
    }
}

impl<D: Send + 'static, C> Builder<D, C> {
    #[cfg(test)]
    pub(crate) fn settings(&self) -> &ConsumerSettings {
        &self.settings
    }

    /// Names the stream. Default: the name is derived from the type; see
    /// [`Datum::derived_stream_id`](crate::Datum::derived_stream_id).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, StreamId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consumer::<u64>().with_stream_id("prices").build();
    /// assert_eq!(*consumer.stream_id(), StreamId::from("prices"));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_stream_id(mut self, id: impl Into<StreamId>) -> Self {
        self.settings.stream_id = id.into();
        self
    }

    /// Which datums it wants. Default: all. Another call replaces the criteria. The producer has to give its
    /// datums keys ([`with_key`](crate::streams::producer::Builder::with_key)); [`Criteria`] has an example.
    pub fn with_criteria(mut self, criteria: Criteria) -> Self {
        self.settings.criteria = Some(criteria);
        self
    }

    /// The credit of a producer on another engine, in bytes: encoded datums that are sent and not yet taken
    /// by the application, each counting its length rounded up to 16. From 16 bytes to 96 MiB; 0 sets no
    /// limit, neither in bytes nor [in datums](Self::with_window_datums). Default: 1 MiB, as the ring of a
    /// producer has. For a producer on the same engine its own ring is the window.
    ///
    /// Each such producer has an inbox here: room for the window, or for as many of the producer's largest
    /// datums as the window allows if that is less, for one more of them, and 16 bytes for each datum. The
    /// memory is reserved when the channel opens, and used as datums first reach it: an inbox that has passed
    /// on as many bytes as it holds is resident whole.
    ///
    /// Without a limit a slow consumer never stops its producer. Once it has as much to take as the engine
    /// grants an inbox ([`ShardLimits::open_window_bytes`](crate::engine::ShardLimits)), a reliable channel
    /// ends with [`CloseCode::TOO_SLOW`](crate::streams::CloseCode::TOO_SLOW), and a fire-and-forget one
    /// loses datums, which are reported as missing.
    ///
    /// The longest datum is 67,108,846 bytes. It is less if the engine's limit of an inbox
    /// ([`ShardLimits::inbox_bytes`](crate::engine::ShardLimits)) has no room for the window and two such
    /// datums, or if two such datums are more than the session may hold
    /// ([`with_max_held_bytes`](crate::network::SessionSettings::with_max_held_bytes)). A longer datum ends
    /// the channel at both ends, with [`CloseCode::TOO_LARGE`](crate::streams::CloseCode::TOO_LARGE).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consumer::<u64>().with_window_bytes(1 << 20).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_window_bytes(mut self, bytes: usize) -> Self {
        let bounded = bytes.clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end());
        self.settings.window_bytes = if bytes == 0 { 0 } else { bounded };
        self
    }

    /// The credit of a producer on another engine, in datums. From 1 to 1,048,576. Default: 4,096.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consumer::<u64>().with_window_datums(16).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_window_datums(mut self, datums: usize) -> Self {
        self.settings.window_datums = datums.clamp(*WINDOW_DATUMS.start(), *WINDOW_DATUMS.end());
        self
    }

    /// The pauses between attempts to connect. Default: that of the network's
    /// [`Config`](crate::streams::Config).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # use corewire::streams::ExponentialBackoffBuilder;
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let for_ever = ExponentialBackoffBuilder::new().with_max_elapsed_time(None).build();
    /// let consumer = network.streams().consumer::<u64>().with_backoff(for_ever).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_backoff(mut self, backoff: ExponentialBackoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// When the consumer is online. Default: while at least one producer is connected.
    ///
    /// The condition is evaluated on the engine's control thread when channels change; a predicate that
    /// panics counts as not met.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consumer::<u64>().online_when(|c| c.minimum_of(0)).build();
    /// assert!(consumer.is_online());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn online_when(mut self, condition: impl FnOnce(ChannelConditions) -> ChannelConditions) -> Self {
        self.settings.online = ConditionSpec::refined_by(condition);
        self
    }

    /// Adds a requirement for producers: all have to hold. Default: every producer of the stream.
    ///
    /// Evaluated on the engine's control thread before subscribing, and again when the producer's entry
    /// changes; a channel whose producer no longer meets it is closed. A predicate that panics denies.
    ///
    /// A peer chooses its own tags. What is proven is its id, which is the digest of its key, and what a
    /// [ticket](Self::require_ticket) says. Admit known peers by their id, and use tags to choose among peers
    /// that may be in the network anyway.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, PeerId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let exchange = PeerId::random();
    /// let known = [exchange];
    /// let consumer =
    ///     network.streams().consumer::<u64>().require(move |peer| known.contains(peer.id())).build();
    /// let nearby = network.streams().consumer::<u64>().require(|peer| peer.has_tag("eu-west")).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn require(mut self, predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        self.settings.require.push(Arc::new(predicate));
        self
    }

    /// Adds a requirement for producers: a ticket that `validator` accepts. Every validator has to accept
    /// one. Default: no ticket is needed.
    ///
    /// Evaluated when [`require`](Self::require) is, and when the ticket expires: unless the producer shows a
    /// valid one by then, the channel is closed with
    /// [`CloseCode::NOT_ALLOWED`](crate::streams::CloseCode::NOT_ALLOWED). For an example see
    /// [`tickets`](crate::tickets).
    pub fn require_ticket(mut self, validator: impl TicketValidator) -> Self {
        self.settings.tickets.push(Arc::new(validator));
        self
    }

    /// Takes the stream from one producer at a time, the preferred one of those that are accepted. Default:
    /// from all.
    ///
    /// The first producer that is connected is taken at once. With the others there are sessions, which
    /// measure the paths, and no channels. When another one has been
    /// [better for a while](Preference::with_hold), or the present one is gone, the consumer connects to it,
    /// and then the channel of the one before ends with `NotPreferred` (10420). What has arrived of that one
    /// is delivered first, then the datums of the next one, from its latest on; no datum comes twice. Each
    /// producer has its own sequence: what one sent while the consumer took from another is told when the
    /// consumer returns to it, as [`Delivery::skipped_before`](super::Delivery::skipped_before) of the first
    /// datum, and counted in [`Stats::skipped`](crate::streams::Stats::skipped). A producer of the same
    /// engine loses its consumer at once: what was not read of its ring is skipped and counted likewise.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::streams::consumer::Preference;
    ///
    /// let prices = network.streams().consumer::<f64>().prefer(Preference::latency()).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn prefer(mut self, preference: Preference) -> Self {
        self.settings.prefer = Some(preference);
        self
    }

    /// Whether lost datums are sent again. A channel is only as reliable as both ends ask for. Default:
    /// [`Reliability::Reliable`], which leaves it to the producer.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, Reliability};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consumer::<u64>().reliability(Reliability::FireAndForget).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn reliability(mut self, reliability: Reliability) -> Self {
        self.settings.reliability = reliability;
        self
    }

    /// How bytes become datums: [`Postcard`], the default, [`Plain`](crate::Plain) or a codec of your own.
    ///
    /// Producer and consumers have to agree on the codec and the type: a producer of another one refuses the
    /// consumer with [`CloseCode::TYPE_MISMATCH`](crate::streams::CloseCode::TYPE_MISMATCH), and
    /// [`Consumer::events`] names both.
    ///
    /// ```
    /// # use corewire::{Consumer, Network, NetworkId, Plain};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer: Consumer<[f64; 4], Plain> = network.streams().consumer().codec(Plain).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn codec<K: Codec<D>>(self, _codec: K) -> Builder<D, K> {
        Builder { streams: self.streams, settings: self.settings, types: PhantomData }
    }
}

impl<D: Send + 'static, C: Codec<D>> Builder<D, C> {
    /// Makes the consumer, which starts to look for producers. In a network that was shut down it is closed
    /// from the start.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let streams = network.streams().clone();
    /// network.shutdown_blocking(std::time::Duration::from_secs(5))?;
    /// assert!(streams.consumer::<u64>().build().is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the node has as many consumers as its engine's limit
    /// ([`Limits::subscriptions`](crate::engine::Limits), 4,096 unless configured), which
    /// [`try_build`](Self::try_build) returns instead.
    #[track_caller]
    pub fn build(self) -> Consumer<D, C> {
        self.try_build().unwrap_or_else(|error| panic!("no consumer: {error}"))
    }

    /// As [`build`](Self::build), for programs that may reach the limit of consumers.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consumer::<u64>().try_build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TooManyConsumers`].
    pub fn try_build(self) -> Result<Consumer<D, C>, TooManyConsumers> {
        self.streams.subscribe::<D, C>(self.settings).map_err(|limit| TooManyConsumers { limit })
    }
}

impl<D, C> fmt::Debug for Builder<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("stream_id", &self.settings.stream_id).finish_non_exhaustive()
    }
}

/// The node has as many consumers as its engine's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node has {limit} consumers already: drop one, or raise the limit in the engine's configuration"
)]
pub struct TooManyConsumers {
    /// The limit.
    pub limit: usize,
}
