//! The packed words: tail, gate, cursor, and a descriptor's stamp and meta. Pure bit work; who may write each
//! word, and in which order, is in the crate's page.

use crate::limits::{MAX_ARENA_BYTES, MAX_DATUMS, MAX_RECORD_BYTES, UNIT_BYTES};
use crate::units::POSITION_BITS;

/// Bits of the sequence in the tail.
const TAIL_SEQ_BITS: u32 = 25;
const TAIL_SEQ_MASK: u64 = (1 << TAIL_SEQ_BITS) - 1;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
const TAIL_CLOSED: u64 = 1 << 63;
const _: () = assert!(TAIL_SEQ_BITS + POSITION_BITS + 1 == 64);
const _: () = assert!(MAX_DATUMS as u64 * 4 <= 1 << TAIL_SEQ_BITS);
const _: () = assert!((MAX_ARENA_BYTES / UNIT_BYTES) as u64 * 4 <= 1 << POSITION_BITS);

/// `closed: 1 | sequence: 25 | position: 38` of the next record. One word, so that one compare-and-swap
/// claims room in datums and in bytes, and fails on a closed ring.
///
/// ABA: a compare-and-swap by a thread that was preempted after its load succeeds wrongly only if the same
/// word returns meanwhile: 2^37 units (2 TiB) or more must pass through the ring and stop at the same
/// position and the same sequence modulo 2^25.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) u64);

impl Tail {
    pub(crate) const CLOSED: u64 = TAIL_CLOSED;

    #[inline(always)]
    pub(crate) const fn open(seq: u64, position: u64) -> Self {
        debug_assert!(position <= POSITION_MASK);
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

    /// Records from the tail forward to `seq`, modulo 2^25.
    #[inline(always)]
    pub(crate) const fn datums_before(self, seq: u64) -> u64 {
        seq.wrapping_sub(self.0 >> POSITION_BITS) & TAIL_SEQ_MASK
    }

    /// Records from `seq` forward to the tail, modulo 2^25.
    #[inline(always)]
    pub(crate) const fn datums_since(self, seq: u64) -> u64 {
        (self.0 >> POSITION_BITS).wrapping_sub(seq) & TAIL_SEQ_MASK
    }
}

const JOIN_BITS: u32 = 24;
const GATE_SEQ_MASK: u64 = (1 << (64 - JOIN_BITS)) - 1;

/// `sequence: 40 | joins: 24`. The count of joins makes a compare-and-swap of the gate fail if a reader
/// joined after the gate was loaded. The full sequence is in the stamp of the descriptor before the gate.
///
/// ABA: a preempted mover succeeds wrongly only after exactly 2^24 joins (or a multiple) at an unmoved gate.
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
const _: () = assert!((MAX_RECORD_BYTES as u64) < LEN_MASK);

/// `end position: 38 | length in bytes: 26` of one record. The highest length means that the record was
/// abandoned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta(pub(crate) u64);

impl Meta {
    #[inline(always)]
    pub(crate) const fn record(end: u64, len: usize) -> Self {
        debug_assert!(end <= POSITION_MASK && len <= MAX_RECORD_BYTES);
        Self(end << LEN_BITS | len as u64)
    }

    pub(crate) const fn abandoned(end: u64) -> Self {
        debug_assert!(end <= POSITION_MASK);
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

/// In a stamp's length: the length is in the meta only, because it is this or more, or the record was
/// abandoned.
const IN_META: u64 = (1 << STAMP_LEN_BITS) - 1;

/// `length in bytes: 10 | sequence + 1: 54` of the record that was last published under a descriptor. With
/// the length in it, a reader of records of one length recognises each by comparing one word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u64);

impl Stamp {
    /// The stamp of record `seq`; `len` is `None` for an abandoned one.
    #[inline(always)]
    pub(crate) const fn new(seq: u64, len: Option<usize>) -> Self {
        let len = match len {
            Some(len) if (len as u64) < IN_META => len as u64,
            _ => IN_META,
        };
        Self(len << SEQ_BITS | (seq.wrapping_add(1) & LAST_SEQ))
    }

    /// The sequence plus 1.
    #[inline(always)]
    pub(crate) const fn next_seq(self) -> u64 {
        self.0 & LAST_SEQ
    }

    /// Whether it is the stamp of record `seq`.
    #[inline(always)]
    pub(crate) const fn is_of(self, seq: u64) -> bool {
        self.since(seq) == 0
    }

    /// Its sequence minus `seq`: negative for an earlier record.
    #[inline(always)]
    pub(crate) const fn since(self, seq: u64) -> i64 {
        // Computed in the highest bits, so that the sign of the difference is the sign of the word.
        (self.0 << STAMP_LEN_BITS).wrapping_sub(seq.wrapping_add(1) << STAMP_LEN_BITS).cast_signed()
            >> STAMP_LEN_BITS
    }

    /// The record's length, if the stamp holds it: below 1,023 bytes and not abandoned.
    #[inline(always)]
    pub(crate) const fn inline_len(self) -> Option<usize> {
        let len = self.0 >> SEQ_BITS;
        if len == IN_META { None } else { Some(len as usize) }
    }

    /// The stamp of the next record, if that has the same length.
    #[inline(always)]
    pub(crate) const fn next_of_same_len(self) -> Self {
        Self(self.0 + 1)
    }

    /// Undoes [`Stamp::next_of_same_len`].
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

/// Who may change a cursor word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CursorKind {
    /// The slot has no reader.
    Free,
    /// A reader is joining. Holds the gate; a writer may move it, which loses the reader nothing.
    Joining,
    /// A reader has joined. A writer may move or detach it, unless the reader has pinned it by a store (see
    /// `pin`).
    Joined,
    /// The reader has pinned it by a swap. Only the reader may change the word.
    Pinned,
    /// A writer detached the reader, which has not left yet.
    Detached,
}

/// `generation: 7 | sequence: 54 | kind: 3` of one reader. The generation makes a compare-and-swap fail if
/// the slot has got another reader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) u64);

impl Cursor {
    pub(crate) const FREE: Self = Self::new(CursorKind::Free, 0, 0);

    #[inline(always)]
    pub(crate) const fn new(kind: CursorKind, generation: u64, seq: u64) -> Self {
        Self(generation << (64 - GENERATION_BITS) | (seq & LAST_SEQ) << KIND_BITS | kind as u64)
    }

    #[inline(always)]
    pub(crate) const fn kind(self) -> CursorKind {
        match self.0 & ((1 << KIND_BITS) - 1) {
            1 => CursorKind::Joining,
            2 => CursorKind::Joined,
            3 => CursorKind::Pinned,
            4 => CursorKind::Detached,
            _ => CursorKind::Free,
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
    pub(crate) const fn holds_gate(self) -> bool {
        matches!(self.kind(), CursorKind::Joining | CursorKind::Joined | CursorKind::Pinned)
    }

    /// The same cursor at another sequence.
    pub(crate) const fn at(self, seq: u64) -> Self {
        Self::new(self.kind(), self.generation(), seq)
    }

    /// The bits of a slot's generation that fit the word.
    pub(crate) const fn short(generation: u64) -> u64 {
        generation & ((1 << GENERATION_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_fields_do_not_overlap() {
        let tail = Tail::open((1 << 25) + 5, POSITION_MASK);
        assert_eq!((tail.position(), tail.datums_since(3), tail.is_closed()), (POSITION_MASK, 2, false));
        let closed = Tail(tail.0 | Tail::CLOSED);
        assert_eq!((closed.position(), closed.datums_since(3), closed.is_closed()), (POSITION_MASK, 2, true));
        assert_eq!(Tail::open(2, 0).datums_since((1 << 25) - 1), 3);
    }

    #[test]
    fn the_count_of_joins_wraps_without_changing_the_sequence() {
        let mut gate = Gate(0).moved_to(77);
        for joins in 1..40 {
            gate = gate.joined();
            assert!(gate.is_at(77) && gate != Gate(0).moved_to(77));
            assert_eq!(gate.0 & ((1 << JOIN_BITS) - 1), joins);
        }
        let gate = Gate((1 << JOIN_BITS) - 1).moved_to(77);
        assert!(gate.is_at(77) && gate != Gate(0).moved_to(77));
        assert!(gate.joined() == Gate(0).moved_to(77));
        assert!(Gate(0).moved_to((1 << 40) + 3).is_at((5 << 40) + 3));
    }

    #[test]
    fn meta_distinguishes_the_longest_record_from_an_abandoned_one() {
        let end = POSITION_MASK;
        let longest = Meta::record(end, MAX_RECORD_BYTES);
        assert_eq!((longest.end(), longest.len()), (end, Some(MAX_RECORD_BYTES)));
        assert_eq!((Meta::abandoned(end).end(), Meta::abandoned(end).len()), (end, None));
        assert_eq!(Meta::record(1, 0).len(), Some(0));
    }

    #[test]
    fn stamp_fields_do_not_overlap() {
        for seq in [0, 1, 77, LAST_SEQ - 2] {
            for len in [0, 1, 64, 1_022] {
                let stamp = Stamp::new(seq, Some(len));
                assert_eq!((stamp.next_seq(), stamp.inline_len()), (seq + 1, Some(len)));
                assert!(stamp.is_of(seq) && !stamp.is_of(seq + 1));
                assert_eq!((stamp.since(seq + 3), stamp.since(seq)), (-3, 0));
                assert!(stamp.next_of_same_len() == Stamp::new(seq + 1, Some(len)));
            }
            for len in [None, Some(1_023), Some(MAX_RECORD_BYTES)] {
                assert_eq!((Stamp::new(seq, len).inline_len(), Stamp::new(seq, len).since(seq)), (None, 0));
            }
        }
        // A descriptor of a new ring has the stamp of the record one lap earlier.
        let old = Stamp::new(3u64.wrapping_sub(8), Some(0));
        assert_eq!((old.since(3), old.since(11), old.is_of(3)), (-8, -16, false));
        assert_eq!(Stamp::new(11, None).since(3), 8);
    }

    #[test]
    fn cursor_fields_do_not_overlap() {
        for kind in [
            CursorKind::Free,
            CursorKind::Joining,
            CursorKind::Joined,
            CursorKind::Pinned,
            CursorKind::Detached,
        ] {
            let cursor = Cursor::new(kind, 127, LAST_SEQ);
            assert_eq!((cursor.kind(), cursor.generation(), cursor.seq()), (kind, 127, LAST_SEQ));
            assert_eq!(cursor.at(1).seq(), 1);
            assert_eq!((cursor.at(1).kind(), cursor.at(1).generation()), (kind, 127));
        }
    }
}
