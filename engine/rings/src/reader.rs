//! The reading handle: where it stands, when it is ready, how it sleeps. What it reads in place is in `hold`.

use crate::arena::At;
use crate::bugs::{bug, unless};
use crate::ring::{ReaderId, Shared};
use crate::sync::Ordering;
use crate::word::{Cursor, Kind};
use std::cell::Cell;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;

mod ahead;

/// A cursor on a ring. It may move between threads, and belongs to one at a time. Dropping it leaves the ring.
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
    index: usize,
    generation: u64,
    /// What our cell says, unless a writer moved or detached it while it was not held.
    cursor: u64,
    /// The next record to read. Equal to `cursor`, except after a join under which older records were not yet
    /// published: then it is larger, and the cursor follows when they are.
    pub(crate) next: u64,
    /// Everything from `cursor` to here is published. Our cursor must never pass this.
    pub(crate) published: Cell<u64>,
    /// Where the record behind the last seen one lies, if that was not a short one.
    pub(crate) known: Cell<Known>,
    /// Short records found one by one since there was none.
    pub(crate) streak: u32,
    /// What [`Reader::peek`] found.
    pub(crate) peeked: Peeked,
    /// The cell is held: by what reads in place now, by `keep`, or by a hold or record that was leaked.
    pub(crate) held: bool,
    /// By a store, so that its word says idle; see `pin`.
    by_store: bool,
    /// We set our sleeper's bit and did not clear it ourselves.
    asleep: bool,
    lost: u64,
    /// The part of `lost` that no hold has reported yet.
    pub(crate) unreported: u64,
    /// One thread at a time: `Send`, not `Sync`.
    _one_thread: PhantomData<Cell<()>>,
}

/// Where the record `seq` lies, if it is not a short one: where the one before it ended.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) seq: u64,
    pub(crate) at: At,
}

/// Where the record `seq`, published and not abandoned, lies, and how long it is.
#[derive(Clone, Copy)]
pub(crate) struct Peeked {
    pub(crate) seq: u64,
    pub(crate) at: At,
    pub(crate) len: usize,
}

/// The ring detached this reader; it will never see another record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ring detached this reader; subscribe again")]
pub struct Detached;

/// Why there will never be another record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecvError {
    /// The ring is closed and everything was read.
    #[error("the ring is closed and drained")]
    Closed,
    /// The ring detached this reader. Subscribe again.
    #[error("the ring detached this reader; subscribe again")]
    Detached,
}

impl From<Detached> for RecvError {
    fn from(_: Detached) -> Self {
        Self::Detached
    }
}

impl Reader {
    pub(crate) fn join(shared: &Arc<Shared>) -> Option<Self> {
        let (index, generation) = shared.join()?;
        let (cursor, next, published) = shared.settle(index);
        Some(Self {
            shared: Arc::clone(shared),
            index,
            generation,
            cursor,
            next,
            published: Cell::new(published),
            known: Cell::new(Known { seq: u64::MAX, at: At::default() }),
            streak: 0,
            peeked: Peeked { seq: u64::MAX, at: At::default(), len: 0 },
            held: false,
            by_store: false,
            asleep: false,
            lost: 0,
            unreported: 0,
            _one_thread: PhantomData,
        })
    }

    /// This reader's name.
    #[must_use]
    pub fn id(&self) -> ReaderId {
        ReaderId { index: self.index as u32, generation: self.generation as u32 }
    }

    /// Sequence of the next record to read. Eviction is noticed at the next hold.
    #[inline]
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Records between the position and the tail. Reads the writers' busiest line; not for every poll.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.shared.span().1.saturating_sub(self.next)
    }

    /// Records that eviction took from this reader and that it noticed, in total.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether there is something to see: a published record, a gap, the end, or a detachment. Three loads at most,
    /// and none of a line that writers write.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.has_record() || self.was_moved() || self.is_finished()
    }

    /// Whether the ring is closed and everything was read.
    #[inline]
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shared.is_closed() && self.next >= self.shared.span().1
    }

    /// The next record is published (or a later one is in its slot, and we were evicted).
    #[inline(always)]
    pub(crate) fn has_record(&self) -> bool {
        // Its bytes come from the writer's cache as its stamp does; fetch both at once.
        let known = self.known.get();
        if known.seq == self.next {
            self.shared.arena.expect_at(known.at);
        } else {
            self.shared.arena.expect_short(self.next);
        }
        self.shared.slots.at(self.next).stamp().since(self.next) >= 0
    }

    /// A writer moved or detached us.
    #[inline(always)]
    fn was_moved(&self) -> bool {
        self.shared.cells.at(self.index).word.load(Ordering::Relaxed) != self.word().0
    }

    /// What our cell says if no writer touched it.
    #[inline(always)]
    fn word(&self) -> Cursor {
        let kind = if self.held && !self.by_store { Kind::Held } else { Kind::Idle };
        Cursor::new(kind, Cursor::short(self.generation), self.cursor)
    }

    /// Ready when [`Reader::is_ready`] is true. Otherwise the waker is kept and woken once, at the next publication,
    /// close or detachment.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.catch_up();
        if self.is_ready() {
            self.wake_up();
            return Poll::Ready(());
        }
        if !self.shared.fall_asleep(self.index, cx.waker()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.asleep = true;
        // The second look, after the fence: whoever published before it is seen now, whoever publishes after it sees
        // our bit. What was published may be an old record that we do not want and writers wait for us to pass.
        if !bug("sleeps-before-old-record") {
            self.catch_up();
        }
        if self.is_ready() && !bug("no-second-look") {
            self.wake_up();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn wake_up(&mut self) {
        if self.asleep {
            self.asleep = false;
            self.shared.stay_awake(self.index);
        }
    }

    /// Waits until something can be seen.
    pub(crate) async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Pins the cell: from here on nobody moves us and nothing from the cursor on is overwritten.
    #[inline(always)]
    pub(crate) fn pin_cursor(&mut self) -> Result<(), Detached> {
        if self.held {
            return Ok(()); // A leaked hold's pin. Its borrows are over, or we would not be borrowed now.
        }
        if bug("pin-skipped") {
            self.held = true;
            return Ok(());
        }
        if self.shared.step_inside(self.shared.cells.at(self.index), self.word()) {
            self.held = true;
            self.by_store = true;
            return Ok(());
        }
        self.pin_by_swap()
    }

    #[inline]
    fn pin_by_swap(&mut self) -> Result<(), Detached> {
        loop {
            let cell = self.shared.cells.at(self.index);
            let idle = self.word();
            let held = Cursor::new(Kind::Held, idle.generation(), self.cursor);
            // Acquire: no look at a slot comes before the pin. The swap itself decides against a writer's swap.
            match cell.word.compare_exchange(idle.0, held.0, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    self.held = true;
                    return Ok(());
                }
                Err(now) => {
                    let now = Cursor(now);
                    if now.kind() == Kind::Detached {
                        return Err(Detached);
                    }
                    self.was_evicted_to(now.seq());
                }
            }
        }
    }

    #[cold]
    fn was_evicted_to(&mut self, cursor: u64) {
        let lost = cursor.saturating_sub(self.next);
        self.lost += lost;
        self.unreported += if bug("gap-twice") { 2 * lost } else { lost };
        self.next = self.next.max(cursor);
        self.cursor = cursor;
        self.published.set(self.published.get().max(cursor));
    }

    /// Ends the pin: everything below `next` is given up, as far as it is published.
    #[inline(always)]
    pub(crate) fn unpin_at(&mut self, next: u64) {
        self.held = false;
        self.move_to(next, Kind::Idle);
    }

    /// Moves the held cursor, and keeps it held or not.
    #[inline(always)]
    pub(crate) fn move_to(&mut self, next: u64, kind: Kind) {
        debug_assert!(next >= self.next);
        self.next = next;
        let mut cursor = next;
        if next > self.published.get() {
            cursor = self.behind_a_claim(next);
        }
        let cell = self.shared.cells.at(self.index);
        let by_store = self.by_store;
        let shown = if by_store { Kind::Idle } else { kind };
        let word = Cursor::new(shown, Cursor::short(self.generation), cursor);
        // A plain store: while the cell is held, only we write it. Release: our reads come before the reuse.
        cell.word.store(word.0, unless("cursor-unreleased", Ordering::Release));
        if by_store && kind == Kind::Idle {
            self.by_store = false;
            cell.step_out();
        }
        if cursor != self.cursor {
            self.cursor = cursor;
            self.shared.moved_on();
        }
    }

    /// Records between cursor and `next` are not published yet (see `next`): the cursor stays in front of them.
    #[cold]
    fn behind_a_claim(&mut self, next: u64) -> u64 {
        self.look_ahead(next);
        let cursor = if bug("passes-unpublished") { next } else { self.published.get().min(next) };
        if cursor < next {
            // Evictors count from here. Ordered by the Release store of the word that follows.
            self.shared.cells.at(self.index).wanted_from.store(next, Ordering::Relaxed);
        }
        cursor
    }

    /// Extends the known published run, to `limit` at most.
    #[inline]
    pub(crate) fn look_ahead(&self, limit: u64) {
        let from = self.published.get();
        self.published.set(self.shared.published_run(from, limit).max(from));
    }

    /// A position that a caller may ask for, made one that the reader may take: not before `next`, and not past the
    /// end of the published run that begins there.
    #[inline]
    pub(crate) fn within_reach(&self, seq: u64) -> u64 {
        if seq <= self.published.get() {
            return seq.max(self.next);
        }
        self.look_ahead(seq);
        let known = self.published.get();
        // The cursor may wait in front of an unpublished record that this reader does not want.
        if known >= self.next { known.min(seq) } else { self.shared.published_run(self.next, seq) }
            .max(self.next)
    }

    /// Whether `seq` can be in the ring at all, seen from `start`, which is not before the cursor.
    #[inline(always)]
    pub(crate) fn in_range(&self, seq: u64, start: u64) -> bool {
        seq.wrapping_sub(start) < self.shared.config.datums as u64
    }

    /// Lets a cursor that stayed behind follow, if it can.
    #[inline]
    fn catch_up(&mut self) {
        if self.cursor < self.next && !self.held {
            self.follow();
        }
    }

    #[cold]
    fn follow(&mut self) {
        if self.pin_cursor().is_ok() {
            self.unpin_at(self.next);
        }
    }

    /// Nothing to read: why?
    pub(crate) fn nothing(&mut self) -> Result<(), RecvError> {
        self.catch_up();
        if self.was_moved() && !self.held {
            // Notices a gap or a detachment.
            self.pin_cursor()?;
            self.unpin_at(self.next);
        }
        if self.is_finished() { Err(RecvError::Closed) } else { Ok(()) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.leave(self.index);
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("id", &self.id()).field("next", &self.next).finish_non_exhaustive()
    }
}
