//! Configuring a node, and joining its network.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use corewire_engine::node::{BeaconReach, Node, NodeConfig};
use tokio::sync::watch;

use super::{LocalNode, Network, NetworkError, SecretKey, SessionSettings};
use crate::blocking::block_on;
use crate::discovery::{Bootstrap, Discovery, IntoTags};
use crate::engine::{Engine, EngineChoice, EngineSource, HostedEngine};
use crate::id::NetworkId;
use crate::raw::RawTable;
use crate::streams::{self, Streams};
use crate::tickets::Ticket;

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
///     .with_tags(["validator", "eu-west"])
///     .build_blocking()?;
///
/// let found = first.discovery().wait_for_blocking(|peer| peer.has_tag("eu-west")).unwrap();
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
    /// Bytes per second; `None`: no limit.
    max_bandwidth: Option<u64>,
}

impl Builder {
    pub(super) fn new(network_id: NetworkId) -> Self {
        Self {
            network_id,
            config: NodeConfig::new(network_id.to_bytes()),
            engine: EngineChoice::Shared,
            session: SessionSettings::default(),
            streams: streams::Config::default(),
            beacon: None,
            max_bandwidth: None,
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
    /// The program `corewire` derives the secret from the bytes of its `--secret-file`, with BLAKE3. A node
    /// that is to meet it does the same:
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let file = b"open sesame\n";
    /// let secret = blake3::derive_key("corewire 2026 program network secret file", file);
    /// let network = Network::builder(NetworkId::random()).with_network_secret(secret).build_blocking()?;
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
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
    /// unspecified one. Further calls add addresses; at most 8, more are refused by `build`.
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

    /// Labels that this node announces about itself: one or many, as text or as [`Tag`](crate::Tag). A node
    /// chooses them freely, so they prove nothing. Default: none. Further calls add tags; at most 64, more
    /// are refused by `build`.
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
    /// neither the network nor the peer. Default: to every network that this host is directly attached to
    /// ([`BeaconReach::Lan`]), but across no router, if the network has a secret, which keeps strangers out;
    /// otherwise to this host only. What became of it is in
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
    /// those that do not answer is in [`Discovery::dial_failures`]. Further calls add addresses; at most
    /// 64 names, more are refused by `build`. For another example see [`Builder`].
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

    /// How many bytes per second the producers of this node send to other engines, all together; in addition
    /// each may have [its own limit](crate::streams::producer::Builder::with_max_bandwidth), where it says
    /// what is counted. Default: no limit.
    ///
    /// Channels share it by their [weights](crate::streams::producer::Builder::fairness_weight). The limit is
    /// exact over all shards of the engine. Acknowledgements and discovery do not count and do not wait.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::builder(NetworkId::random()).with_max_bandwidth(10_000_000).build_blocking()?;
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// With 0, `build` returns [`NetworkError::NoBandwidth`].
    pub fn with_max_bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.max_bandwidth = Some(bytes_per_second);
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
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// let network = Network::builder(NetworkId::random()).build().await?;
    /// assert!(!network.local().addresses().is_empty());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// # }).unwrap();
    /// ```
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
        if let Some(rate) = self.max_bandwidth {
            self.config.max_bandwidth = Some(NonZeroU64::new(rate).ok_or(NetworkError::NoBandwidth)?);
        }
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
            raw: RawTable::new(node.clone()),
            node,
            engine,
            _present,
        })
    }

    /// [`build`](Self::build) without an async runtime.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let builder = Network::builder(NetworkId::random()).with_addresses(["127.0.0.1:0".parse()?]);
    /// let network = builder.build_blocking()?;
    /// assert!(network.local().addresses()[0].ip().is_loopback());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
