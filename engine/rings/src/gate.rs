//! The gate: a cached minimum of all cursors. Who moves it, and how a reader joins and leaves under it.

use crate::bugs::mutate;
use crate::capacity::GatePosition;
use crate::limits::MAX_DATUMS;
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::word::{Cursor, CursorKind, Gate, LAST_SEQ, Meta};

/// Pauses before the second scan of the cursors, if the first one found only a little room.
const GATHERING_PAUSES: u32 = 16;

/// Whether a writer that found only a little room scans the cursors again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It takes what there is.
    No,
    /// Once, after a short pause.
    OnceAfterPause,
}

impl RingShared {
    /// Completes a gate from the descriptor before it, which is overwritten only after the gate has moved on.
    /// So the answer is right if the gate is still `gate` afterwards, or if a tail loaded before the gate is
    /// swapped afterwards. `None`: the gate has certainly moved.
    #[inline(always)]
    pub(crate) fn gate_position(&self, gate: Gate) -> Option<GatePosition> {
        let slot = self.descriptors.at(gate.seq().wrapping_sub(1));
        // Acquire on both: if these are a later lap's values, the caller's next load sees the gate that
        // allowed them.
        let meta = Meta(slot.meta.load(Ordering::Acquire));
        let seq = slot.stamp().next_seq();
        if mutate!(gate.is_at(seq), "gate-unchecked" => true) {
            Some(GatePosition { seq, position: meta.end() })
        } else {
            None
        }
    }

    /// Moves the gate to the slowest cursor; without cursors, to the end of the published run. `false`: it
    /// was, and is, at `seen`, and cannot move. `true`: it has moved, or may move now.
    ///
    /// A scan takes the cursors' lines from readers that are about to write them. A writer that scanned for
    /// each record would slow the readers down until they freed one record at a time. So one that finds only
    /// a little room may pause once, for some hundred nanoseconds, and gets room for many records.
    #[cold]
    pub(crate) fn advance_gate(&self, seen: Gate, retry: Retry) -> bool {
        let gate = self.load_gate();
        if gate != seen {
            return true;
        }
        let Some(from) = self.gate_position(gate) else { return true };
        let mut target = self.min_cursor(from.seq);
        let few = (self.config.datums as u64 / 8).min(32);
        if retry == Retry::OnceAfterPause && target != from.seq && target - from.seq < few {
            for _ in 0..GATHERING_PAUSES {
                std::hint::spin_loop();
            }
            target = self.min_cursor(from.seq);
        }
        if target == from.seq {
            return self.load_gate() != gate;
        }
        debug_assert!(self.is_between(gate, from, target), "gate <= target <= tail");
        if target > LAST_SEQ - 4 * MAX_DATUMS as u64 {
            self.close();
        }
        // Fails if the gate moved, or if a reader joined since it was loaded: that reader may be before
        // `target`. Release: what we saw the readers finish comes before a thread that claims under the new
        // gate.
        let order = mutate!(Ordering::AcqRel, "gate-unordered" => Ordering::Relaxed);
        let _ = self.gate.compare_exchange(gate.0, gate.moved_to(target).0, order, Ordering::Relaxed);
        true
    }

    /// The law of the gate's target, for assertions. Holds trivially if the gate has moved from `gate`.
    fn is_between(&self, gate: Gate, from: GatePosition, target: u64) -> bool {
        let tail = self.load_tail(Ordering::Acquire);
        self.load_gate() != gate || target >= from.seq && target - from.seq <= tail.datums_since(from.seq)
    }

    /// The lowest cursor at or after `from`, the gate; without cursors, the end of the published run.
    fn min_cursor(&self, from: u64) -> u64 {
        // A cursor before the gate belongs to a reader that is joining and whose swap of the gate will fail.
        // A reader that has joined is never before the gate.
        let slowest = self
            .readers
            .taken()
            .filter(|(_, _, cursor)| cursor.holds_gate() && cursor.seq() >= from)
            .map(|(_, _, cursor)| cursor.seq())
            .min();
        slowest.unwrap_or_else(|| {
            let run = || self.descriptors.published_run(from, from + self.config.datums as u64);
            mutate!(run(), "gate-over-unpublished" => self.span().1)
        })
    }

    /// Gate and tail in full, both at one moment.
    pub(crate) fn span(&self) -> (GatePosition, u64) {
        loop {
            let gate = self.load_gate();
            let from = self.gate_position(gate);
            let tail = self.load_tail(Ordering::Acquire);
            // If the gate has not moved meanwhile, the tail is at most one capacity after it.
            if let Some(from) = from
                && self.load_gate() == gate
            {
                return (from, from.seq + tail.datums_since(from.seq));
            }
            std::hint::spin_loop();
        }
    }

    /// Takes a slot for a new reader; its cursor is still free. Gives index and generation.
    fn take_slot(&self) -> Option<(usize, u64)> {
        let index = self.readers.take()?;
        let slot = self.readers.at(index);
        let generation = slot.generation.load(Ordering::Relaxed).wrapping_add(1) & u64::from(u32::MAX);
        // Release: see `detach`, which loads the generation, then the cursor.
        slot.generation.store(generation, Ordering::Release);
        slot.lost.store(0, Ordering::Relaxed);
        slot.wanted_from.store(0, Ordering::Relaxed);
        self.signals.live.fetch_add(1, Ordering::AcqRel);
        Some((index, generation))
    }

    /// Takes a slot and puts its cursor at `seq`. The caller has pinned another cursor at or before `seq`,
    /// and everything between the two is published. Gives index and generation.
    ///
    /// Until this returns, that pinned cursor keeps both the gate and every evictor at or before `seq`.
    pub(crate) fn join_at(&self, seq: u64) -> Option<(usize, u64)> {
        let (index, generation) = self.take_slot()?;
        let slot = self.readers.at(index);
        slot.wanted_from.store(seq, Ordering::Relaxed);
        // A plain store: nothing swaps a free cursor. Release: `wanted_from` comes before the cursor.
        let joined = Cursor::new(CursorKind::Joined, Cursor::short(generation), seq);
        slot.cursor.store(joined.0, Ordering::Release);
        loop {
            // As in `join`: a mover that has read the slots without this one fails to swap the gate, even if
            // it then finds the pinned cursor gone.
            let gate = self.load_gate();
            let joined = mutate!(gate.joined(), "fork-unnoticed" => gate);
            if self.gate.compare_exchange(gate.0, joined.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some((index, generation));
            }
        }
    }

    /// Takes a slot and puts its cursor at the gate, so that no gate mover can pass it. Gives index and
    /// generation. The cursor is `Joining` until [`RingShared::finish_join`].
    pub(crate) fn join(&self) -> Option<(usize, u64)> {
        let (index, generation) = self.take_slot()?;
        let slot = self.readers.at(index);
        let mut cursor = Cursor::FREE;
        loop {
            let gate = self.load_gate();
            let Some(from) = self.gate_position(gate) else { continue };
            // An evictor may have moved us already, over published records only; never step back from there.
            let at = if cursor == Cursor::FREE { from.seq } else { from.seq.max(cursor.seq()) };
            let joining = Cursor::new(CursorKind::Joining, Cursor::short(generation), at);
            match slot.cursor.compare_exchange(cursor.0, joining.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => cursor = joining,
                Err(now) => {
                    cursor = Cursor(now);
                    continue;
                }
            }
            // Success: every gate mover from now on loads this gate and so sees our cursor; the swap of every
            // earlier one fails. Release: slot, cursor and generation come before the join.
            let joined = mutate!(gate.joined(), "join-unnoticed" => gate);
            if self.gate.compare_exchange(gate.0, joined.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some((index, generation));
            }
        }
    }

    /// Ends the join: the reader wants what is claimed from now on. Gives the cursor, which is also the end
    /// of the published run known so far, and the first sequence that the reader wants.
    pub(crate) fn finish_join(&self, index: usize) -> (u64, u64) {
        let slot = self.readers.at(index);
        let (from, latest) = self.span();
        let counts_from = mutate!(latest, "joins-count-old" => 0);
        slot.wanted_from.store(counts_from, Ordering::Relaxed);
        let mut cursor = Cursor(slot.cursor.load(Ordering::Acquire));
        debug_assert!(cursor.seq() >= from.seq, "gate <= cursor");
        loop {
            let next = latest.max(cursor.seq());
            let published = self.descriptors.published_run(cursor.seq(), next);
            debug_assert!(cursor.seq() <= published && published <= next);
            let joined = Cursor::new(CursorKind::Joined, cursor.generation(), published);
            // Release: `wanted_from` comes before the word that evictors swap.
            match slot.cursor.compare_exchange(cursor.0, joined.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.notify_moved();
                    return (published, next);
                }
                Err(now) => cursor = Cursor(now),
            }
        }
    }

    /// Frees a reader's slot.
    pub(crate) fn leave(&self, index: usize) {
        self.signals.stay_awake(index, &self.readers);
        let slot = self.readers.at(index);
        // Release: what the reader read comes before the gate that passes it. A swap, because a writer may
        // detach us at the same time, and exactly one of us takes the cursor out of `live`.
        let before = Cursor(slot.cursor.swap(Cursor::FREE.0, Ordering::AcqRel));
        // The reader may still be pinned by a store, if a guard was leaked.
        slot.unpin_store();
        if mutate!(before.kind() != CursorKind::Detached, "detached-counted-twice" => true) {
            self.signals.live.fetch_sub(1, Ordering::AcqRel);
        }
        self.readers.give_back(index);
        mutate!(self.notify_moved(), "leave-silent" => ());
    }
}
