//! Channels whose two ends live in this engine: the consumer reads the producer's ring.
//!
//! Not inside: a session, a shard, a copy. What is here is the same as for any other channel: admission, the number
//! of consumers, and that both ends hear of the end.
//!
//! A leg that is over for the clerk may still be read: its cursor stays in the ring until the consumer drops it or
//! is cut off. Until then it is kept, as `draining`, so that it can be found when it holds the ring back.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use corewire_proto::{PeerId, StreamId, session::CloseCode};
use corewire_rings::{DetachError, ReaderId, Ring};

use super::{
    Clerk,
    state::{LocalLeg, OutboundChannel, OutboundEnd, Stage},
    timers::Timer,
};
use crate::{
    peer::PeerInfo,
    shard::{Inbox, NodeId},
    shared::{
        Channel, ChannelShared,
        channel::Source,
        counters::count,
        publication::Verdict,
        subscription::{Leg, LocalEnd},
    },
};

/// How long a consumer that reads a datum in place is waited for before it is tried again to cut it off.
const HELD_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

impl Clerk {
    /// Whether a node may read another one's rings: the same network and secret, and neither hides; or itself.
    fn shares_rings(&self, one: NodeId, other: NodeId) -> bool {
        let key = |node: NodeId| self.members.get(&node).and_then(|member| member.shared.registry_key);
        one == other || key(one).is_some_and(|key_of_one| Some(key_of_one) == key(other))
    }

    /// The node of this engine that is `peer` to `node`.
    pub(super) fn local_node(&self, node: NodeId, peer: PeerId) -> Option<NodeId> {
        if self.own_id(node) == Some(peer) {
            return Some(node);
        }
        // One identity may be a member of several networks.
        let mut same = self.members.iter().filter(|(_, member)| member.shared.peer_id == peer);
        same.find(|(other, _)| self.shares_rings(node, **other)).map(|(other, _)| *other)
    }

    /// The nodes of this engine that produce a stream for `node`.
    pub(super) fn local_producers(&self, node: NodeId, stream: &StreamId) -> Vec<PeerId> {
        let members = self.members.iter();
        let producing =
            members.filter(|(other, m)| m.streams.contains_key(stream) && self.shares_rings(node, **other));
        producing.map(|(_, member)| member.shared.peer_id).collect()
    }

    /// A stream is published: the subscriptions of this engine's nodes go for it.
    pub(super) fn local_stream_appeared(&mut self, producer: NodeId, stream: StreamId) {
        let Some(peer) = self.own_id(producer) else { return };
        let nodes: Vec<NodeId> =
            self.members.keys().filter(|node| self.shares_rings(producer, **node)).copied().collect();
        for node in nodes {
            let Some(member) = self.members.get_mut(&node) else { continue };
            for (key, subscription) in &mut member.subscriptions {
                if subscription.shared.spec.stream != stream {
                    continue;
                }
                if let Some(pursuit) = subscription.pursuits.get_mut(&peer)
                    && pursuit.stage.is_at_rest()
                {
                    pursuit.stage = Stage::Fresh;
                }
                self.fresh.insert((node, *key, peer));
            }
        }
    }

    /// What a node of this engine says about itself is different: the others' predicates are asked again.
    pub(super) fn local_peer_changed(&mut self, node: NodeId) {
        let legs: Vec<u64> = self
            .legs
            .iter()
            .filter(|(_, leg)| leg.producer.0 == node || leg.consumer.0 == node)
            .map(|(number, _)| *number)
            .collect();
        for leg in legs {
            let Some(&LocalLeg { producer, consumer, .. }) = self.legs.get(&leg) else { continue };
            self.review_serving(producer.0, producer.1, producer.2);
            self.review_pursuit(consumer.0, consumer.1, consumer.2);
        }
        // Those that were refused because of what it said before.
        let Some(peer) = self.own_id(node) else { return };
        for (other, member) in &mut self.members {
            for (key, subscription) in &mut member.subscriptions {
                if let Some(pursuit) = subscription.pursuits.get_mut(&peer)
                    && matches!(pursuit.stage, Stage::Refused(_))
                {
                    pursuit.stage = Stage::Fresh;
                    self.fresh.insert((*other, *key, peer));
                }
            }
        }
        // And those that refused it: in this engine they need not be told first.
        let producers: BTreeSet<PeerId> = self
            .members
            .get(&node)
            .into_iter()
            .flat_map(|member| member.subscriptions.values().flat_map(|s| s.pursuits.keys().copied()))
            .collect();
        for producer in producers {
            if self.local_node(node, producer).is_some() {
                self.reconsider_refused(node, producer);
            }
        }
    }

    /// Connects a subscription to a producer of this engine.
    pub(super) fn connect_local(
        &mut self,
        node: NodeId,
        key: u64,
        peer: PeerId,
        producer: NodeId,
        info: &PeerInfo,
    ) {
        let stream = match self.members.get(&node).and_then(|member| member.subscriptions.get(&key)) {
            Some(subscription) => subscription.shared.spec.stream,
            None => return,
        };
        if let Some(member) = self.members.get(&node) {
            count(&member.shared.counters.channels_opened);
        }
        match self.try_connect_local(node, key, peer, producer, info, stream) {
            Ok((leg, publication)) => {
                self.hand_over(node, key, leg);
                self.show_publication(producer, publication);
            }
            Err(code) => {
                let own = self.own_id(node).unwrap_or_default();
                let refused = Arc::new(ChannelShared::new(stream, peer, own));
                refused.terminate(code);
                let subscription =
                    self.members.get_mut(&node).and_then(|member| member.subscriptions.get_mut(&key));
                if let Some(pursuit) = subscription.and_then(|s| s.pursuits.get_mut(&peer)) {
                    // So that the user sees why.
                    pursuit.channel =
                        Some(Arc::new(Channel { shared: refused, peer: info.clone(), source: None }));
                }
                self.leg_ended(node, key, peer, code);
            }
        }
    }

    fn try_connect_local(
        &mut self,
        node: NodeId,
        key: u64,
        peer: PeerId,
        producer: NodeId,
        info: &PeerInfo,
        stream: StreamId,
    ) -> Result<(Leg, u64), CloseCode> {
        let accepted = self.accept(node, key, info);
        if accepted == Verdict::Deny {
            return Err(CloseCode::NOT_ALLOWED);
        }
        let publication = self.published(producer, &stream).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let consumer = self.local_info(node).ok_or(CloseCode::PEER_LOST)?;
        let verdict = self.admit(producer, publication, &consumer)?;
        let ring = self.ring(producer, publication).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let Ok(reader) = ring.subscribe() else {
            if let Some(member) = self.members.get(&producer) {
                count(&member.shared.counters.no_capacity);
            }
            return Err(CloseCode::NO_CAPACITY);
        };
        let shared = Arc::new(ChannelShared::new(stream, peer, consumer.peer_id()));
        shared.set_connected();
        let number = self.port.next_key();
        let first = reader.position();
        // Before the consumer has it, whose cells these are from then on.
        shared.counters().delivered(0, 0, 0, first);
        let source = self.source(producer, publication);
        let ours = Arc::new(Channel { shared: shared.clone(), peer: info.clone(), source: source.clone() });
        let theirs = Arc::new(Channel { shared: shared.clone(), peer: consumer.clone(), source });
        let end = OutboundEnd::Local(number);
        let serving = OutboundChannel { end, peer: consumer.peer_id(), channel: theirs, until: None };
        let serving = self.add_serving(producer, publication, serving, verdict);
        if let Some(member) = self.members.get(&producer) {
            count(&member.shared.counters.channels_served);
        }
        let leg = LocalLeg {
            producer: (producer, publication, serving),
            consumer: (node, key, peer),
            reader: reader.id(),
            shared,
        };
        self.legs.insert(number, leg);
        self.note_accepted(node, key, peer, accepted);
        let now = self.now;
        let subscription = self.members.get_mut(&node).and_then(|member| member.subscriptions.get_mut(&key));
        if let Some(pursuit) = subscription.and_then(|s| s.pursuits.get_mut(&peer)) {
            pursuit.stage = Stage::Local(number);
            pursuit.channel = Some(ours.clone());
            pursuit.failures = 0;
            pursuit.since = now;
        }
        let end = LocalEnd { port: self.port.clone(), leg: number };
        Ok((Leg::new(Inbox::local(reader), ours, Some(end)), publication))
    }

    pub(super) fn ring(&self, node: NodeId, publication: u64) -> Option<Ring> {
        Some(self.members.get(&node)?.publications.get(&publication)?.shared.ring.clone())
    }

    fn source(&self, node: NodeId, publication: u64) -> Option<Source> {
        Some(Source::new(&self.members.get(&node)?.publications.get(&publication)?.shared))
    }

    /// The producer's side of a leg is over; its cursor may stay.
    fn end_serving_of(&mut self, leg: u64, code: CloseCode) {
        let Some(local) = self.legs.get(&leg) else { return };
        let (node, key, number) = local.producer;
        let publishing = self.members.get_mut(&node).and_then(|member| member.publications.get_mut(&key));
        if let Some(publishing) = publishing {
            publishing.draining.insert(leg);
        }
        self.serving_ended(node, key, number, code);
    }

    /// The consumer's side of a leg is over, if it still is this leg.
    fn end_pursuit_of(&mut self, leg: u64, code: CloseCode) {
        let Some(local) = self.legs.get(&leg) else { return };
        let (node, key, peer) = local.consumer;
        let subscription = self.members.get(&node).and_then(|member| member.subscriptions.get(&key));
        let current =
            subscription.and_then(|s| s.pursuits.get(&peer)).is_some_and(|p| p.stage == Stage::Local(leg));
        if current {
            self.leg_ended(node, key, peer, code);
        }
    }

    /// The consumer ends a leg; what it has not read stays readable. The pursuit is left to the caller.
    pub(super) fn consumer_left_local(&mut self, leg: u64, code: CloseCode) {
        self.end_serving_of(leg, code);
    }

    /// The producer has closed its ring: all its local legs are over, and are read to the end.
    pub(super) fn end_local_servings(&mut self, node: NodeId, key: u64, code: CloseCode) {
        let local: Vec<u64> = self
            .consumers(node, key)
            .into_iter()
            .filter_map(|(_, end)| match end {
                OutboundEnd::Local(leg) => Some(leg),
                OutboundEnd::Remote(_) => None,
            })
            .collect();
        for leg in local {
            self.end_serving_of(leg, code);
            self.end_pursuit_of(leg, code);
        }
    }

    /// Cuts a consumer of this engine off.
    pub(super) fn cut_local_leg(&mut self, leg: u64, code: CloseCode) {
        self.end_serving_of(leg, code);
        self.end_pursuit_of(leg, code);
        self.detach(leg);
    }

    /// Takes the cursor of a leg out of the ring.
    pub(super) fn detach(&mut self, leg: u64) {
        let Some(local) = self.legs.get(&leg) else { return };
        let reader: ReaderId = local.reader;
        let Some(ring) = self.ring(local.producer.0, local.producer.1) else { return };
        // Before the consumer can see that it was cut off.
        local.shared.end_at(ring.tail());
        if ring.detach(reader) == Err(DetachError::Pinned) {
            self.timers.set(Timer::Detach(leg), self.now + HELD_PAUSE);
        }
    }

    /// The consumer let go of a leg: its cursor is out of the ring.
    pub(super) fn local_leg_dropped(&mut self, leg: u64) {
        self.end_serving_of(leg, CloseCode::GRACEFUL);
        self.end_pursuit_of(leg, CloseCode::GRACEFUL);
        self.timers.cancel(Timer::Detach(leg));
        let Some(local) = self.legs.remove(&leg) else { return };
        let (node, key, _) = local.producer;
        if let Some(ring) = self.ring(node, key)
            && local.shared.end_seq().is_none()
        {
            local.shared.end_at(ring.tail());
        }
        let publishing = self.members.get_mut(&node).and_then(|member| member.publications.get_mut(&key));
        if let Some(publishing) = publishing {
            publishing.draining.remove(&leg);
            if publishing.draining.is_empty() {
                publishing.shared.left.store(false, Ordering::Release);
            }
        }
        self.forget_publication(node, key);
    }
}
