//! What each node knows about its peers: their records, and the tickets that they have shown.
//!
//! Not inside:
//! - which records and tickets wait to be sent on a session (`exchange`) and how they are encoded (`codec`);
//! - the node's own record as it is made (`nodes`).

mod codec;
mod exchange;

use std::{net::SocketAddr, sync::Arc};

use corewire_proto::{
    PeerId, StreamId, identity,
    membership::{Catalog, CatalogConfig, Insert, PeerRecord, SignedRecord},
    ordered::OrderedMap,
    swim::CatalogBook,
    time::Instant,
    wire::header::ReceiverIndex,
};

use self::exchange::{Exchange, RECORDS_PER_SECOND};
use super::{bucket::TokenBucket, effect::Effect, env::Env, handshakes::addresses_to_call, timers::Timer};
use crate::{
    peer::{PeerFacts, PeerInfo, ShownTicket},
    shard::NodeId,
    shared::{
        counters::count,
        limits::{Limits, REVIEW_PAUSE},
        node::NodeShared,
    },
};

/// Bytes of records that one node remembers for each peer that it may remember, on average.
const RECORD_BYTES_EACH: usize = 4_096;

/// The least bytes of records that one node remembers.
const RECORDS_BYTES_MIN: usize = 1 << 20;

/// The source of all records that came by beacons. No peer has this name.
const BEACON_SOURCE: PeerId = PeerId([0; 32]);

/// The source of all records that came by membership packets. No peer has this name.
const MEMBER_SOURCE: PeerId = PeerId([1; 32]);

/// Where in a record the Ed25519 key of its peer stands.
const KEY_AT: std::ops::Range<usize> = 1..33;

/// Whose record these bytes claim to be.
fn claimed_peer(record: &[u8]) -> Option<PeerId> {
    let key: &[u8; 32] = record.get(KEY_AT)?.try_into().ok()?;
    Some(identity::peer_id(key))
}

/// The peers of all nodes, and what is exchanged with them.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// Inputs for a node that is not here were on their way when it was forgotten, and are ignored.
    nodes: OrderedMap<NodeId, NodeCatalogue>,
    /// One for each session. Inputs for a session that is not here were on their way when it ended.
    exchanges: OrderedMap<ReceiverIndex, Exchange>,
}

/// What one node knows.
struct NodeCatalogue {
    shared: Arc<NodeShared>,
    records: Catalog,
    /// A peer is here while its record is known, a session or handshake with it exists, or a subscription
    /// wants it.
    peers: OrderedMap<PeerId, KnownPeer>,
    /// The node's latest record.
    own: Option<SignedRecord>,
    /// Records that came by beacons and may be verified.
    beacons: TokenBucket,
    /// Likewise by membership packets.
    packets: TokenBucket,
    /// The handles do not see the peers as they are.
    stale: bool,
}

/// What is known about a peer.
struct KnownPeer {
    info: PeerInfo,
    /// What it showed in the current session.
    tickets: Vec<ShownTicket>,
    /// There is a current session; the peer's record is pinned.
    connected: bool,
    /// Its channels are judged again no earlier than this.
    review_at: Instant,
    /// Where its latest beacon came from, unless it has fallen silent since.
    heard_from: Option<SocketAddr>,
    /// Where its latest answer to a membership packet came from.
    answered_from: Option<SocketAddr>,
    /// Where its latest other membership packet claims to come from.
    claimed_from: Option<SocketAddr>,
    /// Packets to further addresses of it since its latest answer.
    unanswered: usize,
    /// Its session broke, or it does not answer, and nothing was heard of it since.
    lost: bool,
}

/// How a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordWay {
    /// From the process's registry, or given by the user.
    Local,
    /// On a session.
    Session(ReceiverIndex),
    /// By a beacon.
    Beacon,
    /// By a membership packet.
    Member,
}

impl NodeCatalogue {
    fn peer_mut(&mut self, peer: PeerId) -> &mut KnownPeer {
        let network_id = self.shared.network_id;
        self.peers.get_or_insert_with(peer, || KnownPeer {
            info: PeerInfo::new(PeerFacts { peer_id: peer, network_id, ..PeerFacts::default() }),
            tickets: Vec::new(),
            connected: false,
            review_at: Instant::ZERO,
            heard_from: None,
            answered_from: None,
            claimed_from: None,
            unanswered: 0,
            lost: false,
        })
    }

    /// The entry of a peer, made anew from what is known.
    fn info(&self, peer: PeerId, tickets: Vec<ShownTicket>) -> PeerInfo {
        let network_id = self.shared.network_id;
        let facts = PeerFacts { peer_id: peer, network_id, tickets, ..PeerFacts::default() };
        PeerInfo::new(match self.records.get(&peer).map(SignedRecord::record) {
            None => facts,
            Some(record) => PeerFacts {
                addresses: record.addresses.clone(),
                tags: record.tags.clone(),
                streams: record.streams.clone(),
                version: (record.version.incarnation, record.version.sequence),
                ..facts
            },
        })
    }

    /// Brings the entry of a peer up to date.
    fn refresh(&mut self, env: &mut Env, peer: PeerId) {
        let tickets = self.peer_mut(peer).tickets.clone();
        let now = self.info(peer, tickets);
        self.stale = true;
        env.effects.push(Effect::RecordChanged(self.shared.id, peer));
        let known = self.peer_mut(peer);
        if known.info != now {
            let before = std::mem::replace(&mut known.info, now.clone());
            env.effects.push(Effect::PeerChanged { node: self.shared.id, before, now });
        }
    }
}

impl Catalogue {
    pub(crate) fn add_node(&mut self, shared: &Arc<NodeShared>, env: &Env) {
        let limits = &env.limits;
        let config = CatalogConfig {
            max_records: limits.peers,
            max_bytes: limits.peers.saturating_mul(RECORD_BYTES_EACH).max(RECORDS_BYTES_MIN),
        };
        let node = NodeCatalogue {
            shared: shared.clone(),
            records: Catalog::new(config),
            peers: OrderedMap::new(),
            own: None,
            beacons: TokenBucket::new(RECORDS_PER_SECOND, env.now),
            packets: TokenBucket::new(RECORDS_PER_SECOND, env.now),
            stale: false,
        };
        self.nodes.insert(shared.id, node);
    }

    /// Forgets a node whose sessions are gone.
    pub(crate) fn forget_node(&mut self, env: &mut Env, node: NodeId) {
        let Some(forgotten) = self.nodes.remove(&node) else { return };
        for &peer in forgotten.peers.keys() {
            for timer in [Timer::Dial(node, peer), Timer::Slots(node, peer), Timer::Review(node, peer)] {
                env.effects.cancel_timer(timer);
            }
        }
    }

    /// Peers of all nodes.
    pub(crate) fn peers(&self) -> usize {
        self.nodes.values().map(|node| node.peers.len()).sum()
    }

    /// The entry of a peer, if something is known about it.
    pub(crate) fn info(&self, node: NodeId, peer: PeerId) -> Option<PeerInfo> {
        Some(self.nodes.get(&node)?.peers.get(&peer)?.info.clone())
    }

    /// The record of a peer, if it is known.
    pub(crate) fn record(&self, node: NodeId, peer: PeerId) -> Option<Arc<PeerRecord>> {
        self.nodes.get(&node)?.records.get(&peer).map(SignedRecord::shared)
    }

    /// The peers that announce a stream.
    pub(crate) fn producers(&self, node: NodeId, stream: &StreamId) -> Vec<PeerId> {
        let Some(known) = self.nodes.get(&node) else { return Vec::new() };
        let producing = known.records.matching(|record| record.streams.binary_search(stream).is_ok());
        producing.map(|record| record.record().peer_id).collect()
    }

    /// Whether there is room for what is kept about this peer; counted if not.
    pub(crate) fn may_meet(&self, node: NodeId, peer: PeerId, limits: &Limits) -> bool {
        let Some(known) = self.nodes.get(&node) else { return false };
        // Beside as many peers with records there may be as many without.
        let room = peer != known.shared.peer_id
            && (known.peers.contains_key(&peer) || known.peers.len() < limits.peers.saturating_mul(2));
        if !room {
            count(&known.shared.counters.handshakes_refused);
        }
        room
    }

    /// Makes an entry for a peer that a handshake is about to be answered for.
    pub(crate) fn meet(&mut self, node: NodeId, peer: PeerId) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.peer_mut(peer);
        }
    }

    /// Takes in a record that came by a beacon from this address.
    pub(crate) fn read_beacon(
        &mut self,
        env: &mut Env,
        node: NodeId,
        record: (&[u8], u64),
        from: SocketAddr,
    ) {
        self.read_record(env, node, record, RecordWay::Beacon);
        let known = self.nodes.get_mut(&node).zip(claimed_peer(record.0));
        if let Some(peer) = known.and_then(|(known, claimed)| known.peers.get_mut(&claimed)) {
            peer.heard_from = Some(from);
        }
    }

    /// A peer's beacon told what it told before. Whether the peer is not shown, and should be asked if it is
    /// back: a beacon may have been held up on its way.
    pub(crate) fn beacon_again(&mut self, node: NodeId, peer: PeerId, from: SocketAddr) -> bool {
        let known = self.nodes.get_mut(&node);
        known.and_then(|known| known.peers.get_mut(&peer)).is_some_and(|state| {
            state.heard_from = Some(from);
            state.lost
        })
    }

    /// Where the latest beacon of a peer came from.
    pub(crate) fn heard_from(&self, node: NodeId, peer: PeerId) -> Option<SocketAddr> {
        self.nodes.get(&node)?.peers.get(&peer)?.heard_from
    }

    /// The beacon of a peer has fallen silent. Its record is forgotten if it does not answer either; only
    /// the beacons may be lost.
    pub(crate) fn silent(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        let Some(state) = known.peers.get_mut(&peer) else { return };
        let silent = state.heard_from.take().is_some() && !state.connected && state.lost;
        if silent && known.records.remove(&peer).is_some() {
            known.refresh(env, peer);
            env.effects.push(Effect::ForgetPeerIfIdle(node, peer));
        }
    }

    /// A peer has answered a membership packet from this address.
    pub(crate) fn answered(&mut self, node: NodeId, peer: PeerId, from: SocketAddr) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        let Some(state) = known.peers.get_mut(&peer) else { return };
        (state.answered_from, state.unanswered) = (Some(from), 0);
        known.stale |= std::mem::take(&mut state.lost);
    }

    /// A membership packet in the name of a peer came from this address. Whether the peer is not shown, and
    /// should be asked if it is back.
    pub(crate) fn claimed(&mut self, node: NodeId, peer: PeerId, from: SocketAddr) -> bool {
        let known = self.nodes.get_mut(&node);
        known.and_then(|known| known.peers.get_mut(&peer)).is_some_and(|state| {
            state.claimed_from = Some(from);
            state.lost
        })
    }

    /// A peer without a session does not answer. It is not shown until something is heard of it.
    pub(crate) fn failed(&mut self, node: NodeId, peer: PeerId) {
        let Some(known) = self.nodes.get(&node) else { return };
        count(&known.shared.counters.members_failed);
        self.lost(node, peer);
    }

    /// A peer that failed did not come back for a long time: its record is forgotten.
    pub(crate) fn forget_failed(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        if known.peers.get(&peer).is_some_and(|state| state.lost && !state.connected)
            && known.records.remove(&peer).is_some()
        {
            known.refresh(env, peer);
            env.effects.push(Effect::ForgetPeerIfIdle(node, peer));
        }
    }

    /// Where a membership packet goes: to where the peer has answered last, or where its beacons come from,
    /// or to one of the addresses in its record that `fits`. `again`: there was no answer, so the next of all
    /// these is tried. An address that is only a claim is the last one.
    pub(crate) fn member_address(
        &mut self,
        node: NodeId,
        peer: PeerId,
        again: bool,
        fits: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let known = self.nodes.get_mut(&node)?;
        let state = known.peers.get_mut(&peer)?;
        state.unanswered = state.unanswered.wrapping_add(usize::from(again));
        let announced = known.records.get(&peer).map_or(&[][..], |record| &record.record().addresses);
        let announced: Vec<SocketAddr> = announced.iter().copied().filter(fits).collect();
        let mut ways: Vec<SocketAddr> = state.answered_from.into_iter().collect();
        for way in addresses_to_call(&announced, state.heard_from).into_iter().chain(state.claimed_from) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        ways.get(state.unanswered % ways.len().max(1)).copied()
    }

    /// The records of a node, for packets.
    pub(crate) fn book(&self, node: NodeId, now_s: u64) -> Option<CatalogBook<'_>> {
        let known = self.nodes.get(&node)?;
        Some(CatalogBook { records: &known.records, own: known.own.as_ref(), now_s })
    }

    /// The record of a peer, and its age in seconds.
    pub(crate) fn aged_record(&self, node: NodeId, peer: PeerId, now_s: u64) -> Option<(&SignedRecord, u64)> {
        let records = &self.nodes.get(&node)?.records;
        Some((records.get(&peer)?, records.age_s(&peer, now_s)?))
    }

    /// How many records of others a node has.
    pub(crate) fn records(&self, node: NodeId) -> usize {
        self.nodes.get(&node).map_or(0, |known| known.records.len())
    }

    /// Takes in a record and its age in seconds.
    pub(crate) fn read_record(
        &mut self,
        env: &mut Env,
        node: NodeId,
        (bytes, age_s): (&[u8], u64),
        way: RecordWay,
    ) {
        let now_s = env.seconds();
        let Some(known) = self.nodes.get_mut(&node) else { return };
        let counters = &known.shared.counters;
        let Some(claimed) = claimed_peer(bytes) else { return count(&counters.records_refused) };
        // Verifying a signature is dear, and needless for a record that is known byte for byte, or is the
        // node's own.
        let same = |record: &SignedRecord| record.bytes() == bytes;
        if known.records.get(&claimed).is_some_and(same) || known.own.as_ref().is_some_and(same) {
            return;
        }
        let (source, session, allowed) = match way {
            RecordWay::Local => (claimed, None, true),
            // All beacons together are one source, so that invented peers make no room for each other.
            RecordWay::Beacon => (BEACON_SOURCE, None, known.beacons.take(env.now)),
            // Likewise: the sender of a packet can be any member that has the network's secret.
            RecordWay::Member => (MEMBER_SOURCE, None, known.packets.take(env.now)),
            RecordWay::Session(index) => {
                let Some(exchange) = self.exchanges.get_mut(&index) else { return };
                (exchange.peer, Some(index), exchange.budget.take(env.now))
            }
        };
        if !allowed {
            return count(&counters.records_refused);
        }
        let Ok(record) = SignedRecord::verify(bytes, &known.shared.network_id) else {
            return count(&counters.records_refused);
        };
        if claimed == known.shared.peer_id {
            return env.effects.push(Effect::OwnRecordSeen(node, record.record().version));
        }
        let evicted = match known.records.insert(record, source, now_s, age_s) {
            Insert::New { evicted } | Insert::Newer { evicted } => evicted,
            Insert::Equivocation { replaced: true } => None,
            Insert::Stale => {
                if let Some(index) = session.filter(|_| source == claimed) {
                    self.show_its_own(env, index);
                }
                return;
            }
            Insert::Equal => return,
            Insert::Equivocation { replaced: false } | Insert::Full | Insert::Refused(_) => {
                return count(&counters.records_refused);
            }
        };
        count(&counters.records_accepted);
        if known.peers.get(&claimed).is_some_and(|peer| peer.connected) {
            known.records.pin(&claimed, true);
        }
        if let Some(evicted) = evicted {
            known.refresh(env, evicted);
            env.effects.push(Effect::ForgetPeerIfIdle(node, evicted));
        }
        known.peer_mut(claimed).lost = false;
        known.refresh(env, claimed);
        self.gossip(env, node, claimed, Some(source));
    }

    /// Forgets records that were not made anew in time.
    pub(crate) fn expire(&mut self, env: &mut Env, node: NodeId) {
        let now_s = env.seconds();
        let Some(known) = self.nodes.get_mut(&node) else { return };
        while let Some(record) = known.records.expire(now_s) {
            let peer = record.record().peer_id;
            known.refresh(env, peer);
            env.effects.push(Effect::ForgetPeerIfIdle(node, peer));
        }
    }

    /// The node has a new record of its own, which its peers have to be sent.
    pub(crate) fn own_record(&mut self, env: &mut Env, node: NodeId, record: SignedRecord) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        let own = known.shared.peer_id;
        known.own = Some(record);
        self.gossip(env, node, own, None);
    }

    /// There is a current session with this peer.
    fn connected(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        known.records.pin(&peer, true);
        let state = known.peer_mut(peer);
        (state.connected, state.lost) = (true, false);
        known.refresh(env, peer);
    }

    /// There is no current session with this peer any more. Its tickets were shown in the session.
    pub(crate) fn disconnected(&mut self, node: NodeId, peer: PeerId) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        known.records.pin(&peer, false);
        if let Some(peer) = known.peers.get_mut(&peer) {
            peer.tickets.clear();
            peer.connected = false;
        }
    }

    /// The only session with this peer broke. It is not shown until something is heard of it.
    pub(crate) fn lost(&mut self, node: NodeId, peer: PeerId) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        if let Some(peer) = known.peers.get_mut(&peer) {
            peer.lost = true;
            known.stale = true;
        }
    }

    /// Whether the predicates about a peer may be asked again now. If not, a timer is set: a peer can change
    /// its record as often as it likes.
    pub(crate) fn may_review(&mut self, env: &mut Env, node: NodeId, peer: PeerId) -> bool {
        let known = self.nodes.get_mut(&node).and_then(|known| known.peers.get_mut(&peer));
        let Some(known) = known else { return false };
        if env.now < known.review_at {
            env.effects.set_timer(Timer::Review(node, peer), known.review_at);
            return false;
        }
        known.review_at = env.now + REVIEW_PAUSE;
        true
    }

    /// The nodes whose handles do not see the peers as they are.
    pub(crate) fn stale_nodes(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, known)| known.stale).map(|(node, _)| *node).collect()
    }

    /// Lets the handles of a node see the peers as they are.
    pub(crate) fn show(&mut self, node: NodeId) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        known.stale = false;
        let (records, peers) = (&known.records, &known.peers);
        let leaves = |peer: &PeerId| records.get(peer).is_some_and(|record| record.record().leaving);
        let is_known = |peer: &PeerId, state: &KnownPeer| {
            !state.lost && !leaves(peer) && (state.connected || records.get(peer).is_some())
        };
        let peers: Arc<[PeerInfo]> = peers
            .iter()
            .filter(|(peer, state)| is_known(peer, state))
            .map(|(_, state)| state.info.clone())
            .collect();
        known.shared.show_peers(peers, leaves);
    }

    /// Forgets a peer without a record; `false` when it has one. The caller knows that nothing is going on
    /// with it.
    pub(crate) fn forget_peer(&mut self, env: &mut Env, node: NodeId, peer: PeerId) -> bool {
        let Some(known) = self.nodes.get_mut(&node) else { return false };
        if known.records.get(&peer).is_some() {
            return false;
        }
        known.stale |= known.peers.remove(&peer).is_some();
        // Also for a peer without an entry here: its session may have come about by its address.
        for timer in [Timer::Dial(node, peer), Timer::Slots(node, peer), Timer::Review(node, peer)] {
            env.effects.cancel_timer(timer);
        }
        true
    }
}

#[cfg(test)]
mod tests;
