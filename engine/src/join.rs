//! How a node joins a network: its addresses are bound, its settings checked, and the clerk is asked to serve
//! it.

use std::sync::Arc;

use corewire_proto::{
    handshake::NetworkSecret,
    identity::Identity,
    membership::{MAX_ADDRESSES, MAX_TAGS, can_be_announced},
};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    driver::{Socket, bind::bind_shards},
    engine::Engine,
    node::{self, JoinError, Node, NodeConfig, NodeSocket},
    registry,
    shard::NodeId,
    shared::{
        node::{JoinRequest, NodeParts, NodeSettings, NodeShared},
        port::ClerkRequest,
    },
};

impl Node {
    /// Joins a network on `engine`: binds the node's addresses and begins to look for peers.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; an address that is in use is named.
    pub fn join(engine: &Engine, config: NodeConfig) -> Result<Self, JoinError> {
        let mut sockets = Vec::new();
        for address in config.bind_or_default() {
            let bound = bind_shards(address, engine.shards())?;
            sockets.push(NodeSocket {
                address: bound.address,
                sockets: bound.sockets.into_iter().map(Socket::from).collect(),
                receive_buffer_bytes: bound.receive_buffer_bytes,
                send_buffer_bytes: bound.send_buffer_bytes,
            });
        }
        Self::join_on(engine, config, sockets)
    }

    /// As [`Node::join`], on sockets that the caller has bound. `config.bind` is ignored.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub fn join_on(engine: &Engine, config: NodeConfig, sockets: Vec<NodeSocket>) -> Result<Self, JoinError> {
        let shards = engine.shards();
        let limits = *engine.limits();
        if let Some(odd) = sockets.iter().find(|socket| socket.sockets.len() != shards) {
            let given = odd.sockets.len();
            return Err(JoinError::Sockets { address: odd.address, given, shards });
        }
        let announced = node::announced(&config, &sockets);
        if let Some(&address) = announced.iter().find(|address| !can_be_announced(address)) {
            // No record with it could be signed, so no peer would ever learn of the node.
            return Err(JoinError::Announce { address });
        }
        for (what, given, limit) in [
            ("addresses", announced.len(), MAX_ADDRESSES),
            ("tags", config.tags.len(), MAX_TAGS),
            ("bootstrap addresses", config.bootstrap.len(), limits.peers),
        ] {
            if given > limit {
                return Err(JoinError::TooMany { what, given, limit });
            }
        }
        let secret =
            config.network_secret.map(NetworkSecret::new).transpose().map_err(JoinError::WeakSecret)?;
        let seed = match config.identity_seed {
            Some(seed) => seed,
            None => {
                let mut seed = [0; 32];
                SystemRandom::new().fill(&mut seed).map_err(|_| JoinError::NoEntropy)?;
                seed
            }
        };
        let port = engine.port();
        if !port.reserve_node(limits.nodes) {
            let limit = limits.nodes;
            return Err(JoinError::TooMany { what: "engine's nodes", given: limit + 1, limit });
        }
        let identity = Identity::from_seed(&seed);
        let registry_key =
            config.use_registry.then(|| registry::key(&config.network_id, config.network_secret.as_ref()));
        let parts = NodeParts {
            id: NodeId(port.next_key()),
            peer_id: identity.peer_id(),
            port: port.clone(),
            limits,
            registry_key,
            network_id: config.network_id,
            announced,
            settings: NodeSettings { tags: config.tags, tickets: config.tickets },
        };
        let shared = NodeShared::new(parts, &sockets);
        let request = JoinRequest {
            shared: shared.clone(),
            identity,
            secret,
            sockets,
            bootstrap: config.bootstrap,
            session: config.session,
        };
        if !port.send(ClerkRequest::Join(Box::new(request))) {
            return Err(JoinError::Stopped);
        }
        Ok(Self::new(shared, engine.times().drain, Arc::new(engine.clone())))
    }
}
