//! The channels of each session.

use corewire_proto::{channel::Label, session::CloseCode, wire::header::ReceiverIndex};

use super::{ChannelOwner, SessionPhase, Sessions};
use crate::{
    clerk::{effect::ChannelOpen, env::Env},
    shard::Command,
    shared::keys::{InboundKey, OpenId},
};

impl Sessions {
    /// Channels of all sessions, open or asked for.
    pub(crate) fn channels(&self) -> usize {
        self.sessions.values().map(|session| session.channels.len() + session.opens.len()).sum()
    }

    /// Asks the peer for a channel.
    pub(crate) fn open_channel(&mut self, env: &mut Env, open: ChannelOpen) {
        let ChannelOpen { index, open_id, key, request, handle } = open;
        let session = self.sessions.get_mut(&index).expect("a current session is not gone");
        session.opens.insert(open_id, key);
        let open_id = open_id.0;
        env.effects.send(index.shard(), Command::OpenChannel { index, open_id, request, handle });
    }

    /// The peer has accepted a channel that was asked for. `None`: the request was withdrawn, or the session
    /// is gone.
    pub(crate) fn accepted(
        &mut self,
        index: ReceiverIndex,
        open_id: OpenId,
        label: Label,
    ) -> Option<InboundKey> {
        let session = self.sessions.get_mut(&index)?;
        let key = session.opens.remove(&open_id)?;
        session.channels.insert(label, ChannelOwner::Inbound(key));
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
        if self.sessions.get_mut(&index).is_some_and(|session| session.opens.remove(&open_id).is_some()) {
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

    /// A session has a channel less: closes it if it is retired and that was the last.
    fn channel_gone(&mut self, env: &mut Env, index: ReceiverIndex) {
        let done = self
            .sessions
            .get(&index)
            .is_some_and(|session| session.phase == SessionPhase::Retired && !session.has_channels());
        if done {
            self.close(env, index, CloseCode::SUPERSEDED);
        }
    }
}
