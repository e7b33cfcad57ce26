//! Handshakes: those that this engine's nodes begin, and those that they answer.
//!
//! Not inside:
//! - the handshake itself (`corewire-proto`), and which answer a peer gets (the protocol's slots, in
//!   `sessions`);
//! - which peers and addresses are dialled, and when again (`dial`);
//! - what becomes of the keys (`sessions`).

mod answer;
mod dial;
mod shares;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use corewire_proto::{
    PeerId,
    handshake::{
        AttemptParams, Credentials, HandshakeError, Initiator, InitiatorProgress, InitiatorTimeout,
        Responder, ResponderConfig, Target,
    },
    ordered::OrderedMap,
    session::CloseCode,
    time::Instant,
    wire::header::{Header, PacketKind, ReceiverIndex},
};

pub(crate) use self::dial::addresses_to_call;
use self::{
    dial::{BootstrapAddress, Dial},
    shares::Shares,
};
use super::{bucket::TokenBucket, effect::Effect, env::Env, shards::Shards, timers::Timer};
use crate::{
    shard::NodeId,
    shared::{
        counters::count,
        dialling::{BootstrapTarget, DialProblem},
        node::NodeShared,
    },
};

/// The handshakes of all nodes.
#[derive(Default)]
pub(crate) struct Handshakes {
    /// Inputs for a node that is not here were on their way when it was forgotten, and are ignored.
    nodes: OrderedMap<NodeId, NodeHandshakes>,
}

/// The handshakes of one node.
struct NodeHandshakes {
    shared: Arc<NodeShared>,
    local: Arc<Credentials>,
    responder: Responder,
    /// Handshakes that may be answered before strangers are asked for a cookie.
    answers: TokenBucket,
    /// Those answered beyond that to hosts that have shown a cookie.
    to_hosts: Shares<IpAddr>,
    /// The same for the addresses of sessions, which ask for new keys: strangers take nothing from them.
    to_sessions: Shares<SocketAddr>,
    /// Handshakes that were begun here, by the index that they reserve.
    attempts: OrderedMap<ReceiverIndex, HandshakeAttempt>,
    /// Handshakes that were begun here since the node joined.
    attempts_made: u32,
    bootstrap: Vec<BootstrapAddress>,
    /// Peers that have been dialled.
    dials: OrderedMap<PeerId, Dial>,
}

/// A handshake that was begun here.
struct HandshakeAttempt {
    initiator: Initiator,
    /// As in [`NewHandshake`].
    source: Option<IpAddr>,
    to: SocketAddr,
    purpose: HandshakePurpose,
    /// The index belongs to a session: the keys are there and only the last message may have to be repeated,
    /// or the handshake is for the session's next key.
    installed: bool,
}

/// Why a handshake was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakePurpose {
    /// A session with this peer.
    Peer(PeerId),
    /// A session with the peer at this bootstrap address, by its place in the list.
    Bootstrap(usize),
    /// The next key of this session.
    Rekey(ReceiverIndex),
}

/// A handshake that is to be begun.
pub(crate) struct NewHandshake {
    pub(crate) purpose: HandshakePurpose,
    pub(crate) target: Target,
    /// The address of this host to call from, if the peer knows only that one.
    pub(crate) source: Option<IpAddr>,
    pub(crate) to: SocketAddr,
    /// See `corewire_proto::handshake::AttemptParams`.
    pub(crate) generation: u16,
}

impl NodeHandshakes {
    /// Counts a packet that led to nothing.
    fn count_lost(&self, error: HandshakeError) {
        let counters = &self.shared.counters;
        count(match error {
            HandshakeError::Mac => &counters.foreign_packets,
            HandshakeError::Busy => &counters.handshakes_refused,
            _ => &counters.broken_packets,
        });
    }

    /// Notes which attempt there is for what it was begun for.
    fn note_attempt(&mut self, purpose: HandshakePurpose, attempt: Option<ReceiverIndex>) {
        match purpose {
            HandshakePurpose::Peer(peer) => {
                if let Some(dial) = self.dials.get_mut(&peer) {
                    dial.attempt = attempt;
                }
            }
            HandshakePurpose::Bootstrap(place) => self.bootstrap[place].attempt = attempt,
            HandshakePurpose::Rekey(_) => {}
        }
    }

    /// Gives up an attempt. Its index is free again, unless it belongs to a session.
    fn drop_attempt(&mut self, env: &mut Env, index: ReceiverIndex) {
        env.effects.cancel_timer(Timer::Attempt(self.shared.id, index));
        let Some(attempt) = self.attempts.remove(&index) else { return };
        if !attempt.installed {
            env.effects.push(Effect::FreeIndex(index));
            self.note_attempt(attempt.purpose, None);
        }
    }

    /// There are keys. The attempt stays if its last message may have to be repeated.
    fn attempt_succeeded(&mut self, env: &Env, index: ReceiverIndex, purpose: HandshakePurpose, stays: bool) {
        if stays {
            if let Some(attempt) = self.attempts.get_mut(&index) {
                attempt.installed = true;
            }
        } else {
            self.attempts.remove(&index);
        }
        self.note_attempt(purpose, None);
        match purpose {
            HandshakePurpose::Peer(peer) => {
                if let Some(dial) = self.dials.get_mut(&peer) {
                    dial.pause = env.times.redial;
                }
            }
            HandshakePurpose::Bootstrap(place) => {
                let entry = &mut self.bootstrap[place];
                (entry.session, entry.pause) = (Some(index), env.times.redial);
                self.note_reached(place);
            }
            HandshakePurpose::Rekey(_) => {}
        }
    }

    /// An answer to a handshake that was begun here.
    fn handle_reply(&mut self, env: &mut Env, index: ReceiverIndex, from: SocketAddr, bytes: &[u8]) {
        let node = self.shared.id;
        // The peer takes the session of one that called it from wherever it was called.
        env.called_at = None;
        // The answer comes from where the question went. Anything else is sent by a third party, or by a peer
        // behind several addresses, whose session would not work either.
        let Some(attempt) = self.attempts.get_mut(&index).filter(|attempt| attempt.to == from) else {
            return count(&self.shared.counters.broken_packets);
        };
        let progress = attempt.initiator.handle_packet(env.now, bytes);
        let (purpose, source, next) = (attempt.purpose, attempt.source, attempt.initiator.poll_timeout());
        env.effects.set_or_cancel(Timer::Attempt(node, index), next);
        match progress {
            Ok(InitiatorProgress::Send(bytes)) => {
                env.effects.send_datagram(index.shard(), node, (source, from), bytes);
            }
            Ok(InitiatorProgress::Done { outcome, send }) => {
                if let Some(bytes) = send {
                    env.effects.send_datagram(index.shard(), node, (source, from), bytes);
                }
                self.attempt_succeeded(env, index, purpose, next.is_some());
                env.effects.push(match purpose {
                    HandshakePurpose::Rekey(_) => Effect::KeyReady(outcome),
                    HandshakePurpose::Peer(_) | HandshakePurpose::Bootstrap(_) => {
                        Effect::SessionReady { node, outcome, from }
                    }
                });
            }
            Err(HandshakeError::OwnIdentity) => {
                if let HandshakePurpose::Bootstrap(place) = purpose {
                    self.bootstrap[place].own = true;
                    self.note_problem(place, DialProblem::Own);
                }
                self.drop_attempt(env, index);
            }
            Err(error) => {
                self.count_lost(error);
                if error == HandshakeError::Mac {
                    self.note_foreign(from);
                }
                if next.is_none() {
                    // The answer was good enough to end the attempt and not good enough for a session.
                    self.drop_attempt(env, index);
                    self.attempt_failed(env, purpose);
                }
            }
        }
    }
}

impl Handshakes {
    pub(crate) fn add_node(
        &mut self,
        env: &mut Env,
        shared: &Arc<NodeShared>,
        local: Arc<Credentials>,
        bootstrap: Vec<BootstrapTarget>,
    ) {
        let config = ResponderConfig { max_pending: env.limits.handshakes, ..ResponderConfig::default() };
        let responder = Responder::new(local.clone(), config, env.random());
        let pause = env.times.redial;
        let bootstrap = bootstrap.into_iter().map(|target| BootstrapAddress::new(target, shared, pause));
        let node = NodeHandshakes {
            shared: shared.clone(),
            local,
            responder,
            answers: TokenBucket::new(env.limits.handshakes_per_second, env.now),
            to_hosts: Shares::new(answer::HOST_SHARE, env.now),
            to_sessions: Shares::new(answer::SESSION_SHARE, env.now),
            attempts: OrderedMap::new(),
            attempts_made: 0,
            bootstrap: bootstrap.collect(),
            dials: OrderedMap::new(),
        };
        self.nodes.insert(shared.id, node);
    }

    /// A node is to leave: gives up what would lead to a new session. Sessions that drain still get new keys.
    pub(crate) fn node_leaves(&mut self, env: &mut Env, node: NodeId) {
        let Some(node) = self.nodes.get_mut(&node) else { return };
        let useless: Vec<ReceiverIndex> = node
            .attempts
            .iter()
            .filter(|(_, attempt)| !matches!(attempt.purpose, HandshakePurpose::Rekey(_)))
            .map(|(index, _)| *index)
            .collect();
        for index in useless {
            node.drop_attempt(env, index);
        }
    }

    /// Forgets a node, and gives back the indices that half-finished handshakes hold.
    pub(crate) fn forget_node(&mut self, env: &mut Env, id: NodeId) {
        let Some(mut node) = self.nodes.remove(&id) else { return };
        for index in node.attempts.keys().copied().collect::<Vec<_>>() {
            node.drop_attempt(env, index);
        }
        node.responder.handle_timeout(Instant::FAR_FUTURE);
        while let Some(index) = node.responder.poll_freed() {
            env.effects.push(Effect::FreeIndex(index));
        }
        env.effects.cancel_timer(Timer::Responder(id));
        for place in 0..node.bootstrap.len() {
            env.effects.cancel_timer(Timer::Bootstrap(id, place));
        }
    }

    /// Sends the first message of a handshake. `false`: a bound was reached; try later.
    pub(crate) fn begin(
        &mut self,
        env: &mut Env,
        shards: &mut Shards,
        id: NodeId,
        new: NewHandshake,
    ) -> bool {
        let NewHandshake { purpose, target, source, to, generation } = new;
        let (entropy, random) = (env.random(), env.random_u32());
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let counters = &node.shared.counters;
        // A new key is for an index that is taken already. Sessions that are there go before new ones.
        let session = match purpose {
            HandshakePurpose::Rekey(index) => Some(index),
            HandshakePurpose::Peer(_) | HandshakePurpose::Bootstrap(_) => None,
        };
        let crowded = session.is_none() && node.attempts.len() >= env.limits.handshakes;
        let index = if crowded { None } else { session.or_else(|| shards.take_index(random)) };
        let Some(index) = index else {
            count(&counters.handshakes_refused);
            return false;
        };
        node.attempts_made = node.attempts_made.saturating_add(1);
        let numbers = AttemptParams { index, generation, number: node.attempts_made };
        let started = Initiator::start(env.now, entropy, node.local.clone(), target, numbers);
        let Ok((initiator, bytes)) = started else {
            if session.is_none() {
                env.effects.push(Effect::FreeIndex(index));
            }
            return false;
        };
        count(&counters.handshakes_started);
        env.effects.set_or_cancel(Timer::Attempt(id, index), initiator.poll_timeout());
        let attempt = HandshakeAttempt { initiator, source, to, purpose, installed: session.is_some() };
        let before = node.attempts.insert(index, attempt);
        assert!(before.is_none(), "an index has one attempt at a time");
        env.effects.send_datagram(index.shard(), id, (source, to), bytes);
        node.note_attempt(purpose, Some(index));
        true
    }

    /// A handshake packet came. A node that leaves answers nothing but requests for new keys. `has_session`:
    /// whether there is a session with the address that it came from.
    pub(crate) fn handle_packet(
        &mut self,
        env: &mut Env,
        (id, shard): (NodeId, u8),
        from: SocketAddr,
        bytes: &[u8],
        leaving: bool,
        has_session: impl FnOnce() -> bool,
    ) {
        // A packet may be on its way from the shard when the node is forgotten.
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match Header::parse(bytes) {
            Ok((header, PacketKind::Reply | PacketKind::HelloReply | PacketKind::Cookie)) => {
                node.handle_reply(env, header.receiver(), from, bytes);
            }
            Ok((_, kind)) if leaving && kind != PacketKind::Init => {}
            Ok(_) => node.handle_call(env, shard, from, bytes, has_session),
            Err(_) => count(&node.shared.counters.broken_packets),
        }
    }

    /// A handshake that was begun here is due for a repetition, or for its end.
    pub(crate) fn attempt_due(&mut self, env: &mut Env, id: NodeId, index: ReceiverIndex) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(attempt) = node.attempts.get_mut(&index) else { return };
        let (way, purpose, installed) = ((attempt.source, attempt.to), attempt.purpose, attempt.installed);
        let due = attempt.initiator.handle_timeout(env.now);
        let next = attempt.initiator.poll_timeout();
        if !installed {
            node.note_silence(purpose);
        }
        match due {
            InitiatorTimeout::Wait => {}
            InitiatorTimeout::Resend(bytes) => env.effects.send_datagram(index.shard(), id, way, bytes),
            InitiatorTimeout::GaveUp => {
                count(&node.shared.counters.handshakes_given_up);
                node.drop_attempt(env, index);
                if installed && !matches!(purpose, HandshakePurpose::Rekey(_)) {
                    env.effects.push(Effect::CloseSession(index, CloseCode::PEER_LOST));
                } else {
                    node.attempt_failed(env, purpose);
                }
                return;
            }
        }
        env.effects.set_or_cancel(Timer::Attempt(id, index), next);
    }

    /// Whether a handshake for this session's next key, begun here, is in progress.
    pub(crate) fn is_rekeying(&self, node: NodeId, index: ReceiverIndex) -> bool {
        let attempt = self.nodes.get(&node).and_then(|node| node.attempts.get(&index));
        attempt.is_some_and(|attempt| matches!(attempt.purpose, HandshakePurpose::Rekey(_)))
    }

    /// Whether this index has an attempt.
    pub(crate) fn has_attempt(&self, node: NodeId, index: ReceiverIndex) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.attempts.contains_key(&index))
    }

    /// Gives up an attempt, if there is one.
    pub(crate) fn drop_attempt(&mut self, env: &mut Env, node: NodeId, index: ReceiverIndex) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.drop_attempt(env, index);
        }
    }

    /// A packet came under a session's keys: its last handshake message need not be repeated any more.
    pub(crate) fn session_confirmed(&mut self, env: &mut Env, id: NodeId, index: ReceiverIndex) {
        if self.is_rekeying(id, index) {
            return;
        }
        if let Some(mut attempt) = self.nodes.get_mut(&id).and_then(|node| node.attempts.remove(&index)) {
            attempt.initiator.handle_confirmed();
            env.effects.cancel_timer(Timer::Attempt(id, index));
        }
    }
}

#[cfg(test)]
mod tests;
