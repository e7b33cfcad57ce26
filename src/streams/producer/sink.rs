//! A producer as a `futures::Sink`.
//!
//! A sink is asked for room before it is told what for. So it takes one datum ahead: `poll_ready` waits until the
//! producer is online and the datum taken before is in the ring, `start_send` puts the next one there at once if it
//! can and keeps it otherwise, and `poll_flush` waits for its room, in the order of all who wait.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::PoisonError;

use corewire_engine::rings::Turn;
use futures_sink::Sink;

use super::core::{Core, Refusal};
use super::send::{Offline, poll_online, poll_send};
use super::{Error, Producer};
use crate::datum::{Codec, measure};
use crate::streams::board::Waiter;
use crate::streams::policy::OnFull;

/// What one handle keeps for its use as a sink.
pub(super) struct Side<D> {
    /// A datum that was taken and has no room yet, with its encoded length once measured.
    kept: Option<(D, Option<usize>)>,
    waiter: Waiter,
    turn: Turn,
    /// This handle was closed as a sink.
    closed: bool,
}

impl<D> Default for Side<D> {
    fn default() -> Self {
        Self { kept: None, waiter: Waiter::default(), turn: Turn::default(), closed: false }
    }
}

impl<D> Side<D> {
    /// Puts the kept datum into the ring.
    fn poll_kept<C: Codec<D>>(&mut self, core: &Core, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        let Some((datum, len)) = &mut self.kept else { return Poll::Ready(Ok(())) };
        let put = poll_send::<D, C>(core, datum, len, Offline::Wait, &mut self.waiter, &mut self.turn, cx);
        let Poll::Ready(result) = put else { return Poll::Pending };
        self.waiter.withdraw();
        let kept = self.kept.take();
        Poll::Ready(match (result, kept) {
            (Err(refusal), Some((datum, _))) => Err(core.refuse(datum, refusal)),
            _ => Ok(()),
        })
    }

    /// Takes the datum: into the ring if there is room now, else into the keeping of this handle.
    fn start<C: Codec<D>>(&mut self, core: &Core, datum: D) -> Result<(), Error<D>> {
        if self.closed || core.is_closed() {
            return Err(core.refuse(datum, Refusal::Closed));
        }
        if self.kept.is_some() {
            // Only a caller who did not ask `poll_ready` comes here.
            return Err(core.refuse(datum, Refusal::Full));
        }
        if !core.common.board.is_online() {
            self.kept = Some((datum, None));
            return Ok(());
        }
        match core.try_put::<D, C>(&datum) {
            Ok(()) => Ok(()),
            Err(Refusal::Full) if core.common.policy == OnFull::PauseUpstream => {
                let len = measure::<D, C>(&datum).ok();
                self.kept = Some((datum, len));
                Ok(())
            }
            Err(refusal) => Err(core.refuse(datum, refusal)),
        }
    }

    /// The handle goes: whether a datum goes with it.
    pub(super) fn keeps_one(&self) -> bool {
        self.kept.is_some()
    }
}

/// Sending through the `Sink` trait, for code that is generic over sinks and for `SinkExt`'s combinators.
///
/// `producer.send(datum)` names the method of the handle itself, also when `futures::SinkExt` is in scope: it needs
/// no `mut`, and a dropped future withdraws its datum. With `SinkExt::send(&mut producer, datum)` a datum that was
/// taken stays with this handle when the future is dropped, and leaves with the handle's next use as a sink.
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
