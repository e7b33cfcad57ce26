//! Claims: room that one writer owns until it publishes or abandons it.

use crate::arena::{ArenaOffset, slice_at, slice_mut_at};
use crate::bugs::mutate;
use crate::error::ClaimError;
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::tail::Reservation;
use crate::units::Units;
use crate::word::{Meta, Stamp};
use std::mem;
use std::ops::{Deref, DerefMut, Range};

impl RingShared {
    #[inline(always)]
    pub(crate) fn check_len(&self, len: usize) -> Result<(), ClaimError> {
        if len > self.config.max_record {
            return Err(ClaimError::TooLarge { len, limit: self.config.max_record });
        }
        Ok(())
    }

    /// Publishes one record. Wakes no reader.
    #[inline(always)]
    fn publish(&self, seq: u64, stamp: Stamp, meta: Meta) {
        let slot = self.descriptors.at(seq);
        debug_assert!(slot.stamp().since(seq) < 0, "each record is published once");
        // Release: a thread that sees this meta sees the gate that let us write it; see `gate_position`.
        slot.meta.store(meta.0, Ordering::Release);
        // Release: meta and bytes come before the stamp.
        let order = mutate!(Ordering::Release, "stamp-unreleased" => Ordering::Relaxed);
        slot.stamp.store(stamp.0, order);
    }

    #[cold]
    fn abandon(&self, seq: u64, end: u64) {
        self.counters.add(&self.counters.abandoned, 1);
        self.publish(seq, Stamp::new(seq, None), Meta::abandoned(end));
    }
}

/// Room for one record: fill it, then [`RecordClaim::commit`]. Dropped without commit, the record is
/// abandoned and readers skip it. Leaked (`mem::forget`), it is never published and the ring stops there;
/// memory stays safe.
///
/// The bytes are those of an earlier record of this ring, or zero.
#[must_use = "an unused claim is abandoned"]
pub struct RecordClaim<'a> {
    shared: &'a RingShared,
    seq: u64,
    /// Position where it ends, in units.
    end: u64,
    len: usize,
}

impl<'a> RecordClaim<'a> {
    #[inline(always)]
    pub(crate) fn new(shared: &'a RingShared, reserved: Reservation, len: usize) -> Self {
        let claim = Self { shared, seq: reserved.seq, end: reserved.end, len };
        if !shared.arena.is_scattered(len) {
            shared.arena.prefetch_ahead(claim.at());
        }
        shared.arena.witness_write(claim.at(), len);
        claim
    }

    #[inline(always)]
    fn at(&self) -> ArenaOffset {
        self.shared.arena.find(self.seq, self.len, || self.end)
    }

    /// The record's sequence.
    #[inline]
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Publishes the record, wakes the readers that sleep, and gives its sequence.
    #[inline(always)]
    pub fn commit(self) -> u64 {
        let claim = mem::ManuallyDrop::new(self);
        claim.shared.arena.witness_write(claim.at(), claim.len);
        let stamp = Stamp::new(claim.seq, Some(claim.len));
        claim.shared.publish(claim.seq, stamp, Meta::record(claim.end, claim.len));
        claim.shared.notify_published();
        claim.seq
    }
}

impl Deref for RecordClaim<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the sequence and the units were won with the tail, under a gate that keeps live records out
        // of the units and out of the sequence's block: fewer than `datums`, so fewer than there are blocks,
        // lie between gate and tail (`reserve`). `len` bytes fit either; no thread reads them before the
        // stamp. They are initialized.
        unsafe { slice_at(self.shared.arena.address(self.at()), self.len) }
    }
}

impl DerefMut for RecordClaim<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and the claim is borrowed exclusively, so there is one such slice.
        unsafe { slice_mut_at(self.shared.arena.address(self.at()), self.len) }
    }
}

impl Drop for RecordClaim<'_> {
    fn drop(&mut self) {
        self.shared.abandon(self.seq, self.end);
        self.shared.notify_published();
    }
}

impl std::fmt::Debug for RecordClaim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordClaim").field("seq", &self.seq).field("len", &self.len).finish()
    }
}

/// Room for several records of one length with consecutive sequences, won in one atomic step. Otherwise as
/// [`RecordClaim`].
#[must_use = "an unused claim is abandoned"]
pub struct BatchClaim<'a> {
    shared: &'a RingShared,
    first: Reservation,
    len: usize,
}

impl<'a> BatchClaim<'a> {
    #[inline(always)]
    pub(crate) fn new(shared: &'a RingShared, first: Reservation, len: usize) -> Self {
        let claim = Self { shared, first, len };
        for index in 0..first.count {
            shared.arena.witness_write(claim.at(index), len);
        }
        claim
    }

    #[inline(always)]
    fn at(&self, index: u64) -> ArenaOffset {
        let end = || self.shared.units.add(self.first.position, (index + 1) * Units::of(self.len));
        self.shared.arena.find(self.first.seq + index, self.len, end)
    }

    /// How many records; at least 1.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.first.count as usize
    }

    /// Sequence of the first record.
    #[inline]
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.first.seq
    }

    /// The bytes of record `index`, 0 to `len() - 1`.
    ///
    /// # Panics
    /// If `index` is not below `len()`.
    #[inline]
    pub fn record(&mut self, index: usize) -> &mut [u8] {
        assert!(index < self.len(), "record {index} of a claim of {}", self.len());
        let base = self.shared.arena.address(self.at(index as u64));
        // SAFETY: as for `RecordClaim`; record `index` is one of the sequences that were won, checked above,
        // and inside the units that were. Records do not overlap, and the claim is borrowed exclusively.
        unsafe { slice_mut_at(base, self.len) }
    }

    /// Publishes all records and wakes the readers that sleep, once. Gives the published sequences.
    #[inline]
    pub fn commit(self) -> Range<u64> {
        let count = self.len();
        self.commit_first(count)
    }

    /// Publishes the first `n` records (all, if there are fewer) and abandons the others. Gives the published
    /// sequences.
    #[inline]
    pub fn commit_first(self, n: usize) -> Range<u64> {
        let claim = mem::ManuallyDrop::new(self);
        let published = claim.finish(n as u64);
        claim.first.seq..claim.first.seq + published
    }

    #[inline(always)]
    fn finish(&self, n: u64) -> u64 {
        let n = n.min(self.first.count);
        let each = Units::of(self.len);
        let mut end = self.first.position;
        for index in 0..n {
            self.shared.arena.witness_write(self.at(index), self.len);
            end = self.shared.units.add(end, each);
            let seq = self.first.seq + index;
            self.shared.publish(seq, Stamp::new(seq, Some(self.len)), Meta::record(end, self.len));
        }
        for index in n..mutate!(self.first.count, "rest-unstamped" => n) {
            end = self.shared.units.add(end, each);
            self.shared.abandon(self.first.seq + index, end);
        }
        debug_assert!(end == self.first.end, "the records fill the reservation");
        self.shared.notify_published();
        n
    }
}

impl Drop for BatchClaim<'_> {
    fn drop(&mut self) {
        self.finish(0);
    }
}

impl std::fmt::Debug for BatchClaim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.first.seq + self.first.count;
        f.debug_struct("BatchClaim").field("seqs", &(self.first.seq..end)).field("len", &self.len).finish()
    }
}
