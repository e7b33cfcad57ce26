//! New keys for sessions that go on.
//!
//! A session's shard says when its key is due. Either end then runs the same handshake as for a new session, with
//! two differences: it is for the index that the session has, and its generation says that it is for a key, and for
//! which. What comes out of it goes to the shard as a key, not as a session. When both ends
//! begin at once, the smaller peer's handshake wins, as among new sessions.
//!
//! Not inside: which key seals or opens a packet (the session), and the messages of a handshake (`handshakes`).

use std::time::Duration;

use corewire_proto::{
    handshake::{InitVerdict, Outcome, Request, Target, key_phase, next_key},
    seal::SessionKeys,
    wire::header::ReceiverIndex,
};

use super::{Clerk, state::HandshakePurpose, timers::Timer};
use crate::{
    shard::{Command, NodeId, Rekey},
    shared::counters::count,
};

/// How long a peer whose handshake was answered is given to use the key before this side begins a handshake. The
/// peer repeats itself several times within it.
const THEIR_TURN: Duration = Duration::from_secs(2);

impl Clerk {
    /// The key of a session should be replaced. Tried until it is, or until the session ends.
    pub(super) fn rekey_due(&mut self, index: ReceiverIndex) {
        let Some(session) = self.sessions.get(&index) else { return };
        if session.closing {
            return;
        }
        let (node, peer, to) = (session.node, session.peer, session.address);
        let their_turn = session.answered.map(|at| at + THEIR_TURN).filter(|until| *until > self.now);
        if let Some(until) = their_turn {
            return self.timers.set(Timer::Rekey(index), until);
        }
        let Some(member) = self.members.get(&node) else { return };
        let record = member.catalog.get(&peer).map(|record| record.record());
        let known = record.and_then(|record| record.transport_keys.first()).map(|key| key.key);
        let target = Target::Known { peer, key: known.unwrap_or(session.key) };
        let busy = member.attempts.contains_key(&index);
        if busy || !self.begin_handshake(node, HandshakePurpose::Rekey(index), target, to) {
            self.rekey_later(index);
        }
    }

    pub(super) fn rekey_later(&mut self, index: ReceiverIndex) {
        let at = self.now + self.about(self.times.redial);
        self.timers.set(Timer::Rekey(index), at);
    }

    /// Whether a handshake of ours for the session's next key is in progress.
    fn is_rekeying(&self, node: NodeId, index: ReceiverIndex) -> bool {
        let attempt = self.members.get(&node).and_then(|member| member.attempts.get(&index));
        attempt.is_some_and(|attempt| matches!(attempt.goal, HandshakePurpose::Rekey(_)))
    }

    /// The peer asks for a new key. Whatever does not fit the session as it is here is ignored: it is late, or early
    /// and going to be repeated.
    pub(super) fn answer_rekey(&mut self, node: NodeId, request: Request) {
        let (peer, boot, number, from) =
            (request.peer(), request.peer_boot(), request.attempt(), request.from());
        let generation = request.generation();
        let found = self.sessions.iter().find(|(_, session)| {
            session.node == node
                && session.peer == peer
                && session.remote == request.peer_index()
                && session.boot == boot
                && session.address == from
                && !session.closing
                && next_key(session.generation) == generation
        });
        let index = found.map(|(index, _)| *index);
        let trying = index.is_some_and(|index| self.is_rekeying(node, index));
        let pause = self.times.redial;
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(index) = index else { return count(&member.shared.counters.handshakes_refused) };
        match member.peer_mut(peer, pause).slots.judge_init(trying, boot, number) {
            InitVerdict::Answer => {}
            InitVerdict::AnswerAndCancelOwn => {
                self.drop_attempt(node, index);
                // Ours was for the same key. Should theirs come to nothing, it is tried again.
                self.timers.set(Timer::Rekey(index), self.now + THEIR_TURN);
            }
            InitVerdict::Ignore => return count(&member.shared.counters.handshakes_refused),
            InitVerdict::Stale => {
                member.responder.refuse(self.now, &request);
                return count(&member.shared.counters.broken_packets);
            }
        }
        let Some(member) = self.members.get_mut(&node) else { return };
        match member.responder.accept(self.now, request, index) {
            Ok((outcome, reply)) => {
                count(&member.shared.counters.handshakes_finished);
                member.peer_mut(peer, pause).slots.answered(boot, number);
                if let Some(session) = self.sessions.get_mut(&index) {
                    session.answered = Some(self.now);
                }
                // The key first: the peer's first packet under it may come right after the reply.
                self.send_key(index, generation, outcome.keys, false);
                self.send_datagram(index.shard(), node, from, reply);
            }
            Err(error) => self.lost_packet(node, error),
        }
    }

    /// A handshake that was begun here gave a key for a session.
    pub(super) fn rekey_answered(&mut self, node: NodeId, outcome: Outcome) {
        let index = outcome.local_index;
        let Some(member) = self.members.get(&node) else { return };
        let Some(session) = self.sessions.get_mut(&index) else { return };
        let fits = outcome.peer == session.peer
            && outcome.peer_boot == session.boot
            && outcome.remote_index == session.remote
            && outcome.generation == next_key(session.generation);
        if !fits {
            count(&member.shared.counters.broken_packets);
            return self.rekey_later(index);
        }
        count(&member.shared.counters.handshakes_finished);
        session.generation = outcome.generation;
        session.answered = None;
        self.timers.cancel(Timer::Rekey(index));
        self.send_key(index, outcome.generation, outcome.keys, true);
    }

    fn send_key(&mut self, index: ReceiverIndex, generation: u16, keys: SessionKeys, confirmed: bool) {
        let rekey = Rekey { index, phase: key_phase(generation), keys, confirmed };
        self.shards.send(index.shard(), Command::RekeySession(Box::new(rekey)));
    }

    /// A session uses a new key.
    pub(super) fn session_rekeyed(&mut self, index: ReceiverIndex, phase: u8) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        let node = session.node;
        let next = next_key(session.generation);
        // Where the handshake was begun here, that was noted with its answer.
        let theirs = key_phase(next) == phase;
        if theirs {
            session.generation = next;
            session.answered = None;
        }
        if let Some(member) = self.members.get(&node) {
            count(&member.shared.counters.sessions_rekeyed);
        }
        self.timers.cancel(Timer::Rekey(index));
        if theirs && self.is_rekeying(node, index) {
            // The peer's was faster; ours is for a key that is there already.
            self.drop_attempt(node, index);
        }
    }
}
