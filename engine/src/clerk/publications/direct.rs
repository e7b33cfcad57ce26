//! What a direct publication does not deliver, and ends that do not wait for delivery.
//!
//! A ring without a channel, a place or a local cursor keeps nothing. An announced publication counts that as
//! delivered to all of its consumers, of which there is none. A direct one has one consumer, so everything
//! that is published for it is acknowledged by it or counted.

use std::sync::Arc;

use super::{PublicationState, Publications};
use crate::{
    clerk::env::Env,
    shared::{
        Channel,
        counters::add,
        keys::{LegKey, OutboundKey, PublicationKey},
    },
};

impl PublicationState {
    /// Something holds the ring from `seq` on. Counts what a direct publication has published for nothing.
    pub(super) fn hold(&mut self, seq: u64) {
        if let Some(from) = self.unheld_from.take() {
            add(&self.shared.counters.skipped_at_close, seq.saturating_sub(from));
        }
    }

    /// A channel or a place of a direct publication is gone. Its loss is counted up to `tail`; what was
    /// published since that was read is counted by the next [`PublicationState::hold`].
    pub(super) fn unhold(&mut self, tail: u64) {
        let held = !self.channels.is_empty() || !self.places.is_empty() || !self.draining.is_empty();
        if self.shared.spec.direct.is_some() && !self.closed && !held {
            self.unheld_from = Some(tail);
        }
    }

    /// A local consumer of a direct publication has left; what it has not taken is lost.
    pub(super) fn leave_unread(&mut self, channel: &Arc<Channel>) {
        let (tail, taken) = (self.shared.ring.tail(), channel.shared.snapshot().released);
        add(&self.shared.counters.skipped_at_close, tail.saturating_sub(taken));
        self.unhold(tail);
    }
}

impl Publications {
    /// The cursor of a local channel was taken out of the ring; its consumer has everything below `taken`.
    /// Counts and reports what it does not get of a discarded publication; of a direct one that is counted
    /// when the consumer drops its end.
    pub(crate) fn local_detached(&mut self, env: &mut Env, key: PublicationKey, leg: LegKey, taken: u64) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        let Some(channel) = publication.draining.get(&leg).map(|leg| leg.channel.clone()) else { return };
        let shared = &publication.shared;
        if shared.discarded.get() && shared.spec.direct.is_none() {
            add(&shared.counters.skipped_at_close, shared.ring.tail().saturating_sub(taken));
            publication.lost(env, &channel, taken, true);
        }
    }

    /// Ends every channel of a closed publication, and gives up what is in its ring.
    pub(super) fn discard(&mut self, env: &mut Env, key: PublicationKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        publication.give_up_places(env);
        let code = publication.shared.end.code();
        let channels: Vec<OutboundKey> = publication.channels.keys().copied().collect();
        for channel in channels {
            self.cut(env, channel, code);
        }
        self.show(env, key);
        self.forget_if_done(env, key);
    }
}
