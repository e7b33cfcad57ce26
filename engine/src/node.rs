//! A node: one membership of one network.
//!
//! Not inside: what the node does about its peers (the clerk's) and its sessions (the shards'). The handle
//! here checks requests, makes rings, and sends requests to the clerk.

use std::{any::Any, fmt, future::Future, net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

pub use corewire_proto::membership::RecordError;
use corewire_proto::{NetworkId, PeerId, StreamId, TagId, membership::SignedRecord, session::SessionConfig};
use corewire_rings::Ring;
use thiserror::Error;
use tokio::sync::{broadcast, watch};

pub use crate::shared::{
    beacon::{BeaconInfo, BeaconReach},
    dialling::{DialFailure, DialProblem},
    node::{LeaveError, NodeSocket},
};
use crate::{
    driver::bind::BindError,
    peer::{PeerChange, PeerInfo, ShownTicket},
    publication::{Publication, PublishError, PublishSpec},
    shard::NodeId,
    shared::{
        beacon::Heard,
        counters::NodeStats,
        dialling::{BootstrapTarget, callable, is_host_and_port},
        keys::{PublicationKey, SubscriptionKey},
        node::{ADDED_PEERS_MAX, NodeShared, Presence},
        port::{ClerkRequest, changed},
        publication::{PublicationGuard, PublicationShared},
        subscription::SubscriptionShared,
    },
    subscription::{SubscribeError, SubscribeSpec, Subscription},
};

/// What a node is made of.
#[derive(Clone)]
pub struct NodeConfig {
    /// The network to join.
    pub network_id: NetworkId,
    /// The network's secret, 32 random bytes; `None` derives one from the id, so that knowing the id is
    /// enough to join.
    pub network_secret: Option<[u8; 32]>,
    /// The node's identity, 32 random bytes; `None` draws a fresh one.
    pub identity_seed: Option<[u8; 32]>,
    /// Addresses to receive on; port 0 takes any free one. Empty: a free port where the bootstrap addresses
    /// can be reached from. That is the loopback interface while all of them are on it (or there are none)
    /// and the beacon stays on this host. Otherwise it is the unspecified address of their family, for both
    /// families `[::]`.
    pub bind: Vec<SocketAddr>,
    /// Addresses to announce instead of those that were bound, for nodes behind address translation. A node
    /// that binds the unspecified address announces those of the host's interfaces, as they are at the time.
    pub announce: Vec<SocketAddr>,
    /// Tags to wear.
    pub tags: Vec<TagId>,
    /// Tickets to show to peers.
    pub tickets: Vec<ShownTicket>,
    /// Addresses of peers to meet the network through. They are tried without end.
    pub bootstrap: Vec<SocketAddr>,
    /// The same as `host:port`; at most 64. Resolved again for each round of attempts; every address of a
    /// name is tried.
    pub bootstrap_names: Vec<String>,
    /// Whether nodes of the same network and secret in this process find each other without configuration.
    pub use_registry: bool,
    /// How far the node makes itself known by beacons. Not used by [`Node::join_on`].
    pub beacon: BeaconReach,
    /// As [`PublishSpec::max_bandwidth`], for all publications of the node together.
    pub max_bandwidth: Option<NonZeroU64>,
    /// Settings of the node's sessions. Its channel and opening limits are the engine's.
    pub session: SessionConfig,
}

impl NodeConfig {
    /// A node of network `network_id` with every default: a fresh identity on a free loopback port.
    pub fn new(network_id: impl Into<NetworkId>) -> Self {
        Self {
            network_id: network_id.into(),
            network_secret: None,
            identity_seed: None,
            bind: Vec::new(),
            announce: Vec::new(),
            tags: Vec::new(),
            tickets: Vec::new(),
            bootstrap: Vec::new(),
            bootstrap_names: Vec::new(),
            use_registry: true,
            beacon: BeaconReach::Off,
            max_bandwidth: None,
            session: SessionConfig::default(),
        }
    }
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither secret is printed.
        f.debug_struct("NodeConfig")
            .field("network_id", &self.network_id)
            .field("bind", &self.bind)
            .field("announce", &self.announce)
            .field("tags", &self.tags)
            .field("bootstrap", &self.bootstrap)
            .field("bootstrap_names", &self.bootstrap_names)
            .field("use_registry", &self.use_registry)
            .field("beacon", &self.beacon)
            .finish_non_exhaustive()
    }
}

/// Why a node could not join.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// An address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The network secret is not random.
    #[error("{0}")]
    WeakSecret(corewire_proto::handshake::WeakSecret),
    /// Too many of something in the configuration.
    #[error("a node has at most {limit} {what}, not {given}; give fewer")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there were.
        given: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The sockets do not fit the engine.
    #[error("the engine has {shards} shards and needs a socket for each; {given} were given for {address}")]
    Sockets {
        /// The address.
        address: SocketAddr,
        /// How many there were.
        given: usize,
        /// How many are needed.
        shards: usize,
    },
    /// No peer could send anything to an address that the node would announce.
    #[error(
        "{address} can't be announced: peers need a port and a unicast address, and an IPv4 one in its own form; \
         set `with_announced_addresses` to where the node can be reached"
    )]
    Announce {
        /// The address.
        address: SocketAddr,
    },
    /// A bootstrap name is not of the form `host:port`.
    #[error("`{name}` is not an address with a port; give one like 10.0.0.1:7411, [::1]:7411 or host:7411")]
    BootstrapName {
        /// The name.
        name: String,
    },
    /// The system has no random bytes to give.
    #[error("the system gave no random bytes for an identity; set `with_secret_key`")]
    NoEntropy,
    /// The engine has stopped.
    #[error("the engine has stopped; start another one")]
    Stopped,
}

/// A node's tickets are longer than it may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the tickets have {bytes} bytes with 36 for each, and at most {limit} are shown: remove old ones, or shorten them"
)]
pub struct TicketsTooLong {
    /// How long they are, with 36 bytes for each.
    pub bytes: usize,
    /// How long they may be.
    pub limit: usize,
}

/// Why a record was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FeedError {
    /// It is not the record of a peer of this network.
    #[error("not the record of a peer of this network: {0}; export it anew at the peer")]
    Record(RecordError),
    /// As many as fit wait to be taken in.
    #[error("too many records wait to be taken in; try again")]
    Busy,
}

/// Owned by all handles of one node together: its drop makes the node leave.
struct NodeHandle {
    shared: Arc<NodeShared>,
    /// The engine lives as long as its nodes.
    _engine: Arc<dyn Any + Send + Sync>,
    /// How long streams may drain when the last handle is dropped.
    drain: Duration,
}

impl NodeHandle {
    fn leave(&self, drain: Duration) {
        self.shared.leaving.set(true);
        if !self.shared.port.send(ClerkRequest::Leave { node: self.shared.id, drain }) {
            // The engine has stopped, and with it the node.
            self.shared.presence.show_if(|presence| {
                let member = *presence == Presence::Member;
                if member {
                    *presence = Presence::Left(Err(LeaveError::EngineStopped));
                }
                member
            });
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        if !self.shared.leaving.get() {
            self.leave(self.drain);
        }
    }
}

/// A membership of a network. Clones are handles of the same node. When the last one is dropped, the node
/// leaves: its publications are closed and drained, its subscriptions end, its sessions are closed, its
/// sockets too.
#[derive(Clone)]
pub struct Node(Arc<NodeHandle>);

impl Node {
    /// The handle of a node whose engine `engine` keeps running.
    pub(crate) fn new(shared: Arc<NodeShared>, drain: Duration, engine: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Arc::new(NodeHandle { shared, _engine: engine, drain }))
    }

    fn shared(&self) -> &Arc<NodeShared> {
        &self.0.shared
    }

    /// The node's number in its engine.
    pub fn id(&self) -> NodeId {
        self.shared().id
    }

    /// The network.
    pub fn network_id(&self) -> NetworkId {
        self.shared().network_id
    }

    /// The node's identity.
    pub fn peer_id(&self) -> PeerId {
        self.shared().peer_id
    }

    /// Where the node receives, with the ports that were chosen.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.shared().addresses
    }

    /// What this node says about itself.
    pub fn me(&self) -> PeerInfo {
        self.shared().me()
    }

    /// The peers that are known at present, without this node, sorted by id.
    pub fn peers(&self) -> Arc<[PeerInfo]> {
        self.shared().peers.borrow().clone()
    }

    /// What is known about one peer.
    pub fn peer(&self, id: &PeerId) -> Option<PeerInfo> {
        self.shared().peer(id)
    }

    /// A function that tells what is known about a peer, or what this node says about itself. It keeps
    /// nothing of the node alive.
    pub fn peer_view(&self) -> impl Fn(&PeerId) -> Option<PeerInfo> + Send + Sync + 'static + use<> {
        let shared = Arc::downgrade(self.shared());
        move |id| {
            let shared = shared.upgrade()?;
            if shared.peer_id == *id { Some(shared.me()) } else { shared.peer(id) }
        }
    }

    /// Follows [`Node::peers`].
    pub fn watch_peers(&self) -> watch::Receiver<Arc<[PeerInfo]>> {
        self.shared().peers.subscribe()
    }

    /// What changes in it from now on. Up to 256 changes wait; the oldest are dropped with more.
    pub fn peer_changes(&self) -> broadcast::Receiver<PeerChange> {
        self.shared().listen()
    }

    /// The node's own record as it was signed last, to be given to [`Node::feed`] of another one. `None` at
    /// the start, until the clerk has made one.
    pub fn watch_record(&self) -> watch::Receiver<Option<Arc<[u8]>>> {
        self.shared().record.subscribe()
    }

    /// Takes in the signed record of a peer, as if the peer had been met, and returns whose it is.
    ///
    /// # Errors
    ///
    /// [`FeedError`].
    pub fn feed(&self, record: &[u8]) -> Result<PeerId, FeedError> {
        let shared = self.shared();
        let verified = SignedRecord::verify(record, &shared.network_id).map_err(FeedError::Record)?;
        verified.record().check_age(0).map_err(FeedError::Record)?;
        if shared.has_heard_enough() {
            return Err(FeedError::Busy);
        }
        shared.hear(Heard::Given(record.to_vec()));
        Ok(verified.record().peer_id)
    }

    /// Adds an address, or a name as `host:port`, to those that the node meets the network through.
    ///
    /// # Errors
    ///
    /// [`JoinError::BootstrapName`], [`JoinError::TooMany`] or [`JoinError::Stopped`].
    pub fn add_peer(&self, target: Result<SocketAddr, String>) -> Result<(), JoinError> {
        let shared = self.shared();
        let target = match target {
            Ok(address) => BootstrapTarget::Address(callable(address)),
            Err(name) if is_host_and_port(&name) => BootstrapTarget::Name(name),
            Err(name) => return Err(JoinError::BootstrapName { name }),
        };
        if !shared.added_peers.take(ADDED_PEERS_MAX) {
            let limit = ADDED_PEERS_MAX;
            return Err(JoinError::TooMany { what: "added peers", given: limit + 1, limit });
        }
        let sent = shared.port.send(ClerkRequest::AddPeer { node: shared.id, target });
        if sent { Ok(()) } else { Err(JoinError::Stopped) }
    }

    /// Changes the node's tags and announces them: the first 64. `change` runs under a lock of the node: it
    /// must not call the node.
    pub fn change_tags<R>(&self, change: impl FnOnce(&mut Vec<TagId>) -> R) -> R {
        let result = change(&mut self.shared().settings.lock().tags);
        changed(self.shared());
        result
    }

    /// Replaces the node's tags and announces them: the first 64, which is what a record has room for.
    pub fn set_tags(&self, tags: Vec<TagId>) {
        self.shared().settings.lock().tags = tags;
        changed(self.shared());
    }

    /// Changes the node's tickets and shows them to the peers that it has sessions with. `change` runs under
    /// a lock of the node: it must not call the node.
    ///
    /// # Errors
    ///
    /// [`TicketsTooLong`]; then nothing has changed.
    pub fn change_tickets<R>(
        &self,
        change: impl FnOnce(&mut Vec<ShownTicket>) -> R,
    ) -> Result<R, TicketsTooLong> {
        let shared = self.shared();
        let mut settings = shared.settings.lock();
        let mut tickets = settings.tickets.clone();
        let result = change(&mut tickets);
        let (bytes, limit) = (ShownTicket::all_bytes(&tickets), shared.limits.shown_bytes());
        if bytes > limit {
            return Err(TicketsTooLong { bytes, limit });
        }
        settings.tickets = tickets;
        drop(settings);
        changed(shared);
        Ok(result)
    }

    /// Publishes a stream. The ring is there on return; consumers come later.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; when the node publishes the stream already, the error carries that publication.
    pub fn publish(&self, spec: PublishSpec) -> Result<Publication, PublishError> {
        let shared = self.shared();
        if shared.is_gone() {
            return Err(PublishError::Left);
        }
        if spec.direct.is_some() {
            return self.publish_direct(spec);
        }
        if let Some(existing) = self.publication(&spec.stream) {
            return Err(PublishError::AlreadyExists(existing));
        }
        // Made before the table is locked, because it may allocate much.
        let ring = Ring::new(spec.ring_config())?;
        let limit = shared.limits.publications;
        if !shared.live_publications.take(limit) {
            return Err(PublishError::TooMany { limit });
        }
        let stream = spec.stream;
        let key = PublicationKey::new(shared.id, shared.port.next_key());
        let parts = PublicationShared::new(key, spec, ring);
        let handle = Arc::new(PublicationGuard::new(parts.clone(), shared.clone()));
        parts.attach();
        let existing = {
            let mut table = shared.publications.lock();
            match table.get(&stream).and_then(|(_, weak)| weak.upgrade()) {
                Some(existing) => Some(existing),
                None => {
                    table.insert(stream, (key, Arc::downgrade(&handle)));
                    // Under the lock, so that a close by another handle is sent after this.
                    if !shared.port.send(ClerkRequest::Publish(parts)) {
                        // The clerk ended in the meantime, so it will not close the stream.
                        handle.shared.ring.close();
                    }
                    None
                }
            }
        };
        match existing {
            Some(existing) => {
                // Another thread was faster, and the clerk never saw this publication.
                handle.forget();
                shared.live_publications.give_back();
                Err(PublishError::AlreadyExists(Publication(existing)))
            }
            None => Ok(Publication(handle)),
        }
    }

    /// Publishes a stream for one peer. A second one of the same name takes the place of the first, which may
    /// be about to close.
    fn publish_direct(&self, spec: PublishSpec) -> Result<Publication, PublishError> {
        let shared = self.shared();
        let ring = Ring::new_untouched(spec.ring_config())?;
        let limit = shared.limits.direct;
        if !shared.direct.reserve(limit) {
            return Err(PublishError::TooManyDirect { limit });
        }
        let key = PublicationKey::new(shared.id, shared.port.next_key());
        let parts = PublicationShared::new(key, spec, ring);
        let handle = Arc::new(PublicationGuard::new(parts.clone(), shared.clone()));
        parts.attach();
        if shared.port.send(ClerkRequest::Publish(parts)) {
            return Ok(Publication(handle));
        }
        handle.forget();
        Err(PublishError::Left)
    }

    /// The announced publication of this stream, if there is one that is not closed.
    pub fn publication(&self, stream: &StreamId) -> Option<Publication> {
        let upgraded = self.shared().publications.lock().get(stream).and_then(|(_, weak)| weak.upgrade());
        upgraded.map(Publication)
    }

    /// Subscribes to a stream. Legs come as producers are found.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn subscribe(&self, spec: SubscribeSpec) -> Result<Subscription, SubscribeError> {
        let shared = self.shared();
        if shared.is_gone() {
            return Err(SubscribeError::Left);
        }
        let key = SubscriptionKey::new(shared.id, shared.port.next_key());
        let parts = Arc::new(SubscriptionShared::new(key, spec));
        if parts.spec.producer.is_some() {
            let limit = shared.limits.direct;
            if !shared.direct.reserve(limit) {
                return Err(SubscribeError::TooManyDirect { limit });
            }
        } else {
            let limit = shared.limits.subscriptions;
            if !shared.live_subscriptions.take(limit) {
                return Err(SubscribeError::TooMany { limit });
            }
        }
        parts.attach();
        if !shared.port.send(ClerkRequest::Subscribe(parts.clone())) {
            return Err(SubscribeError::Left);
        }
        Ok(Subscription { shared: parts, node: shared.clone() })
    }

    /// Whether the node has left, or is about to.
    pub fn is_leaving(&self) -> bool {
        self.shared().is_gone()
    }

    /// Leaves the network: publications are closed and drained for at most `drain`, then everything ends. The
    /// leaving begins at once and goes on when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`LeaveError::Deadline`] when something that was published was not delivered in time;
    /// [`LeaveError::EngineStopped`] when the engine ended first.
    pub fn shutdown(&self, drain: Duration) -> impl Future<Output = Result<(), LeaveError>> + Send + use<> {
        self.0.leave(drain);
        self.left()
    }

    /// Waits until the node has left, for whatever reason.
    ///
    /// # Errors
    ///
    /// As [`Node::shutdown`].
    pub fn left(&self) -> impl Future<Output = Result<(), LeaveError>> + Send + use<> {
        let mut presence = self.shared().presence.subscribe();
        async move {
            match presence.wait_for(|presence| *presence != Presence::Member).await.as_deref() {
                Ok(Presence::Left(left)) => left.clone(),
                _ => Err(LeaveError::EngineStopped),
            }
        }
    }

    /// Why there is no session with the peers at bootstrap addresses, where the last attempt failed.
    pub fn dial_failures(&self) -> Vec<DialFailure> {
        self.shared().dial_failures.lock().values().cloned().collect()
    }

    /// What became of the node's beacon.
    pub fn beacon(&self) -> BeaconInfo {
        self.shared().beacon.lock().clone()
    }

    /// What the clerk counted for this node.
    pub fn stats(&self) -> NodeStats {
        self.shared().counters.read()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("network", &self.network_id())
            .field("peer", &self.peer_id())
            .field("addresses", &self.local_addrs())
            .finish_non_exhaustive()
    }
}
