//! A large datum of which some fragments arrived.

use alloc::vec::Vec;

use super::{Budget, Fault, Intervals, PARTIAL_OVERHEAD_BYTES};

/// Gaps that a datum may have: one per so many bytes and a few, up to a bound that keeps the insertion of one
/// cheap. A fragment of an honest producer is longer unless it ends a piece, and 1,024 gaps at once take the
/// loss of one packet in twenty from a window of 20,000.
const BYTES_PER_GAP: u32 = 512;
const FEW_GAPS: usize = 16;
const MAX_GAPS: usize = 1_024;
/// A buffer may be this many times as long as what has arrived. More is taken from the session's allowance.
const EARNED_BYTES: usize = 4;

/// A large datum in reassembly. Its buffer grows with what arrives, so work and memory follow the bytes
/// received and not the length that a fragment names.
#[derive(Debug)]
pub(crate) struct Partial {
    /// Length of the datum.
    total: u32,
    /// Start of the datum in the offset space.
    offset: u64,
    /// Reserved in the budget; otherwise it was taken from it.
    reserved: bool,
    /// Up to the last byte that has arrived, or further; what has not arrived has no meaning.
    bytes: Vec<u8>,
    /// Which bytes have arrived.
    arrived: Intervals,
    /// How many bytes those are.
    arrived_bytes: usize,
}

impl Partial {
    /// A datum of which nothing has arrived; charges its length. `in_order`: its channel waits for nothing
    /// else. Only a Reliable datum is reserved for.
    pub(super) fn begin(
        total: u32,
        offset: u64,
        reliable: bool,
        in_order: bool,
        budget: &mut Budget,
    ) -> Result<Self, Fault> {
        let charge = total as usize + PARTIAL_OVERHEAD_BYTES;
        if reliable {
            budget.reserve(charge, in_order)?;
        } else {
            budget.take(charge)?;
        }
        let (bytes, mut arrived) = match budget.take_partial(total as usize) {
            Some(Self { bytes, arrived, .. }) => (bytes, arrived),
            None => (Vec::new(), Intervals::default()),
        };
        arrived.clear();
        Ok(Self { total, offset, reserved: reliable, bytes, arrived, arrived_bytes: 0 })
    }

    pub(super) const fn total(&self) -> u32 {
        self.total
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes charged to the budget for it.
    pub(super) const fn charge(&self) -> usize {
        self.total as usize + PARTIAL_OVERHEAD_BYTES
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds the fragment at `position`, which ends within the datum; `false` when all of it had arrived.
    pub(super) fn insert(&mut self, position: u32, body: &[u8], budget: &mut Budget) -> Result<bool, Fault> {
        let (start, end) = (position as usize, position as usize + body.len());
        if end > self.total as usize {
            return Err(Fault::Refuse);
        }
        let (first, last) = (start as u64, end as u64);
        let fresh = self.arrived.gaps(first, last).map(|(low, high)| high - low).sum::<u64>() as usize;
        if fresh == 0 {
            return Ok(false);
        }
        self.grow(end, self.arrived_bytes + fresh, budget)?;
        let most = ((self.total / BYTES_PER_GAP) as usize + FEW_GAPS).min(MAX_GAPS);
        if !self.arrived.insert_within(first, last, most) {
            return Err(Fault::Refuse);
        }
        self.arrived_bytes += fresh;
        budget.earn(fresh);
        self.bytes[start..end].copy_from_slice(body);
        Ok(true)
    }

    /// Makes the buffer reach to `end`, when `arrived` bytes will have arrived. Only a gap takes from the
    /// allowance, so what follows on the bytes before it is never refused.
    fn grow(&mut self, end: usize, arrived: usize, budget: &mut Budget) -> Result<(), Fault> {
        let had = self.bytes.len();
        if end <= had {
            return Ok(());
        }
        let unearned = had.saturating_sub(EARNED_BYTES * self.arrived_bytes);
        budget.spend(end.saturating_sub(EARNED_BYTES * arrived).saturating_sub(unearned))?;
        if end > self.bytes.capacity() {
            let room = end.max(2 * self.bytes.capacity()).min(self.total as usize);
            self.bytes.reserve_exact(room - had);
        }
        self.bytes.resize(end, 0);
        Ok(())
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.arrived_bytes == self.total as usize
    }

    /// The datum; its bytes have no meaning before it is whole.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.total as usize]
    }

    /// Gives its charge and its buffer back.
    pub(super) fn release(self, budget: &mut Budget) {
        if self.reserved {
            budget.free(self.charge());
        } else {
            budget.give(self.charge());
        }
        budget.keep_partial(self);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fragments_in_any_order_make_the_datum(
            len in 1usize..300,
            pieces in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..80), 0..60),
        ) {
            let datum: Vec<u8> = (0..len).map(|n| (n * 7 + n / 256) as u8).collect();
            let mut budget = Budget::new(1 << 20);
            // A buffer with other bytes in it is reused.
            let mut former = Partial::begin(400, 0, true, false, &mut budget).unwrap();
            former.insert(0, &[0xff; 400], &mut budget).unwrap();
            former.release(&mut budget);
            let mut partial = Partial::begin(len as u32, 0, true, false, &mut budget).unwrap();
            let mut seen = vec![false; len];
            for (start, size) in pieces {
                let start = start.index(len);
                let end = (start + size).min(len);
                let fresh = seen[start..end].iter().any(|seen| !seen);
                prop_assert_eq!(partial.insert(start as u32, &datum[start..end], &mut budget), Ok(fresh));
                seen[start..end].fill(true);
                prop_assert_eq!(partial.is_whole(), seen.iter().all(|seen| *seen));
            }
            partial.insert(0, &datum, &mut budget).unwrap();
            prop_assert!(partial.is_whole());
            prop_assert_eq!(partial.bytes(), &datum[..]);
            prop_assert_eq!(budget.held(), partial.charge());
            partial.release(&mut budget);
            prop_assert_eq!(budget.held(), 0);
        }
    }

    #[test]
    fn datum_reserves_its_whole_length_and_is_refused_without_room() {
        let room = 2 * (1_000 + PARTIAL_OVERHEAD_BYTES);
        let mut budget = Budget::new(2 * room);
        let begin = |budget: &mut Budget, in_order| Partial::begin(1_000, 0, true, in_order, budget);
        let (one, two) = (begin(&mut budget, false).unwrap(), begin(&mut budget, false).unwrap());
        assert_eq!(budget.held(), room);
        assert!(begin(&mut budget, false).is_err() && budget.held() == room);
        let urgent = begin(&mut budget, true).expect("what its channel waits for uses the other half");
        budget.take(room / 2).unwrap();
        assert!(budget.take(1).is_err() && begin(&mut budget, true).is_err());
        for partial in [one, two, urgent] {
            partial.release(&mut budget);
        }
        assert_eq!(budget.held(), room / 2);
    }

    #[test]
    fn crumbs_with_gaps_are_refused_and_filling_a_gap_is_not() {
        let mut budget = Budget::new(1 << 20);
        let mut partial = Partial::begin(10_000, 0, true, false, &mut budget).unwrap();
        let taken = (0..5_000).take_while(|n| partial.insert(n * 2, &[1], &mut budget).is_ok()).count();
        assert_eq!(taken, 10_000 / 512 + 16);
        assert_eq!(partial.insert(1, &[1], &mut budget), Ok(true));
        assert_eq!(partial.insert(9_000, &[1], &mut budget), Ok(true), "that made room for one");
    }
    #[test]
    fn memory_and_work_follow_the_bytes_received_and_not_the_length_named() {
        const TOTAL: u32 = 30 << 20;
        let mut budget = Budget::new(256 << 20);
        let hostile = allocation_counter::measure(|| {
            for n in 0..1_000 {
                let mut partial = Partial::begin(TOTAL, 0, n % 2 == 0, true, &mut budget).unwrap();
                partial.insert(0, &[1], &mut budget).unwrap();
                let _ = partial.insert(TOTAL - 1, &[1], &mut budget);
                let _ = partial.insert(1 << 20, &[1], &mut budget);
                partial.release(&mut budget);
            }
        });
        assert!(hostile.bytes_total < 16 << 20, "{} bytes for 3,000", hostile.bytes_total);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn datum_whose_beginning_is_lost_is_taken_once_it_comes_again() {
        const TOTAL: usize = 64 << 20;
        const BODY: [u8; 1 << 12] = [7; 1 << 12];
        let mut budget = Budget::new(256 << 20);
        let mut partial = Partial::begin(TOTAL as u32, 0, true, true, &mut budget).unwrap();
        let mut refused = Vec::new();
        for position in (2 << 20..TOTAL).chain(0..2 << 20).step_by(BODY.len()) {
            if partial.insert(position as u32, &BODY, &mut budget).is_err() {
                refused.push(position);
            }
        }
        assert!(refused.is_empty() && partial.is_whole(), "{} refused", refused.len());
        partial.release(&mut budget);

        // Without any allowance, what follows on what has arrived is taken.
        while budget.spend(1).is_ok() {}
        let mut partial = Partial::begin(TOTAL as u32, 0, true, true, &mut budget).unwrap();
        assert!(partial.insert(1 << 20, &BODY, &mut budget).is_err());
        for position in (0..TOTAL).step_by(BODY.len()) {
            assert_eq!(partial.insert(position as u32, &BODY, &mut budget), Ok(true));
        }
        assert!(partial.is_whole());
    }

    #[test]
    fn crumbs_in_descending_order_make_a_short_list() {
        let mut budget = Budget::new(256 << 20);
        let mut partial = Partial::begin(1 << 20, 0, true, true, &mut budget).unwrap();
        let taken = (1..131_000).filter(|n| partial.insert((1 << 20) - n * 2, &[1], &mut budget).is_ok());
        assert_eq!(taken.count(), MAX_GAPS);
    }
}
