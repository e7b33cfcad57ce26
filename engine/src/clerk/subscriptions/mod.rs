//! The producers that each subscription wants, and when they are tried again.
//!
//! Not inside:
//! - sessions and handshakes: an inbound channel that needs a session waits until there is one;
//! - the stages of an inbound channel and what leads from one to the next (`stage`).

mod backoff;
mod changes;
mod inbound;
mod local;
mod prefer;
mod stage;
mod stops;

use std::{sync::Arc, time::Duration};

use corewire_proto::{
    PeerId, StreamId,
    channel::{Label, OpenRequest, Resume},
    mutate,
    ordered::{OrderedMap, OrderedSet},
    session::CloseCode,
    wire::header::ReceiverIndex,
};

use self::{
    inbound::InboundChannel,
    prefer::Choice,
    stage::{InboundStage, StageEvent},
    stops::{StoppedChannel, Stops},
};
use super::{
    effect::{ChannelOpen, Effect, LegEnd},
    env::Env,
    notice::{ChannelsOf, ask, drop_contained},
    timers::Timer,
};
use crate::{
    peer::PeerInfo,
    shard::{Inbox, NodeId},
    shared::{
        Channel, ChannelShared, Channels,
        counters::count,
        event::ChannelEvent,
        keys::{InboundKey, OpenId, SubscriptionKey},
        limits::{KEPT_UP, VERDICT_MIN, WAITING_LEGS_EACH},
        node::NodeShared,
        publication::Verdict,
        subscription::{Leg, SubscribeSpec, SubscriptionShared},
    },
};

/// When a producer is looked at again whose legs the consumer does not take.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);

/// The subscriptions of this engine.
#[derive(Default)]
pub(crate) struct Subscriptions {
    /// Inputs for a subscription or a producer that is not here were on their way when it was forgotten, and
    /// are ignored.
    subscriptions: OrderedMap<SubscriptionKey, SubscriptionState>,
    /// The same by their streams.
    by_stream: OrderedSet<(StreamId, SubscriptionKey)>,
    /// Producers to be looked at: see [`Subscriptions::next_fresh`].
    fresh: OrderedSet<InboundKey>,
    /// The number of the latest channel that was asked for.
    opened: u64,
}

/// A subscription.
struct SubscriptionState {
    shared: Arc<SubscriptionShared>,
    node: Arc<NodeShared>,
    /// Names the subscription to producers in other engines.
    id: [u8; 8],
    /// At most [`Limits::legs`](crate::shared::limits::Limits::legs).
    stops: Stops,
    /// At most [`Limits::legs`](crate::shared::limits::Limits::legs).
    producers: OrderedMap<PeerId, InboundChannel>,
    /// Those for which there is no place among `producers`. Known peers that produce the stream.
    crowd: OrderedSet<PeerId>,
    /// Used if the subscription prefers some producers.
    choice: Choice,
}

impl SubscriptionState {
    /// Lets the handle see the channels as they are. `fresh`: [`Subscriptions::fresh`].
    fn show(&self, env: &mut Env, fresh: &OrderedSet<InboundKey>) {
        self.show_undecided(fresh);
        let channels: Channels =
            self.producers.values().filter_map(|inbound| inbound.channel.clone()).collect();
        self.shared.channels.show(channels);
        env.effects.notify(ChannelsOf::Subscription, self.shared.spec.on_change.as_ref());
    }

    /// Lets the handle see whether a producer may still let it in. True if that is different.
    fn show_undecided(&self, fresh: &OrderedSet<InboundKey>) -> bool {
        let decided = |stage| matches!(stage, InboundStage::Refused(_) | InboundStage::GivenUp);
        let undecided = fresh.range(InboundKey::all_of(self.shared.key)).next().is_some()
            || !self.producers.values().all(|inbound| decided(inbound.stage));
        self.shared.undecided.set(undecided) != undecided
    }

    /// The channel of a producer is over: keeps where it stopped.
    fn note_stop(&mut self, env: &Env, producer: PeerId, code: CloseCode) {
        let Some(inbound) = self.producers.get_mut(&producer) else { return };
        inbound.terminate(code, env.now);
        if let Some(stop) = inbound.stop(code, env.now) {
            self.stops.keep((producer, stop), env.limits.legs, |id| self.producers.contains_key(id));
        }
    }

    /// Tells the handle of an event, if it wants that.
    fn report(&self, env: &mut Env, event: impl FnOnce() -> ChannelEvent) {
        env.effects.report(self.shared.spec.on_event.as_ref(), event);
    }
}

impl Subscriptions {
    /// Takes in a subscription of a node that is a member. `producers` are known to produce the stream.
    pub(crate) fn subscribe(
        &mut self,
        env: &mut Env,
        node: &Arc<NodeShared>,
        shared: Arc<SubscriptionShared>,
        producers: impl Iterator<Item = PeerId>,
    ) {
        let key = shared.key;
        assert_eq!(key.node, node.id, "a subscription belongs to its node");
        // One to a direct stream goes by one name in all its lives, so that each takes the place of the last.
        let id = if shared.spec.producer.is_some() { [0; 8] } else { env.random() };
        self.by_stream.insert((shared.spec.stream, key));
        let state = SubscriptionState {
            shared,
            node: node.clone(),
            id,
            stops: Stops::default(),
            producers: OrderedMap::new(),
            crowd: OrderedSet::new(),
            choice: Choice::default(),
        };
        self.subscriptions.insert(key, state);
        self.fresh.extend(producers.map(|producer| InboundKey { subscription: key, producer }));
    }

    /// Ends every channel of a subscription and forgets it.
    pub(crate) fn end(&mut self, env: &mut Env, key: SubscriptionKey) {
        // It was refused, or is forgotten because its node left.
        let Some(subscription) = self.subscriptions.get(&key) else { return };
        subscription.shared.close();
        let producers: Vec<PeerId> = subscription.producers.keys().copied().collect();
        for &producer in &producers {
            self.drop_producer(env, InboundKey { subscription: key, producer }, CloseCode::GRACEFUL);
        }
        env.effects.cancel_timer(Timer::Rank(key));
        let subscription = self.subscriptions.remove(&key).expect("it was there above");
        self.by_stream.remove(&(subscription.shared.spec.stream, key));
        // After the removal no producer is left to look at.
        for fresh in self.fresh.range(InboundKey::all_of(key)).copied().collect::<Vec<_>>() {
            self.fresh.remove(&fresh);
        }
        subscription.show(env, &self.fresh);
        subscription.shared.forgotten(&subscription.node);
        drop_contained(subscription.shared);
        for producer in producers {
            env.effects.push(Effect::ForgetPeerIfIdle(key.node, producer));
        }
    }

    /// Ends the channel from one producer, in whatever stage, and forgets the producer.
    fn drop_producer(&mut self, env: &mut Env, key: InboundKey, code: CloseCode) {
        self.cut(env, key, code);
        self.fresh.remove(&key);
        for timer in [Timer::RetryProducer(key), Timer::Accepted(key), Timer::Unanswered(key)] {
            env.effects.cancel_timer(timer);
        }
        if let Some(subscription) = self.subscriptions.get_mut(&key.subscription) {
            subscription.producers.remove(&key.producer);
        }
        self.fill_place(env, key.subscription);
    }

    /// Looks at a producer that waits for a place, if there is one.
    fn fill_place(&mut self, env: &Env, key: SubscriptionKey) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        if subscription.producers.len() < env.limits.legs
            && let Some(producer) = subscription.crowd.pop_first()
        {
            self.fresh.insert(InboundKey { subscription: key, producer });
        }
    }

    fn inbound_mut(&mut self, key: InboundKey) -> Option<&mut InboundChannel> {
        self.subscriptions.get_mut(&key.subscription)?.producers.get_mut(&key.producer)
    }

    fn inbound(&self, key: InboundKey) -> Option<&InboundChannel> {
        self.subscriptions.get(&key.subscription)?.producers.get(&key.producer)
    }

    fn of_node(&self, node: NodeId) -> impl Iterator<Item = (&SubscriptionKey, &SubscriptionState)> {
        self.subscriptions.range(SubscriptionKey::all_of(node))
    }

    /// The subscriptions of a node.
    pub(crate) fn keys_of(&self, node: NodeId) -> Vec<SubscriptionKey> {
        self.of_node(node).map(|(key, _)| *key).collect()
    }

    /// The producers that the subscriptions of a node want.
    pub(crate) fn producers_of(&self, node: NodeId) -> OrderedSet<PeerId> {
        self.of_node(node).flat_map(|(_, subscription)| subscription.producers.keys().copied()).collect()
    }

    /// The stream of a subscription that is not forgotten.
    pub(crate) fn stream(&self, key: SubscriptionKey) -> Option<StreamId> {
        self.subscriptions.get(&key).map(|subscription| subscription.shared.spec.stream)
    }

    /// What a subscription that is not forgotten was made of.
    pub(crate) fn spec(&self, key: SubscriptionKey) -> Option<&SubscribeSpec> {
        self.subscriptions.get(&key).map(|subscription| &subscription.shared.spec)
    }

    /// Whether a subscription of the node wants this producer.
    pub(crate) fn want(&self, node: NodeId, producer: PeerId) -> bool {
        self.of_node(node).any(|(_, subscription)| subscription.producers.contains_key(&producer))
    }

    /// Whether a subscription of the node waits for a session with this peer.
    pub(crate) fn want_session(&self, node: NodeId, peer: PeerId) -> bool {
        self.of_node(node).any(|(_, subscription)| {
            subscription
                .producers
                .get(&peer)
                .is_some_and(|inbound| inbound.stage == InboundStage::WantsSession)
        })
    }

    /// The inbound channels from this producer that are connected or being opened.
    pub(crate) fn active_from(&self, node: NodeId, producer: PeerId) -> Vec<InboundKey> {
        let active = |subscription: &SubscriptionState| {
            subscription.producers.get(&producer).is_some_and(|inbound| !inbound.stage.is_at_rest())
        };
        let active = self.of_node(node).filter(|(_, subscription)| active(subscription));
        active.map(|(&subscription, _)| InboundKey { subscription, producer }).collect()
    }

    /// Takes the next producer that is to be looked at; the caller then calls [`Subscriptions::advance`].
    pub(crate) fn next_fresh(&mut self) -> Option<InboundKey> {
        self.fresh.pop_first()
    }

    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// A fresh producer was looked at: lets the handle see whether one may still let it in.
    pub(crate) fn looked_at(&self, env: &mut Env, key: SubscriptionKey) {
        if let Some(subscription) = self.subscriptions.get(&key)
            && subscription.show_undecided(&self.fresh)
        {
            env.effects.notify(ChannelsOf::Subscription, subscription.shared.spec.on_change.as_ref());
        }
    }

    /// Takes an inbound channel that is at rest one step on. `true`: the producer is to be connected now.
    /// `info` is its entry; `None` when nothing is known about it any more.
    pub(crate) fn advance(&mut self, env: &mut Env, key: InboundKey, info: Option<&PeerInfo>) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&key.subscription) else { return false };
        let now = env.now;
        let rest = subscription.stops.get(key.producer).is_some_and(|stop| stop.may_go_on(now));
        let produces = info.is_some_and(|info| rest || subscription.shared.spec.wants(info));
        if !subscription.producers.contains_key(&key.producer) {
            subscription.crowd.remove(&key.producer);
            if !produces {
                self.fill_place(env, key.subscription);
                return false;
            }
            if subscription.producers.len() >= env.limits.legs {
                count(&subscription.node.counters.no_capacity);
                subscription.crowd.insert(key.producer);
                let (peer, code) = (key.producer, CloseCode::NO_CAPACITY);
                subscription.report(env, || ChannelEvent::Refused {
                    peer,
                    code,
                    goes_on: true,
                    mismatch: None,
                });
                return false;
            }
        }
        let inbound = subscription.producers.get_or_insert_with(key.producer, || InboundChannel {
            stage: InboundStage::Fresh,
            channel: None,
            publication: None,
            failures: 0,
            gave_up: false,
            told: false,
            since: now,
        });
        if std::mem::take(&mut inbound.gave_up) {
            inbound.since = now;
        }
        if !inbound.stage.is_at_rest() {
            return false;
        }
        if !produces {
            self.drop_producer(env, key, CloseCode::GRACEFUL);
            self.show(env, key.subscription);
            env.effects.push(Effect::ForgetPeerIfIdle(key.node(), key.producer));
            return false;
        }
        inbound.enter(StageEvent::Reconsider);
        // One that was cut off as too slow, and has not begun to read what it got, comes back after the
        // longest pause only: it would most likely hold the ring again.
        let code = inbound.channel.as_ref().and_then(|channel| channel.shared.close_code());
        let rests = code == Some(CloseCode::TOO_SLOW)
            && now.saturating_since(inbound.since) < subscription.shared.spec.backoff.max;
        if subscription.shared.waiting(key.producer) >= if rests { 1 } else { WAITING_LEGS_EACH } {
            // The consumer has not begun with what it got.
            self.pause(env, key, CROWDED_PAUSE);
            return false;
        }
        true
    }

    /// Looks at a producer again after `pause`: it is not connected yet, for no failure of its own.
    pub(crate) fn pause(&mut self, env: &mut Env, key: InboundKey, pause: Duration) {
        let inbound = self.inbound_mut(key).expect("only producers that are wanted are connected");
        inbound.enter(StageEvent::Failed);
        env.effects.set_timer(Timer::RetryProducer(key), env.now + pause);
    }

    /// What the subscription's predicate says about a producer.
    pub(crate) fn accept(&self, key: SubscriptionKey, info: &PeerInfo) -> Verdict {
        let Some(subscription) = self.subscriptions.get(&key) else { return Verdict::Deny };
        let shared = &subscription.shared;
        let verdict = ask(shared.spec.accept.as_ref(), info, &shared.panics);
        if verdict.denies() {
            count(&subscription.node.counters.not_allowed);
        }
        verdict
    }

    /// Sets the timer for the end of a verdict about a producer.
    fn note_accepted(env: &mut Env, key: InboundKey, verdict: Verdict) {
        let until = match verdict {
            Verdict::AllowFor(time) => Some(env.now + time.max(VERDICT_MIN)),
            Verdict::Allow | Verdict::Deny | Verdict::DenyFor(_) => None,
        };
        env.effects.set_or_cancel(Timer::Accepted(key), until);
    }

    /// Asks a producer in another engine for a channel on this session, or waits for a session. `has_room`:
    /// whether something new may be begun with the session's shard.
    pub(crate) fn connect(
        &mut self,
        env: &mut Env,
        key: InboundKey,
        info: &PeerInfo,
        session: Option<ReceiverIndex>,
        has_room: bool,
    ) {
        let Some(index) = session else {
            let inbound = self.inbound_mut(key).expect("only producers that are wanted are connected");
            inbound.enter(StageEvent::NoSession);
            return env.effects.push(Effect::Dial(key.node(), key.producer));
        };
        // Not earlier: the producer's tickets are shown inside the session.
        let verdict = self.accept(key.subscription, info);
        if verdict.denies() {
            self.show_refusal(env, key, info, (CloseCode::NOT_ALLOWED, None));
            return self.deny(env, key, verdict);
        }
        if !has_room {
            return self.channel_ended(env, key, CloseCode::NO_CAPACITY);
        }
        Self::note_accepted(env, key, verdict);
        env.effects.push(Effect::TellAboutUs(index));
        self.opened += 1;
        let open_id = OpenId(self.opened);
        let subscription = self.subscriptions.get_mut(&key.subscription).expect("it was accepted above");
        count(&subscription.node.counters.channels_opened);
        let spec = &subscription.shared.spec;
        let request = Box::new(OpenRequest {
            stream_id: spec.stream,
            subscription: subscription.id,
            resume: subscription.stops.get(key.producer).and_then(StoppedChannel::resume),
            reliability: spec.reliability,
            window_bytes: spec.window_bytes,
            window_datums: spec.window_datums,
            max_datum_bytes: spec.max_datum,
            // The producer's own weight is used.
            weight: 1,
            form: spec.form.clone(),
            criteria: spec.criteria.as_ref().map_or_else(Vec::new, |criteria| criteria.encode()),
            // Tickets are shown once per session, not once per channel.
            tickets: Vec::new(),
        });
        let handle = Arc::new(ChannelShared::new(spec.stream, key.producer, subscription.node.peer_id));
        let channel =
            Arc::new(Channel { shared: handle.clone(), peer: info.clone(), source: None, published: None });
        let inbound = subscription.producers.get_mut(&key.producer).expect("it is being connected");
        inbound.enter(StageEvent::Asked(index, open_id));
        inbound.channel = Some(channel);
        let open = ChannelOpen { index, open_id, key, request, handle };
        env.effects.push(Effect::OpenChannel(Box::new(open)));
        subscription.show(env, &self.fresh);
    }

    /// The request for a channel is on its way, behind everything that the producer was told so far.
    pub(crate) fn asked(&mut self, key: InboundKey) {
        if let Some(inbound) = self.inbound_mut(key) {
            inbound.told = false;
        }
    }

    /// A producer let us in. The session has named the channel, which begins at `start`.
    pub(crate) fn channel_accepted(
        &mut self,
        env: &mut Env,
        key: InboundKey,
        (index, open_id, label): (ReceiverIndex, OpenId, Label),
        start: Resume,
        inbox: Inbox,
    ) {
        let now = env.now;
        env.effects.cancel_timer(Timer::Unanswered(key));
        let gap = self.subscriptions.get_mut(&key.subscription).and_then(|subscription| {
            let selects = subscription.shared.spec.criteria.is_some();
            subscription.stops.take_gap(now, key.producer, start, selects)
        });
        let inbound = self.inbound_mut(key).expect("a request that is not withdrawn has its subscription");
        assert_eq!(
            inbound.stage,
            InboundStage::Opening(index, open_id),
            "the request is withdrawn with the stage"
        );
        inbound.enter(StageEvent::Accepted(label));
        inbound.since = now;
        inbound.failures = mutate!(inbound.failures, "accept-clears-failures" => 0);
        // A channel that is not taken stops nowhere.
        inbound.publication = gap.map(|_| start.publication);
        let channel = inbound.channel.clone().expect("a channel that is asked for has its handle");
        let Some(gap) = gap else {
            // Older datums never come after newer ones.
            self.cut(env, key, CloseCode::PROTOCOL_VIOLATION);
            return self.channel_ended(env, key, CloseCode::PROTOCOL_VIOLATION);
        };
        self.end_others(env, key);
        self.hand_over(env, key.subscription, Leg::remote(inbox, channel, gap));
    }

    /// Gives the consumer a leg.
    pub(crate) fn hand_over(&mut self, env: &mut Env, key: SubscriptionKey, leg: Leg) {
        let subscription =
            self.subscriptions.get(&key).expect("a channel that is connected has its subscription");
        count(&subscription.node.counters.channels_connected);
        let channel = leg.channel().clone();
        subscription.shared.hand_over(leg);
        subscription.show(env, &self.fresh);
        subscription.report(env, || ChannelEvent::Connected { channel });
    }

    /// Does not try a producer again before something about it, or about this node, is different.
    fn refuse(&mut self, env: &mut Env, key: InboundKey, code: CloseCode) {
        env.effects.cancel_timer(Timer::RetryProducer(key));
        env.effects.cancel_timer(Timer::Accepted(key));
        env.effects.cancel_timer(Timer::Unanswered(key));
        let Some(subscription) = self.subscriptions.get_mut(&key.subscription) else { return };
        if code == CloseCode::TYPE_MISMATCH {
            count(&subscription.node.counters.type_mismatch);
        }
        subscription.note_stop(env, key.producer, code);
        if let Some(inbound) = subscription.producers.get_mut(&key.producer) {
            let event = inbound.end_event((key.producer, &subscription.shared.spec.form), code, false);
            inbound.enter(StageEvent::Refused(code));
            subscription.report(env, || event);
        }
        subscription.show(env, &self.fresh);
    }

    /// A channel is over, or did not come about, and its session or local channel knows it already. What
    /// comes next depends on the code: a refusal waits for a change, everything else is tried again after a
    /// pause. So is a refusal that may have crossed news about this node.
    pub(crate) fn channel_ended(&mut self, env: &mut Env, key: InboundKey, code: CloseCode) {
        let crossed_news =
            code == CloseCode::NOT_ALLOWED && self.inbound(key).is_some_and(|inbound| inbound.told);
        if !code.is_retriable() && !crossed_news {
            return self.refuse(env, key, code);
        }
        let (now, chance) = (env.now, env.chance());
        // A channel that was cut from this side is forgotten already.
        let Some(subscription) = self.subscriptions.get_mut(&key.subscription) else { return };
        let backoff = subscription.shared.spec.backoff;
        subscription.note_stop(env, key.producer, code);
        let Some(inbound) = subscription.producers.get_mut(&key.producer) else { return };
        let was_open = inbound.stage.is_open();
        if was_open {
            if now.saturating_since(inbound.since) >= KEPT_UP {
                inbound.failures = 0;
            }
            inbound.since = now;
        }
        let event = inbound.end_event((key.producer, &subscription.shared.spec.form), code, true);
        if code == CloseCode::STREAM_NOT_FOUND
            && let Some(stop) = subscription.stops.get_mut(key.producer)
        {
            stop.over = true;
        }
        env.effects.cancel_timer(Timer::Accepted(key));
        env.effects.cancel_timer(Timer::Unanswered(key));
        if was_open && matches!(code, CloseCode::KEY_EXHAUSTED | CloseCode::SUPERSEDED | CloseCode::IDLE) {
            // The session ended and not the producer: the next session may be there already.
            inbound.enter(StageEvent::SessionReplaced);
            self.fresh.insert(key);
            subscription.report(env, || event);
            return subscription.show(env, &self.fresh);
        }
        inbound.failures = inbound.failures.saturating_add(1);
        let at = now + backoff.pause(inbound.failures, chance);
        let too_late = backoff.max_elapsed.is_some_and(|most| at.saturating_since(inbound.since) > most);
        if too_late {
            inbound.enter(StageEvent::OutOfTime);
            inbound.gave_up = true;
            env.effects.cancel_timer(Timer::RetryProducer(key));
        } else {
            inbound.enter(StageEvent::Failed);
            env.effects.set_timer(Timer::RetryProducer(key), at);
        }
        subscription.report(env, || event);
        if too_late {
            subscription.report(env, || ChannelEvent::GaveUp { producer: key.producer });
        }
        subscription.show(env, &self.fresh);
    }

    /// Asks the predicate again about a producer that is connected.
    pub(crate) fn review(&mut self, env: &mut Env, key: InboundKey, info: &PeerInfo) {
        if self.inbound(key).is_none_or(|inbound| inbound.stage.is_at_rest()) {
            return;
        }
        let verdict = self.accept(key.subscription, info);
        if verdict.denies() {
            self.cut(env, key, CloseCode::NOT_ALLOWED);
            self.deny(env, key, verdict);
        } else {
            Self::note_accepted(env, key, verdict);
        }
    }

    /// Ends what is connected or asked for. What is in the inbox stays readable; a local channel loses its
    /// place in the producer's ring, unless it ends in good order. The stage is left to the caller.
    fn cut(&mut self, env: &mut Env, key: InboundKey, code: CloseCode) {
        let Some(inbound) = self.inbound(key) else { return };
        inbound.terminate(code, env.now);
        match inbound.stage {
            InboundStage::Opening(index, open_id) => env.effects.push(Effect::WithdrawOpen(index, open_id)),
            InboundStage::Open(index, label) => env.effects.push(Effect::ResetChannel(index, label, code)),
            InboundStage::Local(leg) => {
                let how = if code == CloseCode::GRACEFUL { LegEnd::ByConsumer } else { LegEnd::Cut };
                env.effects.push(Effect::EndLeg(leg, code, how));
            }
            InboundStage::Fresh
            | InboundStage::WantsSession
            | InboundStage::Waits
            | InboundStage::Refused(_)
            | InboundStage::GivenUp
            | InboundStage::Standby => {}
        }
    }

    /// Lets the handle of a subscription see its channels as they are.
    fn show(&self, env: &mut Env, key: SubscriptionKey) {
        if let Some(subscription) = self.subscriptions.get(&key) {
            subscription.show(env, &self.fresh);
        }
    }
}

#[cfg(test)]
mod tests;
