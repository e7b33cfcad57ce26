//! Waiting for a datum.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::datum::{Codec, decode};
use crate::local::core::Took;
use crate::local::error::TryPopError;
use crate::local::line::Ticket;
use crate::local::stream::Stream;
use crate::scratch::with_scratch;

/// The next datum, when there is one; made by [`Stream::pop`].
#[must_use = "nothing is taken unless the future is awaited"]
pub struct Pop<'a, T, C> {
    stream: &'a Stream<T, C>,
    place: Option<Ticket>,
}

impl<T, C> Unpin for Pop<'_, T, C> {}

impl<'a, T, C: Codec<T>> Pop<'a, T, C> {
    pub(super) fn new(stream: &'a Stream<T, C>) -> Self {
        Self { stream, place: None }
    }

    /// Takes what is there.
    pub(super) fn once(mut self) -> Result<T, TryPopError> {
        loop {
            let took = with_scratch(|bytes| {
                let took = self.stream.core().take(&mut self.place, bytes);
                (took, self.stream.open(took, bytes))
            });
            match took {
                (_, Some(item)) => return Ok(item),
                (Took::Datum, None) => {}
                (Took::Nothing, None) => return Err(TryPopError::Empty),
                (Took::Ended, None) => return Err(TryPopError::Closed),
            }
        }
    }

    pub(super) fn advance(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        loop {
            let took = with_scratch(|bytes| {
                let took = self.stream.core().poll_take(&mut self.place, bytes, cx);
                took.map(|took| (took, self.stream.open(took, bytes)))
            });
            match took {
                Poll::Pending => return Poll::Pending,
                Poll::Ready((Took::Datum, None)) => {} // It did not decode.
                Poll::Ready((_, item)) => return Poll::Ready(item),
            }
        }
    }
}

impl<T, C: Codec<T>> Stream<T, C> {
    /// Decodes what was taken. Nothing is locked here: this is user code.
    fn open(&self, took: Took, bytes: &[u8]) -> Option<T> {
        if took != Took::Datum {
            return None;
        }
        let metrics = &self.core().metrics;
        match decode::<T, C>(bytes) {
            Ok(item) => {
                metrics.delivered.add_one();
                Some(item)
            }
            Err(error) => {
                if error.is_panic() {
                    metrics.decode_panics.add_one();
                }
                metrics.undecodable.add_one();
                None
            }
        }
    }
}

impl<T, C: Codec<T>> Future for Pop<'_, T, C> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.advance(cx)
    }
}

impl<T, C> Drop for Pop<'_, T, C> {
    fn drop(&mut self) {
        self.stream.core().stop_taking(&mut self.place);
    }
}

impl<T, C> fmt::Debug for Pop<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pop").field("waiting", &self.place.is_some()).finish_non_exhaustive()
    }
}
