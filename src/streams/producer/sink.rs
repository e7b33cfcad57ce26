//! A producer as a `futures::Sink`.
//!
//! `poll_ready` gets no datum, so a sink holds at most one: `start_send` puts it at once or keeps it, and the
//! next `poll_ready`, `poll_flush` or `poll_close` drives it. `Debug` of a [`Producer`] names the state.
//!
//! | state | event | next state | outcome |
//! |---|---|---|---|
//! | Empty | start, offline | Offline | taken |
//! | Empty | start, room | Empty | sent |
//! | Empty | start, full: pause_upstream | Queued | taken |
//! | Empty | start, full: fail | Empty | Full |
//! | Empty | start, full: drop_oldest | Empty | sent |
//! | Empty | start, oldest pinned: drop_oldest | Retrying | taken |
//! | Empty | start, closed | Empty | Closed |
//! | Offline | start | Offline | Full |
//! | Offline | poll, offline | Offline | pending |
//! | Offline | poll, online and room | Empty | sent |
//! | Offline | poll, online and full: pause_upstream | Queued | pending |
//! | Offline | poll, closed | Empty | Closed |
//! | Queued | poll, full | Queued | pending |
//! | Queued | poll, room came | Empty | sent |
//! | Queued | poll, closed | Empty | Closed |
//! | Retrying | poll, oldest pinned | Retrying | pending |
//! | Retrying | poll, unpinned | Empty | sent |
//! | Retrying | poll, retry time over | Empty | Full |

use core::mem;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use corewire_rings::QueuedSend;
use futures_sink::Sink;

use super::put::{RetryState, WaitForRoom};
use super::send::{WhenOffline, poll_online};
use super::shared::{ProducerCore, Refusal};
use super::{Error, Producer};
use crate::datum::Codec;
use crate::streams::status::StatusWaiter;

/// One handle's state as a sink.
pub(super) struct SinkState<D> {
    pending: PendingDatum<D>,
    waiter: StatusWaiter,
    /// This handle was closed as a sink.
    closed: bool,
}

/// The datum that was taken and is not in the ring yet.
enum PendingDatum<D> {
    Empty,
    /// It waits until the producer is online.
    Offline(D),
    /// Its bytes wait in the ring's queue.
    Queued(D, Arc<QueuedSend>),
    /// It is retried for a short time, under a policy that drops.
    Retrying(D, RetryState),
}

impl<D> Default for SinkState<D> {
    fn default() -> Self {
        Self { pending: PendingDatum::Empty, waiter: StatusWaiter::default(), closed: false }
    }
}

impl<D: 'static> SinkState<D> {
    /// Waits until the pending datum is in the ring.
    fn poll_pending<C: Codec<D>>(
        &mut self,
        core: &ProducerCore,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<D>>> {
        loop {
            let (datum, done) = match mem::replace(&mut self.pending, PendingDatum::Empty) {
                PendingDatum::Empty => return Poll::Ready(Ok(())),
                PendingDatum::Offline(datum) => {
                    match poll_online(core, WhenOffline::Wait, &mut self.waiter, cx) {
                        Poll::Pending => {
                            self.pending = PendingDatum::Offline(datum);
                            return Poll::Pending;
                        }
                        Poll::Ready(Err(refusal)) => (datum, Err(refusal)),
                        Poll::Ready(Ok(())) => {
                            self.waiter.withdraw();
                            self.put::<C>(core, datum)?;
                            continue;
                        }
                    }
                }
                PendingDatum::Queued(datum, queued) => match queued.poll(cx) {
                    Poll::Pending => {
                        self.pending = PendingDatum::Queued(datum, queued);
                        return Poll::Pending;
                    }
                    Poll::Ready(result) => (datum, result.map_err(Refusal::from)),
                },
                PendingDatum::Retrying(datum, mut retry) => {
                    match core.poll_put::<D, C>(&datum, &mut retry, cx) {
                        Poll::Pending => {
                            self.pending = PendingDatum::Retrying(datum, retry);
                            return Poll::Pending;
                        }
                        Poll::Ready(result) => (datum, result),
                    }
                }
            };
            return Poll::Ready(match done {
                Ok(()) => {
                    core.sent(datum);
                    Ok(())
                }
                Err(refusal) => Err(core.refuse(datum, refusal)),
            });
        }
    }

    /// Takes the datum: into the ring if that is possible now, else as the pending one.
    fn start<C: Codec<D>>(&mut self, core: &ProducerCore, datum: D) -> Result<(), Error<D>> {
        if self.closed || core.is_closed() {
            return Err(core.refuse(datum, Refusal::Closed));
        }
        if !matches!(self.pending, PendingDatum::Empty) {
            // The caller did not wait for `poll_ready`.
            return Err(core.refuse(datum, Refusal::Full));
        }
        if core.is_online() {
            return self.put::<C>(core, datum);
        }
        self.pending = PendingDatum::Offline(datum);
        Ok(())
    }

    /// Puts the datum, or makes it pending as the policy has it.
    fn put<C: Codec<D>>(&mut self, core: &ProducerCore, datum: D) -> Result<(), Error<D>> {
        debug_assert!(matches!(self.pending, PendingDatum::Empty), "a sink holds one datum at most");
        let mut retry = RetryState::default();
        let refusal = match (core.try_put::<D, C>(&datum, &mut retry), core.wait_for_room()) {
            (Ok(()), _) => {
                core.sent(datum);
                return Ok(());
            }
            (Err(Refusal::Full), WaitForRoom::Brief) => {
                self.pending = PendingDatum::Retrying(datum, retry);
                return Ok(());
            }
            (Err(Refusal::Full), WaitForRoom::Queue) => match core.record::<D, C>(&datum) {
                Ok(bytes) => {
                    self.pending = PendingDatum::Queued(datum, core.queue(bytes));
                    return Ok(());
                }
                Err(error) => error.into(),
            },
            (Err(refusal), _) => refusal,
        };
        Err(core.refuse(datum, refusal))
    }
}

impl<D> SinkState<D> {
    /// The name of the state in the table above.
    pub(super) fn name(&self) -> &'static str {
        match self.pending {
            PendingDatum::Empty => "Empty",
            PendingDatum::Offline(_) => "Offline",
            PendingDatum::Queued(..) => "Queued",
            PendingDatum::Retrying(..) => "Retrying",
        }
    }

    /// Gives the pending datum up with its handle, and counts it as cancelled if that withdraws it. Counts
    /// before the datum is dropped: its destructor may panic.
    pub(super) fn abandon(&mut self, core: &ProducerCore) {
        let pending = mem::replace(&mut self.pending, PendingDatum::Empty);
        let withdrawn = match &pending {
            PendingDatum::Empty => false,
            PendingDatum::Offline(_) | PendingDatum::Retrying(..) => true,
            PendingDatum::Queued(_, queued) => queued.withdraw(),
        };
        if withdrawn {
            core.cancel(1);
        }
    }
}

impl<D, C> Producer<D, C> {
    fn sink_mut(&mut self) -> (&mut SinkState<D>, &ProducerCore) {
        (self.sink.get_mut(), &self.core)
    }
}

/// Sending through the `Sink` trait, for code that is generic over sinks and for `SinkExt`'s combinators.
///
/// `producer.send(datum)` names the method of the handle itself, also when `futures::SinkExt` is in scope: it
/// needs no `mut`, and a dropped future withdraws its datum. With `SinkExt::send(&mut producer, datum)` a
/// datum that was taken stays taken when the future is dropped: it enters the ring when there is room, or
/// when this handle is next used as a sink after the producer came online.
///
/// Flushed means in the ring; it does not mean received. Closing flushes and closes this handle as a sink,
/// not the stream.
///
/// ```
/// # use corewire::{Network, NetworkId};
/// use futures::{SinkExt, StreamExt, stream};
///
/// # corewire::block_on(async {
/// # let network = Network::new(NetworkId::random()).await?;
/// let producer = network.streams().produce::<u64>();
/// let consumer = network.streams().consume::<u64>();
/// producer.when().online().await;
///
/// stream::iter(0..3).map(Ok).forward(producer).await?;
/// assert_eq!(consumer.take(3).collect::<Vec<_>>().await, [0, 1, 2]);
/// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
impl<D: Send + 'static, C: Codec<D>> Sink<D> for Producer<D, C> {
    type Error = Error<D>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        let (sink, core) = self.get_mut().sink_mut();
        match sink.poll_pending::<C>(core, cx) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        // Ready on a closed stream: `start_send` has a datum to give back, `poll_ready` has none.
        let online = poll_online(core, WhenOffline::Wait, &mut sink.waiter, cx).map(|_| Ok(()));
        if online.is_ready() {
            sink.waiter.withdraw();
        }
        online
    }

    fn start_send(self: Pin<&mut Self>, datum: D) -> Result<(), Error<D>> {
        let (sink, core) = self.get_mut().sink_mut();
        sink.start::<C>(core, datum)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        let (sink, core) = self.get_mut().sink_mut();
        sink.poll_pending::<C>(core, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        let (sink, core) = self.get_mut().sink_mut();
        let flushed = sink.poll_pending::<C>(core, cx);
        if flushed.is_ready() {
            sink.closed = true;
        }
        flushed
    }
}
