//! The reading handle: its position, when it is ready, how it sleeps, how it pins and moves its cursor. What
//! it reads is in `read`, `guard` and `ahead`.

use crate::arena::ArenaOffset;
use crate::bugs::mutate;
use crate::error::{Detached, ForkError, NoReaderSlot, RecvError};
use crate::pin::Pin;
use crate::reader_slots::{ReaderId, ReaderSlot};
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::word::{Cursor, CursorKind};
use std::cell::Cell;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A cursor on a ring. `Send`, not `Sync`: one thread at a time has it. Dropping it leaves the ring.
pub struct Reader {
    pub(crate) shared: Arc<RingShared>,
    /// Its slot.
    pub(crate) index: usize,
    /// Which reader of that slot it is.
    generation: u64,
    /// The sequence of its cursor, unless a writer moved or detached it while it was not pinned. At most
    /// `next` and `published`.
    cursor: u64,
    /// The next record to read. Greater than `cursor` only after a join while older records were not yet
    /// published; the cursor follows when they are.
    pub(crate) next: u64,
    /// Every record from `cursor` to here is published. Only grows.
    pub(crate) published: Cell<u64>,
    /// Where the record after the last one read lies, if both are packed.
    pub(crate) next_packed: Cell<PackedPlace>,
    /// Small records read one by one since a poll found none.
    pub(crate) sequential_hits: u32,
    /// What [`Reader::peek`] found.
    pub(crate) peeked: PeekedRecord,
    /// How the cursor is pinned: by what reads in place, by [`Reader::pin`], or by a guard or record that was
    /// leaked.
    pub(crate) pin: Pin,
    /// This reader set its bit in `sleepers` and has not cleared it. A publisher may have.
    asleep: bool,
    /// Records that eviction took and that this reader noticed.
    lost: u64,
    /// The part of `lost` that no guard and no record has reported yet.
    pub(crate) unreported: u64,
    /// Not `Sync`.
    _one_thread: PhantomData<Cell<()>>,
}

/// Where the packed record `seq` lies: where the one before it ended.
#[derive(Clone, Copy)]
pub(crate) struct PackedPlace {
    pub(crate) seq: u64,
    pub(crate) at: ArenaOffset,
}

/// Where the published record `seq` lies, and its length in bytes.
#[derive(Clone, Copy)]
pub(crate) struct PeekedRecord {
    pub(crate) seq: u64,
    pub(crate) at: ArenaOffset,
    pub(crate) len: usize,
}

/// Where the cursor is after a move.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Pinned,
    Unpinned,
}

impl Reader {
    /// `None`: all slots are taken.
    pub(crate) fn join(shared: &Arc<RingShared>) -> Option<Self> {
        let (index, generation) = shared.join()?;
        Some(Self::finish_join(shared, index, generation))
    }

    /// The reader of a slot whose cursor is joining.
    pub(crate) fn finish_join(shared: &Arc<RingShared>, index: usize, generation: u64) -> Self {
        let (cursor, next) = shared.finish_join(index);
        Self::at(shared, (index, generation), cursor, next)
    }

    /// The reader of a slot whose cursor has joined at `cursor`, from where to `next` it wants nothing.
    fn at(shared: &Arc<RingShared>, (index, generation): (usize, u64), cursor: u64, next: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            index,
            generation,
            cursor,
            next,
            published: Cell::new(cursor),
            next_packed: Cell::new(PackedPlace { seq: u64::MAX, at: ArenaOffset::default() }),
            sequential_hits: 0,
            peeked: PeekedRecord { seq: u64::MAX, at: ArenaOffset::default(), len: 0 },
            pin: Pin::None,
            asleep: false,
            lost: 0,
            unreported: 0,
            _one_thread: PhantomData,
        }
    }

    /// Another reader of the ring, at `seq`: it sees every record from there on. This reader stays as it is.
    ///
    /// `seq` is at or after this reader's position, which keeps these records in the ring meanwhile, and at
    /// most the end of the published run that starts there.
    pub fn fork_at(&mut self, seq: u64) -> Result<Reader, ForkError> {
        let was_pinned = self.is_pinned();
        self.pin_cursor()?;
        let forked = self.fork_pinned(seq);
        if !was_pinned {
            self.unpin_at(self.next);
        }
        forked
    }

    fn fork_pinned(&self, seq: u64) -> Result<Reader, ForkError> {
        if seq < self.next {
            return Err(ForkError::Passed { oldest: self.next });
        }
        self.extend_published(seq);
        let published = self.published.get();
        if seq > published {
            return Err(ForkError::Unpublished { published });
        }
        let limit = self.shared.config.readers;
        let slot = self.shared.join_at(seq).ok_or(NoReaderSlot { limit })?;
        Ok(Self::at(&self.shared, slot, seq, seq))
    }

    /// This reader's name.
    #[must_use]
    pub fn id(&self) -> ReaderId {
        ReaderId { index: self.index as u32, generation: self.generation as u32 }
    }

    /// Sequence of the next record to read. An eviction shows here after the next pin or poll.
    #[inline]
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Records between the position and the tail. Loads the line that writers write most; not for every poll.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.shared.span().1.saturating_sub(self.next)
    }

    /// Records that eviction took from this reader and that it noticed, in total.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether there is something to notice: a published record, a gap, the end, or a detachment. Three loads
    /// at most, none of a line that writers write for each record but the record's own.
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

    #[inline(always)]
    pub(crate) fn slot(&self) -> &ReaderSlot {
        self.shared.readers.at(self.index)
    }

    #[inline(always)]
    pub(crate) fn is_pinned(&self) -> bool {
        self.pin != Pin::None
    }

    /// Whether the next record is published, or a later one has its descriptor because this reader was
    /// evicted.
    #[inline(always)]
    pub(crate) fn has_record(&self) -> bool {
        // The bytes come from the writer's cache, as the stamp does; fetch both at once.
        let known = self.next_packed.get();
        if known.seq == self.next {
            self.shared.arena.prefetch_at(known.at);
        } else {
            self.shared.arena.prefetch_small(self.next);
        }
        self.shared.descriptors.at(self.next).stamp().since(self.next) >= 0
    }

    /// Whether a writer moved or detached this reader since it last changed its cursor.
    #[inline(always)]
    pub(crate) fn was_moved(&self) -> bool {
        self.slot().cursor.load(Ordering::Relaxed) != self.word().0
    }

    /// The slot's cursor, if no writer changed it.
    #[inline(always)]
    fn word(&self) -> Cursor {
        let kind = if self.pin == Pin::BySwap { CursorKind::Pinned } else { CursorKind::Joined };
        Cursor::new(kind, Cursor::short(self.generation), self.cursor)
    }

    /// Ready when [`Reader::is_ready`] is true. Otherwise the waker is kept, and woken once at the next
    /// publication, close or detachment. Cancel-safe: takes nothing.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(Self::is_ready, cx)
    }

    /// Ready when `ready` is true; otherwise sleeps.
    pub(crate) fn poll_until(&mut self, ready: impl Fn(&Self) -> bool, cx: &mut Context<'_>) -> Poll<()> {
        self.catch_up();
        if ready(self) {
            self.wake_up();
            return Poll::Ready(());
        }
        let shared = &*self.shared;
        if !shared.signals.fall_asleep(self.index, cx.waker(), &shared.readers, shared.fences) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.asleep = true;
        // Once more, after the fence: a record published before it is seen now, the publisher of a later one
        // sees our bit. It may be an older record that this reader does not want, and writers wait for us to
        // pass it.
        mutate!(self.catch_up(), "sleeps-before-old-record" => ());
        if mutate!(ready(self), "no-second-look" => false) {
            self.wake_up();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn wake_up(&mut self) {
        if self.asleep {
            self.asleep = false;
            self.shared.signals.stay_awake(self.index, &self.shared.readers);
        }
    }

    /// Waits until there is something to notice.
    pub(crate) async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Pins the cursor: from here on no writer moves it, and nothing from it on is overwritten.
    #[inline(always)]
    pub(crate) fn pin_cursor(&mut self) -> Result<(), Detached> {
        if self.is_pinned() {
            // By `pin`, or by a leaked guard, whose borrows are over, since `self` is borrowed.
            return Ok(());
        }
        if crate::bugs::bug("pin-skipped") {
            self.pin = Pin::BySwap;
            return Ok(());
        }
        let shared = &*self.shared;
        if shared.signals.pin_switch.try_pin_by_store(self.slot(), self.word(), shared.fences) {
            self.pin = Pin::ByStore;
            return Ok(());
        }
        self.pin_by_swap()
    }

    #[inline]
    fn pin_by_swap(&mut self) -> Result<(), Detached> {
        loop {
            let unpinned = self.word();
            let pinned = Cursor::new(CursorKind::Pinned, unpinned.generation(), self.cursor);
            // Acquire: no load of a descriptor comes before the pin. Of this swap and a writer's, one fails.
            let swap = self.slot().cursor.compare_exchange(
                unpinned.0,
                pinned.0,
                Ordering::Acquire,
                Ordering::Acquire,
            );
            match swap.map_err(Cursor) {
                Ok(_) => {
                    self.pin = Pin::BySwap;
                    return Ok(());
                }
                Err(now) if now.kind() == CursorKind::Detached => return Err(Detached),
                Err(now) => self.was_evicted_to(now.seq()),
            }
        }
    }

    #[cold]
    fn was_evicted_to(&mut self, cursor: u64) {
        debug_assert!(cursor > self.cursor, "writers move cursors forward");
        let lost = cursor.saturating_sub(self.next);
        self.lost += lost;
        self.unreported += mutate!(lost, "gap-twice" => 2 * lost);
        self.next = self.next.max(cursor);
        self.cursor = cursor;
        self.published.set(self.published.get().max(cursor));
    }

    /// Ends the pin and gives up everything below `next`, as far as it is published.
    #[inline(always)]
    pub(crate) fn unpin_at(&mut self, next: u64) {
        self.move_to(next, After::Unpinned);
    }

    /// Moves the pinned cursor.
    #[inline(always)]
    pub(crate) fn move_to(&mut self, next: u64, after: After) {
        debug_assert!(self.is_pinned(), "only a pinned cursor is stored");
        debug_assert!(next >= self.next, "a reader moves forward");
        self.next = next;
        let mut cursor = next;
        if next > self.published.get() {
            cursor = self.before_unpublished(next);
        }
        debug_assert!(cursor >= self.cursor && cursor <= next && cursor <= self.published.get());
        let pin = self.pin;
        let kind = if pin == Pin::BySwap && after == After::Pinned {
            CursorKind::Pinned
        } else {
            CursorKind::Joined
        };
        let word = Cursor::new(kind, Cursor::short(self.generation), cursor);
        // A plain store: while pinned, only this reader changes the word. Release: our reads come before the
        // reuse.
        let order = mutate!(Ordering::Release, "cursor-unreleased" => Ordering::Relaxed);
        // Looked up once: the stores below could change `self` as far as the compiler knows.
        let slot = self.shared.readers.at(self.index);
        slot.cursor.store(word.0, order);
        if after == After::Unpinned {
            self.pin = Pin::None;
            if pin == Pin::ByStore {
                slot.unpin_store();
            }
        }
        if cursor != self.cursor {
            self.cursor = cursor;
            self.shared.notify_moved();
        }
    }

    /// The cursor for `next` if records between may be unpublished (see `next`): it stays before the first of
    /// them.
    #[cold]
    fn before_unpublished(&mut self, next: u64) -> u64 {
        self.extend_published(next);
        let published = self.published.get().min(next);
        let cursor = mutate!(published, "passes-unpublished" => next);
        if cursor < next {
            // Evictors count losses from here. Ordered by the Release store of the cursor that follows.
            self.slot().wanted_from.store(next, Ordering::Relaxed);
        }
        cursor
    }

    /// Extends the known published run, to `limit` at most.
    #[inline]
    pub(crate) fn extend_published(&self, limit: u64) {
        let from = self.published.get();
        self.published.set(self.shared.descriptors.published_run(from, limit).max(from));
    }

    /// `seq`, limited to where the reader may move: not before `next`, and not past the end of the published
    /// run that starts there.
    #[inline]
    pub(crate) fn within_reach(&self, seq: u64) -> u64 {
        if seq <= self.published.get() {
            return seq.max(self.next);
        }
        self.extend_published(seq);
        let known = self.published.get();
        // The cursor may stand before an unpublished record that this reader does not want.
        if known >= self.next {
            known.min(seq)
        } else {
            self.shared.descriptors.published_run(self.next, seq)
        }
        .max(self.next)
    }

    /// Whether `seq` is less than the ring's datums after `start`, which is not before the cursor.
    #[inline(always)]
    pub(crate) fn in_range(&self, seq: u64, start: u64) -> bool {
        seq.wrapping_sub(start) < self.shared.config.datums as u64
    }

    /// Lets a cursor that stayed before `next` follow, if it can.
    #[inline]
    fn catch_up(&mut self) {
        if self.cursor < self.next && !self.is_pinned() {
            self.repin();
        }
    }

    /// Pins and unpins: notices an eviction, and lets the cursor follow `next`.
    #[cold]
    fn repin(&mut self) {
        if self.pin_cursor().is_ok() {
            self.unpin_at(self.next);
        }
    }

    /// There is nothing to read: notices a gap, a detachment or the end.
    pub(crate) fn notice_no_record(&mut self) -> Result<(), RecvError> {
        self.catch_up();
        if self.was_moved() && !self.is_pinned() {
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
