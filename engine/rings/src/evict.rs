//! Writers that move readers: eviction (a lagging cursor loses its oldest records) and detachment. Never a reader that
//! reads in place; policies and counting per cause are the engine's.

use crate::bugs::bug;
use crate::cursor::Cell;
use crate::gate::{Base, Look};
use crate::ring::{DetachError, ReaderId, Shared};
use crate::sync::{Ordering, fence};
use crate::word::{Cursor, Gate, Kind, Meta, Tail};
use crate::writer::ClaimError;

/// What a look over the oldest records found.
enum Walk {
    /// The gate must come here.
    To(u64),
    /// This far, then a record that is not published.
    Unpublished,
}

impl Shared {
    /// Makes room for `units` by moving lagging cursors, as little as possible.
    #[cold]
    pub(crate) fn evict(&self, units: u64, on_lost: &mut dyn FnMut(ReaderId, u64)) -> Result<(), ClaimError> {
        self.before_moving_cursors();
        loop {
            let tail = Tail(self.tail().load(Ordering::Acquire));
            if tail.is_closed() {
                return Err(ClaimError::Closed);
            }
            let gate = Gate(self.gate.load(Ordering::Acquire));
            let Some(base) = self.base(gate) else { continue };
            let used = tail.datums_since(base.seq);
            if used > self.config.datums as u64 {
                continue; // A tail from before this gate.
            }
            if self.fits(tail, used, base.position, units) {
                return Ok(());
            }
            if self.advance_gate(gate, Look::Once) || self.tail().load(Ordering::Acquire) != tail.0 {
                continue;
            }
            let walk = self.walk(tail, base, used, units);
            if self.gate.load(Ordering::Acquire) != gate.0 {
                continue; // The slots that the walk saw may be newer than it thought.
            }
            match walk {
                Walk::To(target) => {
                    let pushed = self.push_cursors(base.seq, target, on_lost);
                    // Whoever queues for room may find some now, whether we take it or not.
                    self.moved_on();
                    pushed?;
                }
                Walk::Unpublished => {
                    self.counters.add(&self.counters.blocked_by_claim, 1);
                    return Err(ClaimError::Full);
                }
            }
        }
    }

    /// Whether one more record of `units` fits behind `tail` if the gate's byte position is `position`.
    fn fits(&self, tail: Tail, used: u64, position: u64, units: u64) -> bool {
        used < self.config.datums as u64
            && self.units.distance(tail.position(), position) + units <= self.units.capacity
    }

    /// How far the gate must move, over published records only.
    fn walk(&self, tail: Tail, base: Base, used: u64, units: u64) -> Walk {
        let (mut seq, mut position, mut used) = (base.seq, base.position, used);
        while used > 0 && !self.fits(tail, used, position, units) {
            let slot = self.slots.at(seq);
            if !slot.stamp().is_of(seq) && !bug("evict-unpublished") {
                return Walk::Unpublished;
            }
            position = Meta(slot.meta.load(Ordering::Acquire)).end();
            seq += 1;
            used -= 1;
        }
        Walk::To(seq)
    }

    /// Moves every cursor in `from..to` to `to`. All of `from..to` is published.
    fn push_cursors(
        &self,
        from: u64,
        to: u64,
        on_lost: &mut dyn FnMut(ReaderId, u64),
    ) -> Result<(), ClaimError> {
        let behind = |cursor: Cursor| cursor.counts() && (from..to).contains(&cursor.seq());
        // One reader in place makes the whole attempt useless: look before anybody loses anything.
        let held = |cell: &Cell, cursor| cell.is_pinned(cursor) && !bug("evict-held");
        if self.cells.taken().any(|(_, cell, cursor)| behind(cursor) && held(cell, cursor)) {
            return Err(self.blocked_by_pin());
        }
        for (index, cell, seen) in self.cells.taken() {
            let mut cursor = seen;
            while behind(cursor) {
                if held(cell, cursor) {
                    return Err(self.blocked_by_pin());
                }
                // Before the swap, whose success proves that the place still has this owner: it may leave, and another
                // join, right after it. An idle reader's `wanted_from` stands still.
                let look = || {
                    let generation = cell.generation.load(Ordering::Acquire) as u32;
                    let wanted_from = cell.wanted_from.load(Ordering::Relaxed);
                    (ReaderId { index: index as u32, generation }, wanted_from)
                };
                let owner = look();
                // Fails if the reader pinned itself, moved, left or changed. Release: the stamps that we saw come
                // before the reader's next look.
                match cell.word.compare_exchange(
                    cursor.0,
                    cursor.at(to).0,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(_) => {
                        // A joining reader loses nothing: it has not said yet from where on it wants records.
                        let (loser, wanted_from) = if bug("loss-told-late") { look() } else { owner };
                        let wanted = cursor.seq().max(wanted_from);
                        if cursor.kind() == Kind::Idle && to > wanted {
                            self.count_lost(cell, to - wanted);
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

    fn count_lost(&self, cell: &Cell, lost: u64) {
        cell.lost.fetch_add(lost, Ordering::Relaxed);
        self.counters.add(&self.counters.evicted, lost);
    }

    fn blocked_by_pin(&self) -> ClaimError {
        self.counters.add(&self.counters.blocked_by_pin, 1);
        ClaimError::Full
    }

    /// Takes a reader's cursor out of the count. Its next call tells it.
    pub(crate) fn detach(&self, id: ReaderId) -> Result<(), DetachError> {
        let index = id.index as usize;
        let cell = self.cells.get(index).ok_or(DetachError::Gone)?;
        self.before_moving_cursors();
        loop {
            let generation = cell.generation.load(Ordering::Acquire);
            let cursor = Cursor(cell.word.load(Ordering::Acquire));
            let other = generation != u64::from(id.generation) && !bug("detach-any-owner");
            if other || cursor.generation() != Cursor::short(generation) {
                return Err(DetachError::Gone);
            }
            match cursor.kind() {
                Kind::Idle if cell.is_pinned(cursor) => return Err(DetachError::Pinned),
                Kind::Idle => {}
                Kind::Held | Kind::Joining => return Err(DetachError::Pinned),
                Kind::Free | Kind::Detached => return Err(DetachError::Gone),
            }
            let detached = Cursor::new(Kind::Detached, cursor.generation(), cursor.seq());
            let swap = cell.word.compare_exchange(cursor.0, detached.0, Ordering::AcqRel, Ordering::Relaxed);
            if swap.is_ok() {
                break;
            }
        }
        self.signals.live.fetch_sub(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if !bug("detach-silent") {
            self.wake_reader(index);
        }
        self.moved_on();
        Ok(())
    }
}
