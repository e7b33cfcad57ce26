//! From whom a stream is consumed, and when that is tried again.
//!
//! Not inside: sessions and handshakes; a pursuit says that it wants a session, and goes on when there is one.
//!
//! ```text
//! Fresh -> WantsSession -> Fresh -> Opening -> Open -> Waits -> Fresh ...
//!       -> Local (the producer lives in this engine)
//!       -> Refused (until an entry changes)        Waits -> GivenUp (likewise)
//! ```
//!
//! A pursuit ends when the producer no longer says that it produces the stream and nothing is connected.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use corewire_proto::{
    PeerId,
    channel::{Label, OpenRequest},
    session::CloseCode,
    wire::header::ReceiverIndex,
};

use super::{
    Clerk,
    notice::{ask, drop_contained},
    state::{ChannelOwner, InboundChannel, Stage, SubscriptionState},
    timers::Timer,
};
use crate::{
    peer::PeerInfo,
    shard::{Command, Inbox, NodeId},
    shared::{
        Channel, ChannelShared, Channels,
        counters::count,
        limits::VERDICT_MIN,
        publication::Verdict,
        subscription::{Backoff, Leg, SubscriptionShared},
    },
};

/// The least pause before a producer is tried again.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

impl Backoff {
    /// The pause after `failures` failed attempts (at least one); `chance` is from 0 to 1. Never panics, whatever the
    /// fields hold.
    pub(crate) fn pause(&self, failures: u32, chance: f64) -> Duration {
        let growth = if self.multiplier.is_finite() { self.multiplier.max(1.0) } else { 1.0 };
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * growth.powi(exponent);
        // Nothing times infinity is nothing here.
        let grown = if grown.is_nan() { 0.0 } else { grown };
        let capped = grown.min(self.max.as_secs_f64());
        let changed = capped * (1.0 + jitter * (chance * 2.0 - 1.0));
        Duration::try_from_secs_f64(changed).unwrap_or(self.max).max(LEAST_PAUSE)
    }
}

impl Clerk {
    pub(super) fn subscribe(&mut self, subscription: Arc<SubscriptionShared>) {
        let (node, key, stream) = (subscription.node, subscription.key, subscription.spec.stream);
        let Some(member) = self.members.get_mut(&node).filter(|member| member.leaving.is_none()) else {
            subscription.close();
            if let Some(member) = self.members.get(&node) {
                member.shared.live_subscriptions.fetch_sub(1, Ordering::AcqRel);
            }
            self.notices.add(subscription.spec.on_change.as_ref());
            return drop_contained(subscription);
        };
        member
            .subscriptions
            .insert(key, SubscriptionState { shared: subscription, pursuits: BTreeMap::new() });
        let producers = member.catalog.matching(|record| record.streams.binary_search(&stream).is_ok());
        for record in producers {
            self.fresh.insert((node, key, record.record().peer_id));
        }
        for producer in self.local_producers(node, &stream) {
            self.fresh.insert((node, key, producer));
        }
    }

    /// The handle of a subscription is gone.
    pub(super) fn unsubscribe(&mut self, subscription: &SubscriptionShared) {
        self.end_subscription(subscription.node, subscription.key);
    }

    /// Ends every leg of a subscription and forgets it.
    pub(super) fn end_subscription(&mut self, node: NodeId, key: u64) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(subscription) = member.subscriptions.get_mut(&key) else { return };
        subscription.shared.close();
        let peers: Vec<PeerId> = subscription.pursuits.keys().copied().collect();
        for peer in &peers {
            self.drop_pursuit(node, key, *peer, CloseCode::GRACEFUL);
        }
        self.show_subscription(node, key);
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(subscription) = member.subscriptions.remove(&key) else { return };
        member.shared.live_subscriptions.fetch_sub(1, Ordering::AcqRel);
        drop_contained(subscription);
        for peer in peers {
            self.forget_if_idle(node, peer);
        }
    }

    /// Ends one pursuit, whatever its stage, and forgets it.
    fn drop_pursuit(&mut self, node: NodeId, key: u64, peer: PeerId, code: CloseCode) {
        self.cut_leg(node, key, peer, code);
        self.fresh.remove(&(node, key, peer));
        self.timers.cancel(Timer::RetryProducer(node, key, peer));
        self.timers.cancel(Timer::Accepted(node, key, peer));
        let subscription = self.members.get_mut(&node).and_then(|member| member.subscriptions.get_mut(&key));
        if let Some(subscription) = subscription {
            subscription.pursuits.remove(&peer);
        }
    }

    fn pursuit_mut(&mut self, node: NodeId, key: u64, peer: PeerId) -> Option<&mut InboundChannel> {
        self.members.get_mut(&node)?.subscriptions.get_mut(&key)?.pursuits.get_mut(&peer)
    }

    /// The entry of a producer, wherever it lives, and its node if that is this engine.
    fn producer(&self, node: NodeId, peer: PeerId) -> Option<(PeerInfo, Option<NodeId>)> {
        if let Some(local) = self.local_node(node, peer) {
            return Some((self.local_info(local)?, Some(local)));
        }
        Some((self.members.get(&node)?.peers.get(&peer)?.info.clone(), None))
    }

    /// Takes a pursuit one step further.
    pub(super) fn pursue(&mut self, node: NodeId, key: u64, peer: PeerId) {
        let legs = self.limits.legs;
        let now = self.now;
        let Some((info, local)) = self.producer(node, peer) else {
            return self.lose_interest(node, key, peer);
        };
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(subscription) = member.subscriptions.get_mut(&key) else { return };
        let stream = subscription.shared.spec.stream;
        let produces = info.produces(&stream);
        if !subscription.pursuits.contains_key(&peer) {
            if !produces {
                return;
            }
            if subscription.pursuits.len() >= legs {
                return count(&member.shared.counters.no_capacity);
            }
        }
        let pursuit = subscription.pursuits.entry(peer).or_insert_with(|| InboundChannel {
            stage: Stage::Fresh,
            channel: None,
            failures: 0,
            since: now,
            until: None,
        });
        if !pursuit.stage.is_at_rest() {
            return;
        }
        if !produces {
            return self.lose_interest(node, key, peer);
        }
        pursuit.stage = Stage::Fresh;
        match local {
            Some(producer) => self.connect_local(node, key, peer, producer, &info),
            None => self.connect_remote(node, key, peer, &info),
        }
    }

    /// The producer does not produce the stream any more, or is gone.
    fn lose_interest(&mut self, node: NodeId, key: u64, peer: PeerId) {
        let at_rest = self.pursuit_mut(node, key, peer).is_some_and(|pursuit| pursuit.stage.is_at_rest());
        if at_rest {
            self.drop_pursuit(node, key, peer, CloseCode::GRACEFUL);
            self.show_subscription(node, key);
            self.forget_if_idle(node, peer);
        }
    }

    /// What the subscription's predicate says about a producer.
    pub(super) fn accept(&mut self, node: NodeId, key: u64, info: &PeerInfo) -> Verdict {
        let Some(member) = self.members.get(&node) else { return Verdict::Deny };
        let Some(subscription) = member.subscriptions.get(&key) else { return Verdict::Deny };
        let shared = subscription.shared.clone();
        let verdict = ask(shared.spec.accept.as_ref(), info, &shared.panics);
        if verdict == Verdict::Deny {
            count(&member.shared.counters.not_allowed);
        }
        verdict
    }

    /// Notes for how long a producer is accepted.
    pub(super) fn note_accepted(&mut self, node: NodeId, key: u64, peer: PeerId, verdict: Verdict) {
        let until = match verdict {
            Verdict::AllowFor(time) => Some(self.now + time.max(VERDICT_MIN)),
            _ => None,
        };
        self.timers.set_option(Timer::Accepted(node, key, peer), until);
        if let Some(pursuit) = self.pursuit_mut(node, key, peer) {
            pursuit.until = until;
        }
    }

    /// Asks a producer in another engine for a channel, or for a session first.
    fn connect_remote(&mut self, node: NodeId, key: u64, peer: PeerId, info: &PeerInfo) {
        let Some(member) = self.members.get(&node) else { return };
        let Some(index) = member.current(&peer) else {
            if let Some(pursuit) = self.pursuit_mut(node, key, peer) {
                pursuit.stage = Stage::WantsSession;
            }
            return self.dial_if_wanted(node, peer);
        };
        // Only now: the producer's tickets are shown inside the session.
        let verdict = self.accept(node, key, info);
        if verdict == Verdict::Deny {
            return self.refuse_producer(node, key, peer, CloseCode::NOT_ALLOWED);
        }
        if !self.shards.has_room(index.shard()) {
            return self.leg_ended(node, key, peer, CloseCode::NO_CAPACITY);
        }
        self.note_accepted(node, key, peer, verdict);
        self.tell_about_us(index);
        let open_id = self.next_open;
        self.next_open += 1;
        let Some(member) = self.members.get_mut(&node) else { return };
        let own = member.shared.peer_id;
        count(&member.shared.counters.channels_opened);
        let Some(subscription) = member.subscriptions.get_mut(&key) else { return };
        let spec = &subscription.shared.spec;
        let request = OpenRequest {
            stream_id: spec.stream,
            reliability: spec.reliability,
            window_bytes: spec.window_bytes,
            window_datums: spec.window_datums,
            max_datum_bytes: spec.max_datum,
            // Neither is honoured by a producer yet, so neither can be asked for.
            weight: 1,
            criteria: Vec::new(),
            // Tickets are shown once per session, not once per channel.
            tickets: Vec::new(),
        };
        let handle = Arc::new(ChannelShared::new(spec.stream, peer, own));
        let channel = Arc::new(Channel { shared: handle.clone(), peer: info.clone(), source: None });
        if let Some(pursuit) = subscription.pursuits.get_mut(&peer) {
            pursuit.stage = Stage::Opening(index, open_id);
            pursuit.channel = Some(channel);
        }
        self.opens.insert(open_id, (index, ChannelOwner::Inbound(node, key, peer)));
        if let Some(session) = self.sessions.get_mut(&index) {
            session.channels += 1;
        }
        let request = Box::new(request);
        self.shards.send(index.shard(), Command::OpenChannel { index, open_id, request, handle });
        self.show_subscription(node, key);
    }

    /// A producer let us in.
    pub(super) fn channel_accepted(
        &mut self,
        index: ReceiverIndex,
        open_id: u64,
        label: Label,
        inbox: Inbox,
    ) {
        let Some((_, owner)) = self.opens.remove(&open_id) else {
            // Nobody wants it any more: dropping the inbox resets the channel.
            return drop(inbox);
        };
        let ChannelOwner::Inbound(node, key, peer) = owner else { return };
        let now = self.now;
        let stage = Stage::Opening(index, open_id);
        let channel =
            self.pursuit_mut(node, key, peer).filter(|pursuit| pursuit.stage == stage).and_then(|pursuit| {
                pursuit.stage = Stage::Open(index, label);
                pursuit.failures = 0;
                pursuit.since = now;
                pursuit.channel.clone()
            });
        let Some(channel) = channel else {
            drop(inbox);
            return self.channel_gone(index);
        };
        self.channels.insert((index, label), owner);
        self.hand_over(node, key, Leg::new(inbox, channel, None));
    }

    /// Gives the consumer a leg and says so.
    pub(super) fn hand_over(&mut self, node: NodeId, key: u64, leg: Leg) {
        let Some(member) = self.members.get(&node) else { return };
        count(&member.shared.counters.channels_connected);
        if let Some(subscription) = member.subscriptions.get(&key) {
            subscription.shared.hand_over(leg);
        }
        self.show_subscription(node, key);
    }

    /// A channel that was asked for will not be.
    pub(super) fn channel_rejected(&mut self, open_id: u64, code: CloseCode) {
        let Some((index, owner)) = self.opens.remove(&open_id) else { return };
        if let ChannelOwner::Inbound(node, key, peer) = owner {
            self.leg_ended(node, key, peer, code);
        }
        self.channel_gone(index);
    }

    /// A producer is not to be tried again before something about it, or about us, is different.
    pub(super) fn refuse_producer(&mut self, node: NodeId, key: u64, peer: PeerId, code: CloseCode) {
        self.timers.cancel(Timer::RetryProducer(node, key, peer));
        self.timers.cancel(Timer::Accepted(node, key, peer));
        if let Some(pursuit) = self.pursuit_mut(node, key, peer) {
            pursuit.stage = Stage::Refused(code);
            if let Some(channel) = &pursuit.channel {
                channel.shared.terminate(code);
            }
        }
        self.show_subscription(node, key);
    }

    /// A leg is over, or did not come about. Its channel's name is already forgotten. What comes next depends on the
    /// code: a refusal waits for a change, everything else is tried again after a while.
    pub(super) fn leg_ended(&mut self, node: NodeId, key: u64, peer: PeerId, code: CloseCode) {
        if !code.is_retriable() {
            return self.refuse_producer(node, key, peer, code);
        }
        let chance = self.chance();
        let now = self.now;
        let Some(member) = self.members.get_mut(&node) else { return };
        let Some(subscription) = member.subscriptions.get_mut(&key) else { return };
        let backoff = subscription.shared.spec.backoff;
        let Some(pursuit) = subscription.pursuits.get_mut(&peer) else { return };
        if let Some(channel) = &pursuit.channel {
            channel.shared.terminate(code);
        }
        let was_open = matches!(pursuit.stage, Stage::Open(..) | Stage::Local(_));
        if was_open {
            pursuit.since = now;
        }
        if was_open && matches!(code, CloseCode::KEY_EXHAUSTED | CloseCode::SUPERSEDED | CloseCode::IDLE) {
            // The session's end and not the producer's: the next session may be there already.
            pursuit.stage = Stage::Fresh;
            self.timers.cancel(Timer::Accepted(node, key, peer));
            self.fresh.insert((node, key, peer));
            return self.show_subscription(node, key);
        }
        pursuit.failures = pursuit.failures.saturating_add(1);
        let at = now + backoff.pause(pursuit.failures, chance);
        let too_late = backoff.max_elapsed.is_some_and(|most| at.saturating_since(pursuit.since) > most);
        self.timers.cancel(Timer::Accepted(node, key, peer));
        if too_late {
            pursuit.stage = Stage::GivenUp;
            self.timers.cancel(Timer::RetryProducer(node, key, peer));
        } else {
            pursuit.stage = Stage::Waits;
            self.timers.set(Timer::RetryProducer(node, key, peer), at);
        }
        self.show_subscription(node, key);
    }

    /// The pause of a pursuit is over.
    pub(super) fn pursuit_due(&mut self, node: NodeId, key: u64, peer: PeerId) {
        if let Some(pursuit) = self.pursuit_mut(node, key, peer)
            && pursuit.stage == Stage::Waits
        {
            pursuit.stage = Stage::Fresh;
            self.fresh.insert((node, key, peer));
        }
    }

    /// A peer could not be reached once more: whoever has waited long enough gives up.
    pub(super) fn give_up_pursuits(&mut self, node: NodeId, peer: PeerId) {
        let now = self.now;
        let Some(member) = self.members.get_mut(&node) else { return };
        let mut given_up = Vec::new();
        for (key, subscription) in &mut member.subscriptions {
            let most = subscription.shared.spec.backoff.max_elapsed;
            if let Some(pursuit) = subscription.pursuits.get_mut(&peer)
                && pursuit.stage == Stage::WantsSession
                && most.is_some_and(|most| now.saturating_since(pursuit.since) > most)
            {
                pursuit.stage = Stage::GivenUp;
                given_up.push(*key);
            }
        }
        for key in given_up {
            self.show_subscription(node, key);
        }
    }

    /// Asks the predicate again about a producer that is connected.
    pub(super) fn review_pursuit(&mut self, node: NodeId, key: u64, peer: PeerId) {
        let Some((info, _)) = self.producer(node, peer) else { return };
        let connected = self.pursuit_mut(node, key, peer).is_some_and(|pursuit| !pursuit.stage.is_at_rest());
        if !connected {
            return;
        }
        let verdict = self.accept(node, key, &info);
        if verdict == Verdict::Deny {
            self.cut_leg(node, key, peer, CloseCode::NOT_ALLOWED);
            self.refuse_producer(node, key, peer, CloseCode::NOT_ALLOWED);
        } else {
            self.note_accepted(node, key, peer, verdict);
        }
    }

    /// Ends what is connected or asked for. What is in the inbox stays readable. The stage is left to the caller.
    fn cut_leg(&mut self, node: NodeId, key: u64, peer: PeerId, code: CloseCode) {
        let Some(pursuit) = self.pursuit_mut(node, key, peer) else { return };
        let stage = pursuit.stage;
        if let Some(channel) = &pursuit.channel {
            channel.shared.terminate(code);
        }
        match stage {
            // The answer finds nobody, and the channel is reset then.
            Stage::Opening(index, open_id) if self.opens.remove(&open_id).is_some() => {
                self.channel_gone(index)
            }
            Stage::Open(index, label) if self.channels.remove(&(index, label)).is_some() => {
                self.shards.send(index.shard(), Command::ResetChannel { index, label, code });
                self.channel_gone(index);
            }
            Stage::Local(leg) => self.consumer_left_local(leg, code),
            _ => {}
        }
    }

    /// Lets the handle of a subscription see its channels as they are.
    pub(super) fn show_subscription(&mut self, node: NodeId, key: u64) {
        let subscription = self.members.get(&node).and_then(|member| member.subscriptions.get(&key));
        let Some(subscription) = subscription else { return };
        let pursuits = subscription.pursuits.values();
        let channels: Channels = pursuits.filter_map(|pursuit| pursuit.channel.clone()).collect();
        subscription.shared.channels.send_replace(channels);
        self.notices.add(subscription.shared.spec.on_change.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_its_bound_whatever_chance_says() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        assert_eq!(backoff.pause(1, 0.3), Duration::from_millis(500));
        assert_eq!(backoff.pause(2, 0.3), Duration::from_millis(750));
        assert_eq!(backoff.pause(u32::MAX, 0.3), Duration::from_secs(60));
        let jittered = Backoff::default();
        assert_eq!(jittered.pause(1, 0.0), Duration::from_millis(250));
        assert_eq!(jittered.pause(1, 1.0), Duration::from_millis(750));
    }

    #[test]
    fn a_senseless_backoff_still_gives_a_pause() {
        for multiplier in [f64::NAN, f64::INFINITY, -3.0, 0.0, 1e300] {
            for jitter in [f64::NAN, -1.0, 7.0] {
                let backoff = Backoff {
                    initial: Duration::MAX,
                    multiplier,
                    jitter,
                    max: Duration::MAX,
                    max_elapsed: None,
                };
                assert!(backoff.pause(9, 0.5) >= LEAST_PAUSE);
                let zero = Backoff { initial: Duration::ZERO, multiplier, jitter, ..backoff };
                assert_eq!(zero.pause(9, 0.5), LEAST_PAUSE);
            }
        }
    }
}
