//! A node of a network: identity, addresses, and the way to streams and peers.
//!
//! Sockets, sessions and threads are the engine's; here they are only asked for and named.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use corewire_engine::driver::bind::BindError;
use corewire_engine::engine::{Engine, EngineConfig, EngineError, EngineInfo};
use corewire_engine::node::{JoinError, LeaveError, Node, NodeConfig};
use corewire_engine::proto::TagId;
use tokio::sync::watch;

use crate::discovery::{Discovery, IntoTags};
use crate::id::{NetworkId, PeerId, UniqueId};
use crate::streams::{self, Streams};

/// How long what was accepted may still be delivered when a [`Network`] is dropped instead of shut down.
const DRAIN_ON_DROP: Duration = Duration::from_secs(1);

/// A node of a network.
///
/// Nodes with the same [`NetworkId`] (and the same network secret, if one is set) form a network. Nodes in one
/// process find each other by themselves; nodes elsewhere are met through
/// [`with_bootstrap`](Builder::with_bootstrap).
///
/// Any number of nodes may live in one process. They share the threads of one engine unless they are
/// [given](Builder::with_engine) their own.
///
/// Dropping it leaves the network: its producers are closed, what they accepted is delivered for up to a second in
/// the background, then its consumers end and its sessions are closed. [`shutdown`](Self::shutdown) does the same,
/// waits for it, and says whether everything was delivered.
pub struct Network {
    node: Node,
    local: Local,
    network_id: NetworkId,
    streams: Streams,
    discovery: Discovery,
    /// Its drop tells those who wait for peers.
    _present: watch::Sender<()>,
}

impl Network {
    /// Joins the network `id` with a fresh identity on a free port of the loopback interface.
    ///
    /// # Errors
    ///
    /// [`NetworkError`], when the engine cannot start or no port can be bound.
    pub async fn new(id: impl Into<NetworkId>) -> Result<Self, NetworkError> {
        Self::builder(id).build().await
    }

    /// Configures a node.
    pub fn builder(id: impl Into<NetworkId>) -> Builder {
        Builder::new(id.into())
    }

    /// The network that this node belongs to.
    pub fn network_id(&self) -> &NetworkId {
        &self.network_id
    }

    /// This node itself: who it is and where it is reached.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The streams of this node.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The peers of this node.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// What the node's engine runs on: its drivers and their threads, and why if they are not the first choice.
    pub fn engine_info(&self) -> &EngineInfo {
        self.node.engine().info()
    }

    /// Leaves the network in order: producers are closed, what they accepted is delivered for at most `deadline`,
    /// then everything ends. Leaving begins at once and goes on if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`ShutdownError::Deadline`] when something was not delivered in time.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ShutdownError> {
        match self.node.shutdown(deadline).await {
            Ok(()) => Ok(()),
            Err(LeaveError::Deadline | _) => Err(ShutdownError::Deadline),
        }
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

/// Who a node is and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    id: PeerId,
    addresses: Vec<SocketAddr>,
}

impl Local {
    /// The identity of this node: the digest of its public key.
    pub fn id(&self) -> &PeerId {
        &self.id
    }

    /// Where this node receives datagrams, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// 32 secret bytes: an identity, or the secret of a network. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A fresh key.
    ///
    /// # Panics
    ///
    /// As [`UniqueId::random`].
    pub fn random() -> Self {
        Self(UniqueId::random().to_bytes())
    }

    /// The key with these bytes, which should be random: whoever can guess them can be this node.
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

/// Where the threads of a node come from.
enum EngineChoice {
    /// The engine that all nodes of the process share unless told otherwise.
    Shared,
    /// One that exists.
    Given(Engine),
    /// One of the node's own.
    Own(Box<EngineConfig>),
}

/// An engine to run a node on: one that exists, or the configuration of one of its own.
pub struct EngineSource(EngineChoice);

impl From<Engine> for EngineSource {
    fn from(engine: Engine) -> Self {
        Self(EngineChoice::Given(engine))
    }
}

impl From<&Engine> for EngineSource {
    fn from(engine: &Engine) -> Self {
        Self(EngineChoice::Given(engine.clone()))
    }
}

impl From<EngineConfig> for EngineSource {
    fn from(config: EngineConfig) -> Self {
        Self(EngineChoice::Own(Box::new(config)))
    }
}

/// Configures a node; made by [`Network::builder`].
///
/// ```
/// # use corewire::{Network, SecretKey};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::builder("prices")
///     .with_secret_key(SecretKey::random())
///     .with_tags(["validator", "trusted"])
///     .with_addresses(["127.0.0.1:0".parse()?])
///     .build()
///     .await?;
/// println!("{} at {:?}", network.local().id(), network.local().addresses());
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    network_id: NetworkId,
    config: NodeConfig,
    engine: EngineChoice,
    streams: streams::Config,
}

impl Builder {
    fn new(network_id: NetworkId) -> Self {
        Self {
            network_id,
            config: NodeConfig::new(network_id.to_bytes()),
            engine: EngineChoice::Shared,
            streams: streams::Config::default(),
        }
    }

    /// The identity. Default: a fresh one.
    pub fn with_secret_key(mut self, key: impl Into<SecretKey>) -> Self {
        self.config.identity_seed = Some(key.into().0);
        self
    }

    /// A secret that all nodes of the network have to know. Default: none; then whoever knows the id of the network
    /// may join it.
    pub fn with_network_secret(mut self, secret: impl Into<SecretKey>) -> Self {
        self.config.network_secret = Some(secret.into().0);
        self
    }

    /// Where to receive datagrams; port 0 is any free one. Default: `127.0.0.1:0`. Further calls add addresses.
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.config.bind.extend(addresses);
        self
    }

    /// Where peers are to send, if that is not where this node receives: behind a translating router, or when the
    /// unspecified address was bound. Further calls add addresses.
    pub fn with_announced_addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.config.announce.extend(addresses);
        self
    }

    /// Labels that this node announces about itself: one or many. Further calls add tags.
    pub fn with_tags(mut self, tags: impl IntoTags) -> Self {
        self.config.tags.extend(tags.into_tags().into_iter().map(|tag| TagId::from(tag.to_bytes())));
        self
    }

    /// Addresses of peers to meet the network through; they are tried for ever, so they need not be up yet. Further
    /// calls add addresses.
    pub fn with_bootstrap(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.config.bootstrap.extend(addresses);
        self
    }

    /// The engine to run on: an [`Engine`], or an [`EngineConfig`] to start one for this node alone. Default: the
    /// engine that all nodes of the process share.
    pub fn with_engine(mut self, engine: impl Into<EngineSource>) -> Self {
        self.engine = engine.into().0;
        self
    }

    /// Settings that all streams of this node share.
    pub fn with_streams_config(mut self, config: streams::Config) -> Self {
        self.streams = config;
        self
    }

    /// Joins the network. The addresses are bound when this resolves; peers are found in the background.
    ///
    /// # Errors
    ///
    /// [`NetworkError`].
    #[expect(
        clippy::unused_async,
        reason = "joining may come to wait for something; callers should not have to care"
    )]
    pub async fn build(self) -> Result<Network, NetworkError> {
        let engine = match self.engine {
            EngineChoice::Shared => Engine::global()?,
            EngineChoice::Given(engine) => engine,
            EngineChoice::Own(config) => Engine::start(*config)?,
        };
        let node = engine.join(self.config)?;
        let local =
            Local { id: PeerId::from_bytes(node.peer_id().into()), addresses: node.local_addrs().to_vec() };
        let (_present, seen) = watch::channel(());
        Ok(Network {
            local,
            network_id: self.network_id,
            streams: Streams::new(node.clone(), self.streams),
            discovery: Discovery::new(node.clone(), seen),
            node,
            _present,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The engine could not start.
    #[error("the engine did not start: {0}")]
    Engine(#[from] EngineError),
    /// The node could not be made: an address, a secret or a limit.
    #[error("the node could not join: {0}")]
    Join(#[from] JoinError),
}

impl NetworkError {
    /// Whether an address that was asked for is in use by another program or node.
    pub fn is_address_in_use(&self) -> bool {
        matches!(self, Self::Join(JoinError::Bind(BindError::InUse { .. })))
    }
}

/// Why a node did not leave in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Not everything was delivered in time.
    #[error(
        "the deadline passed before everything was delivered: give it more time, or look for slow consumers"
    )]
    Deadline,
}
