//! What a user sees of the peers of a network. How they are found is the engine's.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::id::{NetworkId, PeerId, Tag};

/// What is known about a peer. A snapshot: it does not change.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerEntry(());

impl PeerEntry {
    /// The peer.
    pub fn id(&self) -> &PeerId {
        todo!()
    }
    /// The network that it belongs to.
    pub fn network_id(&self) -> &NetworkId {
        todo!()
    }
    /// The labels that it announces about itself.
    pub fn tags(&self) -> &BTreeSet<Tag> {
        todo!()
    }
    /// Whether it announces this label.
    pub fn has_tag(&self, tag: impl Into<Tag>) -> bool {
        self.tags().contains(&tag.into())
    }
    /// Where it receives datagrams.
    pub fn addresses(&self) -> &[SocketAddr] {
        todo!()
    }
}

/// The peers of one network.
#[derive(Clone)]
pub struct Discovery(());

impl Discovery {
    /// This node's own entry.
    pub fn me(&self) -> PeerEntry {
        todo!()
    }
    /// The peers that are known now, without this node.
    pub fn peers(&self) -> Vec<PeerEntry> {
        todo!()
    }
    /// What is known about one peer.
    pub fn peer(&self, _id: &PeerId) -> Option<PeerEntry> {
        todo!()
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

impl<T: Into<Tag>> IntoTags for Vec<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Clone + Into<Tag>> IntoTags for &[T] {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.iter().cloned().map(Into::into).collect()
    }
}

impl<T: Into<Tag>> IntoTags for BTreeSet<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}
