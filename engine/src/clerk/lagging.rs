//! Consumers that keep a ring full.
//!
//! Not inside: the policy about datums. A producer that finds no room says so; from then on the clerk looks at the
//! ring once per grace. If the oldest datum that somebody still needs is the same as a grace before, and the ring is
//! still full, whoever stands there is closed with `TOO_SLOW`.

use std::sync::atomic::Ordering;

use corewire_proto::session::CloseCode;

use super::{Clerk, counters::count, state::ServingEnd, timers::Timer};
use crate::{publication::PublicationShared, shard::NodeId};

impl Clerk {
    /// A producer found its ring full.
    pub(super) fn ring_is_full(&mut self, publication: &PublicationShared) {
        let (node, key) = (publication.node, publication.key);
        let Some(grace) = publication.spec.lagging_grace else { return };
        let Some(publishing) = self.members.get_mut(&node).and_then(|m| m.publications.get_mut(&key)) else {
            return;
        };
        if publishing.closed || publishing.stuck_at.is_some() {
            return;
        }
        // As long as the gate stays here, the ring stays as full as it was found.
        publishing.stuck_at = Some(publishing.shared.ring.gate());
        self.timers.set(Timer::Lagging(node, key), self.now + grace);
    }

    /// A grace has passed since the ring was looked at.
    pub(super) fn lagging_due(&mut self, node: NodeId, key: u64) {
        let Some(publishing) = self.members.get_mut(&node).and_then(|m| m.publications.get_mut(&key)) else {
            return;
        };
        let shared = publishing.shared.clone();
        let Some(stuck_at) = publishing.stuck_at.take() else { return };
        let (ring, grace) = (&shared.ring, shared.spec.lagging_grace.unwrap_or_default());
        if ring.gate() == stuck_at {
            self.cut_lagging(node, key, stuck_at);
        } else if ring.waiting_writers() == 0 && ring.len() < ring.config().datums {
            // Whoever finds it full again says so again.
            shared.full.store(false, Ordering::Release);
            return;
        }
        if let Some(publishing) = self.members.get_mut(&node).and_then(|m| m.publications.get_mut(&key)) {
            publishing.stuck_at = Some(ring.gate());
            self.timers.set(Timer::Lagging(node, key), self.now + grace);
        }
    }

    /// Closes everybody who stands at the gate.
    fn cut_lagging(&mut self, node: NodeId, key: u64, gate: u64) {
        let Some(publishing) = self.members.get(&node).and_then(|m| m.publications.get(&key)) else { return };
        let shared = publishing.shared.clone();
        let blockers = shared.ring.blockers();
        let is_blocker = |leg: u64| self.legs.get(&leg).is_some_and(|local| blockers.contains(&local.reader));
        // Legs that are over and still hold a cursor are in nobody's way but the ring's.
        let lingering: Vec<u64> =
            publishing.draining.iter().copied().filter(|leg| is_blocker(*leg)).collect();
        let slow: Vec<u64> = self
            .consumers(node, key)
            .into_iter()
            .filter(|(_, end, released)| match end {
                ServingEnd::Local(leg) => is_blocker(*leg),
                // Several channels share a shard's cursor; the numbers say which of them holds it.
                // One that has no place in the ring yet holds nothing.
                ServingEnd::Remote(_) => released.is_some_and(|released| released <= gate),
            })
            .map(|(number, _, _)| number)
            .collect();
        for leg in lingering {
            self.detach(leg);
        }
        for number in slow {
            count(&shared.counters.too_slow);
            if let Some(member) = self.members.get(&node) {
                count(&member.shared.counters.too_slow);
            }
            self.cut_serving(node, key, number, CloseCode::TOO_SLOW);
        }
    }
}
