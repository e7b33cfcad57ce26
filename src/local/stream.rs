//! The handle.

use core::fmt;
use core::future::{IntoFuture, Ready, ready};
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_engine::rings::{ClaimError, park};

use crate::datum::{Codec, Datum, Postcard};
use crate::local::annotation::BackpressureAnnotation;
use crate::local::builder::Builder;
use crate::local::core::Core;
use crate::local::error::{BuildError, PopTimeoutError, PushError, StreamError, TryPopError};
use crate::local::metrics::{StreamMetrics, StreamMetricsSnapshot};
use crate::local::pop::Pop;
use crate::local::push::Push;
use crate::streams::BackpressurePolicy;

/// What makes a datum cheaper when the buffer is full under
/// [`DegradeQuality`](crate::BackpressurePolicy::DegradeQuality). It runs on the thread that pushes, outside of any
/// lock; a panic in it is contained, counted and answered with
/// [`DegraderPanicked`](StreamError::DegraderPanicked).
pub type DegradationFn<T> = Arc<dyn Fn(T) -> T + Send + Sync>;

/// A bounded stream inside one process, with a policy for when it is full. Cheap to clone; every handle can push, pop
/// and close.
///
/// Consumers compete: each datum goes to exactly one of them, oldest first. Dropping the last handle frees the
/// memory; dropping others does not close the stream, because every handle is both a producer's and a consumer's.
///
/// ```
/// use corewire::local::{Stream, parse_backpressure_annotation};
///
/// # futures::executor::block_on(async {
/// let frames: Stream<String> = Stream::new(2, parse_backpressure_annotation("drop_oldest")?);
/// for frame in ["one", "two", "three"] {
///     frames.push(frame.to_string()).await?;
/// }
/// frames.close();
/// assert_eq!(frames.pop().await.as_deref(), Some("two"));
/// assert_eq!(frames.pop().await.as_deref(), Some("three"));
/// assert_eq!(frames.pop().await, None);
/// assert_eq!(frames.metrics().drop_oldest_hits, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Stream<T, C = Postcard> {
    shared: Arc<Shared<T>>,
    /// The counters; [`metrics`](Self::metrics) is short for their snapshot.
    pub metrics: Arc<StreamMetrics>,
    codec: PhantomData<fn(C)>,
}

/// What all handles share.
pub(super) struct Shared<T> {
    pub(super) core: Arc<Core>,
    pub(super) annotation: BackpressureAnnotation,
    pub(super) degrader: Option<DegradationFn<T>>,
    pub(super) capacity: usize,
    pub(super) max_datum_bytes: usize,
}

impl<T: Datum> Stream<T> {
    /// A stream of `capacity` datums. For `DegradeQuality` use [`with_degrader`](Self::with_degrader); without a
    /// degrader such a stream works until it is full.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0 or above 8,388,608, if the annotation has another `buffer_size`, or if there is no memory.
    /// [`builder`](Self::builder) gives an error instead.
    #[must_use]
    #[track_caller]
    pub fn new(capacity: usize, annotation: impl Into<BackpressureAnnotation>) -> Self {
        built(Self::builder(annotation).capacity(capacity).build())
    }

    /// A stream of `capacity` datums with a degrader, which `DegradeQuality` uses and the other policies do not.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use corewire::BackpressurePolicy::DegradeQuality;
    /// use corewire::local::{DegradationFn, Stream};
    ///
    /// # futures::executor::block_on(async {
    /// let halve: DegradationFn<i32> = Arc::new(|x| x / 2);
    /// let s = Stream::with_degrader(2, DegradeQuality, halve);
    /// for x in [100, 200, 300] {
    ///     s.push(x).await?;
    /// }
    /// // 100 was dropped to make room for the degraded 300.
    /// assert_eq!((s.pop().await, s.pop().await), (Some(200), Some(150)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    #[track_caller]
    pub fn with_degrader(
        capacity: usize,
        annotation: impl Into<BackpressureAnnotation>,
        degrader: DegradationFn<T>,
    ) -> Self {
        built(Self::builder(annotation).capacity(capacity).degrader(degrader).build())
    }

    /// A stream with the capacity that the annotation gives as `buffer_size`.
    ///
    /// ```
    /// use corewire::local::{BuildError, Stream};
    ///
    /// let s: Stream<u64> = Stream::from_annotation("fail, buffer_size=16".parse::<corewire::local::BackpressureAnnotation>()?)?;
    /// assert_eq!(s.capacity(), 16);
    /// let none: Result<Stream<u64>, _> = Stream::from_annotation(corewire::BackpressurePolicy::Fail);
    /// assert_eq!(none.err(), Some(BuildError::NoCapacity));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn from_annotation(annotation: impl Into<BackpressureAnnotation>) -> Result<Self, BuildError> {
        Self::builder(annotation).build()
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Configures a stream, also of types that only have the [`Plain`](crate::Plain) codec.
    pub fn builder(annotation: impl Into<BackpressureAnnotation>) -> Builder<T> {
        Builder::new(annotation.into())
    }
}

#[track_caller]
fn built<S>(built: Result<S, BuildError>) -> S {
    built.unwrap_or_else(|error| panic!("{error}"))
}

impl<T, C> Stream<T, C> {
    pub(super) fn of(shared: Shared<T>) -> Self {
        let metrics = Arc::clone(&shared.core.metrics);
        Self { shared: Arc::new(shared), metrics, codec: PhantomData }
    }

    pub(super) fn core(&self) -> &Core {
        &self.shared.core
    }

    pub(super) fn degrader(&self) -> Option<&DegradationFn<T>> {
        self.shared.degrader.as_ref()
    }

    /// What a refusal of the ring means under our policy.
    pub(super) fn error_of(&self, refused: ClaimError) -> StreamError {
        let policy = self.policy();
        match refused {
            ClaimError::Full if policy == BackpressurePolicy::Fail => {
                StreamError::Overflow { policy, buffer_capacity: self.capacity() }
            }
            ClaimError::Full | ClaimError::TooManyWaiters => StreamError::Backpressure,
            ClaimError::Closed => StreamError::Cancelled,
            ClaimError::TooLarge { len, limit } => StreamError::TooLarge { len, limit },
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> BackpressurePolicy {
        self.shared.annotation.policy()
    }

    /// The annotation that the stream was built with.
    #[must_use]
    pub fn annotation(&self) -> &BackpressureAnnotation {
        &self.shared.annotation
    }

    /// How many datums the stream holds, exactly.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// The longest datum, in encoded bytes.
    #[must_use]
    pub fn max_datum_bytes(&self) -> usize {
        self.shared.max_datum_bytes
    }

    /// How many datums are in the buffer. A snapshot: for dashboards, not for decisions.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.core().ring().len()
    }

    /// The counters now.
    #[must_use]
    pub fn metrics(&self) -> StreamMetricsSnapshot {
        self.metrics.snapshot()
    }

    /// Whether the stream was closed. There may be datums to pop still.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core().is_closed()
    }

    /// Ends the stream, at once and for all handles. What is in the buffer can still be popped; then `pop` gives
    /// `None` for ever. Pushes, also those that wait, are refused with [`Cancelled`](StreamError::Cancelled).
    /// Idempotent.
    ///
    /// The work is done when the call returns; `close().await`, as this method is called elsewhere, does nothing
    /// more.
    pub fn close(&self) -> Closed {
        self.core().close();
        Closed(())
    }
}

impl<T: Send + 'static, C: Codec<T>> Stream<T, C> {
    /// Pushes a datum, as the policy says: only `PauseUpstream` waits for room, in the order of arrival.
    ///
    /// Cancel-safe: dropped while it waits, the datum is not pushed, and counted as cancelled. A refusal leaves the
    /// datum in the future, so that it is not lost:
    ///
    /// ```
    /// use corewire::BackpressurePolicy::Fail;
    /// use corewire::local::{Stream, StreamError};
    ///
    /// # futures::executor::block_on(async {
    /// let s: Stream<String> = Stream::new(1, Fail);
    /// s.push("first".into()).await?;
    ///
    /// let mut push = s.push("second".into());
    /// assert_eq!((&mut push).await, Err(StreamError::Overflow { policy: Fail, buffer_capacity: 1 }));
    /// assert_eq!(push.take_item().as_deref(), Some("second"));
    /// # Ok::<(), StreamError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Under `DropOldest` and `DegradeQuality` it resolves at its first poll, except while another thread stands
    /// between taking its place in the ring and filling it, which takes some instructions.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: `Overflow` under `Fail`; `MissingDegrader` and `DegraderPanicked` under `DegradeQuality`,
    /// when the buffer is full; `Backpressure` when 1,024 pushes wait already; `Cancelled`, `TooLarge` and `Encoding`
    /// under every policy.
    pub fn push(&self, item: T) -> Push<'_, T, C> {
        Push::new(self, item)
    }

    /// Pushes a datum without waiting. Under `PauseUpstream` a full buffer, or others that wait, is `Backpressure`.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), with the datum.
    pub fn try_push(&self, item: T) -> Result<(), PushError<T>> {
        Push::new(self, item).once()
    }

    /// [`push`](Self::push) without an executor: blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), with the datum.
    pub fn push_blocking(&self, item: T) -> Result<(), PushError<T>> {
        Push::new(self, item).blocking()
    }

    /// As [`push_blocking`](Self::push_blocking), for `limit` at most. (With an executor, wrap `&mut push` in its
    /// timeout and take the datum back with [`Push::take_item`].)
    ///
    /// ```
    /// use std::time::Duration;
    /// use corewire::BackpressurePolicy::PauseUpstream;
    /// use corewire::local::{Stream, StreamError};
    ///
    /// let s: Stream<u8> = Stream::new(1, PauseUpstream);
    /// s.push_timeout(1, Duration::ZERO)?;
    /// let refused = s.push_timeout(2, Duration::from_millis(1)).unwrap_err();
    /// assert_eq!((refused.error, refused.item), (StreamError::TimedOut, Some(2)));
    /// # Ok::<(), StreamError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), and [`TimedOut`](StreamError::TimedOut), with the datum.
    pub fn push_timeout(&self, item: T, limit: Duration) -> Result<(), PushError<T>> {
        Push::new(self, item).within(limit)
    }

    /// Takes the oldest datum, and waits for one. `None`: the stream is closed and empty, for ever.
    ///
    /// Cancel-safe: a datum is taken only by the poll that returns it, and a wake-up that a dropped future had passes
    /// on. Datums that do not decode are counted and skipped. Consumers that wait are woken in their order; one that
    /// comes when there is a datum takes it. A `pop` that has been woken and is kept without being polled keeps its
    /// wake-up from the others.
    pub fn pop(&self) -> Pop<'_, T, C> {
        Pop::new(self)
    }

    /// Takes the oldest datum without waiting.
    ///
    /// # Errors
    ///
    /// [`TryPopError`].
    pub fn try_pop(&self) -> Result<T, TryPopError> {
        Pop::new(self).once()
    }

    /// [`pop`](Self::pop) without an executor: blocks the thread while it waits.
    #[must_use = "the datum is taken from the stream"]
    pub fn pop_blocking(&self) -> Option<T> {
        let mut pop = Pop::new(self);
        park::wait(|cx| pop.advance(cx))
    }

    /// As [`pop_blocking`](Self::pop_blocking), for `limit` at most.
    ///
    /// # Errors
    ///
    /// [`PopTimeoutError`].
    pub fn pop_timeout(&self, limit: Duration) -> Result<T, PopTimeoutError> {
        let mut pop = Pop::new(self);
        let popped = match Instant::now().checked_add(limit) {
            Some(deadline) => park::wait_until(deadline, |cx| pop.advance(cx)),
            None => Some(park::wait(|cx| pop.advance(cx))),
        };
        popped.ok_or(PopTimeoutError::Timeout)?.ok_or(PopTimeoutError::Closed)
    }
}

impl<T, C> Clone for Stream<T, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), metrics: Arc::clone(&self.metrics), codec: PhantomData }
    }
}

impl<T, C> fmt::Debug for Stream<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("annotation", self.annotation())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// What [`Stream::close`] gives, so that it can be awaited: it is over already.
#[derive(Clone, Copy, Debug)]
pub struct Closed(());

impl IntoFuture for Closed {
    type Output = ();
    type IntoFuture = Ready<()>;

    fn into_future(self) -> Ready<()> {
        ready(())
    }
}
