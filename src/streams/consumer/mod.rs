//! Consumers: handles that take datums out of the rings of a stream's producers.
//!
//! A consumer reads the ring of a producer on the same engine directly, and for any other producer an inbox
//! that a shard fills. The two look the same from here.

mod batch;
mod borrowed;
mod builder;
mod leg;
mod legs;
mod preference;
mod refusal;

use core::fmt;
use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use futures_core::Stream;

pub use self::borrowed::{DatumRef, Ref};
pub(crate) use self::builder::ConsumerSettings;
pub use self::builder::{Builder, TooManyConsumers};
use self::leg::Delivered;
pub(in crate::streams) use self::leg::LegStats;
pub(crate) use self::legs::LegSet;
pub use self::preference::{Preference, ProducerCandidate};
pub use self::refusal::RecvRefusal;
use super::channel::ChannelInfo;
use super::conditions::When;
use super::event::{ConsumerEvent, Events};
use super::stats::Stats;
use super::status::StreamStatus;
use crate::datum::{Codec, Postcard, decode_into};
use crate::id::{PeerId, StreamId};

/// A handle that receives the datums of all eligible producers of one stream.
///
/// Each consumer is a subscription of its own: it sees every datum that a producer accepts from the moment
/// that the two are connected, in the order of that producer's ring. Producers are merged fairly: a busy one
/// delays another by a few datums at most.
///
/// Taking a datum frees its room. Until then a producer with the policy `PauseUpstream` waits when the ring
/// is full. Dropping the consumer ends the subscription and frees everything.
///
/// Each kind of receive has four forms: without waiting, async, blocking, and blocking for a limited time.
///
/// * A datum: [`try_recv`], [`recv`], [`recv_blocking`], [`recv_timeout`]; also a `futures::Stream`, and
///   [`iter`]. [`recv_or_refusal`] does not wait for producers that have refused.
/// * A datum with its place in the stream: [`try_recv_delivery`], [`recv_delivery`],
///   [`recv_delivery_blocking`], [`recv_delivery_timeout`].
/// * Many datums: [`try_recv_many`], [`recv_many`], [`recv_many_blocking`], [`recv_many_timeout`].
/// * A datum in place, for codecs that allow it: [`try_recv_ref`], [`recv_ref`], [`recv_ref_blocking`],
///   [`recv_ref_timeout`]; many without waiting: [`try_recv_refs`].
///
/// Any executor will do for the async forms, and none is needed for the others:
///
/// ```
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let mut consumer = network.streams().consume::<String>();
/// let printer = std::thread::spawn(move || {
///     while let Some(line) = consumer.recv_blocking() {
///         println!("{line}");
///     }
/// });
/// network.streams().produce::<String>().send_blocking("hello".into())?;
/// drop(network); // ends the consumer
/// printer.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A producer of another datum type or codec refuses the consumer: the event
/// [`Refused`](ConsumerEvent::Refused) names both types, and [`When::refused`] waits for it.
///
/// Bytes that do not decode as a `D` (a `Deserialize` that fails or panics) are skipped, counted in
/// [`Stats::undecodable`], and reported as a gap before the next datum.
///
/// [`try_recv`]: Self::try_recv
/// [`recv`]: Self::recv
/// [`recv_blocking`]: Self::recv_blocking
/// [`iter`]: Self::iter
/// [`recv_or_refusal`]: Self::recv_or_refusal
/// [`recv_timeout`]: Self::recv_timeout
/// [`try_recv_delivery`]: Self::try_recv_delivery
/// [`recv_delivery`]: Self::recv_delivery
/// [`recv_delivery_blocking`]: Self::recv_delivery_blocking
/// [`recv_delivery_timeout`]: Self::recv_delivery_timeout
/// [`try_recv_many`]: Self::try_recv_many
/// [`recv_many`]: Self::recv_many
/// [`recv_many_blocking`]: Self::recv_many_blocking
/// [`recv_many_timeout`]: Self::recv_many_timeout
/// [`try_recv_ref`]: Self::try_recv_ref
/// [`recv_ref`]: Self::recv_ref
/// [`recv_ref_blocking`]: Self::recv_ref_blocking
/// [`recv_ref_timeout`]: Self::recv_ref_timeout
/// [`try_recv_refs`]: Self::try_recv_refs
pub struct Consumer<D, C = Postcard> {
    stream_id: StreamId,
    status: Arc<StreamStatus>,
    legs: LegSet,
    types: PhantomData<fn(C) -> D>,
}

/// A datum with its place in the stream of its producer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<D> {
    /// The datum.
    pub datum: D,
    /// Its sequence number in the producer's ring. Sequence numbers grow; one may be absent without a datum
    /// missing, when a producer abandoned a claim.
    pub seq: u64,
    /// How many datums of the same producer are missing just before this one: lost on the way, dropped by
    /// policy, or not decodable; between engines also claims that the producer gave up. After a new
    /// connection to the same producer it includes everything that the producer has accepted since the last
    /// datum of the previous connection, and that will not come.
    pub skipped_before: u64,
    /// An unknown number of datums may be missing just before this one, besides `skipped_before`: the
    /// producer was restarted, or does not know any more where this consumer stopped.
    pub restarted: bool,
    /// The peer that produced it.
    pub producer: PeerId,
}

/// Why a receive that does not wait gave no datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing has arrived.
    #[error("nothing has arrived: try again later, or use `recv`, which waits")]
    Empty,
    /// The consumer is closed and everything was taken.
    #[error("the consumer is closed: its network was shut down or `close` was called; build a new consumer")]
    Closed,
}

/// Why a receive for a limited time gave no datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// Nothing arrived in time.
    #[error("nothing arrived in time")]
    Timeout,
    /// The consumer is closed and everything was taken.
    #[error("the consumer is closed: its network was shut down or `close` was called; build a new consumer")]
    Closed,
}

impl<D, C> Consumer<D, C> {
    /// A consumer over legs that carry `D` in codec `C`.
    pub(crate) fn from_legs(stream_id: StreamId, status: Arc<StreamStatus>, legs: LegSet) -> Self {
        Self { stream_id, status, legs, types: PhantomData }
    }

    /// The stream.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// assert_eq!(consumer.stream_id(), producer.stream_id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream_id(&self) -> &StreamId {
        &self.stream_id
    }

    /// Whether the condition of [`online_when`](Builder::online_when) holds; by default, whether a producer
    /// is connected. Cheap: one atomic read.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// consumer.when().online().wait_blocking();
    /// assert!(consumer.is_online());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_online(&self) -> bool {
        self.status.is_online()
    }

    /// Waits for producers to come and go; see [`When`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// consumer.when().subscribed().minimum_of(1).wait_blocking();
    /// drop(producer);
    /// consumer.when().unsubscribed().wait_blocking();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn when(&self) -> When {
        When::new(&self.status)
    }

    /// The channels to the producers, as they are now.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// consumer.when().online().wait_blocking();
    /// for channel in consumer.producers() {
    ///     println!("from {}: {}", channel.producer_id(), channel.stats());
    /// }
    /// assert_eq!(consumer.producers().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn producers(&self) -> impl ExactSizeIterator<Item = ChannelInfo> + use<D, C> {
        self.status.channels().to_vec().into_iter()
    }

    /// What the application took from all producers together, since the consumer was built.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// consumer.recv_blocking();
    /// let stats = consumer.stats();
    /// assert_eq!((stats.datums(), stats.bytes(), stats.skipped()), (1, 1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let uptime =
            self.producers().filter(ChannelInfo::is_connected).filter_map(|info| info.stats().uptime()).max();
        let panics = self.status.predicate_panics() + self.legs.predicate_panics();
        Stats::of_consumer(&self.legs.stats(), self.legs.lag(), uptime, panics)
    }

    /// What happens to the channels from now on: producers that come, go, refuse or are given up, silent
    /// ones, gaps between two channels of a producer, and records that do not decode. A gap within a channel
    /// is no event: it is told by [`Delivery::skipped_before`] and counted in [`Stats::skipped`]. Each call
    /// makes a queue of its own; see [`Events`], which has an example.
    pub fn events(&self) -> Events<ConsumerEvent> {
        self.legs.events().subscribe()
    }

    /// Ends the subscription at once. Idempotent.
    ///
    /// What has arrived can still be taken; after that every receive answers `None` or `Closed`. Its room
    /// stays occupied until it is taken or the consumer is dropped. On the producer's engine it is lost if it
    /// keeps the ring full for longer than the producer's grace.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// consumer.close();
    /// assert!(consumer.is_closed());
    /// assert_eq!((consumer.recv_blocking(), consumer.recv_blocking()), (Some(7), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&mut self) {
        self.legs.close();
        self.status.close();
    }

    /// Whether the subscription has ended, by [`close`](Self::close) or with its network. There may still be
    /// datums to take. A consumer learns of its network's end with the next receive.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// assert!(!consumer.is_closed());
    /// drop(network);
    /// assert_eq!(consumer.recv_blocking(), None);
    /// assert!(consumer.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.legs.is_closed()
    }
}

impl<D: Send + 'static, C: Codec<D>> Consumer<D, C> {
    /// Waits for the next datum. `None` once the consumer is closed and everything was taken.
    ///
    /// The consumer is closed by [`close`](Self::close) or with its own network. A producer's end does not
    /// close it: it waits for the next producer. The end of a producer is an [event](Self::events)
    /// ([`ConsumerEvent::Closed`] with [`CloseCode::GRACEFUL`](crate::streams::CloseCode::GRACEFUL)), and
    /// [`ChannelInfo::disconnected`] of its channel waits for it.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # corewire::block_on(async {
    /// producer.send(7).await?;
    /// assert_eq!(consumer.recv().await, Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// A datum is taken in the poll that resolves the future; dropping it before loses nothing.
    pub fn recv(&mut self) -> impl Future<Output = Option<D>> + Send + Unpin + use<'_, D, C> {
        poll_fn(|cx| self.poll_take(cx))
    }

    /// The next datum, if one has arrived.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// use corewire::streams::consumer::TryRecvError;
    ///
    /// assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    /// producer.send_blocking(7)?;
    /// assert_eq!(consumer.try_recv(), Ok(7));
    /// consumer.close();
    /// assert_eq!(consumer.try_recv(), Err(TryRecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<D, TryRecvError> {
        Self::take(&mut self.legs, |_| ())
    }

    /// [`recv`](Self::recv) without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// assert_eq!(consumer.recv_blocking(), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_blocking(&mut self) -> Option<D> {
        match self.try_recv() {
            Ok(datum) => Some(datum),
            Err(_) => self.legs.wait(|legs| Self::take(legs, |_| ())),
        }
    }

    /// [`recv_blocking`](Self::recv_blocking) for at most `timeout`.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// use corewire::streams::consumer::RecvTimeoutError;
    /// use std::time::Duration;
    ///
    /// assert_eq!(consumer.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// producer.send_blocking(7)?;
    /// assert_eq!(consumer.recv_timeout(Duration::ZERO), Ok(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] or [`RecvTimeoutError::Closed`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<D, RecvTimeoutError> {
        match self.try_recv() {
            Ok(datum) => Ok(datum),
            Err(_) => self.legs.wait_timeout(timeout, |legs| Self::take(legs, |_| ())),
        }
    }

    /// [`recv`](Self::recv) with the datum's place in the stream of its producer.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # corewire::block_on(async {
    /// producer.send(7).await?;
    /// let delivery = consumer.recv_delivery().await.unwrap();
    /// assert_eq!((delivery.datum, delivery.skipped_before), (7, 0));
    /// assert_eq!(delivery.producer, *network.local().id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_delivery(
        &mut self,
    ) -> impl Future<Output = Option<Delivery<D>>> + Send + Unpin + use<'_, D, C> {
        poll_fn(|cx| self.legs.poll(cx, Self::take_delivery))
    }

    /// [`try_recv`](Self::try_recv) with the datum's place in the stream of its producer.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// producer.send_blocking(8)?;
    /// let (first, second) = (consumer.try_recv_delivery()?, consumer.try_recv_delivery()?);
    /// assert_eq!((second.datum, second.seq), (8, first.seq + 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_delivery(&mut self) -> Result<Delivery<D>, TryRecvError> {
        Self::take_delivery(&mut self.legs)
    }

    /// [`recv_delivery`](Self::recv_delivery) without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// assert_eq!(consumer.recv_delivery_blocking().map(|delivery| delivery.datum), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_delivery_blocking(&mut self) -> Option<Delivery<D>> {
        self.legs.wait(Self::take_delivery)
    }

    /// [`recv_delivery_blocking`](Self::recv_delivery_blocking) for at most `timeout`.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// assert_eq!(consumer.recv_delivery_timeout(std::time::Duration::from_secs(1))?.datum, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_delivery_timeout(&mut self, timeout: Duration) -> Result<Delivery<D>, RecvTimeoutError> {
        self.legs.wait_timeout(timeout, Self::take_delivery)
    }

    /// Takes datums one after the other until the consumer is closed and everything was taken, waiting as
    /// [`recv_blocking`](Self::recv_blocking) does. As with [`recv`](Self::recv), a producer's end does not
    /// end it.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// producer.send_blocking(8)?;
    /// assert_eq!(consumer.iter().take(2).collect::<Vec<_>>(), [7, 8]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, D, C> {
        Iter(self)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<D>> {
        self.legs.poll(cx, |legs| Self::take(legs, |_| ()))
    }

    fn take_delivery(legs: &mut LegSet) -> Result<Delivery<D>, TryRecvError> {
        let mut place = None;
        let datum = Self::take(legs, |at: Delivered<'_>| {
            place = Some((at.seq, at.skipped_before, at.restarted, *at.producer));
        })?;
        let (seq, skipped_before, restarted, producer) = place.ok_or(TryRecvError::Empty)?;
        Ok(Delivery { datum, seq, skipped_before, restarted, producer })
    }

    /// Takes a datum; `keep` gets its place.
    #[inline(always)]
    fn take(legs: &mut LegSet, mut keep: impl FnMut(Delivered<'_>)) -> Result<D, TryRecvError> {
        // The datum is decoded into `found` instead of being passed through return values: those would be
        // copied in loads of other widths than the stores that wrote them, which defeats store forwarding.
        let mut found = Err(TryRecvError::Empty);
        let read = |bytes: &[u8]| decode_into::<D, C, _>(bytes, &mut found);
        match legs.ask_current(|leg| leg.take(read, &mut keep)) {
            Some(index) => legs.remove_if_finished(index),
            None => found = Self::take_from_any(legs, keep),
        }
        found
    }

    #[inline(never)]
    fn take_from_any(legs: &mut LegSet, mut keep: impl FnMut(Delivered<'_>)) -> Result<D, TryRecvError> {
        let mut found = Err(TryRecvError::Empty);
        let mut read = |bytes: &[u8]| decode_into::<D, C, _>(bytes, &mut found);
        let index = legs.search(|leg| leg.take(&mut read, &mut keep))?;
        legs.remove_if_finished(index);
        found
    }
}

/// Ends when the consumer is closed and everything was taken; as with [`recv`](Consumer::recv), a producer's
/// end does not end it.
///
/// # Cancel safety
///
/// A datum is taken in the poll that returns it; dropping the future of a `next` before loses nothing.
impl<D: Send + 'static, C: Codec<D>> Stream for Consumer<D, C> {
    type Item = D;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<D>> {
        self.get_mut().poll_take(cx)
    }
}

impl<D, C> fmt::Debug for Consumer<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("stream_id", &self.stream_id)
            .field("online", &self.is_online())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Iterates over the datums of a consumer; made by [`Consumer::iter`].
#[derive(Debug)]
pub struct Iter<'a, D, C>(&'a mut Consumer<D, C>);

impl<D: Send + 'static, C: Codec<D>> Iterator for Iter<'_, D, C> {
    type Item = D;

    fn next(&mut self) -> Option<D> {
        self.0.recv_blocking()
    }
}
