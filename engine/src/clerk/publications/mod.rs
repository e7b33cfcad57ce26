//! What is published in this engine, and which consumers are admitted.
//!
//! Not inside:
//! - the policy of a full ring (the typed layer) and sending (the shards);
//! - local channels as a whole: only their producer's end is here.

mod admission;
mod direct;
mod events;
mod flushes;
mod lagging;
mod parked;

use std::sync::Arc;

use corewire_proto::{
    PeerId, StreamId,
    channel::{DatumForm, Label, OpenRequest, PublicationId, Reliability},
    mutate,
    ordered::OrderedMap,
    session::CloseCode,
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::{Reader, ReaderId, Ring};

use self::{
    lagging::FullWatch,
    parked::{ChannelStart, ConsumerKey, Places},
};
use super::{
    effect::{Effect, LegEnd},
    env::Env,
    notice::{ChannelsOf, drop_contained},
    timers::Timer,
};
use crate::{
    criteria::StreamCriteria,
    peer::PeerInfo,
    shard::{AcceptChannel, Command, NodeId},
    shared::{
        Channel, ChannelShared, Channels,
        channel::Source,
        counters::count,
        egress::Egress,
        event::ChannelEvent,
        flush::{FlushShared, Shortfall},
        keys::{LegKey, OutboundKey, PublicationKey},
        limits::VERDICT_MIN,
        node::NodeShared,
        publication::{DirectTo, PublicationShared, Verdict},
        subscription::SubscribeSpec,
    },
};

pub(crate) use self::parked::WaitingOpen;

/// The publications of this engine.
#[derive(Default)]
pub(crate) struct Publications {
    /// Closed ones stay until their channels are gone and nothing drains. Inputs for a publication or a
    /// channel that is not here were on their way when it ended, and are ignored.
    publications: OrderedMap<PublicationKey, PublicationState>,
    /// The open ones that are announced, by what they publish.
    streams: OrderedMap<(NodeId, StreamId), PublicationKey>,
    /// The open ones that are direct.
    direct: OrderedMap<(NodeId, StreamId), PublicationKey>,
}

/// A publication.
struct PublicationState {
    shared: Arc<PublicationShared>,
    node: Arc<NodeShared>,
    /// Which life of the stream's sequence this is.
    id: PublicationId,
    channels: OrderedMap<OutboundKey, OutboundChannel>,
    /// The channels to other engines, by their consumers.
    remote: OrderedMap<ConsumerKey, OutboundKey>,
    places: Places,
    /// Where the last channels of remote consumers began. At most
    /// [`STARTS_MAX`](crate::shared::limits::STARTS_MAX).
    starts: OrderedMap<ConsumerKey, ChannelStart>,
    /// Local channels that are over and still hold a cursor in the ring.
    draining: OrderedMap<LegKey, DrainingLeg>,
    /// No consumer is admitted any more, except to a place that is kept for it.
    closed: bool,
    /// Of a direct publication without channel and place: where the ring stood when it lost them. What is
    /// published from there to the beginning of the next channel is not delivered.
    unheld_from: Option<u64>,
    /// Flushes that wait for some channel, or for an absent consumer.
    flushes: Vec<Arc<FlushShared>>,
    /// There while the ring is full.
    watch: Option<FullWatch>,
    /// When the first of the verdicts ends by which consumers are refused.
    refused_until: Option<Instant>,
}

/// One consumer of a publication.
struct OutboundChannel {
    end: OutboundEnd,
    peer: PeerId,
    /// Which subscription of the peer's. Of a remote consumer.
    subscription: Option<[u8; 8]>,
    /// The first sequence of this publication that the consumer has not seen, if it was here before.
    resumes_at: Option<u64>,
    channel: Arc<Channel>,
    /// The mark that the shard was asked for and has not reported. Of a remote consumer.
    asked: Option<u64>,
}

/// Where the other end of an outbound channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboundEnd {
    /// In another engine, behind this session.
    Remote(ReceiverIndex, Label),
    /// In this one.
    Local(LegKey, ReaderId),
}

/// The cursor of a local channel that is over.
struct DrainingLeg {
    reader: ReaderId,
    channel: Arc<Channel>,
    consumer: NodeId,
    /// The consumer's node is forgotten, so it may keep the ring full for a limited time only.
    consumer_left: bool,
}

/// A peer in another engine wants a channel.
pub(crate) struct ChannelRequest<'a> {
    /// The node that is asked.
    pub(crate) node: &'a Arc<NodeShared>,
    pub(crate) peer: PeerId,
    /// The peer's entry, if it is known.
    pub(crate) info: Option<PeerInfo>,
    pub(crate) index: ReceiverIndex,
    pub(crate) label: Label,
    pub(crate) request: &'a OpenRequest,
    /// The number of the channel, if it is admitted.
    pub(crate) number: u64,
}

/// The producer's end of a local channel that was admitted.
pub(crate) struct LocalEndpoint {
    pub(crate) reader: Reader,
    pub(crate) shared: Arc<ChannelShared>,
    pub(crate) source: Source,
}

impl OutboundChannel {
    /// The consumer, if it is in another engine.
    fn consumer(&self) -> Option<ConsumerKey> {
        Some(ConsumerKey { peer: self.peer, subscription: self.subscription? })
    }
}

impl PublicationState {
    fn is_done(&self) -> bool {
        self.closed && self.channels.is_empty() && self.draining.is_empty() && self.places.is_empty()
    }

    /// Whether everything was delivered. A local consumer of the same node is not waited for: it goes with
    /// the node.
    fn has_drained(&self) -> bool {
        self.channels.is_empty()
            && self.places.is_empty()
            && (self.shared.ring.is_empty() || !self.draining.values().any(|leg| self.waits_for(leg)))
    }

    fn waits_for(&self, leg: &DrainingLeg) -> bool {
        leg.consumer != self.node.id
    }

    /// Lets the handles see the channels as they are.
    fn show(&self, env: &mut Env) {
        let channels: Channels = self.channels.values().map(|outbound| outbound.channel.clone()).collect();
        self.shared.channels.show(channels);
        env.effects.notify(ChannelsOf::Publication, self.shared.spec.on_change.as_ref());
    }

    fn insert(&mut self, env: &mut Env, key: OutboundKey, channel: OutboundChannel, verdict: Verdict) {
        if let Verdict::AllowFor(time) = verdict {
            env.effects.set_timer(Timer::Admitted(key), env.now + time.max(VERDICT_MIN));
        }
        count(&self.shared.counters.admitted);
        if let Some(consumer) = channel.consumer() {
            let before = self.remote.insert(consumer, key);
            assert!(before.is_none(), "{consumer:?} has one channel at a time");
        }
        let before = self.channels.insert(key, channel);
        assert!(before.is_none(), "{key:?} is given once");
    }
}

impl Publications {
    /// Takes in a publication of a node that is a member.
    pub(crate) fn publish(&mut self, env: &mut Env, node: &Arc<NodeShared>, shared: Arc<PublicationShared>) {
        let (key, stream, is_direct) = (shared.key, shared.spec.stream, shared.spec.direct.is_some());
        assert_eq!(key.node, node.id, "a publication belongs to its node");
        self.publications.insert(
            key,
            PublicationState {
                shared,
                node: node.clone(),
                id: PublicationId(mutate!(env.random(), "publication-id-repeats" => [7; 16])),
                channels: OrderedMap::new(),
                remote: OrderedMap::new(),
                places: Places::default(),
                starts: OrderedMap::new(),
                draining: OrderedMap::new(),
                closed: false,
                unheld_from: is_direct.then_some(0),
                flushes: Vec::new(),
                watch: None,
                refused_until: None,
            },
        );
        if is_direct {
            self.direct.insert((key.node, stream), key);
        } else {
            self.streams.insert((key.node, stream), key);
            env.effects.push(Effect::RecordStale(key.node));
        }
        env.effects.push(Effect::StreamAppeared(key.node, stream));
    }

    /// Closes a publication whose last handle is gone, or that was closed by one: no consumer is admitted any
    /// more, and the consumers that are there, or absent with their place kept, get what is in the ring.
    pub(crate) fn unpublish(&mut self, env: &mut Env, key: PublicationKey) {
        // The publication was refused, or is forgotten because its node left.
        let Some(publication) = self.publications.get_mut(&key) else { return };
        publication.closed = true;
        let stream = (key.node, publication.shared.spec.stream);
        if self.streams.get(&stream) == Some(&key) {
            self.streams.remove(&stream);
            env.effects.push(Effect::RecordStale(key.node));
        } else if self.direct.get(&stream) == Some(&key) {
            self.direct.remove(&stream);
        }
        env.effects.cancel_timer(Timer::Lagging(key));
        publication.hold(publication.shared.ring.tail());
        if publication.shared.discarded.get() {
            return self.discard(env, key);
        }
        let code = publication.shared.end.code();
        for outbound in publication.channels.values() {
            if let OutboundEnd::Local(leg, _) = outbound.end {
                env.effects.push(Effect::EndLeg(leg, code, LegEnd::ByProducer));
            }
        }
        publication.show(env);
        self.forget_if_done(env, key);
    }

    /// Forgets a closed publication that has no reader any more.
    fn forget_if_done(&mut self, env: &mut Env, key: PublicationKey) {
        if self.publications.get(&key).is_some_and(PublicationState::is_done)
            && let Some(publication) = self.publications.remove(&key)
        {
            publication.shared.forgotten(&publication.node);
            let missing = publication.shared.undelivered.lock().clone();
            if !missing.is_empty() && !publication.shared.discarded.get() {
                env.effects.push(Effect::DeliveryFailed(key.node, missing));
            }
            env.effects.cancel_timer(Timer::Lagging(key));
            env.effects.cancel_timer(Timer::Places(key));
            env.effects.cancel_timer(Timer::Refused(key));
            drop_contained(publication.shared);
        }
        env.effects.push(Effect::MayHaveDrained(key.node));
    }

    /// The streams that a node announces, sorted.
    pub(crate) fn streams_of(&self, node: NodeId) -> Vec<StreamId> {
        let all = (node, StreamId([0; 32]))..=(node, StreamId([0xFF; 32]));
        self.streams.range(all).map(|((_, stream), _)| *stream).collect()
    }

    /// The open publication of a stream, if there is one.
    pub(crate) fn open_stream(&self, node: NodeId, stream: &StreamId) -> Option<PublicationKey> {
        let name = (node, *stream);
        self.streams.get(&name).or_else(|| self.direct.get(&name)).copied()
    }

    /// The ring of a publication that is not forgotten.
    pub(crate) fn ring(&self, key: PublicationKey) -> Option<&Ring> {
        self.publications.get(&key).map(|publication| &publication.shared.ring)
    }

    /// What the datums of a publication are that is not forgotten.
    pub(crate) fn form(&self, key: PublicationKey) -> Option<&DatumForm> {
        self.publications.get(&key).map(|publication| &publication.shared.spec.form)
    }

    fn of_node(&self, node: NodeId) -> impl Iterator<Item = (&PublicationKey, &PublicationState)> {
        self.publications.range(PublicationKey::all_of(node))
    }

    /// The publications of a node, as their handles know them.
    pub(crate) fn handles_of(&self, node: NodeId) -> Vec<Arc<PublicationShared>> {
        self.of_node(node).map(|(_, publication)| publication.shared.clone()).collect()
    }

    /// Whether everything that a node has published was delivered.
    pub(crate) fn have_drained(&self, node: NodeId) -> bool {
        self.of_node(node).all(|(_, publication)| publication.has_drained())
    }

    /// Serves a peer in another engine, or refuses it with the code. `None`: the request waits for the end of
    /// the consumer's last channel.
    pub(crate) fn serve(
        &mut self,
        env: &mut Env,
        mut asked: ChannelRequest<'_>,
    ) -> Result<Option<OutboundKey>, CloseCode> {
        let ChannelRequest { node, peer, index, label, request, number, .. } = asked;
        let kept = self.place_of(&asked);
        let Some(key) = kept.or_else(|| self.open_stream(node.id, &request.stream_id)) else {
            count(&node.counters.stream_not_found);
            return Err(CloseCode::STREAM_NOT_FOUND);
        };
        let info = asked.info.take().ok_or(CloseCode::PEER_LOST)?;
        let publication = self.publications.get_mut(&key).expect("an open stream has its publication");
        if publication.wait_for_last(env, &asked) {
            return Ok(None);
        }
        let verdict = publication.admit(env, &info, &request.form, kept.is_some())?;
        let criteria = match &request.criteria[..] {
            [] => None,
            bytes => Some(Arc::new(StreamCriteria::decode(bytes).ok_or(CloseCode::PROTOCOL_VIOLATION)?)),
        };
        let selection = publication.selection(env, &info, (&request.form, criteria))?;
        let (stream, node_limit) = (publication.shared.egress.clone(), node.egress.clone());
        let egress = Egress { stream, node: node_limit, ..Egress::default() };
        let handle = ChannelShared::new(request.stream_id, node.peer_id, peer);
        let handle = Arc::new(handle.selecting(selection).limited(egress));
        let published = Some(Source::new(&publication.shared));
        let channel = Arc::new(Channel { shared: handle.clone(), peer: info, source: None, published });
        let spec = &publication.shared.spec;
        let reliability = match (spec.reliability, request.reliability) {
            (Reliability::Reliable, Reliability::Reliable) => Reliability::Reliable,
            _ => Reliability::FireAndForget,
        };
        let (ring, end, weight) =
            (publication.shared.ring.clone(), publication.shared.end.clone(), spec.weight);
        let channel_key = OutboundKey::new(key, number);
        let outbound = OutboundChannel {
            end: OutboundEnd::Remote(index, label),
            peer,
            subscription: Some(request.subscription),
            resumes_at: publication.resumes_at(request),
            channel,
            asked: None,
        };
        let (resume, former) = publication.take_place(env, &asked).unzip();
        publication.insert(env, channel_key, outbound, verdict);
        if let Some(DirectTo { back, .. }) = publication.shared.spec.direct {
            env.effects.push(Effect::StreamOffered(node.id, peer, back));
        }
        let publication_id = publication.id;
        let accept = AcceptChannel {
            index,
            label,
            ring,
            end,
            weight,
            reliability,
            publication: publication_id,
            resume,
            handle,
        };
        env.effects.send(index.shard(), Command::AcceptChannel(Box::new(accept)));
        if let Some(former) = former {
            publication.resumed(env, channel_key, &former);
        }
        publication.show(env);
        Ok(Some(channel_key))
    }

    /// Serves a consumer of this engine, or refuses it with the code. The caller shows the publication
    /// afterwards, once the consumer has its end.
    pub(crate) fn serve_local(
        &mut self,
        env: &mut Env,
        (key, leg): (OutboundKey, LegKey),
        consumer: &PeerInfo,
        wanted: &SubscribeSpec,
    ) -> Result<LocalEndpoint, CloseCode> {
        // A predicate of the consumer's has just run, so the publication may be gone.
        let publication = self.publications.get_mut(&key.publication).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let verdict = publication.admit(env, consumer, &wanted.form, false)?;
        let selection = publication.selection(env, consumer, (&wanted.form, wanted.criteria.clone()))?;
        let Ok(reader) = publication.shared.ring.subscribe() else {
            count(&publication.node.counters.no_capacity);
            return Err(CloseCode::NO_CAPACITY);
        };
        let (stream, producer) = (publication.shared.spec.stream, publication.node.peer_id);
        let shared = ChannelShared::new(stream, producer, consumer.peer_id()).selecting(selection);
        let shared = Arc::new(shared);
        shared.set_connected(env.now);
        // Before the consumer has the channel: from then on its thread is the writer of the counters.
        shared.counters().delivered(0, 0, 0, reader.position());
        publication.hold(reader.position());
        let source = Source::new(&publication.shared);
        let channel = Arc::new(Channel {
            shared: shared.clone(),
            peer: consumer.clone(),
            source: Some(source.clone()),
            published: Some(source.clone()),
        });
        let end = OutboundEnd::Local(leg, reader.id());
        publication.insert(
            env,
            key,
            OutboundChannel {
                end,
                peer: consumer.peer_id(),
                subscription: None,
                resumes_at: None,
                channel,
                asked: None,
            },
            verdict,
        );
        count(&publication.node.counters.channels_served);
        publication.tell_connected(env, key);
        Ok(LocalEndpoint { reader, shared, source })
    }

    /// A channel has its cursor in the ring, at `first_seq`.
    pub(crate) fn channel_served(&mut self, env: &mut Env, key: OutboundKey, first_seq: u64) {
        if let Some(publication) = self.publications.get_mut(&key.publication) {
            publication.note_start(key, first_seq);
            count(&publication.node.counters.channels_served);
            publication.show(env);
            publication.tell_connected(env, key);
        }
    }

    /// Lets the handles of a publication see its channels as they are.
    pub(crate) fn show(&self, env: &mut Env, key: PublicationKey) {
        if let Some(publication) = self.publications.get(&key) {
            publication.show(env);
        }
    }

    /// A channel is over, and its session or local channel knows it already. `parked` holds the place of a
    /// consumer that may come back.
    pub(crate) fn channel_ended(
        &mut self,
        env: &mut Env,
        key: OutboundKey,
        code: CloseCode,
        parked: Option<Reader>,
    ) {
        env.effects.cancel_timer(Timer::Admitted(key));
        // A local channel ends here when its first end does, and is then only drained.
        let Some(publication) = self.publications.get_mut(&key.publication) else { return };
        let Some(outbound) = publication.channels.remove(&key) else { return };
        // A consumer that has everything of a stream that has ended does not come back for more.
        let ended =
            |reader: &Reader| publication.closed && reader.position() >= publication.shared.ring.tail();
        let parked = parked.filter(|reader| !ended(reader));
        let (channel, goes_on) = (outbound.channel.clone(), parked.is_some());
        publication.report(env, || ChannelEvent::Closed { channel, code, goes_on });
        if let Some(consumer) = outbound.consumer() {
            publication.remote.remove(&consumer);
            match parked {
                Some(reader) => publication.keep_place(env, consumer, (&outbound.channel, code), reader),
                None => publication.lose_rest(env, &outbound.channel, code),
            }
            publication.answer_waiting(env, consumer);
        }
        outbound.channel.shared.terminate(code, env.now);
        publication.show(env);
        self.forget_if_done(env, key.publication);
    }

    /// The producer's end of a local channel is over; its cursor may stay.
    pub(crate) fn local_ended(&mut self, env: &mut Env, key: OutboundKey, consumer: NodeId, code: CloseCode) {
        if let Some(publication) = self.publications.get_mut(&key.publication)
            && let Some(outbound) = publication.channels.get(&key)
            && let OutboundEnd::Local(leg, reader) = outbound.end
        {
            let channel = outbound.channel.clone();
            let drains = DrainingLeg { reader, channel, consumer, consumer_left: false };
            publication.draining.insert(leg, drains);
        }
        self.channel_ended(env, key, code, None);
    }

    /// The cursor of a local channel has left the ring.
    pub(crate) fn leg_dropped(&mut self, env: &mut Env, publication_key: PublicationKey, leg: LegKey) {
        // The publication is forgotten before its legs if its node left.
        let Some(publication) = self.publications.get_mut(&publication_key) else { return };
        let drained = publication.draining.remove(&leg);
        assert!(drained.is_some(), "{leg:?} is kept until its consumer drops it");
        if publication.draining.is_empty() {
            publication.shared.left.set(false);
        }
        if let Some(leg) = drained.filter(|_| publication.shared.spec.direct.is_some()) {
            publication.leave_unread(&leg.channel);
        }
        self.forget_if_done(env, publication_key);
    }

    /// The channels of a node's publications to this peer.
    pub(crate) fn channels_to(&self, node: NodeId, peer: PeerId) -> Vec<OutboundKey> {
        let channels = self.of_node(node).flat_map(|(_, publication)| &publication.channels);
        channels.filter(|(_, outbound)| outbound.peer == peer).map(|(key, _)| *key).collect()
    }

    /// Where the consumer of a channel is; `None` when the channel is over.
    pub(crate) fn consumer(&self, key: OutboundKey) -> Option<(OutboundEnd, PeerId)> {
        let outbound = self.publications.get(&key.publication)?.channels.get(&key)?;
        Some((outbound.end, outbound.peer))
    }

    /// Ends a consumer's channel from this side.
    pub(crate) fn cut(&mut self, env: &mut Env, key: OutboundKey, code: CloseCode) {
        let Some(publication) = self.publications.get(&key.publication) else { return };
        let Some(outbound) = publication.channels.get(&key) else { return };
        match outbound.end {
            OutboundEnd::Remote(index, label) => {
                env.effects.push(Effect::ResetChannel(index, label, code));
                self.channel_ended(env, key, code, None);
            }
            OutboundEnd::Local(leg, _) => env.effects.push(Effect::EndLeg(leg, code, LegEnd::Cut)),
        }
    }

    /// Ends every channel of a node whose time to drain is over. Not in good order, so that no consumer
    /// believes that it has everything; and each whole session ends with this code, because an orderly close
    /// would overtake the channel's.
    pub(crate) fn give_up(&mut self, env: &mut Env, node: NodeId) {
        for (_, publication) in self.publications.range_mut(PublicationKey::all_of(node)) {
            publication.give_up_places(env);
            publication.give_up_legs();
        }
        let channels = self.of_node(node).flat_map(|(_, publication)| &publication.channels);
        let ends: Vec<(OutboundKey, OutboundEnd)> = channels.map(|(key, c)| (*key, c.end)).collect();
        for (key, end) in ends {
            self.cut(env, key, CloseCode::GAVE_UP);
            if let OutboundEnd::Remote(index, _) = end {
                env.effects.push(Effect::CloseSession(index, CloseCode::GAVE_UP));
            }
        }
    }

    /// The peers of a node are others now, which conditions over channels may depend on.
    pub(crate) fn notify_of_peers(&self, env: &mut Env, node: NodeId) {
        for (_, publication) in self.of_node(node).filter(|(_, publication)| !publication.channels.is_empty())
        {
            env.effects.notify(ChannelsOf::Publication, publication.shared.spec.on_change.as_ref());
        }
    }

    /// Forgets every publication of a node that has left. Returns what they did not deliver.
    pub(crate) fn forget_node(&mut self, env: &mut Env, node: NodeId) -> Vec<Shortfall> {
        let mut missing = Vec::new();
        let keys: Vec<PublicationKey> = self.of_node(node).map(|(key, _)| *key).collect();
        for key in keys {
            env.effects.cancel_timer(Timer::Lagging(key));
            env.effects.cancel_timer(Timer::Places(key));
            if let Some(publication) = self.publications.remove(&key) {
                self.streams.remove(&(node, publication.shared.spec.stream));
                self.direct.remove(&(node, publication.shared.spec.stream));
                // What was to be dropped is not missing.
                if !publication.shared.discarded.get() {
                    missing.extend_from_slice(&publication.shared.undelivered.lock());
                }
                publication.end_flushes();
                drop_contained(publication.shared);
            }
        }
        missing
    }

    /// The clerk is broken: every publication is over.
    pub(crate) fn abandon(&mut self, env: &mut Env) {
        self.streams.clear();
        self.direct.clear();
        for publication in std::mem::take(&mut self.publications).into_values() {
            publication.shared.ring.close();
            publication.end_flushes();
            for outbound in publication.channels.values() {
                outbound.channel.shared.terminate(CloseCode::PEER_LOST, env.now);
            }
            env.effects.notify(ChannelsOf::Publication, publication.shared.spec.on_change.as_ref());
            drop_contained(publication.shared);
        }
    }
}

#[cfg(test)]
mod tests;
