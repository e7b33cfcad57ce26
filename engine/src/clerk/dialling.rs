//! Which peers and addresses are to be reached, and when again.
//!
//! Not inside: the handshake (`handshakes`). A peer is wanted as long as some subscription waits for a session with
//! it; a bootstrap address always is. Whoever is wanted is tried for ever, with growing pauses.

use std::time::Duration;

use corewire_proto::{PeerId, handshake::Target};

use super::{
    Clerk,
    state::{HandshakePurpose, Stage},
    timers::Timer,
};
use crate::shard::NodeId;

/// How long a peer that has begun a handshake itself is given to finish it before this side begins one.
const THEIR_TURN: Duration = Duration::from_secs(1);

impl Clerk {
    /// Whether some subscription waits for a session with the peer.
    fn is_wanted(&self, node: NodeId, peer: PeerId) -> bool {
        self.members.get(&node).is_some_and(|member| {
            member.subscriptions.values().any(|subscription| {
                subscription.pursuits.get(&peer).is_some_and(|pursuit| pursuit.stage == Stage::WantsSession)
            })
        })
    }

    /// Begins a handshake with a peer if one is needed and none is in progress.
    pub(super) fn dial_if_wanted(&mut self, node: NodeId, peer: PeerId) {
        if !self.is_wanted(node, peer) {
            return;
        }
        let (now, pause) = (self.now, self.times.redial);
        let Some(member) = self.members.get_mut(&node) else { return };
        if member.leaving.is_some() {
            return;
        }
        let Some(record) = member.catalog.get(&peer).map(|record| record.shared()) else { return };
        let state = member.peer_mut(peer, pause);
        if state.slots.current().is_some() || state.attempt.is_some() {
            return;
        }
        let patience = state.slots.next().map(|entry| entry.since + THEIR_TURN).filter(|until| *until > now);
        let not_before = patience.unwrap_or(now).max(state.not_before);
        if not_before > now {
            return self.timers.set(Timer::Dial(node, peer), not_before);
        }
        let address = record.addresses.get(state.turn % record.addresses.len().max(1)).copied();
        let (Some(key), Some(to)) = (record.transport_keys.first(), address) else { return };
        let target = Target::Known { peer, key: key.key };
        if !self.begin_handshake(node, HandshakePurpose::Peer(peer), target, to) {
            let at = self.now + self.about(self.times.redial_max);
            self.timers.set(Timer::Dial(node, peer), at);
        }
    }

    /// The peer says that it is somewhere else now: what was sent to the old place is in vain.
    pub(super) fn peer_moved(&mut self, node: NodeId, peer: PeerId) {
        let pause = self.times.redial;
        let Some(state) = self.members.get_mut(&node).and_then(|member| member.peers.get_mut(&peer)) else {
            return;
        };
        state.turn = 0;
        state.pause = pause;
        state.not_before = self.now;
        if let Some(attempt) = state.attempt {
            self.drop_attempt(node, attempt);
        }
        self.dial_if_wanted(node, peer);
    }

    /// Sees that there is a session with whoever lives at a bootstrap address.
    pub(super) fn bootstrap(&mut self, node: NodeId, place: usize) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if member.leaving.is_some() {
            return;
        }
        let Some(entry) = member.bootstrap.get_mut(place) else { return };
        if entry.own || entry.attempt.is_some() || entry.session.is_some() {
            return;
        }
        let to = entry.address;
        // A session that came about in another way will do.
        let there = self.sessions.iter().find(|(_, session)| {
            session.node == node
                && session.address == to
                && session.greeted
                && !session.closing
                && !session.retired
        });
        if let Some((&index, _)) = there {
            entry.session = Some(index);
            return;
        }
        if !self.begin_handshake(node, HandshakePurpose::Bootstrap(place), Target::Address, to) {
            let at = self.now + self.about(self.times.redial_max);
            self.timers.set(Timer::Bootstrap(node, place), at);
        }
    }
}
