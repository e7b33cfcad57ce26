//! Reading ahead: a reader whose cursor stays behind what it has already seen.
//!
//! Not inside: who needs that. A reader that may have to read records again (because what it made of them can get
//! lost) leaves its cursor at the oldest of them and looks for news further on. It pins the cursor with
//! [`Reader::pin`] for as long as it reads in place, and gives it free with [`Reader::unpin`]; a [`PinGuard`] would do
//! the same, but borrows the reader all the time.
//!
//! [`PinGuard`]: crate::PinGuard

use std::task::{Context, Poll};

use super::{Detached, Reader};
use crate::{
    arena::slice_at,
    bugs::bug,
    hold::RecordState,
    sync::Ordering,
    word::{Cursor, Kind, LAST_SEQ},
};

impl Reader {
    /// End of the published run that begins at `from`, looked for `max` records far at most. `from` may be anywhere
    /// at or behind the position. One load when there is nothing at `from`. Records that eviction took count as
    /// published.
    #[inline]
    #[must_use]
    pub fn published_from(&self, from: u64, max: usize) -> u64 {
        if from >= LAST_SEQ {
            return from;
        }
        match self.shared.slots.at(from).stamp().since(from) {
            0 => self.shared.published_run(from + 1, from.saturating_add(max as u64)),
            behind if behind < 0 => from,
            _ if bug("eviction-unseen") => from,
            _ => self.published_after_eviction(from, max),
        }
    }

    /// A later record stands in the slot: eviction has taken our cursor past `from`.
    #[cold]
    fn published_after_eviction(&self, from: u64, max: usize) -> u64 {
        let cursor = Cursor(self.shared.cells.at(self.index).word.load(Ordering::Acquire));
        if cursor.kind() == Kind::Detached {
            return from;
        }
        let start = cursor.seq().max(from);
        self.shared.published_run(start, start.saturating_add(max as u64))
    }

    /// As [`Reader::poll_ready`], but for the record at `seq`, which may be far behind the position: ready when it is
    /// published, when the ring is closed and ends before it, or when the ring moved or detached the cursor since the
    /// last [`Reader::pin`].
    pub fn poll_published(&mut self, seq: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.catch_up();
        if self.has_news(seq) {
            self.wake_up();
            return Poll::Ready(());
        }
        if !self.shared.fall_asleep(self.index, cx.waker()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.asleep = true;
        // The second look, after the fence, as in `poll_ready`.
        self.catch_up();
        if self.has_news(seq) {
            self.wake_up();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn has_news(&self, seq: u64) -> bool {
        seq < LAST_SEQ && self.shared.slots.at(seq).stamp().since(seq) >= 0
            || self.was_moved()
            || (self.shared.is_closed() && seq >= self.shared.span().1)
    }

    /// Pins the cursor until [`Reader::unpin`] (or the next hold ends, or the reader is dropped) and gives the
    /// position: the oldest record that can be read. While it is pinned, nothing from there on is overwritten.
    /// Harmless when pinned already.
    #[inline]
    pub fn pin(&mut self) -> Result<u64, Detached> {
        self.pin_cursor()?;
        Ok(self.next)
    }

    /// What stands at `seq`. Everything has [`RecordState::Passed`] while the reader is not kept.
    #[inline]
    #[must_use]
    pub fn get(&self, seq: u64) -> RecordState<'_> {
        if !self.held || seq < self.next {
            return RecordState::Passed;
        }
        if !self.in_range(seq, self.next) {
            return RecordState::Pending;
        }
        let Some(slot) = self.published_slot(seq) else { return RecordState::Pending };
        let Some(len) = slot.len() else { return RecordState::Abandoned };
        let base = self.shared.arena.address(self.at_of(seq, slot, len));
        // SAFETY: the record is published (its stamp was acquired with `published_slot`) and stands at or behind the
        // cursor, which is pinned: `held` says so, and only `&mut self` ends that. So no gate passes it, no writer
        // claims its memory while the slice lives, and its own writer has given its access up with the stamp.
        RecordState::Published(unsafe { slice_at(base, len) })
    }

    /// Ends the pin and gives up everything below `seq`, as far as it is published. Never moves back.
    #[inline]
    pub fn unpin(&mut self, seq: u64) {
        if self.held {
            self.unpin_at(self.within_reach(seq));
        }
    }

    /// Gives up everything below `seq`, as far as it is published, without reading. Does nothing when the position is there already.
    pub fn advance_to(&mut self, seq: u64) -> Result<(), Detached> {
        if seq > self.next {
            let held = self.held;
            self.pin_cursor()?;
            self.move_to(
                self.within_reach(seq),
                if held && !bug("release-unpins") { Kind::Held } else { Kind::Idle },
            );
            self.held = held;
        }
        Ok(())
    }
}
