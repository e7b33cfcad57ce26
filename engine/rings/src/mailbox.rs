//! A bounded mailbox: many senders, one receiver, a doorbell. For control messages, not for datums.

use std::{
    marker::PhantomData,
    task::{Context, Poll},
};
use thiserror::Error;

/// A message that was not taken; it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TrySendError<T> {
    /// The mailbox is full. Keep the message and offer it again later.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone.
    #[error("the receiver is gone")]
    Closed(T),
}

/// Sending side.
pub struct Sender<T> {
    _t: PhantomData<T>,
}
/// Receiving side.
pub struct Receiver<T> {
    _t: PhantomData<T>,
}

/// A mailbox of `capacity` messages (0 counts as 1).
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let _ = capacity;
    todo!()
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        todo!()
    }
}
impl<T> Sender<T> {
    /// Puts a message in and rings. Never blocks.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let _ = message;
        todo!()
    }
    /// Messages that wait now; may be stale.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }
}
impl<T> Receiver<T> {
    /// The next message, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        todo!()
    }
    /// The next message; `None` when all senders are gone and the mailbox is empty. Keeps the waker otherwise.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let _ = cx;
        todo!()
    }
    /// Ready when `try_recv` would give something, or nothing will ever come again.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        todo!()
    }
    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Whether all senders are gone and the mailbox is empty.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        todo!()
    }
}
