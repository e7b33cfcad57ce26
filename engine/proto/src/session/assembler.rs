//! Reassembly of a byte string from pieces, within a bound.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::channel::{Fault, HELD_OVERHEAD_BYTES};

/// A byte string that grows from its start. Pieces that arrive early are held.
///
/// Memory follows the bytes that arrived, never an announced length.
#[derive(Debug)]
pub(super) struct Assembler {
    /// The bytes without a gap from the start, minus some that were consumed.
    whole: Vec<u8>,
    /// Bytes at the front of `whole` that were consumed; at most half of it.
    consumed: usize,
    /// Where `whole` ends in the string.
    end: u64,
    /// Pieces behind a gap, by position; each ends above `end`, and they do not overlap each other.
    early: BTreeMap<u64, Vec<u8>>,
    /// Bytes held: what of `whole` is not consumed, and each early piece with its overhead; at most `max`.
    charged: usize,
    /// Most bytes that may be held.
    max: usize,
}

impl Assembler {
    pub(super) const fn new(max: usize) -> Self {
        Self { whole: Vec::new(), consumed: 0, end: 0, early: BTreeMap::new(), charged: 0, max }
    }

    /// Where the whole part ends.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// The whole part, minus what was consumed.
    pub(super) fn whole(&self) -> &[u8] {
        &self.whole[self.consumed..]
    }

    /// Bytes held.
    pub(super) const fn charged(&self) -> usize {
        self.charged
    }

    /// Holds `bytes` more, or refuses without a change.
    fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        let charged = self.charged.saturating_add(bytes);
        if charged > self.max {
            return Err(Fault::Refuse);
        }
        self.charged = charged;
        Ok(())
    }

    /// Removes `bytes` from the front of the whole part.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
        // Each byte is moved at most once per doubling of what was consumed.
        if self.consumed * 2 > self.whole.len() {
            self.whole.drain(..self.consumed);
            self.consumed = 0;
        }
        self.charged -= bytes;
    }

    /// Adds the piece at `position`; `false` when all of it had arrived. The caller bounds `position + len`.
    pub(super) fn insert(&mut self, position: u64, bytes: &[u8]) -> Result<bool, Fault> {
        let end = position + bytes.len() as u64;
        if end <= self.end {
            return Ok(false);
        }
        if position > self.end {
            return self.insert_early(position, bytes);
        }
        let fresh = &bytes[(self.end - position) as usize..];
        self.charge(fresh.len())?;
        self.whole.extend_from_slice(fresh);
        self.end = end;
        self.absorb();
        Ok(true)
    }

    fn insert_early(&mut self, position: u64, bytes: &[u8]) -> Result<bool, Fault> {
        let end = position + bytes.len() as u64;
        let mut at = position;
        let mut fresh = false;
        while at < end {
            if let Some((first, piece)) = self.early.range(..=at).next_back()
                && first + piece.len() as u64 > at
            {
                at = first + piece.len() as u64;
                continue;
            }
            let free = self.early.range(at..).next().map_or(end, |(next, _)| end.min(*next));
            let piece = &bytes[(at - position) as usize..(free - position) as usize];
            self.charge(piece.len() + HELD_OVERHEAD_BYTES)?;
            self.early.insert(at, piece.to_vec());
            at = free;
            fresh = true;
        }
        Ok(fresh)
    }

    /// Appends early pieces that the whole part has reached; the first may overlap it.
    fn absorb(&mut self) {
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() <= self.end) {
            let (first, piece) = entry.remove_entry();
            let known = (self.end - first).min(piece.len() as u64) as usize;
            self.whole.extend_from_slice(&piece[known..]);
            self.end += (piece.len() - known) as u64;
            let freed = known + HELD_OVERHEAD_BYTES;
            self.charged -= freed;
        }
        debug_assert_eq!(
            self.charged,
            self.whole().len()
                + self.early.values().map(|piece| piece.len() + HELD_OVERHEAD_BYTES).sum::<usize>(),
            "the charge is the sum over what is held"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Quadratic work would take hours.
    #[test]
    fn small_messages_are_consumed_in_linear_time() {
        let mut assembler = Assembler::new(usize::MAX);
        let bytes = std::vec![7; 16 << 20];
        assert_eq!(assembler.insert(0, &bytes), Ok(true));
        while assembler.whole().len() >= 17 {
            assembler.consume(17);
        }
        assert_eq!(assembler.whole().len(), bytes.len() % 17);
        assert_eq!(assembler.charged(), assembler.whole().len());
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_make_the_whole(
            len in 1usize..300,
            pieces in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..80), 0..60),
        ) {
            let string: Vec<u8> = (0..len).map(|n| (n * 7 + n / 256) as u8).collect();
            let mut assembler = Assembler::new(1 << 20);
            let mut seen = std::vec![false; len];
            for (start, size) in pieces {
                let start = start.index(len);
                let end = (start + size).min(len);
                let fresh = seen[start..end].iter().any(|seen| !seen);
                prop_assert_eq!(assembler.insert(start as u64, &string[start..end]), Ok(fresh));
                seen[start..end].fill(true);
                let whole = seen.iter().position(|seen| !seen).unwrap_or(len);
                prop_assert_eq!(assembler.whole(), &string[..whole]);
            }
            assembler.insert(0, &string).unwrap();
            prop_assert_eq!(assembler.whole(), &string[..]);
            prop_assert!(assembler.early.is_empty());
            prop_assert_eq!(assembler.charged(), len);
        }
    }

    #[test]
    fn full_stream_refuses_and_keeps_what_had_arrived() {
        let mut assembler = Assembler::new(HELD_OVERHEAD_BYTES + 10);
        assert_eq!(assembler.insert(5, &[1; 10]), Ok(true));
        assert_eq!(assembler.insert(30, &[1; 1]), Err(Fault::Refuse));
        assert_eq!(assembler.insert(0, &[2; 6]), Err(Fault::Refuse));
        assert_eq!(assembler.insert(5, &[1; 10]), Ok(false));
    }
}
