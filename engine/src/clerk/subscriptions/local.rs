//! Producers of this engine: channels that read their rings.

use std::sync::Arc;

use corewire_proto::{channel::TypeName, session::CloseCode};

use super::{
    Subscriptions,
    stage::{InboundStage, StageEvent},
};
use crate::{
    clerk::env::Env,
    peer::PeerInfo,
    shared::{
        Channel, ChannelShared,
        counters::count,
        keys::{InboundKey, LegKey, SubscriptionKey},
        publication::Verdict,
    },
};

impl Subscriptions {
    /// A producer of this engine is connected.
    pub(crate) fn connected_local(
        &mut self,
        env: &mut Env,
        key: InboundKey,
        leg: LegKey,
        channel: &Arc<Channel>,
        verdict: Verdict,
    ) {
        Self::note_accepted(env, key, verdict);
        let now = env.now;
        let inbound = self.inbound_mut(key).expect("only producers that are wanted are connected");
        inbound.enter(StageEvent::Joined(leg));
        inbound.channel = Some(channel.clone());
        inbound.since = now;
        self.end_others(env, key);
    }

    /// A producer of this engine did not let us in, or was not accepted. `theirs` is its datum type, if
    /// known.
    pub(crate) fn refused_local(
        &mut self,
        env: &mut Env,
        key: InboundKey,
        info: &PeerInfo,
        (code, theirs): (CloseCode, Option<TypeName>),
    ) {
        self.show_refusal(env, key, info, (code, theirs));
        self.channel_ended(env, key, code);
    }

    /// Lets the handle see why there is no channel: one that is over from its start.
    pub(super) fn show_refusal(
        &mut self,
        env: &Env,
        key: InboundKey,
        info: &PeerInfo,
        (code, theirs): (CloseCode, Option<TypeName>),
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&key.subscription) else { return };
        let stream = subscription.shared.spec.stream;
        let refused = Arc::new(ChannelShared::new(stream, key.producer, subscription.node.peer_id));
        if let Some(theirs) = theirs.filter(|_| code == CloseCode::TYPE_MISMATCH) {
            refused.set_producer_type(theirs);
        }
        refused.terminate(code, env.now);
        if let Some(inbound) = subscription.producers.get_mut(&key.producer) {
            inbound.channel = Some(Arc::new(Channel {
                shared: refused,
                peer: info.clone(),
                source: None,
                published: None,
            }));
        }
    }

    /// Counts the request for a channel within this engine.
    pub(crate) fn count_opened(&self, key: SubscriptionKey) {
        if let Some(subscription) = self.subscriptions.get(&key) {
            count(&subscription.node.counters.channels_opened);
        }
    }

    /// The consumer's end of a local channel is over, if it still is this channel.
    pub(crate) fn local_ended(&mut self, env: &mut Env, key: InboundKey, leg: LegKey, code: CloseCode) {
        if self.inbound(key).is_some_and(|inbound| inbound.stage == InboundStage::Local(leg)) {
            self.channel_ended(env, key, code);
        }
    }
}
