//! Which peers and addresses are dialled, and when again.
//!
//! A peer is dialled as long as some subscription waits for a session with it; a bootstrap address always is.
//! Either is tried without end, with growing pauses.

use std::{
    net::{SocketAddr, SocketAddrV6},
    sync::Arc,
    thread,
    time::Duration,
};

use corewire_proto::{
    PeerId, handshake::Target, membership::PeerRecord, time::Instant, wire::header::ReceiverIndex,
};

use super::{HandshakePurpose, Handshakes, NewHandshake, NodeHandshakes};
use crate::{
    clerk::{effect::Effect, env::Env, sessions::DialView, shards::Shards, timers::Timer},
    driver::PathFault,
    shard::NodeId,
    shared::{
        dialling::{BootstrapTarget, DialFailure, DialProblem, reachable, resolve},
        node::NodeShared,
        port::{ClerkRequest, RequestPort},
    },
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

/// An address, or a name, to meet the network through.
pub(super) struct BootstrapAddress {
    pub(super) target: BootstrapTarget,
    /// The addresses that are tried in turn. Of a name: as it was resolved last, empty when it has to be.
    addresses: Vec<SocketAddr>,
    /// Which of them is next.
    next: usize,
    /// A thread asks for the addresses of the name.
    resolving: bool,
    pub(super) attempt: Option<ReceiverIndex>,
    /// The current attempt has met an error.
    met_fault: bool,
    /// The session that was made through this address.
    pub(super) session: Option<ReceiverIndex>,
    /// As in [`Dial`].
    pub(super) pause: Duration,
    /// The address is this node's own.
    pub(super) own: bool,
}

impl BootstrapAddress {
    pub(super) fn new(target: BootstrapTarget, node: &NodeShared, pause: Duration) -> Self {
        let addresses = match &target {
            BootstrapTarget::Address(address) => vec![*address],
            BootstrapTarget::Name(_) => Vec::new(),
        };
        let own = addresses.iter().any(|address| node.addresses.contains(address));
        Self {
            target,
            addresses,
            next: 0,
            resolving: false,
            attempt: None,
            met_fault: false,
            session: None,
            pause,
            own,
        }
    }

    fn is_wanted(&self) -> bool {
        !self.own && !self.resolving && self.attempt.is_none() && self.session.is_none()
    }

    fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.next).copied()
    }

    /// The address did not answer: goes on with the next one. `false`: there is none in this round.
    fn advance(&mut self) -> bool {
        self.next += 1;
        let more = self.next < self.addresses.len();
        if !more {
            self.next = 0;
            if matches!(self.target, BootstrapTarget::Name(_)) {
                self.addresses.clear();
            }
        }
        more
    }
}

impl NodeHandshakes {
    fn dial_mut(&mut self, env: &Env, peer: PeerId) -> &mut Dial {
        let pause = env.times.redial;
        self.dials.get_or_insert_with(peer, || Dial {
            attempt: None,
            pause,
            not_before: Instant::ZERO,
            failures: 0,
        })
    }

    /// Lets the handles see what came back from a bootstrap address.
    pub(super) fn note_problem(&mut self, place: usize, problem: DialProblem) {
        let entry = &mut self.bootstrap[place];
        entry.met_fault |= problem != DialProblem::NoReply;
        let target = match &entry.target {
            BootstrapTarget::Address(address) => address.to_string(),
            BootstrapTarget::Name(name) => name.clone(),
        };
        let failure = DialFailure { target, address: entry.address(), problem };
        self.shared.dial_failures.lock().insert(place, failure);
    }

    /// The message of an attempt is repeated, so nothing has come back yet.
    pub(super) fn note_silence(&mut self, purpose: HandshakePurpose) {
        if let HandshakePurpose::Bootstrap(place) = purpose
            && !self.bootstrap[place].met_fault
        {
            self.note_problem(place, DialProblem::NoReply);
        }
    }

    /// A bootstrap address has its session, or will not have one.
    pub(super) fn note_reached(&mut self, place: usize) {
        self.shared.dial_failures.lock().remove(&place);
    }

    /// A packet with another secret, or for another network, came from this address.
    pub(super) fn note_foreign(&mut self, from: SocketAddr) {
        let at = |entry: &BootstrapAddress| entry.session.is_none() && entry.address() == Some(from);
        if let Some(place) = self.bootstrap.iter().position(at) {
            self.note_problem(place, DialProblem::OtherSecret);
        }
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
                let entry = &mut self.bootstrap[place];
                if entry.advance() {
                    return env.effects.set_timer(Timer::Bootstrap(node, place), env.now);
                }
                (&mut entry.pause, Timer::Bootstrap(node, place))
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

/// Where to reach a peer: that address first from which its beacon came. One that is good on one link only is
/// not announced, so it is taken from there.
pub(crate) fn addresses_to_call(announced: &[SocketAddr], near: Option<SocketAddr>) -> Vec<SocketAddr> {
    let near = near.and_then(|near| match near {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            let port = announced.first()?.port();
            Some(SocketAddrV6::new(*v6.ip(), port, 0, v6.scope_id()).into())
        }
        _ => announced.iter().find(|address| address.ip() == near.ip()).copied(),
    });
    let others = announced.iter().copied().filter(|address| Some(*address) != near);
    near.into_iter().chain(others).collect()
}

impl Handshakes {
    /// The attempt to reach this peer, if there is one.
    pub(crate) fn attempt_with(&self, node: NodeId, peer: PeerId) -> Option<ReceiverIndex> {
        self.nodes.get(&node)?.dials.get(&peer)?.attempt
    }

    /// Begins a handshake with a peer that is wanted, if none is needed less or in progress. `near` is where
    /// its beacon came from, `view` what the sessions know about the peer.
    pub(crate) fn dial(
        &mut self,
        env: &mut Env,
        shards: &mut Shards,
        id: NodeId,
        (record, near): (&PeerRecord, Option<SocketAddr>),
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
        // Each in turn.
        let addresses = addresses_to_call(&record.addresses, near);
        let address = addresses.get(dial.failures % addresses.len().max(1)).copied();
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

    /// The places of all bootstrap addresses of a node.
    pub(crate) fn bootstrap_places(&self, node: NodeId) -> std::ops::Range<usize> {
        0..self.nodes.get(&node).map_or(0, |node| node.bootstrap.len())
    }

    /// A further address to meet the network at, and its place.
    pub(crate) fn add_bootstrap(
        &mut self,
        env: &Env,
        node: NodeId,
        target: BootstrapTarget,
    ) -> Option<usize> {
        let node = self.nodes.get_mut(&node)?;
        let entry = BootstrapAddress::new(target, &node.shared, env.times.redial);
        node.bootstrap.push(entry);
        Some(node.bootstrap.len() - 1)
    }

    /// The address at this place of the list that is to be dialled, if it has no session and none is in
    /// progress. A name without addresses is resolved on a thread of its own, and dialled after that.
    pub(crate) fn bootstrap_target(
        &mut self,
        env: &mut Env,
        port: &Arc<RequestPort>,
        id: NodeId,
        place: usize,
    ) -> Option<SocketAddr> {
        let node = self.nodes.get_mut(&id)?;
        let entry = &mut node.bootstrap[place];
        if !entry.is_wanted() {
            return None;
        }
        if let (None, BootstrapTarget::Name(name)) = (entry.address(), &entry.target) {
            entry.resolving = true;
            let (name, port) = (name.clone(), port.clone());
            // Resolving may block for long. What is found for a node that is gone is ignored.
            let asked = thread::Builder::new().name("corewire-names".into()).spawn(move || {
                let found = resolve(&name);
                port.send(ClerkRequest::Resolved { node: id, place, found });
            });
            if let Err(error) = asked {
                self.resolved(env, id, place, Err(error.to_string()));
            }
            return None;
        }
        entry.address()
    }

    /// The addresses of a bootstrap name are known, or why there are none.
    pub(crate) fn resolved(
        &mut self,
        env: &mut Env,
        id: NodeId,
        place: usize,
        found: Result<Vec<SocketAddr>, String>,
    ) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.bootstrap[place].resolving = false;
        match found {
            Ok(addresses) => {
                // A socket for none of them is told by the first; otherwise the others come to nothing.
                let bound = &node.shared.addresses;
                let able = |to: &SocketAddr| reachable(bound, *to).is_ok();
                let (able, unable): (Vec<_>, Vec<_>) = addresses.into_iter().partition(able);
                let entry = &mut node.bootstrap[place];
                (entry.addresses, entry.next) = (if able.is_empty() { unable } else { able }, 0);
                env.effects.set_timer(Timer::Bootstrap(id, place), env.now);
            }
            Err(reason) => {
                node.note_problem(place, DialProblem::Unresolved(reason));
                node.attempt_failed(env, HandshakePurpose::Bootstrap(place));
            }
        }
    }

    /// An error came back for a datagram to `to`. Anyone can forge one, so no attempt ends by it, except
    /// where another address can be tried.
    pub(crate) fn handle_fault(&mut self, env: &mut Env, id: NodeId, to: SocketAddr, fault: PathFault) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let ours = |place: &usize| {
            let entry = &node.bootstrap[*place];
            entry.attempt.is_some() && entry.address() == Some(to)
        };
        let places: Vec<usize> = (0..node.bootstrap.len()).filter(ours).collect();
        for place in places {
            let only_loopback = node.shared.addresses.iter().all(|address| address.ip().is_loopback());
            node.note_problem(
                place,
                match fault {
                    PathFault::Refused => DialProblem::Refused,
                    PathFault::Unreachable | PathFault::NotSent
                        if only_loopback && !to.ip().is_loopback() =>
                    {
                        DialProblem::LoopbackOnly
                    }
                    PathFault::Unreachable | PathFault::NotSent => DialProblem::Unreachable,
                    PathFault::TooLarge { .. } => continue,
                },
            );
            let entry = &node.bootstrap[place];
            if let Some(attempt) = entry.attempt.filter(|_| entry.addresses.len() > 1) {
                node.drop_attempt(env, attempt);
                node.attempt_failed(env, HandshakePurpose::Bootstrap(place));
            }
        }
    }

    /// A session that came about in another way serves a bootstrap address.
    pub(crate) fn bootstrap_reached(&mut self, node: NodeId, place: usize, session: ReceiverIndex) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.bootstrap[place].session = Some(session);
            node.note_reached(place);
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
        if let Some(state) = self.nodes.get_mut(&node) {
            state.bootstrap[place].met_fault = false;
            if let Err(problem) = reachable(&state.shared.addresses, to) {
                state.note_problem(place, problem);
                return state.attempt_failed(env, purpose);
            }
        }
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
