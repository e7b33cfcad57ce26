//! The nodes that a shard serves. To a shard, a node is an id with sockets and sessions.

use std::{collections::HashMap, net::SocketAddr};

use super::command::NodeId;
use crate::{driver::SocketId, shared::reach::reach};

/// One node's sockets and sessions on this shard.
#[derive(Debug, Default)]
struct NodeEntry {
    /// Each socket with the address that it is bound to.
    sockets: Vec<(SocketId, SocketAddr)>,
    /// Its sessions in the shard's table.
    sessions: usize,
    /// Removed when its last session is over.
    leaving: bool,
}

/// All nodes of a shard.
#[derive(Debug, Default)]
pub(crate) struct ShardNodes {
    nodes: HashMap<NodeId, NodeEntry>,
    by_socket: HashMap<SocketId, NodeId>,
}

impl ShardNodes {
    /// Gives `node` another socket.
    pub(crate) fn add(&mut self, node: NodeId, socket: SocketId, local: SocketAddr) {
        self.nodes.entry(node).or_default().sockets.push((socket, local));
        self.by_socket.insert(socket, node);
    }

    /// The node that a datagram from this socket is for.
    pub(crate) fn of_socket(&self, socket: SocketId) -> Option<NodeId> {
        let node = *self.by_socket.get(&socket)?;
        self.nodes.get(&node).is_some_and(|node| !node.leaving).then_some(node)
    }

    /// The socket through which `node` reaches `to`: the first that fits it best, by [`reach`].
    pub(crate) fn socket_for(&self, node: NodeId, to: SocketAddr) -> Option<SocketId> {
        let sockets = &self.nodes.get(&node)?.sockets;
        let able = sockets.iter().filter_map(|(socket, local)| Some((reach(*local, to)?, *socket)));
        able.min_by_key(|(reach, _)| *reach).map(|(_, socket)| socket)
    }

    /// A session of `node` begins; `false` when the node is unknown or leaving.
    pub(crate) fn enter(&mut self, node: NodeId) -> bool {
        match self.nodes.get_mut(&node) {
            Some(node) if !node.leaving => {
                node.sessions += 1;
                true
            }
            _ => false,
        }
    }

    /// A session of `node` is over. Gives the sockets to close if it was the last one of a node that leaves.
    pub(crate) fn exit(&mut self, node: NodeId) -> Vec<SocketId> {
        if let Some(entry) = self.nodes.get_mut(&node) {
            assert!(entry.sessions > 0, "{node:?} has no session that could end");
            entry.sessions -= 1;
        }
        self.sweep(node)
    }

    /// The node leaves as soon as it has no session. Gives the sockets to close if that is now.
    pub(crate) fn leave(&mut self, node: NodeId) -> Vec<SocketId> {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.leaving = true;
        }
        self.sweep(node)
    }

    fn sweep(&mut self, node: NodeId) -> Vec<SocketId> {
        match self.nodes.get(&node) {
            Some(entry) if entry.leaving && entry.sessions == 0 => {}
            _ => return Vec::new(),
        }
        let sockets: Vec<SocketId> = self
            .nodes
            .remove(&node)
            .map(|entry| entry.sockets)
            .unwrap_or_default()
            .into_iter()
            .map(|(s, _)| s)
            .collect();
        for socket in &sockets {
            self.by_socket.remove(socket);
        }
        sockets
    }
}
