//! Which consumers a publication lets in.

use std::sync::Arc;

use corewire_proto::{channel::DatumForm, session::CloseCode};

use super::{PublicationState, Publications};
use crate::{
    clerk::{effect::Effect, env::Env, notice::ask, timers::Timer},
    criteria::{Selection, StreamCriteria},
    peer::PeerInfo,
    shared::{
        counters::count,
        event::{ChannelEvent, TypeMismatch},
        keys::{OutboundKey, PublicationKey},
        limits::VERDICT_MIN,
        publication::{DirectTo, Verdict},
    },
};

impl Publications {
    /// Asks the predicate again whether a consumer may stay.
    pub(crate) fn review(&mut self, env: &mut Env, key: OutboundKey, consumer: &PeerInfo) {
        let Some(publication) = self.publications.get_mut(&key.publication) else { return };
        if publication.shared.spec.admit.is_none() || !publication.channels.contains_key(&key) {
            return;
        }
        let shared = publication.shared.clone();
        let counters = &shared.counters;
        let verdict = ask(publication.shared.spec.admit.as_ref(), consumer, &counters.panics);
        let timer = Timer::Admitted(key);
        match verdict {
            Verdict::Allow => env.effects.cancel_timer(timer),
            Verdict::AllowFor(time) => env.effects.set_timer(timer, env.now + time.max(VERDICT_MIN)),
            Verdict::Deny | Verdict::DenyFor(_) => {
                count(&counters.not_allowed);
                count(&publication.node.counters.not_allowed);
                publication.note_refusal(env, verdict);
                self.cut(env, key, CloseCode::NOT_ALLOWED);
            }
        }
    }

    /// A consumer that was refused may be let in now. It asks again when it sees the stream announced anew.
    pub(crate) fn refusal_over(&mut self, env: &mut Env, key: PublicationKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        publication.refused_until = None;
        if !publication.closed {
            env.effects.push(Effect::RecordStale(key.node));
            env.effects.push(Effect::StreamAppeared(key.node, publication.shared.spec.stream));
        }
    }
}

impl PublicationState {
    /// Whether this consumer may have a channel now; `Err` is the reason why not, and is counted. `returns`:
    /// its place is kept.
    pub(super) fn admit(
        &mut self,
        env: &mut Env,
        consumer: &PeerInfo,
        form: &DatumForm,
        returns: bool,
    ) -> Result<Verdict, CloseCode> {
        let verdict = self.judge(env, consumer, form, returns);
        verdict.map_err(|code| self.refuse(env, consumer, form, code))
    }

    /// Tells the handle that a consumer was refused, and why.
    fn refuse(&self, env: &mut Env, consumer: &PeerInfo, form: &DatumForm, code: CloseCode) -> CloseCode {
        let (peer, goes_on) = (consumer.peer_id(), code.is_retriable());
        let names = || TypeMismatch { ours: self.shared.spec.form.name.clone(), theirs: form.name.clone() };
        let mismatch = (code == CloseCode::TYPE_MISMATCH).then(names);
        self.report(env, || ChannelEvent::Refused { peer, code, goes_on, mismatch });
        code
    }

    /// A consumer was refused for some time. When that is over it is to ask again.
    pub(super) fn note_refusal(&mut self, env: &mut Env, verdict: Verdict) {
        let Verdict::DenyFor(time) = verdict else { return };
        let at = env.now + time.max(VERDICT_MIN);
        if self.refused_until.is_none_or(|earlier| at < earlier) {
            self.refused_until = Some(at);
            env.effects.set_timer(Timer::Refused(self.shared.key), at);
        }
    }

    fn judge(
        &mut self,
        env: &mut Env,
        consumer: &PeerInfo,
        form: &DatumForm,
        returns: bool,
    ) -> Result<Verdict, CloseCode> {
        let shared = self.shared.clone();
        let (counters, of_node) = (&shared.counters, &self.node.counters);
        let is_for = |direct: &DirectTo| direct.consumer == consumer.peer_id();
        let hidden = shared.spec.direct.as_ref().is_some_and(|direct| !is_for(direct));
        if hidden || (self.closed && !returns) {
            count(&of_node.stream_not_found);
            return Err(CloseCode::STREAM_NOT_FOUND);
        }
        if self.channels.len() >= self.shared.spec.max_consumers {
            count(&counters.no_capacity);
            count(&of_node.no_capacity);
            return Err(CloseCode::NO_CAPACITY);
        }
        let verdict = ask(self.shared.spec.admit.as_ref(), consumer, &counters.panics);
        if verdict.denies() {
            count(&counters.not_allowed);
            count(&of_node.not_allowed);
            self.note_refusal(env, verdict);
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

    /// What a consumer with these criteria gets, if they can be applied.
    pub(super) fn selection(
        &self,
        env: &mut Env,
        consumer: &PeerInfo,
        (form, criteria): (&DatumForm, Option<Arc<StreamCriteria>>),
    ) -> Result<Selection, CloseCode> {
        let kind = self.shared.spec.keys;
        if criteria.as_ref().is_none_or(|criteria| criteria.fits(kind)) {
            return Ok(Selection { keyed: kind.is_some(), criteria });
        }
        count(&self.shared.counters.criteria_mismatch);
        Err(self.refuse(env, consumer, form, CloseCode::CRITERIA_MISMATCH))
    }
}
