//! One datum on its way into the buffer.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::time::{Duration, Instant};

use corewire_engine::rings::{ClaimError, park};

use crate::contain::contain;
use crate::datum::{Codec, decode, encode, measure};
use crate::local::error::{PushError, StreamError};
use crate::local::line::Ticket;
use crate::local::stream::Stream;
use crate::scratch::with_scratch;
use crate::streams::BackpressurePolicy;

/// A datum on its way into the buffer; made by [`Stream::push`].
///
/// The datum stays in here until it is accepted: [`take_item`](Self::take_item) gives it back after a refusal, or
/// while it waits. Dropped while it waits, the datum is gone and counted as cancelled. Either way its place among
/// those who wait passes on, and no wake-up is lost.
///
/// A push that has been woken and is kept without being polled holds up the pushes behind it.
#[must_use = "nothing is pushed unless the future is awaited"]
pub struct Push<'a, T, C> {
    stream: &'a Stream<T, C>,
    item: Option<T>,
    /// The item is the degrader's result.
    degraded: bool,
    place: Option<Ticket>,
}

/// Nothing in it is ever pinned: the datum is only moved in and out.
impl<T, C> Unpin for Push<'_, T, C> {}

impl<T, C> Push<'_, T, C> {
    /// Gives up waiting. The datum stays.
    fn withdraw(&mut self) {
        if self.place.is_some() {
            self.stream.core().stop_putting(&mut self.place);
            self.stream.core().metrics.cancelled.add_one();
        }
    }
}

impl<'a, T: Send + 'static, C: Codec<T>> Push<'a, T, C> {
    pub(super) fn new(stream: &'a Stream<T, C>, item: T) -> Self {
        Self { stream, item: Some(item), degraded: false, place: None }
    }

    /// Takes the datum back: after a refusal, or instead of waiting on, which counts as cancelled. `None` once the
    /// datum is in the buffer or was taken back. If the degrader has run, this is its result.
    pub fn take_item(&mut self) -> Option<T> {
        self.withdraw();
        self.item.take()
    }

    /// Tries once and does not wait.
    pub(super) fn once(mut self) -> Result<(), PushError<T>> {
        match self.advance(None) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => Err(PushError { error, item: self.item.take() }),
            Poll::Pending => unreachable!("without a context nothing waits"),
        }
    }

    /// Waits without an executor.
    pub(super) fn blocking(mut self) -> Result<(), PushError<T>> {
        let result = park::wait(|cx| self.advance(Some(cx)));
        result.map_err(|error| PushError { error, item: self.item.take() })
    }

    /// Waits without an executor, and not for ever.
    pub(super) fn within(mut self, limit: Duration) -> Result<(), PushError<T>> {
        let Some(deadline) = Instant::now().checked_add(limit) else { return self.blocking() };
        let result = park::wait_until(deadline, |cx| self.advance(Some(cx))).unwrap_or_else(|| {
            self.stream.core().stop_putting(&mut self.place);
            Err(self.refuse(StreamError::TimedOut))
        });
        result.map_err(|error| PushError { error, item: self.item.take() })
    }

    /// Offers the datum. With a context it waits where the policy says so.
    fn advance(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<(), StreamError>> {
        if let Some(cx) = &cx
            && self.stream.core().must_wait(&mut self.place, cx)
        {
            return Poll::Pending;
        }
        let put = with_scratch(|scratch| self.put(scratch, cx.as_deref()));
        match put {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                if self.degraded {
                    self.stream.core().metrics.degraded.add_one();
                }
                drop(self.item.take());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.stream.core().stop_putting(&mut self.place);
                Poll::Ready(Err(self.refuse(error)))
            }
        }
    }

    /// Counts a refusal.
    #[cold]
    fn refuse(&self, error: StreamError) -> StreamError {
        self.stream.core().metrics.refused(&error);
        error
    }

    /// What the policy says.
    fn put(&mut self, scratch: &mut Vec<u8>, cx: Option<&Context<'_>>) -> Poll<Result<(), StreamError>> {
        let core = self.stream.core();
        if let Err(error) = self.encode(scratch) {
            return Poll::Ready(Err(error));
        }
        let put = match self.stream.policy() {
            BackpressurePolicy::Fail => Poll::Ready(core.put(scratch)),
            BackpressurePolicy::PauseUpstream => match cx {
                Some(cx) => core.poll_put(scratch, &mut self.place, cx),
                None => Poll::Ready(core.put(scratch)),
            },
            BackpressurePolicy::DropOldest => self.put_dropping(scratch, cx),
            BackpressurePolicy::DegradeQuality if self.degraded => self.put_dropping(scratch, cx),
            BackpressurePolicy::DegradeQuality => match core.put(scratch) {
                Err(ClaimError::Full) => {
                    // Nothing is locked or claimed here: this is user code.
                    if let Err(error) = self.degrade(scratch).and_then(|()| self.encode(scratch)) {
                        return Poll::Ready(Err(error));
                    }
                    self.put_dropping(scratch, cx)
                }
                done => Poll::Ready(done),
            },
        };
        put.map(|put| put.map_err(|refused| self.stream.error_of(refused)))
    }

    fn put_dropping(&mut self, bytes: &[u8], cx: Option<&Context<'_>>) -> Poll<Result<(), ClaimError>> {
        match cx {
            Some(cx) => self.stream.core().poll_put(bytes, &mut self.place, cx),
            None => Poll::Ready(self.stream.core().put_dropping(bytes)),
        }
    }

    /// Encodes the datum into `out`.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        let item = self.item.as_ref().expect("a push was polled after it had resolved");
        let len = measure::<T, C>(item).map_err(StreamError::Encoding)?;
        let limit = self.stream.max_datum_bytes();
        if len > limit {
            return Err(StreamError::TooLarge { len, limit });
        }
        out.resize(len, 0);
        encode::<T, C>(item, out).map_err(StreamError::Encoding)
    }

    /// Replaces the datum by its degraded form. `encoded` is the datum as it was, from which it is restored if the
    /// degrader panics with it.
    #[cold]
    fn degrade(&mut self, encoded: &[u8]) -> Result<(), StreamError> {
        let degrader = self.stream.degrader().ok_or(StreamError::MissingDegrader)?;
        let item = self.item.take().expect("it was encoded just now");
        match contain(|| degrader(item)) {
            Some(degraded) => {
                self.item = Some(degraded);
                self.degraded = true;
                Ok(())
            }
            None => {
                self.stream.core().metrics.degrader_panics.add_one();
                self.item = decode::<T, C>(encoded).ok();
                Err(StreamError::DegraderPanicked)
            }
        }
    }
}

impl<T: Send + 'static, C: Codec<T>> Future for Push<'_, T, C> {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(Some(cx))
    }
}

impl<T, C> Drop for Push<'_, T, C> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<T, C> fmt::Debug for Push<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("waiting", &self.place.is_some()).finish_non_exhaustive()
    }
}
