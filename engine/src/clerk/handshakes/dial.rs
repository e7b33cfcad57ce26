//! Which peers and addresses are dialled, and when again.
//!
//! A peer is dialled as long as some subscription waits for a session with it; a bootstrap address always is.
//! Either is tried without end, with growing pauses.

use std::{net::SocketAddr, time::Duration};

use corewire_proto::{
    PeerId, handshake::Target, membership::PeerRecord, time::Instant, wire::header::ReceiverIndex,
};

use super::{HandshakePurpose, Handshakes, NewHandshake, NodeHandshakes};
use crate::{
    clerk::{effect::Effect, env::Env, sessions::DialView, shards::Shards, timers::Timer},
    shard::NodeId,
};

/// How long a peer that has begun a handshake itself is given to finish it before this end begins one.
const PEER_HANDSHAKE_WAIT: Duration = Duration::from_secs(1);

/// A peer that has been dialled.
pub(super) struct Dial {
    pub(super) attempt: Option<ReceiverIndex>,
    /// The pause before the attempt after the next failure.
    pub(super) pause: Duration,
    /// No attempt before this.
    not_before: Instant,
    /// Counts failures, to choose among the peer's addresses.
    failures: usize,
}

/// An address to meet the network through.
pub(super) struct BootstrapAddress {
    pub(super) address: SocketAddr,
    pub(super) attempt: Option<ReceiverIndex>,
    /// The session that was made through this address.
    pub(super) session: Option<ReceiverIndex>,
    /// As in [`Dial`].
    pub(super) pause: Duration,
    /// The address is this node's own.
    pub(super) own: bool,
}

impl BootstrapAddress {
    fn is_wanted(&self) -> bool {
        !self.own && self.attempt.is_none() && self.session.is_none()
    }
}

impl NodeHandshakes {
    fn dial_mut(&mut self, env: &Env, peer: PeerId) -> &mut Dial {
        let pause = env.times.redial;
        self.dials.entry(peer).or_insert_with(|| Dial {
            attempt: None,
            pause,
            not_before: Instant::ZERO,
            failures: 0,
        })
    }

    /// Dials again after a pause, and after the next failure with twice the pause.
    pub(super) fn attempt_failed(&mut self, env: &mut Env, purpose: HandshakePurpose) {
        let node = self.shared.id;
        let (pause, timer) = match purpose {
            HandshakePurpose::Peer(peer) => {
                let dial = self.dial_mut(env, peer);
                dial.failures = dial.failures.wrapping_add(1);
                (&mut dial.pause, Timer::Dial(node, peer))
            }
            HandshakePurpose::Bootstrap(place) => {
                (&mut self.bootstrap[place].pause, Timer::Bootstrap(node, place))
            }
            HandshakePurpose::Rekey(index) => return env.effects.push(Effect::RekeyFailed(index)),
        };
        let wait = *pause;
        *pause = wait.saturating_mul(2).min(env.times.redial_max);
        let at = env.now + env.jittered(wait);
        if let HandshakePurpose::Peer(peer) = purpose {
            self.dial_mut(env, peer).not_before = at;
            env.effects.push(Effect::PeerUnreachable(node, peer));
        }
        env.effects.set_timer(timer, at);
    }
}

impl Handshakes {
    /// The attempt to reach this peer, if there is one.
    pub(crate) fn attempt_with(&self, node: NodeId, peer: PeerId) -> Option<ReceiverIndex> {
        self.nodes.get(&node)?.dials.get(&peer)?.attempt
    }

    /// Begins a handshake with a peer that is wanted, if none is needed less or in progress. `view` is what
    /// the sessions know about the peer.
    pub(crate) fn dial(
        &mut self,
        env: &mut Env,
        shards: &mut Shards,
        id: NodeId,
        record: &PeerRecord,
        view: DialView,
    ) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let peer = record.peer_id;
        let dial = node.dial_mut(env, peer);
        if view.connected || dial.attempt.is_some() {
            return;
        }
        let expected = view.pending_since.map(|since| since + PEER_HANDSHAKE_WAIT);
        let not_before = expected.unwrap_or(env.now).max(dial.not_before);
        if not_before > env.now {
            return env.effects.set_timer(Timer::Dial(id, peer), not_before);
        }
        let address = record.addresses.get(dial.failures % record.addresses.len().max(1)).copied();
        let (Some(key), Some(to)) = (record.transport_keys.first(), address) else { return };
        let purpose = HandshakePurpose::Peer(peer);
        let target = Target::Known { peer, key: key.key };
        let new = NewHandshake { purpose, target, source: None, to, generation: view.generation };
        if !self.begin(env, shards, id, new) {
            let at = env.now + env.jittered(env.times.redial_max);
            env.effects.set_timer(Timer::Dial(id, peer), at);
        }
    }

    /// There is a session with the peer: an attempt to reach it has nothing left to win.
    pub(crate) fn peer_reached(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        self.reset_dial(env, node, peer, |_| {});
    }

    /// The peer announces other addresses: what was sent to the old ones is lost.
    pub(crate) fn peer_moved(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        self.reset_dial(env, node, peer, |dial| dial.failures = 0);
        env.effects.push(Effect::Dial(node, peer));
    }

    fn reset_dial(&mut self, env: &mut Env, node: NodeId, peer: PeerId, and: impl FnOnce(&mut Dial)) {
        let Some(node) = self.nodes.get_mut(&node) else { return };
        let Some(dial) = node.dials.get_mut(&peer) else { return };
        (dial.pause, dial.not_before) = (env.times.redial, env.now);
        and(dial);
        if let Some(attempt) = dial.attempt {
            node.drop_attempt(env, attempt);
        }
    }

    /// A session is gone; `disconnected`: there is no other one with the peer.
    pub(crate) fn session_gone(
        &mut self,
        env: &mut Env,
        (id, peer): (NodeId, PeerId),
        index: ReceiverIndex,
        disconnected: bool,
    ) {
        let redial = env.times.redial;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.drop_attempt(env, index);
        if disconnected {
            node.dial_mut(env, peer).not_before = env.now + redial;
        }
        for (place, entry) in node.bootstrap.iter_mut().enumerate() {
            if entry.session == Some(index) {
                entry.session = None;
                let at = env.now + env.jittered(redial);
                env.effects.set_timer(Timer::Bootstrap(id, place), at);
            }
        }
    }

    /// The bootstrap addresses of a node that need a session, by their place.
    pub(crate) fn bootstrap_places(&self, node: NodeId) -> std::ops::Range<usize> {
        0..self.nodes.get(&node).map_or(0, |node| node.bootstrap.len())
    }

    /// The address at this place of the list, if it has no session and none is in progress.
    pub(crate) fn bootstrap_target(&self, node: NodeId, place: usize) -> Option<SocketAddr> {
        let entry = &self.nodes.get(&node)?.bootstrap[place];
        entry.is_wanted().then_some(entry.address)
    }

    /// A session that came about in another way serves a bootstrap address.
    pub(crate) fn bootstrap_reached(&mut self, node: NodeId, place: usize, session: ReceiverIndex) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.bootstrap[place].session = Some(session);
        }
    }

    /// Begins a handshake with the peer at a bootstrap address.
    pub(crate) fn dial_bootstrap(
        &mut self,
        env: &mut Env,
        shards: &mut Shards,
        node: NodeId,
        place: usize,
        to: SocketAddr,
    ) {
        let purpose = HandshakePurpose::Bootstrap(place);
        let new = NewHandshake { purpose, target: Target::Address, source: None, to, generation: 0 };
        if !self.begin(env, shards, node, new) {
            let at = env.now + env.jittered(env.times.redial_max);
            env.effects.set_timer(Timer::Bootstrap(node, place), at);
        }
    }

    /// Forgets a peer with which nothing is going on.
    pub(crate) fn forget_peer(&mut self, node: NodeId, peer: PeerId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.dials.remove(&peer);
        }
    }
}
