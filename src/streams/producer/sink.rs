//! A producer as a `futures::Sink`.
//!
//! A sink is asked for room before it is told what for. So it takes one datum ahead: `poll_ready` waits until the
//! producer is online and the datum taken before is in the ring, `start_send` puts the next one there at once if it
//! can and keeps it otherwise, and `poll_flush` waits for its room, in the order of all who wait.

use core::mem;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::{Arc, PoisonError};

use futures_sink::Sink;

use super::core::{Core, Refusal};
use super::full::Pressed;
use super::outbox::Outbox;
use super::send::{Offline, poll_online};
use super::{Error, Producer};
use crate::datum::{Codec, measure, to_vec};
use crate::streams::board::Waiter;
use crate::streams::policy::BackpressurePolicy;

/// What one handle keeps for its use as a sink.
pub(super) struct Side<D> {
    kept: Kept<D>,
    waiter: Waiter,
    /// This handle was closed as a sink.
    closed: bool,
}

/// A datum that was taken and is not in the ring yet.
enum Kept<D> {
    Nothing,
    /// It waits until the producer is online.
    Offline(D),
    /// It waits for room.
    Queued(D, Arc<Outbox>),
    /// It insists on room, under a policy that drops.
    Pressed(D, Pressed),
}

impl<D> Default for Side<D> {
    fn default() -> Self {
        Self { kept: Kept::Nothing, waiter: Waiter::default(), closed: false }
    }
}

impl<D> Side<D> {
    /// Waits until the kept datum is in the ring.
    fn poll_kept<C: Codec<D>>(&mut self, core: &Core, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>>
    where
        D: 'static,
    {
        loop {
            match mem::replace(&mut self.kept, Kept::Nothing) {
                Kept::Nothing => return Poll::Ready(Ok(())),
                Kept::Offline(datum) => match poll_online(core, Offline::Wait, &mut self.waiter, cx) {
                    Poll::Pending => {
                        self.kept = Kept::Offline(datum);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(refusal)) => return Poll::Ready(Err(core.refuse(datum, refusal))),
                    Poll::Ready(Ok(())) => {
                        self.waiter.withdraw();
                        self.put::<C>(core, datum)?;
                    }
                },
                Kept::Queued(datum, outbox) => match outbox.poll(cx) {
                    Poll::Pending => {
                        self.kept = Kept::Queued(datum, outbox);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(refused)) => return Poll::Ready(Err(core.refuse(datum, refused.into()))),
                },
                Kept::Pressed(datum, mut pressed) => {
                    let put = match measure::<D, C>(&datum) {
                        Ok(len) => core.poll_put_insisting::<D, C>(&datum, len, &mut pressed, cx),
                        Err(error) => Poll::Ready(Err(Refusal::Encoding(error))),
                    };
                    match put {
                        Poll::Pending => {
                            self.kept = Kept::Pressed(datum, pressed);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                        Poll::Ready(Err(refusal)) => return Poll::Ready(Err(core.refuse(datum, refusal))),
                    }
                }
            }
        }
    }

    /// Takes the datum: into the ring if that can be now, else into the keeping of this handle.
    fn start<C: Codec<D>>(&mut self, core: &Core, datum: D) -> Result<(), Error<D>>
    where
        D: 'static,
    {
        if self.closed || core.is_closed() {
            return Err(core.refuse(datum, Refusal::Closed));
        }
        if self.keeps_one() {
            // Only a caller who did not ask `poll_ready` comes here.
            return Err(core.refuse(datum, Refusal::Full));
        }
        if core.common.board.is_online() {
            return self.put::<C>(core, datum);
        }
        self.kept = Kept::Offline(datum);
        Ok(())
    }

    /// Puts the datum into the ring, or queues it for room.
    fn put<C: Codec<D>>(&mut self, core: &Core, datum: D) -> Result<(), Error<D>>
    where
        D: 'static,
    {
        let mut pressed = Pressed::default();
        let refusal = match core.try_put_keeping::<D, C>(&datum, Some(&mut pressed)) {
            Ok(()) => return Ok(()),
            Err(Refusal::Full) if core.common.policy == BackpressurePolicy::PauseUpstream => {
                match to_vec::<D, C>(&datum) {
                    Ok(bytes) => {
                        self.kept = Kept::Queued(
                            datum,
                            Outbox::queue(core.writer.clone(), core.full_notice(), bytes),
                        );
                        return Ok(());
                    }
                    Err(error) => Refusal::Encoding(error),
                }
            }
            Err(Refusal::Full) if core.common.policy.drops() => {
                self.kept = Kept::Pressed(datum, pressed);
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        Err(core.refuse(datum, refusal))
    }

    fn keeps_one(&self) -> bool {
        !matches!(self.kept, Kept::Nothing)
    }

    /// The handle goes. Whether a datum goes with it.
    pub(super) fn abandon(&mut self) -> bool {
        match mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Nothing => false,
            Kept::Offline(_) | Kept::Pressed(..) => true,
            Kept::Queued(_, outbox) => outbox.withdraw(),
        }
    }
}

/// Sending through the `Sink` trait, for code that is generic over sinks and for `SinkExt`'s combinators.
///
/// `producer.send(datum)` names the method of the handle itself, also when `futures::SinkExt` is in scope: it needs
/// no `mut`, and a dropped future withdraws its datum. With `SinkExt::send(&mut producer, datum)` a datum that was
/// taken stays taken when the future is dropped: it enters the ring when there is room, or when this handle is next used
/// as a sink after the producer came online.
///
/// Flushing means that the datum is in the ring; it says nothing about any consumer. Closing flushes and closes this
/// handle as a sink, not the stream.
impl<D: Send + 'static, C: Codec<D>> Sink<D> for Producer<D, C> {
    type Error = Error<D>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        let me = self.get_mut();
        let side = me.side.get_mut().unwrap_or_else(PoisonError::into_inner);
        match side.poll_kept::<C>(&me.core, cx) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        // A closed stream is ready to refuse: `start_send` has a datum to give back, this has none.
        let online = poll_online(&me.core, Offline::Wait, &mut side.waiter, cx).map(|_| Ok(()));
        if online.is_ready() {
            side.waiter.withdraw();
        }
        online
    }

    fn start_send(self: Pin<&mut Self>, datum: D) -> Result<(), Error<D>> {
        let me = self.get_mut();
        me.side.get_mut().unwrap_or_else(PoisonError::into_inner).start::<C>(&me.core, datum)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        let me = self.get_mut();
        me.side.get_mut().unwrap_or_else(PoisonError::into_inner).poll_kept::<C>(&me.core, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        let flushed = self.as_mut().poll_flush(cx);
        if flushed.is_ready() {
            let me = self.get_mut();
            me.side.get_mut().unwrap_or_else(PoisonError::into_inner).closed = true;
        }
        flushed
    }
}
