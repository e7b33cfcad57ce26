//! The waiting forms of sending one datum.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use corewire_engine::rings::WaitTicket;

use super::core::{Core, Refusal};
use super::full::Pressed;
use super::{Error, Producer};
use crate::datum::{Codec, measure};
use crate::streams::board::Waiter;

/// Whether a send waits for the producer to be online.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Offline {
    Wait,
    Refuse,
}

/// One datum on its way into the ring; made by [`Producer::send`] and [`Producer::push`].
///
/// Dropping it before it resolves withdraws the datum, which is then gone and counted as cancelled; its place among
/// those who wait for room passes on. What cannot be lost is sent with [`Producer::try_send`], or lives outside of
/// the future until it resolves.
#[must_use = "nothing is sent unless the future is awaited"]
pub struct Sending<'a, D, C> {
    core: &'a Core,
    datum: Option<D>,
    /// The encoded length, once measured.
    len: Option<usize>,
    offline: Offline,
    waiter: Waiter,
    turn: WaitTicket,
    pressed: Pressed,
    codec: PhantomData<fn(C)>,
}

impl<'a, D, C> Sending<'a, D, C> {
    pub(super) fn new(producer: &'a Producer<D, C>, datum: D, offline: Offline) -> Self {
        Self {
            core: &producer.core,
            datum: Some(datum),
            len: None,
            offline,
            waiter: Waiter::default(),
            turn: WaitTicket::default(),
            pressed: Pressed::default(),
            codec: PhantomData,
        }
    }

    /// Gives the datum back instead of sending it, counted as cancelled; `None` if the send has resolved. What was
    /// waited for is given up, and whoever waits behind it moves up.
    ///
    /// This is how a wait gets a limit under any executor without losing the datum: let the executor's own timer race
    /// a borrow of the future.
    ///
    /// ```
    /// # use corewire::Producer;
    /// # use std::time::Duration;
    /// # async fn example(producer: Producer<String>) {
    /// let mut sending = producer.send("an hour old at most".into());
    /// if tokio::time::timeout(Duration::from_secs(3600), &mut sending).await.is_err() {
    ///     let datum = sending.withdraw().expect("it did not resolve");
    ///     println!("nobody wanted {datum}");
    /// }
    /// # }
    /// ```
    pub fn withdraw(mut self) -> Option<D> {
        let datum = self.datum.take()?;
        self.core.cancel();
        Some(datum)
    }
}

impl<D: 'static, C: Codec<D>> Sending<'_, D, C> {
    /// Waits until the producer is online, if asked to, and then for room; puts the datum there.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let datum = self.datum.as_ref().expect("a send was polled after it had resolved");
        match poll_online(self.core, self.offline, &mut self.waiter, cx) {
            Poll::Ready(Ok(())) => {}
            other => {
                // Whoever waits to be online does not hold up those who do not.
                self.turn.cancel();
                return other;
            }
        }
        let len = match self.len {
            Some(len) => len,
            None => match measure::<D, C>(datum) {
                Ok(measured) => *self.len.insert(measured),
                Err(error) => return Poll::Ready(Err(Refusal::Encoding(error))),
            },
        };
        self.core.poll_put::<D, C>(datum, len, &mut self.turn, &mut self.pressed, cx)
    }

    /// The datum is not sent any more: gives it back, counted as refused for the reason that kept it waiting. `None`
    /// if the send has resolved.
    pub(super) fn give_up(mut self) -> Option<Error<D>> {
        let datum = self.datum.take()?;
        let refusal = if self.core.is_closed() {
            Refusal::Closed
        } else if self.core.common.board.is_online() {
            Refusal::Full
        } else {
            Refusal::Offline
        };
        Some(self.core.refuse(datum, refusal))
    }
}

/// Nothing in it is ever pinned: the datum is only moved in and out.
impl<D, C> Unpin for Sending<'_, D, C> {}

impl<D: 'static, C: Codec<D>> Future for Sending<'_, D, C> {
    type Output = Result<(), Error<D>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let Poll::Ready(result) = me.poll_sent(cx) else { return Poll::Pending };
        // The future may be kept although it has resolved; nobody shall wait behind it.
        me.waiter.withdraw();
        me.turn.cancel();
        let datum = me.datum.take();
        Poll::Ready(match (result, datum) {
            (Err(refusal), Some(datum)) => Err(me.core.refuse(datum, refusal)),
            _ => Ok(()),
        })
    }
}

/// Ready once `core` is online, or will never be again.
pub(super) fn poll_online(
    core: &Core,
    offline: Offline,
    waiter: &mut Waiter,
    cx: &Context<'_>,
) -> Poll<Result<(), Refusal>> {
    if core.common.board.is_online() {
        return Poll::Ready(Ok(()));
    }
    if core.is_closed() {
        return Poll::Ready(Err(Refusal::Closed));
    }
    if offline == Offline::Refuse {
        return Poll::Ready(Err(Refusal::Offline));
    }
    waiter.register(&core.common.board, cx);
    if core.common.board.is_online() {
        return Poll::Ready(Ok(()));
    }
    if core.is_closed() { Poll::Ready(Err(Refusal::Closed)) } else { Poll::Pending }
}

impl<D, C> Drop for Sending<'_, D, C> {
    fn drop(&mut self) {
        if self.datum.is_some() {
            self.core.cancel();
        }
    }
}

impl<D, C> fmt::Debug for Sending<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("stream_id", &self.core.common.stream_id).finish_non_exhaustive()
    }
}
