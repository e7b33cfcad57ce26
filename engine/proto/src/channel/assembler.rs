//! Reassembly of a byte string from pieces, and the budget that bounds what is held for it.

use alloc::{collections::BTreeMap, vec::Vec};

use super::Fault;
use crate::mutate;

/// What holding a piece costs beside its bytes: map node and vector header, rounded up.
pub(crate) const HELD_OVERHEAD_BYTES: usize = 96;
/// What holding parts of a large datum costs beside its pieces: its entry, and the first node of their map.
pub(crate) const PARTIAL_OVERHEAD_BYTES: usize = 384;
/// Buffers are reused as long as all that are kept have no more than this, so that an idle session keeps 4
/// MiB at most.
const SPARE_BYTES: usize = 4 << 20;
/// Most buffers that are kept: more gaps than this are rarely open at one time.
const MAX_SPARES: usize = 16;

/// Bytes that may be held until something before them arrives. `held <= max`.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The sum of what was taken and not given back.
    held: usize,
    max: usize,
    /// Empty buffers to reuse; not counted in `held`. At most [`MAX_SPARES`] with [`SPARE_BYTES`] together.
    spares: Vec<Vec<u8>>,
}

impl Budget {
    pub(crate) const fn new(max: usize) -> Self {
        Self { held: 0, max, spares: Vec::new() }
    }

    /// Charges `bytes`, or refuses without a change.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        let held = self.held.saturating_add(bytes);
        if mutate!(held > self.max, "held-without-bound" => false) {
            return Err(Fault::Refuse);
        }
        self.held = held;
        Ok(())
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.held, "more given back than was taken");
        self.held = self.held.saturating_sub(bytes);
    }

    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// An empty buffer: the smallest of those kept that holds `bytes`, or the largest.
    pub(crate) fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        let capacity = |at: &usize| self.spares[*at].capacity();
        let all = 0..self.spares.len();
        let fitting = all.clone().filter(|at| capacity(at) >= bytes).min_by_key(capacity);
        fitting.or(all.max_by_key(capacity)).map_or(Vec::new(), |at| self.spares.swap_remove(at))
    }

    /// Keeps a buffer, in place of smaller ones if need be.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > SPARE_BYTES {
            return;
        }
        buffer.clear();
        let mut kept: usize = self.spares.iter().map(Vec::capacity).sum();
        while self.spares.len() >= MAX_SPARES || kept + buffer.capacity() > SPARE_BYTES {
            let smallest = (0..self.spares.len()).min_by_key(|at| self.spares[*at].capacity());
            match smallest {
                Some(at) if self.spares[at].capacity() < buffer.capacity() => {
                    kept -= self.spares.swap_remove(at).capacity();
                }
                _ => return,
            }
        }
        self.spares.push(buffer);
    }
}

/// A byte string that grows from its start. Pieces that arrive early are held.
///
/// Memory follows the bytes that arrived, never an announced length.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// The bytes without a gap from the start, minus some that were consumed.
    whole: Vec<u8>,
    /// Bytes at the front of `whole` that were consumed; at most half of it.
    consumed: usize,
    /// Where `whole` ends in the string.
    end: u64,
    /// Pieces behind a gap, by position; each ends above `end`, and they do not overlap each other.
    early: BTreeMap<u64, Vec<u8>>,
    /// Bytes charged to the budget: what of `whole` is not consumed, and each early piece with its overhead.
    charged: usize,
}

impl Assembler {
    pub(crate) fn new(budget: &mut Budget) -> Self {
        Self { whole: budget.buffer(usize::MAX), consumed: 0, end: 0, early: BTreeMap::new(), charged: 0 }
    }

    /// Where the whole part ends.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// The whole part, minus what was consumed.
    pub(crate) fn whole(&self) -> &[u8] {
        &self.whole[self.consumed..]
    }

    /// Bytes charged to the budget.
    pub(crate) const fn charged(&self) -> usize {
        self.charged
    }

    /// Removes `bytes` from the front of the whole part.
    pub(crate) fn consume(&mut self, bytes: usize, budget: &mut Budget) {
        self.consumed += bytes;
        // Each byte is moved at most once per doubling of what was consumed.
        if self.consumed * 2 > self.whole.len() {
            self.whole.drain(..self.consumed);
            self.consumed = 0;
        }
        self.charged -= bytes;
        budget.give(bytes);
    }

    /// Adds the piece at `position`; `false` when all of it had arrived. The caller bounds `position + len`.
    pub(crate) fn insert(&mut self, position: u64, bytes: &[u8], budget: &mut Budget) -> Result<bool, Fault> {
        let end = position + bytes.len() as u64;
        if end <= self.end {
            return Ok(false);
        }
        if position > self.end {
            return self.insert_early(position, bytes, budget);
        }
        let fresh = &bytes[(self.end - position) as usize..];
        budget.take(fresh.len())?;
        self.charged += fresh.len();
        self.whole.extend_from_slice(fresh);
        self.end = end;
        self.absorb(budget);
        Ok(true)
    }

    fn insert_early(&mut self, position: u64, bytes: &[u8], budget: &mut Budget) -> Result<bool, Fault> {
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
            let charge = piece.len() + HELD_OVERHEAD_BYTES;
            budget.take(charge)?;
            self.charged += charge;
            self.early.insert(at, piece.to_vec());
            at = free;
            fresh = true;
        }
        Ok(fresh)
    }

    /// Appends early pieces that the whole part has reached; the first may overlap it.
    fn absorb(&mut self, budget: &mut Budget) {
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() <= self.end) {
            let (first, piece) = entry.remove_entry();
            let known = (self.end - first).min(piece.len() as u64) as usize;
            self.whole.extend_from_slice(&piece[known..]);
            self.end += (piece.len() - known) as u64;
            let freed = known + HELD_OVERHEAD_BYTES;
            self.charged -= freed;
            budget.give(freed);
        }
        debug_assert_eq!(
            self.charged,
            self.whole().len()
                + self.early.values().map(|piece| piece.len() + HELD_OVERHEAD_BYTES).sum::<usize>(),
            "the charge is the sum over what is held"
        );
    }

    /// Drops everything and gives its charge back.
    pub(crate) fn release(self, budget: &mut Budget) {
        budget.give(self.charged);
        budget.recycle(self.whole);
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
        let mut budget = Budget::new(usize::MAX);
        let mut assembler = Assembler::new(&mut budget);
        let bytes = std::vec![7; 16 << 20];
        assert_eq!(assembler.insert(0, &bytes, &mut budget), Ok(true));
        while assembler.whole().len() >= 17 {
            assembler.consume(17, &mut budget);
        }
        assert_eq!(assembler.whole().len(), bytes.len() % 17);
        assert_eq!(budget.held(), assembler.charged());
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_make_the_whole(
            len in 1usize..300,
            pieces in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..80), 0..60),
        ) {
            let string: Vec<u8> = (0..len).map(|n| (n * 7 + n / 256) as u8).collect();
            let mut budget = Budget::new(1 << 20);
            let mut assembler = Assembler::new(&mut budget);
            let mut seen = std::vec![false; len];
            for (start, size) in pieces {
                let start = start.index(len);
                let end = (start + size).min(len);
                let fresh = seen[start..end].iter().any(|seen| !seen);
                prop_assert_eq!(assembler.insert(start as u64, &string[start..end], &mut budget), Ok(fresh));
                seen[start..end].fill(true);
                let whole = seen.iter().position(|seen| !seen).unwrap_or(len);
                prop_assert_eq!(assembler.whole(), &string[..whole]);
                prop_assert_eq!(assembler.charged(), budget.held());
            }
            assembler.insert(0, &string, &mut budget).unwrap();
            prop_assert_eq!(assembler.whole(), &string[..]);
            prop_assert!(assembler.early.is_empty());
            prop_assert_eq!(budget.held(), len);
            assembler.release(&mut budget);
            prop_assert_eq!(budget.held(), 0);
        }
    }

    #[test]
    fn kept_buffers_stay_within_their_bounds() {
        let mut budget = Budget::new(usize::MAX);
        for size in 1..=2 * MAX_SPARES {
            budget.recycle(Vec::with_capacity(size * 10));
        }
        assert_eq!(budget.spares.len(), MAX_SPARES);
        assert!(budget.buffer(200).capacity() >= 200);
        budget.recycle(Vec::with_capacity(SPARE_BYTES));
        assert_eq!(budget.spares.len(), 1);
        budget.recycle(Vec::with_capacity(SPARE_BYTES + 1));
        assert_eq!(budget.buffer(1).capacity(), SPARE_BYTES);
        assert_eq!(budget.buffer(1).capacity(), 0);
    }

    #[test]
    fn full_budget_refuses_and_keeps_what_had_arrived() {
        let mut budget = Budget::new(HELD_OVERHEAD_BYTES + 10);
        let mut assembler = Assembler::new(&mut budget);
        assert_eq!(assembler.insert(5, &[1; 10], &mut budget), Ok(true));
        assert_eq!(assembler.insert(30, &[1; 1], &mut budget), Err(Fault::Refuse));
        assert_eq!(assembler.insert(0, &[2; 6], &mut budget), Err(Fault::Refuse));
        assert_eq!(assembler.insert(5, &[1; 10], &mut budget), Ok(false));
    }
}
