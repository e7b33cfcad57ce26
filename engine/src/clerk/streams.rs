//! What is published here, and who is let in.
//!
//! Not inside: the ring's policy (the typed layer) and the sending (the shards). The user's predicate is asked here,
//! and only here, without any lock held.

use std::{
    collections::BTreeMap,
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use corewire_proto::{
    PeerId, StreamId,
    channel::{Label, OpenRequest, Reliability},
    session::CloseCode,
    wire::header::ReceiverIndex,
};

use super::{
    Clerk,
    notice::{ask, drop_contained},
    state::{ChannelOwner, OutboundChannel, OutboundEnd, PublicationState},
    timers::Timer,
};
use crate::{
    peer::PeerInfo,
    shard::{Command, NodeId},
    shared::{
        Channel, ChannelShared, Channels,
        counters::count,
        limits::VERDICT_MIN,
        publication::{PublicationShared, Verdict},
    },
};

/// Whether a producer can do what was asked for. It can't choose among datums, and a consumer that wants some must
/// not take all for its choice. `NOT_ALLOWED`, because asking again does not help. The wish for a weight is no more
/// than a wish: the publication's own is used.
fn honoured(request: &OpenRequest) -> Result<(), CloseCode> {
    if request.criteria.is_empty() { Ok(()) } else { Err(CloseCode::NOT_ALLOWED) }
}

impl Clerk {
    pub(super) fn publish(&mut self, publication: Arc<PublicationShared>) {
        let (node, key, stream) = (publication.node, publication.key, publication.spec.stream);
        let Some(member) = self.members.get_mut(&node).filter(|member| member.leaving.is_none()) else {
            publication.ring.close();
            if let Some(member) = self.members.get(&node) {
                member.shared.live_publications.fetch_sub(1, Ordering::AcqRel);
            }
            return drop_contained(publication);
        };
        let publishing = PublicationState {
            shared: publication,
            servings: BTreeMap::new(),
            draining: BTreeSet::new(),
            closed: false,
            broken: false,
            watch: None,
        };
        member.publications.insert(key, publishing);
        member.streams.insert(stream, key);
        member.record_stale = true;
        self.local_stream_appeared(node, stream);
    }

    /// No handle is left, or one of them has closed the stream: nobody is let in any more, and what is in the ring
    /// is delivered to those who are.
    pub(super) fn unpublish(&mut self, publication: &PublicationShared) {
        let (node, key) = (publication.node, publication.key);
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(publishing) = member.publications.get_mut(&key) else { return };
        publishing.closed = true;
        if member.streams.get(&publication.spec.stream) == Some(&key) {
            member.streams.remove(&publication.spec.stream);
            member.record_stale = true;
        }
        self.timers.cancel(Timer::Lagging(node, key));
        self.end_local_servings(node, key, CloseCode::GRACEFUL);
        self.show_publication(node, key);
        self.forget_publication(node, key);
    }

    /// Forgets a closed publication that nobody reads any more.
    pub(super) fn forget_publication(&mut self, node: NodeId, key: u64) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let done = member.publications.get(&key).is_some_and(|publishing| {
            publishing.closed && publishing.servings.is_empty() && publishing.draining.is_empty()
        });
        if done && let Some(publishing) = member.publications.remove(&key) {
            member.shared.live_publications.fetch_sub(1, Ordering::AcqRel);
            if let Some(leaving) = &mut member.leaving {
                leaving.lossy |= publishing.broken;
            }
            self.timers.cancel(Timer::Lagging(node, key));
            drop_contained(publishing);
        }
        self.look_at_leaving(node);
    }

    /// Whether this consumer may have a channel of the publication now; `Err` says why not, and is counted.
    pub(super) fn admit(
        &mut self,
        node: NodeId,
        key: u64,
        consumer: &PeerInfo,
    ) -> Result<Verdict, CloseCode> {
        let Some(member) = self.members.get(&node) else { return Err(CloseCode::STREAM_NOT_FOUND) };
        let Some(publishing) = member.publications.get(&key).filter(|publishing| !publishing.closed) else {
            count(&member.shared.counters.stream_not_found);
            return Err(CloseCode::STREAM_NOT_FOUND);
        };
        let publication = publishing.shared.clone();
        let counters = &publication.counters;
        if publishing.servings.len() >= publication.spec.max_consumers {
            count(&counters.no_capacity);
            count(&member.shared.counters.no_capacity);
            return Err(CloseCode::NO_CAPACITY);
        }
        let verdict = ask(publication.spec.admit.as_ref(), consumer, &counters.panics);
        if verdict == Verdict::Deny {
            count(&counters.not_allowed);
            count(&member.shared.counters.not_allowed);
            return Err(CloseCode::NOT_ALLOWED);
        }
        Ok(verdict)
    }

    /// The publication of a stream that is open, if there is one.
    pub(super) fn published(&self, node: NodeId, stream: &StreamId) -> Option<u64> {
        self.members.get(&node)?.streams.get(stream).copied()
    }

    /// A peer in another engine wants a channel.
    pub(super) fn channel_requested(&mut self, index: ReceiverIndex, label: Label, request: &OpenRequest) {
        let code = match self.try_serve(index, label, request) {
            Ok(()) => return,
            Err(code) => code,
        };
        self.shards.send(index.shard(), Command::RejectChannel { index, label, code });
    }

    fn try_serve(
        &mut self,
        index: ReceiverIndex,
        label: Label,
        request: &OpenRequest,
    ) -> Result<(), CloseCode> {
        let session = self.sessions.get(&index).ok_or(CloseCode::PEER_LOST)?;
        let (node, peer) = (session.node, session.peer);
        let member = self.members.get(&node).ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let counters = &member.shared.counters;
        if !self.shards.has_room(index.shard()) {
            count(&counters.no_capacity);
            return Err(CloseCode::NO_CAPACITY);
        }
        let Some(key) = self.published(node, &request.stream_id) else {
            count(&counters.stream_not_found);
            return Err(CloseCode::STREAM_NOT_FOUND);
        };
        if let Err(code) = honoured(request) {
            count(&counters.not_allowed);
            return Err(code);
        }
        let info = member.peers.get(&peer).map(|state| state.info.clone()).ok_or(CloseCode::PEER_LOST)?;
        let own = member.shared.peer_id;
        let verdict = self.admit(node, key, &info)?;
        let handle = Arc::new(ChannelShared::new(request.stream_id, own, peer));
        let channel = Arc::new(Channel { shared: handle.clone(), peer: info, source: None });
        let publishing = self
            .members
            .get_mut(&node)
            .and_then(|member| member.publications.get_mut(&key))
            .ok_or(CloseCode::STREAM_NOT_FOUND)?;
        let spec = &publishing.shared.spec;
        let reliability = match (spec.reliability, request.reliability) {
            (Reliability::Reliable, Reliability::Reliable) => Reliability::Reliable,
            _ => Reliability::FireAndForget,
        };
        let (ring, weight) = (publishing.shared.ring.clone(), spec.weight);
        let end = OutboundEnd::Remote((index, label));
        let number =
            self.add_serving(node, key, OutboundChannel { end, peer, channel, until: None }, verdict);
        self.channels.insert((index, label), ChannelOwner::Outbound(node, key, number));
        if let Some(session) = self.sessions.get_mut(&index) {
            session.channels += 1;
        }
        let command = Command::AcceptChannel { index, label, ring, weight, reliability, handle };
        self.shards.send(index.shard(), command);
        self.show_publication(node, key);
        Ok(())
    }

    /// Enters a consumer that was let in. Its number is never used again.
    pub(super) fn add_serving(
        &mut self,
        node: NodeId,
        key: u64,
        mut serving: OutboundChannel,
        verdict: Verdict,
    ) -> u64 {
        let number = self.port.next_key();
        if let Verdict::AllowFor(time) = verdict {
            let until = self.now + time.max(VERDICT_MIN);
            serving.until = Some(until);
            self.timers.set(Timer::Admitted(node, key, number), until);
        }
        if let Some(publishing) = self.members.get_mut(&node).and_then(|m| m.publications.get_mut(&key)) {
            count(&publishing.shared.counters.admitted);
            publishing.servings.insert(number, serving);
        }
        number
    }

    /// A channel has its place in the ring.
    pub(super) fn channel_served(&mut self, index: ReceiverIndex, label: Label) {
        let Some(&ChannelOwner::Outbound(node, key, _)) = self.channels.get(&(index, label)) else { return };
        if let Some(member) = self.members.get(&node) {
            count(&member.shared.counters.channels_served);
        }
        self.show_publication(node, key);
    }

    /// A channel is over, at either end.
    pub(super) fn channel_closed(&mut self, index: ReceiverIndex, label: Label, code: CloseCode) {
        let Some(owner) = self.channels.remove(&(index, label)) else { return };
        match owner {
            ChannelOwner::Inbound(node, subscription, peer) => self.leg_ended(node, subscription, peer, code),
            ChannelOwner::Outbound(node, publication, serving) => {
                self.serving_ended(node, publication, serving, code)
            }
        }
        self.channel_gone(index);
    }

    /// A consumer of a publication is gone. Its channel's name is already forgotten.
    pub(super) fn serving_ended(&mut self, node: NodeId, key: u64, number: u64, code: CloseCode) {
        self.timers.cancel(Timer::Admitted(node, key, number));
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(publishing) = member.publications.get_mut(&key) else { return };
        let Some(serving) = publishing.servings.remove(&number) else { return };
        serving.channel.shared.terminate(code);
        // After the close, only an end in good order says that everything was delivered.
        publishing.broken |= publishing.closed && code != CloseCode::GRACEFUL;
        self.show_publication(node, key);
        self.forget_publication(node, key);
    }

    /// Asks again whether a consumer may stay.
    pub(super) fn review_serving(&mut self, node: NodeId, key: u64, number: u64) {
        let Some(member) = self.members.get(&node) else { return };
        let Some(publishing) = member.publications.get(&key) else { return };
        let Some(serving) = publishing.servings.get(&number) else { return };
        let publication = publishing.shared.clone();
        if publication.spec.admit.is_none() {
            return;
        }
        let info = match serving.end {
            OutboundEnd::Local(leg) => self.legs.get(&leg).and_then(|leg| self.local_info(leg.consumer.0)),
            OutboundEnd::Remote(_) => member.peers.get(&serving.peer).map(|state| state.info.clone()),
        };
        let Some(info) = info else { return };
        let verdict = ask(publication.spec.admit.as_ref(), &info, &publication.counters.panics);
        let timer = Timer::Admitted(node, key, number);
        match verdict {
            Verdict::Allow => self.timers.cancel(timer),
            Verdict::AllowFor(time) => self.timers.set(timer, self.now + time.max(VERDICT_MIN)),
            Verdict::Deny => {
                count(&publication.counters.not_allowed);
                if let Some(member) = self.members.get(&node) {
                    count(&member.shared.counters.not_allowed);
                }
                self.cut_serving(node, key, number, CloseCode::NOT_ALLOWED);
            }
        }
        drop_contained(publication);
    }

    /// Ends a consumer's channel from this side.
    pub(super) fn cut_serving(&mut self, node: NodeId, key: u64, number: u64, code: CloseCode) {
        let Some(serving) =
            self.members.get(&node).and_then(|m| m.publications.get(&key)?.servings.get(&number))
        else {
            return;
        };
        match serving.end {
            OutboundEnd::Remote((index, label)) => {
                let tail = self.ring(node, key).map_or(0, |ring| ring.tail());
                serving.channel.shared.end_at(tail);
                self.channels.remove(&(index, label));
                self.shards.send(index.shard(), Command::ResetChannel { index, label, code });
                self.serving_ended(node, key, number, code);
                self.channel_gone(index);
            }
            OutboundEnd::Local(leg) => self.cut_local_leg(leg, code),
        }
    }

    /// Lets the handles of a publication see its channels as they are.
    pub(super) fn show_publication(&mut self, node: NodeId, key: u64) {
        let Some(publishing) = self.members.get(&node).and_then(|member| member.publications.get(&key))
        else {
            return;
        };
        let channels: Channels =
            publishing.servings.values().map(|serving| serving.channel.clone()).collect();
        publishing.shared.channels.send_replace(channels);
        self.notices.add(publishing.shared.spec.on_change.as_ref());
    }

    /// The consumers of a publication.
    pub(super) fn consumers(&self, node: NodeId, key: u64) -> Vec<(u64, OutboundEnd)> {
        let publishing = self.members.get(&node).and_then(|member| member.publications.get(&key));
        publishing.map_or_else(Vec::new, |publishing| {
            publishing.servings.iter().map(|(number, serving)| (*number, serving.end)).collect()
        })
    }

    /// The peer in whose name a local consumer is served.
    pub(super) fn own_id(&self, node: NodeId) -> Option<PeerId> {
        self.members.get(&node).map(|member| member.shared.peer_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_criteria_is_refused_for_good() {
        let mut request = OpenRequest {
            stream_id: StreamId([1; 32]),
            reliability: Reliability::Reliable,
            window_bytes: 1_024,
            window_datums: 16,
            max_datum_bytes: 64,
            weight: 9,
            criteria: Vec::new(),
            tickets: Vec::new(),
        };
        assert_eq!(honoured(&request), Ok(()));
        request.criteria = vec![1];
        let code = honoured(&request).expect_err("criteria that nobody looks at");
        assert_eq!(code, CloseCode::NOT_ALLOWED);
        assert!(!code.is_retriable());
    }
}
