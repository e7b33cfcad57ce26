//! A node of a network: its identity, its addresses, and the way to its streams and peers.
//!
//! Sockets, sessions and threads belong to the engine; this module configures and names them.

mod error;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

pub use corewire_engine::node::{BeaconInfo, BeaconReach};
use corewire_engine::node::{LeaveError, Node, NodeConfig};
use tokio::sync::watch;

pub use self::error::{NetworkError, ShutdownError};
use crate::blocking::block_on;
use crate::discovery::{Bootstrap, Discovery, IntoTags};
pub use crate::engine::EngineSource;
use crate::engine::{Engine, EngineChoice, HostedEngine, NodeStats};
use crate::id::{NetworkId, PeerId, UniqueId};
pub use crate::session_settings::{Congestion, SessionSettings, SessionSettingsError};
use crate::streams::undelivered::undelivered;
use crate::streams::{self, Streams};
use crate::tickets::Ticket;

/// How long accepted datums may still be delivered when a [`Network`] is dropped instead of shut down.
const DRAIN_ON_DROP: Duration = Duration::from_secs(2);

/// A node of a network.
///
/// Nodes with the same [`NetworkId`] (and the same network secret, if one is set) form a network. Nodes in
/// one process and on one host find each other by themselves, and those on one link if the network has a
/// secret or [`with_beacon`](Builder::with_beacon) asks for that. Nodes elsewhere are met through
/// [`with_bootstrap`](Builder::with_bootstrap).
///
/// Any number of nodes may live in one process. They share the threads of one engine unless they are
/// [given](Builder::with_engine) their own.
///
/// Dropping it leaves the network: its producers are closed, accepted datums are delivered for at most two
/// seconds, then its consumers end and its sessions are closed. That goes on in the background, on the
/// threads of the engine, and the exit of the process waits for it. [`shutdown`](Self::shutdown) does the
/// same with a deadline of the caller's, waits for it, and reports what was not delivered.
///
/// ```
/// use corewire::{Network, NetworkId};
/// use std::time::Duration;
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let mut consumer = network.streams().consume::<u64>();
/// let producer = network.streams().produce::<u64>();
/// producer.send_blocking(7)?;
/// assert_eq!(consumer.recv_blocking(), Some(7));
/// network.shutdown_blocking(Duration::from_secs(5))?;
/// assert_eq!(consumer.recv_blocking(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Network {
    node: Node,
    engine: Engine,
    local: LocalNode,
    network_id: NetworkId,
    streams: Streams,
    discovery: Discovery,
    /// Dropped with the network, which ends the waits of [`Discovery::wait_for`].
    _present: watch::Sender<()>,
}

impl Network {
    /// Joins the network `id` with a new identity on a free port of the loopback interface.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// let by_name = Network::new("prices of today").await?;
    /// let by_id = Network::new(NetworkId::from("prices of today")).await?;
    /// assert_eq!(by_name.network_id(), by_id.network_id());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`NetworkError`], when the engine cannot start or no port can be bound.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolved has not joined.
    pub async fn new(id: impl Into<NetworkId>) -> Result<Self, NetworkError> {
        Self::builder(id).build().await
    }

    /// [`new`](Self::new) without an async runtime.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_blocking(id: impl Into<NetworkId>) -> Result<Self, NetworkError> {
        Self::builder(id).build_blocking()
    }

    /// Configures a node of the network `id`; see [`Builder`].
    pub fn builder(id: impl Into<NetworkId>) -> Builder {
        Builder::new(id.into())
    }

    /// The network that this node belongs to.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let id = NetworkId::random();
    /// assert_eq!(*Network::new_blocking(id)?.network_id(), id);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn network_id(&self) -> &NetworkId {
        &self.network_id
    }

    /// The identity of this node and the addresses at which it receives.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// println!("{} at {:?}", network.local().id(), network.local().addresses());
    /// # assert_ne!(network.local().addresses()[0].port(), 0);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn local(&self) -> &LocalNode {
        &self.local
    }

    /// The streams of this node: where producers and consumers are made.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<f64>().with_stream_id("prices").build().unwrap();
    /// let consumer = network.streams().consumer::<f64>().with_stream_id("prices").build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The peers of this node; see [`Discovery`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// assert_eq!(network.discovery().me().id(), network.local().id());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// The engine that runs this node: its threads, drivers and counters.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// println!("{} shards: {:?}", network.engine().shards(), network.engine().info());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The counters of this node since it joined: handshakes, sessions, records of peers, channels. A
    /// snapshot, cheap enough to take every second.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// let stats = network.stats();
    /// assert_eq!(stats.sessions_lost, 0);
    /// for (name, value) in stats.iter() {
    ///     println!("{name}: {value}");
    /// }
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn stats(&self) -> NodeStats {
        self.node.stats()
    }

    /// Leaves the network in order: producers are closed, accepted datums are delivered for at most
    /// `deadline`, then consumers end and sessions are closed.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// network.shutdown(std::time::Duration::from_secs(5)).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`ShutdownError::Deadline`] when something was not delivered in time; it has who did not get how much.
    ///
    /// # Cancel safety
    ///
    /// Leaving begins with the first poll and goes on if the future is dropped. Dropped before that, the
    /// network leaves as any dropped network does.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ShutdownError> {
        match self.node.shutdown(deadline).await {
            Ok(()) => Ok(()),
            Err(LeaveError::Deadline { missing }) => {
                Err(ShutdownError::Deadline { undelivered: undelivered(missing) })
            }
            // `LeaveError` is non-exhaustive; there is no other variant today.
            Err(_) => Err(ShutdownError::Deadline { undelivered: Vec::new() }),
        }
    }

    /// [`shutdown`](Self::shutdown) without an async runtime: parks the thread.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown).
    pub fn shutdown_blocking(self, deadline: Duration) -> Result<(), ShutdownError> {
        block_on(self.shutdown(deadline))
    }
}

/// As [`Network::streams`].
impl AsRef<Streams> for Network {
    fn as_ref(&self) -> &Streams {
        &self.streams
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Handles of streams may live on; they must not keep the node in the network.
        if !self.node.is_leaving() {
            drop(self.node.shutdown(DRAIN_ON_DROP));
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("network_id", &self.network_id)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// A node's identity and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNode {
    id: PeerId,
    addresses: Vec<SocketAddr>,
}

impl LocalNode {
    /// The identity of this node: the digest of its public key.
    pub fn id(&self) -> &PeerId {
        &self.id
    }

    /// The addresses at which this node receives datagrams, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// 32 secret bytes: an identity, or the secret of a network. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A new key.
    ///
    /// # Panics
    ///
    /// As [`UniqueId::random`].
    pub fn random() -> Self {
        Self(UniqueId::random().to_bytes())
    }

    /// The key with these bytes, which should be random: a party that can guess them can act as this node.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored in a safe place.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for SecretKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// Configures a node; made by [`Network::builder`].
///
/// ```
/// # use corewire::{Network, NetworkId, SecretKey};
/// let id = NetworkId::random();
/// let secret = SecretKey::random();
/// let first = Network::builder(id).with_network_secret(secret.clone()).build_blocking()?;
///
/// let second = Network::builder(id)
///     .with_secret_key(SecretKey::random())
///     .with_network_secret(secret)
///     .with_addresses(["127.0.0.1:0".parse()?])
///     .with_bootstrap(first.local().addresses().iter().copied())
///     .with_tags(["validator", "trusted"])
///     .build_blocking()?;
///
/// let found = first.discovery().wait_for_blocking(|peer| peer.has_tag("trusted")).unwrap();
/// assert_eq!(found.id(), second.local().id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    network_id: NetworkId,
    config: NodeConfig,
    engine: EngineChoice,
    session: SessionSettings,
    streams: streams::Config,
    /// `None`: as the secret says.
    beacon: Option<BeaconReach>,
}

impl Builder {
    fn new(network_id: NetworkId) -> Self {
        Self {
            network_id,
            config: NodeConfig::new(network_id.to_bytes()),
            engine: EngineChoice::Shared,
            session: SessionSettings::default(),
            streams: streams::Config::default(),
            beacon: None,
        }
    }

    /// The identity. Default: a new one.
    ///
    /// ```
    /// # use corewire::{Network, SecretKey};
    /// let key = SecretKey::random();
    /// let first = Network::builder("n").with_secret_key(key.clone()).build_blocking()?;
    /// let id = *first.local().id();
    /// drop(first);
    /// assert_eq!(*Network::builder("n").with_secret_key(key).build_blocking()?.local().id(), id);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_secret_key(mut self, key: impl Into<SecretKey>) -> Self {
        self.config.identity_seed = Some(key.into().0);
        self
    }

    /// A secret that all nodes of the network have to know. Default: none; then knowledge of the network's id
    /// is enough to join. Bytes that are evidently not random are refused when the node is built.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, SecretKey};
    /// let weak = Network::builder(NetworkId::random()).with_network_secret([0; 32]).build_blocking();
    /// assert!(weak.is_err());
    /// ```
    pub fn with_network_secret(mut self, secret: impl Into<SecretKey>) -> Self {
        self.config.network_secret = Some(secret.into().0);
        self
    }

    /// The addresses to receive datagrams at; port 0 is any free one. `[::]` takes both families. Default: a
    /// free port where the peers of [`with_bootstrap`](Self::with_bootstrap) can be reached from. While there
    /// are none, or all are on the loopback interface, that is the loopback interface; otherwise, and with a
    /// beacon on the link, it is the unspecified address. A node at the unspecified address announces the
    /// addresses of the host's interfaces, and follows their changes. Further calls add addresses.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::builder(NetworkId::random())
    ///     .with_addresses(["127.0.0.1:0".parse()?, "127.0.0.1:0".parse()?])
    ///     .build_blocking()?;
    /// assert_eq!(network.local().addresses().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.config.bind.extend(addresses);
        self
    }

    /// The addresses that peers are to send to, if those differ from the ones at which this node receives:
    /// behind a translating router. Default: the bound addresses, and those of the host's interfaces for the
    /// unspecified one. Further calls add addresses.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::builder(NetworkId::random())
    ///     .with_addresses(["0.0.0.0:0".parse()?])
    ///     .with_announced_addresses(["127.0.0.1:4000".parse()?])
    ///     .build_blocking()?;
    /// assert_eq!(network.discovery().me().addresses(), ["127.0.0.1:4000".parse()?]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_announced_addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.config.announce.extend(addresses);
        self
    }

    /// Labels that this node announces about itself: one or many, as text or as [`Tag`](crate::Tag). Default:
    /// none. Further calls add tags.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network =
    ///     Network::builder(NetworkId::random()).with_tags("a").with_tags(["b", "c"]).build_blocking()?;
    /// assert_eq!(network.discovery().me().tags().len(), 3);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_tags(mut self, tags: impl IntoTags) -> Self {
        for tag in tags.into_tags() {
            self.config.tags.push(tag.to_bytes().into());
        }
        self
    }

    /// How far this node makes itself known by beacons: sealed multicast datagrams (UDP port 7412) by which
    /// nodes of a network find each other without addresses. Only members can read one: it tells a stranger
    /// neither the network nor the peer. Default: to the links of this host ([`BeaconReach::Lan`]) if the
    /// network has a secret, which keeps strangers out; otherwise to this host only. What became of it is in
    /// [`Discovery::beacon`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::network::BeaconReach;
    ///
    /// let alone = Network::builder(NetworkId::random()).with_beacon(BeaconReach::Off).build_blocking()?;
    /// assert_eq!(alone.discovery().beacon().reach, BeaconReach::Off);
    /// let found = Network::new_blocking(NetworkId::random())?;
    /// assert_eq!(found.discovery().beacon().reach, BeaconReach::Host);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_beacon(mut self, reach: BeaconReach) -> Self {
        self.beacon = Some(reach);
        self
    }

    /// A ticket to show to peers from the start; see [`tickets`](crate::tickets). Default: none. Further
    /// calls add tickets; [`Discovery::add_ticket`] does so later. Too long ones are refused by `build`.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, unique_id};
    /// use corewire::tickets::Ticket;
    ///
    /// let ticket = Ticket::new(unique_id!("my-app.password"), "swordfish");
    /// let network = Network::builder(NetworkId::random()).with_ticket(ticket.clone()).build_blocking()?;
    /// assert_eq!(network.discovery().me().tickets(), [ticket]);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_ticket(mut self, ticket: Ticket) -> Self {
        self.config.tickets.push(ticket.into_shown());
        self
    }

    /// Addresses of peers to meet the network through, or names as `host:port`; the unspecified address is
    /// this host. Default: none. They are tried until they answer, so they need not be up yet. A name is
    /// resolved again for each round of attempts, and each of its addresses is tried. What came back from
    /// those that do not answer is in [`Discovery::dial_failures`]. Further calls add addresses. For another
    /// example see [`Builder`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let id = NetworkId::random();
    /// let network = Network::builder(id).with_bootstrap(["localhost:7411"]).build_blocking()?;
    /// let nonsense = Network::builder(id).with_bootstrap(["localhost"]).build_blocking();
    /// assert!(nonsense.is_err(), "a port is missing");
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_bootstrap<T: Into<Bootstrap>>(mut self, addresses: impl IntoIterator<Item = T>) -> Self {
        for address in addresses {
            match address.into().0 {
                Ok(address) => self.config.bootstrap.push(address),
                Err(name) => self.config.bootstrap_names.push(name),
            }
        }
        self
    }

    /// The engine to run on: an [`Engine`], a [`HostedEngine`], or an
    /// [`EngineConfig`](crate::engine::EngineConfig) to start one for this
    /// node. Default: the engine that this thread hosts, or else the one that the nodes of the process share.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::engine::{EngineConfig, Idle};
    ///
    /// let config = EngineConfig { shards: 1, idle: Idle::Park, ..EngineConfig::default() };
    /// let network = Network::builder(NetworkId::random()).with_engine(config).build_blocking()?;
    /// assert_eq!(network.engine().info().shards.len(), 1);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_engine(mut self, engine: impl Into<EngineSource>) -> Self {
        self.engine = engine.into().0;
        self
    }

    /// How the sessions with peers behave: times, packet size, congestion control, limits. Default: those of
    /// [`SessionSettings`], which has an example.
    pub fn with_session(mut self, session: SessionSettings) -> Self {
        self.session = session;
        self
    }

    /// Settings that all streams of this node share. Default: [`streams::Config::default`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::streams::{Config, ExponentialBackoffBuilder};
    /// use std::time::Duration;
    ///
    /// let backoff = ExponentialBackoffBuilder::new().with_max_interval(Duration::from_secs(5)).build();
    /// let config = Config::builder().with_backoff(backoff).build()?;
    /// let network =
    ///     Network::builder(NetworkId::random()).with_streams_config(config.clone()).build_blocking()?;
    /// assert_eq!(network.streams().config(), &config);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_streams_config(mut self, config: streams::Config) -> Self {
        self.streams = config;
        self
    }

    /// Joins the network. The addresses are bound when this resolves; peers are found in the background.
    ///
    /// # Errors
    ///
    /// [`NetworkError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolved has not joined.
    #[expect(
        clippy::unused_async,
        reason = "the seeds' signature; it also leaves room for a join that has to wait"
    )]
    pub async fn build(mut self) -> Result<Network, NetworkError> {
        self.config.session = self.session.checked()?;
        let has_secret = self.config.network_secret.is_some();
        let default = if has_secret { BeaconReach::Lan } else { BeaconReach::Host };
        self.config.beacon = self.beacon.unwrap_or(default);
        let engine = match self.engine {
            EngineChoice::Shared => HostedEngine::here().map_or_else(Engine::global, Ok)?,
            EngineChoice::Given(engine) => engine,
            EngineChoice::Own(config) => Engine::start(*config)?,
        };
        let node = Node::join(&engine, self.config)?;
        let local = LocalNode { id: node.peer_id().0.into(), addresses: node.local_addrs().to_vec() };
        let (_present, gone) = watch::channel(());
        Ok(Network {
            local,
            network_id: self.network_id,
            streams: Streams::new(node.clone(), self.streams),
            discovery: Discovery::new(node.clone(), gone),
            node,
            engine,
            _present,
        })
    }

    /// [`build`](Self::build) without an async runtime.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_blocking(self) -> Result<Network, NetworkError> {
        block_on(self.build())
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}
