//! When a session wants to be looked at again.
//!
//! Not inside: what happens then. A session knows its own deadline (`Session::poll_timeout`); this is only the
//! queue that finds the next one among many without looking at those that are not due.

use corewire_proto::time::Instant;

/// Marks a slot that has no entry in the heap.
const ABSENT: u32 = u32::MAX;

/// A binary heap of deadlines with at most one entry per session slot.
///
/// An entry that moves *later*, or that is no longer wanted, is left where it is: when it comes up, the caller
/// asks the session again and finds nothing due. So the loss timer, which every packet pushes back, costs
/// nothing per packet, and the heap never holds more entries than there are sessions.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Vec<(Instant, u32)>,
    /// Where the entry of a slot is in `heap`.
    place: Vec<u32>,
}

impl Timers {
    /// Sees to it that `slot` comes up at `at` or earlier.
    pub(crate) fn want(&mut self, slot: u32, at: Instant) {
        let index = slot as usize;
        if index >= self.place.len() {
            self.place.resize(index + 1, ABSENT);
        }
        match self.place[index] {
            ABSENT => {
                self.heap.push((at, slot));
                self.place[index] = (self.heap.len() - 1) as u32;
                self.sift_up(self.heap.len() - 1);
            }
            place if at < self.heap[place as usize].0 => {
                self.heap[place as usize].0 = at;
                self.sift_up(place as usize);
            }
            _ => {}
        }
    }

    /// Forgets `slot`: its session is gone.
    pub(crate) fn forget(&mut self, slot: u32) {
        let Some(&place) = self.place.get(slot as usize) else { return };
        if place == ABSENT {
            return;
        }
        self.remove(place as usize);
    }

    /// The earliest deadline, if there is one. It may have been put off since; it is never too late.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Takes out a slot whose time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let &(at, slot) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(slot)
    }

    fn remove(&mut self, at: usize) {
        let last = self.heap.len() - 1;
        self.swap(at, last);
        if let Some((_, slot)) = self.heap.pop() {
            self.place[slot as usize] = ABSENT;
        }
        if at < self.heap.len() {
            self.sift_up(at);
            self.sift_down(at);
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent].0 <= self.heap[at].0 {
                break;
            }
            self.swap(parent, at);
            at = parent;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let child =
                if right < self.heap.len() && self.heap[right].0 < self.heap[left].0 { right } else { left };
            if self.heap[at].0 <= self.heap[child].0 {
                break;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a].1 as usize] = a as u32;
        self.place[self.heap[b].1 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_later_wish_leaves_the_earlier_entry() {
        let mut timers = Timers::default();
        timers.want(3, at(10));
        timers.want(3, at(20));
        assert_eq!(timers.next(), Some(at(10)));
        timers.want(3, at(5));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(5)), Some(3));
        assert_eq!(timers.next(), None);
    }

    proptest! {
        #[test]
        fn comes_up_like_a_sorted_map(ops in prop::collection::vec((0u8..3, 0u32..24, 0u64..64), 1..400)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (op, slot, time) in ops {
                match op {
                    0 => {
                        timers.want(slot, at(time));
                        let entry = model.entry(slot).or_insert(time);
                        *entry = (*entry).min(time);
                    }
                    1 => {
                        timers.forget(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        let due = timers.pop_due(at(time));
                        let earliest = model.values().min().copied();
                        match due {
                            Some(slot) => {
                                let its = model.remove(&slot);
                                prop_assert_eq!(its, earliest);
                                prop_assert!(its <= Some(time));
                            }
                            None => prop_assert!(earliest.is_none_or(|t| t > time)),
                        }
                    }
                }
                prop_assert_eq!(timers.heap.len(), model.len());
                prop_assert_eq!(timers.next(), model.values().min().map(|&t| at(t)));
            }
        }
    }
}
