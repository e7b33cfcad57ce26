//! The nodes of this engine, and what each announces about itself.
//!
//! Not inside: what a node knows about its peers (`catalogue`), and how it leaves (`shutdown`).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use corewire_proto::{
    PeerId, StreamId, TagId,
    beacon::BeaconConfig,
    handshake::{Credentials, CredentialsConfig, NetworkSecret, PeerLimits},
    identity::Identity,
    membership::{
        MAX_LIFETIME_S, MAX_STREAMS, MAX_TAGS, PeerRecord, RecordVersion, SignedRecord, TransportKeyEntry,
    },
    ordered::OrderedMap,
    seal::{KeyBytes, MAX_SEALED_BYTES, Suites},
    session::SessionConfig,
};

use super::{effect::Effect, env::Env, timers::Timer};
use crate::{
    driver::Socket,
    peer::{PeerFacts, PeerInfo, ShownTicket},
    shard::NodeId,
    shared::{counters::count, limits::Limits, node::NodeShared},
};

/// Seconds for which the record of a node that leaves is remembered: long enough to reach every peer, so that
/// no older one takes its place.
const LAST_RECORD_S: u64 = 30;

/// Peers whose beacons one node keeps apart: more than one link has.
const BEACON_PEERS: usize = 1_024;

/// The pause before a record that supersedes another one of the same node.
const SUPERSEDE_PAUSE: Duration = Duration::from_millis(100);

/// Peers with which a record lives for the configured time; with twice as many, twice as long. So the whole
/// network renews as many records per second as this many nodes.
const RECORD_PEERS: usize = 32;

/// The least pause between two records of a node.
const RECORDS_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Whether the CPU has instructions for AES, so that AES-256-GCM is the faster cipher.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// The session settings of a node under the bounds of the engine.
fn bounded(mut session: SessionConfig, limits: &Limits) -> SessionConfig {
    session.limits.max_channels = session.limits.max_channels.min(limits.channels);
    session.limits.opens_per_second = session.limits.opens_per_second.min(limits.opens_per_second);
    session
}

/// The nodes of this engine.
#[derive(Default)]
pub(crate) struct NodeTable {
    /// Inputs for a node that is not here were on their way when it was forgotten, and are ignored.
    nodes: OrderedMap<NodeId, NodeState>,
}

/// A node.
struct NodeState {
    shared: Arc<NodeShared>,
    identity: Arc<Identity>,
    local: Arc<Credentials>,
    session: SessionConfig,
    /// Tags and tickets as the handle set them when the clerk last looked.
    tags: Vec<TagId>,
    tickets: Vec<ShownTicket>,
    /// Likewise the addresses to announce.
    addresses: Vec<SocketAddr>,
    /// Of the latest record.
    version: RecordVersion,
    /// The latest record is out of date.
    stale: bool,
    /// The sockets of addresses that several shards share: a shard that gives up its socket leaves the
    /// others in their places, by which the kernel steers packets.
    held: Vec<Socket>,
}

/// What a handle has changed about a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeChange {
    pub(crate) tags: bool,
    pub(crate) tickets: bool,
}

impl NodeTable {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Takes in a node, and gives back what its handshakes need.
    pub(crate) fn add(
        &mut self,
        env: &mut Env,
        shared: &Arc<NodeShared>,
        identity: Arc<Identity>,
        secret: Option<NetworkSecret>,
        session: SessionConfig,
    ) -> Arc<Credentials> {
        let session = bounded(session, &env.limits);
        let config = CredentialsConfig {
            network: shared.network_id,
            secret,
            validity: 0,
            suites: Suites::for_cpu(has_aes()),
            boot: u64::from_le_bytes(env.random()),
            limits: PeerLimits {
                max_packet_bytes: u32::try_from(MAX_SEALED_BYTES).unwrap_or(u32::MAX),
                max_channels: u32::try_from(session.limits.max_channels).unwrap_or(u32::MAX),
                idle_timeout_ms: u32::try_from(session.idle_timeout.as_millis()).unwrap_or(u32::MAX),
            },
        };
        let local = Arc::new(Credentials::new(&identity, config));
        let millis = env.calendar().as_millis();
        let (tags, tickets) = settings(shared);
        let node = NodeState {
            shared: shared.clone(),
            identity,
            local: local.clone(),
            session,
            tags,
            tickets,
            addresses: shared.announced.lock().clone(),
            version: RecordVersion { incarnation: u64::try_from(millis).unwrap_or(u64::MAX), sequence: 0 },
            stale: true,
            held: Vec::new(),
        };
        let before = self.nodes.insert(shared.id, node);
        assert!(before.is_none(), "a node joins once");
        local
    }

    /// Keeps the sockets of an address open until the node is forgotten, if several shards share it.
    pub(crate) fn hold(&mut self, node: NodeId, sockets: &[Socket]) {
        if let (Some(node), true) = (self.nodes.get_mut(&node), sockets.len() > 1) {
            node.held.extend(sockets.iter().filter_map(Socket::hold));
        }
    }

    /// Forgets a node.
    pub(crate) fn remove(&mut self, env: &mut Env, node: NodeId) -> Option<Arc<NodeShared>> {
        env.effects.cancel_timer(Timer::Records(node));
        Some(self.nodes.remove(&node)?.shared)
    }

    /// What the clerk and the handles of a node share; `None` when the node is forgotten.
    pub(crate) fn shared(&self, node: NodeId) -> Option<&Arc<NodeShared>> {
        self.nodes.get(&node).map(|node| &node.shared)
    }

    /// The settings of a node's sessions.
    pub(crate) fn session_config(&self, node: NodeId) -> Option<&SessionConfig> {
        self.nodes.get(&node).map(|node| &node.session)
    }

    /// What a node's beacon is made of.
    pub(crate) fn beacon_config(&self, env: &mut Env, id: NodeId, key: KeyBytes) -> Option<BeaconConfig> {
        let node = self.nodes.get(&id)?;
        Some(BeaconConfig {
            key,
            incarnation: node.version.incarnation,
            seed: env.random(),
            max_peers: BEACON_PEERS.min(env.limits.peers),
        })
    }

    /// The tickets that a node shows.
    pub(crate) fn tickets(&self, node: NodeId) -> &[ShownTicket] {
        self.nodes.get(&node).map_or(&[], |node| &node.tickets)
    }

    /// What is different since the clerk last looked at the settings of a node.
    pub(crate) fn refresh(&mut self, node: NodeId) -> NodeChange {
        // A request may come after the node is forgotten.
        let Some(node) = self.nodes.get_mut(&node) else { return NodeChange::default() };
        // First the flag: a change from here on makes another request.
        node.shared.changed.set(false);
        let (tags, tickets) = settings(&node.shared);
        let change = NodeChange { tags: node.tags != tags, tickets: node.tickets != tickets };
        (node.tags, node.tickets) = (tags, tickets);
        let addresses = node.shared.announced.lock().clone();
        let moved = std::mem::replace(&mut node.addresses, addresses) != node.addresses;
        // A neighbour's new record is no reason for a new one here: two nodes would then never stop.
        node.stale |= change.tags || moved;
        change
    }

    /// What a node announces is out of date.
    pub(crate) fn record_stale(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.stale = true;
        }
    }

    /// The nodes whose record is out of date.
    pub(crate) fn stale(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.stale).map(|(id, _)| *id).collect()
    }

    /// Signs anew what a node announces, if it is out of date. `streams` is what it publishes; a node that
    /// leaves announces none. With many `peers` the record lives longer, because its renewal reaches each.
    pub(crate) fn renew_record(
        &mut self,
        env: &mut Env,
        id: NodeId,
        streams: Vec<StreamId>,
        (leaving, peers): (bool, usize),
    ) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if !std::mem::take(&mut node.stale) {
            return;
        }
        let times = u32::try_from(peers / RECORD_PEERS).unwrap_or(u32::MAX).saturating_add(1);
        let life = env.times.record_life.saturating_mul(times);
        let life = life.clamp(Duration::from_secs(1), Duration::from_secs(MAX_LIFETIME_S - 60));
        let life_s = life.as_secs();
        let life_s = if leaving { life_s.min(LAST_RECORD_S) } else { life_s };
        node.version.sequence += 1;
        let record = PeerRecord {
            peer_id: node.identity.peer_id(),
            identity_key: *node.identity.public_key(),
            transport_keys: vec![TransportKeyEntry { key: *node.local.transport_key(), validity: 0 }],
            addresses: node.addresses.clone(),
            tags: node.tags.iter().take(MAX_TAGS).copied().collect(),
            streams: if leaving { Vec::new() } else { streams.into_iter().take(MAX_STREAMS).collect() },
            version: node.version,
            lifetime_s: life_s,
            leaving,
        };
        let pause = (env.times.record_life.saturating_mul(times).min(life) / 3).max(RECORDS_PAUSE_MIN);
        env.effects.set_timer(Timer::Records(id), env.now + pause);
        match SignedRecord::sign(&node.identity, &node.shared.network_id, record) {
            Ok(signed) => env.effects.push(Effect::RecordRenewed(id, Box::new(signed))),
            // Joining refuses what leads here. Should something else do so, the node goes on with its last
            // record, and tries again when that one is to be renewed.
            Err(_) => count(&node.shared.counters.records_unsigned),
        }
    }

    /// A peer holds a record of this node that is not older than the node's own: one from before its restart,
    /// by a clock that went back. The next one supersedes it.
    pub(crate) fn supersede_record(&mut self, env: &mut Env, id: NodeId, seen: RecordVersion) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if seen >= node.version {
            node.version = RecordVersion { incarnation: seen.incarnation.saturating_add(1), sequence: 0 };
            // Not at once: two nodes of one identity would supersede each other without a pause.
            env.effects.set_timer(Timer::Records(id), env.now + SUPERSEDE_PAUSE);
        }
    }

    /// What a node of this engine is to another one. `streams` is what it publishes.
    pub(crate) fn info(&self, node: NodeId, streams: Vec<StreamId>) -> Option<PeerInfo> {
        let node = self.nodes.get(&node)?;
        Some(PeerInfo::new(PeerFacts {
            peer_id: node.shared.peer_id,
            network_id: node.shared.network_id,
            addresses: node.addresses.clone(),
            tags: node.tags.clone(),
            streams,
            tickets: node.tickets.clone(),
            version: (node.version.incarnation, node.version.sequence),
        }))
    }

    /// Whether a node may read another one's rings: the same network and secret, and neither hides; or
    /// itself.
    fn share_rings(&self, one: NodeId, other: NodeId) -> bool {
        let key = |node: NodeId| self.nodes.get(&node).and_then(|node| node.shared.registry_key);
        one == other || key(one).is_some_and(|key_of_one| Some(key_of_one) == key(other))
    }

    /// The nodes whose rings `node` may read, itself included.
    pub(crate) fn neighbours(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes.keys().filter(|other| self.share_rings(node, **other)).copied().collect()
    }

    /// The node of this engine that is `peer` to `node`.
    pub(crate) fn local_node(&self, node: NodeId, peer: PeerId) -> Option<NodeId> {
        if self.nodes.get(&node).is_some_and(|node| node.shared.peer_id == peer) {
            return Some(node);
        }
        // One identity may be a member of several networks.
        let mut same = self.nodes.iter().filter(|(_, node)| node.shared.peer_id == peer);
        same.find(|(other, _)| self.share_rings(node, **other)).map(|(other, _)| *other)
    }

    /// The clerk is broken: every node is gone.
    pub(crate) fn abandon(&mut self) -> Vec<Arc<NodeShared>> {
        std::mem::take(&mut self.nodes).into_values().map(|node| node.shared).collect()
    }
}

/// The tags and tickets that the handle has set.
fn settings(shared: &NodeShared) -> (Vec<TagId>, Vec<ShownTicket>) {
    let settings = shared.settings.lock();
    (settings.tags.clone(), settings.tickets.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clerk::testing;

    fn nodes(env: &mut Env) -> (NodeTable, Arc<NodeShared>) {
        let (mut nodes, shared) = (NodeTable::default(), testing::node(1));
        nodes.add(env, &shared, Arc::new(testing::identity(1)), None, SessionConfig::default());
        (nodes, shared)
    }

    #[test]
    fn a_record_is_signed_once_until_it_is_out_of_date() {
        let mut env = testing::env();
        let (mut nodes, shared) = nodes(&mut env);
        let stream = StreamId([7; 32]);
        let mut renewed = |nodes: &mut NodeTable| {
            nodes.renew_record(&mut env, shared.id, vec![stream], (false, 0));
            env.effects.drain().into_iter().find_map(|effect| match effect {
                Effect::RecordRenewed(_, record) => Some(record),
                _ => None,
            })
        };
        let first = renewed(&mut nodes).expect("a new node has to be announced");
        assert_eq!(first.record().streams, [stream]);
        assert!(renewed(&mut nodes).is_none());
        nodes.record_stale(shared.id);
        let second = renewed(&mut nodes).expect("the record is out of date");
        assert!(second.record().version > first.record().version);
    }

    #[test]
    fn a_later_record_of_the_node_is_superseded() {
        let mut env = testing::env();
        let (mut nodes, shared) = nodes(&mut env);
        let seen = RecordVersion { incarnation: u64::MAX / 2, sequence: 3 };
        nodes.supersede_record(&mut env, shared.id, seen);
        let version = nodes.info(shared.id, Vec::new()).expect("a node").version();
        assert!(version > (seen.incarnation, seen.sequence));
        assert!(matches!(env.effects.drain()[..], [Effect::SetTimer(Timer::Records(_), _)]));
        nodes.supersede_record(&mut env, shared.id, seen);
        assert!(env.effects.drain().is_empty(), "an older record is no reason");
    }
}
