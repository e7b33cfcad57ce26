//! A node of a network: its identity, its addresses, and the way to its streams and peers.
//!
//! Sockets, sessions and threads belong to the engine; this module configures and names them.

mod builder;
mod error;
mod raw;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use corewire_engine::node::Node;
pub use corewire_engine::node::{BeaconInfo, BeaconReach};
use tokio::sync::watch;

pub use self::builder::Builder;
pub use self::error::{NetworkError, ShutdownError};
use crate::blocking::block_on;
use crate::discovery::Discovery;
pub use crate::engine::EngineSource;
use crate::engine::{Engine, NodeStats};
use crate::id::{NetworkId, PeerId, UniqueId};
use crate::raw::RawTable;
pub use crate::session_settings::{Congestion, SessionSettings, SessionSettingsError};
use crate::streams::Streams;

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
/// threads of the engine, and the exit of the process waits for it. With a
/// [`HostedEngine`](crate::HostedEngine) it goes on while that is driven or dropped, and
/// `std::process::exit` waits for nothing. [`shutdown`](Self::shutdown) does the same with a deadline of the
/// caller's, waits for it, and reports what was not delivered.
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
    raw: RawTable,
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
    ///
    /// ```
    /// use corewire::{Network, NetworkId};
    ///
    /// let network = Network::builder(NetworkId::random()).with_tags("validator").build_blocking()?;
    /// assert!(network.discovery().me().has_tag("validator"));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
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
    /// [`ShutdownError::EngineStopped`] when the engine ended first.
    ///
    /// # Cancel safety
    ///
    /// Leaving begins with the first poll and goes on if the future is dropped. Dropped before that, the
    /// network leaves as any dropped network does.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ShutdownError> {
        Ok(self.node.shutdown(deadline).await?)
    }

    /// [`shutdown`](Self::shutdown) without an async runtime: parks the thread.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// network.shutdown_blocking(std::time::Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
///
/// ```
/// use corewire::SecretKey;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("key");
/// # std::fs::write(&path, [7; 32])?;
/// let bytes: [u8; 32] = std::fs::read(&path)?.try_into().map_err(|_| "the file has not 32 bytes")?;
/// let key = SecretKey::from_bytes(bytes);
/// assert_eq!(key.as_bytes(), &bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
