//! What a consumer holds of a Reliable channel until the sequences before it have arrived.

use alloc::{collections::VecDeque, vec::Vec};

use super::{Budget, Fault, HELD_OVERHEAD_BYTES};
use crate::wire::frames::Datums;

/// Runs that a channel holds at once. Runs that follow each other are joined, so there is about one for each
/// gap; the bound keeps the insertion of one cheap.
const MAX_RUNS: usize = 4_096;
/// Runs are joined up to this many bytes.
const MAX_JOINED_BYTES: usize = 64 << 10;

/// Consecutive sequences that arrived early.
#[derive(Debug)]
pub(super) enum EarlyRun {
    /// Bodies of DATA frames, or parts of them.
    Data {
        count: u32,
        uniform: bool,
        /// Start of the first in the offset space.
        offset: u64,
        /// Start of the sequence behind the last.
        end_offset: u64,
        bytes: Vec<u8>,
    },
    /// Sequences up to `until` that the producer skipped, as `filtered` or not; `until` starts at `offset`.
    Skip { until: u64, offset: u64, filtered: bool },
}

impl EarlyRun {
    /// One past its last sequence.
    fn end(&self, first: u64) -> u64 {
        match self {
            Self::Data { count, .. } => first + u64::from(*count),
            Self::Skip { until, .. } => *until,
        }
    }

    /// Bytes charged to the budget for it.
    fn charge(&self) -> usize {
        HELD_OVERHEAD_BYTES
            + match self {
                Self::Data { bytes, .. } => bytes.len(),
                Self::Skip { .. } => 0,
            }
    }

    /// Gives its charge and its buffer back.
    pub(super) fn release(self, budget: &mut Budget) {
        budget.give(self.charge());
        if let Self::Data { bytes, .. } = self {
            budget.recycle(bytes);
        }
    }
}

/// The early runs of a channel, by sequence.
#[derive(Debug, Default)]
pub(super) struct EarlyRuns {
    /// First sequence and run: ascending and disjoint, at most [`MAX_RUNS`].
    runs: VecDeque<(u64, EarlyRun)>,
}

impl EarlyRuns {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes charged to the budget.
    pub(super) fn charge(&self) -> usize {
        self.runs.iter().map(|(_, run)| run.charge()).sum()
    }

    /// Whether `seq` is held, and up to where (at most `end`) the same is true of the sequences behind it.
    pub(super) fn coverage(&self, seq: u64, end: u64) -> (u64, bool) {
        self.coverage_at(self.index(seq), seq, end)
    }

    /// The index of the first run that ends behind `seq`.
    pub(super) fn index(&self, seq: u64) -> usize {
        self.runs.partition_point(|(first, run)| run.end(*first) <= seq)
    }

    /// As [`EarlyRuns::coverage`]; `at` is the index of the first run that ends behind `seq`.
    pub(super) fn coverage_at(&self, at: usize, seq: u64, end: u64) -> (u64, bool) {
        match self.runs.get(at) {
            Some((first, run)) if *first <= seq => (run.end(*first).min(end), true),
            Some((first, _)) => (end.min(*first), false),
            None => (end, false),
        }
    }

    /// Holds datums that are not held: `count` from `seq` on, between two offsets.
    pub(super) fn hold(
        &mut self,
        seq: u64,
        (offset, end_offset): (u64, u64),
        datums: Datums<'_>,
        count: u32,
        bytes: &[u8],
        budget: &mut Budget,
    ) -> Result<usize, Fault> {
        let at = self.runs.partition_point(|(first, _)| *first <= seq);
        let uniform = datums.is_uniform();
        if let Some((first, EarlyRun::Data { count: had, uniform: same, end_offset: end, bytes: buffer, .. })) =
            at.checked_sub(1).and_then(|before| self.runs.get_mut(before))
            && *first + u64::from(*had) == seq
            && *end == offset
            && *same == uniform
            && buffer.len() + bytes.len() <= MAX_JOINED_BYTES
            && !bytes.is_empty()
            && (!uniform || buffer.len() * count as usize == bytes.len() * *had as usize)
        {
            budget.take(bytes.len())?;
            let joined = buffer.len() + bytes.len();
            if joined > buffer.capacity() {
                // As a push would grow it, but not beyond what is kept for reuse.
                let room = (2 * buffer.capacity()).clamp(joined, MAX_JOINED_BYTES);
                buffer.reserve_exact(room - buffer.len());
            }
            buffer.extend_from_slice(bytes);
            (*had, *end) = (*had + count, end_offset);
            return Ok(bytes.len());
        }
        let charge = HELD_OVERHEAD_BYTES + bytes.len();
        self.make_room(charge, budget)?;
        let bytes = budget.copy(bytes);
        self.runs.insert(at, (seq, EarlyRun::Data { count, uniform, offset, end_offset, bytes }));
        Ok(charge)
    }

    /// Holds the skip of sequences that are not held; `until` starts at `offset` or behind.
    pub(super) fn hold_skip(
        &mut self,
        (seq, until): (u64, u64),
        offset: u64,
        filtered: bool,
        budget: &mut Budget,
    ) -> Result<usize, Fault> {
        self.make_room(HELD_OVERHEAD_BYTES, budget)?;
        let at = self.runs.partition_point(|(first, _)| *first <= seq);
        self.runs.insert(at, (seq, EarlyRun::Skip { until, offset, filtered }));
        Ok(HELD_OVERHEAD_BYTES)
    }

    fn make_room(&self, charge: usize, budget: &mut Budget) -> Result<(), Fault> {
        if self.runs.len() >= MAX_RUNS {
            return Err(Fault::Refuse);
        }
        budget.take(charge)
    }

    /// Takes the first run if it starts at or below `seq`; returns its first sequence and its charge too.
    pub(super) fn take_first(&mut self, seq: u64) -> Option<(u64, EarlyRun, usize)> {
        self.runs.front().filter(|(first, _)| *first <= seq)?;
        self.runs.pop_front().map(|(first, run)| {
            let charge = run.charge();
            (first, run, charge)
        })
    }

    /// Drops everything and gives its charge back.
    pub(super) fn release(self, budget: &mut Budget) {
        for (_, run) in self.runs {
            run.release(budget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds `count` datums of `len` bytes from `seq` on, which starts at `offset`.
    fn hold(
        runs: &mut EarlyRuns,
        seq: u64,
        offset: u64,
        count: u32,
        len: usize,
        budget: &mut Budget,
    ) -> usize {
        let bytes = alloc::vec![seq as u8; len * count as usize];
        let datums = Datums::new(count, true, &bytes).unwrap();
        let end = offset + u64::from(count) * crate::wire::datum_cost(len);
        runs.hold(seq, (offset, end), datums, count, &bytes, budget).unwrap()
    }

    #[test]
    fn runs_that_follow_each_other_are_joined() {
        let (mut runs, mut budget) = (EarlyRuns::default(), Budget::new(1 << 20));
        assert_eq!(hold(&mut runs, 10, 160, 2, 16, &mut budget), 32 + HELD_OVERHEAD_BYTES);
        assert_eq!(hold(&mut runs, 12, 192, 3, 16, &mut budget), 48);
        // Another length, and an offset that is only a lower bound.
        hold(&mut runs, 15, 240, 1, 20, &mut budget);
        hold(&mut runs, 16, 240, 1, 20, &mut budget);
        assert_eq!((runs.coverage(10, 90), runs.runs.len()), ((15, true), 3));
        assert_eq!((runs.coverage(3, 90), runs.coverage(17, 90)), ((10, false), (90, false)));
        assert_eq!(runs.charge(), budget.held());
        assert!(runs.take_first(9).is_none());
        let (first, run, charge) = runs.take_first(10).unwrap();
        assert_eq!((first, run.end(first), charge), (10, 15, 80 + HELD_OVERHEAD_BYTES));
        run.release(&mut budget);
        runs.release(&mut budget);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn number_of_runs_is_bounded() {
        let (mut runs, mut budget) = (EarlyRuns::default(), Budget::new(1 << 30));
        for n in 0..MAX_RUNS as u64 {
            hold(&mut runs, 2 * n, 32 * n, 1, 16, &mut budget);
        }
        let datums = Datums::new(1, true, &[7]).unwrap();
        assert_eq!(runs.hold(99_999, (0, 16), datums, 1, &[7], &mut budget), Err(Fault::Refuse));
        assert_eq!(runs.hold_skip((99_999, 100_000), 0, false, &mut budget), Err(Fault::Refuse));
        assert_eq!(budget.held(), runs.charge());
    }
}
