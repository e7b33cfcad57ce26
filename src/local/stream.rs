//! The handle of a stream.

use core::fmt;
use core::future::{IntoFuture, Ready, ready};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blocking::{wait, wait_until};
use crate::local::buffer::{Buffer, Take};
use crate::local::error::{BuildError, PopTimeoutError, PushError, TryPopError};
use crate::local::metrics::{StreamMetrics, StreamMetricsSnapshot};
use crate::local::pop::Pop;
use crate::local::push::Push;
use crate::policy::{BackpressureAnnotation, BackpressurePolicy, MAX_BUFFER_SIZE};

/// Makes a datum cheaper when the buffer is full under
/// [`DegradeQuality`](crate::BackpressurePolicy::DegradeQuality), as the degrader of a
/// [producer](crate::streams::producer::Builder::degrader) does. It runs on the thread that pushes, outside
/// of any lock. If it panics, the datum goes in unchanged and the panic is counted: for that it takes the
/// datum by reference, where axon's takes it by value.
pub type DegradationFn<T> = Arc<dyn Fn(&T) -> T + Send + Sync>;

/// A bounded stream inside one process, with a policy for when it is full. Cheap to clone; every handle can
/// push, pop and close.
///
/// Consumers compete: each datum goes to exactly one of them, oldest first. Any type can be a datum: the
/// stream holds the values themselves. Dropping the last handle drops the datums that are left; dropping
/// others does not close the stream, because each handle is both a producer's and a consumer's.
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
pub struct Stream<T> {
    parts: Arc<StreamParts<T>>,
    /// The counters; [`metrics`](Self::metrics) gives a snapshot of them.
    pub metrics: Arc<StreamMetrics>,
}

/// What all handles share.
struct StreamParts<T> {
    buffer: Buffer<T>,
    annotation: BackpressureAnnotation,
    degrader: Option<DegradationFn<T>>,
}

impl<T: Send + 'static> Stream<T> {
    /// A stream of `capacity` datums. For `DegradeQuality` use [`with_degrader`](Self::with_degrader);
    /// without a degrader such a stream works until it is full.
    ///
    /// # Panics
    ///
    /// Where [`try_new`](Self::try_new) gives an error.
    #[must_use]
    #[track_caller]
    pub fn new(capacity: usize, annotation: impl Into<BackpressureAnnotation>) -> Self {
        built(Self::try_new(Some(capacity), annotation, None))
    }

    /// A stream of `capacity` datums with a degrader. Policies other than `DegradeQuality` do not use it.
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
    /// Where [`try_new`](Self::try_new) gives an error.
    #[must_use]
    #[track_caller]
    pub fn with_degrader(
        capacity: usize,
        annotation: impl Into<BackpressureAnnotation>,
        degrader: DegradationFn<T>,
    ) -> Self {
        built(Self::try_new(Some(capacity), annotation, Some(degrader)))
    }

    /// A stream with the capacity that the annotation gives as `buffer_size`.
    ///
    /// ```
    /// use corewire::local::{BuildError, Stream, parse_backpressure_annotation};
    ///
    /// let s: Stream<u64> = Stream::from_annotation(parse_backpressure_annotation("fail, buffer_size=16")?)?;
    /// assert_eq!(s.capacity(), 16);
    /// let none: Result<Stream<u64>, _> = Stream::from_annotation(corewire::BackpressurePolicy::Fail);
    /// assert_eq!(none.err(), Some(BuildError::NoCapacity));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new).
    pub fn from_annotation(annotation: impl Into<BackpressureAnnotation>) -> Result<Self, BuildError> {
        Self::try_new(None, annotation, None)
    }

    /// A stream of `capacity` datums, from 1 to 8,388,608; `None`: of as many as the annotation's
    /// `buffer_size`. The memory for them is taken now.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn try_new(
        capacity: Option<usize>,
        annotation: impl Into<BackpressureAnnotation>,
        degrader: Option<DegradationFn<T>>,
    ) -> Result<Self, BuildError> {
        let annotation = annotation.into();
        let capacity = match (capacity, annotation.buffer_size()) {
            (Some(capacity), Some(size)) if capacity != size.get() => {
                return Err(BuildError::CapacityConflict { capacity, buffer_size: size.get() });
            }
            (Some(capacity), _) => capacity,
            (None, Some(size)) => size.get(),
            (None, None) => return Err(BuildError::NoCapacity),
        };
        if !(1..=MAX_BUFFER_SIZE).contains(&capacity) {
            return Err(BuildError::BadCapacity(capacity));
        }
        let mut items = VecDeque::new();
        items.try_reserve_exact(capacity).map_err(|_| BuildError::NoMemory(capacity))?;
        let metrics = Arc::new(StreamMetrics::default());
        let buffer = Buffer::new(items, capacity, Arc::clone(&metrics));
        Ok(Self { parts: Arc::new(StreamParts { buffer, annotation, degrader }), metrics })
    }
}

#[track_caller]
fn built<S>(built: Result<S, BuildError>) -> S {
    built.unwrap_or_else(|error| panic!("{error}"))
}

impl<T> Stream<T> {
    pub(super) fn buffer(&self) -> &Buffer<T> {
        &self.parts.buffer
    }

    pub(super) fn degrader(&self) -> Option<&DegradationFn<T>> {
        self.parts.degrader.as_ref()
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> BackpressurePolicy {
        self.parts.annotation.policy()
    }

    /// The annotation that the stream was built with.
    #[must_use]
    pub fn annotation(&self) -> &BackpressureAnnotation {
        &self.parts.annotation
    }

    /// How many datums the stream holds, exactly.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer().capacity()
    }

    /// Datums in the buffer. A snapshot: for dashboards, not for decisions.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.metrics.lock().depth as usize
    }

    /// The counters now.
    #[must_use]
    pub fn metrics(&self) -> StreamMetricsSnapshot {
        self.metrics.snapshot()
    }

    /// Whether the stream was closed. There may still be datums to pop.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.buffer().is_closed()
    }

    /// Ends the stream, at once and for all handles. Datums in the buffer can still be popped; after them
    /// `pop` gives `None`. Pushes, also those that wait, are refused with
    /// [`Cancelled`](super::StreamError::Cancelled). Idempotent.
    ///
    /// The stream is closed when the call returns. Awaiting the result, as in `close().await`, is allowed and
    /// does nothing more.
    pub fn close(&self) -> CloseDone {
        self.buffer().close();
        CloseDone(())
    }

    /// Pushes a datum under the stream's policy. Only `PauseUpstream` waits for room, in order of arrival;
    /// under the other policies the future resolves at its first poll.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, the datum is not pushed, and counted as cancelled. A refusal leaves the datum
    /// in the future:
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
    /// # Errors
    ///
    /// `Overflow` under `Fail`; `MissingDegrader` under `DegradeQuality`, when the buffer is full;
    /// `Backpressure` under `PauseUpstream`, when 1,024 pushes wait already; `Cancelled` under every policy.
    pub fn push(&self, item: T) -> Push<'_, T> {
        Push::new(self, item)
    }

    /// Pushes a datum without waiting. Under `PauseUpstream` a full buffer, or a push that waits, is
    /// `Backpressure`.
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

    /// As [`push_blocking`](Self::push_blocking), for `limit` at most. (With an executor, wrap `&mut push` in
    /// its timeout and take the datum back with [`Push::take_item`].)
    ///
    /// ```
    /// use std::time::Duration;
    /// use corewire::BackpressurePolicy::PauseUpstream;
    /// use corewire::local::{Stream, StreamError};
    ///
    /// let s: Stream<u8> = Stream::new(1, PauseUpstream);
    /// s.push_timeout(1, Duration::ZERO)?;
    /// let refused = s.push_timeout(2, Duration::from_millis(1)).unwrap_err();
    /// assert_eq!((refused.error, refused.item), (StreamError::TimedOut, 2));
    /// # Ok::<(), StreamError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), and [`TimedOut`](super::StreamError::TimedOut), with the datum.
    pub fn push_timeout(&self, item: T, limit: Duration) -> Result<(), PushError<T>> {
        Push::new(self, item).within(limit)
    }

    /// Takes the oldest datum, and waits for one. `None`: the stream is closed and empty, and stays so.
    ///
    /// # Cancel safety
    ///
    /// A datum is taken only by the poll that returns it, and an unused wake-up passes to the next pop that
    /// waits. Pops that wait are woken in their order; a newcomer may take the datum before the woken one
    /// does. A pop that has been woken and is kept without being polled keeps its wake-up from the others.
    pub fn pop(&self) -> Pop<'_, T> {
        Pop::new(self)
    }

    /// Takes the oldest datum without waiting.
    ///
    /// # Errors
    ///
    /// [`TryPopError`].
    pub fn try_pop(&self) -> Result<T, TryPopError> {
        match self.buffer().take(&mut None, None) {
            Take::Item(item) => Ok(item),
            Take::Empty => Err(TryPopError::Empty),
            Take::Ended => Err(TryPopError::Closed),
        }
    }

    /// [`pop`](Self::pop) without an executor: blocks the thread while it waits.
    #[must_use = "the datum is taken from the stream"]
    pub fn pop_blocking(&self) -> Option<T> {
        let mut pop = Pop::new(self);
        wait(|cx| pop.advance(cx))
    }

    /// As [`pop_blocking`](Self::pop_blocking), for `limit` at most.
    ///
    /// # Errors
    ///
    /// [`PopTimeoutError`].
    pub fn pop_timeout(&self, limit: Duration) -> Result<T, PopTimeoutError> {
        let mut pop = Pop::new(self);
        let popped = match Instant::now().checked_add(limit) {
            Some(deadline) => wait_until(deadline, |cx| pop.advance(cx)),
            None => Some(wait(|cx| pop.advance(cx))),
        };
        popped.ok_or(PopTimeoutError::Timeout)?.ok_or(PopTimeoutError::Closed)
    }
}

impl<T> Clone for Stream<T> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts), metrics: Arc::clone(&self.metrics) }
    }
}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("annotation", self.annotation())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// The result of [`Stream::close`]. It can be awaited, and is ready.
#[derive(Clone, Copy, Debug)]
pub struct CloseDone(());

impl IntoFuture for CloseDone {
    type Output = ();
    type IntoFuture = Ready<()>;

    fn into_future(self) -> Ready<()> {
        ready(())
    }
}
