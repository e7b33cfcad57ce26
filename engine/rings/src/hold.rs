//! Reading in place: a pinned cursor, and the records in front of it.

use crate::arena::{At, CellStride, Stride, UnitStride, slice_at};
use crate::bugs::bug;
use crate::reader::{Detached, Known, Peeked, Reader, RecvError};
use crate::slots::{SlotCell, SlotsView};
use crate::sync::Ordering;
use crate::word::{Kind, Meta, Stamp};
use std::ops::Deref;

/// What stands at one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState<'a> {
    /// A record.
    Published(&'a [u8]),
    /// Its writer gave this record up. Skip it.
    Abandoned,
    /// Not published yet.
    Pending,
    /// Before the start of this hold.
    Passed,
}

/// A reader that has found so many short records one by one, and never none, is behind, or keeps pace with the writer.
const LONG_STREAK: u32 = 16;

/// How many records in front of itself a reader that is behind asks for one, since the processor cannot guess where in
/// the cells it lies.
const READ_AHEAD: u64 = 8;

impl Reader {
    /// Pins the cursor, so that records from [`PinGuard::start`] on can be read in place. A store to the reader's own line,
    /// or a compare-and-swap once a reader of this ring was evicted or detached, for any number of records. Works on an
    /// empty ring as well; when polling, ask [`Reader::is_ready`] first.
    #[inline]
    pub fn pin_guard(&mut self) -> Result<PinGuard<'_>, Detached> {
        self.pin_cursor()?;
        let lost = std::mem::take(&mut self.unreported);
        Ok(PinGuard { start: self.next, target: self.next, lost, reader: self })
    }

    /// The next record, if it is there. Abandoned ones are skipped. Dropping the record releases it.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Record<'_>>, RecvError> {
        Ok(self.next_record()?.map(|(at, len)| self.record(at, len)))
    }

    /// Shows the next record, if it is there, and leaves it. The cursor stays pinned, so that the same record is shown
    /// or taken next, until [`Reader::unpin`] or the end of a record or hold.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<Option<&[u8]>, RecvError> {
        let Some((at, len)) = self.next_record()? else { return Ok(None) };
        self.peeked = Peeked { seq: self.next, at, len };
        Ok(Some(self.bytes(at, len)))
    }

    /// Takes the record that [`Reader::peek`] showed, without looking for it again. `None`: it is not the next one any
    /// more, or not pinned.
    #[inline(always)]
    pub fn take_peeked(&mut self) -> Option<Record<'_>> {
        let Peeked { seq, at, len } = self.peeked;
        // Nobody moved a cursor that is pinned at the same position as then; and a sequence is given only once.
        (self.held && seq == self.next).then(|| self.record(at, len))
    }

    /// Takes the next record, if it is there: `read` gets its sequence, what eviction took before it, and its bytes. If
    /// `read` panics, the record counts as read. As [`Reader::try_recv`], without a [`Record`] to carry around.
    #[inline(always)]
    pub fn try_take<R>(&mut self, read: impl FnOnce(u64, u64, &[u8]) -> R) -> Result<Option<R>, RecvError> {
        let Some((at, len)) = self.next_record()? else { return Ok(None) };
        let record = self.record(at, len);
        Ok(Some(read(record.seq(), record.lost, &record)))
    }

    /// Where the next record lies and its length, if it is there. Then the cursor is pinned.
    #[inline(always)]
    fn next_record(&mut self) -> Result<Option<(At, usize)>, RecvError> {
        let mut found = None;
        if self.has_record() {
            self.pin_cursor()?;
            found = self.first_record();
            if found.is_none() {
                self.unpin_at(self.next);
            }
        }
        if found.is_none() {
            found = self.look_again()?;
        }
        if let Some((_, len)) = found
            && self.shared.arena.is_short(len)
        {
            self.streak = self.streak.wrapping_add(1);
            if self.streak > LONG_STREAK {
                self.shared.arena.expect_short(self.next + READ_AHEAD);
            }
        }
        Ok(found)
    }

    /// There was no record: was there news of another kind, or a gap and a record behind it? If so, pins.
    #[cold]
    fn look_again(&mut self) -> Result<Option<(At, usize)>, RecvError> {
        self.streak = 0;
        loop {
            self.nothing()?;
            if !self.has_record() {
                return Ok(None);
            }
            self.pin_cursor()?;
            if let Some(record) = self.first_record() {
                return Ok(Some(record));
            }
            self.unpin_at(self.next);
        }
    }

    /// Waits for the next record. Cancel-safe: a record is taken only by the poll that returns it.
    pub async fn recv(&mut self) -> Result<Record<'_>, RecvError> {
        loop {
            self.ready().await;
            if let Some((at, len)) = self.next_record()? {
                return Ok(self.record(at, len));
            }
        }
    }

    /// The pinned reader as the record at `next`, which lies at `at`.
    #[inline(always)]
    fn record(&mut self, at: At, len: usize) -> Record<'_> {
        let lost = std::mem::take(&mut self.unreported);
        Record { reader: self, at, len, lost }
    }

    /// Bytes of a published record at or behind the pinned cursor.
    #[inline(always)]
    fn bytes(&self, at: At, len: usize) -> &[u8] {
        let base = self.shared.arena.address(at);
        // SAFETY: callers take both from the slot of a published record at or behind the cursor, which is
        // pinned while this borrow lives, since only `&mut self` ends a pin: no gate passes it, so no writer claims
        // its memory. The record's writer wrote them before the stamp, which was acquired before that meta was read,
        // and has given its access up with it.
        unsafe { slice_at(base, len) }
    }

    /// Pinned: where the record at `next` lies and its length, after skipping abandoned ones.
    #[inline(always)]
    fn first_record(&mut self) -> Option<(At, usize)> {
        loop {
            let slot = self.published_slot(self.next)?;
            match slot.len().or(bug("abandoned-delivered").then_some(0)) {
                Some(len) => return Some((self.at_of(self.next, slot, len), len)),
                None => self.move_to(self.next + 1, Kind::Held),
            }
        }
    }

    /// Pinned: the slot of a record at or behind `next`, if it is published.
    #[inline(always)]
    pub(crate) fn published_slot(&self, seq: u64) -> Option<PublishedSlot<'_>> {
        let cell = self.shared.slots.at(seq);
        let stamp = cell.stamp();
        if !stamp.is_of(seq) {
            return None;
        }
        if self.published.get() == seq {
            self.published.set(seq + 1);
        }
        Some(PublishedSlot { cell, stamp })
    }

    /// Pinned: where the published record `seq` of `len` bytes lies, which is not abandoned. Of a long one, notes where the
    /// next one lies, if that is long, too.
    #[inline(always)]
    pub(crate) fn at_of(&self, seq: u64, slot: PublishedSlot<'_>, len: usize) -> At {
        let arena = &self.shared.arena;
        let known = self.known.get();
        let at = if !arena.is_short(len) && (known.seq == seq || bug("place-of-another")) {
            known.at
        } else {
            arena.find(seq, len, || slot.meta().end())
        };
        if !arena.is_short(len) {
            self.known.set(Known { seq: seq + 1, at: arena.behind(at, len) });
        }
        arena.witness_read(at, len);
        at
    }
}

/// The slot of a published record, at or behind a pinned cursor: it does not change.
#[derive(Clone, Copy)]
pub(crate) struct PublishedSlot<'a> {
    cell: &'a SlotCell,
    stamp: Stamp,
}

impl PublishedSlot<'_> {
    #[inline(always)]
    fn meta(self) -> Meta {
        Meta(self.cell.meta.load(Ordering::Relaxed))
    }

    /// Length in bytes; `None` if the record was abandoned.
    #[inline(always)]
    pub(crate) fn len(self) -> Option<usize> {
        // Most often it is in the stamp, which is looked at anyhow.
        self.stamp.short_len().or_else(|| self.meta().len())
    }
}

/// A pinned cursor: nothing from `start` on is overwritten, and no writer moves or detaches the reader, while it
/// lives. Dropping it moves the cursor to where [`PinGuard::advance_to`] said; by default it stays.
///
/// Leaked (`mem::forget`), the reader stays pinned until it holds again or is dropped.
pub struct PinGuard<'a> {
    reader: &'a mut Reader,
    start: u64,
    target: u64,
    lost: u64,
}

impl PinGuard<'_> {
    /// Sequence of the oldest record that can be read.
    #[inline]
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Records lost by eviction between the previous hold and this one, all of them just before `start`.
    #[inline]
    #[must_use]
    pub fn lost_before(&self) -> u64 {
        self.lost
    }

    /// What stands at `seq`, at any distance behind `start`, in any order.
    #[inline]
    #[must_use]
    pub fn get(&self, seq: u64) -> RecordState<'_> {
        if !self.reader.in_range(seq, self.start) {
            // Before the start, or further than the ring is long.
            return if seq < self.start { RecordState::Passed } else { RecordState::Pending };
        }
        let Some(slot) = self.reader.published_slot(seq) else { return RecordState::Pending };
        let Some(len) = slot.len() else { return RecordState::Abandoned };
        let at = self.reader.at_of(seq, slot, len);
        RecordState::Published(self.reader.bytes(at, len))
    }

    /// Gives every record from the released position on to `each`, with its sequence, and moves the released position
    /// (see [`PinGuard::advance_to`]) behind it. Stops before the first record that is not published, and after `max`
    /// sequences. Abandoned records are skipped. Gives the number of records that `each` got.
    ///
    /// Several times faster than [`PinGuard::get`] for one record after another of the same length below 1,023 bytes: then the
    /// next slot's stamp is known beforehand, and compared instead of parsed. If `each` panics, the record that it got
    /// counts as read.
    ///
    /// ```
    /// # use corewire_rings::{Ring, RingConfig};
    /// # let ring = Ring::new(RingConfig { datums: 4, bytes: 1024, max_record: 256, readers: 1, scatter_small: false })?;
    /// # let (writer, mut reader) = (ring.writer(), ring.subscribe()?);
    /// writer.try_push(b"one")?;
    /// writer.try_push(b"two")?;
    /// let mut bytes = 0;
    /// assert_eq!(reader.pin_guard()?.for_each(64, |_seq, record| bytes += record.len()), 2);
    /// assert_eq!((bytes, reader.position()), (6, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn for_each(&mut self, max: usize, mut each: impl FnMut(u64, &[u8])) -> usize {
        let shared = &*self.reader.shared;
        let (slots, arena) = (shared.slots.view(), &shared.arena);
        let from = self.target;
        let last = from.saturating_add(max as u64);
        let mut abandoned = 0;
        // Its end tells `self.target`, also if `each` panics.
        let mut progress = Progress { target: &mut self.target, seq: from };
        while progress.seq < last {
            let seq = progress.seq;
            let cell = slots.at(seq);
            let stamp = cell.stamp();
            if !stamp.is_of(seq) {
                break;
            }
            let slot = PublishedSlot { cell, stamp };
            progress.seq = seq + 1;
            let Some(len) = slot.len() else {
                abandoned += 1;
                continue;
            };
            let at = self.reader.at_of(seq, slot, len);
            // SAFETY: as in `Reader::bytes`; the slice lives no longer than this borrow of the hold, which `progress` keeps.
            each(seq, unsafe { slice_at(arena.address(at), len) });
            // Most streams have records of one length. Then the next stamp is known beforehand.
            let last = if stamp.short_len().is_some() { last } else { progress.seq };
            if arena.is_short(len) {
                progress.run(slots, last, stamp, &mut CellStride::new(arena, at, len), len, &mut each);
            } else {
                let mut stride = UnitStride::new(arena, at, len);
                progress.run(slots, last, stamp, &mut stride, len, &mut each);
                self.reader.known.set(Known { seq: progress.seq, at: arena.behind(stride.at(), len) });
            }
        }
        let to = progress.seq;
        drop(progress);
        let published = self.reader.published.get();
        // Otherwise the cursor waits in front of an unpublished record that this reader does not want.
        if published >= from {
            self.reader.published.set(published.max(to));
        }
        (to - from) as usize - abandoned
    }

    /// End of the published run that begins at `start`, looked for `max` records far at most.
    #[inline]
    #[must_use]
    pub fn published_to(&self, max: usize) -> u64 {
        self.reader.within_reach(self.start.saturating_add(max as u64))
    }

    /// Says where the cursor goes when the hold ends: `seq`, or `start` if that is later, or the end of the published
    /// run if that is earlier. Gives the position taken.
    #[inline]
    pub fn advance_to(&mut self, seq: u64) -> u64 {
        self.target = self.reader.within_reach(seq);
        self.target
    }

    /// The released position: where the cursor goes when the hold ends.
    #[inline]
    #[must_use]
    pub fn target(&self) -> u64 {
        self.target
    }

    /// Gives the room below the released position back now, and stays pinned from there on.
    #[inline]
    pub fn release_now(&mut self) {
        self.start = self.target;
        self.reader.move_to(self.target, Kind::Held);
    }
}

impl Drop for PinGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.reader.unpin_at(self.target);
    }
}

impl std::fmt::Debug for PinGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinGuard")
            .field("start", &self.start)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// How far [`PinGuard::for_each`] has come.
struct Progress<'a> {
    target: &'a mut u64,
    seq: u64,
}

impl Progress<'_> {
    /// Gives the records to `each` that follow one with this `stamp`, as long as they are published, have the same length,
    /// and are before `last`. Where they lie is `stride`'s to say, which stands at the one before.
    #[inline(always)]
    fn run(
        &mut self,
        slots: SlotsView<'_>,
        last: u64,
        stamp: Stamp,
        stride: &mut impl Stride,
        len: usize,
        each: &mut impl FnMut(u64, &[u8]),
    ) {
        let mut read = Read { stamp, seq: &mut self.seq };
        while read.stamp.next_seq() < last {
            for cell in slots.run(read.stamp.next_seq(), last) {
                read.stamp = read.stamp.next_of_same_len();
                if cell.stamp() != read.stamp && !bug("run-unstamped") {
                    read.stamp = read.stamp.previous_of_same_len();
                    return;
                }
                // SAFETY: as in `Reader::bytes`: published, and behind a cursor that is pinned while `target` is borrowed.
                each(read.stamp.next_seq() - 1, unsafe { slice_at(stride.next(), len) });
            }
        }
    }
}

/// The stamp of the record that was read last. It is all that a run counts up; its end tells the sequence, also if the
/// caller's function panics.
struct Read<'a> {
    stamp: Stamp,
    seq: &'a mut u64,
}

impl Drop for Read<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.seq = self.stamp.next_seq();
    }
}

impl Drop for Progress<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.target = self.seq;
    }
}

/// One record, read in place. Dropping it releases it.
///
/// Leaked (`mem::forget`), the reader stays pinned and the record is the next one again.
#[derive(Debug)]
pub struct Record<'a> {
    /// Pinned, with this record at its position.
    reader: &'a mut Reader,
    at: At,
    len: usize,
    lost: u64,
}

impl Record<'_> {
    /// Its sequence.
    #[inline]
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.reader.next
    }

    /// Records lost by eviction since the previous record.
    #[inline]
    #[must_use]
    pub fn lost_before(&self) -> u64 {
        self.lost
    }
}

impl Deref for Record<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.reader.bytes(self.at, self.len)
    }
}

impl Drop for Record<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.reader.unpin_at(self.reader.next + 1);
    }
}
