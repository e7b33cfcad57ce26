//! Producers: handles that put datums into the ring of a stream.
//!
//! What a consumer does with a datum, and how it gets there, is not here.

mod builder;
mod core;
mod error;
mod outbox;
mod send;
mod sink;

use ::core::fmt;
use ::core::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

pub(crate) use self::builder::Settings;
pub use self::builder::{Builder, BuilderError, Lagging};
use self::core::Refusal;
pub(crate) use self::core::{Carried, Common, Core};
pub use self::error::Error;
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
/// Once no send is under way, [`offered`](Self::offered) is the number of datums that were given to any sending
/// method.
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
    /// Datums withdrawn: their future was dropped before it resolved.
    pub cancelled: u64,
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
             ring: {} of {}",
            self.accepted,
            self.refused_full,
            self.refused_offline,
            self.refused_closed,
            self.too_large,
            self.unencodable,
            self.cancelled,
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
    /// Sends one datum: waits until the producer is online and, with `PauseUpstream`, until there is room.
    ///
    /// Those who wait for room are served in the order in which they came. A send that finds the producer offline
    /// meanwhile gives its place up, and takes a new one when it is online again. Nothing is allocated unless it waits.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::TooLarge`], [`Error::Encoding`], and [`Error::Full`] with the policy `Fail` or
    /// when more than 1024 sends wait for room already.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves sends nothing; the datum is dropped with it and counted as
    /// cancelled.
    pub fn send(&self, datum: D) -> Sending<'_, D, C> {
        Sending::new(self, datum, Offline::Wait)
    }

    /// Sends one datum now or gives it back.
    ///
    /// # Errors
    ///
    /// Any [`Error`]. A full ring answers [`Error::Full`] under every policy; so does a ring for whose room others
    /// wait already.
    #[inline]
    pub fn try_send(&self, datum: D) -> Result<(), Error<D>> {
        if !self.core.common.board.is_online() {
            let refusal = if self.core.is_closed() { Refusal::Closed } else { Refusal::Offline };
            return Err(self.core.refuse(datum, refusal));
        }
        match self.core.try_put::<D, C>(&datum) {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.core.refuse(datum, refusal)),
        }
    }

    /// Sends one datum by the policy of the stream: with `PauseUpstream` it waits for room, else it does not wait.
    /// It never waits for consumers.
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
        corewire_engine::rings::park::block_on(self.send(datum))
    }

    /// [`push`](Self::push) for threads without an async runtime: parks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_blocking(&self, datum: D) -> Result<(), Error<D>> {
        corewire_engine::rings::park::block_on(self.push(datum))
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
