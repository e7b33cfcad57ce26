//! Consumers: handles that take datums out of the rings of a stream's producers.
//!
//! How a datum got into the ring is not here: it is the producer's own ring if that lives on the same engine, and
//! an inbox that a shard fills if not. A consumer cannot tell the difference.

mod batch;
mod borrowed;
mod builder;
mod leg;
mod legs;

use core::fmt;
use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use corewire_engine::rings::park;
use futures_core::Stream;

pub use self::batch::Shown;
pub use self::borrowed::Ref;
pub use self::builder::Builder;
pub(crate) use self::builder::Settings;
use self::leg::Place;
pub(crate) use self::legs::Legs;
use super::board::Board;
use super::channel::{ChannelInfo, Stats};
use super::conditions::When;
use crate::datum::{Codec, InPlace, Postcard, accept, decode_into};
use crate::id::{PeerId, StreamId};

/// A handle that receives the datums of all eligible producers of one stream.
///
/// Each consumer is a subscription of its own: it sees every datum that a producer accepts from the moment that the
/// two are connected, in the order of that producer's ring. Producers are merged fairly: a busy one delays another
/// by a few datums at most.
///
/// Taking a datum is what moves the stream: until then its room is held, and a producer with the policy
/// `PauseUpstream` waits. Dropping the consumer ends the subscription and lets go of everything.
///
/// It is a `futures::Stream`, has an awaitable [`recv`](Self::recv), and works without any runtime:
///
/// ```
/// # use corewire::Network;
/// # fn example(network: &Network) {
/// let mut consumer = network.streams().consume::<String>();
/// std::thread::spawn(move || {
///     while let Some(line) = consumer.recv_blocking() {
///         println!("{line}");
///     }
/// });
/// # }
/// ```
///
/// Bytes that are not a `D` (another type under the same name, a `Deserialize` that panics) are counted in
/// [`Stats::undecodable`], appear as a gap before the next datum, and are skipped.
pub struct Consumer<D, C = Postcard> {
    stream_id: StreamId,
    board: Arc<Board>,
    legs: Legs,
    types: PhantomData<fn(C) -> D>,
}

/// A datum with its place in the stream of its producer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<D> {
    /// The datum.
    pub datum: D,
    /// Its sequence number in the producer's ring. Sequence numbers grow; a number may be absent without a datum
    /// missing, when a producer gave up room that it had claimed.
    pub seq: u64,
    /// How many datums of the same producer are missing just before it: lost on the way, skipped by policy, or
    /// not decodable. After a new connection also what is known to be missing at the end of the one before: within
    /// an engine, as long as the producer is the same, everything that was accepted since the last datum taken.
    pub skipped_before: u64,
    /// Who produced it.
    pub producer: PeerId,
}

/// Why there is no datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing has arrived.
    #[error("nothing has arrived: try again later, or use `recv`, which waits")]
    Empty,
    /// The consumer is closed and everything was taken.
    #[error("the consumer is closed: its network was shut down or `close` was called; build a new consumer")]
    Closed,
}

/// Why there is no datum in time.
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
    pub(crate) fn from_legs(stream_id: StreamId, board: Arc<Board>, legs: Legs) -> Self {
        Self { stream_id, board, legs, types: PhantomData }
    }

    /// The stream.
    pub fn stream_id(&self) -> &StreamId {
        &self.stream_id
    }

    /// Whether the condition of `online_when` holds; by default, whether any producer is connected. One load.
    pub fn is_online(&self) -> bool {
        self.board.is_online()
    }

    /// Waits for producers to come and go.
    pub fn when(&self) -> When {
        When::new(&self.board)
    }

    /// The channels to the producers, as they are now.
    pub fn producers(&self) -> impl ExactSizeIterator<Item = ChannelInfo> + use<D, C> {
        self.board.channels().to_vec().into_iter()
    }

    /// What the application took from all producers together. The uptime is that of the channel which has been
    /// connected longest.
    pub fn stats(&self) -> Stats {
        let totals = self.legs.totals;
        let uptime =
            self.producers().filter(ChannelInfo::is_connected).filter_map(|info| info.stats().uptime()).max();
        Stats::of_consumer(
            totals.datums,
            totals.bytes,
            totals.skipped,
            totals.undecodable,
            self.legs.lag(),
            uptime,
        )
    }

    /// Ends the subscription at once and for good. What had arrived can still be taken, then there is `None` for
    /// ever; until it is taken, or the consumer dropped, its room is held. On the producer's own engine it is lost if it
    /// keeps the ring full for the producer's grace. Closing twice is closing once.
    pub fn close(&mut self) {
        self.legs.close();
        self.board.close();
    }

    /// Whether the subscription has ended, by [`close`](Self::close) or with its network. There may still be datums
    /// to take.
    pub fn is_closed(&self) -> bool {
        self.legs.is_closed()
    }
}

impl<D: Send + 'static, C: Codec<D>> Consumer<D, C> {
    /// The next datum; `None` once the consumer is closed and everything was taken.
    ///
    /// # Cancel safety
    ///
    /// A datum is taken in the same step in which the future resolves: dropping the future before loses nothing.
    pub fn recv(&mut self) -> impl Future<Output = Option<D>> + Send + Unpin + use<'_, D, C> {
        poll_fn(|cx| self.poll_take(cx))
    }

    /// The next datum if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<D, TryRecvError> {
        Self::take(&mut self.legs, |_| ())
    }

    /// [`recv`](Self::recv) with the datum's place in the stream. Cancel-safe likewise.
    pub fn recv_delivery(
        &mut self,
    ) -> impl Future<Output = Option<Delivery<D>>> + Send + Unpin + use<'_, D, C> {
        poll_fn(|cx| self.legs.poll(cx, Self::take_delivery))
    }

    /// [`try_recv`](Self::try_recv) with the datum's place in the stream.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_delivery(&mut self) -> Result<Delivery<D>, TryRecvError> {
        Self::take_delivery(&mut self.legs)
    }

    /// [`recv`](Self::recv) for threads without an async runtime: parks the thread while it waits.
    pub fn recv_blocking(&mut self) -> Option<D> {
        match self.try_recv() {
            Ok(datum) => Some(datum),
            Err(_) => park::wait(|cx| self.poll_take(cx)),
        }
    }

    /// [`recv_blocking`](Self::recv_blocking) with a limit on the wait.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] or [`RecvTimeoutError::Closed`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<D, RecvTimeoutError> {
        if let Ok(datum) = self.try_recv() {
            return Ok(datum);
        }
        let found = match Instant::now().checked_add(timeout) {
            Some(deadline) => park::wait_until(deadline, |cx| self.poll_take(cx)),
            // Further off than the clock reaches.
            None => Some(park::wait(|cx| self.poll_take(cx))),
        };
        match found {
            Some(Some(datum)) => Ok(datum),
            Some(None) => Err(RecvTimeoutError::Closed),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<D>> {
        self.legs.poll(cx, |legs| Self::take(legs, |_| ()))
    }

    fn take_delivery(legs: &mut Legs) -> Result<Delivery<D>, TryRecvError> {
        let mut place = None;
        let datum =
            Self::take(legs, |at: Place<'_>| place = Some((at.seq, at.skipped_before, *at.producer)))?;
        let (seq, skipped_before, producer) = place.ok_or(TryRecvError::Empty)?;
        Ok(Delivery { datum, seq, skipped_before, producer })
    }

    /// Takes a datum; `keep` gets to know where it stood.
    #[inline(always)]
    fn take(legs: &mut Legs, mut keep: impl FnMut(Place<'_>)) -> Result<D, TryRecvError> {
        // Not handed through returned values: they would be copied in pieces of other sizes than they were written in,
        // and a processor waits for its own stores then.
        let mut found = Err(TryRecvError::Empty);
        let read = |bytes: &[u8]| decode_into::<D, C, _>(bytes, &mut found);
        if legs.visit_current(|leg, totals| leg.take(totals, read, &mut keep)).is_none() {
            found = Self::search(legs, keep);
        }
        found
    }

    #[inline(never)]
    fn search(legs: &mut Legs, mut keep: impl FnMut(Place<'_>)) -> Result<D, TryRecvError> {
        let mut found = Err(TryRecvError::Empty);
        let mut read = |bytes: &[u8]| decode_into::<D, C, _>(bytes, &mut found);
        let (index, ()) = legs.visit(|leg, totals| leg.take(totals, &mut read, &mut keep))?;
        legs.settle(index);
        found
    }
}

impl<D: Send + 'static, C: InPlace<D>> Consumer<D, C> {
    /// The next datum, borrowed where it lies; `None` once the consumer is closed and everything was taken.
    ///
    /// # Cancel safety
    ///
    /// A datum is taken when the borrow ends: dropping the future loses nothing.
    pub async fn recv_ref(&mut self) -> Option<Ref<'_, D, C>> {
        let index = poll_fn(|cx| self.legs.poll(cx, Self::find)).await?;
        self.borrow(index)
    }

    /// The next datum if there is one, borrowed where it lies.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    #[inline(always)]
    pub fn try_recv_ref(&mut self) -> Result<Ref<'_, D, C>, TryRecvError> {
        let index = Self::find(&mut self.legs)?;
        self.borrow(index).ok_or(TryRecvError::Empty)
    }

    /// [`recv_ref`](Self::recv_ref) for threads without an async runtime: parks the thread while it waits.
    pub fn recv_ref_blocking(&mut self) -> Option<Ref<'_, D, C>> {
        let index = park::wait(|cx| self.legs.poll(cx, Self::find))?;
        self.borrow(index)
    }

    /// The leg whose next record is a datum.
    #[inline(always)]
    fn find(legs: &mut Legs) -> Result<usize, TryRecvError> {
        match legs.look_at_current(|leg, totals| leg.peek(totals, accept::<D, C>)) {
            Some(index) => Ok(index),
            None => Self::find_elsewhere(legs),
        }
    }

    #[inline(never)]
    fn find_elsewhere(legs: &mut Legs) -> Result<usize, TryRecvError> {
        legs.visit(|leg, totals| leg.peek(totals, accept::<D, C>)).map(|(index, ())| index)
    }

    #[inline(always)]
    fn borrow(&mut self, index: usize) -> Option<Ref<'_, D, C>> {
        let (leg, totals) = self.legs.visited(index)?;
        leg.borrow(totals).map(Ref::new)
    }
}

/// Ends when the consumer is closed and everything was taken.
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
