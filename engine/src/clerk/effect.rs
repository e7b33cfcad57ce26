//! What a component of the clerk wants done outside its own tables.
//!
//! A component never calls another one. It pushes effects, and the clerk applies them in order. What the
//! application of an effect pushes is applied before the effects that were pushed after it, as if the effect
//! were a call. So a timer is set or cancelled before any effect is pushed whose application may set it anew;
//! pushed after it, the older value would win.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use corewire_proto::{
    PeerId, StreamId,
    channel::{Label, OpenRequest},
    handshake::{HandshakeOutcome, HandshakeRequest, Hello},
    membership::{RecordVersion, SignedRecord},
    session::CloseCode,
    swim::{SwimEvent, SwimTarget},
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::Reader;

use super::{notice::ChannelsOf, publications::WaitingOpen, sessions::ChannelOwner, timers::Timer};
use crate::{
    peer::PeerInfo,
    shard::{Command, NodeId},
    shared::{
        ChannelShared,
        event::{ChannelEvent, EventNotice, OnEvent},
        flush::Shortfall,
        keys::{InboundKey, LegKey, OpenId},
        publication::OnChange,
    },
};

/// One thing to be done.
pub(crate) enum Effect {
    /// Give a command to a shard. It is never lost while the shard lives.
    Send(u8, Command),
    /// Send a handshake message. Dropped when the shard is behind, because the handshake repeats it.
    SendDatagram(u8, Command),
    /// The index is not used any more.
    FreeIndex(ReceiverIndex),
    /// Replace the deadline of a timer.
    SetTimer(Timer, Instant),
    /// Set the deadline of a timer that has none.
    EnsureTimer(Timer, Instant),
    CancelTimer(Timer),
    /// Call this hook at the end of the turn.
    Notify(ChannelsOf, OnChange),
    /// Tell it of an event at the end of the turn.
    Tell(EventNotice),

    /// Begin a handshake with this peer, if a subscription waits for a session and none is in progress.
    Dial(NodeId, PeerId),
    /// A peer asks for a session.
    RequestedSession(NodeId, Box<HandshakeRequest>),
    /// A peer asks for the next key of a session.
    RequestedKey(NodeId, Box<HandshakeRequest>),
    /// Answer a peer that knows the node's address and not its identity.
    AnswerHello(NodeId, Box<Hello>),
    /// A peer that was answered so has shown its identity.
    PeerJoined {
        node: NodeId,
        outcome: Box<HandshakeOutcome>,
        from: SocketAddr,
    },
    /// A handshake gave the keys of a session.
    SessionReady {
        node: NodeId,
        outcome: Box<HandshakeOutcome>,
        from: SocketAddr,
    },
    /// A handshake that was begun here gave the next key of a session.
    KeyReady(Box<HandshakeOutcome>),
    /// A peer's request for the next key of a session was answered.
    KeyAnswered(Box<HandshakeOutcome>),
    /// A handshake that was begun here for the next key of this session failed.
    RekeyFailed(ReceiverIndex),
    /// A handshake that was begun here with this peer failed.
    PeerUnreachable(NodeId, PeerId),

    /// A shard was given a session with this peer.
    SessionInstalled(ReceiverIndex, NodeId, PeerId),
    /// The session is the one with its peer on which something new is begun.
    SessionCurrent(ReceiverIndex, NodeId, PeerId),
    /// Another session took this one's place.
    SessionRetired(ReceiverIndex),
    /// The session was told to close.
    SessionClosing(ReceiverIndex),
    CloseSession(ReceiverIndex, CloseCode),
    /// A channel of a session has ended. Of a producer's end that may be resumed: the consumer's place.
    ChannelLost(ChannelOwner, CloseCode, Option<Reader>),
    /// Answer a request for a channel that has waited.
    AnswerOpen(Box<WaitingOpen>),

    /// A node has signed a new record.
    RecordRenewed(NodeId, Box<SignedRecord>),
    /// A peer holds a record of this node.
    OwnRecordSeen(NodeId, RecordVersion),
    /// The entry of a peer is different now.
    PeerChanged {
        node: NodeId,
        before: PeerInfo,
        now: PeerInfo,
    },
    /// The record of a peer is another one, or there is none any more, or a session with it has begun.
    RecordChanged(NodeId, PeerId),
    /// Send a membership packet.
    SendToMember(NodeId, SwimTarget, Vec<u8>),
    /// The membership protocol has learned something.
    MemberEvent(NodeId, Box<SwimEvent>),
    /// A peer was sent this node's record or tickets.
    PeerKnowsUs(NodeId, PeerId),
    /// Forget a peer about which nothing is known and with which nothing is going on.
    ForgetPeerIfIdle(NodeId, PeerId),

    /// The node publishes other streams than its record announces.
    RecordStale(NodeId),
    /// A node publishes a stream: local subscriptions look at it.
    StreamAppeared(NodeId, StreamId),
    /// A peer in another engine has just made a stream for this node: its subscription looks at the peer.
    StreamOffered(NodeId, PeerId, StreamId),
    /// A publication of the node has less to deliver.
    MayHaveDrained(NodeId),
    /// A publication is forgotten that did not deliver everything.
    DeliveryFailed(NodeId, Vec<Shortfall>),

    /// Make sure that the peer of this session has the node's record and tickets.
    TellAboutUs(ReceiverIndex),
    /// Ask a peer for a channel.
    OpenChannel(Box<ChannelOpen>),
    /// A channel that was asked for is not wanted any more.
    WithdrawOpen(ReceiverIndex, OpenId),
    /// End a channel of a session at once.
    ResetChannel(ReceiverIndex, Label, CloseCode),
    /// End a local channel.
    EndLeg(LegKey, CloseCode, LegEnd),
    /// Take the cursor of a local channel out of the ring.
    DetachLeg(LegKey),

    /// End everything that a node still has; whether it has drained.
    CloseNode(NodeId, bool),
    /// Forget a node that is closed.
    ForgetNode(NodeId),
    /// Tell the shards to stop until then.
    StopShards(Instant),
    /// Everything has ended.
    Finish,
}

/// A channel that a subscription asks a peer for.
pub(crate) struct ChannelOpen {
    /// The session.
    pub(crate) index: ReceiverIndex,
    pub(crate) open_id: OpenId,
    pub(crate) key: InboundKey,
    pub(crate) request: Box<OpenRequest>,
    pub(crate) handle: Arc<ChannelShared>,
}

/// How a local channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegEnd {
    /// The subscription ended it, and knows. What the consumer has not read stays readable.
    ByConsumer,
    /// The producer closed its ring, which the consumer may read to the end.
    ByProducer,
    /// The consumer is cut off.
    Cut,
}

/// The effects that are to be applied.
#[derive(Default)]
pub(crate) struct Effects {
    /// Pushed since the last one was taken.
    queue: VecDeque<Effect>,
    /// Groups that were pushed before, the next one last. An effect that is applied may apply others on the
    /// way, so what is left after it is kept here and survives a panic.
    later: Vec<VecDeque<Effect>>,
}

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    pub(crate) fn send(&mut self, shard: u8, command: Command) {
        self.push(Effect::Send(shard, command));
    }

    pub(crate) fn send_datagram(
        &mut self,
        shard: u8,
        node: NodeId,
        (source, to): (Option<IpAddr>, SocketAddr),
        bytes: Vec<u8>,
    ) {
        self.push(Effect::SendDatagram(shard, Command::SendDatagram { node, source, to, bytes }));
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, at: Instant) {
        self.push(Effect::SetTimer(timer, at));
    }

    pub(crate) fn ensure_timer(&mut self, timer: Timer, at: Instant) {
        self.push(Effect::EnsureTimer(timer, at));
    }

    pub(crate) fn cancel_timer(&mut self, timer: Timer) {
        self.push(Effect::CancelTimer(timer));
    }

    /// Sets a timer, or cancels it.
    pub(crate) fn set_or_cancel(&mut self, timer: Timer, at: Option<Instant>) {
        match at {
            Some(at) => self.set_timer(timer, at),
            None => self.cancel_timer(timer),
        }
    }

    /// Calls a hook at the end of the turn, if there is one.
    pub(crate) fn notify(&mut self, of: ChannelsOf, hook: Option<&OnChange>) {
        if let Some(hook) = hook {
            self.push(Effect::Notify(of, hook.clone()));
        }
    }

    /// Tells the caller of an event at the end of the turn, if it wants that.
    pub(crate) fn report(&mut self, hook: Option<&OnEvent>, event: impl FnOnce() -> ChannelEvent) {
        if let Some(hook) = hook {
            self.push(Effect::Tell(EventNotice { hook: hook.clone(), event: event() }));
        }
    }

    /// Marks where the effects begin that are pushed from now on, for [`Effects::next`]. What is left before
    /// the mark is for the caller's caller.
    pub(crate) fn level(&self) -> usize {
        self.later.len()
    }

    /// Takes the next effect above `level`. What is pushed until the next call comes before those that are
    /// left.
    pub(crate) fn next(&mut self, level: usize) -> Option<Effect> {
        while self.later.len() > level && self.later.last().is_some_and(VecDeque::is_empty) {
            self.later.pop();
        }
        if !self.queue.is_empty() {
            self.later.push(std::mem::take(&mut self.queue));
        }
        if self.later.len() > level { self.later.last_mut()?.pop_front() } else { None }
    }

    /// Takes all effects.
    #[cfg(test)]
    pub(crate) fn drain(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.next(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_effect_pushes_goes_before_what_was_pushed_after_it() {
        let number = |effect: &Effect| match effect {
            Effect::MayHaveDrained(NodeId(number)) => *number,
            _ => unreachable!("only one kind is pushed here"),
        };
        let mut effects = Effects::default();
        effects.push(Effect::MayHaveDrained(NodeId(1)));
        effects.push(Effect::MayHaveDrained(NodeId(4)));
        let mut applied = Vec::new();
        while let Some(effect) = effects.next(0) {
            applied.push(number(&effect));
            if number(&effect) < 3 {
                effects.push(Effect::MayHaveDrained(NodeId(number(&effect) + 1)));
            }
        }
        assert_eq!(applied, [1, 2, 3, 4]);
    }
}
