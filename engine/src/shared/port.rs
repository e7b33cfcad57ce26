//! The queue of requests from handles to the clerk.
//!
//! The queue has no capacity of its own and is bounded all the same: each request belongs to an object (node,
//! publication, subscription, local channel) that makes a small constant number of requests in its life, and
//! the number of objects is limited when they are made. Only a flush adds one for each call, which the caller
//! waits for. So a request is never refused, and dropping a handle
//! cannot fail. It is a queue behind a lock, because it is used when handles come and go and never for a
//! datum.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use corewire_rings::{
    Doorbell,
    sync::{AtomicFlag, Lock, PlaceCount},
};

use super::{
    dialling::BootstrapTarget,
    flush::FlushShared,
    keys::{LegKey, NodeId},
    node::{JoinRequest, NodeShared},
    publication::PublicationShared,
    subscription::SubscriptionShared,
};

/// What a handle asks of the clerk.
pub(crate) enum ClerkRequest {
    /// A node was made. Once per node.
    Join(Box<JoinRequest>),
    /// A node's tags, tickets, addresses or neighbours changed, or something was heard of other nodes. At
    /// most one waits per node.
    Changed(NodeId),
    /// The addresses of a bootstrap name, or why there are none. At most one is on its way per name.
    Resolved {
        /// The node.
        node: NodeId,
        /// The name's place among the node's bootstrap addresses.
        place: usize,
        /// The system's answer.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// A further address to meet the network at. At most 64 per node.
    AddPeer {
        /// The node.
        node: NodeId,
        /// The address, or a name.
        target: BootstrapTarget,
    },
    /// A node's last handle is gone, or it was told to shut down. At most twice per node.
    Leave {
        /// The node.
        node: NodeId,
        /// How long its streams may drain.
        drain: Duration,
    },
    /// A publication was made. Once per publication.
    Publish(Arc<PublicationShared>),
    /// A publication was closed. Once per publication.
    Unpublish(Arc<PublicationShared>),
    /// A producer found its ring full. At most one waits per publication.
    Full(Arc<PublicationShared>),
    /// Consumers are to be waited for. Once per call.
    Flush(Arc<PublicationShared>, Arc<FlushShared>),
    /// A subscription was made. Once per subscription.
    Subscribe(Arc<SubscriptionShared>),
    /// A subscription was dropped. Once per subscription.
    Unsubscribe(Arc<SubscriptionShared>),
    /// A consumer dropped its end of a local channel. Once per local channel.
    LegDropped(LegKey),
    /// The engine's last handle is gone, it was told to stop, or the process ends. Once each.
    Shutdown {
        /// How long everything may drain.
        drain: Duration,
    },
}

/// The way from handles to the clerk.
pub(crate) struct RequestPort {
    requests: Lock<VecDeque<ClerkRequest>>,
    bell: Doorbell,
    /// The clerk has ended; requests are dropped.
    closed: AtomicFlag,
    /// The number of the next node, publication, subscription or channel. Never reused.
    next_key: AtomicU64,
    /// Nodes that the clerk has not forgotten yet; at most [`Limits::nodes`](super::limits::Limits::nodes).
    nodes: PlaceCount,
}

impl RequestPort {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            requests: Lock::new(VecDeque::new()),
            bell: Doorbell::new(),
            closed: AtomicFlag::default(),
            next_key: AtomicU64::new(1),
            nodes: PlaceCount::default(),
        })
    }

    /// A number that this engine gives only once.
    pub(crate) fn next_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes one of `limit` places for nodes.
    pub(crate) fn reserve_node(&self, limit: usize) -> bool {
        self.nodes.take(limit)
    }

    /// Gives a node's place back.
    pub(crate) fn release_node(&self) {
        self.nodes.give_back();
    }

    /// Hands a request over. `false`: the clerk has ended, and everything that the request is about with it.
    pub(crate) fn send(&self, request: ClerkRequest) -> bool {
        {
            let mut requests = self.requests.lock();
            if self.closed.get() {
                // Dropped outside the lock: a request may own the last reference to a handle.
                drop(requests);
                drop(request);
                return false;
            }
            requests.push_back(request);
        }
        self.bell.ring();
        true
    }

    pub(crate) fn take(&self) -> Option<ClerkRequest> {
        self.requests.lock().pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.lock().is_empty()
    }

    pub(crate) fn bell(&self) -> &Doorbell {
        &self.bell
    }

    /// Refuses requests from now on. Those that wait are given back, to be dropped without the lock.
    pub(crate) fn close(&self) -> VecDeque<ClerkRequest> {
        let mut requests = self.requests.lock();
        self.closed.set(true);
        std::mem::take(&mut *requests)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

impl std::fmt::Debug for RequestPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestPort").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// Asks the clerk to look at a node again, unless such a request waits already.
pub(crate) fn changed(node: &NodeShared) {
    if !node.changed.set(true) {
        node.port.send(ClerkRequest::Changed(node.id));
    }
}
