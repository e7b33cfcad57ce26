//! Producers: handles that put datums into the ring of a stream.

mod build_error;
mod builder;
mod claim;
mod error;
mod flush;
mod lagging;
mod many;
mod put;
mod select;
mod send;
mod shared;
mod sink;
mod stats;

use ::core::fmt;
use ::core::future::Future;
use ::core::marker::PhantomData;
use ::core::pin::Pin;
use ::core::time::Duration;

use corewire_rings::sync::Lock;

pub use self::build_error::{BuilderError, TryBuildError};
pub use self::builder::Builder;
pub(crate) use self::builder::ProducerSettings;
pub use self::claim::{Claim, ClaimMany};
pub use self::error::{Error, Unsendable, UnsendableCause};
pub use self::flush::{FlushError, Flushing};
pub use self::lagging::Lagging;
pub use self::many::{ManyError, SendingMany};
pub(crate) use self::put::AnyDegrader;
pub use self::select::UndeliveredSink;
pub use self::send::Sending;
use self::send::WhenOffline;
pub(crate) use self::shared::{DatumType, ProducerCore, ProducerShared};
pub use self::stats::Stats;
use super::channel::ChannelInfo;
use super::conditions::When;
use super::event::{Events, ProducerEvent};
use crate::blocking::{block_on, poll_for};
use crate::datum::{Codec, Postcard};
use crate::id::StreamId;

/// A handle that sends datums of type `D` to every consumer of its stream.
///
/// Handles are cheap to clone, and any number of threads may send through one handle or through several: they
/// share one ring, which keeps the order of each sender. When the last handle is dropped, accepted datums are
/// still delivered, and then the stream ends.
///
/// A datum that a sending method accepted *is in the ring*: every consumer that is connected at that moment
/// is offered it. It may not have been received yet: [`flush`](Self::flush) waits for that.
///
/// | form | waits until online | waits for room | on a full ring |
/// |---|---|---|---|
/// | [`try_send`], [`try_send_many`] | no: `Offline` | no | `Full`, unless the policy drops |
/// | [`claim`], [`claim_many`] | no: `Offline` | no | `Full`, unless it is `DropOldest` |
/// | [`push`], [`push_blocking`] | no: `Offline` | by policy | the policy decides |
/// | [`push_timeout`] | no: `Offline` | by policy, limited | the policy decides |
/// | [`send`], [`send_blocking`], `futures::Sink` | yes | by policy | the policy decides |
/// | [`send_many`], [`send_many_blocking`] | yes | by policy | the policy decides |
/// | [`send_timeout`] | yes, limited | by policy, limited | the policy decides |
///
/// [`try_send`]: Self::try_send
/// [`try_send_many`]: Self::try_send_many
/// [`claim`]: Self::claim
/// [`claim_many`]: Self::claim_many
/// [`push`]: Self::push
/// [`push_blocking`]: Self::push_blocking
/// [`push_timeout`]: Self::push_timeout
/// [`send`]: Self::send
/// [`send_blocking`]: Self::send_blocking
/// [`send_many`]: Self::send_many
/// [`send_many_blocking`]: Self::send_many_blocking
/// [`send_timeout`]: Self::send_timeout
///
/// A full ring, for the forms that wait by policy:
///
/// | policy | a full ring |
/// |---|---|
/// | `PauseUpstream` | waits in order of arrival; at most 1024 sends wait, the next one gets `Full` |
/// | `DropOldest` | evicts the oldest datums from consumers that lag |
/// | `DegradeQuality` | makes the datum cheaper, then as `DropOldest` |
/// | `Fail` | `Full` at once |
///
/// Eviction cannot pass a datum that is being read in place or written. `send` and `push` then retry, busily,
/// for about a millisecond, and answer `Full` after that: no consumer stops a producer whose policy drops for
/// longer.
///
/// ```
/// # use corewire::{Network, NetworkId};
/// use corewire::streams::producer::Error;
///
/// # corewire::block_on(async {
/// # let network = Network::new(NetworkId::random()).await?;
/// # let mut consumer = network.streams().consume::<String>();
/// let producer = network.streams().produce::<String>();
/// producer.when().online().await; // a consumer is connected
/// producer.send("waits for room".into()).await?;
/// match producer.try_send("does not wait".into()) {
///     Ok(()) => {}
///     Err(Error::Full(datum) | Error::Offline(datum)) => println!("not now: {datum}"),
///     Err(other) => return Err(other.into()),
/// }
/// # assert_eq!(consumer.recv().await, Some("waits for room".into()));
/// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct Producer<D, C = Postcard> {
    core: ProducerCore,
    /// This handle's state as a sink. It is reached through `&mut` or for `Debug`, so the lock is never
    /// contended on a datum's way; the lock makes the handle `Sync` for any datum.
    sink: Lock<sink::SinkState<D>>,
    codec: PhantomData<fn(C)>,
}

impl<D, C> Producer<D, C> {
    /// A handle of an existing producer. The caller knows that `core` carries `D` in codec `C`.
    pub(crate) fn from_core(core: ProducerCore) -> Self {
        Self { core, sink: Lock::default(), codec: PhantomData }
    }

    #[cfg(test)]
    pub(crate) fn publication(&self) -> &corewire_engine::publication::Publication {
        &self.core.publication
    }

    /// The stream.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<u64>().with_stream_id("prices").build()?;
    /// assert_eq!(*producer.stream_id(), "prices".into());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream_id(&self) -> &StreamId {
        &self.core.shared.stream_id
    }

    /// Whether the condition of [`online_when`](Builder::online_when) holds; by default, whether a consumer
    /// is connected. Cheap: one atomic read.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// assert!(!producer.is_online(), "no consumer is connected");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn is_online(&self) -> bool {
        self.core.is_online()
    }

    /// Waits for consumers to come and go.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().produce::<u64>();
    /// let consumer = network.streams().consume::<u64>();
    /// producer.when().online().await;
    /// drop(consumer);
    /// producer.when().offline().await;
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn when(&self) -> When {
        When::new(&self.core.shared.status)
    }

    /// The channels to the consumers, as they are now.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().produce::<u64>();
    /// let consumer = network.streams().consume::<u64>();
    /// producer.when().online().await;
    /// assert!(producer.consumers().all(|channel| channel.is_connected()));
    /// # assert_eq!(producer.consumers().len(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = ChannelInfo> + use<D, C> {
        self.core.shared.status.channels().to_vec().into_iter()
    }

    /// A snapshot of the counters.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// assert!(producer.try_send(1).is_err(), "no consumer is connected");
    /// let stats = producer.stats();
    /// assert_eq!((stats.accepted, stats.refused_offline, stats.offered()), (0, 1, 1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// What happens to the channels from now on: consumers that come, go or are refused, silent ones, and
    /// datums that will not be delivered. Each call makes a queue of its own; see [`Events`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::streams::ProducerEvent;
    ///
    /// let producer = network.streams().produce::<u64>();
    /// let mut events = producer.events();
    /// let consumer = network.streams().consume::<u64>();
    /// assert!(matches!(events.recv_blocking(), Some(ProducerEvent::Connected { .. })));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(&self) -> Events<ProducerEvent> {
        self.core.shared.events.subscribe()
    }

    /// Ends the stream for all its handles at once: later sends are refused with [`Error::Closed`], and
    /// accepted datums are still delivered. A closed stream does not reopen; closing it again changes
    /// nothing.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # use corewire::streams::producer::Error;
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// producer.clone().close();
    /// assert_eq!(producer.try_send(1), Err(Error::closed(1)));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.core.close();
    }

    /// As [`close`](Self::close), for a stream that is not whole: a program that is interrupted, or whose
    /// input ends too early. What was accepted is still delivered; then each channel ends with
    /// [`CloseCode::ABORTED`](crate::streams::CloseCode::ABORTED) in place of `GRACEFUL`, so that a consumer
    /// can tell the two ends apart. A producer whose network leaves before everything was delivered is never
    /// taken for one that ended properly either. Of a stream that is closed already this changes nothing.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::streams::CloseCode;
    ///
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// let producer = network.streams().produce::<u64>();
    /// producer.send_blocking(7)?;
    /// let channel = consumer.producers().next().unwrap();
    /// producer.abort();
    /// assert_eq!(consumer.recv_blocking(), Some(7));
    /// channel.disconnected_blocking();
    /// assert_eq!(channel.close_code(), Some(CloseCode::ABORTED));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn abort(&self) {
        self.core.abort();
    }

    /// As [`close`](Self::close), without delivering: what no consumer has yet is dropped. Datums that have
    /// reached a consumer on another engine, in its inbox, it may still take; one on this engine has what it
    /// has taken.
    ///
    /// Each channel ends with [`CloseCode::DISCARDED`](crate::streams::CloseCode::DISCARDED). A consumer
    /// counts what it did not get as [skipped](crate::streams::Stats::skipped), exactly; the producer counts
    /// it as [`Stats::skipped_at_close`] and names the consumers in [`ProducerEvent::Undelivered`]. A
    /// [`flush`](Self::flush) that waits, or is begun later, fails with the same consumers;
    /// [`Network::shutdown`](crate::Network::shutdown) does not, because nothing is missing that was to be
    /// delivered. Sends that wait get their datum back with [`Error::Closed`]. The undelivered sink gets none
    /// of the dropped datums: each had a consumer that wanted it. Of a stream that is closed already this
    /// changes nothing.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::streams::CloseCode;
    ///
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// let producer = network.streams().produce::<u64>();
    /// producer.send_blocking(7)?;
    /// let channel = consumer.producers().next().unwrap();
    /// producer.discard();
    /// channel.disconnected_blocking();
    /// assert_eq!(channel.close_code(), Some(CloseCode::DISCARDED));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self) {
        self.core.discard();
    }

    /// Whether the stream was closed, by [`close`](Self::close) or with its network.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// assert!(!producer.is_closed());
    /// producer.close();
    /// assert!(producer.is_closed());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

impl<D: Send + 'static, C: Codec<D>> Producer<D, C> {
    /// Sends one datum: waits until the producer is online, and then for room as the policy has it. Allocates
    /// nothing unless it waits.
    ///
    /// Sends that wait for room are served in order of arrival. A send that finds the producer offline
    /// meanwhile leaves the queue, and joins its end once the producer is online again.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().produce::<u64>();
    /// let mut consumer = network.streams().consume::<u64>();
    /// producer.send(7).await?;
    /// assert_eq!(consumer.recv().await, Some(7));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], and [`Error::Full`] as the tables above
    /// say.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves sends nothing; its datum is dropped with it and counted as
    /// cancelled. [`Sending::withdraw`] gives the datum back.
    pub fn send(&self, datum: D) -> Sending<'_, D, C> {
        Sending::new(self, datum, WhenOffline::Wait)
    }

    /// Sends one datum now or gives it back.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// use corewire::streams::producer::Error;
    ///
    /// let producer = network.streams().producer::<u64>().with_buffer_size(1).build()?;
    /// assert_eq!(producer.try_send(1), Err(Error::Offline(1)));
    /// let consumer = network.streams().consume::<u64>();
    /// producer.when().online().await;
    /// producer.try_send(2)?;
    /// assert_eq!(producer.try_send(3), Err(Error::Full(3)));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`Error`]. [`Error::Full`]: under `PauseUpstream` and `Fail` the ring is full, or other sends wait
    /// for its room; under the policies that drop the oldest datum is being read in place or written at this
    /// moment, which [`push`](Self::push) outlasts as a rule.
    #[inline(always)]
    pub fn try_send(&self, datum: D) -> Result<(), Error<D>> {
        self.core.put::<D, C>(datum)
    }

    /// Sends one datum as [`send`](Self::send) does, except that it never waits for consumers: an offline
    /// producer refuses it.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// use corewire::streams::producer::Error;
    ///
    /// let producer = network.streams().produce::<u64>();
    /// assert_eq!(producer.push(1).await, Err(Error::Offline(1)));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Error::Offline`] at once.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn push(&self, datum: D) -> Sending<'_, D, C> {
        Sending::new(self, datum, WhenOffline::Refuse)
    }

    /// [`send`](Self::send) for threads without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// let mut consumer = network.streams().consume::<u64>();
    /// producer.send_blocking(7)?;
    /// assert_eq!(consumer.recv_blocking(), Some(7));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_blocking(&self, datum: D) -> Result<(), Error<D>> {
        block_on(self.send(datum))
    }

    /// [`push`](Self::push) for threads without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # use corewire::streams::producer::Error;
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// assert_eq!(producer.push_blocking(1), Err(Error::Offline(1)));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_blocking(&self, datum: D) -> Result<(), Error<D>> {
        block_on(self.push(datum))
    }

    /// [`send_blocking`](Self::send_blocking) with a limit on the wait.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # use corewire::streams::producer::Error;
    /// use std::time::Duration;
    ///
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// assert_eq!(producer.send_timeout(1, Duration::from_millis(1)), Err(Error::Offline(1)));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). When the time is over the datum comes back with what kept it waiting:
    /// [`Error::Full`] or [`Error::Offline`].
    pub fn send_timeout(&self, datum: D, timeout: Duration) -> Result<(), Error<D>> {
        wait(self.send(datum), timeout)
    }

    /// [`push_blocking`](Self::push_blocking) with a limit on the wait.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # use corewire::streams::producer::Error;
    /// use std::time::Duration;
    ///
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().producer::<u64>().with_buffer_size(1).build()?;
    /// let consumer = network.streams().consume::<u64>();
    /// producer.when().online().await;
    /// producer.push_timeout(1, Duration::from_secs(1))?;
    /// assert_eq!(producer.push_timeout(2, Duration::from_millis(1)), Err(Error::Full(2)));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push). When the time is over the datum comes back with [`Error::Full`].
    pub fn push_timeout(&self, datum: D, timeout: Duration) -> Result<(), Error<D>> {
        wait(self.push(datum), timeout)
    }
}

/// Parks the thread until `sending` resolves, or gives its datum back.
fn wait<D: Send + 'static, C: Codec<D>>(
    mut sending: Sending<'_, D, C>,
    timeout: Duration,
) -> Result<(), Error<D>> {
    match poll_for(timeout, |cx| Pin::new(&mut sending).poll(cx)) {
        Some(sent) => sent,
        None => sending.give_up().map_or(Ok(()), Err),
    }
}

/// Another handle of the same producer. A datum that the first one holds as a sink stays with the first one.
impl<D, C> Clone for Producer<D, C> {
    fn clone(&self) -> Self {
        Self::from_core(self.core.clone())
    }
}

impl<D, C> Drop for Producer<D, C> {
    fn drop(&mut self) {
        self.sink.get_mut().abandon(&self.core);
    }
}

/// No field is pinned: a datum is only moved in and out.
impl<D, C> Unpin for Producer<D, C> {}

impl<D, C> fmt::Debug for Producer<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("stream_id", self.stream_id())
            .field("online", &self.is_online())
            .field("closed", &self.is_closed())
            .field("sink", &self.sink.lock().name())
            .finish_non_exhaustive()
    }
}
