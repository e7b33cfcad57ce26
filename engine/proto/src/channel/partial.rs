//! A large datum of which some fragments arrived.

use alloc::{vec, vec::Vec};

use super::{Budget, Fault, Intervals, PARTIAL_OVERHEAD_BYTES};

/// Gaps that a datum may have: one per so many bytes, and a few. Fragments are ten times their header or
/// longer, so an honest producer leaves fewer.
const BYTES_PER_GAP: u32 = 512;
const FEW_GAPS: usize = 16;

/// A large datum in reassembly. Its buffer has its length from the start, so each byte is copied once into it
/// and once out of it; the memory behind bytes that have not arrived is not touched.
#[derive(Debug)]
pub(crate) struct Partial {
    /// Length of the datum.
    total: u32,
    /// Start of the datum in the offset space.
    offset: u64,
    /// Reserved in the budget; otherwise it was taken from it.
    reserved: bool,
    /// At least `total` bytes; what has not arrived has no meaning.
    bytes: Vec<u8>,
    /// Which bytes have arrived.
    arrived: Intervals,
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
        let (mut bytes, mut arrived) = match budget.take_partial(total as usize) {
            Some(Self { bytes, arrived, .. }) => (bytes, arrived),
            None => (Vec::new(), Intervals::default()),
        };
        arrived.clear();
        if bytes.len() < total as usize {
            bytes = vec![0; total as usize];
        }
        Ok(Self { total, offset, reserved: reliable, bytes, arrived })
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
        self.bytes.len()
    }

    /// Adds the fragment at `position`, which ends within the datum; `false` when all of it had arrived.
    pub(super) fn insert(&mut self, position: u32, body: &[u8]) -> Result<bool, Fault> {
        let (start, end) = (position as usize, position as usize + body.len());
        let place = self.bytes.get_mut(start..end).ok_or(Fault::Refuse)?;
        let (first, last) = (start as u64, end as u64);
        if self.arrived.covers(first, last) {
            return Ok(false);
        }
        let most = (self.total / BYTES_PER_GAP) as usize + FEW_GAPS;
        if !self.arrived.insert_within(first, last, most) {
            return Err(Fault::Refuse);
        }
        place.copy_from_slice(body);
        Ok(true)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.arrived.covers(0, u64::from(self.total))
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
            former.insert(0, &[0xff; 400]).unwrap();
            former.release(&mut budget);
            let mut partial = Partial::begin(len as u32, 0, true, false, &mut budget).unwrap();
            let mut seen = vec![false; len];
            for (start, size) in pieces {
                let start = start.index(len);
                let end = (start + size).min(len);
                let fresh = seen[start..end].iter().any(|seen| !seen);
                prop_assert_eq!(partial.insert(start as u32, &datum[start..end]), Ok(fresh));
                seen[start..end].fill(true);
                prop_assert_eq!(partial.is_whole(), seen.iter().all(|seen| *seen));
            }
            partial.insert(0, &datum).unwrap();
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
        let taken = (0..5_000).take_while(|n| partial.insert(n * 2, &[1]).is_ok()).count();
        assert_eq!(taken, 10_000 / 512 + 16);
        assert_eq!(partial.insert(1, &[1]), Ok(true));
        assert_eq!(partial.insert(9_000, &[1]), Ok(true), "that made room for one");
    }
}
