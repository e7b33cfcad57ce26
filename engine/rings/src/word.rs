//! The packed words: tail, gate, cursor, and stamp and meta of a slot. Pure bit work; who may write them is said in
//! the crate's page.

use crate::units::POSITION_BITS;

/// Bits of the sequence in the tail.
const TAIL_SEQ_BITS: u32 = 25;
const TAIL_SEQ_MASK: u64 = (1 << TAIL_SEQ_BITS) - 1;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
const TAIL_CLOSED: u64 = 1 << 63;
const _: () = assert!(TAIL_SEQ_BITS + POSITION_BITS + 1 == 64);
const _: () = assert!(crate::limits::MAX_DATUMS as u64 * 4 <= 1 << TAIL_SEQ_BITS);
const _: () =
    assert!((crate::limits::MAX_ARENA_BYTES / crate::limits::UNIT_BYTES) as u64 * 4 <= 1 << POSITION_BITS);

/// `closed: 1 | sequence: 25 | position: 38` of the next record. One word, so that one compare-and-swap claims room
/// in datums and in bytes, and fails on a closed ring.
///
/// A claim that sleeps between load and swap is fooled only if the very same word comes back: at least 2^37 units
/// (2 TiB) must pass through the ring meanwhile, and stop at the same position and the same sequence modulo 2^25.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) u64);

impl Tail {
    pub(crate) const CLOSED: u64 = TAIL_CLOSED;

    #[inline(always)]
    pub(crate) const fn open(seq: u64, position: u64) -> Self {
        Self(((seq & TAIL_SEQ_MASK) << POSITION_BITS) | position)
    }

    #[inline(always)]
    pub(crate) const fn is_closed(self) -> bool {
        self.0 & TAIL_CLOSED != 0
    }

    #[inline(always)]
    pub(crate) const fn position(self) -> u64 {
        self.0 & POSITION_MASK
    }

    /// Records from the tail to `seq`. Right if `seq` is at most 2^25 - 1 in front of the tail.
    #[inline(always)]
    pub(crate) const fn datums_before(self, seq: u64) -> u64 {
        seq.wrapping_sub(self.0 >> POSITION_BITS) & TAIL_SEQ_MASK
    }

    /// Records from `seq` to the tail. Right if `seq` is at most 2^25 - 1 behind the tail.
    #[inline(always)]
    pub(crate) const fn datums_since(self, seq: u64) -> u64 {
        (self.0 >> POSITION_BITS).wrapping_sub(seq) & TAIL_SEQ_MASK
    }
}

const JOIN_BITS: u32 = 24;
const GATE_SEQ_MASK: u64 = (1 << (64 - JOIN_BITS)) - 1;

/// `sequence: 40 | joins: 24`. The joins count makes the gate's swap fail if a reader joined since it was loaded.
/// A gate mover that sleeps between load and swap is fooled only by exactly 2^24 joins at an unmoved gate.
/// The full sequence stands in the stamp of the slot before the gate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate(pub(crate) u64);

impl Gate {
    /// The sequence modulo 2^40.
    #[inline(always)]
    pub(crate) const fn seq(self) -> u64 {
        self.0 >> JOIN_BITS
    }

    #[inline(always)]
    pub(crate) const fn is_at(self, seq: u64) -> bool {
        self.seq() == seq & GATE_SEQ_MASK
    }

    pub(crate) const fn joined(self) -> Self {
        let joins = self.0.wrapping_add(1) & ((1 << JOIN_BITS) - 1);
        Self(self.seq() << JOIN_BITS | joins)
    }

    pub(crate) const fn moved_to(self, seq: u64) -> Self {
        Self((seq & GATE_SEQ_MASK) << JOIN_BITS | (self.0 & ((1 << JOIN_BITS) - 1)))
    }
}

const LEN_BITS: u32 = 26;
const LEN_MASK: u64 = (1 << LEN_BITS) - 1;
const _: () = assert!(LEN_BITS + POSITION_BITS == 64);
const _: () = assert!((crate::limits::MAX_RECORD_BYTES as u64) < LEN_MASK);

/// `end position: 38 | length in bytes: 26` of one record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta(pub(crate) u64);

impl Meta {
    #[inline(always)]
    pub(crate) const fn record(end: u64, len: usize) -> Self {
        Self(end << LEN_BITS | len as u64)
    }

    pub(crate) const fn abandoned(end: u64) -> Self {
        Self(end << LEN_BITS | LEN_MASK)
    }

    #[inline(always)]
    pub(crate) const fn end(self) -> u64 {
        self.0 >> LEN_BITS
    }

    /// Length in bytes; `None` if the record was abandoned.
    #[inline(always)]
    pub(crate) const fn len(self) -> Option<usize> {
        let len = self.0 & LEN_MASK;
        if len == LEN_MASK { None } else { Some(len as usize) }
    }
}

const STAMP_LEN_BITS: u32 = 64 - SEQ_BITS;

/// Lengths from here on, and that of a record that was given up, are told by the meta alone.
const LONG: u64 = (1 << STAMP_LEN_BITS) - 1;

/// `length in bytes: 10 | sequence + 1: 54` of the record that was last published in a slot. The length is there so that
/// a reader can tell the next one of a run of records of one length by one comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u64);

impl Stamp {
    #[inline(always)]
    pub(crate) const fn new(seq: u64, len: Option<usize>) -> Self {
        let len = match len {
            Some(len) if (len as u64) < LONG => len as u64,
            _ => LONG,
        };
        Self(len << SEQ_BITS | (seq.wrapping_add(1) & LAST_SEQ))
    }

    /// The sequence plus 1.
    #[inline(always)]
    pub(crate) const fn next_seq(self) -> u64 {
        self.0 & LAST_SEQ
    }

    /// Whether it is that of record `seq`.
    #[inline(always)]
    pub(crate) const fn is_of(self, seq: u64) -> bool {
        self.since(seq) == 0
    }

    /// How many records behind `seq` its record is; negative if it is an earlier one.
    #[inline(always)]
    pub(crate) const fn since(self, seq: u64) -> i64 {
        // In the highest bits, so that the difference has its sign in the right place.
        (self.0 << STAMP_LEN_BITS).wrapping_sub(seq.wrapping_add(1) << STAMP_LEN_BITS).cast_signed()
            >> STAMP_LEN_BITS
    }

    /// The record's length, if it is short and was not given up.
    #[inline(always)]
    pub(crate) const fn short_len(self) -> Option<usize> {
        let len = self.0 >> SEQ_BITS;
        if len == LONG { None } else { Some(len as usize) }
    }

    /// That of the next record, if it has the same length.
    #[inline(always)]
    pub(crate) const fn next_of_same_len(self) -> Self {
        Self(self.0 + 1)
    }

    /// That of the record before, if it has the same length. Undoes [`Stamp::next_of_same_len`].
    #[inline(always)]
    pub(crate) const fn previous_of_same_len(self) -> Self {
        Self(self.0 - 1)
    }
}

const KIND_BITS: u32 = 3;
const GENERATION_BITS: u32 = 7;
const SEQ_BITS: u32 = 64 - KIND_BITS - GENERATION_BITS;

/// Largest sequence: 2^54 - 1. At 100 million datums a second a ring closes itself after 5.7 years.
pub(crate) const LAST_SEQ: u64 = (1 << SEQ_BITS) - 1;

/// What a cursor cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody's.
    Free,
    /// A reader is about to join. Counts for the gate; may be moved, which costs the reader nothing.
    Joining,
    /// A reader that does not read at present, or has pinned by a store (see `pin`). A writer may move or detach it if it
    /// is not inside.
    Idle,
    /// A reader that has pinned by a swap. Only its owner may write the word.
    Held,
    /// Detached by a writer; the owner has not left yet.
    Detached,
}

/// `generation: 7 | sequence: 54 | kind: 3`. The generation lets a swap fail if the place changed its owner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) u64);

impl Cursor {
    pub(crate) const FREE: Self = Self::new(Kind::Free, 0, 0);

    #[inline(always)]
    pub(crate) const fn new(kind: Kind, generation: u64, seq: u64) -> Self {
        Self(generation << (64 - GENERATION_BITS) | (seq & LAST_SEQ) << KIND_BITS | kind as u64)
    }

    #[inline(always)]
    pub(crate) const fn kind(self) -> Kind {
        match self.0 & ((1 << KIND_BITS) - 1) {
            1 => Kind::Joining,
            2 => Kind::Idle,
            3 => Kind::Held,
            4 => Kind::Detached,
            _ => Kind::Free,
        }
    }

    #[inline(always)]
    pub(crate) const fn seq(self) -> u64 {
        self.0 >> KIND_BITS & LAST_SEQ
    }

    #[inline(always)]
    pub(crate) const fn generation(self) -> u64 {
        self.0 >> (64 - GENERATION_BITS)
    }

    /// Whether it holds the gate back.
    #[inline(always)]
    pub(crate) const fn counts(self) -> bool {
        matches!(self.kind(), Kind::Joining | Kind::Idle | Kind::Held)
    }

    /// The same cursor elsewhere.
    pub(crate) const fn at(self, seq: u64) -> Self {
        Self::new(self.kind(), self.generation(), seq)
    }

    /// The part of a long generation that fits the word.
    pub(crate) const fn short(generation: u64) -> u64 {
        generation & ((1 << GENERATION_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_its_parts_apart() {
        let tail = Tail::open((1 << 25) + 5, POSITION_MASK);
        assert_eq!((tail.position(), tail.datums_since(3), tail.is_closed()), (POSITION_MASK, 2, false));
        let closed = Tail(tail.0 | Tail::CLOSED);
        assert_eq!((closed.position(), closed.datums_since(3), closed.is_closed()), (POSITION_MASK, 2, true));
        assert_eq!(Tail::open(2, 0).datums_since((1 << 25) - 1), 3);
    }

    #[test]
    fn joins_wrap_without_touching_the_gate() {
        let mut gate = Gate(0).moved_to(77);
        for _ in 0..(1 << JOIN_BITS) - 1 {
            gate = gate.joined();
        }
        assert!(gate.is_at(77) && gate != Gate(0).moved_to(77));
        assert!(gate.joined() == Gate(0).moved_to(77));
        assert!(Gate(0).moved_to((1 << 40) + 3).is_at((5 << 40) + 3));
    }

    #[test]
    fn meta_tells_the_longest_record_from_an_abandoned_one() {
        let end = POSITION_MASK;
        let longest = Meta::record(end, crate::limits::MAX_RECORD_BYTES);
        assert_eq!((longest.end(), longest.len()), (end, Some(crate::limits::MAX_RECORD_BYTES)));
        assert_eq!((Meta::abandoned(end).end(), Meta::abandoned(end).len()), (end, None));
        assert_eq!(Meta::record(1, 0).len(), Some(0));
    }

    #[test]
    fn a_stamp_keeps_its_parts_apart() {
        for seq in [0, 1, 77, LAST_SEQ - 2] {
            for len in [0, 1, 64, 1_022] {
                let stamp = Stamp::new(seq, Some(len));
                assert_eq!((stamp.next_seq(), stamp.short_len()), (seq + 1, Some(len)));
                assert!(stamp.is_of(seq) && !stamp.is_of(seq + 1));
                assert_eq!((stamp.since(seq + 3), stamp.since(seq)), (-3, 0));
                assert!(stamp.next_of_same_len() == Stamp::new(seq + 1, Some(len)));
            }
            for len in [None, Some(1_023), Some(crate::limits::MAX_RECORD_BYTES)] {
                assert_eq!((Stamp::new(seq, len).short_len(), Stamp::new(seq, len).since(seq)), (None, 0));
            }
        }
        // A slot of a new ring says that a record before the first one was published there.
        let old = Stamp::new(3u64.wrapping_sub(8), Some(0));
        assert_eq!((old.since(3), old.since(11), old.is_of(3)), (-8, -16, false));
        assert_eq!(Stamp::new(11, None).since(3), 8);
    }

    #[test]
    fn a_cursor_keeps_its_parts_apart() {
        for kind in [Kind::Free, Kind::Joining, Kind::Idle, Kind::Held, Kind::Detached] {
            let cursor = Cursor::new(kind, 127, LAST_SEQ);
            assert_eq!((cursor.kind(), cursor.generation(), cursor.seq()), (kind, 127, LAST_SEQ));
            assert_eq!(cursor.at(1).seq(), 1);
            assert_eq!((cursor.at(1).kind(), cursor.at(1).generation()), (kind, 127));
        }
    }
}
