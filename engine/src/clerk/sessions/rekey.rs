//! New keys for sessions that go on.
//!
//! The shard of a session reports when its key is due. Either end then runs the same handshake as for a new
//! session, with two differences: it is for the index that the session has, and its generation tells that it
//! is for a key, and for which. What comes out of it goes to the shard as a key, not as a session. When both
//! ends begin at once, the smaller peer's handshake wins, as among new sessions.
//!
//! Not inside: which key seals or opens a packet (the session), and the messages of a handshake
//! (`handshakes`).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use corewire_proto::{
    PeerId,
    handshake::{HandshakeOutcome, HandshakeRequest, key_phase, next_key},
    seal::SessionKeys,
    wire::header::ReceiverIndex,
};

use super::Sessions;
use crate::{
    clerk::{env::Env, timers::Timer},
    shard::{Command, NodeId, Rekey},
    shared::counters::count,
};

/// How long a peer whose handshake was answered is given to use the key before this end begins a handshake.
/// The peer repeats itself several times within it.
const PEER_REKEY_WAIT: Duration = Duration::from_secs(2);

/// A handshake for the next key of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RekeyPlan {
    pub(crate) node: NodeId,
    pub(crate) peer: PeerId,
    pub(crate) source: Option<IpAddr>,
    pub(crate) to: SocketAddr,
    /// The transport key that the peer showed, if its record has no later one.
    pub(crate) key: [u8; 32],
    pub(crate) generation: u16,
}

impl Sessions {
    /// The key of a session should be replaced. `None`: the session is about to end, or its peer is expected
    /// to use a new key soon.
    pub(crate) fn rekey_plan(&self, env: &mut Env, index: ReceiverIndex) -> Option<RekeyPlan> {
        let session = self.sessions.get(&index).filter(|session| !session.closing)?;
        let expected = session.answered.map(|at| at + PEER_REKEY_WAIT).filter(|until| *until > env.now);
        if let Some(until) = expected {
            env.effects.set_timer(Timer::Rekey(index), until);
            return None;
        }
        Some(RekeyPlan {
            node: session.node.id,
            peer: session.peer,
            source: session.source,
            to: session.address,
            key: session.key,
            generation: next_key(session.generation),
        })
    }

    /// Tries again after a pause to replace the key of a session.
    pub(crate) fn rekey_later(&self, env: &mut Env, index: ReceiverIndex) {
        let at = env.now + env.jittered(env.times.redial);
        env.effects.set_timer(Timer::Rekey(index), at);
    }

    /// The peer's handshake for this session's key goes first. Should it come to nothing, this end tries
    /// again.
    pub(crate) fn rekey_yields(&self, env: &mut Env, index: ReceiverIndex) {
        env.effects.set_timer(Timer::Rekey(index), env.now + PEER_REKEY_WAIT);
    }

    /// The session that the peer asks a new key for. A request that does not fit a session as it is here is
    /// late, or early and going to be repeated.
    pub(crate) fn session_to_rekey(&self, node: NodeId, request: &HandshakeRequest) -> Option<ReceiverIndex> {
        let found = self.sessions.iter().find(|(_, session)| {
            session.node.id == node
                && session.peer == request.peer()
                && session.remote == request.peer_index()
                && session.boot == request.peer_boot()
                && session.address == request.from()
                && !session.closing
                && next_key(session.generation) == request.generation()
        });
        found.map(|(index, _)| *index)
    }

    /// The peer's request for a new key was answered.
    pub(crate) fn key_answered(&mut self, env: &mut Env, outcome: HandshakeOutcome) {
        let index = outcome.local_index;
        let session = self.sessions.get_mut(&index).expect("the session was found for the answer");
        count(&session.node.counters.handshakes_finished);
        session.answered = Some(env.now);
        let (node, peer) = (session.node.clone(), session.peer);
        self.slots_mut(&node, peer).handle_rekey(outcome.peer_boot, outcome.attempt);
        send_key(env, index, outcome.generation, outcome.keys, false);
    }

    /// A handshake that was begun here gave a key for a session.
    pub(crate) fn key_ready(&mut self, env: &mut Env, outcome: HandshakeOutcome) {
        let index = outcome.local_index;
        let Some(session) = self.sessions.get_mut(&index) else { return };
        let fits = outcome.peer == session.peer
            && outcome.peer_boot == session.boot
            && outcome.remote_index == session.remote
            && outcome.generation == next_key(session.generation);
        if !fits {
            count(&session.node.counters.broken_packets);
            return self.rekey_later(env, index);
        }
        count(&session.node.counters.handshakes_finished);
        session.generation = outcome.generation;
        session.answered = None;
        env.effects.cancel_timer(Timer::Rekey(index));
        send_key(env, index, outcome.generation, outcome.keys, true);
    }

    /// A session uses a new key. `true`: the peer began the handshake, so one that was begun here is for a
    /// key that is there already.
    pub(crate) fn rekeyed(&mut self, env: &mut Env, index: ReceiverIndex, phase: u8) -> bool {
        let Some(session) = self.sessions.get_mut(&index) else { return false };
        let next = next_key(session.generation);
        // Where the handshake was begun here, the generation was noted with its answer.
        let by_peer = key_phase(next) == phase;
        if by_peer {
            session.generation = next;
            session.answered = None;
        }
        count(&session.node.counters.sessions_rekeyed);
        env.effects.cancel_timer(Timer::Rekey(index));
        by_peer
    }
}

fn send_key(env: &mut Env, index: ReceiverIndex, generation: u16, keys: SessionKeys, confirmed: bool) {
    let rekey = Rekey { index, phase: key_phase(generation), keys, confirmed };
    env.effects.send(index.shard(), Command::RekeySession(Box::new(rekey)));
}
