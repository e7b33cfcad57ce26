//! Producers: handles that put datums into the ring of a stream.
//!
//! What a consumer does with a datum, and how it gets there, is not here.

mod builder;
mod claim;
mod core;
mod error;
mod full;
mod outbox;
mod send;
mod sink;

use ::core::fmt;
use ::core::future::Future;
use ::core::marker::PhantomData;
use ::core::pin::Pin;
use ::core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use corewire_engine::rings::park;

pub(crate) use self::builder::Settings;
pub use self::builder::{Builder, BuilderError, Lagging};
pub use self::claim::{Claim, ClaimMany, ManyError};
pub(crate) use self::core::{Carried, Common, Core};
pub use self::error::Error;
pub(crate) use self::full::AnyDegrader;
use self::send::Offline;
pub use self::send::Sending;
use super::channel::ChannelInfo;
use super::conditions::When;
use crate::datum::{Codec, Postcard};
use crate::id::StreamId;

/// A handle that sends datums of type `D` to every consumer of its stream.
///
/// Handles are cheap to clone, and any number of threads may send through one handle or through several: they share
/// one ring, which keeps the order of each sender. When the last handle is dropped, what was accepted is still
/// delivered, and then the stream ends.
///
/// A datum that a sending method accepted *is in the ring*: every consumer connected at that moment will be offered
/// it. Nothing is said about when a consumer takes it.
///
/// ```
/// # use corewire::Network;
/// # use corewire::streams::producer::Error;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::new("example").await?;
/// let producer = network.streams().produce::<String>();
///
/// producer.when().online().await; // somebody listens
/// producer.send("waits for room".into()).await?;
/// match producer.try_send("does not wait".into()) {
///     Ok(()) => {}
///     Err(Error::Full(datum) | Error::Offline(datum)) => println!("not now: {datum}"),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Producer<D, C = Postcard> {
    core: Core,
    /// This handle as a sink. Reached through `&mut` only; the mutex makes the handle `Sync` for any datum.
    side: Mutex<sink::Side<D>>,
    codec: PhantomData<fn(C)>,
}

/// Counters of a producer: all its handles together. A snapshot; each number may be stale by itself.
///
/// Once no send or claim is under way, [`offered`](Self::offered) is the number of datums that were given to any
/// sending method, or for which room was claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datums that entered the ring.
    pub accepted: u64,
    /// Datums refused because the ring was full.
    pub refused_full: u64,
    /// Datums refused because the producer was offline.
    pub refused_offline: u64,
    /// Datums refused because the producer was closed.
    pub refused_closed: u64,
    /// Datums refused because they were longer than the stream carries.
    pub too_large: u64,
    /// Datums refused because they could not be encoded.
    pub unencodable: u64,
    /// Datums withdrawn: their future was dropped before it resolved, or their claim before it was committed.
    pub cancelled: u64,
    /// Accepted datums that the degrader made cheaper first, under `DegradeQuality`.
    pub degraded: u64,
    /// Datums that were taken from consumers that lagged, to make room, under the policies that drop. A datum counts
    /// once for each reader that loses it: each consumer on this engine, and each shard that serves consumers on
    /// others. What one channel lost is in its own [`Stats`](crate::streams::Stats::dropped_oldest).
    ///
    /// The ring drops sequence numbers. One without a datum counts as well: of a claim that was given up, or of a
    /// datum whose encoding failed although it had been measured, while the ring had room.
    pub dropped_oldest: u64,
    /// Panics of the degrader; each time, the datum was sent as it was.
    pub degrader_panics: u64,
    /// Datums in the ring that some consumer has not taken yet.
    pub in_ring: u64,
    /// Datums that the ring holds at most.
    pub capacity: u64,
    /// Panics of the predicates given to `online_when`; each time, the condition counted as not met.
    pub predicate_panics: u64,
}

impl Stats {
    /// Datums that were given to any sending method: accepted, refused for any reason, or withdrawn.
    pub fn offered(&self) -> u64 {
        self.accepted
            + self.refused_full
            + self.refused_offline
            + self.refused_closed
            + self.too_large
            + self.unencodable
            + self.cancelled
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted: {}, refused: {} full, {} offline, {} closed, {} too large, {} unencodable, cancelled: {}, \
             degraded: {}, dropped for room: {}, ring: {} of {}",
            self.accepted,
            self.refused_full,
            self.refused_offline,
            self.refused_closed,
            self.too_large,
            self.unencodable,
            self.cancelled,
            self.degraded,
            self.dropped_oldest,
            self.in_ring,
            self.capacity
        )
    }
}

impl<D, C> Producer<D, C> {
    /// A handle of an existing producer. The caller knows that `core` carries `D` in codec `C`.
    pub(crate) fn from_core(core: Core) -> Self {
        Self { core, side: Mutex::default(), codec: PhantomData }
    }

    /// The stream.
    pub fn stream_id(&self) -> &StreamId {
        &self.core.common.stream_id
    }

    /// Whether the condition of `online_when` holds; by default, whether anybody is connected. One load.
    #[inline]
    pub fn is_online(&self) -> bool {
        self.core.common.board.is_online()
    }

    /// Waits for consumers to come and go.
    pub fn when(&self) -> When {
        When::new(&self.core.common.board)
    }

    /// The channels to the consumers, as they are now.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = ChannelInfo> + use<D, C> {
        self.core.common.board.channels().to_vec().into_iter()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Ends the stream for all its handles, at once and for good: later sends are refused with
    /// [`Error::Closed`], and what was accepted before is still delivered. Closing twice is closing once.
    pub fn close(&self) {
        self.core.close();
    }

    /// Whether the stream was closed, by [`close`](Self::close) or with its network.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

impl<D: Send + 'static, C: Codec<D>> Producer<D, C> {
    /// Sends one datum: waits until the producer is online and then, by the policy of the stream, for room.
    ///
    /// Those who wait for room are served in the order in which they came. A send that finds the producer offline
    /// meanwhile gives its place up, and takes a new one when it is online again. Nothing is allocated unless it waits.
    ///
    /// The policies that drop take room from consumers that lag. They cannot while the oldest datum is being read in
    /// place (by a consumer that holds a [`Ref`](crate::streams::consumer::Ref), or by a shard for some microseconds)
    /// or is being written by another thread. The send then tries again for about a millisecond, busily, and answers
    /// `Full` after that: no consumer stops such a producer for longer.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::TooLarge`], [`Error::Encoding`], and [`Error::Full`]: with `PauseUpstream` when
    /// more than 1024 sends wait for room already, with `Fail` at once, with the policies that drop as said above.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves sends nothing; the datum is dropped with it and counted as
    /// cancelled. [`Sending::withdraw`] gives it back, which is how a wait gets a limit.
    pub fn send(&self, datum: D) -> Sending<'_, D, C> {
        Sending::new(self, datum, Offline::Wait)
    }

    /// Sends one datum now or gives it back.
    ///
    /// # Errors
    ///
    /// Any [`Error`]. [`Error::Full`] says that there is no room *now*: under `PauseUpstream` and `Fail` because the
    /// ring is full, or others wait for its room already; under the policies that drop because the oldest datum is
    /// being read in place or written at this moment. Under those [`push`](Self::push) outlasts such moments.
    #[inline(always)]
    pub fn try_send(&self, datum: D) -> Result<(), Error<D>> {
        if !C::ENCODES_SHORT {
            return self.core.try_put_here::<D, C>(datum);
        }
        match self.core.check_online().and_then(|()| self.core.try_put::<D, C>(&datum)) {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.core.refuse(datum, refusal)),
        }
    }

    /// Sends one datum by the policy of the stream: with `PauseUpstream` it waits for room; with the policies that
    /// drop it insists on room for a millisecond at most, as [`send`](Self::send) does; with `Fail` it does not wait.
    /// It never waits for consumers to come.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Error::Offline`] at once.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn push(&self, datum: D) -> Sending<'_, D, C> {
        Sending::new(self, datum, Offline::Refuse)
    }

    /// [`send`](Self::send) for threads without an async runtime: parks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_blocking(&self, datum: D) -> Result<(), Error<D>> {
        park::block_on(self.send(datum))
    }

    /// [`push`](Self::push) for threads without an async runtime: parks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_blocking(&self, datum: D) -> Result<(), Error<D>> {
        park::block_on(self.push(datum))
    }

    /// [`send_blocking`](Self::send_blocking) with a limit on the wait.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). When the time is over the datum comes back with what kept it waiting:
    /// [`Error::Full`], or [`Error::Offline`] if nobody listens.
    pub fn send_timeout(&self, datum: D, timeout: Duration) -> Result<(), Error<D>> {
        wait(self.send(datum), timeout)
    }

    /// [`push_blocking`](Self::push_blocking) with a limit on the wait.
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
    // A limit further off than the clock reaches is none.
    let Some(deadline) = Instant::now().checked_add(timeout) else { return park::block_on(sending) };
    match park::wait_until(deadline, |cx| Pin::new(&mut sending).poll(cx)) {
        Some(sent) => sent,
        None => sending.give_up().map_or(Ok(()), Err),
    }
}

/// Another handle of the same producer. What the first one keeps as a sink stays with it.
impl<D, C> Clone for Producer<D, C> {
    fn clone(&self) -> Self {
        Self::from_core(self.core.clone())
    }
}

impl<D, C> Drop for Producer<D, C> {
    fn drop(&mut self) {
        if self.side.get_mut().unwrap_or_else(PoisonError::into_inner).abandon() {
            self.core.cancel();
        }
    }
}

/// The datum and the codec are only moved and named, never pinned.
impl<D, C> Unpin for Producer<D, C> {}

impl<D, C> fmt::Debug for Producer<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("stream_id", &self.core.common.stream_id)
            .field("online", &self.is_online())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
