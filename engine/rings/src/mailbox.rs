//! A bounded mailbox: many senders, one receiver that can sleep. For control messages; datums go through the ring.
//! It does not wait for room: what does not fit stays with its owner.

use crate::bugs::bug;
use crate::doorbell::Doorbell;
use crate::sync::{ArrayQueue, AtomicBool, AtomicUsize, Ordering};
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;

/// A message that was not taken; here it is again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TrySendError<T> {
    /// The mailbox is full. Keep the message and offer it again later.
    #[error("the mailbox is full; offer the message again later")]
    Full(T),
    /// The receiver is gone, for ever.
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

struct Core<T> {
    queue: ArrayQueue<T>,
    bell: CachePadded<Doorbell>,
    senders: AtomicUsize,
    closed: AtomicBool,
}

/// Sending side.
pub struct Sender<T> {
    core: Arc<Core<T>>,
}

/// Receiving side. Dropping it closes the mailbox and drops what is in it.
pub struct Receiver<T> {
    core: Arc<Core<T>>,
}

/// A mailbox of `capacity` messages (0 counts as 1). All its memory is allocated here.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let core = Arc::new(Core {
        queue: ArrayQueue::new(capacity.max(1)),
        bell: CachePadded::new(Doorbell::new()),
        senders: AtomicUsize::new(1),
        closed: AtomicBool::new(false),
    });
    (Sender { core: Arc::clone(&core) }, Receiver { core })
}

impl<T> Sender<T> {
    /// Puts a message in and rings. Never waits. A message that is put in while the receiver is being dropped goes
    /// with the last sender at the latest, as if it had been received and ignored.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        if self.is_closed() {
            return Err(TrySendError::Closed(message));
        }
        let pushed = self.core.queue.push(message).map_err(TrySendError::Full);
        if !bug("full-swallowed") {
            pushed?;
        }
        self.core.bell.ring();
        Ok(())
    }

    /// Messages that wait now; may be stale.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.queue.len()
    }

    /// Whether none waits; may be stale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.queue.is_empty()
    }

    /// Whether the receiver is gone. `true` stays true.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.closed.load(Ordering::Acquire)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.core.senders.fetch_add(1, Ordering::Relaxed);
        Self { core: Arc::clone(&self.core) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: what we sent comes before the receiver's sight of our leaving.
        if self.core.senders.fetch_sub(1, Ordering::AcqRel) == 1 && !bug("last-sender-silent") {
            self.core.bell.ring();
        }
    }
}

impl<T> Receiver<T> {
    /// The next message, if there is one.
    #[inline]
    pub fn try_recv(&mut self) -> Option<T> {
        self.core.queue.pop()
    }

    /// The next message; `None` when all senders are gone and nothing is left. Otherwise the waker is kept.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.poll_ready(cx) {
            Poll::Ready(()) => Poll::Ready(self.try_recv()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when a message waits, or when none will ever come again. Otherwise the waker is kept and woken once.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        if !self.core.bell.arm(cx.waker()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.is_ready() {
            self.core.bell.disarm();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn is_ready(&self) -> bool {
        !self.is_empty() || self.is_finished()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.queue.is_empty()
    }

    /// Whether all senders are gone and nothing is left.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        if bug("last-message-missed") {
            return self.is_empty() && self.core.senders.load(Ordering::Acquire) == 0;
        }
        // The order matters: a last message is put in before its sender leaves.
        self.core.senders.load(Ordering::Acquire) == 0 && self.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.core.closed.store(true, Ordering::Release);
        self.core.bell.disarm();
        while self.core.queue.pop().is_some() {}
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
