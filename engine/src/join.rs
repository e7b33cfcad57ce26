//! How a node joins a network: its addresses are bound, its settings checked, and the clerk is asked to serve
//! it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use corewire_proto::{
    handshake::NetworkSecret,
    identity::Identity,
    membership::{MAX_ADDRESSES, MAX_TAGS, can_be_announced},
};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    driver::{
        Socket,
        bind::{BindError, Bound, bind_shards},
        interface_addresses,
    },
    engine::Engine,
    node::{BeaconInfo, BeaconReach, JoinError, Node, NodeConfig, NodeSocket},
    peer::ShownTicket,
    registry,
    shard::NodeId,
    shared::{
        beacon::{BeaconSetup, BeaconSockets, concrete},
        dialling::{BootstrapTarget, callable, is_host_and_port},
        egress::EgressLimit,
        node::{JoinRequest, NodeParts, NodeSettings, NodeShared},
        port::ClerkRequest,
    },
};

/// Bootstrap names of one node. Each may have a thread that resolves it.
const BOOTSTRAP_NAMES_MAX: usize = 64;

impl Node {
    /// Joins a network on `engine`: binds the node's addresses and begins to look for peers.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; an address that is in use is named.
    pub fn join(engine: &Engine, config: NodeConfig) -> Result<Self, JoinError> {
        let shards = engine.shards();
        let bound = if config.bind.is_empty() {
            bind_default(&config, shards)?
        } else {
            config.bind.iter().map(|&address| bind_shards(address, shards)).collect::<Result<_, _>>()?
        };
        let sockets = bound.into_iter().map(|bound| NodeSocket {
            address: bound.address,
            sockets: bound.sockets.into_iter().map(Socket::from).collect(),
        });
        let sockets: Vec<NodeSocket> = sockets.collect();
        let surroundings = Surroundings::of(&config, &sockets)?;
        Self::enter(engine, config, sockets, surroundings)
    }

    /// As [`Node::join`], on sockets that the caller has bound. `config.bind` and `config.beacon` are
    /// ignored.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub fn join_on(engine: &Engine, config: NodeConfig, sockets: Vec<NodeSocket>) -> Result<Self, JoinError> {
        let bound: Vec<SocketAddr> = sockets.iter().map(|socket| socket.address).collect();
        let announced =
            if config.announce.is_empty() { concrete(&bound, &[]) } else { config.announce.clone() };
        let surroundings = Surroundings { announced, setup: None, info: BeaconInfo::default() };
        Self::enter(engine, config, sockets, surroundings)
    }

    fn enter(
        engine: &Engine,
        config: NodeConfig,
        sockets: Vec<NodeSocket>,
        surroundings: Surroundings,
    ) -> Result<Self, JoinError> {
        let shards = engine.shards();
        let limits = *engine.limits();
        if let Some(odd) = sockets.iter().find(|socket| socket.sockets.len() != shards) {
            let given = odd.sockets.len();
            return Err(JoinError::Sockets { address: odd.address, given, shards });
        }
        let Surroundings { announced, setup, info } = surroundings;
        if let Some(&address) = announced.iter().find(|address| !can_be_announced(address)) {
            // No record with it could be signed, so no peer would ever learn of the node.
            return Err(JoinError::Announce { address });
        }
        for (what, given, limit) in [
            ("addresses", announced.len(), MAX_ADDRESSES),
            ("tags", config.tags.len(), MAX_TAGS),
            ("bootstrap addresses", config.bootstrap.len(), limits.peers),
            ("bootstrap names", config.bootstrap_names.len(), BOOTSTRAP_NAMES_MAX),
            ("bytes of tickets", ShownTicket::all_bytes(&config.tickets), limits.shown_bytes()),
        ] {
            if given > limit {
                return Err(JoinError::TooMany { what, given, limit });
            }
        }
        if let Some(name) = config.bootstrap_names.iter().find(|name| !is_host_and_port(name)) {
            return Err(JoinError::BootstrapName { name: name.clone() });
        }
        let addresses = config.bootstrap.into_iter().map(|to| BootstrapTarget::Address(callable(to)));
        let names = config.bootstrap_names.into_iter().map(BootstrapTarget::Name);
        let bootstrap = addresses.chain(names).collect();
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
            dead_after: config.session.dead_after,
            egress: config.max_bandwidth.map(|rate| Arc::new(EgressLimit::new(rate))),
            registry_key,
            network_id: config.network_id,
            announced,
            beacon: info,
            settings: NodeSettings { tags: config.tags, tickets: config.tickets },
        };
        let shared = NodeShared::new(parts, &sockets);
        let request = JoinRequest {
            shared: shared.clone(),
            identity,
            secret,
            sockets,
            bootstrap,
            beacon: setup,
            session: config.session,
        };
        if !port.send(ClerkRequest::Join(Box::new(request))) {
            return Err(JoinError::Stopped);
        }
        Ok(Self::new(shared, engine.times().drain, Arc::new(engine.clone())))
    }
}

/// What a node announces, and by what it is found.
struct Surroundings {
    announced: Vec<SocketAddr>,
    setup: Option<BeaconSetup>,
    info: BeaconInfo,
}

impl Surroundings {
    /// Reads the addresses of the host, and opens the sockets of the beacon. That there is none is no error:
    /// [`Node::beacon`] tells why.
    fn of(config: &NodeConfig, sockets: &[NodeSocket]) -> Result<Self, JoinError> {
        let bound: Vec<SocketAddr> = sockets.iter().map(|socket| socket.address).collect();
        let follows = config.announce.is_empty() && bound.iter().any(|address| address.ip().is_unspecified());
        let interfaces = if follows || config.beacon != BeaconReach::Off {
            interface_addresses().unwrap_or_default()
        } else {
            Vec::new()
        };
        let announced =
            if config.announce.is_empty() { concrete(&bound, &interfaces) } else { config.announce.clone() };
        let secret = match config.network_secret {
            Some(secret) => NetworkSecret::new(secret).map_err(JoinError::WeakSecret)?,
            None => NetworkSecret::of_public_network(&config.network_id),
        };
        let key = secret.beacon_key(&config.network_id);
        let mut info = BeaconInfo { reach: config.beacon, ..BeaconInfo::default() };
        if info.reach == BeaconReach::Lan && bound.iter().all(|address| address.ip().is_loopback()) {
            info.reach = BeaconReach::Host;
        }
        let mut opened = None;
        if info.reach != BeaconReach::Off {
            match BeaconSockets::open(&key, info.reach, &interfaces) {
                Ok(sockets) => {
                    info.interfaces = sockets.names(&interfaces);
                    opened = Some(sockets);
                }
                Err(error) => info.problem = Some(error.to_string()),
            }
        }
        let needed = follows || opened.is_some();
        let setup = needed.then_some(BeaconSetup { sockets: opened, key, follows });
        Ok(Self { announced, setup, info })
    }
}

/// Binds what a node without addresses receives on (see [`NodeConfig::bind`]). Where the system lacks IPv6,
/// IPv4 alone is enough for peers of both families.
fn bind_default(config: &NodeConfig, shards: usize) -> Result<Vec<Bound>, BindError> {
    // The addresses of a name are not known yet, and may change. So may those of peers on the link.
    let any = !config.bootstrap_names.is_empty() || config.beacon == BeaconReach::Lan;
    let peers = || config.bootstrap.iter().map(|peer| peer.ip().to_canonical());
    let (v4, v6) = (any || peers().any(|ip| ip.is_ipv4()), any || peers().any(|ip| ip.is_ipv6()));
    let here = !any && peers().all(|ip| ip.is_loopback());
    let wanted: &[SocketAddr] = &match (here, v4, v6) {
        (true, true, true) => vec![free(Ipv4Addr::LOCALHOST), free(Ipv6Addr::LOCALHOST)],
        (true, _, false) => vec![free(Ipv4Addr::LOCALHOST)],
        (true, false, true) => vec![free(Ipv6Addr::LOCALHOST)],
        (false, _, false) => vec![free(Ipv4Addr::UNSPECIFIED)],
        (false, _, true) => vec![free(Ipv6Addr::UNSPECIFIED)],
    };
    let mut bound = Vec::new();
    let mut refused = None;
    for &address in wanted {
        match bind_shards(address, shards) {
            Ok(one) => bound.push(one),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(_) if bound.is_empty() && v4 => Ok(vec![bind_shards(free(Ipv4Addr::UNSPECIFIED), shards)?]),
        Some(error) if bound.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

fn free(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(peers: &[&str]) -> Vec<SocketAddr> {
        let mut config = NodeConfig::new([1; 32]);
        for peer in peers {
            match peer.parse() {
                Ok(address) => config.bootstrap.push(address),
                Err(_) => config.bootstrap_names.push((*peer).to_owned()),
            }
        }
        let bound = bind_default(&config, 1).unwrap();
        bound.iter().map(|bound| SocketAddr::new(bound.address.ip(), 0)).collect()
    }

    #[test]
    fn a_node_without_addresses_binds_where_its_peers_can_be_reached() {
        let has_ipv6 = bind_shards(free(Ipv6Addr::LOCALHOST), 1).is_ok();
        let [v4, v6] = ["10.9.0.1:7411", "[2001:db8::1]:7411"];
        assert_eq!(bound(&[]), [free(Ipv4Addr::LOCALHOST)]);
        assert_eq!(bound(&["127.0.0.1:9", "[::ffff:127.0.0.2]:9"]), [free(Ipv4Addr::LOCALHOST)]);
        assert_eq!(bound(&[v4, "127.0.0.1:9"]), [free(Ipv4Addr::UNSPECIFIED)]);
        if has_ipv6 {
            assert_eq!(bound(&["[::1]:9"]), [free(Ipv6Addr::LOCALHOST)]);
            let both = [free(Ipv4Addr::LOCALHOST), free(Ipv6Addr::LOCALHOST)];
            assert_eq!(bound(&["[::1]:9", "127.0.0.1:9"]), both);
            assert_eq!(bound(&[v6]), [free(Ipv6Addr::UNSPECIFIED)]);
            assert_eq!(bound(&[v6, v4]), [free(Ipv6Addr::UNSPECIFIED)]);
            assert_eq!(bound(&["host:7411"]), [free(Ipv6Addr::UNSPECIFIED)]);
        } else {
            assert_eq!(bound(&[v6, v4]), [free(Ipv4Addr::UNSPECIFIED)]);
        }
    }
}
