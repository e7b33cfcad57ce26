//! One datum on its way into the buffer.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::time::{Duration, Instant};

use corewire_rings::QueueTicket;

use crate::blocking::{wait, wait_until};
use crate::contain::contain;
use crate::local::buffer::{Put, WhenFull};
use crate::local::error::{PushError, StreamError};
use crate::local::stream::Stream;
use crate::policy::BackpressurePolicy;

/// A datum on its way into the buffer; made by [`Stream::push`].
///
/// It holds the datum until the buffer accepts it: [`take_item`](Self::take_item) gives it back after a
/// refusal, or while it waits. Dropped while it waits, the datum is dropped and counted as cancelled. In both
/// cases its place passes to the next push, and no wake-up is lost.
///
/// A push that has been woken and is kept without being polled holds up the pushes behind it.
#[must_use = "nothing is pushed unless the future is awaited"]
pub struct Push<'a, T> {
    stream: &'a Stream<T>,
    /// `None` once it is in the buffer or was taken back.
    item: Option<T>,
    /// Its place among the pushes that wait.
    place: Option<QueueTicket>,
}

/// The datum is only moved in and out, never pinned.
impl<T> Unpin for Push<'_, T> {}

impl<'a, T> Push<'a, T> {
    pub(super) fn new(stream: &'a Stream<T>, item: T) -> Self {
        Self { stream, item: Some(item), place: None }
    }

    /// Takes the datum back: after a refusal, or instead of waiting on, which counts as cancelled. `None`
    /// once the datum is in the buffer or was taken back.
    pub fn take_item(&mut self) -> Option<T> {
        self.withdraw();
        self.item.take()
    }

    /// Stops waiting. The datum stays.
    fn withdraw(&mut self) {
        if let Some(ticket) = self.place.take() {
            self.stream.buffer().cancel_put(ticket);
            self.stream.metrics.lock().cancelled += 1;
        }
    }

    /// Tries once and does not wait.
    pub(super) fn once(mut self) -> Result<(), PushError<T>> {
        let Poll::Ready(result) = self.advance(None) else {
            unreachable!("without a context a push does not wait");
        };
        self.with_item(result)
    }

    /// Waits without an executor.
    pub(super) fn blocking(mut self) -> Result<(), PushError<T>> {
        let result = wait(|cx| self.advance(Some(cx)));
        self.with_item(result)
    }

    /// Waits without an executor, for `limit` at most.
    pub(super) fn within(mut self, limit: Duration) -> Result<(), PushError<T>> {
        let Some(deadline) = Instant::now().checked_add(limit) else { return self.blocking() };
        let result = wait_until(deadline, |cx| self.advance(Some(cx))).unwrap_or_else(|| {
            if let Some(ticket) = self.place.take() {
                self.stream.buffer().cancel_put(ticket);
            }
            Err(self.refuse(StreamError::TimedOut))
        });
        self.with_item(result)
    }

    fn with_item(mut self, result: Result<(), StreamError>) -> Result<(), PushError<T>> {
        let item = self.item.take();
        result.map_err(|error| PushError { error, item: item.expect("a refused push has its datum") })
    }

    /// Offers the datum. With a context it waits where the policy does.
    fn advance(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<(), StreamError>> {
        assert!(self.item.is_some(), "a push was polled after it had resolved");
        let (policy, buffer) = (self.stream.policy(), self.stream.buffer());
        let put = match policy {
            BackpressurePolicy::PauseUpstream => {
                let waits = cx.is_some();
                match buffer.put(&mut self.item, &mut self.place, cx.as_deref()) {
                    Put::Full if waits => return Poll::Pending,
                    put => put,
                }
            }
            BackpressurePolicy::Fail => buffer.try_put(&mut self.item, WhenFull::Refuse),
            BackpressurePolicy::DropOldest => buffer.try_put(&mut self.item, WhenFull::DropOldest),
            BackpressurePolicy::DegradeQuality => match buffer.try_put(&mut self.item, WhenFull::Refuse) {
                Put::Full => match self.put_degraded() {
                    Ok(put) => put,
                    Err(error) => return Poll::Ready(Err(self.refuse(error))),
                },
                put => put,
            },
        };
        Poll::Ready(match put {
            Put::Done => Ok(()),
            Put::Closed => Err(self.refuse(StreamError::Cancelled)),
            Put::Full if policy == BackpressurePolicy::Fail => {
                Err(self.refuse(StreamError::Overflow { policy, buffer_capacity: buffer.capacity() }))
            }
            Put::Full | Put::Crowded => Err(self.refuse(StreamError::Backpressure)),
        })
    }

    /// Puts the degraded datum in; the datum as it is, if the degrader panics.
    #[cold]
    fn put_degraded(&mut self) -> Result<Put, StreamError> {
        let metrics = &self.stream.metrics;
        let degrader = self.stream.degrader().ok_or(StreamError::MissingDegrader)?;
        let cheaper = self.item.as_ref().and_then(|item| contain(|| degrader(item)));
        let degraded = cheaper.is_some();
        if degraded {
            let original = std::mem::replace(&mut self.item, cheaper);
            contain(|| drop(original));
        } else {
            metrics.lock().degrader_panics += 1;
        }
        let put = self.stream.buffer().try_put(&mut self.item, WhenFull::DropOldest);
        if degraded && put == Put::Done {
            metrics.lock().degrade_quality_hits += 1;
        }
        Ok(put)
    }

    /// Counts a refusal.
    #[cold]
    fn refuse(&self, error: StreamError) -> StreamError {
        self.stream.metrics.refused(&error);
        error
    }
}

impl<T> Future for Push<'_, T> {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(Some(cx))
    }
}

impl<T> Drop for Push<'_, T> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<T> fmt::Debug for Push<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("waiting", &self.place.is_some()).finish_non_exhaustive()
    }
}
