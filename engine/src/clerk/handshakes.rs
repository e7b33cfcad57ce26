//! Handshakes: those that this engine's nodes begin, and those that they answer.
//!
//! Not inside: the handshake itself (`corewire-proto`), who is worth one (`dialling`), and what becomes of the keys
//! (`sessions`, `rekey`).

use std::{net::SocketAddr, time::Duration};

use corewire_proto::{
    PeerId,
    handshake::{
        Attempt as Numbers, HandshakeError, Heard, Hello, InitVerdict, Initiator, Load, Progress, Request,
        Target, Timeout, next_key,
    },
    session::CloseCode,
    wire::header::{Header, PacketKind, ReceiverIndex},
};

use super::{
    Clerk,
    state::{HandshakeAttempt, HandshakePurpose},
    timers::Timer,
};
use crate::{
    shard::{Command, NodeId},
    shared::counters::count,
};

impl Clerk {
    /// Sends the first message of a handshake. `false`: a bound was reached; try later.
    pub(super) fn begin_handshake(
        &mut self,
        node: NodeId,
        goal: HandshakePurpose,
        target: Target,
        to: SocketAddr,
    ) -> bool {
        let entropy = self.random();
        let random = u32::from_le_bytes(self.random());
        let Some(member) = self.members.get_mut(&node) else { return false };
        let counters = &member.shared.counters;
        // A new key is for an index that is taken already. Sessions that are there go before new ones.
        let session = match goal {
            HandshakePurpose::Rekey(index) => Some(index),
            HandshakePurpose::Peer(_) | HandshakePurpose::Bootstrap(_) => None,
        };
        if session.is_none() && member.attempts.len() >= self.limits.handshakes {
            count(&counters.handshakes_refused);
            return false;
        }
        let Some(index) = session.or_else(|| self.shards.take_index(random)) else {
            count(&counters.handshakes_refused);
            return false;
        };
        let generation = match goal {
            HandshakePurpose::Peer(peer) => {
                member.peers.get(&peer).map_or(0, |peer| peer.slots.next_generation())
            }
            HandshakePurpose::Bootstrap(_) => 0,
            HandshakePurpose::Rekey(index) => {
                self.sessions.get(&index).map_or(0, |session| next_key(session.generation))
            }
        };
        member.attempts_made = member.attempts_made.saturating_add(1);
        let numbers = Numbers { index, generation, number: member.attempts_made };
        match Initiator::start(self.now, entropy, member.local.clone(), target, numbers) {
            Ok((initiator, bytes)) => {
                count(&counters.handshakes_started);
                self.timers.set_option(Timer::Attempt(node, index), initiator.poll_timeout());
                let installed = session.is_some();
                member.attempts.insert(index, HandshakeAttempt { initiator, to, goal, installed });
                self.send_datagram(index.shard(), node, to, bytes);
                match goal {
                    HandshakePurpose::Peer(peer) => {
                        if let Some(peer) = self.members.get_mut(&node).and_then(|m| m.peers.get_mut(&peer)) {
                            peer.attempt = Some(index);
                        }
                    }
                    HandshakePurpose::Bootstrap(place) => {
                        if let Some(entry) =
                            self.members.get_mut(&node).and_then(|m| m.bootstrap.get_mut(place))
                        {
                            entry.attempt = Some(index);
                        }
                    }
                    HandshakePurpose::Rekey(_) => {}
                }
                true
            }
            Err(_) => {
                if session.is_none() {
                    self.shards.free_index(index);
                }
                false
            }
        }
    }

    pub(super) fn send_datagram(&mut self, shard: u8, node: NodeId, to: SocketAddr, bytes: Vec<u8>) {
        self.shards.send_datagram(shard, Command::SendDatagram { node, to, bytes });
    }

    pub(super) fn handshake_came(&mut self, node: NodeId, shard: u8, from: SocketAddr, bytes: &[u8]) {
        let Some(member) = self.members.get(&node) else { return };
        // A node that leaves still drains: its sessions get new keys, and nobody else gets anything.
        let leaving = member.leaving.is_some();
        match Header::parse(bytes) {
            Ok((header, PacketKind::Reply | PacketKind::HelloReply | PacketKind::Cookie)) => {
                self.reply_came(node, header.receiver(), from, bytes);
            }
            Ok((_, kind)) if leaving && kind != PacketKind::Init => {}
            Ok(_) => self.call_came(node, shard, from, bytes),
            Err(_) => count(&member.shared.counters.broken_packets),
        }
    }

    /// Counts a packet that led to nothing.
    pub(super) fn lost_packet(&self, node: NodeId, error: HandshakeError) {
        let Some(member) = self.members.get(&node) else { return };
        let counters = &member.shared.counters;
        count(match error {
            HandshakeError::Mac => &counters.foreign_packets,
            HandshakeError::Busy => &counters.handshakes_refused,
            _ => &counters.broken_packets,
        });
    }

    /// An answer to a handshake that was begun here.
    fn reply_came(&mut self, node: NodeId, index: ReceiverIndex, from: SocketAddr, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(attempt) = member.attempts.get_mut(&index) else {
            return count(&member.shared.counters.broken_packets);
        };
        // The answer comes from where the question went; anything else is somebody in between, or a peer behind
        // several addresses, whose session would not work either.
        if attempt.to != from {
            return count(&member.shared.counters.broken_packets);
        }
        let progress = attempt.initiator.handle(self.now, bytes);
        let (goal, next) = (attempt.goal, attempt.initiator.poll_timeout());
        self.timers.set_option(Timer::Attempt(node, index), next);
        match progress {
            Ok(Progress::Send(bytes)) => self.send_datagram(index.shard(), node, from, bytes),
            Ok(Progress::Done { outcome, send }) => {
                if let Some(bytes) = send {
                    self.send_datagram(index.shard(), node, from, bytes);
                }
                self.attempt_succeeded(node, index, goal, next.is_some());
                match goal {
                    HandshakePurpose::Rekey(_) => self.rekey_answered(node, *outcome),
                    HandshakePurpose::Peer(_) | HandshakePurpose::Bootstrap(_) => {
                        self.install(node, *outcome, from)
                    }
                }
            }
            Err(HandshakeError::OwnIdentity) => {
                if let HandshakePurpose::Bootstrap(place) = goal
                    && let Some(entry) = self.members.get_mut(&node).and_then(|m| m.bootstrap.get_mut(place))
                {
                    entry.own = true;
                }
                self.drop_attempt(node, index);
            }
            Err(error) => {
                self.lost_packet(node, error);
                if next.is_none() {
                    // The answer was good enough to end the attempt and not good enough for a session.
                    self.drop_attempt(node, index);
                    self.attempt_failed(node, goal);
                }
            }
        }
    }

    /// There are keys. The attempt stays if its last message may have to be repeated.
    fn attempt_succeeded(&mut self, node: NodeId, index: ReceiverIndex, goal: HandshakePurpose, stays: bool) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if stays {
            if let Some(attempt) = member.attempts.get_mut(&index) {
                attempt.installed = true;
            }
        } else {
            member.attempts.remove(&index);
        }
        let pause = self.times.redial;
        match goal {
            HandshakePurpose::Peer(peer) => {
                if let Some(peer) = member.peers.get_mut(&peer) {
                    peer.attempt = None;
                    peer.pause = pause;
                }
            }
            HandshakePurpose::Bootstrap(place) => {
                if let Some(entry) = member.bootstrap.get_mut(place) {
                    entry.attempt = None;
                    entry.session = Some(index);
                    entry.pause = pause;
                }
            }
            HandshakePurpose::Rekey(_) => {}
        }
    }

    /// Gives up an attempt that has no session. Its index is free again.
    pub(super) fn drop_attempt(&mut self, node: NodeId, index: ReceiverIndex) {
        self.timers.cancel(Timer::Attempt(node, index));
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(attempt) = member.attempts.remove(&index) else { return };
        if attempt.installed {
            // The index belongs to the session.
            return;
        }
        self.shards.free_index(index);
        match attempt.goal {
            HandshakePurpose::Peer(peer) => {
                if let Some(peer) = member.peers.get_mut(&peer) {
                    peer.attempt = None;
                }
            }
            HandshakePurpose::Bootstrap(place) => {
                if let Some(entry) = member.bootstrap.get_mut(place) {
                    entry.attempt = None;
                }
            }
            HandshakePurpose::Rekey(_) => {}
        }
    }

    /// A handshake that was begun here is due for a repetition, or for its end.
    pub(super) fn attempt_due(&mut self, node: NodeId, index: ReceiverIndex) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(attempt) = member.attempts.get_mut(&index) else { return };
        let (to, goal, installed) = (attempt.to, attempt.goal, attempt.installed);
        match attempt.initiator.handle_timeout(self.now) {
            Timeout::Wait => {}
            Timeout::Resend(bytes) => self.send_datagram(index.shard(), node, to, bytes),
            Timeout::GaveUp => {
                count(&member.shared.counters.handshakes_given_up);
                self.drop_attempt(node, index);
                if installed && !matches!(goal, HandshakePurpose::Rekey(_)) {
                    self.close_session(index, CloseCode::PEER_LOST);
                } else {
                    self.attempt_failed(node, goal);
                }
                return;
            }
        }
        let next = self.members.get(&node).and_then(|m| m.attempts.get(&index)?.initiator.poll_timeout());
        self.timers.set_option(Timer::Attempt(node, index), next);
    }

    /// The next attempt comes later, and the one after that later still.
    fn attempt_failed(&mut self, node: NodeId, goal: HandshakePurpose) {
        let longest = self.times.redial_max;
        let Some(member) = self.members.get_mut(&node) else { return };
        let pause: Option<&mut Duration> = match goal {
            HandshakePurpose::Peer(peer) => member.peers.get_mut(&peer).map(|peer| {
                peer.turn = peer.turn.wrapping_add(1);
                &mut peer.pause
            }),
            HandshakePurpose::Bootstrap(place) => {
                member.bootstrap.get_mut(place).map(|entry| &mut entry.pause)
            }
            HandshakePurpose::Rekey(index) => return self.rekey_later(index),
        };
        let Some(pause) = pause else { return };
        let wait = *pause;
        *pause = wait.saturating_mul(2).min(longest);
        let at = self.now + self.about(wait);
        match goal {
            HandshakePurpose::Peer(peer) => {
                if let Some(state) = self.members.get_mut(&node).and_then(|m| m.peers.get_mut(&peer)) {
                    state.not_before = at;
                }
                self.give_up_pursuits(node, peer);
                self.timers.set(Timer::Dial(node, peer), at);
            }
            HandshakePurpose::Bootstrap(place) => self.timers.set(Timer::Bootstrap(node, place), at),
            HandshakePurpose::Rekey(_) => {}
        }
    }

    /// Somebody begins a handshake, or ends one that it began.
    fn call_came(&mut self, node: NodeId, shard: u8, from: SocketAddr, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let calm = member.responder.pending() < self.limits.handshakes / 2 && member.answers.any(self.now);
        let load = if calm { Load::Calm } else { Load::Heavy };
        let heard = member.responder.handle(self.now, from, bytes, load, &mut *self.entropy);
        match heard {
            Ok(Heard::Reply(reply)) => {
                if reply
                    .first()
                    .is_some_and(|byte| PacketKind::from_first_byte(*byte) == Some(PacketKind::Cookie))
                {
                    count(&member.shared.counters.cookies_sent);
                }
                self.send_datagram(shard, node, from, reply);
            }
            Ok(Heard::Request(request)) => {
                member.answers.take(self.now);
                self.answer_request(node, *request);
            }
            Ok(Heard::Hello(hello)) => {
                member.answers.take(self.now);
                self.answer_hello(node, *hello);
            }
            Ok(Heard::Joined(outcome)) => {
                member.answers.take(self.now);
                if self.may_meet(node, outcome.peer) {
                    self.install(node, *outcome, from);
                } else {
                    self.shards.free_index(outcome.local_index);
                }
            }
            Err(error) => self.lost_packet(node, error),
        }
        self.responder_due(node);
    }

    /// Whether there is room for what is kept about this peer.
    fn may_meet(&self, node: NodeId, peer: PeerId) -> bool {
        let Some(member) = self.members.get(&node) else { return false };
        let room = peer != member.shared.peer_id
            && (member.peers.contains_key(&peer) || member.peers.len() < self.limits.peers.saturating_mul(2));
        if !room {
            count(&member.shared.counters.handshakes_refused);
        }
        room
    }

    fn answer_request(&mut self, node: NodeId, request: Request) {
        let (peer, from) = (request.peer(), request.from());
        if request.is_for_key() {
            return self.answer_rekey(node, request);
        }
        if self.members.get(&node).is_none_or(|member| member.leaving.is_some()) || !self.may_meet(node, peer)
        {
            return;
        }
        let random = u32::from_le_bytes(self.random());
        let pause = self.times.redial;
        let Some(member) = self.members.get_mut(&node) else { return };
        let state = member.peer_mut(peer, pause);
        let own = state.attempt;
        match state.slots.judge_init(own.is_some(), request.peer_boot(), request.attempt()) {
            InitVerdict::Answer => {}
            InitVerdict::AnswerAndCancelOwn => {
                if let Some(own) = own {
                    self.drop_attempt(node, own);
                }
            }
            InitVerdict::Ignore => return count(&member.shared.counters.handshakes_refused),
            InitVerdict::Stale => {
                member.responder.refuse(self.now, &request);
                return count(&member.shared.counters.broken_packets);
            }
        }
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(index) = self.shards.take_index(random) else {
            count(&member.shared.counters.handshakes_refused);
            return self.unanswered(node, peer);
        };
        match member.responder.accept(self.now, request, index) {
            Ok((outcome, reply)) => {
                // The session first: the peer's first packet may come right after the reply.
                self.install(node, outcome, from);
                self.send_datagram(index.shard(), node, from, reply);
            }
            Err(error) => {
                self.shards.free_index(index);
                self.lost_packet(node, error);
                self.unanswered(node, peer);
            }
        }
    }

    /// A peer asked for a session and gets none: whoever wants one with it is not left waiting, and a stranger leaves
    /// nothing behind.
    fn unanswered(&mut self, node: NodeId, peer: PeerId) {
        self.session_missed(node, peer);
        self.forget_if_idle(node, peer);
    }

    fn answer_hello(&mut self, node: NodeId, hello: Hello) {
        let random = u32::from_le_bytes(self.random());
        let from = hello.from();
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(index) = self.shards.take_index(random) else {
            return count(&member.shared.counters.handshakes_refused);
        };
        match member.responder.answer(self.now, hello, index) {
            Ok(reply) => self.send_datagram(index.shard(), node, from, reply),
            Err(error) => {
                self.shards.free_index(index);
                self.lost_packet(node, error);
            }
        }
    }

    /// Forgets handshakes of others that were never finished, and takes their indices back.
    pub(super) fn responder_due(&mut self, node: NodeId) {
        let Some(member) = self.members.get_mut(&node) else { return };
        member.responder.handle_timeout(self.now);
        while let Some(index) = member.responder.poll_freed() {
            self.shards.free_index(index);
        }
        self.timers.set_option(Timer::Responder(node), member.responder.poll_timeout());
    }
}
