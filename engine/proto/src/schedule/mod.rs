//! The order in which channels send: deficit round robin in bytes (Shreedhar and Varghese, 1995).
//!
//! Each turn adds weight x quantum to a channel's balance, and what it sends is subtracted. The balance may
//! fall below zero by one frame. The debt is kept while the channel is idle, so large frames gain nothing.
//! Only channels with something to send are in the ring; idle ones cost no time.
//!
//! A turn may span several packets, and a packet several turns.

use alloc::{collections::VecDeque, vec::Vec};

use crate::mutate;

/// Deficit round robin over slots of a table.
#[derive(Debug)]
pub(crate) struct Drr {
    /// Bytes per turn of a channel of weight 1; at least 1.
    quantum: u32,
    /// Slots with something to send, in turn; exactly those whose flow is `active`.
    ring: VecDeque<u32>,
    /// By slot.
    flows: Vec<DrrFlow>,
    /// The slot at the front has had its quantum in this turn.
    granted: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct DrrFlow {
    /// Bytes that it may send in its turn; at most 0 while it is not active.
    balance: i64,
    /// At least 1 once it was active.
    weight: u8,
    active: bool,
}

impl Drr {
    /// A scheduler that gives a channel of weight 1 `quantum` bytes per turn.
    pub(crate) const fn new(quantum: u32) -> Self {
        let quantum = if quantum == 0 { 1 } else { quantum };
        Self { quantum, ring: VecDeque::new(), flows: Vec::new(), granted: false }
    }

    /// The slot has something to send. A weight of 0 counts as 1.
    pub(crate) fn activate(&mut self, slot: u32, weight: u8) {
        let index = slot as usize;
        if index >= self.flows.len() {
            self.flows.resize(index + 1, DrrFlow::default());
        }
        let flow = &mut self.flows[index];
        flow.weight = weight.max(1);
        if !flow.active {
            flow.active = true;
            debug_assert!(!self.ring.contains(&slot), "an active slot is in the ring once");
            self.ring.push_back(slot);
        }
    }

    /// The slot has a new channel, which does not take over the debt.
    pub(crate) fn clear_debt(&mut self, slot: u32) {
        if let Some(flow) = self.flows.get_mut(slot as usize)
            && !flow.active
        {
            flow.balance = 0;
        }
    }

    /// The slot whose turn it is, and its balance. The caller subtracts what it sends; at or below zero the
    /// turn is over.
    pub(crate) fn poll_turn(&mut self) -> Option<(u32, &mut i64)> {
        loop {
            let slot = *self.ring.front()?;
            let flow = &mut self.flows[slot as usize];
            if !self.granted {
                self.granted = true;
                // What it could not use in its last turn does not add up.
                let debt = mutate!(flow.balance.min(0), "balances-add-up" => flow.balance);
                flow.balance = debt + i64::from(self.quantum) * i64::from(flow.weight);
            }
            if flow.balance > 0 {
                break;
            }
            // Still in debt: the next slot's turn. Each round pays at least a quantum, so this ends.
            self.ring.rotate_left(1);
            self.granted = false;
        }
        let slot = *self.ring.front()?;
        Some((slot, &mut self.flows[slot as usize].balance))
    }

    /// The turn at the front is over; the slot has more to send.
    pub(crate) fn rotate(&mut self) {
        if !self.ring.is_empty() {
            self.ring.rotate_left(1);
        }
        self.granted = false;
    }

    /// The slot at the front has nothing more to send. Its debt stays, unused bytes do not.
    pub(crate) fn retire(&mut self) {
        if let Some(slot) = self.ring.pop_front() {
            let flow = &mut self.flows[slot as usize];
            flow.active = false;
            flow.balance = mutate!(flow.balance.min(0), "pause-clears-debt" => 0);
        }
        self.granted = false;
    }

    /// The number of slots with something to send.
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether no slot has anything to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    /// Serves flows that always have something to send; returns the bytes of each.
    fn serve(quantum: u32, flows: &[(u8, Vec<u32>)], rounds: usize) -> Vec<u64> {
        let mut drr = Drr::new(quantum);
        for (slot, (weight, _)) in flows.iter().enumerate() {
            drr.activate(slot as u32, *weight);
        }
        let mut served = vec![0u64; flows.len()];
        let mut sent = vec![0usize; flows.len()];
        for _ in 0..rounds {
            let (slot, balance) = drr.poll_turn().unwrap();
            let slot = slot as usize;
            let size = flows[slot].1[sent[slot] % flows[slot].1.len()];
            sent[slot] += 1;
            *balance -= i64::from(size);
            served[slot] += u64::from(size);
            if *balance <= 0 {
                drr.rotate();
            }
        }
        served
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn bytes_follow_weights_for_all_frame_sizes(
            flows in proptest::collection::vec((1u8..8, proptest::collection::vec(1u32..70_000, 1..6)), 2..5),
            quantum in 500u32..10_000,
        ) {
            let served = serve(quantum, &flows, 20_000);
            let shares: Vec<f64> =
                served.iter().zip(&flows).map(|(bytes, (weight, _))| *bytes as f64 / f64::from(*weight)).collect();
            // Each is within a frame and a quantum of its share; both are small against what was served.
            let slack = 2.0 * (70_000.0 + 8.0 * f64::from(quantum));
            let (low, high) = shares.iter().fold((f64::MAX, 0f64), |(l, h), s| (l.min(*s), h.max(*s)));
            prop_assert!(high - low <= slack, "{:?}", shares);
        }
    }

    #[test]
    fn weights_one_and_four_share_within_five_percent() {
        for sizes in [(64, 64), (64, 1200), (1200, 64), (60_000, 64), (64, 60_000)] {
            let served = serve(4096, &[(1, vec![sizes.0]), (4, vec![sizes.1])], 300_000);
            let ratio = served[1] as f64 / served[0] as f64;
            assert!((3.8..4.2).contains(&ratio), "{sizes:?}: {ratio}");
        }
    }

    #[test]
    fn turns_without_use_do_not_add_up() {
        let mut drr = Drr::new(1000);
        drr.activate(0, 3);
        for _ in 0..10 {
            assert_eq!(*drr.poll_turn().unwrap().1, 3000);
            drr.rotate();
        }
    }

    #[test]
    fn debt_outlives_a_pause_and_unused_bytes_do_not() {
        let mut drr = Drr::new(1000);
        drr.activate(0, 1);
        *drr.poll_turn().unwrap().1 -= 5000;
        drr.retire();
        assert!(drr.is_empty() && drr.poll_turn().is_none());
        drr.activate(0, 1);
        drr.activate(1, 1);
        let (slot, balance) = drr.poll_turn().unwrap();
        assert_eq!((slot, *balance), (1, 1000));
        drr.retire();
        assert_eq!(drr.poll_turn().unwrap().0, 0);
        drr.retire();
        drr.clear_debt(0);
        drr.activate(0, 1);
        assert_eq!(*drr.poll_turn().unwrap().1, 1000);
    }
}
