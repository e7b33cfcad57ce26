//! The gate: the cached minimum of all cursors. Who moves it, how a reader joins under it. No waking here.

use crate::bugs::{bug, unless};
use crate::cursor::Cell;
use crate::ring::Shared;
use crate::sync::Ordering;
use crate::word::{Cursor, Gate, Kind, LAST_SEQ, Meta, Tail};

/// Pauses before a second look at readers that have only just begun to give room back.
const GATHERING_PAUSES: u32 = 16;

/// How a writer looks for room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// As it is now.
    Once,
    /// If readers have given back only a little, a moment later again.
    Gather,
}

/// The gate in full: its sequence and its byte position.
#[derive(Clone, Copy)]
pub(crate) struct Base {
    pub(crate) seq: u64,
    pub(crate) position: u64,
}

impl Shared {
    /// Completes a gate from the slot before it. That slot is overwritten only after the gate has moved on, so the
    /// answer is right if the gate is still (or again loaded as) `gate` afterwards, or if a tail loaded before the
    /// gate is swapped afterwards. `None`: the gate has certainly moved.
    #[inline(always)]
    pub(crate) fn base(&self, gate: Gate) -> Option<Base> {
        let slot = self.slots.at(gate.seq().wrapping_sub(1));
        // Acquire on both: if we see a later lap's values, the caller's second look sees the gate that allowed them.
        let meta = Meta(slot.meta.load(Ordering::Acquire));
        let seq = slot.stamp().next_seq();
        if gate.is_at(seq) || bug("gate-slot-unchecked") {
            Some(Base { seq, position: meta.end() })
        } else {
            None
        }
    }

    /// Moves the gate to the slowest cursor; without cursors, to the end of the published run. `false`: it was, and
    /// is, at `seen`, and cannot move. `true`: it is worth another look.
    ///
    /// A look takes the cursors' lines from readers that are about to write them. A writer that comes back for each
    /// record that a reader lets go slows the reader down, which then lets go of one record at a time: see the notebook,
    /// "what does a writer cost that waits at a full ring?". So it gathers: some hundred nanoseconds once, for many
    /// records.
    #[cold]
    pub(crate) fn advance_gate(&self, seen: Gate, look: Look) -> bool {
        let gate = Gate(self.gate.load(Ordering::Acquire));
        if gate != seen {
            return true;
        }
        let Some(base) = self.base(gate) else { return true };
        let mut target = self.frontier(base.seq);
        let few = (self.config.datums as u64 / 8).min(32);
        if look == Look::Gather && target != base.seq && target - base.seq < few {
            for _ in 0..GATHERING_PAUSES {
                std::hint::spin_loop();
            }
            target = self.frontier(base.seq);
        }
        if target == base.seq {
            return Gate(self.gate.load(Ordering::Acquire)) != gate;
        }
        if target > LAST_SEQ - 4 * crate::limits::MAX_DATUMS as u64 {
            self.close();
        }
        // Fails if the gate moved, or if a reader joined since it was loaded: that reader may be behind `target`.
        // Release: what we saw the readers finish comes before whoever claims under the new gate.
        let order = unless("gate-unordered", Ordering::AcqRel);
        let _ = self.gate.compare_exchange(gate.0, gate.moved_to(target).0, order, Ordering::Relaxed);
        true
    }

    /// How far the gate may go from `from`.
    fn frontier(&self, from: u64) -> u64 {
        // A counting cursor behind the gate belongs to a reader that is about to join and whose swap of the gate
        // will fail: a reader that has joined is never behind.
        let slowest = self
            .cells
            .taken()
            .filter(|(_, _, cursor)| cursor.counts() && cursor.seq() >= from)
            .map(|(_, _, cursor)| cursor.seq())
            .min();
        match slowest {
            Some(seq) => seq,
            None if bug("gate-over-unpublished") => self.span().1,
            None => self.published_run(from, from + self.config.datums as u64),
        }
    }

    /// End of the published run that starts at `from`, at most `limit`.
    pub(crate) fn published_run(&self, from: u64, limit: u64) -> u64 {
        let mut seq = from;
        while seq < limit && self.slots.at(seq).stamp().is_of(seq) {
            seq += 1;
        }
        seq
    }

    /// The gate and the tail in full, both at one moment.
    pub(crate) fn span(&self) -> (Base, u64) {
        loop {
            let gate = Gate(self.gate.load(Ordering::Acquire));
            let base = self.base(gate);
            let tail = Tail(self.tail().load(Ordering::Acquire));
            // The gate stood still meanwhile, so the tail is at most one capacity in front of it.
            if let Some(base) = base
                && self.gate.load(Ordering::Acquire) == gate.0
            {
                return (base, base.seq + tail.datums_since(base.seq));
            }
            std::hint::spin_loop();
        }
    }

    /// Takes a place and puts a cursor under the gate, in a way that no gate mover can pass. `Joining` still: see
    /// `Reader::join` for the rest.
    pub(crate) fn join(&self) -> Option<(usize, u64)> {
        let index = self.cells.take()?;
        let cell = self.cells.at(index);
        let generation = cell.generation.load(Ordering::Relaxed).wrapping_add(1) & u64::from(u32::MAX);
        // Release: see `detach`, which reads the generation, then the word.
        cell.generation.store(generation, Ordering::Release);
        cell.lost.store(0, Ordering::Relaxed);
        cell.wanted_from.store(0, Ordering::Relaxed);
        self.signals.live.fetch_add(1, Ordering::AcqRel);
        let mut word = Cursor::FREE;
        loop {
            let gate = Gate(self.gate.load(Ordering::Acquire));
            let Some(base) = self.base(gate) else { continue };
            // An evictor may have moved us on already (only over published records); never step back from there.
            let at = if word == Cursor::FREE { base.seq } else { base.seq.max(word.seq()) };
            let joining = Cursor::new(Kind::Joining, Cursor::short(generation), at);
            match cell.word.compare_exchange(word.0, joining.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => word = joining,
                Err(now) => {
                    word = Cursor(now);
                    continue;
                }
            }
            // Success: every gate mover from now on loads this gate and therefore sees our cursor; every earlier one
            // fails its swap. Release: place, word and generation come before the join.
            let joined = if bug("join-unnoticed") { gate } else { gate.joined() };
            if self.gate.compare_exchange(gate.0, joined.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some((index, generation));
            }
        }
    }

    /// Ends the join: the reader wants what is claimed from now on. Gives (cursor, wanted from, end of what is known
    /// to be published from the cursor on).
    pub(crate) fn settle(&self, index: usize) -> (u64, u64, u64) {
        let cell = self.cells.at(index);
        let (_, latest) = self.span();
        cell.wanted_from.store(if bug("joins-count-old") { 0 } else { latest }, Ordering::Relaxed);
        let mut word = Cursor(cell.word.load(Ordering::Acquire));
        loop {
            let wanted = latest.max(word.seq());
            let published = self.published_run(word.seq(), wanted);
            let idle = Cursor::new(Kind::Idle, word.generation(), published);
            // Release: `wanted_from` comes before the word that evictors swap.
            match cell.word.compare_exchange(word.0, idle.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.moved_on();
                    return (published, wanted, published);
                }
                Err(now) => word = Cursor(now),
            }
        }
    }

    /// Frees a reader's place.
    pub(crate) fn leave(&self, index: usize) {
        self.stay_awake(index);
        let cell: &Cell = self.cells.at(index);
        // Release: what the reader read comes before the gate that passes it. A swap, because a writer may detach us
        // at the same time, and exactly one of us takes the cursor out of the count.
        let before = Cursor(cell.word.swap(Cursor::FREE.0, Ordering::AcqRel));
        // A reader that was leaked inside may be dropped.
        cell.step_out();
        if before.kind() != Kind::Detached || bug("detached-counted-twice") {
            self.signals.live.fetch_sub(1, Ordering::AcqRel);
        }
        self.cells.give_back(index);
        if !bug("leave-silent") {
            self.moved_on();
        }
    }
}
