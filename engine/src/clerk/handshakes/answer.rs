//! Handshakes that peers begin.

use std::{net::SocketAddr, time::Duration};

use corewire_proto::{
    handshake::{HandshakeError, HandshakeLoad, HandshakeRequest, Hello, ResponderEvent, host_of},
    wire::header::{PacketKind, ReceiverIndex},
};

use super::{Handshakes, NodeHandshakes, shares::Share};
use crate::{
    clerk::{effect::Effect, env::Env, shards::Shards, timers::Timer},
    shard::NodeId,
    shared::counters::count,
};

/// What a host that has shown a cookie may cost: fifty processes that dial at once, and forty that dial again
/// every two seconds. It takes 25 hosts to use up what all of them get.
pub(super) const HOST_SHARE: Share = Share { every: Duration::from_millis(50), burst: 50 };

/// What the address of a session may cost: a session needs a key every two minutes, and a peer that was
/// started again at its address dials. It takes 500 addresses to use up what all of them get.
pub(super) const SESSION_SHARE: Share = Share { every: Duration::from_secs(1), burst: 10 };

impl NodeHandshakes {
    /// A peer begins a handshake, or ends one that it began.
    pub(super) fn handle_call(
        &mut self,
        env: &mut Env,
        shard: u8,
        from: SocketAddr,
        bytes: &[u8],
        has_session: impl FnOnce() -> bool,
    ) {
        let node = self.shared.id;
        let crowded = self.responder.pending() >= env.limits.handshakes / 2;
        let load = match (self.answers.has_any(env.now), crowded) {
            (false, _) => HandshakeLoad::Spent,
            (true, true) => HandshakeLoad::Heavy,
            (true, false) => HandshakeLoad::Calm,
        };
        let opened = self.responder.opened();
        let mut heard = self.responder.handle_packet(env.now, from, bytes, load, env.entropy());
        // The address is proved, so this takes from no share but its own.
        if load == HandshakeLoad::Spent
            && matches!(heard, Err(HandshakeError::Busy))
            && self.take_share(env, from, has_session)
        {
            heard = self.responder.handle_packet(env.now, from, bytes, HandshakeLoad::Heavy, env.entropy());
        } else if self.responder.opened() != opened {
            // Broken messages too cost the curve operations that the budget is for.
            self.answers.take(env.now);
        }
        // Before the effects below: their answers add handshakes, and set the deadline anew.
        self.expire_responder(env);
        match heard {
            Ok(ResponderEvent::Reply(reply)) => {
                let kind = reply.first().and_then(|byte| PacketKind::from_first_byte(*byte));
                if kind == Some(PacketKind::Cookie) {
                    count(&self.shared.counters.cookies_sent);
                }
                env.effects.send_datagram(shard, node, (env.called_at, from), reply);
            }
            Ok(ResponderEvent::Request(request)) => {
                env.effects.push(if request.is_for_key() {
                    Effect::RequestedKey(node, request)
                } else {
                    Effect::RequestedSession(node, request)
                });
            }
            Ok(ResponderEvent::Hello(hello)) => {
                env.effects.push(Effect::AnswerHello(node, hello));
            }
            Ok(ResponderEvent::Joined(outcome)) => {
                env.effects.push(Effect::PeerJoined { node, outcome, from });
            }
            Err(error) => {
                self.count_lost(error);
                if error == HandshakeError::Mac {
                    self.note_foreign(from);
                }
            }
        }
    }

    /// Takes from what this address may still cost when the budget of answers is used up.
    fn take_share(&mut self, env: &Env, from: SocketAddr, has_session: impl FnOnce() -> bool) -> bool {
        if has_session() {
            self.to_sessions.take(env.now, from)
        } else {
            self.to_hosts.take(env.now, host_of(&from))
        }
    }

    /// Forgets handshakes of peers that were never finished, and gives their indices back.
    fn expire_responder(&mut self, env: &mut Env) {
        self.responder.handle_timeout(env.now);
        while let Some(index) = self.responder.poll_freed() {
            env.effects.push(Effect::FreeIndex(index));
        }
        env.effects.set_or_cancel(Timer::Responder(self.shared.id), self.responder.poll_timeout());
    }
}

impl Handshakes {
    /// Answers a request for a session. `false`: there is no answer, because of a bound or a defect of the
    /// request.
    pub(crate) fn answer_request(
        &mut self,
        env: &mut Env,
        shards: &mut Shards,
        id: NodeId,
        request: HandshakeRequest,
    ) -> bool {
        let random = env.random_u32();
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Some(index) = shards.take_index(random) else {
            count(&node.shared.counters.handshakes_refused);
            return false;
        };
        let from = request.from();
        let accepted = node.responder.accept(env.now, request, index);
        let answered = match accepted {
            Ok((outcome, reply)) => {
                // The session first: the peer's first packet may come right after the reply.
                env.effects.push(Effect::SessionReady { node: id, outcome: Box::new(outcome), from });
                env.effects.send_datagram(index.shard(), id, (env.called_at, from), reply);
                true
            }
            Err(error) => {
                env.effects.push(Effect::FreeIndex(index));
                node.count_lost(error);
                false
            }
        };
        node.expire_responder(env);
        answered
    }

    /// Answers a request for a new key of the session with this index.
    pub(crate) fn answer_key(
        &mut self,
        env: &mut Env,
        id: NodeId,
        request: HandshakeRequest,
        index: ReceiverIndex,
    ) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let from = request.from();
        match node.responder.accept(env.now, request, index) {
            Ok((outcome, reply)) => {
                // The key first: the peer's first packet under it may come right after the reply.
                env.effects.push(Effect::KeyAnswered(Box::new(outcome)));
                env.effects.send_datagram(index.shard(), id, (env.called_at, from), reply);
            }
            Err(error) => node.count_lost(error),
        }
        node.expire_responder(env);
    }

    /// Answers a peer that knows the node's address and not its identity.
    pub(crate) fn answer_hello(&mut self, env: &mut Env, shards: &mut Shards, id: NodeId, hello: Hello) {
        let random = env.random_u32();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(index) = shards.take_index(random) else {
            return count(&node.shared.counters.handshakes_refused);
        };
        let from = hello.from();
        match node.responder.answer(env.now, hello, index) {
            Ok(reply) => env.effects.send_datagram(index.shard(), id, (env.called_at, from), reply),
            Err(error) => {
                env.effects.push(Effect::FreeIndex(index));
                node.count_lost(error);
            }
        }
        node.expire_responder(env);
    }

    /// Ignores a request: a handshake that was begun here goes first, or there is no such node or session.
    pub(crate) fn ignore(&self, node: NodeId) {
        if let Some(node) = self.nodes.get(&node) {
            count(&node.shared.counters.handshakes_refused);
        }
    }

    /// Refuses a request that is late or replayed.
    pub(crate) fn refuse_stale(&mut self, env: &Env, node: NodeId, request: &HandshakeRequest) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.responder.refuse(env.now, request);
            count(&node.shared.counters.broken_packets);
        }
    }

    /// Handshakes of peers that were never finished are to be forgotten.
    pub(crate) fn responder_due(&mut self, env: &mut Env, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.expire_responder(env);
        }
    }
}
