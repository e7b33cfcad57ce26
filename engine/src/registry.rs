//! The nodes of this process, so that those of one network find each other without configuration.
//!
//! Only nodes of the same network *and* the same secret see each other. Entries are weak: the registry keeps
//! no node alive. A record found here is signed and is checked like one that came from a session.

use std::sync::{Arc, Weak};

use corewire_proto::{NetworkId, PeerId, ordered::OrderedMap};
use corewire_rings::sync::{Lock, LockGuard};

use crate::shared::{limits::REGISTRY_NODES, node::NodeShared, port::changed};

/// Equal for nodes that may find each other.
type RegistryKey = [u8; 32];

/// By what may find it, its name, and its address in memory: one identity may have several nodes.
type RegistryPlace = (RegistryKey, PeerId, usize);

static NODES: Lock<OrderedMap<RegistryPlace, Weak<NodeShared>>> = Lock::new(OrderedMap::new());

/// The key of a network and its secret. The secret can't be computed from it.
pub(crate) fn key(network: &NetworkId, secret: Option<&[u8; 32]>) -> RegistryKey {
    let mut hasher = blake3::Hasher::new_derive_key("corewire v1 registry of one process");
    hasher.update(network.as_bytes());
    hasher.update(&[u8::from(secret.is_some())]);
    if let Some(secret) = secret {
        hasher.update(secret);
    }
    *hasher.finalize().as_bytes()
}

fn nodes() -> LockGuard<'static, OrderedMap<RegistryPlace, Weak<NodeShared>>> {
    NODES.lock()
}

fn place(node: &Arc<NodeShared>) -> Option<RegistryPlace> {
    Some((node.registry_key?, node.peer_id, Arc::as_ptr(node).addr()))
}

/// Enters a node. `false`: the registry is full.
pub(crate) fn enter(node: &Arc<NodeShared>) -> bool {
    let Some(place) = place(node) else { return true };
    let mut nodes = nodes();
    if nodes.len() >= REGISTRY_NODES {
        nodes.retain(|_, entry| entry.strong_count() > 0);
        if nodes.len() >= REGISTRY_NODES {
            return false;
        }
    }
    nodes.insert(place, Arc::downgrade(node));
    true
}

/// Takes a node out.
pub(crate) fn leave(node: &Arc<NodeShared>) {
    if let Some(place) = place(node) {
        nodes().remove(&place);
    }
}

/// The other nodes of the process that this one may find.
pub(crate) fn others(node: &Arc<NodeShared>) -> Vec<Arc<NodeShared>> {
    let Some(key) = node.registry_key else { return Vec::new() };
    let range = (key, PeerId([0; 32]), 0)..=(key, PeerId([0xff; 32]), usize::MAX);
    let entries: Vec<Weak<NodeShared>> = nodes().range(range).map(|(_, entry)| entry.clone()).collect();
    // Outside the lock, because an upgraded reference may turn out to be the last one.
    entries.iter().filter_map(Weak::upgrade).filter(|other| !Arc::ptr_eq(other, node)).collect()
}

/// Whether a peer of this node is a node of the process.
pub(crate) fn has(node: &Arc<NodeShared>, peer: &PeerId) -> bool {
    let (Some(key), own) = (node.registry_key, Arc::as_ptr(node).addr()) else { return false };
    let nodes = nodes();
    let mut same = nodes.range((key, *peer, 0)..=(key, *peer, usize::MAX));
    same.any(|((_, _, address), entry)| *address != own && entry.strong_count() > 0)
}

/// The latest record of a node, if it has one and is not about to leave.
pub(crate) fn record(node: &NodeShared) -> Option<Arc<[u8]>> {
    node.record.borrow().clone()
}

/// Replaces a node's record and tells the others.
pub(crate) fn announce(node: &Arc<NodeShared>, record: Option<Arc<[u8]>>) {
    node.record.show(record);
    for other in others(node) {
        changed(&other);
    }
}

#[cfg(test)]
mod tests {
    use corewire_proto::session::SessionConfig;

    use super::*;
    use crate::{
        shard::NodeId,
        shared::{
            beacon::BeaconInfo,
            limits::Limits,
            node::{NodeParts, NodeSettings},
            port::RequestPort,
        },
    };

    fn node(number: u8, key: Option<RegistryKey>) -> Arc<NodeShared> {
        let parts = NodeParts {
            id: NodeId(u64::from(number)),
            peer_id: PeerId([number; 32]),
            port: RequestPort::new(),
            limits: Limits::default(),
            dead_after: SessionConfig::default().dead_after,
            egress: None,
            registry_key: key,
            network_id: NetworkId([1; 32]),
            announced: Vec::new(),
            beacon: BeaconInfo::default(),
            settings: NodeSettings { tags: Vec::new(), tickets: Vec::new() },
        };
        NodeShared::new(parts, &[])
    }

    #[test]
    fn peers_are_found_by_nodes_of_their_network_while_they_are_there() {
        let key = Some([0xa7; 32]);
        let (one, same, other) = (node(1, key), node(1, key), node(2, key));
        let (stranger, hidden) = (node(3, Some([0xa8; 32])), node(4, None));
        let [first, second] = [1, 2].map(|n| PeerId([n; 32]));
        for node in [&one, &other, &stranger, &hidden] {
            assert!(enter(node));
        }
        assert!(has(&one, &second) && has(&other, &first));
        assert!(!has(&one, &first), "a node is not its own peer");
        assert!(!has(&stranger, &first) && !has(&hidden, &first) && !has(&one, &PeerId([4; 32])));
        assert!(enter(&same) && has(&one, &first), "another node of its identity is");
        assert_eq!(others(&one).len(), 2);
        leave(&one);
        assert!(has(&same, &second) && !has(&same, &first));
        drop(other);
        assert!(!has(&same, &second) && others(&same).is_empty());
    }
}
