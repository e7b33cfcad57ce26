//! Sessions, from their keys to their end.
//!
//! Not inside: what runs in them; that is the shards'. Which of several sessions with one peer counts is decided by
//! the protocol's slots.

use std::{collections::BTreeSet, time::Duration};

use corewire_proto::{
    PeerId,
    channel::Label,
    handshake::{Entry, Outcome},
    seal::KEY_SOFT_AGE,
    session::{CloseCode, MIN_PACKET_BYTES},
    wire::header::ReceiverIndex,
};

use super::{
    Clerk,
    state::{Bucket, ChannelOwner, HandshakePurpose, SessionState, Stage},
    timers::Timer,
};
use crate::{
    shard::{Command, Install, NodeId},
    shared::counters::count,
};

/// Records of one peer's session that are looked at per second, and at once. Checking a signature costs about
/// 50 microseconds, so a peer that sends nothing but records costs a twentieth of the clerk's time.
const RECORDS_PER_SECOND: u32 = 1_000;

/// Sessions with one peer that are kept for their last channels after another one took their place.
const RETIRED_EACH: usize = 2;

/// The packet size between two addresses of this host, whose loopback takes 65,536 bytes: fewer, larger packets
/// cost both ends less. Three of these are one train.
const LOOPBACK_PACKET_BYTES: usize = 16 << 10;

impl Clerk {
    /// Gives a finished handshake's keys to the shard that its index names.
    pub(super) fn install(&mut self, node: NodeId, outcome: Outcome, to: std::net::SocketAddr) {
        let index = outcome.local_index;
        let entry = Entry::new(&outcome, self.now);
        let (peer, confirmed, now, pause) = (outcome.peer, outcome.confirmed, self.now, self.times.redial);
        let jitter = 0.9 + self.chance() / 5.0;
        let Some(member) = self.members.get_mut(&node) else { return self.shards.free_index(index) };
        count(&member.shared.counters.handshakes_finished);
        count(&member.shared.counters.sessions_opened);
        let mut config = member.session.clone();
        let peer_limits = outcome.peer_limits;
        if config.max_packet_bytes == MIN_PACKET_BYTES && to.ip().is_loopback() {
            config.max_packet_bytes = LOOPBACK_PACKET_BYTES;
        }
        let theirs = usize::try_from(peer_limits.max_packet_bytes).unwrap_or(usize::MAX);
        config.max_packet_bytes = config.max_packet_bytes.min(theirs.max(MIN_PACKET_BYTES));
        let theirs = usize::try_from(peer_limits.max_channels).unwrap_or(usize::MAX);
        config.limits.max_channels = config.limits.max_channels.min(theirs);
        // Peers that met at one moment shall not all want new keys at one moment.
        config.rekey_after = config.rekey_after.min(KEY_SOFT_AGE).mul_f64(jitter);
        let install =
            Install { index, remote_index: outcome.remote_index, node, to, keys: outcome.keys, config };
        self.shards.send(index.shard(), Command::InstallSession(Box::new(install)));
        self.sessions.insert(
            index,
            SessionState {
                node,
                peer,
                address: to,
                remote: outcome.remote_index,
                boot: outcome.peer_boot,
                key: outcome.peer_static,
                generation: 0,
                answered: None,
                greeted: false,
                channels: 0,
                retired: false,
                closing: false,
                news: BTreeSet::new(),
                tickets_due: false,
                budget: Bucket::new(RECORDS_PER_SECOND, now),
            },
        );
        member.peer_mut(peer, pause).slots.established(now, entry, confirmed);
        self.sort_slots(node, peer);
    }

    /// Carries out what the slots of a peer have decided.
    fn sort_slots(&mut self, node: NodeId, peer: PeerId) {
        let Some(state) = self.members.get_mut(&node).and_then(|member| member.peers.get_mut(&peer)) else {
            return;
        };
        let mut retired = Vec::new();
        while let Some(index) = state.slots.poll_retired() {
            retired.push(index);
        }
        let current = state.slots.current().copied();
        self.timers.set_option(Timer::Slots(node, peer), state.slots.poll_timeout());
        for index in retired {
            self.retire(index, current.map(|entry| entry.peer_boot));
        }
        if let Some(current) = current
            && self.sessions.get(&current.local_index).is_some_and(|session| !session.greeted)
        {
            self.greet(current.local_index);
        }
    }

    pub(super) fn slots_due(&mut self, node: NodeId, peer: PeerId) {
        if let Some(state) = self.members.get_mut(&node).and_then(|member| member.peers.get_mut(&peer)) {
            state.slots.handle_timeout(self.now);
            self.sort_slots(node, peer);
            self.forget_if_idle(node, peer);
        }
    }

    /// Another session took this one's place. It is closed, but not under channels that still work: the peer keeps
    /// it for as long, because it decides the same way.
    fn retire(&mut self, index: ReceiverIndex, boot: Option<u64>) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        session.retired = true;
        let (node, peer) = (session.node, session.peer);
        let useless = session.channels == 0 || boot.is_some_and(|boot| boot != session.boot);
        let others = self
            .sessions
            .values()
            .filter(|other| other.node == node && other.peer == peer && other.retired && !other.closing)
            .count();
        if useless || others > RETIRED_EACH {
            self.close_session(index, CloseCode::SUPERSEDED);
        }
    }

    /// A packet came under the session's keys.
    pub(super) fn session_confirmed(&mut self, index: ReceiverIndex) {
        let Some(session) = self.sessions.get(&index) else { return };
        let (node, peer) = (session.node, session.peer);
        let now = self.now;
        let Some(member) = self.members.get_mut(&node) else { return };
        count(&member.shared.counters.sessions_confirmed);
        let rekeying = member
            .attempts
            .get(&index)
            .is_some_and(|attempt| matches!(attempt.goal, HandshakePurpose::Rekey(_)));
        if !rekeying && let Some(mut attempt) = member.attempts.remove(&index) {
            attempt.initiator.confirmed();
            self.timers.cancel(Timer::Attempt(node, index));
        }
        if let Some(state) = member.peers.get_mut(&peer) {
            state.slots.opened(now, index);
        }
        self.sort_slots(node, peer);
    }

    /// The session is the one that counts now: records are exchanged, and whoever waited for it goes on.
    fn greet(&mut self, index: ReceiverIndex) {
        let redial = self.times.redial;
        let Some(session) = self.sessions.get_mut(&index) else { return };
        session.greeted = true;
        let (node, peer) = (session.node, session.peer);
        let Some(member) = self.members.get_mut(&node) else { return };
        session.tickets_due = !member.tickets.is_empty();
        session.news = member.catalog.iter().map(|record| record.record().peer_id).collect();
        session.news.remove(&peer);
        session.news.insert(member.shared.peer_id);
        member.catalog.pin(&peer, true);
        let mut useless = None;
        if let Some(state) = member.peers.get_mut(&peer) {
            state.pause = redial;
            state.not_before = self.now;
            useless = state.attempt;
        }
        if let Some(attempt) = useless {
            // There is a session; the own attempt has nothing left to win.
            self.drop_attempt(node, attempt);
        }
        self.peer_is_known(node, peer);
        self.tell_news(index);
        self.wake_pursuits(node, peer);
    }

    /// Lets the subscriptions go on that waited for a session with this peer.
    fn wake_pursuits(&mut self, node: NodeId, peer: PeerId) {
        let Some(member) = self.members.get_mut(&node) else { return };
        for (key, subscription) in &mut member.subscriptions {
            if let Some(pursuit) = subscription.pursuits.get_mut(&peer)
                && pursuit.stage == Stage::WantsSession
            {
                pursuit.stage = Stage::Fresh;
                self.fresh.insert((node, *key, peer));
            }
        }
    }

    /// Tells a shard to close a session. The end comes as an event.
    pub(super) fn close_session(&mut self, index: ReceiverIndex, code: CloseCode) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        if !std::mem::replace(&mut session.closing, true) {
            self.shards.send(index.shard(), Command::CloseSession { index, code });
        }
    }

    /// A channel of the session is over.
    pub(super) fn channel_gone(&mut self, index: ReceiverIndex) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        session.channels = session.channels.saturating_sub(1);
        if session.retired && session.channels == 0 {
            self.close_session(index, CloseCode::SUPERSEDED);
        }
    }

    /// A shard has let go of a session.
    pub(super) fn session_closed(&mut self, index: ReceiverIndex, code: CloseCode) {
        let Some(session) = self.sessions.remove(&index) else {
            if self.orphans.remove(&index) {
                self.shards.free_index(index);
            }
            return;
        };
        let (node, peer) = (session.node, session.peer);
        self.timers.cancel(Timer::Exchange(index));
        self.timers.cancel(Timer::Rekey(index));
        self.drop_attempt(node, index);
        self.shards.free_index(index);
        let (now, redial) = (self.now, self.times.redial);
        let mut places = Vec::new();
        let mut current_gone = false;
        if let Some(member) = self.members.get_mut(&node) {
            if !matches!(code, CloseCode::GRACEFUL | CloseCode::IDLE | CloseCode::SUPERSEDED) {
                count(&member.shared.counters.sessions_lost);
            }
            if let Some(state) = member.peers.get_mut(&peer) {
                state.slots.closed(index);
                current_gone = state.slots.current().is_none();
                if current_gone {
                    state.tickets.clear();
                    state.not_before = now + redial;
                }
            }
            if current_gone {
                member.catalog.pin(&peer, false);
            }
            for (place, entry) in member.bootstrap.iter_mut().enumerate() {
                if entry.session == Some(index) {
                    entry.session = None;
                    places.push(place);
                }
            }
        }
        self.end_channels(index, code);
        self.sort_slots(node, peer);
        for place in places {
            let at = now + self.about(redial);
            self.timers.set(Timer::Bootstrap(node, place), at);
        }
        if current_gone {
            self.session_missed(node, peer);
        }
        self.forget_if_idle(node, peer);
        self.look_at_leaving(node);
    }

    /// A session is no longer waited for. Its index stays taken until the shard gives it back.
    pub(super) fn abandon_session(&mut self, index: ReceiverIndex) {
        if let Some(session) = self.sessions.remove(&index) {
            self.timers.cancel(Timer::Exchange(index));
            self.timers.cancel(Timer::Rekey(index));
            self.drop_attempt(session.node, index);
            self.orphans.insert(index);
            self.end_channels(index, CloseCode::GRACEFUL);
        }
    }

    /// Every channel of a session that is gone has ended.
    fn end_channels(&mut self, index: ReceiverIndex, code: CloseCode) {
        let first = (index, Label::from_u32(0));
        let last = (index, Label::from_u32(u32::MAX));
        let names: Vec<_> = self.channels.range(first..=last).map(|(name, _)| *name).collect();
        for name in names {
            if let Some(owner) = self.channels.remove(&name) {
                self.owner_lost(owner, code);
            }
        }
        let opens: Vec<u64> =
            self.opens.iter().filter(|(_, (session, _))| *session == index).map(|(id, _)| *id).collect();
        for open in opens {
            if let Some((_, owner)) = self.opens.remove(&open) {
                self.owner_lost(owner, code);
            }
        }
    }

    fn owner_lost(&mut self, owner: ChannelOwner, code: CloseCode) {
        match owner {
            ChannelOwner::Inbound(node, subscription, peer) => self.leg_ended(node, subscription, peer, code),
            ChannelOwner::Outbound(node, publication, serving) => {
                self.serving_ended(node, publication, serving, code)
            }
        }
    }

    /// Says again that there is no session, to pursuits that were about to use it.
    pub(super) fn session_missed(&mut self, node: NodeId, peer: PeerId) {
        self.timers.set_if_none(Timer::Dial(node, peer), self.now + Duration::from_millis(1));
    }

    /// A node has no socket on one of the shards: what is placed there fails and is tried again elsewhere.
    pub(super) fn socket_refused(&mut self, node: NodeId) {
        if let Some(member) = self.members.get(&node) {
            count(&member.shared.counters.sockets_refused);
        }
    }

    /// A shard is gone, with everything on it.
    pub(super) fn shard_stopped(&mut self, shard: u8) {
        self.shards.stop(shard);
        let lost: Vec<ReceiverIndex> =
            self.sessions.keys().filter(|index| index.shard() == shard).copied().collect();
        for index in lost {
            self.session_closed(index, CloseCode::PEER_LOST);
        }
        self.shutdown_step();
    }
}
