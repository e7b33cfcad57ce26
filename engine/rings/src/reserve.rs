//! How a claim takes room: by the tail's owner, by one swap, or on the slow path that looks at the gate.

use crate::bugs::mutate;
use crate::capacity::Capacity;
use crate::error::ClaimError;
use crate::gate::Retry;
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::tail::Reservation;
use crate::word::Tail;

/// No record has this sequence.
const NO_SEQ: u64 = u64::MAX;

impl RingShared {
    /// Takes room for up to `count` (at least 1) records of `each` units: as many as fit, at least one.
    #[inline(always)]
    pub(crate) fn reserve(&self, count: u64, each: u64, retry: Retry) -> Result<Reservation, ClaimError> {
        if let Some(owner) = self.tail.try_enter(self.fences) {
            if let Some(reserved) = owner.try_reserve(self.units, count, each) {
                return Ok(reserved);
            }
        } else if count == 1 {
            let (seq, position) = self.try_reserve_cas(each);
            if seq != NO_SEQ {
                let end = self.units.add(position, each);
                return Ok(Reservation { seq, position, end, count });
            }
        }
        // Taken apart and put together again, so that the fast paths stay in registers.
        let Reservation { seq, position, end, count } = self.reserve_slow(count, each, retry)?;
        Ok(Reservation { seq, position, end, count })
    }

    /// One swap for one record, with the gate as it is. Gives sequence and position, or [`NO_SEQ`]; in two
    /// registers, because a result in memory costs stores to another line between those of two records.
    #[inline(always)]
    fn try_reserve_cas(&self, each: u64) -> (u64, u64) {
        // For the order of the loads see `reserve_slow`.
        let tail = self.load_tail(Ordering::Acquire);
        let gate = self.load_gate();
        let Some(from) = self.gate_position(gate) else { return (NO_SEQ, 0) };
        let capacity = self.capacity();
        let used = capacity.usage(from, tail);
        // A tail from before this gate uses more than there is.
        if tail.is_closed() || !capacity.fits(used, each) {
            return (NO_SEQ, 0);
        }
        let (seq, position) = (from.seq + used.datums, tail.position());
        let after = Tail::open(seq + 1, self.units.add(position, each));
        let order = mutate!(Ordering::AcqRel, "claim-unordered" => Ordering::Relaxed);
        match self.tail.word().compare_exchange(tail.0, after.0, order, Ordering::Relaxed) {
            Ok(_) => (seq, position),
            Err(_) => (NO_SEQ, 0),
        }
    }

    /// [`RingShared::reserve`] for a thread that shares the tail or has to look at the gate.
    #[inline(never)]
    fn reserve_slow(&self, count: u64, each: u64, mut retry: Retry) -> Result<Reservation, ClaimError> {
        let capacity = self.capacity();
        let capacity =
            Capacity { datums: mutate!(capacity.datums, "one-too-many" => capacity.datums + 1), ..capacity };
        // A batch takes as many as fit, not as many as the cached gate allows: scan the cursors once to know.
        let mut scanned = false;
        loop {
            let owner = self.tail.try_enter(self.fences);
            // The order tail, gate, descriptor matters: if the swap succeeds (or this thread owns the tail),
            // no thread claimed since the tail was loaded, so the gate and the descriptor before it, loaded
            // later, belong to this tail. See `gate_position`.
            let tail = self.load_tail(Ordering::Acquire);
            if mutate!(tail.is_closed(), "claim-after-close" => false) {
                return Err(ClaimError::Closed);
            }
            let gate = self.load_gate();
            let Some(from) = self.gate_position(gate) else { continue };
            let used = capacity.usage(from, tail);
            if capacity.is_exceeded_by(used) {
                continue; // A tail from before this gate.
            }
            let take = capacity.fit(used, count, each);
            if take < count && (take == 0 || !scanned) {
                // Leave first: moving the gate may close the ring, which waits for the owner to leave.
                drop(owner);
                let moved = self.advance_gate(gate, if take == 0 { retry } else { Retry::No });
                scanned = true;
                if take == 0 {
                    retry = Retry::No;
                    if !moved && self.load_tail(Ordering::Acquire) == tail {
                        return Err(ClaimError::Full);
                    }
                }
                continue;
            }
            let (seq, position) = (from.seq + used.datums, tail.position());
            let end = self.units.add(position, take * each);
            let reserved = Reservation { seq, position, end, count: take };
            if let Some(owner) = owner {
                let (free, free_units) = (capacity.datums - used.datums, self.units.capacity - used.units);
                owner.refill(reserved, free, free_units, self.units);
                return owner.try_reserve(self.units, take, each).ok_or(ClaimError::Full);
            }
            let after = Tail::open(seq + take, end);
            // Release: a thread that claims after us sees every gate that we saw.
            let order = mutate!(Ordering::AcqRel, "claim-unordered" => Ordering::Relaxed);
            if self.tail.word().compare_exchange(tail.0, after.0, order, Ordering::Relaxed).is_ok() {
                return Ok(reserved);
            }
        }
    }
}
