//! A set of numbers, stored as intervals.

use alloc::vec::Vec;

/// Disjoint half-open intervals in ascending order, none touching the next.
///
/// Its size follows the number of gaps, which its owner bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// `start..end` each.
    rows: Vec<(u64, u64)>,
}

impl Intervals {
    /// Adds `start..end`.
    pub(crate) fn insert(&mut self, start: u64, end: u64) {
        self.insert_within(start, end, usize::MAX);
    }

    /// Adds `start..end`, unless that would make more than `max` intervals; returns whether it did.
    pub(crate) fn insert_within(&mut self, start: u64, end: u64, max: usize) -> bool {
        if start >= end {
            return true;
        }
        // The first row that touches the new one or lies behind it.
        let from = self.rows.partition_point(|row| row.1 < start);
        let mut to = from;
        let (mut low, mut high) = (start, end);
        while let Some(row) = self.rows.get(to).filter(|row| row.0 <= end) {
            low = low.min(row.0);
            high = high.max(row.1);
            to += 1;
        }
        if from == to {
            if self.rows.len() >= max {
                return false;
            }
            self.rows.insert(from, (low, high));
        } else {
            self.rows[from] = (low, high);
            self.rows.drain(from + 1..to);
        }
        debug_assert!(self.rows.is_sorted_by(|a, b| a.1 < b.0), "rows ascend and do not touch");
        true
    }

    /// Removes everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
    }

    /// Removes every row that starts at or before `at`, and returns the end of the one that contains or
    /// touches `at`, or else `at`.
    pub(crate) fn absorb(&mut self, mut at: u64) -> u64 {
        let mut done = 0;
        while let Some(row) = self.rows.get(done).filter(|row| row.0 <= at) {
            at = at.max(row.1);
            done += 1;
        }
        self.rows.drain(..done);
        at
    }

    /// The parts of `start..end` that are not in the set, in order.
    pub(crate) fn gaps(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = start;
        let mut index = self.rows.partition_point(|row| row.1 <= start);
        core::iter::from_fn(move || {
            loop {
                if at >= end {
                    return None;
                }
                match self.rows.get(index) {
                    Some(&(low, high)) if low < end => {
                        let gap = (at, low);
                        at = high;
                        index += 1;
                        if gap.0 < gap.1 {
                            return Some(gap);
                        }
                    }
                    _ => {
                        let gap = (at, end);
                        at = end;
                        return Some(gap);
                    }
                }
            }
        })
    }

    /// Whether all of `start..end` is in the set.
    pub(crate) fn covers(&self, start: u64, end: u64) -> bool {
        self.gaps(start, end).next().is_none()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn intervals_equal_a_set(steps in proptest::collection::vec((0u64..60, 0u64..9, 0u8..8), 1..60)) {
            let mut intervals = Intervals::default();
            let mut model = BTreeSet::new();
            for (start, len, action) in steps {
                if action == 0 {
                    let mut at = start;
                    let absorbed = intervals.absorb(start);
                    model.retain(|n| *n >= start);
                    while model.remove(&at) {
                        at += 1;
                    }
                    prop_assert_eq!(absorbed, at);
                } else {
                    intervals.insert(start, start + len);
                    model.extend(start..start + len);
                }
                let gaps: Vec<u64> = intervals.gaps(0, 70).flat_map(|(a, b)| a..b).collect();
                let expected: Vec<u64> = (0..70).filter(|n| !model.contains(n)).collect();
                prop_assert_eq!(gaps, expected);
                prop_assert_eq!(intervals.covers(start, start + len), (start..start + len).all(|n| model.contains(&n)));
                prop_assert!(intervals.rows.windows(2).all(|w| w[0].1 < w[1].0));
            }
        }
    }
}
