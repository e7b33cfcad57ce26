//! The nodes of this process, so that those of one network find each other without configuration.
//!
//! Only nodes of the same network *and* the same secret see each other. Entries are weak: the registry keeps
//! no node alive. A record found here is signed and is checked like one that came from a session.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use corewire_proto::{NetworkId, PeerId};
use corewire_rings::sync::{Lock, LockGuard};

use crate::shared::{limits::REGISTRY_NODES, node::NodeShared, port::changed};

/// Equal for nodes that may find each other.
type RegistryKey = [u8; 32];

static NODES: Lock<BTreeMap<RegistryKey, Vec<Weak<NodeShared>>>> = Lock::new(BTreeMap::new());

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

fn nodes() -> LockGuard<'static, BTreeMap<RegistryKey, Vec<Weak<NodeShared>>>> {
    NODES.lock()
}

/// Enters a node. `false`: the registry is full.
pub(crate) fn enter(node: &Arc<NodeShared>) -> bool {
    let Some(key) = node.registry_key else { return true };
    let mut nodes = nodes();
    if nodes.values().map(Vec::len).sum::<usize>() >= REGISTRY_NODES {
        nodes.retain(|_, entries| {
            entries.retain(|entry| entry.strong_count() > 0);
            !entries.is_empty()
        });
        if nodes.values().map(Vec::len).sum::<usize>() >= REGISTRY_NODES {
            return false;
        }
    }
    nodes.entry(key).or_default().push(Arc::downgrade(node));
    true
}

/// Takes a node out.
pub(crate) fn leave(node: &Arc<NodeShared>) {
    let Some(key) = node.registry_key else { return };
    let mut nodes = nodes();
    if let Some(entries) = nodes.get_mut(&key) {
        entries.retain(|entry| entry.strong_count() > 0 && !std::ptr::eq(entry.as_ptr(), Arc::as_ptr(node)));
        if entries.is_empty() {
            nodes.remove(&key);
        }
    }
}

/// The other nodes of the process that this one may find.
pub(crate) fn others(node: &Arc<NodeShared>) -> Vec<Arc<NodeShared>> {
    let Some(key) = node.registry_key else { return Vec::new() };
    let entries = nodes().get(&key).cloned().unwrap_or_default();
    // Outside the lock, because an upgraded reference may turn out to be the last one.
    entries.iter().filter_map(Weak::upgrade).filter(|other| !Arc::ptr_eq(other, node)).collect()
}

/// Whether a peer of this node is a node of the process.
pub(crate) fn has(node: &Arc<NodeShared>, peer: &PeerId) -> bool {
    others(node).iter().any(|other| other.peer_id == *peer)
}

/// The latest record of a node, if it has one and is not about to leave.
pub(crate) fn record(node: &NodeShared) -> Option<Arc<[u8]>> {
    node.record.borrow().clone()
}

/// Replaces a node's record and tells the others.
pub(crate) fn announce(node: &Arc<NodeShared>, record: Option<Arc<[u8]>>) {
    node.record.send_replace(record);
    for other in others(node) {
        changed(&other);
    }
}
