//! Claims: room that one writer owns until it publishes or abandons it.

use crate::arena::{At, slice_at, slice_mut_at};
use crate::bugs::{bug, unless};
use crate::gate::Look;
use crate::ring::Shared;
use crate::sync::Ordering;
use crate::units::Units;
use crate::word::{Gate, Meta, Stamp, Tail};
use crate::writer::ClaimError;
use std::mem;
use std::ops::{Deref, DerefMut, Range};

/// What a swap of the tail (or a store, by its owner) won.
#[derive(Clone, Copy)]
pub(crate) struct Reserved {
    /// Sequence of the first record.
    pub(crate) seq: u64,
    /// Its byte position.
    pub(crate) position: u64,
    /// Byte position where the last record ends.
    pub(crate) end: u64,
    /// How many records; at least 1.
    pub(crate) count: u64,
}

/// No record has this sequence.
const NO_SEQ: u64 = u64::MAX;

impl Shared {
    #[inline(always)]
    pub(crate) fn check_len(&self, len: usize) -> Result<(), ClaimError> {
        if len > self.config.max_record {
            return Err(ClaimError::TooLarge { len, limit: self.config.max_record });
        }
        Ok(())
    }

    /// Takes room for up to `count` (at least 1) records of `each` units: as many as fit, at least one.
    #[inline(always)]
    pub(crate) fn reserve(&self, count: u64, each: u64, look: Look) -> Result<Reserved, ClaimError> {
        if let Some(alone) = self.alone.enter(self.fences) {
            if let Some(reserved) = alone.take(self.units, count, each) {
                return Ok(reserved);
            }
        } else if count == 1 {
            let (seq, position) = self.swap_for_one(each);
            if seq != NO_SEQ {
                let end = self.units.add(position, each);
                return Ok(Reserved { seq, position, end, count });
            }
        }
        // Taken apart and put together again, so that the usual cases stay in registers.
        let Reserved { seq, position, end, count } = self.reserve_behind_gate(count, each, look)?;
        Ok(Reserved { seq, position, end, count })
    }

    /// One swap for one record, with the gate as it is. Gives sequence and position, or [`NO_SEQ`]; in two registers,
    /// because what goes over the stack is stores to another line between those of two records.
    #[inline(always)]
    fn swap_for_one(&self, each: u64) -> (u64, u64) {
        // For the order see `reserve_behind_gate`.
        let tail = Tail(self.tail().load(Ordering::Acquire));
        let gate = Gate(self.gate.load(Ordering::Acquire));
        let Some(base) = self.base(gate) else { return (NO_SEQ, 0) };
        let used = tail.datums_since(base.seq);
        let used_units = self.units.distance(tail.position(), base.position);
        // A tail from before this gate has more than that used.
        if tail.is_closed() || used >= self.config.datums as u64 || used_units + each > self.units.capacity {
            return (NO_SEQ, 0);
        }
        let (seq, position) = (base.seq + used, tail.position());
        let after = Tail::open(seq + 1, self.units.add(position, each));
        let order = unless("claim-unordered", Ordering::AcqRel);
        match self.tail().compare_exchange(tail.0, after.0, order, Ordering::Relaxed) {
            Ok(_) => (seq, position),
            Err(_) => (NO_SEQ, 0),
        }
    }

    /// As above, for whoever shares the tail with others or has to look at the gate.
    #[inline(never)]
    fn reserve_behind_gate(&self, count: u64, each: u64, mut look: Look) -> Result<Reserved, ClaimError> {
        // Several records are as many as fit, not as many as were known to; one look is enough to know.
        let mut looked = false;
        loop {
            let alone = self.alone.enter(self.fences);
            // The order tail, gate, slot matters: a swap that succeeds (or a tail that is ours alone) proves that nobody
            // claimed since the tail was loaded, so the gate and the slot before it, loaded later, belong to this
            // tail. See `base`.
            let tail = Tail(self.tail().load(Ordering::Acquire));
            if tail.is_closed() && !bug("claim-after-close") {
                return Err(ClaimError::Closed);
            }
            let gate = Gate(self.gate.load(Ordering::Acquire));
            let Some(base) = self.base(gate) else { continue };
            let used = tail.datums_since(base.seq);
            let used_units = self.units.distance(tail.position(), base.position);
            let datums = self.config.datums as u64 + u64::from(bug("one-too-many"));
            if used > datums || used_units > self.units.capacity {
                continue; // A tail from before this gate.
            }
            let free_units = self.units.capacity - used_units;
            let mut take = count.min(datums - used);
            if take * each > free_units {
                take = free_units / each;
            }
            if take < count && (take == 0 || !looked) {
                // Outside: moving the gate may close the ring, which waits for us to be.
                drop(alone);
                let moved = self.advance_gate(gate, if take == 0 { look } else { Look::Once });
                looked = true;
                if take == 0 {
                    look = Look::Once;
                    if !moved && self.tail().load(Ordering::Acquire) == tail.0 {
                        return Err(ClaimError::Full);
                    }
                }
                continue;
            }
            let (seq, position) = (base.seq + used, tail.position());
            let end = self.units.add(position, take * each);
            let reserved = Reserved { seq, position, end, count: take };
            if let Some(alone) = alone {
                alone.note(reserved, datums - used, free_units, self.units);
                return alone.take(self.units, take, each).ok_or(ClaimError::Full);
            }
            let after = Tail::open(seq + take, end);
            // Release: who claims after us sees every gate that we saw.
            let order = unless("claim-unordered", Ordering::AcqRel);
            if self.tail().compare_exchange(tail.0, after.0, order, Ordering::Relaxed).is_ok() {
                return Ok(reserved);
            }
        }
    }

    /// Publishes one record without waking anybody.
    #[inline(always)]
    fn stamp(&self, seq: u64, stamp: Stamp, meta: Meta) {
        let slot = self.slots.at(seq);
        // Release: whoever sees this meta sees the gate that let us write it; see `base`.
        slot.meta.store(meta.0, Ordering::Release);
        // Release: meta and bytes come before the stamp.
        slot.stamp.store(stamp.0, unless("stamp-unreleased", Ordering::Release));
    }

    #[cold]
    fn abandon(&self, seq: u64, end: u64) {
        self.counters.add(&self.counters.abandoned, 1);
        self.stamp(seq, Stamp::new(seq, None), Meta::abandoned(end));
    }
}

/// ClaimFuture for one record: fill it, then [`RecordClaim::commit`]. Dropped without commit, the record is abandoned and readers
/// skip it. Leaked (`mem::forget`), it is never published and the ring stops there for ever, safely.
///
/// The bytes are what an earlier record of this ring left there, or zero.
#[must_use = "an unused claim is abandoned"]
pub struct RecordClaim<'a> {
    shared: &'a Shared,
    seq: u64,
    /// Byte position of its end, in units.
    end: u64,
    len: usize,
}

impl<'a> RecordClaim<'a> {
    #[inline(always)]
    pub(crate) fn new(shared: &'a Shared, reserved: Reserved, len: usize) -> Self {
        let claim = Self { shared, seq: reserved.seq, end: reserved.end, len };
        if !shared.arena.is_short(len) {
            shared.arena.prefetch_ahead(claim.at());
        }
        shared.arena.witness_write(claim.at(), len);
        claim
    }

    #[inline(always)]
    fn at(&self) -> At {
        self.shared.arena.find(self.seq, self.len, || self.end)
    }

    /// The record's sequence.
    #[inline]
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Publishes the record and gives its sequence. Wakes the readers that sleep.
    #[inline(always)]
    pub fn commit(self) -> u64 {
        let claim = mem::ManuallyDrop::new(self);
        claim.shared.arena.witness_write(claim.at(), claim.len);
        let stamp = Stamp::new(claim.seq, Some(claim.len));
        claim.shared.stamp(claim.seq, stamp, Meta::record(claim.end, claim.len));
        claim.shared.published();
        claim.seq
    }
}

impl Deref for RecordClaim<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the sequence and the units were won with the tail under a gate that keeps live records out of the units,
        // and out of the sequence's cell: less than `datums`, hence less than there are cells, lie between gate and tail
        // (`reserve`). `len` bytes fit either, and nobody reads them before the stamp. They were zeroed at birth.
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
        self.shared.published();
    }
}

impl std::fmt::Debug for RecordClaim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordClaim").field("seq", &self.seq).field("len", &self.len).finish()
    }
}

/// ClaimFuture for several records of one length with consecutive sequences, won in one atomic step. As [`RecordClaim`] otherwise.
#[must_use = "an unused claim is abandoned"]
pub struct BatchClaim<'a> {
    shared: &'a Shared,
    first: Reserved,
    len: usize,
}

impl<'a> BatchClaim<'a> {
    #[inline(always)]
    pub(crate) fn new(shared: &'a Shared, first: Reserved, len: usize) -> Self {
        let claim = Self { shared, first, len };
        for index in 0..first.count {
            shared.arena.witness_write(claim.at(index), len);
        }
        claim
    }

    #[inline(always)]
    fn at(&self, index: u64) -> At {
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
        // SAFETY: as for `RecordClaim`; record `index` is one of the sequences that were won, checked above, and inside the units
        // that were. Records do not overlap, and the claim is borrowed exclusively.
        unsafe { slice_mut_at(base, self.len) }
    }

    /// Publishes all records. Wakes the readers that sleep, once.
    #[inline]
    pub fn commit(self) -> Range<u64> {
        let count = self.len();
        self.commit_first(count)
    }

    /// Publishes the first `n` records (all, if there are fewer) and abandons the others. Gives the published range.
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
            self.shared.stamp(seq, Stamp::new(seq, Some(self.len)), Meta::record(end, self.len));
        }
        for index in n..if bug("rest-unstamped") { n } else { self.first.count } {
            end = self.shared.units.add(end, each);
            self.shared.abandon(self.first.seq + index, end);
        }
        self.shared.published();
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
