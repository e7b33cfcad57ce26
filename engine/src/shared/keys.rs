//! Names of the things that the clerk keeps. Each is given once in an engine's life.
//!
//! A key carries the key of what it belongs to, so the keys of one owner are neighbours in an ordered table.

use corewire_proto::PeerId;

/// Names a node of this engine: one membership of one network. Never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

macro_rules! node_keys {
    ($(#[doc = $doc:literal] $key:ident,)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $key {
            pub(crate) node: NodeId,
            pub(crate) number: u64,
        }

        impl $key {
            pub(crate) const fn new(node: NodeId, number: u64) -> Self {
                Self { node, number }
            }

            /// Every key of this node.
            pub(crate) const fn all_of(node: NodeId) -> std::ops::RangeInclusive<Self> {
                Self::new(node, 0)..=Self::new(node, u64::MAX)
            }
        }
    )*};
}

node_keys! {
    /// Names a publication of a node.
    PublicationKey,
    /// Names a subscription of a node.
    SubscriptionKey,
}

/// Names one consumer of a publication: the producer's end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OutboundKey {
    pub(crate) publication: PublicationKey,
    pub(crate) number: u64,
}

impl OutboundKey {
    pub(crate) const fn new(publication: PublicationKey, number: u64) -> Self {
        Self { publication, number }
    }

    pub(crate) const fn node(&self) -> NodeId {
        self.publication.node
    }
}

/// Names a producer that a subscription wants: the consumer's end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InboundKey {
    pub(crate) subscription: SubscriptionKey,
    pub(crate) producer: PeerId,
}

impl InboundKey {
    /// Every key of this subscription.
    pub(crate) const fn all_of(subscription: SubscriptionKey) -> std::ops::RangeInclusive<Self> {
        let first = Self { subscription, producer: PeerId([0; 32]) };
        first..=Self { subscription, producer: PeerId([0xFF; 32]) }
    }

    pub(crate) const fn node(&self) -> NodeId {
        self.subscription.node
    }
}

/// Names a channel whose two ends live in this engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LegKey(pub(crate) u64);

/// Names a channel that was asked for and is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpenId(pub(crate) u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_owner_are_one_range() {
        let of_two = SubscriptionKey::all_of(NodeId(2));
        assert!(of_two.contains(&SubscriptionKey::new(NodeId(2), 9)));
        assert!(!of_two.contains(&SubscriptionKey::new(NodeId(1), 9)));
        assert!(!of_two.contains(&SubscriptionKey::new(NodeId(3), 0)));
    }
}
