//! Events on their way to the clerk.
//!
//! A shard never waits for the clerk and loses none of these events, so they queue here, up to a bound, while
//! the clerk's mailbox is full. At the bound only the session that has another event is held up
//! (`super::events`).

use std::collections::VecDeque;

use corewire_rings::mailbox::{Sender, TrySendError};

use super::command::Event;

/// The queue before the clerk's mailbox.
pub(crate) struct Backlog {
    /// `None` after [`Backlog::close`].
    clerk: Option<Sender<Event>>,
    /// Empty unless the mailbox was full. Longer than `limit` only after [`Backlog::push_anyway`].
    waiting: VecDeque<Event>,
    limit: usize,
    /// Events handed over since the last [`Backlog::take_handed`].
    handed: u64,
}

impl Backlog {
    /// A queue of at most `limit` events before `clerk`.
    pub(crate) fn new(clerk: Sender<Event>, limit: usize) -> Self {
        Self { clerk: Some(clerk), waiting: VecDeque::new(), limit: limit.max(1), handed: 0 }
    }

    /// Hands an event over, or keeps it; gives it back when the queue is full.
    #[expect(
        clippy::result_large_err,
        reason = "the event moves on from here; a box would cost an allocation"
    )]
    pub(crate) fn push(&mut self, event: Event) -> Result<(), Event> {
        let event = if self.waiting.is_empty() {
            match self.try_send(event) {
                Ok(()) => {
                    self.handed += 1;
                    return Ok(());
                }
                // The clerk is gone; the engine is going down.
                Err(TrySendError::Closed(_)) => return Ok(()),
                Err(TrySendError::Full(event)) => event,
            }
        } else {
            event
        };
        if self.waiting.len() >= self.limit {
            return Err(event);
        }
        self.waiting.push_back(event);
        Ok(())
    }

    /// As [`Backlog::push`], beyond the bound if need be. Only for events whose number has another bound,
    /// which the caller states.
    pub(crate) fn push_anyway(&mut self, event: Event) {
        if let Err(event) = self.push(event) {
            self.waiting.push_back(event);
        }
    }

    /// Hands over an event that may be lost; `false` when it was.
    pub(crate) fn offer(&mut self, event: Event) -> bool {
        let sent = self.try_send(event).is_ok();
        self.handed += u64::from(sent);
        sent
    }

    /// Offers what waits, oldest first, until the mailbox is full again.
    pub(crate) fn flush(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            match self.try_send(event) {
                Ok(()) => self.handed += 1,
                Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    break;
                }
            }
        }
    }

    /// Gives up what waits. The clerk finds its mailbox without a sender once it has taken what is in there.
    pub(crate) fn close(&mut self) {
        self.waiting.clear();
        self.clerk = None;
    }

    #[expect(clippy::result_large_err, reason = "as for `push`")]
    fn try_send(&self, event: Event) -> Result<(), TrySendError<Event>> {
        match &self.clerk {
            Some(clerk) => clerk.try_send(event),
            None => Err(TrySendError::Closed(event)),
        }
    }

    /// Whether [`Backlog::push`] would give an event back.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.limit
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Events handed over since the last call.
    pub(crate) fn take_handed(&mut self) -> u64 {
        std::mem::take(&mut self.handed)
    }
}

impl std::fmt::Debug for Backlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backlog").field("waiting", &self.waiting.len()).field("limit", &self.limit).finish()
    }
}

#[cfg(test)]
mod tests {
    use corewire_rings::mailbox::mailbox;

    use super::*;

    #[test]
    fn a_closed_backlog_leaves_the_clerk_a_mailbox_without_a_sender() {
        let stopped = || Event::ShardStopped { shard: 0, failure: None };
        let (events, mut clerk) = mailbox(1);
        let mut backlog = Backlog::new(events, 1);
        (0..3).for_each(|_| backlog.push_anyway(stopped()));
        assert!(backlog.is_full() && !clerk.is_finished());
        backlog.close();
        assert!(backlog.is_empty() && !clerk.is_finished(), "what arrived comes first");
        assert!(clerk.try_recv().is_some());
        backlog.flush();
        assert!(!backlog.offer(stopped()));
        assert!(clerk.is_finished());
    }
}
