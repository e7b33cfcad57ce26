//! Configuring a producer.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::sync::Arc;

use super::{AnyDegrader, Producer};
use crate::datum::{Codec, Postcard};
use crate::discovery::{NamedPeer, PeerEntry};
use crate::id::StreamId;
use crate::streams::conditions::{ChannelConditions, Predicate, Spec};
use crate::streams::policy::{BackpressurePolicy, Reliability};
use crate::streams::{Streams, conditions};

/// Datums that a ring holds unless told otherwise.
pub(crate) const DEFAULT_BUFFER_DATUMS: usize = 1024;

/// Bytes of room for each datum of the ring's size, unless the bytes are given.
const DEFAULT_BYTES_PER_DATUM: usize = 1024;

/// What the rule above may give, at least and at most, in bytes.
const DEFAULT_BUFFER_BYTES: core::ops::RangeInclusive<usize> = 1 << 20..=64 << 20;

/// The longest datum unless told otherwise, in encoded bytes. Each consumer on another host makes room for one such
/// datum besides its window.
const DEFAULT_MAX_DATUM_BYTES: usize = 256 << 10;

/// How long a consumer may keep the ring full before it is disconnected. Long against any pause of a healthy program
/// (collection of garbage elsewhere, a page fault storm, a debugger's short stop), short against the patience of an
/// operator whose producers wait.
const DEFAULT_LAGGING_GRACE: Duration = Duration::from_secs(10);

const _: () =
    assert!(DEFAULT_MAX_DATUM_BYTES <= *DEFAULT_BUFFER_BYTES.start(), "one datum must fit any ring");

/// Configures a producer; made by [`Streams::producer`].
///
/// ```
/// # use corewire::{Network, Datum};
/// # use corewire::streams::producer::BuilderError;
/// # fn example<MyDatum: Datum>(network: &Network) -> Result<(), Box<dyn std::error::Error>> {
/// let producer = network.streams()
///     .producer::<MyDatum>()
///     .require(|peer| peer.tags().contains(&"trusted".into()))
///     .online_when(|c| c.minimum_of(2).with_tags("validator"))
///     .with_buffer_size(2048)
///     .with_max_consumers(10)
///     .with_stream_id("custom-id")
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<D, C = Postcard> {
    streams: Streams,
    pub(crate) settings: Settings,
    types: PhantomData<fn(D, C)>,
}

/// What a producer is configured with.
pub(crate) struct Settings {
    pub(crate) stream_id: StreamId,
    pub(crate) buffer_datums: usize,
    buffer_bytes: Option<usize>,
    max_datum_bytes: Option<usize>,
    pub(crate) max_consumers: usize,
    pub(crate) online: Spec,
    pub(crate) require: Vec<Predicate>,
    pub(crate) policy: BackpressurePolicy,
    pub(crate) degrader: Option<AnyDegrader>,
    pub(crate) reliability: Reliability,
    pub(crate) weight: u8,
    pub(crate) lagging_grace: Option<Duration>,
}

/// What [`Builder::disconnect_lagging`] takes: yes with the default grace, no, or yes with this grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagging(Option<Duration>);

impl From<bool> for Lagging {
    fn from(disconnect: bool) -> Self {
        Self(disconnect.then_some(DEFAULT_LAGGING_GRACE))
    }
}

impl From<Duration> for Lagging {
    fn from(grace: Duration) -> Self {
        Self(Some(grace))
    }
}

impl Settings {
    fn new(stream_id: StreamId) -> Self {
        Self {
            stream_id,
            buffer_datums: DEFAULT_BUFFER_DATUMS,
            buffer_bytes: None,
            max_datum_bytes: None,
            max_consumers: usize::MAX,
            online: Spec::subscribed(),
            require: Vec::new(),
            policy: BackpressurePolicy::default(),
            degrader: None,
            reliability: Reliability::default(),
            weight: 1,
            lagging_grace: Some(DEFAULT_LAGGING_GRACE),
        }
    }

    /// The bytes that the ring holds: what was asked for, or what the number of datums suggests.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes.unwrap_or_else(|| {
            let suggested = self.buffer_datums.saturating_mul(DEFAULT_BYTES_PER_DATUM);
            let floor =
                (*DEFAULT_BUFFER_BYTES.start()).max(self.max_datum_bytes.unwrap_or(0).saturating_mul(2));
            suggested.clamp(floor, floor.max(*DEFAULT_BUFFER_BYTES.end()))
        })
    }

    /// The longest datum: what was asked for, or what fits.
    pub(crate) fn max_datum_bytes(&self) -> usize {
        self.max_datum_bytes.unwrap_or_else(|| DEFAULT_MAX_DATUM_BYTES.min(self.buffer_bytes()))
    }
}

impl<D: Send + 'static> Builder<D> {
    pub(crate) fn new(streams: Streams) -> Self {
        let settings = Settings::new(crate::datum::derived_stream_id::<D>());
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

    /// How many datums the ring holds, exactly; from 1 to 8,388,608. Default: 1024.
    pub fn with_buffer_size(mut self, datums: usize) -> Self {
        self.settings.buffer_datums = datums;
        self
    }

    /// How many bytes the ring holds; each datum takes its encoded length rounded up to 16. Default: 1 KiB for each
    /// datum of the buffer size, from 1 MiB to 64 MiB. The ring is full when either limit is reached.
    ///
    /// All memory is taken when the stream is made, so that no datum waits for a page of it. If there are at least 128 bytes
    /// for each datum of the buffer size (rounded up to a power of two), as by default up to 524,288 datums, so much is
    /// taken besides: datums of up to 128 bytes lie there, each apart from the others, and reach another processor sooner.
    pub fn with_buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = Some(bytes);
        self
    }

    /// The longest datum, in encoded bytes; not above the bytes of the ring. Default: 256 KiB, or what fits. Longer
    /// ones are refused with [`Error::TooLarge`](super::Error::TooLarge).
    pub fn with_max_datum_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_datum_bytes = Some(bytes);
        self
    }

    /// How many consumers may be subscribed at a time; the next one is told `NoCapacity`. Default: no limit but
    /// that of the ring, which has 64 places for consumers on the same engine.
    pub fn with_max_consumers(mut self, consumers: usize) -> Self {
        self.settings.max_consumers = consumers;
        self
    }

    /// When the producer is online, which is what `send` waits for and `try_send` asks. Default: one consumer is
    /// connected.
    ///
    /// The condition is evaluated when channels change, on the engine's control thread; a predicate that panics
    /// counts as not met.
    pub fn online_when(mut self, condition: impl FnOnce(ChannelConditions) -> ChannelConditions) -> Self {
        self.settings.online = conditions::spec_of(condition);
        self
    }

    /// Adds a requirement for consumers: all have to hold. Default: everybody is accepted.
    ///
    /// Evaluated when a consumer subscribes, and again when its entry changes: once it does not hold any more, the
    /// channel is closed with `NotAllowed`. A predicate that panics denies.
    pub fn require(mut self, predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        self.settings.require.push(Arc::new(predicate));
        self
    }

    /// [`require`](Self::require) for predicates that write tags as text:
    /// `.accept_if(|peer| peer.tags().contains("tag1"))`.
    pub fn accept_if(self, predicate: impl Fn(&NamedPeer<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.require(move |peer| predicate(&NamedPeer::new(peer)))
    }

    /// Whether a consumer that keeps the ring full is disconnected with `TooSlow` (10413), and after how long: `true`,
    /// `false` or a `Duration`. Default: `true`, which grants 10 seconds.
    ///
    /// A consumer keeps the ring full while nobody is further behind and the ring has no room. Its grace begins then,
    /// whoever kept the ring full before, and begins anew whenever the consumer takes a datum: one that stands still is
    /// disconnected, one that is slow is not. So a consumer that stalls delays the others by its grace at most;
    /// several that stalled at different places are disconnected one after the other. The time is met to about a
    /// thirtieth.
    ///
    /// What that means depends on the policy:
    ///
    /// | policy | a consumer that takes nothing for the grace | with `false` |
    /// |---|---|---|
    /// | `PauseUpstream` | is disconnected, and those who wait for room go on | can stop the stream for ever |
    /// | `Fail` | is disconnected, and sends succeed again | can have every send refused for ever |
    /// | `DropOldest`, `DegradeQuality` | is disconnected, if it was losing datums all that time | loses datums for ever |
    ///
    /// Under the policies that drop, what is evicted is not taken: a consumer that takes now and then stays, and sees
    /// what it lost; one that keeps up never lags.
    ///
    /// The consumer is told why ([`ChannelInfo::close_code`](crate::streams::ChannelInfo::close_code)), tries again
    /// after its backoff, and begins with the latest datum. What it had in its own inbox can still be taken; a
    /// consumer of the same engine, which reads the ring itself, loses its place there, but never while it reads a
    /// datum in place.
    pub fn disconnect_lagging(mut self, lagging: impl Into<Lagging>) -> Self {
        self.settings.lagging_grace = lagging.into().0;
        self
    }

    /// What happens to a datum when the ring is full. Default: [`BackpressurePolicy::PauseUpstream`].
    pub fn on_full(mut self, policy: BackpressurePolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Makes a datum cheaper for which there is no room, under [`BackpressurePolicy::DegradeQuality`], which needs it;
    /// the other policies never call it.
    ///
    /// It runs once for such a datum, on the thread that sends it, before any room is taken. If it panics the datum is
    /// sent as it is: consumers have to take datums of full quality in any case, and none is lost. The panic is
    /// counted in [`Stats::degrader_panics`](super::Stats::degrader_panics). If what it makes cannot be sent, the send
    /// fails for that reason and gives the original back.
    ///
    /// ```
    /// # use corewire::{BackpressurePolicy, Network};
    /// # fn example(network: &Network) -> Result<(), Box<dyn std::error::Error>> {
    /// let frames = network.streams()
    ///     .producer::<Vec<u8>>()
    ///     .on_full(BackpressurePolicy::DegradeQuality)
    ///     .degrader(|frame| frame.iter().copied().step_by(2).collect())
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn degrader(mut self, degrader: impl Fn(&D) -> D + Send + Sync + 'static) -> Self {
        self.settings.degrader = Some(AnyDegrader::new(degrader));
        self
    }

    /// Whether what the network loses is sent again. Default: [`Reliability::Reliable`].
    pub fn reliability(mut self, reliability: Reliability) -> Self {
        self.settings.reliability = reliability;
        self
    }

    /// The share of this stream's channels where they compete with others for the wire: 2 gets twice of what 1
    /// gets. 0 counts as 1. Default: 1.
    pub fn fairness_weight(mut self, weight: u8) -> Self {
        self.settings.weight = weight.max(1);
        self
    }

    /// How datums become bytes: [`Postcard`], the default, or [`Plain`](crate::Plain). Producer and consumers have
    /// to agree.
    pub fn codec<K: Codec<D>>(self, _codec: K) -> Builder<D, K> {
        Builder { streams: self.streams, settings: self.settings, types: PhantomData }
    }
}

impl<D: Send + 'static, C: Codec<D>> Builder<D, C> {
    /// Makes the producer and announces its stream.
    ///
    /// # Errors
    ///
    /// [`BuilderError`].
    pub fn build(self) -> Result<Producer<D, C>, BuilderError<Producer<D, C>>> {
        if self.settings.policy == BackpressurePolicy::DegradeQuality && self.settings.degrader.is_none() {
            return Err(BuilderError::MissingDegrader);
        }
        self.streams.publish::<D, C>(self.settings)
    }
}

impl<D, C> fmt::Debug for Builder<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("stream_id", &self.settings.stream_id).finish_non_exhaustive()
    }
}

/// Why a producer was not made.
#[derive(thiserror::Error)]
pub enum BuilderError<P> {
    /// This network has a producer for the stream already. Here it is, with the configuration that it was made with.
    #[error("this network has a producer for the stream already: use the one inside this error")]
    AlreadyExists(P),
    /// This network has a producer for the stream already, of another type or codec.
    #[error(
        "this network has a producer for stream {stream_id} already, and it sends {existing}, not {requested}: \
         name one of the two with `with_stream_id`"
    )]
    TypeConflict {
        /// The stream.
        stream_id: StreamId,
        /// Type and codec of the producer that exists.
        existing: &'static str,
        /// Type and codec that were asked for.
        requested: &'static str,
    },
    /// The ring that was asked for cannot be.
    #[error("no ring can be built like this: {0}")]
    Ring(#[from] corewire_engine::rings::RingConfigError),
    /// The node has as many streams as its engine's limit.
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
    /// The network was shut down.
    #[error("the network was shut down: join it again with `Network::new`")]
    Closed,
}

/// Without the handle inside, so that the error of any producer can be printed and unwrapped.
impl<P> fmt::Debug for BuilderError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists(_) => f.write_str("AlreadyExists(..)"),
            other => write!(f, "{other}"),
        }
    }
}
