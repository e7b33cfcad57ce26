//! What a user sees of the peers of a network.
//!
//! How peers are found, and how what they say about themselves is verified, is the engine's.

use core::fmt;
use core::future::{Future, poll_fn};
use core::ops::Deref;
use core::pin::pin;
use core::task::Poll;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use corewire_engine::node::Node;
use corewire_engine::peer::PeerInfo;
use tokio::sync::watch;

use crate::id::{NetworkId, PeerId, StreamId, Tag};

/// What is known about a peer. A snapshot: it does not change; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerEntry {
    known: Arc<Known>,
}

#[derive(PartialEq, Eq)]
struct Known {
    id: PeerId,
    network_id: NetworkId,
    tags: BTreeSet<Tag>,
    streams: BTreeSet<StreamId>,
    addresses: Vec<SocketAddr>,
}

impl PeerEntry {
    pub(crate) fn new(info: &PeerInfo) -> Self {
        Self {
            known: Arc::new(Known {
                id: PeerId::from_bytes(info.peer_id().into()),
                network_id: NetworkId::from_bytes(info.network_id().into()),
                tags: info.tags().iter().map(|&tag| Tag::from_bytes(tag.into())).collect(),
                streams: info.streams().iter().map(|&stream| StreamId::from_bytes(stream.into())).collect(),
                addresses: info.addresses().to_vec(),
            }),
        }
    }

    /// The peer.
    pub fn id(&self) -> &PeerId {
        &self.known.id
    }

    /// The network that it belongs to.
    pub fn network_id(&self) -> &NetworkId {
        &self.known.network_id
    }

    /// The labels that it announces about itself.
    ///
    /// ```
    /// # use corewire::{discovery::PeerEntry, tag};
    /// # fn example(peer: &PeerEntry) -> bool {
    /// peer.tags().contains(&"trusted".into()) || peer.tags().contains(&tag!("trusted"))
    /// # }
    /// ```
    pub fn tags(&self) -> &BTreeSet<Tag> {
        &self.known.tags
    }

    /// Whether it announces this label.
    pub fn has_tag(&self, tag: impl Into<Tag>) -> bool {
        self.known.tags.contains(&tag.into())
    }

    /// The streams that it produces.
    pub fn streams(&self) -> &BTreeSet<StreamId> {
        &self.known.streams
    }

    /// Where it receives datagrams, as it says. Empty while it is known by its handshake only.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.known.addresses
    }
}

impl fmt::Debug for PeerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerEntry")
            .field("id", &self.known.id)
            .field("tags", &self.known.tags)
            .field("addresses", &self.known.addresses)
            .finish_non_exhaustive()
    }
}

/// A peer whose tags can be asked for as text. This is what `accept_if` and `subscribe_if` show to their
/// predicates; everything else of the [`PeerEntry`] is there too.
pub struct NamedPeer<'a>(&'a PeerEntry);

impl<'a> NamedPeer<'a> {
    pub(crate) fn new(entry: &'a PeerEntry) -> Self {
        Self(entry)
    }

    /// The labels that the peer announces about itself.
    pub fn tags(&self) -> TagNames<'a> {
        TagNames(self.0.tags())
    }
}

impl Deref for NamedPeer<'_> {
    type Target = PeerEntry;

    fn deref(&self) -> &PeerEntry {
        self.0
    }
}

/// Tags that can be asked for as text.
#[derive(Clone, Copy)]
pub struct TagNames<'a>(&'a BTreeSet<Tag>);

impl TagNames<'_> {
    /// Whether this tag is among them: text, or a [`Tag`].
    pub fn contains(&self, tag: impl Into<Tag>) -> bool {
        self.0.contains(&tag.into())
    }
}

impl Deref for TagNames<'_> {
    type Target = BTreeSet<Tag>;

    fn deref(&self) -> &BTreeSet<Tag> {
        self.0
    }
}

/// The peers of one network, as this node knows them.
#[derive(Clone)]
pub struct Discovery {
    node: Node,
    /// Closed when the network is gone.
    present: watch::Receiver<()>,
}

impl Discovery {
    pub(crate) fn new(node: Node, present: watch::Receiver<()>) -> Self {
        Self { node, present }
    }

    /// This node's own entry.
    pub fn me(&self) -> PeerEntry {
        PeerEntry::new(&self.node.me())
    }

    /// The peers that are known now, without this node. May be stale at once.
    pub fn peers(&self) -> Vec<PeerEntry> {
        self.node.peers().iter().map(PeerEntry::new).collect()
    }

    /// Waits for a peer of which `wanted` holds, and gives its entry; at once if one is known. `None`: this node has
    /// left the network, so none will come.
    ///
    /// Peers of the same engine become known in the background too. Cancel-safe.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&PeerEntry) -> bool) -> Option<PeerEntry> {
        let (mut peers, mut present) = (self.node.watch_peers(), self.present.clone());
        loop {
            let known = peers.borrow_and_update().clone();
            if let Some(found) = known.iter().map(PeerEntry::new).find(&mut wanted) {
                return Some(found);
            }
            let mut changed = pin!(peers.changed());
            let mut gone = pin!(present.changed());
            let more = poll_fn(|cx| match changed.as_mut().poll(cx) {
                Poll::Ready(changed) => Poll::Ready(changed.is_ok()),
                // Nothing is ever sent here, so any answer is the end.
                Poll::Pending => gone.as_mut().poll(cx).map(|_| false),
            });
            if self.node.is_leaving() || !more.await {
                return None;
            }
        }
    }

    /// What is known about one peer.
    pub fn peer(&self, id: &PeerId) -> Option<PeerEntry> {
        self.node.peer(&id.to_bytes().into()).as_ref().map(PeerEntry::new)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("peers", &self.peers()).finish_non_exhaustive()
    }
}

/// One tag or many: text, a [`Tag`], or a collection of either.
pub trait IntoTags {
    /// The tags.
    fn into_tags(self) -> BTreeSet<Tag>;
}

macro_rules! one_tag {
    ($($kind:ty),*) => {$(
        impl IntoTags for $kind {
            fn into_tags(self) -> BTreeSet<Tag> {
                BTreeSet::from([Tag::from(self)])
            }
        }
    )*};
}

one_tag!(&str, String, &String, Tag, &Tag);

impl<T: Into<Tag>, const N: usize> IntoTags for [T; N] {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Clone + Into<Tag>, const N: usize> IntoTags for &[T; N] {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.as_slice().into_tags()
    }
}

impl<T: Clone + Into<Tag>> IntoTags for &[T] {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.iter().cloned().map(Into::into).collect()
    }
}

impl<T: Into<Tag>> IntoTags for Vec<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Clone + Into<Tag>> IntoTags for &Vec<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.as_slice().into_tags()
    }
}

impl<T: Into<Tag>> IntoTags for BTreeSet<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}
