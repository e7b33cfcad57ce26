//! Arithmetic of byte positions, counted in units of 16 bytes. Pure: no memory, no atomics.

use crate::limits::UNIT_BYTES;

/// Bits of a byte position.
pub(crate) const POSITION_BITS: u32 = 38;

/// Positions run from 0 to `modulus - 1` and wrap. The modulus is the largest multiple of the capacity that
/// fits 38 bits, so `position % capacity` is the place in the arena on both sides of the wrap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Units {
    /// Units of the arena, without the spill.
    pub(crate) capacity: u64,
    /// Where positions wrap.
    pub(crate) modulus: u64,
    /// `2^64 / capacity`, rounded down: multiplication instead of division.
    reciprocal: u64,
}

impl Units {
    pub(crate) const fn new(capacity: u64) -> Self {
        assert!(capacity >= 1 && capacity < 1 << POSITION_BITS);
        let modulus = capacity * ((1 << POSITION_BITS) / capacity);
        // For capacity 1 the true quotient, 2^64, does not fit; one less only costs the correction step.
        let reciprocal = if capacity == 1 { u64::MAX } else { ((1u128 << 64) / capacity as u128) as u64 };
        Self { capacity, modulus, reciprocal }
    }

    /// Units that a record of `len` bytes costs: `len` rounded up to whole units, at least one. The one
    /// definition of a record's cost.
    #[inline(always)]
    pub(crate) const fn of(len: usize) -> u64 {
        let units = len.div_ceil(UNIT_BYTES) as u64;
        if units == 0 { 1 } else { units }
    }

    /// `position + units`, wrapped. `units` is at most the modulus.
    #[inline(always)]
    pub(crate) const fn add(self, position: u64, units: u64) -> u64 {
        debug_assert!(position < self.modulus && units <= self.modulus);
        let sum = position + units;
        if sum >= self.modulus { sum - self.modulus } else { sum }
    }

    /// Units from `earlier` forward to `later`.
    #[inline(always)]
    pub(crate) const fn distance(self, later: u64, earlier: u64) -> u64 {
        let distance = later.wrapping_sub(earlier);
        if later >= earlier { distance } else { distance.wrapping_add(self.modulus) }
    }

    /// The place after `units` units from `place`: where the record after one that starts at `place` and
    /// costs `units` starts. `units` is at most the capacity.
    #[inline(always)]
    pub(crate) const fn place_after(self, place: u64, units: u64) -> u64 {
        debug_assert!(place < self.capacity && units <= self.capacity);
        let after = place + units;
        if after >= self.capacity { after - self.capacity } else { after }
    }

    /// The place of a record that ends at position `end` and costs `units`.
    #[inline(always)]
    pub(crate) const fn place_before(self, end: u64, units: u64) -> u64 {
        self.place(self.distance(end, units))
    }

    /// Place of a position in the arena: `position % capacity`.
    #[inline(always)]
    pub(crate) const fn place(self, position: u64) -> u64 {
        // The estimate is the quotient or one less: position < 2^38, and the reciprocal is short by less than
        // 1.
        let quotient = ((position as u128 * self.reciprocal as u128) >> 64) as u64;
        let rest = position - quotient * self.capacity;
        if rest >= self.capacity { rest - self.capacity } else { rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(miri))]
    use proptest::prelude::*;

    #[test]
    fn a_record_costs_whole_units_and_at_least_one() {
        assert_eq!([0, 1, 16, 17, 64, 65].map(Units::of), [1, 1, 1, 2, 4, 5]);
    }

    // Arithmetic without memory accesses: Miri has nothing to check in it and takes many minutes.
    #[cfg(not(miri))]
    proptest! {
        #[test]
        fn place_is_the_remainder(capacity in 1u64..1 << 37, position in 0u64..1 << 38) {
            let units = Units::new(capacity);
            let position = position % units.modulus;
            prop_assert_eq!(units.place(position), position % capacity);
        }

        #[test]
        fn the_next_place_is_that_of_the_next_position(capacity in 1u64..1 << 20, position in 0u64..1 << 38, step in 0u64..1 << 20) {
            let units = Units::new(capacity);
            let (position, step) = (position % units.modulus, step % (capacity + 1));
            prop_assert_eq!(units.place_after(units.place(position), step), units.place(units.add(position, step)));
        }

        #[test]
        fn small_capacities_divide_too(capacity in 1u64..70, position in 0u64..1 << 38) {
            let units = Units::new(capacity);
            let position = position % units.modulus;
            prop_assert_eq!(units.place(position), position % capacity);
        }

        #[test]
        fn distance_undoes_add(capacity in 1u64..1 << 37, position in 0u64..1 << 38, step in 0u64..1 << 36) {
            let units = Units::new(capacity);
            let position = position % units.modulus;
            let step = step % units.modulus;
            prop_assert_eq!(units.distance(units.add(position, step), position), step);
        }
    }
}
