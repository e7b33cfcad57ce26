//! What the handles of a publication are told.

use super::{PublicationState, Publications};
use crate::{
    clerk::env::Env,
    shared::{event::ChannelEvent, keys::OutboundKey},
};

impl PublicationState {
    /// Tells the handles of an event, if they want that.
    pub(super) fn report(&self, env: &mut Env, event: impl FnOnce() -> ChannelEvent) {
        env.effects.report(self.shared.spec.on_event.as_ref(), event);
    }

    pub(super) fn tell_connected(&self, env: &mut Env, key: OutboundKey) {
        if let Some(channel) = self.channels.get(&key).map(|outbound| outbound.channel.clone()) {
            self.report(env, || ChannelEvent::Connected { channel });
        }
    }
}

impl Publications {
    /// The peer of a channel is silent, or is not any more.
    pub(crate) fn suspect(&self, env: &mut Env, key: OutboundKey, suspect: bool) {
        if let Some(publication) = self.publications.get(&key.publication)
            && let Some(outbound) = publication.channels.get(&key)
        {
            let event = ChannelEvent::suspect(outbound.channel.clone(), suspect);
            publication.report(env, || event);
        }
    }
}
