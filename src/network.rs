//! A node of a network: identity, addresses, and the way to streams and peers.

use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::{Discovery, IntoTags};
use crate::id::{NetworkId, PeerId};
use crate::streams::{self, Streams};

/// A node of a network.
pub struct Network(());

impl Network {
    /// Joins the network `id` with a fresh identity on a free port of the loopback interface.
    pub async fn new(_id: impl Into<NetworkId>) -> Result<Self, NetworkError> {
        core::future::pending().await
    }
    /// Configures a node.
    pub fn builder(_id: impl Into<NetworkId>) -> Builder {
        todo!()
    }
    /// The network that this node belongs to.
    pub fn network_id(&self) -> &NetworkId {
        todo!()
    }
    /// This node itself.
    pub fn local(&self) -> &Local {
        todo!()
    }
    /// The streams of this node.
    pub fn streams(&self) -> &Streams {
        todo!()
    }
    /// The peers of this node.
    pub fn discovery(&self) -> &Discovery {
        todo!()
    }
    /// Leaves the network in order: producers stop, what they accepted is delivered until `deadline`, then
    /// everything is closed.
    pub async fn shutdown(self, _deadline: Duration) -> Result<(), ShutdownError> {
        core::future::pending().await
    }
}

/// What a node is called and where it is reached.
pub struct Local(());

impl Local {
    /// The identity of this node.
    pub fn id(&self) -> &PeerId {
        todo!()
    }
    /// Where this node receives datagrams.
    pub fn addresses(&self) -> &[SocketAddr] {
        todo!()
    }
}

/// 32 secret bytes.
#[derive(Clone)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A fresh key.
    pub fn random() -> Self {
        Self(crate::id::UniqueId::random().to_bytes())
    }
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for SecretKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Configures a node; made by [`Network::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder(());

impl Builder {
    /// The identity. Default: fresh.
    pub fn with_secret_key(self, _key: impl Into<SecretKey>) -> Self {
        todo!()
    }
    /// A secret that all nodes of the network have to know. Default: none.
    pub fn with_network_secret(self, _secret: impl Into<SecretKey>) -> Self {
        todo!()
    }
    /// Where to receive datagrams. Default: `127.0.0.1:0`.
    pub fn with_addresses(self, _addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        todo!()
    }
    /// Labels that this node announces about itself.
    pub fn with_tags(self, _tags: impl IntoTags) -> Self {
        todo!()
    }
    /// Addresses of peers to meet the network through.
    pub fn with_bootstrap(self, _addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        todo!()
    }
    /// Settings that all streams of this node share.
    pub fn with_streams_config(self, _config: streams::Config) -> Self {
        todo!()
    }
    /// Joins.
    pub async fn build(self) -> Result<Network, NetworkError> {
        core::future::pending().await
    }
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {}

/// Why a node could not leave in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The deadline passed before everything was delivered.
    #[error("the deadline passed before everything was delivered")]
    Deadline,
}
