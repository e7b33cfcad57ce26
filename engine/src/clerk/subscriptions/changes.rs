//! Producers that are looked at again, because something about them is different.

use corewire_proto::{PeerId, StreamId};

use super::{
    Subscriptions,
    stage::{InboundStage, StageEvent},
};
use crate::{
    peer::PeerInfo,
    shard::NodeId,
    shared::keys::{InboundKey, SubscriptionKey},
};

impl Subscriptions {
    /// Reconsiders the channels from `producer` whose stage is `which`, on this node.
    fn reconsider(&mut self, node: NodeId, producer: PeerId, which: impl Fn(InboundStage) -> bool) {
        for (&subscription, state) in self.subscriptions.range_mut(SubscriptionKey::all_of(node)) {
            if let Some(inbound) = state.producers.get_mut(&producer)
                && which(inbound.stage)
            {
                inbound.enter(StageEvent::Reconsider);
                self.fresh.insert(InboundKey { subscription, producer });
            }
        }
    }

    /// There is a session with this peer.
    pub(crate) fn session_there(&mut self, node: NodeId, peer: PeerId) {
        self.reconsider(node, peer, |stage| stage == InboundStage::WantsSession);
    }

    /// A peer knows this node as it is now: if it refused the node before, it is asked again.
    pub(crate) fn reconsider_refused(&mut self, node: NodeId, producer: PeerId) {
        for (_, state) in self.subscriptions.range_mut(SubscriptionKey::all_of(node)) {
            if let Some(inbound) = state.producers.get_mut(&producer) {
                inbound.told |= matches!(inbound.stage, InboundStage::Opening(..) | InboundStage::Open(..));
            }
        }
        self.reconsider(node, producer, |stage| matches!(stage, InboundStage::Refused(_)));
    }

    /// A peer's entry is different now: subscriptions that it may interest, and have no channel from it, look
    /// at it.
    pub(crate) fn producer_changed(&mut self, node: NodeId, before: &PeerInfo, now: &PeerInfo) {
        let producer = now.peer_id();
        for (&subscription, state) in self.subscriptions.range_mut(SubscriptionKey::all_of(node)) {
            let stream = state.shared.spec.stream;
            let produces = now.produces(&stream);
            let key = InboundKey { subscription, producer };
            let Some(inbound) = state.producers.get_mut(&producer) else {
                if produces {
                    self.fresh.insert(key);
                }
                continue;
            };
            let again = match inbound.stage {
                InboundStage::Open(..) | InboundStage::Opening(..) | InboundStage::Local(_) => false,
                InboundStage::Waits => !produces || !before.produces(&stream),
                InboundStage::Fresh
                | InboundStage::WantsSession
                | InboundStage::Refused(_)
                | InboundStage::GivenUp => true,
            };
            if again {
                inbound.enter(StageEvent::Reconsider);
                self.fresh.insert(key);
            }
        }
    }

    /// A node of this engine publishes a stream: the subscriptions of this node look at it.
    pub(crate) fn stream_appeared(&mut self, node: NodeId, producer: PeerId, stream: &StreamId) {
        for (&subscription, state) in self.subscriptions.range_mut(SubscriptionKey::all_of(node)) {
            if state.shared.spec.stream != *stream {
                continue;
            }
            if let Some(inbound) = state.producers.get_mut(&producer)
                && inbound.stage.is_at_rest()
            {
                inbound.enter(StageEvent::Reconsider);
            }
            self.fresh.insert(InboundKey { subscription, producer });
        }
    }
}
