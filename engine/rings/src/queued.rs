//! A record that waits for room without a task of its own.
//!
//! A task may stop polling and keep its place in the ring's queue, and a place that is never polled stops
//! every writer behind it. So the waker in that place belongs to the [`QueuedSend`]: the ring wakes it when
//! there is room, and it puts the bytes there at once, on the thread that made the room.
//!
//! | state | event | next state |
//! |---|---|---|
//! | Waiting | woken, no room | Waiting |
//! | Waiting | woken, room | Done(Ok) |
//! | Waiting | woken, closed | Done(Err) |
//! | Waiting | withdrawn | Withdrawn |
//! | Attempting | woken | Attempting, again |
//! | Attempting | withdrawn | Withdrawn |
//! | Committing | withdrawn | Committing |
//! | Done(Ok) | withdrawn | Done(Ok) |
//! | Done(Err) | withdrawn | Withdrawn |
//! | Withdrawn | woken | Withdrawn |
//!
//! From `Waiting` the way leads through `Attempting`, in which one thread holds the bytes, and `Committing`.

use crate::bugs::mutate;
use crate::claim_future::WaitTicket;
use crate::contain::contain;
use crate::error::ClaimError;
use crate::sync::{Lock, thread_local};
use crate::writer::Writer;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// The bytes of one record that wait for room without a task of their own, such as those that a sink has
/// accepted.
///
/// It enters the ring when there is room, in order with the other writers that wait, whether or not it is
/// polled. Dropping the handle does not withdraw it.
pub struct QueuedSend {
    writer: Writer,
    on_full: Box<dyn Fn() + Send + Sync>,
    /// No code that can panic runs under it.
    inner: Lock<QueuedInner>,
}

struct QueuedInner {
    state: QueuedState,
    /// The task that polls, woken once the state is `Done`.
    task: Option<Waker>,
}

enum QueuedState {
    /// The bytes wait with their place in the ring's queue.
    Waiting(Vec<u8>, WaitTicket),
    /// One thread tries to put the bytes, which it holds.
    Attempting {
        woken: bool,
    },
    /// Room is claimed and the bytes are on their way.
    Committing,
    Done(Result<(), ClaimError>),
    Withdrawn,
}

impl QueuedSend {
    /// Puts `bytes` into the ring, or into its queue for room. `on_full` is called each time that there is no
    /// room, on the thread that made an attempt; it must not panic.
    pub fn start(writer: Writer, bytes: Vec<u8>, on_full: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let state = QueuedState::Waiting(bytes, WaitTicket::default());
        let inner = Lock::new(QueuedInner { state, task: None });
        let queued = Arc::new(Self { writer, on_full: Box::new(on_full), inner });
        queued.attempt();
        queued
    }

    /// Ready once the bytes are in the ring, or the ring refused them.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), ClaimError>> {
        // Cloning and dropping wakers runs an executor's code: neither happens under the lock.
        let waker = cx.waker().clone();
        let mut inner = self.inner.lock();
        if let QueuedState::Done(result) = inner.state {
            return Poll::Ready(result);
        }
        let replaced = inner.task.replace(waker);
        drop(inner);
        drop(replaced);
        Poll::Pending
    }

    /// Leaves the ring's queue. `false`: the bytes are in the ring or on their way there. A refusal that was
    /// never polled counts as withdrawn.
    pub fn withdraw(&self) -> bool {
        let mut inner = self.inner.lock();
        if matches!(inner.state, QueuedState::Committing | QueuedState::Done(Ok(()))) {
            return false;
        }
        // The place in the queue wakes the next waiter when it is dropped: not under the lock.
        let dropped = (mem::replace(&mut inner.state, QueuedState::Withdrawn), inner.task.take());
        drop(inner);
        drop(dropped);
        true
    }

    /// Puts the bytes into the ring if they are first in its queue and there is room.
    fn attempt(self: &Arc<Self>) {
        let Some((bytes, mut ticket)) = self.begin() else { return };
        let waker = Waker::from(self.clone());
        loop {
            // Without the lock: the ring may wake this send, or another one, before it returns.
            match self.writer.poll_claim(&mut ticket, bytes.len(), &mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(mut claim)) => {
                    if !self.advance(QueuedState::Committing) {
                        return;
                    }
                    claim.copy_from_slice(&bytes);
                    claim.commit();
                    return self.finish(Ok(()));
                }
                Poll::Ready(Err(error)) => return self.finish(Err(error)),
                Poll::Pending => (self.on_full)(),
            }
            let mut inner = self.inner.lock();
            match inner.state {
                QueuedState::Attempting { woken: true } => {
                    inner.state = QueuedState::Attempting { woken: false };
                }
                QueuedState::Attempting { woken: false } => {
                    inner.state = QueuedState::Waiting(bytes, ticket);
                    return;
                }
                // Withdrawn. The lock is released before the ticket, which wakes the next waiter.
                _ => return drop(inner),
            }
        }
    }

    /// Takes the bytes for an attempt. `None`: another thread attempts, or there is nothing left to do.
    fn begin(&self) -> Option<(Vec<u8>, WaitTicket)> {
        let mut inner = self.inner.lock();
        match mem::replace(&mut inner.state, QueuedState::Attempting { woken: false }) {
            QueuedState::Waiting(bytes, ticket) => return Some((bytes, ticket)),
            QueuedState::Attempting { .. } => {
                let woken = mutate!(true, "queued-wake-lost" => false);
                inner.state = QueuedState::Attempting { woken };
            }
            over => inner.state = over,
        }
        None
    }

    /// Leaves `Attempting` or `Committing` for `next`. `false`: withdrawn meanwhile.
    fn advance(&self, next: QueuedState) -> bool {
        let mut inner = self.inner.lock();
        if mutate!(matches!(inner.state, QueuedState::Withdrawn), "withdrawn-enters" => false) {
            return false;
        }
        debug_assert!(
            matches!(inner.state, QueuedState::Attempting { .. } | QueuedState::Committing),
            "only the thread that holds the bytes moves them"
        );
        inner.state = next;
        true
    }

    fn finish(&self, result: Result<(), ClaimError>) {
        self.advance(QueuedState::Done(result));
        let task = self.inner.lock().task.take();
        // A waker that panics must not keep the sends that were woken meanwhile from being served.
        let _ = task.map(|task| contain(|| task.wake()));
    }
}

impl fmt::Debug for QueuedSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedSend").finish_non_exhaustive()
    }
}

thread_local! {
    /// Sends that were woken while another one was served on this thread. One that leaves the ring's queue
    /// wakes the next; the list keeps a thousand of them from standing on one stack. `None`: none is being
    /// served.
    #[cfg_attr(not(loom), expect(clippy::missing_const_for_thread_local, reason = "loom's macro has no const form"))]
    static WOKEN: RefCell<Option<VecDeque<Arc<QueuedSend>>>> = RefCell::new(None);
}

impl Wake for QueuedSend {
    fn wake(self: Arc<Self>) {
        let outermost = WOKEN.try_with(|woken| match &mut *woken.borrow_mut() {
            Some(woken) => {
                woken.push_back(self.clone());
                false
            }
            none => {
                *none = Some(VecDeque::new());
                true
            }
        });
        match outermost {
            Ok(false) => {}
            Ok(true) => serve_woken(self),
            // The thread is ending and its list is gone.
            Err(_) => self.attempt(),
        }
    }
}

/// Serves `first` and all sends that are woken meanwhile on this thread.
fn serve_woken(first: Arc<QueuedSend>) {
    let mut next = Some(first);
    while let Some(queued) = next {
        queued.attempt();
        next = WOKEN.with(|woken| {
            let mut woken = woken.borrow_mut();
            let next = woken.as_mut().and_then(VecDeque::pop_front);
            if next.is_none() {
                *woken = None;
            }
            next
        });
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
