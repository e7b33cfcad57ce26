//! Channels as far as they concern several components: publishing, subscribing, connecting.
//!
//! Each function asks some components and tells others; none keeps anything of its own.

use std::sync::Arc;

use corewire_proto::{
    PeerId, StreamId,
    channel::{Label, OpenRequest, TypeName},
    session::CloseCode,
    wire::header::ReceiverIndex,
};

use super::{
    Clerk,
    effect::LegEnd,
    local_legs::{DETACH_RETRY, LocalLeg},
    notice::{ChannelsOf, drop_contained},
    publications::{ChannelRequest, OutboundEnd},
    sessions::ChannelOwner,
};
use crate::{
    peer::PeerInfo,
    shard::{Command, Inbox, NodeId},
    shared::{
        Channel,
        counters::count,
        keys::{InboundKey, LegKey, OutboundKey, SubscriptionKey},
        path::PathStats,
        publication::{PublicationShared, Verdict},
        subscription::{Leg, LocalEnd, RankedProducer, SubscriptionShared},
    },
};

impl Clerk {
    pub(super) fn publish(&mut self, publication: Arc<PublicationShared>) {
        let node = publication.key.node;
        let shared = self.nodes.shared(node);
        match shared.filter(|_| !self.shutdown.is_leaving(node)) {
            Some(shared) => self.publications.publish(&mut self.env, shared, publication),
            None => {
                publication.ring.close();
                if let Some(shared) = shared {
                    publication.forgotten(shared);
                }
                self.env.effects.notify(ChannelsOf::Publication, publication.spec.on_change.as_ref());
                drop_contained(publication);
            }
        }
    }

    pub(super) fn subscribe(&mut self, subscription: Arc<SubscriptionShared>) {
        let (node, stream) = (subscription.key.node, subscription.spec.stream);
        let shared = self.nodes.shared(node);
        match shared.filter(|_| !self.shutdown.is_leaving(node)) {
            Some(shared) if subscription.spec.producer.is_some() => {
                let producer = subscription.spec.producer.into_iter();
                self.subscriptions.subscribe(&mut self.env, shared, subscription, producer);
            }
            Some(shared) => {
                let remote = self.catalogue.producers(node, &stream).into_iter();
                let producing = |other: &NodeId| self.publications.open_stream(*other, &stream).is_some();
                let neighbours = self.nodes.neighbours(node).into_iter().filter(producing);
                let local = neighbours.filter_map(|other| Some(self.nodes.shared(other)?.peer_id));
                self.subscriptions.subscribe(&mut self.env, shared, subscription, remote.chain(local));
            }
            None => {
                subscription.close();
                if let Some(shared) = shared {
                    subscription.forgotten(shared);
                }
                self.env.effects.notify(ChannelsOf::Subscription, subscription.spec.on_change.as_ref());
                drop_contained(subscription);
            }
        }
    }

    /// A node publishes a stream: the subscriptions of this engine that may read its rings look at it.
    pub(super) fn stream_appeared(&mut self, producer: NodeId, stream: StreamId) {
        let Some(peer) = self.nodes.shared(producer).map(|node| node.peer_id) else { return };
        for node in self.nodes.neighbours(producer) {
            self.subscriptions.stream_appeared(node, peer, &stream);
        }
    }

    /// The entry of a producer, wherever it lives, and its node if that is in this engine.
    fn producer(&self, node: NodeId, peer: PeerId) -> Option<(PeerInfo, Option<NodeId>)> {
        match self.nodes.local_node(node, peer) {
            Some(local) => Some((self.local_info(local)?, Some(local))),
            None => Some((self.catalogue.info(node, peer)?, None)),
        }
    }

    /// Looks at a producer that a subscription may want.
    pub(super) fn advance(&mut self, key: InboundKey) {
        let (node, peer) = (key.node(), key.producer);
        let found = self.producer(node, peer);
        if !self.subscriptions.advance(&mut self.env, key, found.as_ref().map(|(info, _)| info)) {
            return;
        }
        let (info, local) = found.expect("a producer that is to be connected is known");
        if !self.subscriptions.chooses(key) {
            let reachable = local.is_some() || self.sessions.current(node, peer).is_some();
            return self.subscriptions.stand_by(&mut self.env, key, reachable);
        }
        match local {
            Some(_) if self.legs.is_pinned(key) => {
                self.subscriptions.pause(&mut self.env, key, DETACH_RETRY);
            }
            Some(producer) => self.connect_local(key, producer, &info),
            None => {
                let session = self.sessions.current(node, peer);
                let has_room = session.is_some_and(|index| self.shards.has_room(index.shard()));
                self.subscriptions.connect(&mut self.env, key, &info, session, has_room);
            }
        }
    }

    /// A subscription chooses among its producers.
    pub(super) fn rank(&mut self, key: SubscriptionKey) {
        let prefer = self.subscriptions.spec(key).and_then(|spec| spec.prefer.clone());
        let (Some(prefer), Some(node)) = (prefer, self.nodes.shared(key.node).cloned()) else { return };
        let mut ranks = Vec::new();
        for peer in self.subscriptions.candidates(key) {
            let Some((info, local)) = self.producer(key.node, peer) else { continue };
            let session = self.sessions.current(key.node, peer);
            let measured = session.and_then(|index| self.sessions.path(index));
            if let Some(index) = session {
                self.env.effects.send(index.shard(), Command::MeasurePath { index });
            }
            let (hops, path) = match (local, measured) {
                (Some(_), _) => (0, PathStats::default()),
                (None, Some((at, path))) => (1 + u8::from(!node.is_here(at.ip())), path),
                (None, None) => {
                    self.subscriptions.standby_lost(InboundKey { subscription: key, producer: peer });
                    continue;
                }
            };
            let candidate = RankedProducer { peer: &info, hops, path };
            let rank = self.subscriptions.contained(key, || (prefer.rank)(&candidate)).flatten();
            ranks.push((peer, rank));
        }
        self.subscriptions.choose(&mut self.env, key, &ranks);
    }

    /// Connects a subscription to a producer of this engine.
    fn connect_local(&mut self, key: InboundKey, producer: NodeId, info: &PeerInfo) {
        self.subscriptions.count_opened(key.subscription);
        let accepted = self.subscriptions.accept(key.subscription, info);
        match self.try_connect_local(key, producer, info, accepted) {
            Ok((leg, channel)) => {
                self.subscriptions.hand_over(&mut self.env, key.subscription, leg);
                self.publications.show(&mut self.env, channel.publication);
            }
            Err(code) => {
                let theirs = self.subscriptions.stream(key.subscription).and_then(|stream| {
                    let publication = self.publications.open_stream(producer, &stream)?;
                    self.publications.form(publication).map(|form| form.name.clone())
                });
                self.subscriptions.refused_local(&mut self.env, key, info, (code, theirs));
                self.subscriptions.ask_again(&mut self.env, key, accepted);
            }
        }
    }

    fn try_connect_local(
        &mut self,
        key: InboundKey,
        producer: NodeId,
        info: &PeerInfo,
        accepted: Verdict,
    ) -> Result<(Leg, OutboundKey), CloseCode> {
        if accepted.denies() {
            return Err(CloseCode::NOT_ALLOWED);
        }
        let stream = self.subscriptions.stream(key.subscription).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let publication =
            self.publications.open_stream(producer, &stream).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let consumer = self.local_info(key.node()).ok_or(CloseCode::PEER_LOST)?;
        let channel = OutboundKey::new(publication, self.port.next_key());
        let leg = LegKey(self.port.next_key());
        let wanted = self.subscriptions.spec(key.subscription).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let end = self.publications.serve_local(&mut self.env, (channel, leg), &consumer, wanted)?;
        let local = LocalLeg {
            producer: channel,
            consumer: key,
            reader: end.reader.id(),
            shared: end.shared.clone(),
        };
        self.legs.insert(leg, local);
        let ours = Arc::new(Channel {
            shared: end.shared,
            peer: info.clone(),
            source: Some(end.source),
            published: None,
        });
        self.subscriptions.connected_local(&mut self.env, key, leg, &ours, accepted);
        let port = self.port.clone();
        Ok((Leg::local(Inbox::local(end.reader), ours, LocalEnd { port, leg }), channel))
    }

    /// A peer in another engine wants a channel.
    pub(super) fn channel_requested(&mut self, index: ReceiverIndex, label: Label, request: &OpenRequest) {
        match self.try_serve(index, label, request) {
            Ok(Some(key)) => self.sessions.add_channel(index, label, ChannelOwner::Outbound(key)),
            Ok(None) => {}
            Err(code) => {
                let named = (code == CloseCode::TYPE_MISMATCH).then(|| self.type_name(index, request));
                let type_name = named.flatten().unwrap_or_default();
                self.env
                    .effects
                    .send(index.shard(), Command::RejectChannel { index, label, code, type_name });
            }
        }
    }

    /// The datum type of the stream that was asked for.
    fn type_name(&self, index: ReceiverIndex, request: &OpenRequest) -> Option<TypeName> {
        let (node, _) = self.sessions.ends(index)?;
        let publication = self.publications.open_stream(node, &request.stream_id)?;
        self.publications.form(publication).map(|form| form.name.clone())
    }

    fn try_serve(
        &mut self,
        index: ReceiverIndex,
        label: Label,
        request: &OpenRequest,
    ) -> Result<Option<OutboundKey>, CloseCode> {
        let (node, peer) = self.sessions.ends(index).ok_or(CloseCode::PEER_LOST)?;
        let node = self.nodes.shared(node).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        // A peer whose tickets are not taken in yet would be judged by its former ones, once and for all. So
        // it is to ask again.
        if !self.shards.has_room(index.shard()) || self.catalogue.has_late_tickets(index) {
            count(&node.counters.no_capacity);
            return Err(CloseCode::NO_CAPACITY);
        }
        let (info, number) = (self.catalogue.info(node.id, peer), self.port.next_key());
        let asked = ChannelRequest { node, peer, info, index, label, request, number };
        self.publications.serve(&mut self.env, asked)
    }

    /// The peer of a session is silent, or is not any more.
    pub(super) fn suspect(&mut self, index: ReceiverIndex, suspect: bool) {
        for owner in self.sessions.owners(index) {
            match owner {
                ChannelOwner::Inbound(key) => self.subscriptions.suspect(&mut self.env, key, suspect),
                ChannelOwner::Outbound(key) => self.publications.suspect(&mut self.env, key, suspect),
            }
        }
    }

    /// Asks the producer's predicate again about a channel.
    pub(super) fn review_outbound(&mut self, key: OutboundKey) {
        let Some((end, peer)) = self.publications.consumer(key) else { return };
        let consumer = match end {
            OutboundEnd::Local(leg, _) => {
                let leg = self.legs.get(leg).expect("a local channel that is served has its leg");
                self.local_info(leg.consumer.node())
            }
            OutboundEnd::Remote(..) => self.catalogue.info(key.node(), peer),
        };
        if let Some(consumer) = consumer {
            self.publications.review(&mut self.env, key, &consumer);
        }
    }

    /// Asks the consumer's predicate again about a channel.
    pub(super) fn review_inbound(&mut self, key: InboundKey) {
        if let Some((producer, _)) = self.producer(key.node(), key.producer) {
            self.subscriptions.review(&mut self.env, key, &producer);
        }
    }

    /// Ends a local channel at the producer's end and, unless the subscription knows, at the consumer's.
    pub(super) fn end_leg(&mut self, key: LegKey, code: CloseCode, how: LegEnd) {
        let Some(leg) = self.legs.get(key).cloned() else { return };
        self.publications.local_ended(&mut self.env, leg.producer, leg.consumer.node(), code);
        if how != LegEnd::ByConsumer {
            self.subscriptions.local_ended(&mut self.env, leg.consumer, key, code);
        }
        if how == LegEnd::Cut {
            self.detach(key);
        }
    }

    /// Takes the cursor of a local channel out of the ring.
    pub(super) fn detach(&mut self, key: LegKey) {
        if let Some(leg) = self.legs.get(key) {
            let ring = self.publications.ring(leg.producer.publication);
            let publication = leg.producer.publication;
            if let Some(position) = self.legs.detach(&mut self.env, key, ring) {
                self.publications.local_detached(&mut self.env, publication, key, position);
            }
        }
    }

    /// The consumer dropped its end of a local channel: the cursor is out of the ring.
    pub(super) fn leg_dropped(&mut self, key: LegKey) {
        self.end_leg(key, CloseCode::GRACEFUL, LegEnd::ByProducer);
        self.apply_effects();
        let leg = self.legs.get(key).expect("a local channel is kept until its consumer drops it");
        let publication = leg.producer.publication;
        if let Some(taken) = self.legs.remove(&mut self.env, key, self.publications.ring(publication)) {
            self.publications.local_detached(&mut self.env, publication, key, taken);
        }
        self.publications.leg_dropped(&mut self.env, publication, key);
    }
}
