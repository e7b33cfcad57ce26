//! Reading records one by one, in place.

use crate::arena::{ArenaOffset, slice_at};
use crate::bugs::mutate;
use crate::descriptors::Descriptor;
use crate::error::RecvError;
use crate::reader::{After, PackedPlace, PeekedRecord, Reader};
use crate::sync::Ordering;
use crate::word::{Meta, Stamp};
use std::ops::Deref;

/// What a ring has at one sequence, as one reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState<'a> {
    /// A published record: its bytes.
    Published(&'a [u8]),
    /// Its writer gave it up. Skip it.
    Abandoned,
    /// Not published yet.
    Pending,
    /// Before the pinned cursor.
    Passed,
}

/// A reader that found more small records than this one after another is behind the writer, or as fast.
const LONG_STREAK: u32 = 16;

/// How many records ahead such a reader prefetches: the processor cannot predict where scattered records lie.
const PREFETCH_AHEAD: u64 = 8;

impl Reader {
    /// The next record, if it is published. Abandoned ones are skipped. Dropping the record releases it.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Record<'_>>, RecvError> {
        Ok(self.next_record()?.map(|(at, len)| self.record(at, len)))
    }

    /// Shows the next record, if it is published, and leaves it. The cursor stays pinned, so that the same
    /// record is shown or taken next, until [`Reader::unpin`] or the end of a record or guard.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<Option<&[u8]>, RecvError> {
        let Some((at, len)) = self.next_record()? else { return Ok(None) };
        self.peeked = PeekedRecord { seq: self.next, at, len };
        Ok(Some(self.bytes(at, len)))
    }

    /// The sequence of the record that [`Reader::peek`] showed last.
    #[inline(always)]
    pub fn peeked_seq(&self) -> u64 {
        self.peeked.seq
    }

    /// Takes the record that [`Reader::peek`] showed, without looking for it again. `None`: it is no longer
    /// the next one, or the cursor is not pinned.
    #[inline(always)]
    pub fn take_peeked(&mut self) -> Option<Record<'_>> {
        let PeekedRecord { seq, at, len } = self.peeked;
        // A pinned cursor at the same sequence was not moved since, and a sequence is given only once.
        (self.is_pinned() && seq == self.next).then(|| self.record(at, len))
    }

    /// Takes the next record, if it is published: `read` gets its sequence, how many records eviction took
    /// before it, and its bytes. If `read` panics, the record counts as read. As [`Reader::try_recv`],
    /// without a [`Record`] to carry around.
    #[inline(always)]
    pub fn try_take<R>(&mut self, read: impl FnOnce(u64, u64, &[u8]) -> R) -> Result<Option<R>, RecvError> {
        let Some((at, len)) = self.next_record()? else { return Ok(None) };
        let record = self.record(at, len);
        Ok(Some(read(record.seq(), record.lost, &record)))
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

    /// Where the next record lies and its length, if it is published. Then the cursor is pinned.
    #[inline(always)]
    fn next_record(&mut self) -> Result<Option<(ArenaOffset, usize)>, RecvError> {
        let mut found = None;
        if self.has_record() {
            self.pin_cursor()?;
            found = self.first_record();
            if found.is_none() {
                self.unpin_at(self.next);
            }
        }
        if found.is_none() {
            found = self.next_record_slow()?;
        }
        if let Some((_, len)) = found
            && self.shared.arena.is_scattered(len)
        {
            self.sequential_hits = self.sequential_hits.wrapping_add(1);
            if self.sequential_hits > LONG_STREAK {
                self.shared.arena.prefetch_small(self.next + PREFETCH_AHEAD);
            }
        }
        Ok(found)
    }

    /// There was no record: notices a gap or the end, or finds a record after a gap. Pins if it finds one.
    #[cold]
    fn next_record_slow(&mut self) -> Result<Option<(ArenaOffset, usize)>, RecvError> {
        self.sequential_hits = 0;
        loop {
            self.notice_no_record()?;
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

    /// The pinned reader as the record at `next`, which lies at `at`.
    #[inline(always)]
    fn record(&mut self, at: ArenaOffset, len: usize) -> Record<'_> {
        let lost = std::mem::take(&mut self.unreported);
        Record { reader: self, at, len, lost }
    }

    /// Bytes of a published record at or after the pinned cursor.
    #[inline(always)]
    fn bytes(&self, at: ArenaOffset, len: usize) -> &[u8] {
        let base = self.shared.arena.address(at);
        // SAFETY: callers take both from the descriptor of a published record at or after the cursor, which
        // is pinned while this borrow lives, since only `&mut self` ends a pin: no gate passes the record, so
        // no writer claims its memory. Its own writer wrote the bytes before the stamp, which was acquired
        // before that meta was read, and gave its access up with the stamp.
        unsafe { slice_at(base, len) }
    }

    /// Pinned: where the record at `next` lies and its length, after skipping abandoned ones.
    #[inline(always)]
    fn first_record(&mut self) -> Option<(ArenaOffset, usize)> {
        loop {
            let found = self.published_at(self.next)?;
            let len = found.len();
            match mutate!(len, "abandoned-delivered" => len.or(Some(0))) {
                Some(len) => return Some((self.locate(self.next, found, len), len)),
                None => self.move_to(self.next + 1, After::Pinned),
            }
        }
    }

    /// Pinned: what there is at `seq`, if `start` is the first sequence that may be read, at or after the
    /// cursor.
    #[inline]
    pub(crate) fn state_at(&self, seq: u64, start: u64) -> RecordState<'_> {
        debug_assert!(self.is_pinned());
        if !self.in_range(seq, start) {
            return if seq < start { RecordState::Passed } else { RecordState::Pending };
        }
        let Some(found) = self.published_at(seq) else { return RecordState::Pending };
        let Some(len) = found.len() else { return RecordState::Abandoned };
        RecordState::Published(self.bytes(self.locate(seq, found, len), len))
    }

    /// Pinned: the descriptor of a record at or after `next`, if it is published.
    #[inline(always)]
    fn published_at(&self, seq: u64) -> Option<PublishedRecord<'_>> {
        let descriptor = self.shared.descriptors.at(seq);
        let stamp = descriptor.stamp();
        if !stamp.is_of(seq) {
            return None;
        }
        if self.published.get() == seq {
            self.published.set(seq + 1);
        }
        Some(PublishedRecord { descriptor, stamp })
    }

    /// Pinned: where the published record `seq` of `len` bytes lies. Of a packed one, keeps where the next
    /// one lies.
    #[inline(always)]
    pub(crate) fn locate(&self, seq: u64, found: PublishedRecord<'_>, len: usize) -> ArenaOffset {
        let arena = &self.shared.arena;
        let known = self.next_packed.get();
        let at = if !arena.is_scattered(len) && mutate!(known.seq == seq, "place-of-another" => true) {
            known.at
        } else {
            arena.find(seq, len, || found.meta().end())
        };
        if !arena.is_scattered(len) {
            self.next_packed.set(PackedPlace { seq: seq + 1, at: arena.next_packed(at, len) });
        }
        arena.witness_read(at, len);
        at
    }
}

/// The descriptor of a published record at or after a pinned cursor: it does not change.
#[derive(Clone, Copy)]
pub(crate) struct PublishedRecord<'a> {
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) stamp: Stamp,
}

impl PublishedRecord<'_> {
    #[inline(always)]
    fn meta(self) -> Meta {
        Meta(self.descriptor.meta.load(Ordering::Relaxed))
    }

    /// Length in bytes; `None` if the record was abandoned.
    #[inline(always)]
    pub(crate) fn len(self) -> Option<usize> {
        // Mostly in the stamp, which is loaded anyway.
        self.stamp.inline_len().or_else(|| self.meta().len())
    }
}

/// One record, read in place. Dropping it releases it.
///
/// Leaked (`mem::forget`), the reader stays pinned and the record is the next one again.
#[derive(Debug)]
pub struct Record<'a> {
    /// Pinned, with this record at its position.
    reader: &'a mut Reader,
    at: ArenaOffset,
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
