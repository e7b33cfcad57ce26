//! The control thread: never on a datum's way.
//!
//! The clerk is a state machine. Its inputs are the time, the requests of handles, the events of shards and
//! random bytes; its outputs are commands to shards and calls of the user's closures. One sequence of inputs
//! gives one sequence of outputs, on a thread or in the simulator.
//!
//! The state is in components. Each owns its tables and handles one input at a time; what it wants done
//! elsewhere it pushes as an `Effect`. [`Clerk`] routes inputs and effects to the components, and is the only
//! one that knows them all.
//!
//! Not inside: sockets, clocks, threads, and protocol rules (`corewire-proto`).
//!
//! | component | owns |
//! |---|---|
//! | `nodes` | the nodes of this engine, and what each announces about itself |
//! | `handshakes` | handshakes in progress, and when a peer or address is dialled again |
//! | `sessions` | sessions, which one with a peer is current, their keys and their channels |
//! | `catalogue` | records and tickets of peers, and which have to be sent to whom |
//! | `members` | which peers without a session are there |
//! | `publications` | what is published here, its consumers, and who keeps a ring full |
//! | `subscriptions` | the producers that each subscription wants, and when they are tried again |
//! | `local_legs` | channels whose two ends live in this engine |
//! | `shutdown` | how far the ends of nodes and of the engine are |
//! | `shards` | the mailboxes of the shards, and which receiver indices are free |
//! | `timers` | the deadlines of all the others |
//!
//! | file | answers |
//! |---|---|
//! | `effect`, `env` | what a component may cause, and what it is given |
//! | `lifecycle` | nodes, peers and sessions as far as they concern several components |
//! | `connecting`, `membership` | channels, and membership, likewise |
//! | `notice`, `bucket` | how the user's closures are called; a token bucket |

mod bucket;
mod catalogue;
mod connecting;
mod effect;
mod env;
mod handshakes;
mod lifecycle;
mod local_legs;
mod members;
mod membership;
mod nodes;
mod notice;
mod publications;
mod sessions;
mod shards;
mod shutdown;
mod subscriptions;
#[cfg(test)]
mod testing;
mod timers;

use std::{fmt, sync::Arc, task::Context, time::Duration};

use corewire_proto::{channel::Resume, time::Instant, wire::header::PacketKind};
use corewire_rings::mailbox;
use corewire_rings::sync::EventCounter;

use self::{
    catalogue::Catalogue,
    effect::Effect,
    env::Env,
    handshakes::Handshakes,
    local_legs::LocalLegs,
    members::Members,
    nodes::NodeTable,
    notice::{Notices, drop_contained},
    publications::Publications,
    sessions::{ChannelOwner, Sessions},
    shards::Shards,
    shutdown::Shutdown,
    subscriptions::Subscriptions,
    timers::{Deadlines, Timer},
};
use crate::{
    beacon::Beacons,
    shard::{Command, Event, Inbox},
    shared::{
        Next,
        counters::count,
        keys::OpenId,
        limits::{CLERK_TIMERS_PER_TURN, EVENTS_PER_TURN, Limits, REQUESTS_PER_TURN, Times},
        port::{ClerkRequest, RequestPort},
    },
};

/// Fills a buffer with random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// The time since 1970, at a moment of the drivers' clock.
pub type Calendar = Box<dyn Fn(Instant) -> Duration + Send>;

/// The clerk's ends of the mailboxes of one shard.
pub(crate) struct ShardLink {
    pub(crate) commands: mailbox::Sender<Command>,
    pub(crate) events: mailbox::Receiver<Event>,
}

/// What a clerk is made of.
pub(crate) struct ClerkParts {
    pub(crate) limits: Limits,
    pub(crate) times: Times,
    pub(crate) entropy: Entropy,
    pub(crate) calendar: Calendar,
    pub(crate) port: Arc<RequestPort>,
    pub(crate) shards: Vec<ShardLink>,
    pub(crate) beacons: Beacons,
}

/// How much a clerk keeps. Every number goes back to zero when all handles are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Nodes.
    pub nodes: usize,
    /// Peers, of all nodes.
    pub peers: usize,
    /// Sessions.
    pub sessions: usize,
    /// Receiver indices in use, by sessions and by handshakes.
    pub indices: usize,
    /// Channels of all sessions, open or asked for.
    pub channels: usize,
    /// Channels within this engine.
    pub legs: usize,
    /// Deadlines.
    pub timers: usize,
    /// Panics of the closures that handles are notified by, since the start.
    pub panics: u64,
}

/// The clerk: routes inputs to its components, and their effects to where they belong.
pub struct Clerk {
    env: Env,
    port: Arc<RequestPort>,
    shards: Shards,
    timers: Deadlines,
    nodes: NodeTable,
    handshakes: Handshakes,
    sessions: Sessions,
    catalogue: Catalogue,
    members: Members,
    publications: Publications,
    subscriptions: Subscriptions,
    legs: LocalLegs,
    shutdown: Shutdown,
    /// The thread that sends and hears beacons.
    beacons: Beacons,
    /// What to call at the end of the turn.
    notices: Notices,
    /// Panics in notices, which belong to no stream in particular.
    panics: EventCounter,
}

impl Clerk {
    pub(crate) fn new(parts: ClerkParts) -> Self {
        let ClerkParts { limits, times, entropy, calendar, port, shards, beacons } = parts;
        Self {
            env: Env::new(limits, times, entropy, calendar),
            port,
            shards: Shards::new(shards, &limits),
            timers: Deadlines::default(),
            nodes: NodeTable::default(),
            handshakes: Handshakes::default(),
            sessions: Sessions::default(),
            catalogue: Catalogue::default(),
            members: Members::default(),
            publications: Publications::default(),
            subscriptions: Subscriptions::default(),
            legs: LocalLegs::default(),
            shutdown: Shutdown::default(),
            beacons,
            notices: Notices::default(),
            panics: EventCounter::default(),
        }
    }

    /// Does what there is to do, each kind up to its bound. Never waits, unless a closure of the user's does.
    pub fn turn(&mut self, now: Instant) -> Next {
        if self.is_stopped() {
            return Next::Idle;
        }
        self.env.now = self.env.now.max(now);
        self.shards.flush();
        let mut again = false;
        for taken in 1..=REQUESTS_PER_TURN {
            let Some(request) = self.port.take() else { break };
            again |= taken == REQUESTS_PER_TURN;
            self.handle_request(request);
        }
        for shard in 0..self.shards.len() {
            for taken in 1..=EVENTS_PER_TURN {
                let Some(event) = self.shards.next_event(shard) else { break };
                again |= taken == EVENTS_PER_TURN;
                self.handle_event(event);
                self.apply_effects();
            }
            if self.shards.has_vanished(shard) {
                self.shard_stopped(u8::try_from(shard).unwrap_or(u8::MAX));
                self.apply_effects();
            }
        }
        for taken in 1..=CLERK_TIMERS_PER_TURN {
            let Some(timer) = self.timers.pop_due(self.env.now) else { break };
            again |= taken == CLERK_TIMERS_PER_TURN;
            self.handle_timer(timer);
            self.apply_effects();
        }
        again |= self.end_turn();
        self.shards.flush();
        // When stopped, another turn makes the caller see it before it would sleep.
        if again || self.is_stopped() {
            return Next::Again;
        }
        let wishes = [self.timers.next(), self.shards.wish(self.env.now)];
        wishes.into_iter().flatten().min().map_or(Next::Idle, Next::Until)
    }

    /// Announces a sleep: from now on a request or an event wakes `cx`. `false`: there is work already.
    pub fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        if self.port.bell().arm(cx.waker()) && self.shards.arm(cx) && self.port.is_empty() {
            return true;
        }
        self.port.bell().disarm();
        false
    }

    /// Whether everything has ended. Another turn would do nothing.
    pub fn is_stopped(&self) -> bool {
        self.shutdown.is_stopped()
    }

    /// How much the clerk keeps.
    pub fn load(&self) -> Load {
        Load {
            nodes: self.nodes.len(),
            peers: self.catalogue.peers(),
            sessions: self.sessions.len(),
            indices: self.shards.used(),
            channels: self.sessions.channels(),
            legs: self.legs.len(),
            timers: self.timers.len(),
            panics: self.panics.get(),
        }
    }

    /// Does once what several inputs of a turn may have asked for. `true` when there is more to do.
    fn end_turn(&mut self) -> bool {
        // First what nodes announce: what is asked of peers below is judged by it.
        for node in self.nodes.stale() {
            self.renew_record(node);
            self.apply_effects();
        }
        for _ in 0..CLERK_TIMERS_PER_TURN {
            let Some(key) = self.subscriptions.next_fresh() else { break };
            self.advance(key);
            self.subscriptions.looked_at(&mut self.env, key.subscription);
            self.apply_effects();
        }
        for node in self.catalogue.stale_nodes() {
            self.catalogue.show(node);
            self.publications.notify_of_peers(&mut self.env, node);
            self.subscriptions.notify_of_peers(&mut self.env, node);
            self.apply_effects();
        }
        let notified = self.notices.send(&self.panics);
        self.subscriptions.has_fresh() || (notified && !self.port.is_empty())
    }

    fn handle_request(&mut self, request: ClerkRequest) {
        let env = &mut self.env;
        match request {
            ClerkRequest::Join(join) => self.join(*join),
            ClerkRequest::Changed(node) => self.node_changed(node),
            ClerkRequest::Resolved { node, place, found } => {
                self.handshakes.resolved(env, node, place, found);
            }
            ClerkRequest::AddPeer { node, target } => {
                if let Some(place) = self.handshakes.add_bootstrap(env, node, target) {
                    self.bootstrap(node, place);
                }
            }
            ClerkRequest::Leave { node, drain } => self.leave(node, drain),
            ClerkRequest::Publish(publication) => self.publish(publication),
            ClerkRequest::Unpublish(publication) => {
                self.publications.unpublish(env, publication.key);
                drop_contained(publication);
            }
            ClerkRequest::Full(publication) => {
                self.publications.ring_is_full(env, publication.key);
                drop_contained(publication);
            }
            ClerkRequest::Flush(publication, flush) => {
                self.publications.flush(env, &publication, flush);
                drop_contained(publication);
            }
            ClerkRequest::Subscribe(subscription) => self.subscribe(subscription),
            ClerkRequest::Unsubscribe(subscription) => {
                self.subscriptions.end(env, subscription.key);
                drop_contained(subscription);
            }
            ClerkRequest::LegDropped(leg) => self.leg_dropped(leg),
            ClerkRequest::Shutdown { drain } => self.begin_shutdown(drain),
        }
        self.apply_effects();
    }

    fn handle_event(&mut self, event: Event) {
        let env = &mut self.env;
        match event {
            Event::Handshake { node, shard, from, at, bytes } => {
                let leaving = self.shutdown.is_leaving(node);
                env.called_at = at;
                if bytes.first().and_then(|byte| PacketKind::from_first_byte(*byte))
                    == Some(PacketKind::Member)
                {
                    self.member_packet(node, from, &bytes);
                } else {
                    let has_session = || self.sessions.is_peer_at(node, from);
                    self.handshakes.handle_packet(env, (node, shard), from, &bytes, leaving, has_session);
                }
                self.apply_effects();
                self.env.called_at = None;
            }
            Event::Unreachable { node, to, fault } => self.handshakes.handle_fault(env, node, to, fault),
            Event::Confirmed { index } => {
                if let Some((node, _)) = self.sessions.ends(index) {
                    self.handshakes.session_confirmed(env, node, index);
                    self.sessions.confirmed(env, index);
                }
            }
            // The session's own timers decide what follows.
            Event::Suspect { index, .. } => self.suspect(index, true),
            Event::Recovered { index } => self.suspect(index, false),
            Event::PeerMoved { index, source, to } => self.sessions.moved(index, source, to),
            Event::RekeyDue { index } => self.rekey(index),
            Event::Rekeyed { index, phase } => {
                let by_peer = self.sessions.rekeyed(env, index, phase);
                if let Some((node, _)) = self.sessions.ends(index)
                    && by_peer
                    && self.handshakes.is_rekeying(node, index)
                {
                    self.handshakes.drop_attempt(env, node, index);
                }
            }
            Event::SessionClosed { index, code, by_peer } => self.session_closed(index, code, by_peer),
            Event::Control { index, bytes } => self.catalogue.handle_control(env, index, &bytes),
            Event::ControlRefused { index, bytes } => self.catalogue.control_refused(env, index, &bytes),
            Event::ChannelRequested { index, label, request } => {
                self.channel_requested(index, label, &request);
            }
            Event::ChannelServed { index, label, first_seq } => {
                if let Some(ChannelOwner::Outbound(key)) = self.sessions.owner(index, label) {
                    self.publications.channel_served(env, key, first_seq);
                }
            }
            Event::Marked { index, label, seq } => {
                if let Some(ChannelOwner::Outbound(key)) = self.sessions.owner(index, label) {
                    self.publications.marked(env, key, seq);
                }
            }
            Event::ChannelAccepted { index, open_id, label, publication, first_seq, reader, taken } => {
                let (inbox, open_id) = (Inbox::remote(reader, taken), OpenId(open_id));
                match self.sessions.accepted(env, index, open_id, label) {
                    Some(key) => {
                        let start = Resume { publication, next_seq: first_seq };
                        self.subscriptions.channel_accepted(env, key, (index, open_id, label), start, inbox);
                    }
                    // Not wanted any more: dropping the inbox resets the channel.
                    None => drop(inbox),
                }
            }
            Event::ChannelRejected { index, open_id, code } => {
                if let Some(key) = self.sessions.rejected(env, index, OpenId(open_id)) {
                    self.subscriptions.channel_ended(env, key, code);
                }
            }
            Event::ChannelClosed { index, label, code, parked } => {
                if let Some(owner) = self.sessions.channel_closed(env, index, label) {
                    env.effects.push(Effect::ChannelLost(owner, code, parked));
                }
            }
            Event::SocketRefused { node, .. } => {
                // What is placed on that shard fails, and is tried again elsewhere.
                if let Some(node) = self.nodes.shared(node) {
                    count(&node.counters.sockets_refused);
                }
            }
            Event::ShardStopped { shard, .. } => self.shard_stopped(shard),
        }
    }

    fn handle_timer(&mut self, timer: Timer) {
        let env = &mut self.env;
        match timer {
            Timer::Attempt(node, index) => self.handshakes.attempt_due(env, node, index),
            Timer::Responder(node) => self.handshakes.responder_due(env, node),
            Timer::Dial(node, peer) => self.dial(node, peer),
            Timer::Bootstrap(node, place) => self.bootstrap(node, place),
            Timer::Review(node, peer) => self.review_peer(node, peer),
            Timer::Slots(node, peer) => self.sessions.slots_due(env, node, peer),
            Timer::RetryProducer(key) => self.subscriptions.retry_due(key),
            Timer::Unanswered(key) => self.subscriptions.unanswered(env, key),
            Timer::Accepted(key) => self.review_inbound(key),
            Timer::Rank(key) => self.rank(key),
            Timer::Admitted(key) => self.review_outbound(key),
            Timer::Refused(publication) => self.publications.refusal_over(env, publication),
            Timer::Detach(leg) => self.detach(leg),
            Timer::Lagging(publication) => self.publications.lagging_due(env, publication),
            Timer::Places(publication) => self.publications.places_due(env, publication),
            Timer::Records(node) => {
                self.nodes.record_stale(node);
                self.catalogue.expire(env, node);
            }
            Timer::Members(node) => self.members_due(node),
            Timer::Exchange(index) => self.send_news(index),
            Timer::Rekey(index) => self.rekey(index),
            Timer::Leave(node) => self.leave_due(node),
            Timer::Shutdown => self.shutdown.due(env, self.nodes.ids()),
        }
    }

    /// Applies every effect that was pushed since the last call, in order, and what these push in turn.
    fn apply_effects(&mut self) {
        let level = self.env.effects.level();
        while let Some(effect) = self.env.effects.next(level) {
            self.apply(effect);
        }
    }

    fn apply(&mut self, effect: Effect) {
        let env = &mut self.env;
        match effect {
            Effect::Send(shard, command) => self.shards.send(shard, command),
            Effect::SendDatagram(shard, command) => self.shards.send_datagram(shard, command),
            Effect::FreeIndex(index) => self.shards.free_index(index),
            Effect::SetTimer(timer, at) => self.timers.set(timer, at),
            Effect::EnsureTimer(timer, at) => self.timers.ensure(timer, at),
            Effect::CancelTimer(timer) => self.timers.cancel(timer),
            Effect::Notify(of, hook) => self.notices.add(of, hook),
            Effect::Tell(notice) => self.notices.add_event(notice),

            Effect::Dial(node, peer) => self.dial(node, peer),
            Effect::RequestedSession(node, request) => self.answer_session(node, *request),
            Effect::RequestedKey(node, request) => self.answer_key(node, *request),
            Effect::AnswerHello(node, hello) => self.answer_hello(node, *hello),
            Effect::PeerJoined { node, outcome, from } => self.peer_joined(node, outcome, from),
            Effect::SessionReady { node, outcome, from } => self.session_ready(node, *outcome, from),
            Effect::KeyReady(outcome) => self.sessions.key_ready(env, *outcome),
            Effect::KeyAnswered(outcome) => self.sessions.key_answered(env, *outcome),
            Effect::RekeyFailed(index) => self.sessions.rekey_later(env, index),
            Effect::PeerUnreachable(node, peer) => self.subscriptions.peer_unreachable(env, node, peer),

            Effect::SessionInstalled(index, node, peer) => {
                self.catalogue.session_installed(env, index, node, peer);
            }
            Effect::SessionCurrent(index, node, peer) => self.session_current(index, node, peer),
            Effect::SessionRetired(index) => self.catalogue.session_retired(index),
            Effect::SessionClosing(index) => self.catalogue.session_closing(index),
            Effect::CloseSession(index, code) => self.sessions.close(env, index, code),
            Effect::ChannelLost(ChannelOwner::Inbound(key), code, _) => {
                self.subscriptions.channel_ended(env, key, code);
            }
            Effect::ChannelLost(ChannelOwner::Outbound(key), code, parked) => {
                self.publications.channel_ended(env, key, code, parked);
            }
            Effect::AnswerOpen(open) => self.channel_requested(open.index, open.label, &open.request),

            Effect::RecordRenewed(node, record) => self.announce(node, *record),
            Effect::OwnRecordSeen(node, version) => self.nodes.supersede_record(env, node, version),
            Effect::PeerChanged { node, before, now } => self.peer_changed(node, &before, &now),
            Effect::RecordChanged(node, peer) => self.record_changed(node, peer),
            Effect::SendToMember(node, to, bytes) => self.send_to_member(node, to, bytes),
            Effect::MemberEvent(node, event) => self.member_event(node, *event),
            Effect::PeerKnowsUs(node, peer) => self.subscriptions.reconsider_refused(node, peer),
            Effect::ForgetPeerIfIdle(node, peer) => self.forget_peer_if_idle(node, peer),

            Effect::RecordStale(node) => self.nodes.record_stale(node),
            Effect::StreamAppeared(node, stream) => self.stream_appeared(node, stream),
            Effect::StreamOffered(node, peer, stream) => {
                self.subscriptions.stream_offered(env, node, peer, &stream);
            }
            Effect::MayHaveDrained(node) => self.shutdown.check(env, node),
            Effect::DeliveryFailed(node, missing) => self.shutdown.delivery_failed(node, missing),

            Effect::TellAboutUs(index) => self.tell_about_us(index),
            Effect::OpenChannel(open) => {
                self.subscriptions.asked(open.key);
                self.sessions.open_channel(env, *open);
            }
            Effect::WithdrawOpen(index, open_id) => self.sessions.withdraw_open(env, index, open_id),
            Effect::ResetChannel(index, label, code) => self.sessions.reset_channel(env, index, label, code),
            Effect::EndLeg(leg, code, how) => self.end_leg(leg, code, how),
            Effect::DetachLeg(leg) => self.detach(leg),

            Effect::CloseNode(node, drained) => self.close_node(node, drained),
            Effect::ForgetNode(node) => self.forget_node(node),
            Effect::StopShards(deadline) => self.stop_shards(deadline),
            Effect::Finish => self.finish(),
        }
    }
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clerk")
            .field("load", &self.load())
            .field("stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
