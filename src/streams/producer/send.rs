//! The future of sending one datum.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::put::RetryState;
use super::shared::{ProducerCore, Refusal};
use super::{Error, Producer};
use crate::datum::Codec;
use crate::streams::status::StatusWaiter;

/// What a send does while the producer is offline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenOffline {
    Wait,
    Refuse,
}

/// One datum on its way into the ring; made by [`Producer::send`] and [`Producer::push`].
///
/// Dropped before it resolves, it withdraws the datum, which is dropped with it and counted as cancelled; the
/// sends that wait behind it move up. [`withdraw`](Self::withdraw) gives the datum back instead.
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is sent unless the future is awaited"]
pub struct Sending<'a, D, C> {
    core: &'a ProducerCore,
    /// `None` once resolved.
    datum: Option<D>,
    offline: WhenOffline,
    waiter: StatusWaiter,
    retry: RetryState,
    codec: PhantomData<fn(C)>,
}

impl<'a, D, C> Sending<'a, D, C> {
    pub(super) fn new(producer: &'a Producer<D, C>, datum: D, offline: WhenOffline) -> Self {
        Self {
            core: &producer.core,
            datum: Some(datum),
            offline,
            waiter: StatusWaiter::default(),
            retry: RetryState::default(),
            codec: PhantomData,
        }
    }

    /// Takes the datum back, counted as cancelled. `None`: the send has resolved.
    ///
    /// With an executor's timer and a borrow of the future this limits a wait without losing the datum.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().produce::<String>();
    /// let mut sending = producer.send("no consumer is connected".into());
    /// assert!(tokio::time::timeout(Duration::from_millis(1), &mut sending).await.is_err());
    /// assert_eq!(sending.withdraw(), Some("no consumer is connected".into()));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn withdraw(mut self) -> Option<D> {
        let datum = self.datum.take()?;
        self.core.cancel(1);
        Some(datum)
    }
}

impl<D: 'static, C: Codec<D>> Sending<'_, D, C> {
    /// Waits until the producer is online, if it may, and then puts the datum.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let datum = self.datum.as_ref().expect("a send was polled after it had resolved");
        match poll_online(self.core, self.offline, &mut self.waiter, cx) {
            Poll::Ready(Ok(())) => self.core.poll_put::<D, C>(datum, &mut self.retry, cx),
            other => {
                // A send that waits to be online does not stop the writers that wait for room.
                self.retry.leave_queue();
                other
            }
        }
    }

    /// Ends the wait: the datum comes back, counted as refused for what kept it waiting. `None`: the send has
    /// resolved.
    pub(super) fn give_up(mut self) -> Option<Error<D>> {
        let datum = self.datum.take()?;
        let refusal = if self.core.is_online() && !self.core.is_closed() {
            Refusal::Full
        } else {
            self.core.offline_refusal()
        };
        Some(self.core.refuse(datum, refusal))
    }
}

/// No field is pinned: the datum is only moved in and out.
impl<D, C> Unpin for Sending<'_, D, C> {}

impl<D: 'static, C: Codec<D>> Future for Sending<'_, D, C> {
    type Output = Result<(), Error<D>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let Poll::Ready(result) = me.poll_sent(cx) else { return Poll::Pending };
        // The caller may keep a resolved future; it keeps no place in any queue.
        me.waiter.withdraw();
        me.retry.leave_queue();
        let datum = me.datum.take();
        Poll::Ready(match (result, datum) {
            (Err(refusal), Some(datum)) => Err(me.core.refuse(datum, refusal)),
            (Ok(()), Some(datum)) => {
                me.core.sent(datum);
                Ok(())
            }
            _ => Ok(()),
        })
    }
}

/// Ready once the producer is online, or refused: closed, or offline and not to wait.
pub(super) fn poll_online(
    core: &ProducerCore,
    offline: WhenOffline,
    waiter: &mut StatusWaiter,
    cx: &Context<'_>,
) -> Poll<Result<(), Refusal>> {
    if core.is_online() {
        return Poll::Ready(Ok(()));
    }
    if offline == WhenOffline::Refuse || core.is_closed() {
        return Poll::Ready(Err(core.offline_refusal()));
    }
    // Registered before it looks again: a change in between wakes the task.
    waiter.register(&core.shared.status, cx);
    if core.is_online() {
        return Poll::Ready(Ok(()));
    }
    if core.is_closed() { Poll::Ready(Err(Refusal::Closed)) } else { Poll::Pending }
}

impl<D, C> Drop for Sending<'_, D, C> {
    fn drop(&mut self) {
        if self.datum.is_some() {
            self.core.cancel(1);
        }
    }
}

impl<D, C> fmt::Debug for Sending<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("stream_id", &self.core.shared.stream_id).finish_non_exhaustive()
    }
}
