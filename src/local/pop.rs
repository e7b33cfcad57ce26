//! Waiting for a datum.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use corewire_rings::QueueTicket;

use crate::local::buffer::Take;
use crate::local::stream::Stream;

/// The next datum, once there is one; made by [`Stream::pop`].
#[must_use = "nothing is taken unless the future is awaited"]
pub struct Pop<'a, T> {
    stream: &'a Stream<T>,
    /// Its place among the pops that wait.
    place: Option<QueueTicket>,
}

impl<'a, T> Pop<'a, T> {
    pub(super) fn new(stream: &'a Stream<T>) -> Self {
        Self { stream, place: None }
    }

    pub(super) fn advance(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        match self.stream.buffer().take(&mut self.place, Some(cx)) {
            Take::Item(item) => Poll::Ready(Some(item)),
            Take::Ended => Poll::Ready(None),
            Take::Empty => Poll::Pending,
        }
    }
}

impl<T> Future for Pop<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.advance(cx)
    }
}

impl<T> Drop for Pop<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.place.take() {
            self.stream.buffer().cancel_take(ticket);
        }
    }
}

impl<T> fmt::Debug for Pop<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pop").field("waiting", &self.place.is_some()).finish_non_exhaustive()
    }
}
