//! Several datums at a time: one pin of the ring, one return of credit.

use core::fmt;
use core::future::{Future, poll_fn};
use core::ops::Deref;

use super::leg::{Account, Place};
use super::legs::Legs;
use super::{Consumer, TryRecvError};
use crate::datum::{Codec, InPlace, decode};
use crate::id::PeerId;

/// One datum of a batch, where it lies, with its place in the stream.
#[derive(Clone, Copy)]
pub struct Shown<'a, D> {
    datum: &'a D,
    place: Place<'a>,
}

impl<'a, D> Shown<'a, D> {
    /// The datum.
    pub fn get(self) -> &'a D {
        self.datum
    }

    /// The datum's sequence number in its producer's ring.
    pub fn seq(&self) -> u64 {
        self.place.seq
    }

    /// How many datums of the same producer are missing just before this one.
    pub fn skipped_before(&self) -> u64 {
        self.place.skipped_before
    }

    /// Who produced it.
    pub fn producer(&self) -> PeerId {
        *self.place.producer
    }
}

impl<D> Deref for Shown<'_, D> {
    type Target = D;

    fn deref(&self) -> &D {
        self.datum
    }
}

impl<D: fmt::Debug> fmt::Debug for Shown<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.datum.fmt(f)
    }
}

impl<D: Send + 'static, C: Codec<D>> Consumer<D, C> {
    /// Takes up to `max` of the datums that are there and appends them to `into`; gives how many. Each producer is
    /// asked once, so what one has beyond that is for the next call.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`]; then nothing was appended.
    pub fn try_recv_many(&mut self, into: &mut Vec<D>, max: usize) -> Result<usize, TryRecvError> {
        Self::take_many(&mut self.legs, into, max)
    }

    /// Waits for at least one datum and takes up to `max` of those that are there, appended to `into`; gives how many.
    /// 0: the consumer is closed and everything was taken (or `max` is 0).
    ///
    /// # Cancel safety
    ///
    /// Datums are taken in the same step in which the future resolves: dropping it before loses nothing.
    pub fn recv_many<'a>(
        &'a mut self,
        into: &'a mut Vec<D>,
        max: usize,
    ) -> impl Future<Output = usize> + Send + Unpin + use<'a, D, C> {
        poll_fn(move |cx| {
            self.legs.poll(cx, |legs| Self::take_many(legs, into, max)).map(Option::unwrap_or_default)
        })
    }

    fn take_many(legs: &mut Legs, into: &mut Vec<D>, max: usize) -> Result<usize, TryRecvError> {
        let mut keep = |bytes: &[u8]| {
            // Before there is a datum, which would have to be put aside for the call.
            if into.len() == into.capacity() {
                into.reserve(1);
            }
            match decode::<D, C>(bytes) {
                Ok(datum) => {
                    into.push(datum);
                    true
                }
                Err(_) => false,
            }
        };
        legs.batch(max, |leg, totals, max| leg.take_many(totals, max, &mut keep))
    }
}

impl<D: Send + 'static, C: InPlace<D>> Consumer<D, C> {
    /// Shows up to `max` of the datums that are there to `each`, where they lie, and takes them; gives how many. Each
    /// producer is asked once, so what one has beyond that is for the next call.
    ///
    /// The room of the whole batch, and the credit for it, goes back when the last datum was shown: a large `max`
    /// costs the producer room, a small one costs both sides time. If `each` panics, the datums that it has seen are
    /// taken.
    ///
    /// ```
    /// # use corewire::{Consumer, Plain};
    /// # fn example(consumer: &mut Consumer<[u64; 4], Plain>) {
    /// let mut sum = 0;
    /// let taken = consumer.try_recv_batch(64, |datum| sum += datum[0]);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`]; then `each` was not called.
    pub fn try_recv_batch(
        &mut self,
        max: usize,
        mut each: impl FnMut(Shown<'_, D>),
    ) -> Result<usize, TryRecvError> {
        let mut show = |bytes: &[u8], account: Account<'_>| match view::<D, C>(bytes) {
            Some(datum) => {
                let place = account.delivered();
                each(Shown { datum, place });
            }
            None => account.undecodable(),
        };
        self.legs.batch(max, |leg, totals, max| leg.take_each(totals, max, &mut show))
    }
}

/// [`InPlace::view`] with panics contained.
fn view<D, C: InPlace<D>>(bytes: &[u8]) -> Option<&D> {
    crate::contain::contain(|| C::view(bytes).ok()).flatten()
}
