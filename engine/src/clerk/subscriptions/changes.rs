//! Producers that are looked at again, because something about them is different.

use corewire_proto::{PeerId, StreamId, session::CloseCode};

use super::{
    Subscriptions,
    stage::{InboundStage, StageEvent},
};
use crate::{
    clerk::{
        env::Env,
        notice::{ChannelsOf, drop_contained},
        timers::Timer,
    },
    peer::PeerInfo,
    shard::NodeId,
    shared::{
        event::ChannelEvent,
        keys::{InboundKey, SubscriptionKey},
        limits::VERDICT_MIN,
        publication::Verdict,
    },
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

    /// There is a session with this peer. One that was given up is back.
    pub(crate) fn session_there(&mut self, node: NodeId, peer: PeerId) {
        let waits = |stage| matches!(stage, InboundStage::WantsSession | InboundStage::GivenUp);
        self.reconsider(node, peer, waits);
    }

    /// The subscription does not accept a producer, for now or until something is different.
    pub(super) fn deny(&mut self, env: &mut Env, key: InboundKey, verdict: Verdict) {
        self.refuse(env, key, CloseCode::NOT_ALLOWED);
        self.ask_again(env, key, verdict);
    }

    /// A producer that is refused for some time is looked at again after it.
    pub(crate) fn ask_again(&self, env: &mut Env, key: InboundKey, verdict: Verdict) {
        if let Verdict::DenyFor(time) = verdict {
            env.effects.set_timer(Timer::RetryProducer(key), env.now + time.max(VERDICT_MIN));
        }
    }

    /// The pause before another attempt, or a refusal for some time, is over.
    pub(crate) fn retry_due(&mut self, key: InboundKey) {
        if let Some(inbound) = self.inbound_mut(key)
            && matches!(inbound.stage, InboundStage::Waits | InboundStage::Refused(_))
        {
            inbound.enter(StageEvent::Reconsider);
            self.fresh.insert(key);
        }
    }

    /// A producer has not answered in time. That counts as a failure, and it is asked again.
    pub(crate) fn unanswered(&mut self, env: &mut Env, key: InboundKey) {
        if self.inbound(key).is_some_and(|inbound| matches!(inbound.stage, InboundStage::Opening(..))) {
            self.cut(env, key, CloseCode::PEER_LOST);
            self.channel_ended(env, key, CloseCode::PEER_LOST);
        }
    }

    /// The peer of a channel is silent, or is not any more.
    pub(crate) fn suspect(&self, env: &mut Env, key: InboundKey, suspect: bool) {
        let channel = self.inbound(key).and_then(|inbound| inbound.channel.clone());
        if let (Some(subscription), Some(channel)) = (self.subscriptions.get(&key.subscription), channel) {
            let event = ChannelEvent::suspect(channel, suspect);
            subscription.report(env, || event);
        }
    }

    /// A peer could not be reached once more: gives it up where it was tried for long enough.
    pub(crate) fn peer_unreachable(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        for (&key, subscription) in self.subscriptions.range_mut(SubscriptionKey::all_of(node)) {
            let most = subscription.shared.spec.backoff.max_elapsed;
            let Some(inbound) = subscription.producers.get_mut(&peer) else { continue };
            if inbound.stage != InboundStage::WantsSession {
                continue;
            }
            if most.is_some_and(|most| env.now.saturating_since(inbound.since) > most) {
                inbound.enter(StageEvent::OutOfTime);
                inbound.gave_up = true;
                subscription.report(env, || ChannelEvent::GaveUp { producer: peer });
                subscription.show(env, &self.fresh);
            } else if let Some(stop) = subscription.stops.get_mut(peer)
                && !stop.over
                && !stop.may_go_on(env.now)
            {
                // Only for the rest of a stream it would be tried on without end.
                stop.over = true;
                inbound.enter(StageEvent::Reconsider);
                self.fresh.insert(InboundKey { subscription: key, producer: peer });
            }
        }
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
            let spec = &state.shared.spec;
            let produces = spec.wants(now);
            let key = InboundKey { subscription, producer };
            let Some(inbound) = state.producers.get_mut(&producer) else {
                if produces {
                    self.fresh.insert(key);
                } else {
                    state.crowd.remove(&producer);
                }
                continue;
            };
            let again = match inbound.stage {
                InboundStage::Open(..) | InboundStage::Opening(..) | InboundStage::Local(_) => false,
                InboundStage::Waits => !produces || !spec.wants(before),
                InboundStage::Fresh
                | InboundStage::WantsSession
                | InboundStage::Refused(_)
                | InboundStage::GivenUp
                | InboundStage::Standby => true,
            };
            if again {
                inbound.enter(StageEvent::Reconsider);
                self.fresh.insert(key);
            }
        }
    }

    /// A peer makes a stream: the subscriptions of this node to it look at the peer.
    pub(crate) fn stream_appeared(&mut self, node: NodeId, producer: PeerId, stream: &StreamId) {
        let (first, last) = SubscriptionKey::all_of(node).into_inner();
        for &(_, subscription) in self.by_stream.range((*stream, first)..=(*stream, last)) {
            let Some(state) = self.subscriptions.get_mut(&subscription) else { continue };
            if state.shared.spec.producer.is_some_and(|only| only != producer) {
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

    /// A peer asks for this node's direction of a raw channel, so it may have opened its own: the
    /// subscription to that looks at the peer. Not at once if the last attempt has shown that the peer has
    /// opened it: two ends that refuse each other would ask each other without a pause.
    pub(crate) fn stream_offered(
        &mut self,
        env: &mut Env,
        node: NodeId,
        producer: PeerId,
        stream: &StreamId,
    ) {
        let (first, last) = SubscriptionKey::all_of(node).into_inner();
        let chance = env.chance();
        for &(_, subscription) in self.by_stream.range((*stream, first)..=(*stream, last)) {
            let key = InboundKey { subscription, producer };
            let state = self.subscriptions.get_mut(&subscription);
            if let Some(state) = state
                && let Some(inbound) = state.producers.get_mut(&producer)
                && let Some(code) = inbound.refused_with()
                && code != CloseCode::STREAM_NOT_FOUND
            {
                // One that waits has its timer.
                if matches!(inbound.stage, InboundStage::Refused(_)) {
                    inbound.failures = inbound.failures.saturating_add(1);
                    let pause = state.shared.spec.backoff.pause(inbound.failures, chance);
                    env.effects.set_timer(Timer::RetryProducer(key), env.now + pause);
                }
                return;
            }
        }
        self.stream_appeared(node, producer, stream);
    }

    /// The peers of a node are others now, which conditions over channels may depend on.
    pub(crate) fn notify_of_peers(&self, env: &mut Env, node: NodeId) {
        for (_, subscription) in self.of_node(node).filter(|(_, state)| !state.producers.is_empty()) {
            env.effects.notify(ChannelsOf::Subscription, subscription.shared.spec.on_change.as_ref());
        }
    }

    /// The clerk is broken: every subscription is over.
    pub(crate) fn abandon(&mut self, env: &mut Env) {
        self.by_stream.clear();
        for subscription in std::mem::take(&mut self.subscriptions).into_values() {
            subscription.shared.close();
            for inbound in subscription.producers.values() {
                inbound.terminate(CloseCode::PEER_LOST, env.now);
            }
            env.effects.notify(ChannelsOf::Subscription, subscription.shared.spec.on_change.as_ref());
            drop_contained(subscription.shared);
        }
    }
}
