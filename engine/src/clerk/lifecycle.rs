//! Nodes, peers and sessions as far as they concern several components: joining, meeting, ending.
//!
//! Each function asks some components and tells others; none keeps anything of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use corewire_proto::{
    PeerId,
    handshake::{HandshakeOutcome, HandshakeRequest, Hello, InitVerdict, NetworkSecret, Target},
    membership::SignedRecord,
    session::CloseCode,
    time::Instant,
    wire::header::ReceiverIndex,
};

use super::{
    Clerk,
    catalogue::RecordWay,
    effect::Effect,
    handshakes::{HandshakePurpose, NewHandshake},
    notice::{ChannelsOf, drop_contained},
    timers::Timer,
};
use crate::{
    peer::PeerInfo,
    registry,
    shard::{Command, NodeId},
    shared::{
        beacon::{HEARD_MAX, Heard},
        node::{JoinRequest, LeaveError, Presence},
        port::ClerkRequest,
    },
};

/// The pause before a peer is dialled whose session has just ended: what ends with it may still change the
/// need.
const MISSED_PAUSE: Duration = Duration::from_millis(1);

// Nodes.
impl Clerk {
    pub(super) fn join(&mut self, join: JoinRequest) {
        let JoinRequest { shared, identity, secret, sockets, bootstrap, beacon, session } = join;
        if self.shutdown.has_begun() {
            self.port.release_node();
            shared.presence.show(Presence::Left(Err(LeaveError::EngineStopped)));
            return;
        }
        let (env, node) = (&mut self.env, shared.id);
        let network = &shared.network_id;
        let key = match &secret {
            Some(secret) => secret.beacon_key(network),
            None => NetworkSecret::of_public_network(network).beacon_key(network),
        };
        let identity = Arc::new(identity);
        let local = self.nodes.add(env, &shared, identity.clone(), secret, session);
        for bound in sockets {
            self.nodes.hold(node, &bound.sockets);
            for (shard, socket) in (0..).zip(bound.sockets) {
                env.effects.send(shard, Command::AddSocket { node, socket });
            }
        }
        self.handshakes.add_node(env, &shared, local, bootstrap);
        self.catalogue.add_node(&shared, env);
        self.members.add_node(env, &shared, identity, key);
        if let Some(setup) = beacon
            && let Some(config) = self.nodes.beacon_config(env, node, setup.key.clone())
        {
            self.beacons.join(&shared, setup, config);
        }
        // A full registry means that neighbours have to be told of each other by configuration.
        registry::enter(&shared);
        self.meet_neighbours(node);
        for place in self.handshakes.bootstrap_places(node) {
            self.bootstrap(node, place);
        }
    }

    /// A node's settings, addresses, or neighbours in the process are different, or it has heard beacons.
    pub(super) fn node_changed(&mut self, node: NodeId) {
        let change = self.nodes.refresh(node);
        if change.tickets {
            self.catalogue.tickets_changed(&mut self.env, node);
        }
        if change.tags || change.tickets {
            self.local_peer_changed(node);
        }
        self.meet_neighbours(node);
        self.take_heard(node);
    }

    /// Looks at what the beacons of other nodes told.
    fn take_heard(&mut self, node: NodeId) {
        let Some(shared) = self.nodes.shared(node) else { return };
        let heard = shared.take_heard();
        if heard.len() >= HEARD_MAX {
            self.beacons.wake();
        }
        for heard in heard {
            match heard {
                _ if self.shutdown.is_leaving(node) => {}
                Heard::Record { bytes, age_s, from } => {
                    let record = (&bytes[..], u64::from(age_s));
                    self.catalogue.read_beacon(&mut self.env, node, record, from);
                }
                Heard::Long { long, from } => {
                    let ways = self.ways_to(node, &long, from);
                    self.members.fetch(&mut self.env, node, &long, &ways);
                }
                Heard::Same { peer, from } => {
                    if self.catalogue.beacon_again(node, peer, from) {
                        self.members.ask(&mut self.env, node, peer);
                    }
                }
                Heard::Given(bytes) => {
                    self.catalogue.read_record(&mut self.env, node, (&bytes, 0), RecordWay::Local);
                }
                Heard::Silent(peer) => self.catalogue.silent(&mut self.env, node, peer),
            }
            self.apply_effects();
        }
    }

    /// Reads the records of the other nodes of this network in the process.
    fn meet_neighbours(&mut self, node: NodeId) {
        if self.shutdown.is_leaving(node) {
            return;
        }
        let Some(own) = self.nodes.shared(node) else { return };
        for record in registry::others(own).iter().filter_map(|other| registry::record(other)) {
            self.catalogue.read_record(&mut self.env, node, (&record, 0), RecordWay::Local);
        }
    }

    /// What a node announces is different: the predicates of the nodes of this engine are asked again.
    fn local_peer_changed(&mut self, node: NodeId) {
        for leg in self.legs.of_node(node) {
            self.review_outbound(leg.producer);
            self.apply_effects();
            self.review_inbound(leg.consumer);
            self.apply_effects();
        }
        // For conditions over channels within the node.
        self.publications.notify_of_peers(&mut self.env, node);
        self.subscriptions.notify_of_peers(&mut self.env, node);
        let Some(peer) = self.nodes.shared(node).map(|node| node.peer_id) else { return };
        // Those that refused it as a producer.
        for other in self.nodes.ids() {
            self.subscriptions.reconsider_refused(other, peer);
        }
        // And those that refused it as a consumer. In this engine they need not be sent its record first.
        for producer in self.subscriptions.producers_of(node) {
            if self.nodes.local_node(node, producer).is_some() {
                self.subscriptions.reconsider_refused(node, producer);
            }
        }
    }

    /// What a node of this engine is to another one.
    pub(super) fn local_info(&self, node: NodeId) -> Option<PeerInfo> {
        self.nodes.info(node, self.publications.streams_of(node))
    }

    pub(super) fn renew_record(&mut self, node: NodeId) {
        let streams = self.publications.streams_of(node);
        let leaving = self.shutdown.is_leaving(node);
        let peers = self.catalogue.records(node);
        self.nodes.renew_record(&mut self.env, node, streams, (leaving, peers));
    }

    /// Sends a node's new record to its peers and its neighbours in the process.
    pub(super) fn announce(&mut self, node: NodeId, record: SignedRecord) {
        if let Some(shared) = self.nodes.shared(node) {
            registry::announce(shared, Some(Arc::from(record.bytes())));
        }
        self.beacons.announce(node, &record);
        self.catalogue.own_record(&mut self.env, node, record.clone());
        if let Some(book) = self.catalogue.book(node, self.env.seconds()) {
            self.members.announce(&mut self.env, node, &record, &book);
        }
    }
}

// Peers, handshakes and sessions.
impl Clerk {
    /// Begins a handshake with a peer if a subscription waits for a session and there is neither a session
    /// nor an attempt.
    pub(super) fn dial(&mut self, node: NodeId, peer: PeerId) {
        if self.shutdown.is_leaving(node) {
            return;
        }
        if !self.subscriptions.want_session(node, peer) {
            // It was kept for the attempts to reach it.
            return self.env.effects.push(Effect::ForgetPeerIfIdle(node, peer));
        }
        // Without a record there is no address: the peer is dialled when its record comes.
        let Some(record) = self.catalogue.record(node, peer) else { return };
        let view = self.sessions.dial_view(node, peer);
        let near = self.catalogue.heard_from(node, peer);
        self.handshakes.dial(&mut self.env, &mut self.shards, node, (&record, near), view);
    }

    /// Makes sure that there is a session with the peer at a bootstrap address.
    pub(super) fn bootstrap(&mut self, node: NodeId, place: usize) {
        if self.shutdown.is_leaving(node) {
            return;
        }
        let Some(to) = self.handshakes.bootstrap_target(&mut self.env, &self.port, node, place) else {
            return;
        };
        match self.sessions.at_address(node, to) {
            Some(session) => self.handshakes.bootstrap_reached(node, place, session),
            None => self.handshakes.dial_bootstrap(&mut self.env, &mut self.shards, node, place, to),
        }
    }

    /// Answers a peer that asks for a session, or not.
    pub(super) fn answer_session(&mut self, node: NodeId, request: HandshakeRequest) {
        let peer = request.peer();
        let env = &mut self.env;
        let Some(shared) = self.nodes.shared(node).cloned() else { return };
        // A node that leaves still meets those that may fetch what is kept for them.
        let closed = self.shutdown.is_leaving(node) && !self.publications.keep_place_of(node, peer);
        if closed || !self.catalogue.may_meet(node, peer, &env.limits) {
            return;
        }
        self.catalogue.meet(node, peer);
        let own = self.handshakes.attempt_with(node, peer);
        let numbers = (request.peer_boot(), request.attempt());
        match self.sessions.judge(&shared, peer, own.is_some(), numbers) {
            InitVerdict::Answer => {}
            InitVerdict::AnswerAndCancelOwn => {
                if let Some(own) = own {
                    self.handshakes.drop_attempt(env, node, own);
                }
            }
            InitVerdict::Ignore => return self.handshakes.ignore(node),
            InitVerdict::Stale => return self.handshakes.refuse_stale(env, node, &request),
        }
        self.apply_effects();
        if !self.handshakes.answer_request(&mut self.env, &mut self.shards, node, request) {
            // A subscription that waits for a session goes on, and of a stranger nothing is kept.
            self.session_missed(node, peer);
            self.env.effects.push(Effect::ForgetPeerIfIdle(node, peer));
        }
    }

    /// Answers a peer that asks for the next key of a session, or not.
    pub(super) fn answer_key(&mut self, node: NodeId, request: HandshakeRequest) {
        let env = &mut self.env;
        let Some(shared) = self.nodes.shared(node).cloned() else { return };
        let Some(index) = self.sessions.session_to_rekey(node, &request) else {
            return self.handshakes.ignore(node);
        };
        let trying = self.handshakes.is_rekeying(node, index);
        let numbers = (request.peer_boot(), request.attempt());
        match self.sessions.judge(&shared, request.peer(), trying, numbers) {
            InitVerdict::Answer => {}
            InitVerdict::AnswerAndCancelOwn => {
                self.handshakes.drop_attempt(env, node, index);
                self.sessions.rekey_yields(env, index);
            }
            InitVerdict::Ignore => return self.handshakes.ignore(node),
            InitVerdict::Stale => return self.handshakes.refuse_stale(env, node, &request),
        }
        self.handshakes.answer_key(env, node, request, index);
    }

    pub(super) fn answer_hello(&mut self, node: NodeId, hello: Hello) {
        self.handshakes.answer_hello(&mut self.env, &mut self.shards, node, hello);
    }

    /// A peer that knew the node's address only has shown its identity.
    pub(super) fn peer_joined(&mut self, node: NodeId, outcome: Box<HandshakeOutcome>, from: SocketAddr) {
        if self.catalogue.may_meet(node, outcome.peer, &self.env.limits) {
            self.session_ready(node, *outcome, from);
        } else {
            self.shards.free_index(outcome.local_index);
        }
    }

    /// A handshake gave the keys of a session.
    pub(super) fn session_ready(&mut self, node: NodeId, outcome: HandshakeOutcome, from: SocketAddr) {
        match (self.nodes.shared(node), self.nodes.session_config(node)) {
            (Some(node), Some(config)) => {
                self.sessions.install(&mut self.env, node, config.clone(), outcome, from);
            }
            _ => self.shards.free_index(outcome.local_index),
        }
    }

    /// The session is the current one with its peer: records are exchanged, and what waited for it goes on.
    pub(super) fn session_current(&mut self, index: ReceiverIndex, node: NodeId, peer: PeerId) {
        let has_tickets = !self.nodes.tickets(node).is_empty();
        self.catalogue.session_current(&mut self.env, index, has_tickets);
        self.handshakes.peer_reached(&mut self.env, node, peer);
        self.apply_effects();
        self.send_news(index);
        self.subscriptions.session_there(node, peer);
    }

    /// Sends the records and tickets that the peer of this session has yet to be sent.
    pub(super) fn send_news(&mut self, index: ReceiverIndex) {
        let Some((node, _)) = self.sessions.ends(index) else { return };
        let has_room = self.shards.has_room(index.shard());
        self.catalogue.send_news(&mut self.env, index, self.nodes.tickets(node), has_room);
    }

    /// Before something is asked of a peer: makes sure that it knows this node as it is now.
    pub(super) fn tell_about_us(&mut self, index: ReceiverIndex) {
        if self.catalogue.owes_us(index) {
            self.send_news(index);
        }
    }

    /// The key of a session should be replaced. Tried until it is, or until the session ends.
    pub(super) fn rekey(&mut self, index: ReceiverIndex) {
        let Some(plan) = self.sessions.rekey_plan(&mut self.env, index) else { return };
        let (node, peer) = (plan.node, plan.peer);
        let record = self.catalogue.record(node, peer);
        let known = record.and_then(|record| Some(record.transport_keys.first()?.key));
        let new = NewHandshake {
            purpose: HandshakePurpose::Rekey(index),
            target: Target::Known { peer, key: known.unwrap_or(plan.key) },
            source: plan.source,
            to: plan.to,
            generation: plan.generation,
        };
        if self.handshakes.has_attempt(node, index)
            || !self.handshakes.begin(&mut self.env, &mut self.shards, node, new)
        {
            self.sessions.rekey_later(&mut self.env, index);
        }
    }

    /// A shard has let go of a session.
    pub(super) fn session_closed(&mut self, index: ReceiverIndex, code: CloseCode, by_peer: bool) {
        let env = &mut self.env;
        let Some(gone) = self.sessions.closed(env, index, code) else { return };
        let (node, peer) = (gone.node, gone.peer);
        self.handshakes.session_gone(env, (node, peer), index, gone.disconnected);
        self.catalogue.session_gone(env, index);
        if gone.disconnected {
            self.catalogue.disconnected(node, peer);
            // A peer that closes the session for this reason lives; it has only not heard this node.
            if !by_peer && matches!(code, CloseCode::PEER_LOST | CloseCode::PEER_GONE) {
                self.catalogue.lost(node, peer);
            }
            self.session_missed(node, peer);
            self.env.effects.push(Effect::RecordChanged(node, peer));
        }
        self.env.effects.push(Effect::ForgetPeerIfIdle(node, peer));
        self.env.effects.push(Effect::MayHaveDrained(node));
    }

    /// There is no session with a peer that one may be needed with.
    fn session_missed(&mut self, node: NodeId, peer: PeerId) {
        self.env.effects.ensure_timer(Timer::Dial(node, peer), self.env.now + MISSED_PAUSE);
    }

    /// A shard is gone, with everything on it.
    pub(super) fn shard_stopped(&mut self, shard: u8) {
        self.shards.stop(shard);
        for index in self.sessions.on_shard(shard) {
            self.session_closed(index, CloseCode::PEER_LOST, false);
            self.apply_effects();
        }
        self.shutdown.step(&mut self.env, self.nodes.len(), self.shards.all_stopped());
    }

    /// The entry of a peer is different.
    pub(super) fn peer_changed(&mut self, node: NodeId, before: &PeerInfo, now: &PeerInfo) {
        let peer = now.peer_id();
        if before.addresses() != now.addresses() && self.sessions.current(node, peer).is_none() {
            self.handshakes.peer_moved(&mut self.env, node, peer);
            self.apply_effects();
        }
        self.subscriptions.producer_changed(node, before, now);
        self.review_peer(node, peer);
    }

    /// Asks the predicates again about everything that connects a node with a peer.
    pub(super) fn review_peer(&mut self, node: NodeId, peer: PeerId) {
        if !self.catalogue.may_review(&mut self.env, node, peer) {
            return;
        }
        let inbound = self.subscriptions.active_from(node, peer);
        for key in self.publications.channels_to(node, peer) {
            self.review_outbound(key);
        }
        for key in inbound {
            self.review_inbound(key);
        }
    }

    /// Forgets a peer of which nothing is known and with which nothing is going on.
    pub(super) fn forget_peer_if_idle(&mut self, node: NodeId, peer: PeerId) {
        let busy = self.sessions.has_any_with(node, peer)
            || self.handshakes.attempt_with(node, peer).is_some()
            || self.subscriptions.want(node, peer);
        if !busy && self.catalogue.forget_peer(&mut self.env, node, peer) {
            self.sessions.forget_peer(node, peer);
            self.handshakes.forget_peer(node, peer);
        }
    }
}

// Ends.
impl Clerk {
    /// A node is to leave.
    pub(super) fn leave(&mut self, node: NodeId, drain: Duration) {
        // It may be forgotten already: it is asked by its last handle and by the engine's.
        let Some(shared) = self.nodes.shared(node).cloned() else { return };
        if !self.shutdown.leave(&mut self.env, node, drain) {
            return;
        }
        shared.leaving.set(true);
        self.nodes.record_stale(node);
        self.handshakes.node_leaves(&mut self.env, node);
        for publication in self.publications.handles_of(node) {
            publication.ring.close();
            shared.forget_publication(&publication);
            self.publications.unpublish(&mut self.env, publication.key);
            self.apply_effects();
            drop_contained(publication);
        }
        // The last record goes out before the sessions are closed.
        self.renew_record(node);
    }

    pub(super) fn leave_due(&mut self, node: NodeId) {
        let (drained, sessions) = (self.publications.have_drained(node), self.sessions.any_of(node));
        self.shutdown.leave_due(&mut self.env, node, drained, sessions);
    }

    /// Ends everything that a node still has.
    pub(super) fn close_node(&mut self, node: NodeId, drained: bool) {
        let env = &mut self.env;
        self.shutdown.node_closes(env, node, drained);
        for key in self.subscriptions.keys_of(node) {
            self.subscriptions.end(env, key);
        }
        self.publications.give_up(env, node);
        for shard in self.shards.numbers() {
            env.effects.send(shard, Command::RemoveNode { node });
        }
    }

    /// Forgets a node of which nothing is left on any shard, or is waited for.
    pub(super) fn forget_node(&mut self, node: NodeId) {
        for index in self.sessions.abandon_node(&mut self.env, node) {
            self.catalogue.session_gone(&mut self.env, index);
            self.handshakes.drop_attempt(&mut self.env, node, index);
        }
        self.apply_effects();
        let env = &mut self.env;
        let Some(shared) = self.nodes.remove(env, node) else { return };
        assert!(self.subscriptions.keys_of(node).is_empty(), "they end when the node is closed");
        self.handshakes.forget_node(env, node);
        self.members.forget_node(env, node);
        self.catalogue.forget_node(env, node);
        let missing = self.publications.forget_node(env, node);
        let delivered = self.shutdown.node_gone(env, node, missing);
        shared.presence.show(Presence::Left(delivered));
        registry::leave(&shared);
        self.beacons.leave(node);
        shared.end_changes();
        self.port.release_node();
        for (leg, channel) in self.legs.of_consumer(node) {
            self.publications.consumer_left(env, channel.publication, leg);
        }
        self.shutdown.step(env, self.nodes.len(), self.shards.all_stopped());
    }

    /// The engine is to end.
    pub(super) fn begin_shutdown(&mut self, drain: Duration) {
        if !self.shutdown.begin(&mut self.env, drain) {
            return;
        }
        for node in self.nodes.ids() {
            self.leave(node, drain);
        }
        self.shutdown.step(&mut self.env, self.nodes.len(), self.shards.all_stopped());
    }

    pub(super) fn stop_shards(&mut self, deadline: Instant) {
        for shard in self.shards.numbers() {
            self.shards.send(shard, Command::Shutdown { deadline });
        }
        self.shutdown.step(&mut self.env, self.nodes.len(), self.shards.all_stopped());
    }

    /// The end. A request that comes from now on is refused.
    pub(super) fn finish(&mut self) {
        self.shutdown.stopped(&mut self.env);
        for request in self.port.close() {
            // Streams and nodes of the last moment: their handles learn of the end.
            self.handle_request(request);
        }
        self.notices.send(&self.panics);
    }

    /// The clerk itself is broken: the handles learn of it, and the shards end by themselves, because the
    /// other ends of their mailboxes are gone.
    pub(crate) fn abandon(&mut self) {
        while let Some(effect) = self.env.effects.next(0) {
            drop_contained(effect);
        }
        self.shutdown.stopped(&mut self.env);
        for request in self.port.close() {
            self.turn_away(request);
        }
        self.publications.abandon(&mut self.env);
        self.subscriptions.abandon(&mut self.env);
        for node in self.nodes.abandon() {
            registry::leave(&node);
            node.presence.show(Presence::Left(Err(LeaveError::EngineStopped)));
            node.end_changes();
        }
        self.apply_effects();
        self.notices.send(&self.panics);
    }

    /// Answers a request that is not going to be handled.
    fn turn_away(&mut self, request: ClerkRequest) {
        let (of, on_change) = match &request {
            ClerkRequest::Join(join) => {
                join.shared.presence.show(Presence::Left(Err(LeaveError::EngineStopped)));
                (ChannelsOf::Publication, None)
            }
            ClerkRequest::Publish(publication) => {
                publication.ring.close();
                (ChannelsOf::Publication, publication.spec.on_change.as_ref())
            }
            ClerkRequest::Subscribe(subscription) => {
                subscription.close();
                (ChannelsOf::Subscription, subscription.spec.on_change.as_ref())
            }
            ClerkRequest::Flush(publication, flush) => {
                flush.begin(Vec::new(), publication.undelivered.lock().clone());
                (ChannelsOf::Publication, None)
            }
            // What these are about ends by itself, or is ended by the caller.
            ClerkRequest::Changed(_)
            | ClerkRequest::Leave { .. }
            | ClerkRequest::Unpublish(_)
            | ClerkRequest::Full(_)
            | ClerkRequest::Unsubscribe(_)
            | ClerkRequest::LegDropped(_)
            | ClerkRequest::Resolved { .. }
            | ClerkRequest::AddPeer { .. }
            | ClerkRequest::Shutdown { .. } => (ChannelsOf::Publication, None),
        };
        self.env.effects.notify(of, on_change);
        drop_contained(request);
    }
}
