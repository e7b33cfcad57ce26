//! Claims that wait for room, first come first served. A ring for which no writer waits never takes the
//! queue's lock.

use crate::bugs::mutate;
use crate::claim::RecordClaim;
use crate::error::ClaimError;
use crate::gate::Retry;
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::tail::Reservation;
use crate::units::Units;
use crate::wait_queue::QueueTicket;
use crate::writer::Writer;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

impl RingShared {
    /// Joins the queue. `None`: it is full. Otherwise the ticket and whether it is first.
    fn join_room_queue(&self, waker: &Waker) -> Option<(QueueTicket, bool)> {
        let waker = waker.clone();
        let mut queue = self.room_queue.lock();
        let joined = queue.join(waker);
        // Release: `notify_published` loads this, then `live`.
        self.signals.waiters.store(queue.len() as u64, Ordering::Release);
        let first = joined.as_ref().is_ok_and(|ticket| queue.is_first(ticket));
        drop(queue);
        joined.ok().map(|ticket| (ticket, first))
    }

    /// Keeps the place, with a new waker. Gives whether it is first.
    fn renew_room_ticket(&self, ticket: &QueueTicket, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut queue = self.room_queue.lock();
        let old = queue.renew(ticket, waker);
        let first = queue.is_first(ticket);
        drop(queue);
        drop(old);
        first
    }

    /// Claims for the first of the queue. [`ClaimError::Full`]: it may sleep.
    fn reserve_first(&self, units: u64, cx: &Context<'_>) -> Result<Reservation, ClaimError> {
        let reserved = self.reserve(1, units, Retry::OnceAfterPause);
        if reserved.as_ref().err() != Some(&ClaimError::Full)
            || self.signals.live.load(Ordering::Acquire) != 0
        {
            return reserved;
        }
        // The last reader has left since we queued. From then on publication makes the room, but a publisher
        // that still saw a reader has woken no writer: try once more, after a barrier that makes its record
        // visible, or `live`.
        if !self.fences.heavy() {
            cx.waker().wake_by_ref();
            return reserved;
        }
        self.reserve(1, units, Retry::No)
    }

    /// Leaves the queue, served or not, and wakes the next one if it is first now.
    fn leave_room_queue(&self, ticket: QueueTicket) {
        let mut queue = self.room_queue.lock();
        let was_first = queue.is_first(&ticket);
        let old = queue.remove(ticket);
        self.signals.waiters.store(queue.len() as u64, Ordering::Release);
        let next = if mutate!(was_first, "cancel-keeps-first" => false) { queue.wake_first() } else { None };
        drop(queue);
        drop(old);
        self.wake_writer(next);
    }
}

/// A place in a ring's queue for room. Empty at first; [`Writer::poll_claim`] fills and empties it. Dropping
/// it gives the place up and wakes the next waiter if it was the first.
#[derive(Default)]
pub struct WaitTicket {
    queued: Option<(Arc<RingShared>, QueueTicket)>,
}

impl WaitTicket {
    /// Whether it holds a place in a queue now.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.queued.is_some()
    }

    /// Gives the place up.
    pub fn cancel(&mut self) {
        if let Some((shared, ticket)) = self.queued.take() {
            shared.leave_room_queue(ticket);
        }
    }
}

impl Drop for WaitTicket {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl std::fmt::Debug for WaitTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitTicket").field("queued", &self.is_queued()).finish()
    }
}

impl Writer {
    /// Waits for room for `len` bytes in FIFO order, and resolves to the claim itself, so that no other
    /// writer can take the room in between. Cancel-safe: dropping the future gives its place up and loses
    /// nothing.
    ///
    /// A waiter that is kept but not polled blocks the writers after it.
    pub fn claim(&self, len: usize) -> ClaimFuture<'_> {
        ClaimFuture { writer: self, ticket: WaitTicket::default(), len }
    }

    /// The poll form of [`Writer::claim`], for a `Sink`: `ticket` keeps the place in the queue between polls.
    /// After `Ready` it is empty again. The length may change from poll to poll.
    pub fn poll_claim(
        &self,
        ticket: &mut WaitTicket,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecordClaim<'_>, ClaimError>> {
        let shared = &self.shared;
        if ticket.queued.as_ref().is_some_and(|(other, _)| !Arc::ptr_eq(other, shared)) {
            ticket.cancel();
        }
        let first = match &ticket.queued {
            Some((_, place)) => shared.renew_room_ticket(place, cx.waker()),
            None => {
                match self.try_claim(len) {
                    Err(ClaimError::Full) => {}
                    done => return Poll::Ready(done),
                }
                let Some((place, first)) = shared.join_room_queue(cx.waker()) else {
                    return Poll::Ready(Err(ClaimError::TooManyWaiters));
                };
                ticket.queued = Some((Arc::clone(shared), place));
                // The other half of the Dekker pairs in `notify_moved` and `notify_published`. Only the first
                // of a queue needs it: later ones become first after it left, so after its fence.
                if first && !mutate!(shared.fences.heavy(), "queue-unfenced" => true) {
                    cx.waker().wake_by_ref();
                }
                first
            }
        };
        let claimed = match shared.check_len(len) {
            Err(refused) => Err(refused),
            Ok(()) if !first && !self.is_closed() => return Poll::Pending,
            Ok(()) => match shared.reserve_first(Units::of(len), cx) {
                Err(ClaimError::Full) => return Poll::Pending,
                other => other.map(|reserved| RecordClaim::new(shared, reserved, len)),
            },
        };
        ticket.cancel();
        Poll::Ready(claimed)
    }
}

/// Future of [`Writer::claim`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ClaimFuture<'a> {
    writer: &'a Writer,
    ticket: WaitTicket,
    len: usize,
}

impl<'a> Future for ClaimFuture<'a> {
    type Output = Result<RecordClaim<'a>, ClaimError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let writer: &'a Writer = me.writer;
        writer.poll_claim(&mut me.ticket, me.len, cx)
    }
}
