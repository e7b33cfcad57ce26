//! How room is counted: datums and units between gate and tail. Pure: the only place that decides whether a
//! claim fits.

use crate::units::Units;
use crate::word::Tail;

/// The gate in full: its sequence, and its byte position in units.
#[derive(Clone, Copy)]
pub(crate) struct GatePosition {
    pub(crate) seq: u64,
    pub(crate) position: u64,
}

/// What a ring holds at most.
#[derive(Clone, Copy)]
pub(crate) struct Capacity {
    pub(crate) datums: u64,
    pub(crate) units: Units,
}

/// What lies between a gate and a tail.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) datums: u64,
    pub(crate) units: u64,
}

impl Capacity {
    /// What is in use if `gate` and `tail` belong together.
    #[inline(always)]
    pub(crate) fn usage(self, gate: GatePosition, tail: Tail) -> Usage {
        let units = self.units.distance(tail.position(), gate.position);
        Usage { datums: tail.datums_since(gate.seq), units }
    }

    /// Whether more is in use than there is. Then the tail was loaded before the gate moved: load both again.
    #[inline(always)]
    pub(crate) fn is_exceeded_by(self, used: Usage) -> bool {
        used.datums > self.datums || used.units > self.units.capacity
    }

    /// Whether one more record of `units` fits.
    #[inline(always)]
    pub(crate) fn fits(self, used: Usage, units: u64) -> bool {
        used.datums < self.datums && used.units + units <= self.units.capacity
    }

    /// How many of `count` records of `each` units fit. `used` does not exceed the capacity.
    #[inline(always)]
    pub(crate) fn fit(self, used: Usage, count: u64, each: u64) -> u64 {
        debug_assert!(!self.is_exceeded_by(used));
        let free = count.min(self.datums - used.datums);
        let free_units = self.units.capacity - used.units;
        if free * each > free_units { free_units / each } else { free }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(not(miri))]
    use super::*;
    #[cfg(not(miri))]
    use proptest::prelude::*;

    // Arithmetic without memory accesses: Miri has nothing to check in it and takes many minutes.
    #[cfg(not(miri))]
    proptest! {
        #[test]
        fn as_many_records_fit_as_fit_one_by_one(
            datums in 1u64..20, capacity in 1u64..40, used in 0u64..20, used_units in 0u64..40,
            count in 1u64..20, each in 1u64..9,
        ) {
            let room = Capacity { datums, units: Units::new(capacity) };
            let mut usage = Usage { datums: used.min(datums), units: used_units.min(capacity) };
            let fit = room.fit(usage, count, each);
            let mut one_by_one = 0;
            while one_by_one < count && room.fits(usage, each) {
                usage = Usage { datums: usage.datums + 1, units: usage.units + each };
                one_by_one += 1;
            }
            prop_assert_eq!(fit, one_by_one);
        }
    }
}
