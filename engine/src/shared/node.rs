//! What the clerk and the handles of a node share.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use corewire_proto::{
    NetworkId, PeerId, StreamId, TagId, handshake::NetworkSecret, identity::Identity, ordered::OrderedMap,
    session::SessionConfig,
};
use corewire_rings::{
    contain, drop_contained,
    sync::{AtomicFlag, Lock, PlaceCount},
};
use thiserror::Error;
use tokio::sync::broadcast;

use super::dialling::{BootstrapTarget, DialFailure};
use super::{
    beacon::{BeaconInfo, BeaconSetup, HEARD_MAX, Heard},
    counters::NodeCounters,
    direct::DirectCount,
    egress::EgressLimit,
    flush::Shortfall,
    keys::{NodeId, PublicationKey},
    limits::Limits,
    port::{RequestPort, changed},
    publication::{PublicationGuard, PublicationShared},
    shown::Shown,
};
use crate::{
    driver::Socket,
    peer::{PeerChange, PeerFacts, PeerInfo, ShownTicket, changes},
};

/// Changes of peers that wait for one listener. With more, the oldest are dropped and counted.
const CHANGES_WAITING: usize = 256;

/// Addresses and names that are added to a node's bootstrap addresses while it is a member. Each name may
/// have a thread that resolves it.
pub(crate) const ADDED_PEERS_MAX: usize = 64;

/// One address of a node, with a socket for each shard.
#[derive(Debug)]
pub struct NodeSocket {
    /// The address.
    pub address: SocketAddr,
    /// The sockets, in the order of the shards.
    pub sockets: Vec<Socket>,
}

/// Whether a node is a member of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is.
    Member,
    /// It has left.
    Left(Result<(), LeaveError>),
}

/// Why a node did not leave in good order.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeaveError {
    /// Not everything was delivered in time; what was not is lost.
    #[error(
        "the deadline passed before everything was delivered; give it more time, or look for slow consumers"
    )]
    Deadline {
        /// What was not delivered, as far as it is known.
        missing: Vec<Shortfall>,
    },
    /// The engine had stopped, or broke, before the node had left.
    #[error("the engine stopped before the node had left; shut its nodes down first")]
    EngineStopped,
}

/// A node that the clerk is to serve.
pub(crate) struct JoinRequest {
    pub(crate) shared: Arc<NodeShared>,
    pub(crate) identity: Identity,
    pub(crate) secret: Option<NetworkSecret>,
    pub(crate) sockets: Vec<NodeSocket>,
    pub(crate) bootstrap: Vec<BootstrapTarget>,
    /// `None`: no beacon, and no addresses to follow.
    pub(crate) beacon: Option<BeaconSetup>,
    pub(crate) session: SessionConfig,
}

/// What a handle can change while the node is a member.
pub(crate) struct NodeSettings {
    pub(crate) tags: Vec<TagId>,
    pub(crate) tickets: Vec<ShownTicket>,
}

/// What the clerk and the handles of a node share.
pub(crate) struct NodeShared {
    pub(crate) id: NodeId,
    pub(crate) network_id: NetworkId,
    pub(crate) peer_id: PeerId,
    /// The addresses that are bound.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The addresses in the node's record. The beacon thread changes them when those of the host change.
    pub(crate) announced: Lock<Vec<SocketAddr>>,
    /// What was heard of other nodes and waits for the clerk.
    heard: Lock<VecDeque<Heard>>,
    /// What became of the node's beacon.
    pub(crate) beacon: Lock<BeaconInfo>,
    /// Bootstrap addresses that were added; at most [`ADDED_PEERS_MAX`].
    pub(crate) added_peers: PlaceCount,
    pub(crate) port: Arc<RequestPort>,
    pub(crate) limits: Limits,
    /// After this time a session of the node takes a silent peer for dead.
    pub(crate) dead_after: Duration,
    /// Of [`NodeConfig::max_bandwidth`](crate::node::NodeConfig::max_bandwidth).
    pub(crate) egress: Option<Arc<EgressLimit>>,
    /// Sorted by id.
    pub(crate) peers: Shown<Arc<[PeerInfo]>>,
    /// What has changed in it. `None` while nothing listens, and when the node has left.
    changes: Lock<Option<broadcast::Sender<PeerChange>>>,
    pub(crate) presence: Shown<Presence>,
    pub(crate) settings: Lock<NodeSettings>,
    /// The bootstrap addresses without a session whose last attempt failed, by their place.
    pub(crate) dial_failures: Lock<OrderedMap<usize, DialFailure>>,
    /// A [`ClerkRequest::Changed`](super::port::ClerkRequest::Changed) waits for the clerk.
    pub(crate) changed: AtomicFlag,
    /// The node is to leave: no publication or subscription is begun.
    pub(crate) leaving: AtomicFlag,
    /// The latest signed record, for the registry and for export.
    pub(crate) record: Shown<Option<Arc<[u8]>>>,
    /// Equal for nodes that may find each other in this process: a hash of network and secret. `None`:
    /// hidden.
    pub(crate) registry_key: Option<[u8; 32]>,
    pub(crate) counters: NodeCounters,
    /// The announced publications that are not closed, so that a stream is published at most once.
    pub(crate) publications: Lock<OrderedMap<StreamId, (PublicationKey, Weak<PublicationGuard>)>>,
    /// Publications that the clerk has not forgotten yet; at most [`Limits::publications`].
    pub(crate) live_publications: PlaceCount,
    /// Likewise subscriptions; at most [`Limits::subscriptions`].
    pub(crate) live_subscriptions: PlaceCount,
    /// Likewise direct publications and subscriptions to one producer, together.
    pub(crate) direct: DirectCount,
}

/// What a [`NodeShared`] is made of.
pub(crate) struct NodeParts {
    pub(crate) id: NodeId,
    pub(crate) peer_id: PeerId,
    pub(crate) port: Arc<RequestPort>,
    pub(crate) limits: Limits,
    pub(crate) dead_after: Duration,
    pub(crate) egress: Option<Arc<EgressLimit>>,
    pub(crate) registry_key: Option<[u8; 32]>,
    pub(crate) network_id: NetworkId,
    pub(crate) announced: Vec<SocketAddr>,
    pub(crate) beacon: BeaconInfo,
    pub(crate) settings: NodeSettings,
}

impl NodeShared {
    /// Whether an address is of this host, as far as the node can tell.
    pub(crate) fn is_here(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let own = |at: &SocketAddr| at.ip().to_canonical() == ip;
        ip.is_loopback() || self.addresses.iter().any(own) || self.announced.lock().iter().any(own)
    }

    pub(crate) fn new(parts: NodeParts, sockets: &[NodeSocket]) -> Arc<Self> {
        let NodeParts { id, peer_id, port, limits, dead_after, registry_key, .. } = parts;
        Arc::new(Self {
            id,
            network_id: parts.network_id,
            peer_id,
            addresses: sockets.iter().map(|socket| socket.address).collect(),
            announced: Lock::new(parts.announced),
            heard: Lock::new(VecDeque::new()),
            beacon: Lock::new(parts.beacon),
            added_peers: PlaceCount::default(),
            port,
            limits,
            dead_after,
            egress: parts.egress,
            peers: Shown::new(Arc::from([])),
            changes: Lock::new(None),
            presence: Shown::new(Presence::Member),
            settings: Lock::new(parts.settings),
            dial_failures: Lock::new(OrderedMap::new()),
            changed: AtomicFlag::default(),
            leaving: AtomicFlag::default(),
            record: Shown::new(None),
            registry_key,
            counters: NodeCounters::default(),
            publications: Lock::new(OrderedMap::new()),
            live_publications: PlaceCount::default(),
            live_subscriptions: PlaceCount::default(),
            direct: DirectCount::default(),
        })
    }

    /// Takes a closed publication out of the table, so that the stream can be published again.
    pub(crate) fn forget_publication(&self, publication: &PublicationShared) {
        let removed = {
            let mut table = self.publications.lock();
            let stream = &publication.spec.stream;
            let is_it = table.get(stream).is_some_and(|(key, _)| *key == publication.key);
            if is_it { table.remove(stream) } else { None }
        };
        drop(removed);
    }

    /// What the node says about itself.
    pub(crate) fn me(&self) -> PeerInfo {
        let settings = self.settings.lock();
        PeerInfo::new(PeerFacts {
            peer_id: self.peer_id,
            network_id: self.network_id,
            addresses: self.announced.lock().clone(),
            tags: settings.tags.clone(),
            streams: self.published(),
            tickets: settings.tickets.clone(),
            version: (0, 0),
        })
    }

    /// What is known about a peer.
    pub(crate) fn peer(&self, id: &PeerId) -> Option<PeerInfo> {
        let peers = self.peers.borrow();
        peers.binary_search_by(|peer| peer.peer_id().cmp(id)).ok().map(|at| peers[at].clone())
    }

    /// The streams that are published at present, sorted.
    pub(crate) fn published(&self) -> Vec<StreamId> {
        self.publications.lock().keys().copied().collect()
    }

    /// The changes of the peers from now on. Already at its end when the node has left.
    pub(crate) fn listen(&self) -> broadcast::Receiver<PeerChange> {
        let mut changes = self.changes.lock();
        if self.is_gone() {
            return broadcast::Sender::new(1).subscribe();
        }
        changes.get_or_insert_with(|| broadcast::Sender::new(CHANGES_WAITING)).subscribe()
    }

    /// Lets the handles see the peers, and tells what has changed. `left`: whether a peer has said that it
    /// leaves.
    pub(crate) fn show_peers(&self, now: Arc<[PeerInfo]>, left: impl Fn(&PeerId) -> bool) {
        let before = self.peers.borrow().clone();
        self.peers.show(now.clone());
        // Without the lock, because what is told wakes tasks of the user's.
        let sender = self.changes.lock().clone();
        if let Some(sender) = sender.as_ref().filter(|sender| sender.receiver_count() > 0) {
            for change in changes(&before, &now, left) {
                // An error means that the last listener has just gone.
                contain(|| drop(sender.send(change)));
            }
        }
        drop_contained(sender);
    }

    /// The node has left: nothing changes any more.
    pub(crate) fn end_changes(&self) {
        let ended = self.changes.lock().take();
        drop_contained(ended);
    }

    /// Hands what was heard to the clerk. The caller has asked whether there is room, unless a peer is
    /// silent: then there is room for one notice of each peer that the beacon keeps.
    pub(crate) fn hear(&self, heard: Heard) {
        self.heard.lock().push_back(heard);
        changed(self);
    }

    /// Whether what was heard has to wait until the clerk has taken some.
    pub(crate) fn has_heard_enough(&self) -> bool {
        self.heard.lock().len() >= HEARD_MAX
    }

    /// Takes what was heard.
    pub(crate) fn take_heard(&self) -> VecDeque<Heard> {
        std::mem::take(&mut *self.heard.lock())
    }

    /// Whether the node has left, or is about to.
    pub(crate) fn is_gone(&self) -> bool {
        self.leaving.get() || self.port.is_closed()
    }
}
