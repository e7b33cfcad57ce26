//! Which consumers a publication lets in.

use corewire_proto::{
    channel::{DatumForm, OpenRequest},
    session::CloseCode,
};

use super::PublicationState;
use crate::{
    clerk::{env::Env, notice::ask},
    peer::PeerInfo,
    shared::{
        counters::count,
        event::{ChannelEvent, TypeMismatch},
        publication::Verdict,
    },
};

/// Whether a producer can do what was asked for. It cannot choose among datums, and a consumer that wants
/// some must not get all of them. `NOT_ALLOWED`, because asking again does not help. The requested weight is
/// a hint: the publication's own is used.
pub(super) fn honoured(request: &OpenRequest) -> Result<(), CloseCode> {
    if request.criteria.is_empty() { Ok(()) } else { Err(CloseCode::NOT_ALLOWED) }
}

impl PublicationState {
    /// Whether this consumer may have a channel now; `Err` is the reason why not, and is counted. `returns`:
    /// its place is kept.
    pub(super) fn admit(
        &self,
        env: &mut Env,
        consumer: &PeerInfo,
        form: &DatumForm,
        returns: bool,
    ) -> Result<Verdict, CloseCode> {
        let verdict = self.judge(consumer, form, returns);
        if let Err(code) = verdict {
            let (peer, goes_on) = (consumer.peer_id(), code.is_retriable());
            let names =
                || TypeMismatch { ours: self.shared.spec.form.name.clone(), theirs: form.name.clone() };
            let mismatch = (code == CloseCode::TYPE_MISMATCH).then(names);
            self.tell(env, || ChannelEvent::Refused { peer, code, goes_on, mismatch });
        }
        verdict
    }

    fn judge(&self, consumer: &PeerInfo, form: &DatumForm, returns: bool) -> Result<Verdict, CloseCode> {
        let (counters, of_node) = (&self.shared.counters, &self.node.counters);
        if self.closed && !returns {
            count(&of_node.stream_not_found);
            return Err(CloseCode::STREAM_NOT_FOUND);
        }
        if self.channels.len() >= self.shared.spec.max_consumers {
            count(&counters.no_capacity);
            count(&of_node.no_capacity);
            return Err(CloseCode::NO_CAPACITY);
        }
        let verdict = ask(self.shared.spec.admit.as_ref(), consumer, &counters.panics);
        if verdict == Verdict::Deny {
            count(&counters.not_allowed);
            count(&of_node.not_allowed);
            return Err(CloseCode::NOT_ALLOWED);
        }
        // After the question whether it may know anything about the stream.
        if !self.shared.spec.form.agrees_with(form) {
            count(&counters.type_mismatch);
            count(&of_node.type_mismatch);
            return Err(CloseCode::TYPE_MISMATCH);
        }
        Ok(verdict)
    }
}
