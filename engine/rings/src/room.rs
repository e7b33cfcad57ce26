//! Writers that wait for room, first come first served. The lock is taken by waiting writers and by readers that see
//! `waiters` set; a ring that nobody waits on never touches it.

use crate::bugs::bug;
use crate::claim::{RecordClaim, Reserved};
use crate::gate::Look;
use crate::limits::MAX_ROOM_WAITERS;
use crate::ring::Shared;
use crate::signals::wake;
use crate::sync::{Mutex, Ordering, lock};
use crate::units::Units;
use crate::writer::{ClaimError, Writer};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The queue. Tickets rise from front to back.
pub(crate) struct RoomQueue {
    inner: Mutex<Queue>,
}

struct Queue {
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
}

struct Waiter {
    ticket: u64,
    /// `None`: woken, and not polled since.
    waker: Option<Waker>,
}

impl RoomQueue {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Queue { waiters: VecDeque::new(), next_ticket: 0 }) }
    }
}

impl Shared {
    /// Wakes the first waiter, if it is not awake already.
    #[cold]
    pub(crate) fn wake_room(&self) {
        let waker = lock(&self.room.inner).waiters.front_mut().and_then(|first| first.waker.take());
        self.wake_waiter(waker);
    }

    /// Wakes all waiters: each will see that the ring is closed.
    pub(crate) fn wake_all_room(&self) {
        // All in one look, because waiters that we wake leave the queue while we go on. A waker may run anything, so
        // none runs under the lock.
        let wakers: Vec<Waker> =
            lock(&self.room.inner).waiters.iter_mut().filter_map(|waiter| waiter.waker.take()).collect();
        wakers.into_iter().for_each(|waker| self.wake_waiter(Some(waker)));
    }

    fn wake_waiter(&self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.counters.add(&self.counters.writer_wakes, 1);
            wake(waker);
        }
    }

    /// Queues. `None`: the queue is full. Otherwise the ticket and whether it is first.
    fn enqueue_room(&self, waker: &Waker) -> Option<(u64, bool)> {
        let waker = waker.clone();
        let mut queue = lock(&self.room.inner);
        if queue.waiters.len() == MAX_ROOM_WAITERS {
            return None;
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiters.push_back(Waiter { ticket, waker: Some(waker) });
        let first = queue.waiters.len() == 1;
        // Release: `published` reads this, then `live`.
        self.signals.waiters.store(queue.waiters.len() as u64, Ordering::Release);
        Some((ticket, first))
    }

    /// Keeps the place and the (new) waker. Gives whether it is first.
    fn renew_room(&self, ticket: u64, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut queue = lock(&self.room.inner);
        let Ok(at) = queue.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket) else {
            return false;
        };
        let old = if bug("renew-keeps-waker") { Some(waker) } else { queue.waiters[at].waker.replace(waker) };
        drop(queue);
        drop(old);
        at == 0
    }

    /// Claims for the first of the queue. `Full`: it may sleep.
    fn reserve_first(&self, units: u64, cx: &Context<'_>) -> Result<Reserved, ClaimError> {
        let refused = match self.reserve(1, units, Look::Gather) {
            Err(ClaimError::Full) if self.signals.live.load(Ordering::Acquire) == 0 => ClaimError::Full,
            done => return done,
        };
        // The last reader left since we queued. From then on publication makes the room, but a publisher that still
        // saw a reader has woken nobody: look once more, behind a barrier that makes its record visible, or `live`.
        if !self.fences.heavy() {
            cx.waker().wake_by_ref();
            return Err(refused);
        }
        self.reserve(1, units, Look::Once)
    }

    /// Leaves the queue, served or not, and lets the next one look.
    fn leave_room(&self, ticket: u64) {
        let mut queue = lock(&self.room.inner);
        let Ok(at) = queue.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket) else { return };
        let gone = queue.waiters.remove(at);
        self.signals.waiters.store(queue.waiters.len() as u64, Ordering::Release);
        let next = if at == 0 && !bug("cancel-keeps-turn") {
            queue.waiters.front_mut().and_then(|first| first.waker.take())
        } else {
            None
        };
        drop(queue);
        drop(gone);
        self.wake_waiter(next);
    }
}

/// A place in a ring's queue for room. Empty at first; [`Writer::poll_claim`] fills and empties it. Dropping it gives
/// the place up, and the next waiter is woken if it was the first.
#[derive(Default)]
pub struct WaitTicket {
    queued: Option<(Arc<Shared>, u64)>,
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
            shared.leave_room(ticket);
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
    /// Waits for room in FIFO order and claims it; resolves to the claim itself, so that nobody can come between.
    /// Cancel-safe: dropping the future gives its place up and loses nothing.
    ///
    /// A waiter that is not polled any more, but kept, holds up the writers behind it.
    pub fn claim(&self, len: usize) -> ClaimFuture<'_> {
        ClaimFuture { writer: self, turn: WaitTicket::default(), len }
    }

    /// The poll form of [`Writer::claim`], for a `Sink`: `turn` keeps the place in the queue between polls. After
    /// `Ready` the turn is empty again. The length may change from poll to poll.
    pub fn poll_claim(
        &self,
        turn: &mut WaitTicket,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecordClaim<'_>, ClaimError>> {
        let shared = &self.shared;
        if turn.queued.as_ref().is_some_and(|(other, _)| !Arc::ptr_eq(other, shared)) {
            turn.cancel();
        }
        let first = match &turn.queued {
            Some((_, ticket)) => shared.renew_room(*ticket, cx.waker()),
            None => {
                match self.try_claim(len) {
                    Err(ClaimError::Full) => {}
                    done => return Poll::Ready(done),
                }
                let Some((ticket, first)) = shared.enqueue_room(cx.waker()) else {
                    return Poll::Ready(Err(ClaimError::TooManyWaiters));
                };
                turn.queued = Some((Arc::clone(shared), ticket));
                // The other half of the Dekker pair in `moved_on` and `published`. Only the first of a queue needs
                // it: later ones become first after it left, hence after its fence.
                if first && !bug("queue-unfenced") && !shared.fences.heavy() {
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
        turn.cancel();
        Poll::Ready(claimed)
    }
}

/// Future of [`Writer::claim`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ClaimFuture<'a> {
    writer: &'a Writer,
    turn: WaitTicket,
    len: usize,
}

impl<'a> Future for ClaimFuture<'a> {
    type Output = Result<RecordClaim<'a>, ClaimError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let writer: &'a Writer = me.writer;
        writer.poll_claim(&mut me.turn, me.len, cx)
    }
}
