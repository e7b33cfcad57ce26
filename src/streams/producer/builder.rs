//! Configuring a producer.

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;
use core::time::Duration;
use std::sync::Arc;

use corewire_engine::criteria::KEY_ROOM;
use corewire_engine::publication::RESUME_FOR_DEFAULT;
use corewire_engine::subscription::WINDOW_DATUMS_DEFAULT;

use super::lagging::Lagging;
use super::select::{AnyKey, AnySink, Selecting};
use super::{AnyDegrader, BuilderError, Producer, TryBuildError, UndeliveredSink};
use crate::datum::{Codec, Postcard};
use crate::discovery::PeerEntry;
use crate::id::StreamId;
use crate::policy::BackpressurePolicy;
use crate::streams::conditions::{ChannelConditions, ConditionSpec, Predicate};
use crate::streams::{Reliability, StreamKey, Streams};
use crate::tickets::{SharedValidator, TicketValidator};

/// Datums that a ring holds: as many as keep two processors at work at full speed.
const DEFAULT_BUFFER_DATUMS: usize = WINDOW_DATUMS_DEFAULT as usize;

/// Bytes of room per datum of a size that was asked for, unless the bytes are given: a round size above most
/// datums.
const BYTES_PER_DATUM: usize = 1024;

/// The range of the rule above, in bytes: from a few datums of the default limit, which is also the default,
/// to what one stream may cost unasked.
const DEFAULT_BUFFER_BYTES: core::ops::RangeInclusive<usize> = 1 << 20..=64 << 20;

/// The longest datum, in encoded bytes. Each consumer on another host reserves room for one such datum
/// besides its window.
const DEFAULT_MAX_DATUM_BYTES: usize = 256 << 10;

const _: () =
    assert!(DEFAULT_MAX_DATUM_BYTES <= *DEFAULT_BUFFER_BYTES.start(), "one datum must fit any ring");

/// Configures a producer; made by [`Streams::producer`].
///
/// ```
/// # use corewire::{Network, NetworkId};
/// # let network = Network::new_blocking(NetworkId::random())?;
/// # let trader = corewire::PeerId::random();
/// let known = [trader];
/// let producer = network.streams()
///     .producer::<u64>()
///     .require(move |peer| known.contains(peer.id()))
///     .online_when(|c| c.minimum_of(2).with_tags("validator"))
///     .with_buffer_size(2048)
///     .with_max_consumers(10)
///     .with_stream_id("custom-id")
///     .build()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<D, C = Postcard> {
    streams: Streams,
    pub(crate) settings: ProducerSettings,
    types: PhantomData<fn(D, C)>,
}

/// What a producer is configured with. `None` in an `Option` of bytes: derived from the other settings.
pub(crate) struct ProducerSettings {
    pub(crate) stream_id: StreamId,
    buffer_datums: Option<usize>,
    buffer_bytes: Option<usize>,
    max_datum_bytes: Option<usize>,
    pub(crate) max_consumers: usize,
    pub(crate) online: ConditionSpec,
    pub(crate) require: Vec<Predicate>,
    pub(crate) tickets: Vec<SharedValidator>,
    pub(crate) policy: BackpressurePolicy,
    pub(crate) degrader: Option<AnyDegrader>,
    pub(crate) reliability: Reliability,
    pub(crate) weight: u8,
    /// Bytes per second.
    max_bandwidth: Option<u64>,
    pub(crate) lagging: Lagging,
    pub(crate) resume_for: Duration,
    pub(crate) selecting: Selecting,
}

impl ProducerSettings {
    fn new(stream_id: StreamId) -> Self {
        Self {
            stream_id,
            buffer_datums: None,
            buffer_bytes: None,
            max_datum_bytes: None,
            max_consumers: usize::MAX,
            online: ConditionSpec::subscribed(),
            require: Vec::new(),
            tickets: Vec::new(),
            policy: BackpressurePolicy::default(),
            degrader: None,
            reliability: Reliability::default(),
            weight: 1,
            max_bandwidth: None,
            lagging: true.into(),
            resume_for: RESUME_FOR_DEFAULT,
            selecting: Selecting::default(),
        }
    }

    /// The datums that the ring holds.
    pub(crate) fn buffer_datums(&self) -> usize {
        self.buffer_datums.unwrap_or(DEFAULT_BUFFER_DATUMS)
    }

    /// The bytes that the ring holds: what was asked for, or what a number of datums that was asked for
    /// suggests.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes.unwrap_or_else(|| {
            let suggested = self.buffer_datums.unwrap_or(0).saturating_mul(BYTES_PER_DATUM);
            let floor =
                (*DEFAULT_BUFFER_BYTES.start()).max(self.max_datum_bytes.unwrap_or(0).saturating_mul(2));
            suggested.clamp(floor, floor.max(*DEFAULT_BUFFER_BYTES.end()))
        })
    }

    /// The limit of the bandwidth. `Err`: it lets nothing leave.
    pub(crate) fn max_bandwidth(&self) -> Result<Option<NonZeroU64>, ()> {
        self.max_bandwidth.map(|rate| NonZeroU64::new(rate).ok_or(())).transpose()
    }

    /// The longest datum: what was asked for, or what fits.
    pub(crate) fn max_datum_bytes(&self) -> usize {
        let key_room = if self.selecting.key.is_some() { KEY_ROOM } else { 0 };
        let fits = self.buffer_bytes().saturating_sub(key_room);
        self.max_datum_bytes.unwrap_or_else(|| DEFAULT_MAX_DATUM_BYTES.min(fits))
    }
}

impl<D: Send + 'static> Builder<D> {
    pub(crate) fn new(streams: Streams) -> Self {
        let settings = ProducerSettings::new(crate::datum::derived_stream_id::<D>());
        Self { streams, settings, types: PhantomData }
    }
}

impl<D: Send + 'static, C> Builder<D, C> {
    /// Names the stream. Default: the name is derived from the type; see
    /// [`Datum::derived_stream_id`](crate::Datum::derived_stream_id).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<f64>().with_stream_id("temperature").build()?;
    /// assert_eq!(*producer.stream_id(), "temperature".into());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_stream_id(mut self, id: impl Into<StreamId>) -> Self {
        self.settings.stream_id = id.into();
        self
    }

    /// How many datums the ring holds, exactly; from 1 to 8,388,608. Default: 4,096.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<u64>().with_buffer_size(100).build()?;
    /// assert_eq!(producer.stats().capacity, 100);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_buffer_size(mut self, datums: usize) -> Self {
        self.settings.buffer_datums = Some(datums);
        self
    }

    /// How many bytes the ring holds; each datum takes its encoded length rounded up to 16. From 16 bytes to
    /// 1 TiB, and at least the [longest datum](Self::with_max_datum_bytes). Default: 1 MiB, or 1 KiB for each
    /// datum of a [buffer size](Self::with_buffer_size) that was given, from 1 MiB to 64 MiB; always at least
    /// twice the longest datum, if that was given. The ring is full when either limit is reached.
    ///
    /// The memory of the datums is taken when the stream is made, so that no datum waits for a page of it;
    /// that of their index, 16 bytes a datum, in the first pass through the ring. Small datums (up
    /// to 128 bytes) get lines of their own, which pass faster between processors, if the ring has 128 bytes
    /// for each datum, as it has by default up to 524,288 datums. That takes 128 bytes more for each datum of
    /// the buffer size (rounded up to a power of two): by default 512 KiB beside 1 MiB.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<Vec<u8>>().with_buffer_bytes(8 << 20).build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = Some(bytes);
        self
    }

    /// The longest datum, in encoded bytes. From 1 to the bytes of the ring; consumers on other engines take
    /// at most 67,108,846. Default: 256 KiB, or the bytes of a smaller ring. Longer datums are refused with
    /// [`UnsendableCause::TooLarge`](super::UnsendableCause::TooLarge).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// use corewire::streams::producer::Error;
    ///
    /// let producer = network.streams().producer::<String>().with_max_datum_bytes(16).build()?;
    /// let consumer = network.streams().consume::<String>();
    /// producer.when().online().await;
    /// assert_eq!(producer.try_send("x".repeat(100)), Err(Error::too_large("x".repeat(100), 16)));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn with_max_datum_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_datum_bytes = Some(bytes);
        self
    }

    /// How many consumers may be subscribed at a time; the next one is refused with
    /// [`CloseCode::NO_CAPACITY`](crate::streams::CloseCode::NO_CAPACITY). Default: no
    /// limit but that of the ring: it has 1,024 places, one for each consumer on the same engine and one for
    /// each shard that sends to others. The next one is refused likewise, and tries again.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<u64>().with_max_consumers(1).build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_max_consumers(mut self, consumers: usize) -> Self {
        self.settings.max_consumers = consumers;
        self
    }

    /// How many bytes per second are sent to consumers on other engines, all together. Default: no limit.
    ///
    /// Counted are datums with the headers of their frames, also those that are sent again, and header and
    /// tag of the packets with them; not acknowledgements, nor the headers of UDP and IP (28 bytes per packet
    /// in IPv4). Consumers of the same engine read the ring itself and take no bandwidth.
    ///
    /// What exceeds the rate waits in the ring, in the order in which channels ask, and when the ring is full
    /// the [policy](Self::on_full) decides. At any time at most this rate has left, 10 milliseconds of it as
    /// a burst, and one turn of each channel, which is 4 KiB times its [weight](Self::fairness_weight), or a
    /// packet if that is longer, and 64 KiB at most. A consumer is not called lagging while the limit holds
    /// its channel back. [`Stats::paced`](crate::streams::Stats::paced) tells how often that was, and
    /// `paced_for` for how long. The limit is exact over all shards of the engine.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let backup = network.streams().producer::<Vec<u8>>().with_max_bandwidth(1_000_000).build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// With 0, [`try_build`](Self::try_build) returns [`TryBuildError::NoBandwidth`].
    pub fn with_max_bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.settings.max_bandwidth = Some(bytes_per_second);
        self
    }

    /// When the producer is online, which `send` waits for and `try_send` requires. Default: one consumer is
    /// connected.
    ///
    /// The condition is evaluated when channels change, on the engine's control thread; a predicate that
    /// panics counts as not met.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<u64>().online_when(|c| c.minimum_of(0)).build()?;
    /// assert!(producer.is_online(), "online without consumers");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn online_when(mut self, condition: impl FnOnce(ChannelConditions) -> ChannelConditions) -> Self {
        self.settings.online = ConditionSpec::refined_by(condition);
        self
    }

    /// Adds a requirement for consumers; all requirements have to hold. Default: every consumer is accepted.
    ///
    /// Evaluated when a consumer subscribes, and again when its entry changes: once it no longer holds, the
    /// channel is closed with [`CloseCode::NOT_ALLOWED`](crate::streams::CloseCode::NOT_ALLOWED). A predicate
    /// that panics denies.
    ///
    /// A peer chooses its own tags. What is proven is its id, which is the digest of its key, and what a
    /// [ticket](Self::require_ticket) says. Admit known peers by their id, and use tags to choose among peers
    /// that may be in the network anyway.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, PeerId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let trader = PeerId::random();
    /// let known = [trader];
    /// let producer = network.streams()
    ///     .producer::<u64>()
    ///     .require(move |peer| known.contains(peer.id()))
    ///     .require(|peer| peer.has_tag("eu-west"))
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn require(mut self, predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        self.settings.require.push(Arc::new(predicate));
        self
    }

    /// Adds a requirement for consumers: a ticket that `validator` accepts. Every validator has to accept
    /// one. Default: no ticket is needed.
    ///
    /// Evaluated when [`require`](Self::require) is, and when the ticket expires: unless the consumer shows a
    /// valid one by then, its channel is closed with
    /// [`CloseCode::NOT_ALLOWED`](crate::streams::CloseCode::NOT_ALLOWED). Of several tickets of a class the
    /// one counts that is valid longest, of several validators the one whose ticket expires first. For an
    /// example see [`tickets`](crate::tickets).
    pub fn require_ticket(mut self, validator: impl TicketValidator) -> Self {
        self.settings.tickets.push(Arc::new(validator));
        self
    }

    /// Whether a consumer that keeps the ring full is disconnected with
    /// [`CloseCode::TOO_SLOW`](crate::streams::CloseCode::TOO_SLOW): `true`, `false` (never), a `Duration`
    /// (the grace), or a [`Lagging`] with both times. Default: `true`, which is a grace of 1 second and a
    /// standstill time of 10 seconds; a longer grace given as a `Duration` is also the standstill time.
    ///
    /// A consumer keeps the ring full while the ring has no room (or is given room by evicting) and no other
    /// consumer is further behind. It is disconnected when it has done so for the grace in total while
    /// another consumer had taken everything, and in any case when it has done so for the standstill time
    /// without taking a datum. A datum taken now and then does not reset the total; it is reset when the
    /// consumer has nothing left to take, and after 10 seconds in which it did not keep the ring full. So a
    /// fast consumer waits for a slow one for the grace at most, while a consumer that is alone, or as slow
    /// as all others, is never disconnected for being slower than the producer, only for standing still. The
    /// times are exact to about 1/30 of the grace. A thread that is a stream's producer and its only consumer
    /// waits in `send_blocking` for the standstill time once the ring is full, and with `false` for ever.
    ///
    /// | policy | a consumer that holds others up, or stands still | with `false` |
    /// |---|---|---|
    /// | `PauseUpstream` | is disconnected, and waiting sends go on | can stop the stream for ever |
    /// | `Fail` | is disconnected, and sends succeed again | can have every send refused for ever |
    /// | `DropOldest`, `DegradeQuality` | is disconnected if it lost datums | loses datums for ever |
    ///
    /// Under the policies that drop, an evicted datum is not a taken one; a consumer that keeps up never
    /// lags.
    ///
    /// The consumer learns the reason ([`ChannelInfo::close_code`](crate::streams::ChannelInfo::close_code)),
    /// tries again after its backoff, with a longer pause each time, and begins with the first datum that is
    /// accepted after it is connected; it is told how many it missed. Datums in its own inbox can still be
    /// taken. A consumer of the same engine reads the ring itself and loses its place there, but never while
    /// it reads a datum in place.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use std::time::Duration;
    ///
    /// let producer = network.streams()
    ///     .producer::<u64>()
    ///     .disconnect_lagging(Duration::from_secs(2))
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn disconnect_lagging(mut self, lagging: impl Into<Lagging>) -> Self {
        self.settings.lagging = lagging.into();
        self
    }

    /// How long the place of a consumer on another engine is kept after its session broke, counted from when
    /// it must have noticed the break: the
    /// [dead-peer time](crate::network::SessionSettings::with_dead_after) of this node, then this time. If
    /// its host reports that its port is closed, this time alone. Default: 10 s (20 s from the break with the
    /// default dead-peer time); zero: not at all. At most 32 places are kept; a further one replaces the one
    /// that would end first.
    ///
    /// A consumer that is back in this time goes on where it stopped, with nothing lost. One that comes later
    /// is told how many datums are missing, and so is the producer
    /// ([`ProducerEvent::Undelivered`](crate::streams::ProducerEvent::Undelivered)). Meanwhile its place
    /// holds the ring as if the consumer were there and took nothing, and
    /// [`disconnect_lagging`](Self::disconnect_lagging) applies to it. After the last handle of the producer
    /// is gone a consumer may still fetch the rest in this time, or until its network has left.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use std::time::Duration;
    ///
    /// let producer = network.streams().producer::<u64>().resume_for(Duration::from_secs(60)).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume_for(mut self, time: Duration) -> Self {
        self.settings.resume_for = time;
        self
    }

    /// What happens to a datum when the ring is full. Default: [`BackpressurePolicy::PauseUpstream`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::BackpressurePolicy;
    ///
    /// let producer = network.streams()
    ///     .producer::<u64>()
    ///     .on_full(BackpressurePolicy::DropOldest)
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_full(mut self, policy: BackpressurePolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Makes a datum cheaper for which there is no room, under [`BackpressurePolicy::DegradeQuality`], which
    /// requires it; the other policies never call it.
    ///
    /// It runs once for such a datum, on the thread that sends it, before any room is taken. If it panics the
    /// datum is sent as it is, and the panic is counted in
    /// [`Stats::degrader_panics`](super::Stats::degrader_panics). If the cheaper datum cannot be sent, the
    /// send fails for that reason and gives the original back.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::BackpressurePolicy;
    ///
    /// let frames = network.streams()
    ///     .producer::<Vec<u8>>()
    ///     .on_full(BackpressurePolicy::DegradeQuality)
    ///     .degrader(|frame| frame.iter().copied().step_by(2).collect())
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn degrader(mut self, degrader: impl Fn(&D) -> D + Send + Sync + 'static) -> Self {
        self.settings.degrader = Some(AnyDegrader::new(degrader));
        self
    }

    /// Gives each datum a key, by which consumers can choose ([`Criteria`](crate::streams::Criteria)): an
    /// integer of any type but `u128`, or text or bytes of at most 64 bytes. Default: datums have no key, and
    /// consumers that ask for keys are refused.
    ///
    /// The function runs on the thread that sends, once or, where the send has to wait for room, a few times.
    /// If it panics or the key is too long the datum is refused and counted as unencodable. The key takes up
    /// to 65 bytes of the ring per datum and is not sent. Such a stream gives no
    /// [claims](super::Producer::claim).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let trades = network.streams()
    ///     .producer::<(u32, f64)>()
    ///     .with_key(|(instrument, _)| *instrument)
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_key<K: StreamKey>(mut self, key: impl Fn(&D) -> K + Send + Sync + 'static) -> Self {
        self.settings.selecting.key = Some(AnyKey::new(key));
        self
    }

    /// Takes the datums that no consumer wants: those that the criteria of none match that is connected when
    /// they are sent, and those that are sent while none is connected, which
    /// [`online_when`](Self::online_when) has to allow. Default: they go nowhere.
    ///
    /// A consumer that takes every nth datum counts as one that wants all. The datum also enters the ring,
    /// for consumers that are absent and keep their place. Such a stream gives no
    /// [claims](super::Producer::claim). Each send costs a lock more. The sink is dropped once the producer's
    /// last handle is gone and its consumers have taken what it sent.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let (sender, unsent) = std::sync::mpsc::channel();
    /// let producer = network.streams()
    ///     .producer::<u64>()
    ///     .online_when(|c| c.minimum_of(0))
    ///     .with_undelivered_sink(sender)
    ///     .build()?;
    /// producer.try_send(7)?;
    /// assert_eq!(unsent.try_recv(), Ok(7));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_undelivered_sink(mut self, sink: impl UndeliveredSink<D>) -> Self {
        self.settings.selecting.sink = Some(AnySink::new(sink));
        self
    }

    /// Whether datums that the network loses are sent again. Default: [`Reliability::Reliable`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::Reliability;
    ///
    /// let positions = network.streams()
    ///     .producer::<(f32, f32)>()
    ///     .reliability(Reliability::FireAndForget)
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn reliability(mut self, reliability: Reliability) -> Self {
        self.settings.reliability = reliability;
        self
    }

    /// The share of this stream's channels where they compete with others for the wire: 2 gets twice the
    /// bytes of 1. From 1 to 255; 0 counts as 1. Default: 1.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let alarms = network.streams().producer::<String>().fairness_weight(10).build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn fairness_weight(mut self, weight: u8) -> Self {
        self.settings.weight = weight.max(1);
        self
    }

    /// How datums become bytes: [`Postcard`], the default, [`Plain`](crate::Plain), or your own [`Codec`].
    /// Producer and consumers have to agree; a consumer with another codec is refused.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::Plain;
    ///
    /// let ticks = network.streams().producer::<[u64; 4]>().codec(Plain).build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn codec<K: Codec<D>>(self, _codec: K) -> Builder<D, K> {
        Builder { streams: self.streams, settings: self.settings, types: PhantomData }
    }
}

impl<D: Send + 'static, C: Codec<D>> Builder<D, C> {
    /// Makes the producer and announces its stream.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::streams::producer::BuilderError;
    ///
    /// let producer = match network.streams().producer::<u64>().build() {
    ///     Ok(new) => new,
    ///     Err(BuilderError::AlreadyExists(existing)) => existing,
    /// };
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuilderError::AlreadyExists`], with the existing producer.
    ///
    /// # Panics
    ///
    /// If there can be no such producer: in every other case of [`TryBuildError`], which
    /// [`try_build`](Self::try_build) returns instead.
    #[track_caller]
    pub fn build(self) -> Result<Producer<D, C>, BuilderError<D, C>> {
        match self.try_build() {
            Ok(producer) => Ok(producer),
            Err(TryBuildError::AlreadyExists(existing)) => Err(BuilderError::AlreadyExists(existing)),
            Err(error) => panic!("no producer for {}: {error}", core::any::type_name::<D>()),
        }
    }

    /// As [`build`](Self::build), for programs whose settings are not known when they are written, or whose
    /// network may be shut down meanwhile: returns every failure.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::streams::producer::TryBuildError;
    ///
    /// let impossible = network.streams().producer::<u64>().with_buffer_size(0).try_build();
    /// assert!(matches!(impossible, Err(TryBuildError::Ring(_))));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryBuildError`].
    pub fn try_build(self) -> Result<Producer<D, C>, TryBuildError<D, C>> {
        if self.settings.policy == BackpressurePolicy::DegradeQuality && self.settings.degrader.is_none() {
            return Err(TryBuildError::MissingDegrader);
        }
        C::check().map_err(TryBuildError::Unreadable)?;
        self.streams.publish::<D, C>(self.settings)
    }
}

impl<D, C> fmt::Debug for Builder<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("stream_id", &self.settings.stream_id).finish_non_exhaustive()
    }
}
