//! The channels of each session.

use corewire_proto::{channel::Label, session::CloseCode, wire::header::ReceiverIndex};

use super::{ChannelOwner, OPENS_UNANSWERED, SessionPhase, Sessions};
use crate::{
    clerk::{effect::ChannelOpen, env::Env, timers::Timer},
    shard::Command,
    shared::{
        keys::{InboundKey, OpenId},
        limits::OPEN_ANSWER,
    },
};

impl Sessions {
    /// Channels of all sessions, open or asked for.
    pub(crate) fn channels(&self) -> usize {
        self.sessions
            .values()
            .map(|session| session.channels.len() + session.opens.len() + session.opens_waiting.len())
            .sum()
    }

    /// Asks the peer for a channel, or has it wait until others are answered.
    pub(crate) fn open_channel(&mut self, env: &mut Env, open: ChannelOpen) {
        let index = open.index;
        let session = self.sessions.get_mut(&index).expect("a current session is not gone");
        session.opens_waiting.insert(open.open_id, open);
        self.ask_next(env, index);
    }

    /// Asks for the channels that may be under way at one time.
    fn ask_next(&mut self, env: &mut Env, index: ReceiverIndex) {
        let Some(session) = self.sessions.get_mut(&index) else { return };
        while session.opens.len() < OPENS_UNANSWERED
            && let Some((open_id, open)) = session.opens_waiting.pop_first()
        {
            let ChannelOpen { key, request, handle, .. } = open;
            session.opens.insert(open_id, key);
            env.effects.set_timer(Timer::Unanswered(key), env.now + OPEN_ANSWER);
            let open_id = open_id.0;
            env.effects.send(index.shard(), Command::OpenChannel { index, open_id, request, handle });
        }
    }

    /// The peer has accepted a channel that was asked for. `None`: the request was withdrawn, or the session
    /// is gone.
    pub(crate) fn accepted(
        &mut self,
        env: &mut Env,
        index: ReceiverIndex,
        open_id: OpenId,
        label: Label,
    ) -> Option<InboundKey> {
        let session = self.sessions.get_mut(&index)?;
        let key = session.opens.remove(&open_id)?;
        session.channels.insert(label, ChannelOwner::Inbound(key));
        self.ask_next(env, index);
        Some(key)
    }

    /// The peer has rejected a channel that was asked for. `None` as for [`Sessions::accepted`].
    pub(crate) fn rejected(
        &mut self,
        env: &mut Env,
        index: ReceiverIndex,
        open_id: OpenId,
    ) -> Option<InboundKey> {
        let key = self.sessions.get_mut(&index)?.opens.remove(&open_id)?;
        self.channel_gone(env, index);
        Some(key)
    }

    /// A channel that was asked for is not wanted any more. If it is answered at this moment, the answer
    /// finds no owner, which resets the channel.
    pub(crate) fn withdraw_open(&mut self, env: &mut Env, index: ReceiverIndex, open_id: OpenId) {
        // Gone when the session is.
        let Some(session) = self.sessions.get_mut(&index) else { return };
        if session.opens_waiting.remove(&open_id).is_some() {
            self.channel_gone(env, index);
        } else if session.opens.remove(&open_id).is_some() {
            env.effects.send(index.shard(), Command::WithdrawOpen { index, open_id: open_id.0 });
            self.channel_gone(env, index);
        }
    }

    /// Names a channel that is about to be accepted.
    pub(crate) fn add_channel(&mut self, index: ReceiverIndex, label: Label, owner: ChannelOwner) {
        let session =
            self.sessions.get_mut(&index).expect("a channel is served on a session that is not gone");
        let before = session.channels.insert(label, owner);
        assert!(before.is_none(), "the protocol never reuses a label in a session");
    }

    /// Whose channel a label is; `None` when the channel is over.
    pub(crate) fn owner(&self, index: ReceiverIndex, label: Label) -> Option<ChannelOwner> {
        self.sessions.get(&index)?.channels.get(&label).copied()
    }

    /// Whose channels the open ones of a session are.
    pub(crate) fn owners(&self, index: ReceiverIndex) -> Vec<ChannelOwner> {
        self.sessions
            .get(&index)
            .map_or_else(Vec::new, |session| session.channels.values().copied().collect())
    }

    /// A channel is over, at either end. `None`: it was reset from this side, and its owner knows.
    pub(crate) fn channel_closed(
        &mut self,
        env: &mut Env,
        index: ReceiverIndex,
        label: Label,
    ) -> Option<ChannelOwner> {
        let owner = self.sessions.get_mut(&index)?.channels.remove(&label)?;
        self.channel_gone(env, index);
        Some(owner)
    }

    /// Ends a channel at once.
    pub(crate) fn reset_channel(
        &mut self,
        env: &mut Env,
        index: ReceiverIndex,
        label: Label,
        code: CloseCode,
    ) {
        // Gone when the session is.
        if self.sessions.get_mut(&index).is_some_and(|session| session.channels.remove(&label).is_some()) {
            env.effects.send(index.shard(), Command::ResetChannel { index, label, code });
            self.channel_gone(env, index);
        }
    }

    /// A session has a channel or a request less: closes it if it is retired and that was the last.
    fn channel_gone(&mut self, env: &mut Env, index: ReceiverIndex) {
        self.ask_next(env, index);
        let done = self
            .sessions
            .get(&index)
            .is_some_and(|session| session.phase == SessionPhase::Retired && !session.has_channels());
        if done {
            self.close(env, index, CloseCode::SUPERSEDED);
        }
    }
}
