//! One producer that a subscription wants, and its channel.

use std::sync::Arc;

use corewire_proto::{
    PeerId,
    channel::{DatumForm, PublicationId},
    session::CloseCode,
    time::Instant,
};

use super::{
    stage::{InboundStage, StageEvent},
    stops::StoppedChannel,
};
use crate::shared::{
    Channel,
    event::{ChannelEvent, TypeMismatch},
};

/// A producer that a subscription wants, and the channel from it.
pub(super) struct InboundChannel {
    pub(super) stage: InboundStage,
    /// The channel of this attempt, or of the last one, so that its close code can be seen.
    pub(super) channel: Option<Arc<Channel>>,
    /// Which life of the producer's sequence the channel carries. While connected to another engine.
    pub(super) publication: Option<PublicationId>,
    /// Attempts that failed and channels that ended, since it last kept up for
    /// [`KEPT_UP`](crate::shared::limits::KEPT_UP). Being connected again is no success, so they lengthen the
    /// pause of one that is cut off again and again.
    pub(super) failures: u32,
    /// It was given up; when it is tried again, its time begins anew.
    pub(super) gave_up: bool,
    /// The producer was told something new about this node after it was asked for the channel, so a refusal
    /// may be one of before.
    pub(super) told: bool,
    /// When it was last connected, or first wanted.
    pub(super) since: Instant,
}

impl InboundChannel {
    pub(super) fn enter(&mut self, event: StageEvent) {
        self.stage = self.stage.after(event);
    }

    /// Why it was refused, at either end, since it was last connected. `None` while it is not refused, or not
    /// for what one of the ends lacks.
    pub(super) fn refused_with(&self) -> Option<CloseCode> {
        match self.stage {
            InboundStage::Refused(code) => Some(code),
            InboundStage::Waits => {
                let code = self.channel.as_ref().and_then(|channel| channel.shared.close_code());
                code.filter(|code| *code == CloseCode::NO_CAPACITY)
            }
            _ => None,
        }
    }

    pub(super) fn terminate(&self, code: CloseCode, now: Instant) {
        if let Some(channel) = &self.channel {
            channel.shared.terminate(code, now);
        }
    }

    /// What is said of the end of its channel, or of the attempt to get one. To be asked before its stage
    /// changes. `goes_on`: it is tried again.
    pub(super) fn end_event(
        &self,
        (producer, ours): (PeerId, &DatumForm),
        code: CloseCode,
        goes_on: bool,
    ) -> ChannelEvent {
        match self.channel.clone().filter(|_| self.stage.is_open()) {
            Some(channel) => {
                let code = channel.shared.close_code().unwrap_or(code);
                ChannelEvent::Closed { channel, code, goes_on }
            }
            None => {
                let theirs = self.channel.as_ref().and_then(|channel| channel.shared.producer_type());
                let mismatch =
                    theirs.map(|theirs| TypeMismatch { ours: ours.name.clone(), theirs: theirs.clone() });
                ChannelEvent::Refused { peer: producer, code, goes_on, mismatch }
            }
        }
    }

    /// Where the channel stopped, if it is one from another engine that did not end in good order.
    pub(super) fn stop(&mut self, code: CloseCode, now: Instant) -> Option<StoppedChannel> {
        let (publication, channel) = (self.publication.take()?, self.channel.as_ref()?);
        let told = matches!(code, CloseCode::GRACEFUL | CloseCode::DISCARDED);
        let in_order = told && channel.shared.stopped_at().is_none();
        let over = matches!(channel.shared.close_code(), Some(CloseCode::ABORTED | CloseCode::DISCARDED));
        (!in_order).then(|| StoppedChannel { publication, at: now, over, channel: channel.clone() })
    }
}
