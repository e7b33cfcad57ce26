//! Which of several producers a subscription takes from, if it prefers some.
//!
//! One is chosen and connected. The others stand by: there are sessions with them, so that the paths to them
//! are measured, and no channels. Another one is chosen when it has been better for a while, or when the
//! chosen one is not there. The channel of the one before ends when that of the next one is there.

use corewire_proto::{PeerId, mutate, session::CloseCode, time::Instant};

use super::{
    Subscriptions,
    stage::{InboundStage, StageEvent},
};
use crate::{
    clerk::{effect::Effect, env::Env, notice::contain, timers::Timer},
    shared::{
        keys::{InboundKey, SubscriptionKey},
        limits::RANK_PAUSE,
    },
};

/// Another producer has to be better by a fourth of its own rank.
const MARGIN: u64 = 4;

/// The choice of a subscription.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The producer that is connected, or to be connected.
    chosen: Option<PeerId>,
    /// Another one that has been better at each look since then.
    better: Option<(PeerId, Instant)>,
}

impl Subscriptions {
    /// Whether a producer is to be connected, and not to stand by. The first one is.
    pub(crate) fn chooses(&mut self, key: InboundKey) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&key.subscription) else { return false };
        if subscription.shared.spec.prefer.is_none() {
            return true;
        }
        let choice = &mut subscription.choice;
        choice.chosen = choice.chosen.filter(|chosen| subscription.producers.contains_key(chosen));
        *choice.chosen.get_or_insert(key.producer) == key.producer
    }

    /// A producer stands by. `reachable`: there is a session with it, or it lives in this engine.
    pub(crate) fn stand_by(&mut self, env: &mut Env, key: InboundKey, reachable: bool) {
        let Some(inbound) = self.inbound_mut(key) else { return };
        if reachable {
            inbound.enter(StageEvent::StoodBy);
        } else {
            inbound.enter(StageEvent::NoSession);
            env.effects.push(Effect::Dial(key.node(), key.producer));
        }
        env.effects.ensure_timer(Timer::Rank(key.subscription), env.now + RANK_PAUSE);
    }

    /// The producers among which a subscription can choose: those that stand by, and those that are connected
    /// or about to be.
    pub(crate) fn candidates(&self, key: SubscriptionKey) -> Vec<PeerId> {
        let Some(subscription) = self.subscriptions.get(&key) else { return Vec::new() };
        let can = |stage: InboundStage| {
            matches!(stage, InboundStage::Standby | InboundStage::Fresh) || !stage.is_at_rest()
        };
        subscription.producers.iter().filter(|(_, inbound)| can(inbound.stage)).map(|(id, _)| *id).collect()
    }

    /// Calls a closure of the subscription's owner; `None` if it panics, which is counted.
    pub(crate) fn contained<T>(&self, key: SubscriptionKey, closure: impl FnOnce() -> T) -> Option<T> {
        contain(closure, &self.subscriptions.get(&key)?.shared.panics)
    }

    /// The session with a producer that stands by is gone: it is to be connected again.
    pub(crate) fn standby_lost(&mut self, key: InboundKey) {
        if let Some(inbound) = self.inbound_mut(key)
            && inbound.stage == InboundStage::Standby
        {
            inbound.enter(StageEvent::Reconsider);
            self.fresh.insert(key);
        }
    }

    /// Chooses among candidates with these ranks, the lowest of which is the best. One without a rank is
    /// chosen only when none has a rank.
    pub(crate) fn choose(&mut self, env: &mut Env, key: SubscriptionKey, ranks: &[(PeerId, Option<u64>)]) {
        env.effects.set_timer(Timer::Rank(key), env.now + RANK_PAUSE);
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        let Some(hold) = subscription.shared.spec.prefer.as_ref().map(|prefer| prefer.hold) else { return };
        let choice = &mut subscription.choice;
        let rank_of = |peer: PeerId| ranks.iter().find(|(id, _)| *id == peer).map(|(_, rank)| *rank);
        let others = ranks.iter().filter(|(id, _)| Some(*id) != choice.chosen);
        let Some(&(best, rank)) = others.min_by_key(|(_, rank)| rank.unwrap_or(u64::MAX)) else {
            choice.better = None;
            return;
        };
        let next = match (choice.chosen.and_then(rank_of), rank) {
            // The chosen one failed, was refused or is gone.
            (None, _) => true,
            (Some(None), _) | (_, None) => false,
            (Some(Some(present)), Some(rank)) if rank.saturating_add(rank / MARGIN) < present => {
                let since = choice.better.filter(|(peer, _)| *peer == best).map_or(env.now, |(_, at)| at);
                choice.better = Some((best, since));
                mutate!(env.now.saturating_since(since) >= hold, "switches-at-once" => true)
            }
            _ => {
                choice.better = None;
                false
            }
        };
        if next {
            *choice = Choice { chosen: Some(best), better: None };
            let key = InboundKey { subscription: key, producer: best };
            if let Some(inbound) = subscription.producers.get_mut(&best)
                && inbound.stage == InboundStage::Standby
            {
                inbound.enter(StageEvent::Reconsider);
                self.fresh.insert(key);
            }
        }
    }

    /// A producer is connected: if it was preferred, the channels of the others end. What has arrived stays
    /// readable between engines; a local channel loses its place in the ring.
    pub(super) fn end_others(&mut self, env: &mut Env, key: InboundKey) {
        let Some(subscription) = self.subscriptions.get_mut(&key.subscription) else { return };
        if subscription.shared.spec.prefer.is_none() {
            return;
        }
        let active = |(id, inbound): (&PeerId, &super::InboundChannel)| {
            (*id != key.producer && !inbound.stage.is_at_rest()).then_some(*id)
        };
        let others: Vec<PeerId> = subscription.producers.iter().filter_map(active).collect();
        for producer in others {
            let other = InboundKey { subscription: key.subscription, producer };
            let code = CloseCode::NOT_PREFERRED;
            self.cut(env, other, code);
            for timer in [Timer::Accepted(other), Timer::Unanswered(other)] {
                env.effects.cancel_timer(timer);
            }
            let Some(subscription) = self.subscriptions.get_mut(&key.subscription) else { return };
            subscription.note_stop(env, producer, code);
            let Some(inbound) = subscription.producers.get_mut(&producer) else { continue };
            let was_open = inbound.stage.is_open();
            let event = inbound.end_event((producer, &subscription.shared.spec.form), code, true);
            inbound.enter(StageEvent::StoodBy);
            if was_open {
                subscription.report(env, || event);
            }
        }
        env.effects.ensure_timer(Timer::Rank(key.subscription), env.now + RANK_PAUSE);
    }
}
