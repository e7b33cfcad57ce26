//! The places of consumers whose session broke.
//!
//! A place is a reader of the ring where the consumer's last channel stopped. It is kept for a while, so that
//! the consumer's next channel goes on there; until then it holds the ring as a present consumer does. A
//! consumer has one place or one channel, never both: a request for a channel waits until its last one has
//! ended.
//!
//! What a consumer missed between two channels is counted when it comes back, exactly as it is told to it:
//! the distance from where it stopped to where its new channel begins.

use std::{sync::Arc, time::Duration};

use corewire_proto::{
    PeerId,
    channel::{Label, OpenRequest, TypeName},
    mutate,
    ordered::OrderedMap,
    session::CloseCode,
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::Reader;

use super::{ChannelRequest, OutboundEnd, PublicationState, Publications};
use crate::{
    clerk::{effect::Effect, env::Env, timers::Timer},
    shard::{Command, NodeId, ResumePoint},
    shared::{
        Channel,
        counters::add,
        keys::{OutboundKey, PublicationKey},
        limits::{PLACES_MAX, STARTS_MAX},
    },
};

/// Names a consumer of another engine across its channels: a subscription of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConsumerKey {
    pub(super) peer: PeerId,
    pub(super) subscription: [u8; 8],
}

/// Where an absent consumer stopped.
pub(super) struct Place {
    pub(super) reader: Reader,
    until: Instant,
    /// The channel that ended there.
    pub(super) channel: Arc<Channel>,
}

/// A request for a channel that waits for the end of its consumer's last one.
pub(crate) struct WaitingOpen {
    pub(crate) index: ReceiverIndex,
    pub(crate) label: Label,
    pub(crate) request: OpenRequest,
}

/// Where a consumer's last channel began.
#[derive(Clone, Copy, Default)]
pub(super) struct ChannelStart {
    first_seq: u64,
    /// What the consumer missed between all its channels so far.
    missed: u64,
}

/// The absent consumers of a publication, and the requests that wait.
#[derive(Default)]
pub(super) struct Places {
    /// At most [`PLACES_MAX`].
    places: OrderedMap<ConsumerKey, Place>,
    /// At most one for each channel that is being ended.
    waiting: OrderedMap<ConsumerKey, WaitingOpen>,
}

impl Places {
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConsumerKey, &Place)> {
        self.places.iter().map(|(key, place)| (*key, place))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn next_end(&self) -> Option<(Instant, ConsumerKey)> {
        self.places.iter().map(|(key, place)| (place.until, *key)).min()
    }
}

impl PublicationState {
    /// Lets a request wait if its consumer's last channel has not ended here. That channel is ended.
    pub(super) fn wait_for_last(&mut self, env: &mut Env, asked: &ChannelRequest<'_>) -> bool {
        let consumer = asked.consumer();
        let last = mutate!(self.remote.get(&consumer), "last-channel-left-open" => None);
        let Some(key) = last else { return false };
        let outbound = self.channels.get(key).expect("a remote channel is in both tables");
        let OutboundEnd::Remote(index, label) = outbound.end else {
            unreachable!("only remote channels are in that table")
        };
        let request = asked.request.clone();
        let open = WaitingOpen { index: asked.index, label: asked.label, request };
        match self.places.waiting.insert(consumer, open) {
            // The end of the last channel was asked for with the first of them.
            Some(WaitingOpen { index, label, .. }) => {
                let code = CloseCode::SUPERSEDED;
                let type_name = TypeName::default();
                env.effects.send(index.shard(), Command::RejectChannel { index, label, code, type_name });
            }
            // Its owner stays, because the end comes with the place.
            None => {
                let code = CloseCode::SUPERSEDED;
                env.effects.send(index.shard(), Command::ResetChannel { index, label, code });
            }
        }
        true
    }

    /// Answers the request that has waited for the end of this consumer's last channel.
    pub(super) fn answer_waiting(&mut self, env: &mut Env, consumer: ConsumerKey) {
        if let Some(open) = self.places.waiting.remove(&consumer) {
            env.effects.push(Effect::AnswerOpen(Box::new(open)));
        }
    }

    /// Where the channel that is asked for goes on, if its consumer's place is kept, and the channel that
    /// stopped there.
    pub(super) fn take_place(
        &mut self,
        env: &mut Env,
        asked: &ChannelRequest<'_>,
    ) -> Option<(ResumePoint, Arc<Channel>)> {
        let place = self.places.places.remove(&asked.consumer())?;
        match self.resumes_at(asked.request) {
            Some(next_seq) => {
                add(&self.shared.counters.resumed, 1);
                Some((ResumePoint { next_seq, parked: place.reader }, place.channel))
            }
            // It does not know any more where it stopped.
            None => {
                self.lose(env, &place);
                None
            }
        }
    }

    /// The first sequence of this publication that the consumer has not seen, as it says.
    pub(super) fn resumes_at(&self, request: &OpenRequest) -> Option<u64> {
        request.resume.filter(|resume| resume.publication == self.id).map(|resume| resume.next_seq)
    }

    /// Counts what the consumer of a channel that begins at `first_seq` missed before it.
    pub(super) fn note_start(&mut self, key: OutboundKey, first_seq: u64) {
        let Some(outbound) = self.channels.get(&key) else { return };
        let Some(consumer) = outbound.consumer() else { return };
        self.hold(first_seq);
        let Some(outbound) = self.channels.get(&key) else { return };
        let last = self.starts.get(&consumer).copied();
        // If the last answer did not arrive, the consumer is told again what it was told in that.
        let untold = outbound.resumes_at.map(|next| next.max(last.map_or(0, |last| last.first_seq)));
        let missed = untold.map_or(0, |untold| first_seq.saturating_sub(untold));
        let missed = mutate!(missed, "return-uncounted" => 0);
        add(&self.shared.counters.missed_while_away, missed);
        let missed = last.map_or(0, |last| last.missed) + missed;
        outbound.channel.shared.set_missed_before(missed);
        if last.is_none() && self.starts.len() >= STARTS_MAX {
            // One that has neither a channel nor a place, if there is one.
            let is_away = |consumer: &&ConsumerKey| {
                !self.remote.contains_key(consumer) && !self.places.places.contains_key(consumer)
            };
            let gone = self.starts.keys().find(is_away).or(self.starts.keys().next()).copied();
            gone.and_then(|consumer| self.starts.remove(&consumer));
        }
        self.starts.insert(consumer, ChannelStart { first_seq, missed });
    }

    /// Keeps the place of a consumer whose channel has ended.
    pub(super) fn keep_place(
        &mut self,
        env: &mut Env,
        consumer: ConsumerKey,
        (channel, code): (&Arc<Channel>, CloseCode),
        reader: Reader,
    ) {
        let kept_for = self.shared.spec.resume_for;
        // The consumer may notice the break later than the producer, by the time after which it takes a
        // silent peer for dead: a stopped process counts from when it goes on. Its setting is taken to be
        // ours. A process whose port is closed is not stopped; that it comes back is not excluded, since a
        // firewall may have closed the port.
        let later = if code == CloseCode::PEER_GONE { Duration::ZERO } else { self.node.dead_after };
        let place = Place { reader, until: env.now + later + kept_for, channel: channel.clone() };
        if kept_for.is_zero() {
            return self.lose(env, &place);
        }
        if self.places.places.len() >= PLACES_MAX
            && let Some((_, first)) = self.places.next_end()
        {
            self.give_up_place(env, first);
        }
        if let Some(before) = self.places.places.insert(consumer, place) {
            self.lose(env, &before);
        }
        self.set_place_timer(env);
    }

    fn set_place_timer(&self, env: &mut Env) {
        let next = self.places.next_end().map(|(until, _)| until);
        env.effects.set_or_cancel(Timer::Places(self.shared.key), next);
    }

    /// Gives up the place of a consumer. What lies between it and the tail will not be delivered.
    pub(super) fn give_up_place(&mut self, env: &mut Env, consumer: ConsumerKey) {
        if let Some(place) = self.places.places.remove(&consumer) {
            self.lose(env, &place);
        }
    }

    /// Gives up every place, because no consumer can come back any more.
    pub(super) fn give_up_places(&mut self, env: &mut Env) {
        for place in std::mem::take(&mut self.places.places).into_values() {
            self.lose(env, &place);
        }
    }

    /// Counts and reports what an absent consumer will not get.
    fn lose(&mut self, env: &mut Env, place: &Place) {
        let (tail, position) = (self.shared.ring.tail(), place.reader.position());
        place.channel.shared.end_at(tail);
        let lost = mutate!(tail.saturating_sub(position), "place-uncounted" => 0);
        add(&self.shared.counters.skipped_at_close, lost);
        self.lost(env, &place.channel, position, true);
        self.unhold(tail);
    }

    /// Counts and reports what the consumer of a channel will not get that has ended and whose place is not
    /// kept.
    pub(super) fn lose_rest(&mut self, env: &mut Env, channel: &Arc<Channel>, code: CloseCode) {
        let shared = &channel.shared;
        // One that was never connected has no place, and would have begun at the tail.
        let position = if shared.was_connected() { shared.snapshot().released } else { u64::MAX };
        let by_consumer = code == CloseCode::GRACEFUL;
        // Of a direct one, what its only consumer leaves behind is lost too.
        let counts = !by_consumer || self.shared.spec.direct.is_some();
        let tail = self.shared.ring.tail();
        if counts && position != u64::MAX {
            shared.end_at(tail);
            add(&self.shared.counters.skipped_at_close, tail.saturating_sub(position));
        }
        self.lost(env, channel, position, !by_consumer);
        if position != u64::MAX {
            self.unhold(tail);
        }
    }
}

impl Publications {
    /// Some consumer has been absent for too long.
    pub(crate) fn places_due(&mut self, env: &mut Env, key: PublicationKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        while let Some((until, consumer)) = publication.places.next_end()
            && mutate!(until <= env.now, "place-kept-for-ever" => false)
        {
            publication.give_up_place(env, consumer);
        }
        publication.set_place_timer(env);
        self.forget_if_done(env, key);
    }

    /// The closed publication that keeps the place which a request goes on from, or whose channel to its
    /// consumer is about to end.
    pub(super) fn place_of(&self, asked: &ChannelRequest<'_>) -> Option<PublicationKey> {
        let (resume, consumer) = (asked.request.resume?, asked.consumer());
        let open = self.open_stream(asked.node.id, &asked.request.stream_id);
        if open.and_then(|key| self.publications.get(&key)).is_some_and(|open| open.id == resume.publication)
        {
            return None;
        }
        let keeps = |publication: &PublicationState| {
            publication.closed
                && publication.id == resume.publication
                && (publication.places.places.contains_key(&consumer)
                    || publication.remote.contains_key(&consumer))
        };
        self.of_node(asked.node.id).find(|(_, publication)| keeps(publication)).map(|(key, _)| *key)
    }

    /// Whether a place is kept for a consumer of this peer.
    pub(crate) fn keep_place_of(&self, node: NodeId, peer: PeerId) -> bool {
        self.of_node(node).any(|(_, publication)| publication.places.iter().any(|(key, _)| key.peer == peer))
    }
}

impl ChannelRequest<'_> {
    pub(super) fn consumer(&self) -> ConsumerKey {
        ConsumerKey { peer: self.peer, subscription: self.request.subscription }
    }
}
