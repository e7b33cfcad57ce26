//! Which packets arrived, and when to acknowledge them.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{mutate, time::Instant, wire::frames::MAX_ACK_RANGES};

/// Ranges that are remembered: what one turn of the driver can bring, if every second packet is lost.
const MAX_RANGES: usize = 8 * MAX_ACK_RANGES;

/// The numbers of received packets as ranges, and what is still to be acknowledged.
///
/// One ACK frame has room for [`MAX_ACK_RANGES`]; when there are more, the next packets carry the older ones.
/// Beyond [`MAX_RANGES`] the oldest range is forgotten. If the peer has not seen its acknowledgement, it
/// sends the content again, which the channels recognise as duplicates.
#[derive(Debug)]
pub(super) struct Acks {
    /// Inclusive, highest first; no two touch. At most [`MAX_RANGES`].
    ranges: Vec<(u64, u64)>,
    /// The first range that the next ACK frame carries, while older ones follow in further packets.
    page: usize,
    /// When the largest number arrived.
    largest_at: Instant,
    /// Packets that ask for an acknowledgement since the last one was sent.
    waiting: u32,
    /// When an acknowledgement that may wait is due.
    due_at: Option<Instant>,
    /// It is due now.
    now: bool,
    /// How long an acknowledgement may wait.
    delay: Duration,
    /// It is due at once after this many packets; at least 1.
    every: u32,
}

impl Acks {
    pub(super) fn new(delay: Duration, every: u32) -> Self {
        Self {
            ranges: Vec::with_capacity(MAX_RANGES + 1),
            page: 0,
            largest_at: Instant::ZERO,
            waiting: 0,
            due_at: None,
            now: false,
            delay,
            every: every.max(1),
        }
    }

    /// Records a packet. `eliciting`: it asks for an acknowledgement; `urgent`: at once.
    pub(super) fn handle_packet(&mut self, now: Instant, number: u64, eliciting: bool, urgent: bool) {
        let in_order = match self.ranges.first_mut() {
            Some(first) if first.1 + 1 == number => {
                first.1 = number;
                true
            }
            None => {
                self.ranges.push((number, number));
                true
            }
            Some(_) => {
                self.insert(number);
                false
            }
        };
        if self.ranges.first().is_some_and(|first| first.1 == number) {
            self.largest_at = now;
        }
        // The newest ranges go first.
        self.page = 0;
        if !eliciting {
            return;
        }
        self.waiting += 1;
        // The peer's loss detection needs a gap or a late packet reported at once (RFC 9000, 13.2.1).
        if urgent || !in_order || self.waiting >= self.every {
            self.now = true;
        } else if self.due_at.is_none() {
            self.due_at = Some(now + self.delay);
        }
    }

    fn insert(&mut self, number: u64) {
        // The first range that does not lie wholly above the number.
        let at = self.ranges.partition_point(|range| range.0 > number);
        if let Some(range) = self.ranges.get(at)
            && range.1 >= number
        {
            return;
        }
        let joins_below = self.ranges.get(at).is_some_and(|range| range.1 + 1 == number);
        let joins_above = at > 0 && self.ranges[at - 1].0 == number + 1;
        match (joins_above, joins_below) {
            (true, true) => {
                self.ranges[at - 1].0 = self.ranges[at].0;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].0 = number,
            (false, true) => self.ranges[at].1 = number,
            (false, false) => {
                self.ranges.insert(at, (number, number));
                self.ranges.truncate(mutate!(MAX_RANGES, "old-ranges-forgotten" => MAX_ACK_RANGES));
            }
        }
        debug_assert!(self.ranges.is_sorted_by(|a, b| a.0 > b.1 + 1), "ranges descend and do not touch");
    }

    /// The peer has seen acknowledgements up to `number`: they need not be sent again.
    pub(super) fn forget_to(&mut self, number: u64) {
        // The highest range stays: whether the next packet is in order is judged by it.
        while self.ranges.len() > 1 && self.ranges.last().is_some_and(|last| last.1 <= number) {
            self.ranges.pop();
        }
        if let [.., last] = &mut self.ranges[..]
            && last.0 <= number
            && last.1 > number
        {
            last.0 = number + 1;
        }
        if self.page >= self.ranges.len() {
            self.page = 0;
        }
    }

    /// Whether a packet waits to be acknowledged.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting > 0 || self.page > 0
    }

    /// Whether an acknowledgement should leave, even in a packet of its own.
    pub(super) const fn is_due(&self) -> bool {
        (self.now && self.waiting > 0) || self.page > 0
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        if self.now { None } else { self.due_at }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.due_at.is_some_and(|at| at <= now) {
            self.now = true;
        }
    }

    /// The ranges that the next ACK frame carries.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().skip(self.page).take(MAX_ACK_RANGES).copied()
    }

    /// When the peer has seen an ACK frame with the first `count` of [`Acks::ranges`], ranges up to this
    /// number need not be sent again.
    pub(super) fn known_to(&self, count: usize) -> u64 {
        let last = count > 0 && self.page + count >= self.ranges.len();
        self.ranges.get(self.page).filter(|_| last).map_or(0, |range| range.1)
    }

    /// The number of ranges.
    pub(super) fn fragmentation(&self) -> usize {
        self.ranges.len()
    }

    pub(super) fn largest(&self) -> Option<u64> {
        self.ranges.first().map(|range| range.1)
    }

    /// Nanoseconds since the largest number arrived.
    pub(super) fn delay_ns(&self, now: Instant) -> u32 {
        u32::try_from((now - self.largest_at).as_nanos()).unwrap_or(u32::MAX)
    }

    /// An ACK frame with the first `count` of [`Acks::ranges`] was sent; a short packet has no room for all.
    pub(super) fn handle_sent(&mut self, count: usize) {
        self.waiting = 0;
        self.now = false;
        self.due_at = None;
        self.page += mutate!(count, "short-ack-taken-for-whole" => MAX_ACK_RANGES);
        if self.page >= self.ranges.len() {
            self.page = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn acks() -> Acks {
        Acks::new(Duration::from_millis(1), 2)
    }

    proptest! {
        #[test]
        fn ranges_equal_a_set(numbers in proptest::collection::vec((0u64..150, any::<bool>()), 1..120)) {
            let mut acks = acks();
            let mut model = BTreeSet::new();
            for (number, forget) in numbers {
                if forget && number % 16 == 0 {
                    acks.forget_to(number);
                    let largest = model.last().copied();
                    let keep = acks.ranges.first().copied();
                    model.retain(|n| *n > number || keep.is_some_and(|keep| (keep.0..=keep.1).contains(n)));
                    prop_assert_eq!(largest, model.last().copied());
                } else {
                    acks.handle_packet(Instant::ZERO, number, true, false);
                    model.insert(number);
                }
                let all: Vec<u64> = acks.ranges.iter().flat_map(|(low, high)| *low..=*high).collect();
                let mut sorted = all.clone();
                sorted.sort_unstable();
                prop_assert!(sorted.windows(2).all(|w| w[0] < w[1]));
                prop_assert!(acks.ranges.windows(2).all(|w| w[0].0 > w[1].1 + 1));
                prop_assert!(acks.ranges.len() <= MAX_RANGES);
                if acks.ranges.len() < MAX_RANGES {
                    prop_assert!(sorted.iter().copied().eq(model.iter().copied()));
                }
            }
        }
    }

    #[test]
    fn second_packet_and_every_gap_are_acknowledged_at_once() {
        let mut acks = acks();
        let now = Instant::from_nanos(5);
        acks.handle_packet(now, 0, true, false);
        assert!(!acks.is_due());
        assert_eq!(acks.poll_timeout(), Some(now + Duration::from_millis(1)));
        acks.handle_packet(now, 1, true, false);
        assert!(acks.is_due() && acks.poll_timeout().is_none());
        acks.handle_sent(1);
        acks.handle_packet(now, 3, true, false);
        assert!(acks.is_due());
        acks.handle_sent(2);
        acks.handle_packet(now, 2, true, false);
        assert!(acks.is_due(), "a late packet is reported at once");
        acks.handle_sent(1);
        acks.handle_packet(now, 4, false, false);
        assert!(!acks.is_due() && !acks.is_waiting() && acks.poll_timeout().is_none());
        acks.handle_packet(now, 5, true, true);
        assert!(acks.is_due());
        assert_eq!(acks.ranges().collect::<Vec<_>>(), [(0, 5)]);
    }

    #[test]
    fn oldest_ranges_are_forgotten_beyond_the_bound() {
        let mut acks = acks();
        for number in 0..1_000 {
            acks.handle_packet(Instant::ZERO, number * 2, true, false);
        }
        assert_eq!(acks.fragmentation(), MAX_RANGES);
        assert_eq!(acks.ranges().next(), Some((1998, 1998)));
    }

    #[test]
    fn ranges_beyond_one_frame_follow_in_the_next_packets() {
        // A packet of the smallest size has no room for all ranges of a frame.
        for (room, last) in [(MAX_ACK_RANGES, 42), (29, 8)] {
            let mut acks = acks();
            for number in 0..150 {
                acks.handle_packet(Instant::ZERO, number * 2, true, false);
            }
            let (mut sent, mut known) = (Vec::new(), Vec::new());
            while acks.is_due() {
                let before = sent.len();
                sent.extend(acks.ranges().take(room));
                known.push(acks.known_to(sent.len() - before));
                acks.handle_sent(sent.len() - before);
            }
            assert_eq!(sent, (0..150).rev().map(|number| (number * 2, number * 2)).collect::<Vec<_>>());
            let known_at_last = known.pop();
            assert!(known.into_iter().all(|known| known == 0));
            assert_eq!(known_at_last, Some(last), "it tells what it and those before it have covered");
            acks.forget_to(last);
            let left = 150 - (last as usize / 2 + 1);
            assert_eq!((acks.fragmentation(), acks.ranges().next()), (left, Some((298, 298))));
        }
    }
}
