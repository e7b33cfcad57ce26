//! Sessions, from their keys to their end, and the channels in them.
//!
//! Not inside:
//! - the packets of a session (the shards);
//! - which of several sessions with one peer is current (the protocol's slots decide).

mod channels;
mod rekey;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use corewire_proto::{
    PeerId,
    channel::Label,
    handshake::{EstablishedSession, HandshakeOutcome, InitVerdict, PeerSessions, PeerSessionsConfig},
    ordered::{OrderedMap, OrderedSet},
    seal::{KEY_SOFT_AGE, KeyBytes},
    session::{BASE_PACKET_BYTES, CloseCode, SessionConfig},
    time::Instant,
    wire::header::ReceiverIndex,
};

use super::{
    effect::{ChannelOpen, Effect},
    env::Env,
    timers::Timer,
};
use crate::{
    shard::{Command, Install, NodeId},
    shared::{
        counters::count,
        keys::{InboundKey, OpenId, OutboundKey},
        node::NodeShared,
        path::{PathShared, PathStats},
    },
};

/// Sessions with one peer that are kept for their last channels after another one took their place.
const RETIRED_EACH: usize = 2;

/// Requests for channels that are under way on one session. With more, the first would wait for the last: all
/// of them share the session's control stream and the time of the peer's clerk.
const OPENS_UNANSWERED: usize = 256;

/// The sessions of this engine.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Inputs for a session that is not here were on their way when it ended, and are ignored.
    sessions: OrderedMap<ReceiverIndex, SessionState>,
    /// The address of each of `sessions`.
    addresses: OrderedSet<(NodeId, SocketAddr, ReceiverIndex)>,
    /// The protocol's view of all sessions with one peer.
    slots: OrderedMap<(NodeId, PeerId), PeerSessions>,
    /// Sessions that are not waited for any more. Their shard still has to give the index back.
    orphans: OrderedSet<ReceiverIndex>,
}

/// A session that a shard owns or is about to own.
struct SessionState {
    node: Arc<NodeShared>,
    peer: PeerId,
    /// The address of this host that the peer has called, if it has called and there are several.
    source: Option<IpAddr>,
    /// Where the peer is.
    address: SocketAddr,
    /// The index that the peer gave it.
    remote: ReceiverIndex,
    /// The peer's boot number.
    boot: u64,
    /// The transport key that the peer has shown.
    key: [u8; 32],
    /// What its shard has measured.
    path: Arc<PathShared>,
    /// Of the key that is in use: 0 for the first (see `corewire_proto::handshake::next_key`).
    generation: u16,
    /// When the peer was given its next key, while it does not use it yet.
    answered: Option<Instant>,
    phase: SessionPhase,
    /// It was told to close.
    closing: bool,
    /// Channels that are open, of either side.
    channels: OrderedMap<Label, ChannelOwner>,
    /// Channels that were asked for on it. At most [`OPENS_UNANSWERED`].
    opens: OrderedMap<OpenId, InboundKey>,
    /// Channels that are to be asked for, in order, once some of those before are answered.
    opens_waiting: OrderedMap<OpenId, ChannelOpen>,
}

/// How far a session is among those with its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionPhase {
    /// It has not been current.
    New,
    /// It is current, or was and waits to be retired.
    Greeted,
    /// Another one took its place; it is closed with its last channel.
    Retired,
}

/// Whose channel a label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelOwner {
    /// A subscription's, from a producer.
    Inbound(InboundKey),
    /// A publication's, to a consumer.
    Outbound(OutboundKey),
}

impl SessionState {
    /// Whether new channels may be begun on it.
    fn is_usable(&self) -> bool {
        self.phase == SessionPhase::Greeted && !self.closing
    }

    fn has_channels(&self) -> bool {
        !self.channels.is_empty() || !self.opens.is_empty() || !self.opens_waiting.is_empty()
    }
}

/// What the slots of a peer say to one that wants to dial it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DialView {
    /// There is a current session.
    pub(crate) connected: bool,
    /// Since when a session that the peer began waits to be confirmed.
    pub(crate) pending_since: Option<Instant>,
    /// The generation of a handshake that is begun now.
    pub(crate) generation: u16,
}

/// A session that is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoneSession {
    pub(crate) node: NodeId,
    pub(crate) peer: PeerId,
    /// There is no current session with the peer.
    pub(crate) disconnected: bool,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The node and the peer of a session that is not gone.
    pub(crate) fn ends(&self, index: ReceiverIndex) -> Option<(NodeId, PeerId)> {
        self.sessions.get(&index).map(|session| (session.node.id, session.peer))
    }

    /// The session with a peer on which something new may be begun.
    pub(crate) fn current(&self, node: NodeId, peer: PeerId) -> Option<ReceiverIndex> {
        self.slots.get(&(node, peer))?.current().map(|entry| entry.local_index)
    }

    /// The addresses of this host and of the peer between which the current session goes.
    pub(crate) fn route(&self, node: NodeId, peer: PeerId) -> Option<(Option<IpAddr>, SocketAddr)> {
        let session = self.sessions.get(&self.current(node, peer)?)?;
        Some((session.source, session.address))
    }

    /// What one that wants to dial the peer has to know.
    pub(crate) fn dial_view(&self, node: NodeId, peer: PeerId) -> DialView {
        self.slots.get(&(node, peer)).map_or_else(DialView::default, |slots| DialView {
            connected: slots.current().is_some(),
            pending_since: slots.next().map(|entry| entry.since),
            generation: slots.next_generation(),
        })
    }

    /// Where the peer of a session is, and what was measured about the path to it.
    pub(crate) fn path(&self, index: ReceiverIndex) -> Option<(SocketAddr, PathStats)> {
        self.sessions.get(&index).map(|session| (session.address, session.path.read()))
    }

    /// A session of the node to this address that has been current, if there is one.
    pub(crate) fn at_address(&self, node: NodeId, to: SocketAddr) -> Option<ReceiverIndex> {
        self.with_address(node, to).find(|(_, session)| session.is_usable()).map(|(index, _)| index)
    }

    /// Whether a session of the node to this address has been current and goes on.
    pub(crate) fn is_peer_at(&self, node: NodeId, address: SocketAddr) -> bool {
        let goes_on = |session: &SessionState| session.phase != SessionPhase::New && !session.closing;
        self.with_address(node, address).any(|(_, session)| goes_on(session))
    }

    fn with_address(
        &self,
        node: NodeId,
        address: SocketAddr,
    ) -> impl Iterator<Item = (ReceiverIndex, &SessionState)> {
        let indices = self.addresses.range((node, address, ReceiverIndex::NONE)..);
        let indices = indices.take_while(move |(of, at, _)| (*of, *at) == (node, address));
        indices.filter_map(|(.., index)| Some((*index, self.sessions.get(index)?)))
    }

    /// Whether there are sessions of this node.
    pub(crate) fn any_of(&self, node: NodeId) -> bool {
        self.sessions.values().any(|session| session.node.id == node)
    }

    /// Whether something is kept about sessions with this peer.
    pub(crate) fn has_any_with(&self, node: NodeId, peer: PeerId) -> bool {
        self.slots.get(&(node, peer)).is_some_and(|slots| !slots.is_empty())
    }

    fn slots_mut(&mut self, node: &NodeShared, peer: PeerId) -> &mut PeerSessions {
        self.slots.get_or_insert_with((node.id, peer), || {
            PeerSessions::new(node.peer_id, peer, PeerSessionsConfig::default())
        })
    }

    /// What is to be done with a handshake that the peer began. `trying`: whether one that was begun here
    /// waits.
    pub(crate) fn judge(
        &mut self,
        node: &NodeShared,
        peer: PeerId,
        trying: bool,
        (boot, attempt): (u64, u32),
    ) -> InitVerdict {
        self.slots_mut(node, peer).judge_init(trying, boot, attempt)
    }

    /// Gives the keys of a finished handshake to the shard that its index names.
    pub(crate) fn install(
        &mut self,
        env: &mut Env,
        node: &Arc<NodeShared>,
        mut config: SessionConfig,
        outcome: HandshakeOutcome,
        to: SocketAddr,
    ) {
        let (index, peer, now) = (outcome.local_index, outcome.peer, env.now);
        let entry = EstablishedSession::new(&outcome, now);
        let jitter = 0.9 + env.chance() / 5.0;
        count(&node.counters.handshakes_finished);
        count(&node.counters.sessions_opened);
        let theirs = usize::try_from(outcome.peer_limits.max_packet_bytes).unwrap_or(usize::MAX);
        config.max_packet_bytes = config.max_packet_bytes.min(theirs.max(BASE_PACKET_BYTES));
        let theirs = usize::try_from(outcome.peer_limits.max_channels).unwrap_or(usize::MAX);
        config.limits.max_channels = config.limits.max_channels.min(theirs);
        // Peers that met at one moment shall not all want new keys at one moment.
        config.rekey_after = config.rekey_after.min(KEY_SOFT_AGE).mul_f64(jitter);
        let path = Arc::<PathShared>::default();
        let session = SessionState {
            node: node.clone(),
            peer,
            source: env.called_at,
            address: to,
            remote: outcome.remote_index,
            boot: outcome.peer_boot,
            key: outcome.peer_static,
            path: path.clone(),
            generation: 0,
            answered: None,
            phase: SessionPhase::New,
            closing: false,
            channels: OrderedMap::new(),
            opens: OrderedMap::new(),
            opens_waiting: OrderedMap::new(),
        };
        let before = self.sessions.insert(index, session);
        assert!(before.is_none(), "an index in use is not given out");
        self.addresses.insert((node.id, to, index));
        let confirmed = outcome.confirmed;
        let remote_index = outcome.remote_index;
        let (source, keys) = (env.called_at, outcome.keys);
        let path_secret = KeyBytes::from_bytes(env.random());
        let node_id = node.id;
        let install =
            Install { index, remote_index, node: node_id, source, to, keys, path_secret, path, config };
        env.effects.send(index.shard(), Command::InstallSession(Box::new(install)));
        env.effects.push(Effect::SessionInstalled(index, node.id, peer));
        self.slots_mut(node, peer).handle_established(now, entry, confirmed);
        self.sort(env, node.id, peer);
    }

    /// Carries out what the slots of a peer have decided.
    fn sort(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        let Some(slots) = self.slots.get_mut(&(node, peer)) else { return };
        let retired: Vec<ReceiverIndex> = std::iter::from_fn(|| slots.poll_retired()).collect();
        let current = slots.current().copied();
        env.effects.set_or_cancel(Timer::Slots(node, peer), slots.poll_timeout());
        for index in retired {
            self.retire(env, index, current.map(|entry| entry.peer_boot));
        }
        if let Some(current) = current
            && let Some(session) = self.sessions.get_mut(&current.local_index)
            && session.phase == SessionPhase::New
        {
            session.phase = SessionPhase::Greeted;
            env.effects.push(Effect::SessionCurrent(current.local_index, node, peer));
        }
    }

    pub(crate) fn slots_due(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        if let Some(slots) = self.slots.get_mut(&(node, peer)) {
            slots.handle_timeout(env.now);
            self.sort(env, node, peer);
            env.effects.push(Effect::ForgetPeerIfIdle(node, peer));
        }
    }

    /// Another session took this one's place. It is closed, but not under channels that still work: the peer
    /// keeps it for as long, because it decides the same way. `boot` is the peer's number in the session that
    /// is current.
    fn retire(&mut self, env: &mut Env, index: ReceiverIndex, boot: Option<u64>) {
        // The slots may name a session that has just ended.
        let Some(session) = self.sessions.get_mut(&index) else { return };
        session.phase = SessionPhase::Retired;
        env.effects.push(Effect::SessionRetired(index));
        let (node, peer) = (session.node.id, session.peer);
        let useless = !session.has_channels() || boot.is_some_and(|boot| boot != session.boot);
        let is_retired = |other: &&SessionState| {
            other.node.id == node
                && other.peer == peer
                && other.phase == SessionPhase::Retired
                && !other.closing
        };
        if useless || self.sessions.values().filter(is_retired).count() > RETIRED_EACH {
            self.close(env, index, CloseCode::SUPERSEDED);
        }
    }

    /// A packet came under the session's keys.
    pub(crate) fn confirmed(&mut self, env: &mut Env, index: ReceiverIndex) {
        let Some(session) = self.sessions.get(&index) else { return };
        let (node, peer) = (session.node.id, session.peer);
        count(&session.node.counters.sessions_confirmed);
        if let Some(slots) = self.slots.get_mut(&(node, peer)) {
            slots.handle_opened(env.now, index);
        }
        self.sort(env, node, peer);
    }

    /// The peer of a session has moved.
    pub(crate) fn moved(&mut self, index: ReceiverIndex, source: Option<IpAddr>, to: SocketAddr) {
        if let Some(session) = self.sessions.get_mut(&index) {
            self.addresses.remove(&(session.node.id, session.address, index));
            self.addresses.insert((session.node.id, to, index));
            (session.source, session.address) = (source, to);
        }
    }

    /// Tells a shard to close a session. The end comes as an event.
    pub(crate) fn close(&mut self, env: &mut Env, index: ReceiverIndex, code: CloseCode) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        if !std::mem::replace(&mut session.closing, true) {
            env.effects.send(index.shard(), Command::CloseSession { index, code });
            env.effects.push(Effect::SessionClosing(index));
        }
    }

    /// A shard has let go of a session. `None`: it was not waited for any more.
    pub(crate) fn closed(
        &mut self,
        env: &mut Env,
        index: ReceiverIndex,
        code: CloseCode,
    ) -> Option<GoneSession> {
        let Some(session) = self.sessions.remove(&index) else {
            if self.orphans.remove(&index) {
                env.effects.push(Effect::FreeIndex(index));
            }
            return None;
        };
        let (node, peer) = (session.node.id, session.peer);
        self.addresses.remove(&(node, session.address, index));
        env.effects.cancel_timer(Timer::Rekey(index));
        env.effects.push(Effect::FreeIndex(index));
        if !matches!(code, CloseCode::GRACEFUL | CloseCode::IDLE | CloseCode::SUPERSEDED) {
            count(&session.node.counters.sessions_lost);
        }
        // A session that is kept for its last channels may outlive the slots of its peer.
        let disconnected = self.slots.get_mut(&(node, peer)).is_some_and(|slots| {
            slots.handle_closed(index);
            slots.current().is_none()
        });
        end_channels(env, session, code);
        self.sort(env, node, peer);
        Some(GoneSession { node, peer, disconnected })
    }

    /// The sessions of a node are not waited for any more, because the node is forgotten. Their indices stay
    /// taken until their shards give them back.
    pub(crate) fn abandon_node(&mut self, env: &mut Env, node: NodeId) -> Vec<ReceiverIndex> {
        let of_node = self.sessions.iter().filter(|(_, session)| session.node.id == node);
        let abandoned: Vec<ReceiverIndex> = of_node.map(|(index, _)| *index).collect();
        for &index in &abandoned {
            if let Some(session) = self.sessions.remove(&index) {
                self.addresses.remove(&(node, session.address, index));
                env.effects.cancel_timer(Timer::Rekey(index));
                self.orphans.insert(index);
                end_channels(env, session, CloseCode::GRACEFUL);
            }
        }
        self.slots.retain(|&(of, peer), _| {
            if of == node {
                env.effects.cancel_timer(Timer::Slots(node, peer));
            }
            of != node
        });
        abandoned
    }

    /// The sessions that a shard owns.
    pub(crate) fn on_shard(&self, shard: u8) -> Vec<ReceiverIndex> {
        self.sessions.keys().filter(|index| index.shard() == shard).copied().collect()
    }

    /// Forgets a peer with which nothing is going on.
    pub(crate) fn forget_peer(&mut self, node: NodeId, peer: PeerId) {
        self.slots.remove(&(node, peer));
    }
}

/// The channels of a session that is gone have ended.
fn end_channels(env: &mut Env, session: SessionState, code: CloseCode) {
    let waiting = session.opens_waiting.into_values().map(|open| open.key);
    let opens = session.opens.into_values().chain(waiting).map(ChannelOwner::Inbound);
    for owner in session.channels.into_values().chain(opens) {
        env.effects.push(Effect::ChannelLost(owner, code, None));
    }
}

#[cfg(test)]
mod tests;
