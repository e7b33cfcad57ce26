//! What a node knows about its peers, and who hears of it.
//!
//! Not inside: how the words travel (`control`), and what a node says about itself (`members`).

use std::sync::Arc;

use corewire_proto::{
    PeerId, identity,
    membership::{Insert, SignedRecord},
    wire::header::ReceiverIndex,
};

use super::{Clerk, state::Stage, timers::Timer};
use crate::{
    peer::{PeerFacts, PeerInfo},
    shard::NodeId,
    shared::{counters::count, limits::REVIEW_PAUSE},
};

/// Where in a record the Ed25519 key of its peer stands.
const KEY_AT: std::ops::Range<usize> = 1..33;

/// Whose record these bytes claim to be.
pub(super) fn claimed_peer(record: &[u8]) -> Option<PeerId> {
    let key: &[u8; 32] = record.get(KEY_AT)?.try_into().ok()?;
    Some(identity::peer_id(key))
}

impl Clerk {
    /// Takes in a record that came from a session, or from the process's registry.
    pub(super) fn read_record(&mut self, node: NodeId, bytes: &[u8], from: Option<ReceiverIndex>) {
        let now = self.now;
        let now_s = self.calendar_s();
        let Some(member) = self.members.get_mut(&node) else { return };
        let counters = &member.shared.counters;
        let Some(claimed) = claimed_peer(bytes) else { return count(&counters.records_refused) };
        // What is known already, byte for byte, needs no second look at its signature.
        if member.catalog.get(&claimed).is_some_and(|known| known.bytes() == bytes) {
            return;
        }
        if member.record.as_ref().is_some_and(|own| own.bytes() == bytes) {
            // The node's own word, sent back to it.
            return;
        }
        let mut source = claimed;
        if let Some(session) = from.and_then(|index| self.sessions.get_mut(&index)) {
            source = session.peer;
            if !session.budget.take(now) {
                return count(&counters.records_refused);
            }
        }
        let Ok(record) = SignedRecord::verify(bytes, &member.shared.network_id) else {
            return count(&counters.records_refused);
        };
        if claimed == member.shared.peer_id {
            let version = record.record().version;
            return self.outlive(node, version);
        }
        let evicted = match member.catalog.insert(record, source, now_s) {
            Insert::New { evicted } | Insert::Newer { evicted } => evicted,
            Insert::Equivocation { replaced: true } => None,
            Insert::Equal | Insert::Stale => return,
            Insert::Equivocation { replaced: false } | Insert::Full | Insert::Refused(_) => {
                return count(&counters.records_refused);
            }
        };
        count(&counters.records_accepted);
        if member.current(&claimed).is_some() {
            member.catalog.pin(&claimed, true);
        }
        if let Some(evicted) = evicted {
            self.forget_record(node, evicted);
        }
        self.peer_is_known(node, claimed);
        self.spread(node, claimed, Some(source));
    }

    /// A record is gone: it has expired, or had to make room.
    pub(super) fn forget_record(&mut self, node: NodeId, peer: PeerId) {
        self.peer_is_known(node, peer);
        self.forget_if_idle(node, peer);
    }

    /// Brings up to date what predicates and handles see of a peer, and asks the predicates again if it differs.
    pub(super) fn peer_is_known(&mut self, node: NodeId, peer: PeerId) {
        let pause = self.times.redial;
        let Some(member) = self.members.get_mut(&node) else { return };
        let network_id = member.shared.network_id;
        let record = member.catalog.get(&peer).map(SignedRecord::shared);
        let state = member.peer_mut(peer, pause);
        let tickets = state.tickets.clone();
        let info = match record {
            Some(record) => PeerInfo::new(PeerFacts {
                peer_id: peer,
                network_id,
                addresses: record.addresses.clone(),
                tags: record.tags.clone(),
                streams: record.streams.clone(),
                tickets,
                version: (record.version.incarnation, record.version.sequence),
            }),
            None => PeerInfo::new(PeerFacts { peer_id: peer, network_id, tickets, ..PeerFacts::default() }),
        };
        if state.info == info {
            member.peers_stale = true;
            return;
        }
        let moved = state.info.addresses() != info.addresses() && state.slots.current().is_none();
        let before = std::mem::replace(&mut state.info, info.clone());
        member.peers_stale = true;
        if moved {
            self.peer_moved(node, peer);
        }
        self.reconsider_producer(node, peer, &before, &info);
        self.review(node, peer);
    }

    /// Asks the predicates again about everything that connects a node with a peer whose entry is different now.
    /// Not too often: a peer can say something else as often as it likes.
    pub(super) fn review(&mut self, node: NodeId, peer: PeerId) {
        let now = self.now;
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(state) = member.peers.get_mut(&peer) else { return };
        if now < state.review_at {
            return self.timers.set(Timer::Review(node, peer), state.review_at);
        }
        state.review_at = now + REVIEW_PAUSE;
        let connected: Vec<u64> = member
            .subscriptions
            .iter()
            .filter(|(_, subscription)| {
                subscription.pursuits.get(&peer).is_some_and(|pursuit| !pursuit.stage.is_at_rest())
            })
            .map(|(key, _)| *key)
            .collect();
        self.review_consumer(node, peer);
        for key in connected {
            self.review_pursuit(node, key, peer);
        }
    }

    /// Asks the publications of a node again about a consumer whose entry is different now.
    fn review_consumer(&mut self, node: NodeId, peer: PeerId) {
        let Some(member) = self.members.get(&node) else { return };
        let servings: Vec<(u64, u64)> = member
            .publications
            .iter()
            .flat_map(|(key, publishing)| {
                publishing.servings.iter().map(move |(number, s)| (*key, *number, s.peer))
            })
            .filter(|(_, _, consumer)| *consumer == peer)
            .map(|(key, number, _)| (key, number))
            .collect();
        for (key, number) in servings {
            self.review_serving(node, key, number);
        }
    }

    /// Lets the subscriptions of a node go for a producer whose entry is different now, if they do not already.
    fn reconsider_producer(&mut self, node: NodeId, peer: PeerId, before: &PeerInfo, now: &PeerInfo) {
        let Some(member) = self.members.get_mut(&node) else { return };
        for (key, subscription) in &mut member.subscriptions {
            let stream = subscription.shared.spec.stream;
            match subscription.pursuits.get_mut(&peer) {
                None if now.produces(&stream) => {
                    self.fresh.insert((node, *key, peer));
                }
                None => {}
                Some(pursuit) => {
                    let newly = now.produces(&stream) && !before.produces(&stream);
                    let again = match pursuit.stage {
                        Stage::Open(..) | Stage::Opening(..) | Stage::Local(_) => false,
                        Stage::Waits => newly || !now.produces(&stream),
                        Stage::Fresh | Stage::WantsSession | Stage::Refused(_) | Stage::GivenUp => true,
                    };
                    if again {
                        pursuit.stage = Stage::Fresh;
                        self.fresh.insert((node, *key, peer));
                    }
                }
            }
        }
    }

    /// A peer was told what this node says about itself now: if it refused the node before, it is asked again.
    pub(super) fn reconsider_refused(&mut self, node: NodeId, peer: PeerId) {
        let Some(member) = self.members.get_mut(&node) else { return };
        for (key, subscription) in &mut member.subscriptions {
            if let Some(pursuit) = subscription.pursuits.get_mut(&peer)
                && matches!(pursuit.stage, Stage::Refused(_))
            {
                pursuit.stage = Stage::Fresh;
                self.fresh.insert((node, *key, peer));
            }
        }
    }

    /// Tells the peers of a node's sessions of a record, except the one that brought it.
    pub(super) fn spread(&mut self, node: NodeId, about: PeerId, except: Option<PeerId>) {
        let now = self.now;
        for (index, session) in &mut self.sessions {
            let tell = session.node == node
                && session.greeted
                && !session.closing
                && !session.retired
                && session.peer != about
                && Some(session.peer) != except;
            if tell && session.news.insert(about) {
                self.timers.set_if_none(Timer::Exchange(*index), now);
            }
        }
    }

    /// Lets the handles see the peers as they are.
    pub(super) fn show_peers(&mut self, node: NodeId) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if !std::mem::take(&mut member.peers_stale) {
            return;
        }
        let known = |peer: &PeerId| member.catalog.get(peer).is_some() || member.current(peer).is_some();
        let peers: Arc<[PeerInfo]> = member
            .peers
            .iter()
            .filter(|(peer, _)| known(peer))
            .map(|(_, state)| state.info.clone())
            .collect();
        member.shared.peers.send_replace(peers);
        // Conditions may look at tags of peers.
        for publishing in member.publications.values().filter(|publishing| !publishing.servings.is_empty()) {
            self.notices.add(publishing.shared.spec.on_change.as_ref());
        }
        for subscription in member.subscriptions.values().filter(|s| !s.pursuits.is_empty()) {
            self.notices.add(subscription.shared.spec.on_change.as_ref());
        }
    }

    /// Forgets a peer of which nothing is known and with which nothing is going on.
    pub(super) fn forget_if_idle(&mut self, node: NodeId, peer: PeerId) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(state) = member.peers.get(&peer) else { return };
        let idle = state.slots.is_empty()
            && state.attempt.is_none()
            && member.catalog.get(&peer).is_none()
            && !member.subscriptions.values().any(|subscription| subscription.pursuits.contains_key(&peer));
        if idle {
            member.peers.remove(&peer);
            member.peers_stale = true;
            self.timers.cancel(Timer::Dial(node, peer));
            self.timers.cancel(Timer::Slots(node, peer));
            self.timers.cancel(Timer::Review(node, peer));
        }
    }
}
