//! Writers that move readers: eviction takes the oldest records from lagging readers, detachment takes a
//! reader out. A pinned reader is never moved. Which policy evicts, and counting by cause, are the engine's.

use crate::bugs::mutate;
use crate::capacity::{GatePosition, Usage};
use crate::error::{ClaimError, DetachError};
use crate::gate::Retry;
use crate::reader_slots::{ReaderId, ReaderSlot};
use crate::shared::RingShared;
use crate::sync::{Ordering, fence};
use crate::word::{Cursor, CursorKind, Meta, Tail};

impl RingShared {
    /// A writer is about to move or detach readers.
    #[inline]
    fn revoke_store_pins(&self) {
        self.signals.pin_switch.revoke_store_pins(self.fences);
    }

    /// Makes room for a record of `units` by moving lagging cursors, as little as possible.
    #[cold]
    pub(crate) fn evict(&self, units: u64, on_lost: &mut dyn FnMut(ReaderId, u64)) -> Result<(), ClaimError> {
        self.revoke_store_pins();
        let capacity = self.capacity();
        loop {
            let tail = self.load_tail(Ordering::Acquire);
            if tail.is_closed() {
                return Err(ClaimError::Closed);
            }
            let gate = self.load_gate();
            let Some(from) = self.gate_position(gate) else { continue };
            let used = capacity.usage(from, tail);
            if capacity.is_exceeded_by(used) {
                continue; // A tail from before this gate.
            }
            if capacity.fits(used, units) {
                return Ok(());
            }
            if self.advance_gate(gate, Retry::No) || self.load_tail(Ordering::Acquire) != tail {
                continue;
            }
            let target = self.eviction_target(tail, from, used, units);
            if self.load_gate() != gate {
                continue; // The descriptors may have been of a later lap.
            }
            let Some(target) = target else {
                self.counters.add(&self.counters.blocked_by_claim, 1);
                return Err(ClaimError::Full);
            };
            let moved = self.move_cursors(from.seq, target, on_lost);
            // A writer that waits for room may find some now, whether we take it or not.
            self.notify_moved();
            moved?;
        }
    }

    /// Where the gate must be for a record of `units` to fit. `None`: a record before that is not published.
    fn eviction_target(&self, tail: Tail, from: GatePosition, used: Usage, units: u64) -> Option<u64> {
        let capacity = self.capacity();
        let (mut from, mut used) = (from, used);
        while used.datums > 0 && !capacity.fits(used, units) {
            let slot = self.descriptors.at(from.seq);
            if mutate!(!slot.stamp().is_of(from.seq), "evict-unpublished" => false) {
                return None;
            }
            let position = Meta(slot.meta.load(Ordering::Acquire)).end();
            from = GatePosition { seq: from.seq + 1, position };
            used = capacity.usage(from, tail);
        }
        Some(from.seq)
    }

    /// Moves every cursor in `from..to` to `to`. All of `from..to` is published.
    fn move_cursors(
        &self,
        from: u64,
        to: u64,
        on_lost: &mut dyn FnMut(ReaderId, u64),
    ) -> Result<(), ClaimError> {
        debug_assert!(from <= to, "eviction moves forward");
        let behind = |cursor: Cursor| cursor.holds_gate() && (from..to).contains(&cursor.seq());
        // One pinned reader makes the whole attempt useless: check all before any reader loses records.
        let pinned = |slot: &ReaderSlot, cursor| mutate!(slot.is_pinned(cursor), "evict-pinned" => false);
        if self.readers.taken().any(|(_, slot, cursor)| behind(cursor) && pinned(slot, cursor)) {
            return Err(self.blocked_by_pin());
        }
        for (index, slot, seen) in self.readers.taken() {
            let mut cursor = seen;
            while behind(cursor) {
                if pinned(slot, cursor) {
                    return Err(self.blocked_by_pin());
                }
                // Loaded before the swap, whose success proves that the slot still has this reader; it may
                // leave, and another join, right after it. The `wanted_from` of an unpinned reader does not
                // change.
                let load = || {
                    let generation = slot.generation.load(Ordering::Acquire) as u32;
                    let wanted_from = slot.wanted_from.load(Ordering::Relaxed);
                    (ReaderId { index: index as u32, generation }, wanted_from)
                };
                let owner = load();
                // Fails if the reader pinned, moved, left or changed. Release: the stamps that we saw come
                // before the reader's next load of its cursor.
                match slot.cursor.compare_exchange(
                    cursor.0,
                    cursor.at(to).0,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(_) => {
                        // A joining reader loses nothing: it has not stored yet from where on it wants
                        // records.
                        let (loser, wanted_from) = mutate!(owner, "loss-reported-late" => load());
                        let wanted = cursor.seq().max(wanted_from);
                        if cursor.kind() == CursorKind::Joined && to > wanted {
                            self.count_lost(slot, to - wanted);
                            on_lost(loser, to - wanted);
                        }
                        break;
                    }
                    Err(now) => cursor = Cursor(now),
                }
            }
        }
        Ok(())
    }

    fn count_lost(&self, slot: &ReaderSlot, lost: u64) {
        slot.lost.fetch_add(lost, Ordering::Relaxed);
        self.counters.add(&self.counters.evicted, lost);
    }

    fn blocked_by_pin(&self) -> ClaimError {
        self.counters.add(&self.counters.blocked_by_pin, 1);
        ClaimError::Full
    }

    /// Takes a reader out: its cursor holds the gate no more. The reader's next call reports it. Returns the
    /// position of the reader.
    pub(crate) fn detach(&self, id: ReaderId) -> Result<u64, DetachError> {
        let index = id.index as usize;
        let slot = self.readers.get(index).ok_or(DetachError::Gone)?;
        self.revoke_store_pins();
        let position = loop {
            let generation = slot.generation.load(Ordering::Acquire);
            let cursor = Cursor(slot.cursor.load(Ordering::Acquire));
            let other = mutate!(generation != u64::from(id.generation), "detach-any-owner" => false);
            if other || cursor.generation() != Cursor::short(generation) {
                return Err(DetachError::Gone);
            }
            match cursor.kind() {
                CursorKind::Joined if slot.is_pinned(cursor) => return Err(DetachError::Pinned),
                CursorKind::Joined => {}
                CursorKind::Pinned | CursorKind::Joining => return Err(DetachError::Pinned),
                CursorKind::Free | CursorKind::Detached => return Err(DetachError::Gone),
            }
            // As in `move_cursors`: of the reader that had this cursor, if the swap succeeds.
            let wanted_from = slot.wanted_from.load(Ordering::Relaxed);
            let detached = Cursor::new(CursorKind::Detached, cursor.generation(), cursor.seq());
            let swap =
                slot.cursor.compare_exchange(cursor.0, detached.0, Ordering::AcqRel, Ordering::Relaxed);
            if swap.is_ok() {
                break cursor.seq().max(wanted_from);
            }
        };
        self.signals.live.fetch_sub(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let wake = || self.signals.wake_reader(index, &self.readers, &self.counters);
        mutate!(wake(), "detach-silent" => ());
        self.notify_moved();
        Ok(position)
    }
}
