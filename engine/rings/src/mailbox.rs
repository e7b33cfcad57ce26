//! A bounded mailbox for control messages: many senders, one receiver that can sleep. Sending never waits: a
//! message that does not fit goes back to the sender.

use crate::bugs::{bug, mutate};
use crate::doorbell::Doorbell;
use crate::sync::{ArrayQueue, AtomicBool, AtomicUsize, Ordering};
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;

/// A message that was not accepted, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TrySendError<T> {
    /// The mailbox is full. Keep the message and offer it again later.
    #[error("the mailbox is full; offer the message again later")]
    Full(T),
    /// The receiver is gone. This is final.
    #[error("the mailbox's receiver is gone")]
    Closed(T),
}

impl<T> TrySendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

struct MailboxShared<T> {
    queue: ArrayQueue<T>,
    bell: CachePadded<Doorbell>,
    senders: AtomicUsize,
    closed: AtomicBool,
}

/// Sending side. Clone it for each sender.
pub struct Sender<T> {
    shared: Arc<MailboxShared<T>>,
}

/// Receiving side. Dropping it closes the mailbox and drops what is in it.
pub struct Receiver<T> {
    shared: Arc<MailboxShared<T>>,
}

/// A mailbox of `capacity` messages (0 counts as 1). All its memory is allocated here.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(MailboxShared {
        queue: ArrayQueue::new(capacity.max(1)),
        bell: CachePadded::new(Doorbell::new()),
        senders: AtomicUsize::new(1),
        closed: AtomicBool::new(false),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

impl<T> Sender<T> {
    /// Puts a message in and rings. Never waits. A message that is put in while the receiver is dropped is
    /// dropped with the last sender at the latest.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        if self.is_closed() {
            return Err(TrySendError::Closed(message));
        }
        let pushed = self.shared.queue.push(message).map_err(TrySendError::Full);
        mutate!(pushed?, "full-swallowed" => ());
        self.shared.bell.ring();
        Ok(())
    }

    /// Messages in the mailbox; may be stale.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether it is empty; may be stale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Whether the receiver is gone. `true` stays true.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: what we sent comes before a receiver that sees us gone.
        let last = self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1;
        if mutate!(last, "last-sender-silent" => false) {
            self.shared.bell.ring();
        }
    }
}

impl<T> Receiver<T> {
    /// The next message, if there is one.
    #[inline]
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }

    /// The next message; `None` when all senders are gone and nothing is left. Otherwise keeps the waker.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.poll_ready(cx) {
            Poll::Ready(()) => Poll::Ready(self.try_recv()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when there is a message, or none will come again. Otherwise keeps the waker and wakes it once.
    /// Cancel-safe: takes nothing.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        if !self.shared.bell.arm(cx.waker()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.is_ready() {
            self.shared.bell.disarm();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn is_ready(&self) -> bool {
        !self.is_empty() || self.is_finished()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Whether all senders are gone and nothing is left.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        if bug("last-message-missed") {
            return self.is_empty() && self.shared.senders.load(Ordering::Acquire) == 0;
        }
        // In this order: a sender puts its last message in before it leaves.
        self.shared.senders.load(Ordering::Acquire) == 0 && self.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.bell.disarm();
        while self.shared.queue.pop().is_some() {}
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("empty", &self.is_empty()).finish_non_exhaustive()
    }
}
