//! The queue of the sessions' deadlines.
//!
//! A session knows its own deadline (`Session::poll_timeout`); the queue finds the next one among many
//! without visiting those that are not due.

use corewire_proto::time::Instant;

use super::table::{SessionSlot, SlabSlot};

/// Marks a slot that has no entry in the heap.
const ABSENT: u32 = u32::MAX;

/// A binary heap of deadlines with at most one entry per session slot.
///
/// A deadline that moves *later*, or is cancelled, leaves its entry where it is: when the entry comes up, the
/// caller asks the session again and finds nothing due. So the loss timer, which every packet pushes back,
/// costs nothing per packet, and the heap never holds more entries than there are sessions.
#[derive(Debug, Default)]
pub(crate) struct SessionTimers {
    heap: Vec<(Instant, SessionSlot)>,
    /// By slot: the index of its entry in `heap`, or [`ABSENT`].
    place: Vec<u32>,
}

impl SessionTimers {
    /// Makes `slot` come up at `at` or earlier.
    pub(crate) fn set(&mut self, slot: SessionSlot, at: Instant) {
        let index = slot.at();
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

    /// Removes the entry of `slot`, whose session is gone.
    pub(crate) fn remove(&mut self, slot: SessionSlot) {
        if let Some(&place) = self.place.get(slot.at()).filter(|place| **place != ABSENT) {
            self.remove_at(place as usize);
        }
    }

    /// The earliest deadline, if there is one. A session may have put its own off since, but none is due
    /// earlier.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Takes out a slot whose time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<SessionSlot> {
        let &(at, slot) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove_at(0);
        Some(slot)
    }

    fn remove_at(&mut self, at: usize) {
        let last = self.heap.len() - 1;
        self.swap(at, last);
        if let Some((_, slot)) = self.heap.pop() {
            self.place[slot.at()] = ABSENT;
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
        self.place[self.heap[a].1.at()] = a as u32;
        self.place[self.heap[b].1.at()] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn slot(number: u32) -> SessionSlot {
        SessionSlot::from_u32(number)
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_later_deadline_leaves_the_earlier_entry() {
        let mut timers = SessionTimers::default();
        timers.set(slot(3), at(10));
        timers.set(slot(3), at(20));
        assert_eq!(timers.next(), Some(at(10)));
        timers.set(slot(3), at(5));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(5)), Some(slot(3)));
        assert_eq!(timers.next(), None);
    }

    proptest! {
        #[test]
        fn comes_up_like_a_sorted_map(ops in prop::collection::vec((0u8..3, 0u32..24, 0u64..64), 1..400)) {
            let mut timers = SessionTimers::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (op, number, time) in ops {
                match op {
                    0 => {
                        timers.set(slot(number), at(time));
                        let entry = model.entry(number).or_insert(time);
                        *entry = (*entry).min(time);
                    }
                    1 => {
                        timers.remove(slot(number));
                        model.remove(&number);
                    }
                    _ => {
                        let due = timers.pop_due(at(time));
                        let earliest = model.values().min().copied();
                        match due {
                            Some(slot) => {
                                let its = model.remove(&slot.to_u32());
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
