//! Reading ahead: a reader that leaves its cursor at the oldest record it may have to read again (a
//! retransmission) and looks for records further on. Its pin borrows nothing, unlike a `PinGuard`.

use crate::bugs::mutate;
use crate::error::Detached;
use crate::read::RecordState;
use crate::reader::{After, Reader};
use crate::sync::Ordering;
use crate::word::{Cursor, CursorKind, LAST_SEQ};
use std::task::{Context, Poll};

impl Reader {
    /// End of the published run that starts at `from`, at most `max` records after it. `from` may be anywhere
    /// at or after the position. One load when there is nothing at `from`. Records that eviction took count
    /// as published.
    #[inline]
    #[must_use]
    pub fn published_from(&self, from: u64, max: usize) -> u64 {
        if from >= LAST_SEQ {
            return from;
        }
        let descriptors = &self.shared.descriptors;
        match descriptors.at(from).stamp().since(from) {
            0 => descriptors.published_run(from + 1, from.saturating_add(max as u64)),
            since if mutate!(since < 0, "eviction-unseen" => true) => from,
            _ => self.published_after_eviction(from, max),
        }
    }

    /// A later record has the descriptor: eviction has moved the cursor past `from`.
    #[cold]
    fn published_after_eviction(&self, from: u64, max: usize) -> u64 {
        let cursor = Cursor(self.slot().cursor.load(Ordering::Acquire));
        if cursor.kind() == CursorKind::Detached {
            return from;
        }
        let start = cursor.seq().max(from);
        self.shared.descriptors.published_run(start, start.saturating_add(max as u64))
    }

    /// As [`Reader::poll_ready`], but for the record at `seq`, which may be far after the position: ready
    /// when it is published, when the ring is closed and ends before it, or when a writer moved or detached
    /// the cursor since the last [`Reader::pin`].
    pub fn poll_published(&mut self, seq: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(|reader| reader.has_news(seq), cx)
    }

    fn has_news(&self, seq: u64) -> bool {
        seq < LAST_SEQ && self.shared.descriptors.at(seq).stamp().since(seq) >= 0
            || self.was_moved()
            || (self.shared.is_closed() && seq >= self.shared.span().1)
    }

    /// Pins the cursor until [`Reader::unpin`] (or the end of the next guard or record, or the reader's drop)
    /// and gives the position: the oldest record that can be read. While it is pinned, nothing from there on
    /// is overwritten. Does nothing if it is pinned already.
    #[inline]
    pub fn pin(&mut self) -> Result<u64, Detached> {
        self.pin_cursor()?;
        Ok(self.next)
    }

    /// The record at `seq`. [`RecordState::Passed`] for every sequence while the cursor is not pinned.
    #[inline]
    #[must_use]
    pub fn get(&self, seq: u64) -> RecordState<'_> {
        if !self.is_pinned() { RecordState::Passed } else { self.state_at(seq, self.next) }
    }

    /// Ends the pin and gives up everything below `seq`, as far as it is published. Never moves back.
    #[inline]
    pub fn unpin(&mut self, seq: u64) {
        if self.is_pinned() {
            self.unpin_at(self.within_reach(seq));
        }
    }

    /// Gives up everything below `seq`, as far as it is published, without reading it. A pinned cursor stays
    /// pinned. Does nothing if the position is there already.
    pub fn advance_to(&mut self, seq: u64) -> Result<(), Detached> {
        if seq > self.next {
            let was_pinned = mutate!(self.is_pinned(), "advance-unpins" => false);
            self.pin_cursor()?;
            self.move_to(self.within_reach(seq), if was_pinned { After::Pinned } else { After::Unpinned });
        }
        Ok(())
    }
}
