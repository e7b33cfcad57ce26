//! What the clerk keeps about nodes, peers, sessions and streams.
//!
//! Not inside: what is done with it. Every table here is bounded by [`Limits`](crate::shared::limits::Limits) or by another
//! table; they are ordered, so that the same input gives the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use corewire_proto::{
    PeerId, StreamId, TagId,
    channel::Label,
    handshake::{Initiator, Local, Responder, Slots, SlotsConfig},
    identity::Identity,
    membership::{Catalog, RecordVersion, SignedRecord},
    session::{CloseCode, SessionConfig},
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::ReaderId;

use super::lagging::Watch;
use crate::{
    peer::{PeerFacts, PeerInfo, Ticket},
    shard::NodeId,
    shared::{
        Channel, ChannelShared, node::NodeShared, publication::PublicationShared,
        subscription::SubscriptionShared,
    },
};

/// A node.
pub(crate) struct NodeState {
    pub(crate) shared: Arc<NodeShared>,
    pub(crate) identity: Identity,
    pub(crate) local: Arc<Local>,
    pub(crate) responder: Responder,
    pub(crate) session: SessionConfig,
    /// Handshakes begun here, by the index that they reserve.
    pub(crate) attempts: BTreeMap<ReceiverIndex, HandshakeAttempt>,
    pub(crate) bootstrap: Vec<Bootstrap>,
    pub(crate) catalog: Catalog,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    /// Publications by key; closed ones stay until their channels are gone.
    pub(crate) publications: BTreeMap<u64, PublicationState>,
    /// The open ones.
    pub(crate) streams: BTreeMap<StreamId, u64>,
    pub(crate) subscriptions: BTreeMap<u64, SubscriptionState>,
    pub(crate) version: RecordVersion,
    pub(crate) record: Option<SignedRecord>,
    /// What the record says is no longer so.
    pub(crate) record_stale: bool,
    /// What the handles see of the peers is no longer so.
    pub(crate) peers_stale: bool,
    /// Handshakes that may be answered before strangers are asked for a cookie.
    pub(crate) answers: Bucket,
    pub(crate) leaving: Option<Leaving>,
    /// Tags and tickets as they were told last.
    pub(crate) tags: Vec<TagId>,
    pub(crate) tickets: Vec<Ticket>,
    /// Handshakes begun by this node since it joined.
    pub(crate) attempts_made: u32,
}

impl NodeState {
    /// What is kept about a peer, with an empty entry if there is none yet.
    pub(crate) fn peer_mut(&mut self, peer: PeerId, pause: Duration) -> &mut Peer {
        let (own, network_id) = (self.shared.peer_id, self.shared.network_id);
        self.peers.entry(peer).or_insert_with(|| Peer {
            slots: Slots::new(own, peer, SlotsConfig::default()),
            attempt: None,
            pause,
            not_before: Instant::ZERO,
            review_at: Instant::ZERO,
            turn: 0,
            info: PeerInfo::new(PeerFacts { peer_id: peer, network_id, ..PeerFacts::default() }),
            tickets: Vec::new(),
        })
    }

    /// The session with a peer on which something new may be begun.
    pub(crate) fn current(&self, peer: &PeerId) -> Option<ReceiverIndex> {
        self.peers.get(peer)?.slots.current().map(|entry| entry.local_index)
    }
}

/// A node's end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    /// Until when streams may drain.
    pub(crate) until: Instant,
    /// Everything has drained, or the time was up: sessions are being closed. Says which.
    pub(crate) closing: Option<bool>,
    /// Something that was published is known not to have been delivered.
    pub(crate) lossy: bool,
}

/// Lets through a number of things per second, and so many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: u32,
    left: u32,
    /// Up to here the bucket has been refilled.
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: per_second, filled: now }
    }

    /// Whether one could be taken.
    pub(crate) fn any(&mut self, now: Instant) -> bool {
        let passed = now.saturating_since(self.filled);
        let nanos = passed.as_nanos() * u128::from(self.per_second);
        let more = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(self.per_second);
            self.filled = now;
        }
        self.left > 0
    }

    /// Takes one; `false` when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let any = self.any(now);
        self.left = self.left.saturating_sub(1);
        any
    }
}

/// A handshake begun here.
pub(crate) struct HandshakeAttempt {
    pub(crate) initiator: Initiator,
    pub(crate) to: SocketAddr,
    pub(crate) goal: HandshakePurpose,
    /// The index belongs to a session: the keys are there and only the last message may have to be repeated, or the
    /// handshake is for the session's next key.
    pub(crate) installed: bool,
}

/// Why a handshake was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakePurpose {
    Peer(PeerId),
    /// By its place in the list.
    Bootstrap(usize),
    /// The next key of a session that goes on.
    Rekey(ReceiverIndex),
}

/// An address to meet the network through.
pub(crate) struct Bootstrap {
    pub(crate) address: SocketAddr,
    pub(crate) attempt: Option<ReceiverIndex>,
    /// The session that was made through this address.
    pub(crate) session: Option<ReceiverIndex>,
    pub(crate) pause: Duration,
    /// The address is this node's own.
    pub(crate) own: bool,
}

/// A peer: known by its record, by a session, or because it is tried.
pub(crate) struct Peer {
    pub(crate) slots: Slots,
    pub(crate) attempt: Option<ReceiverIndex>,
    /// The pause before the next attempt.
    pub(crate) pause: Duration,
    /// No attempt before this.
    pub(crate) not_before: Instant,
    /// Its channels are judged again no earlier than this.
    pub(crate) review_at: Instant,
    /// Which of its addresses is tried next.
    pub(crate) turn: usize,
    pub(crate) info: PeerInfo,
    /// What it showed in the current session.
    pub(crate) tickets: Vec<Ticket>,
}

/// A session that a shard owns or is about to own.
pub(crate) struct SessionState {
    pub(crate) node: NodeId,
    pub(crate) peer: PeerId,
    pub(crate) address: SocketAddr,
    /// What the peer calls it.
    pub(crate) remote: ReceiverIndex,
    /// The peer's boot number.
    pub(crate) boot: u64,
    /// The transport key that the peer has shown.
    pub(crate) key: [u8; 32],
    /// Of the key that is in use: 0 for the first (see `corewire_proto::handshake::next_key`).
    pub(crate) generation: u16,
    /// When the peer was given its next key, while it does not use it yet.
    pub(crate) answered: Option<Instant>,
    /// It has been current; records were exchanged.
    pub(crate) greeted: bool,
    /// Channels of either side that are open or being opened.
    pub(crate) channels: usize,
    /// Another one took its place; it is closed with its last channel.
    pub(crate) retired: bool,
    /// It was told to close.
    pub(crate) closing: bool,
    /// Whose records the peer has to be told of.
    pub(crate) news: BTreeSet<PeerId>,
    /// Our tickets have to be shown.
    pub(crate) tickets_due: bool,
    /// Records of the peer's that may be looked at.
    pub(crate) budget: Bucket,
}

/// Whose channel a label is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChannelOwner {
    /// A subscription of ours, towards a producer.
    Inbound(NodeId, u64, PeerId),
    /// A publication of ours, and the serving's number.
    Outbound(NodeId, u64, u64),
}

/// Names a channel: our side's label in a session.
pub(crate) type ChannelName = (ReceiverIndex, Label);

/// A publication.
pub(crate) struct PublicationState {
    pub(crate) shared: Arc<PublicationShared>,
    pub(crate) servings: BTreeMap<u64, OutboundChannel>,
    /// Legs of this engine that are over for the clerk but still hold a cursor in the ring.
    pub(crate) draining: BTreeSet<u64>,
    /// Nobody is let in any more.
    pub(crate) closed: bool,
    /// Some channel did not end in good order after the close.
    pub(crate) broken: bool,
    /// Who keeps the ring full, while it is full.
    pub(crate) watch: Option<Watch>,
}

/// One consumer of a publication.
pub(crate) struct OutboundChannel {
    pub(crate) end: OutboundEnd,
    pub(crate) peer: PeerId,
    pub(crate) channel: Arc<Channel>,
    /// The verdict that let it in holds until then.
    pub(crate) until: Option<Instant>,
}

/// Where the other end of a serving is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OutboundEnd {
    /// In another engine.
    Remote(ChannelName),
    /// In this one. The number of the leg.
    Local(u64),
}

/// A leg between two nodes of this engine, or within one.
pub(crate) struct LocalLeg {
    pub(crate) producer: (NodeId, u64, u64),
    pub(crate) consumer: (NodeId, u64, PeerId),
    pub(crate) reader: ReaderId,
    pub(crate) shared: Arc<ChannelShared>,
}

/// A subscription.
pub(crate) struct SubscriptionState {
    pub(crate) shared: Arc<SubscriptionShared>,
    pub(crate) pursuits: BTreeMap<PeerId, InboundChannel>,
}

/// A producer that a subscription wants.
pub(crate) struct InboundChannel {
    pub(crate) stage: Stage,
    /// The channel of this attempt, or of the last one: so that the user sees why it is over.
    pub(crate) channel: Option<Arc<Channel>>,
    /// Attempts that failed since it was connected last.
    pub(crate) failures: u32,
    /// Since when it has not been connected.
    pub(crate) since: Instant,
    /// The verdict that accepted the producer holds until then.
    pub(crate) until: Option<Instant>,
}

/// How far a pursuit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be looked at.
    Fresh,
    /// There is no session yet.
    WantsSession,
    /// Asked for.
    Opening(ReceiverIndex, u64),
    /// Connected.
    Open(ReceiverIndex, Label),
    /// Connected, in this engine.
    Local(u64),
    /// It failed and is tried again after a while.
    Waits,
    /// It was refused for a reason that only a change of one of the two peers can take away.
    Refused(CloseCode),
    /// It was tried for as long as the backoff says.
    GivenUp,
}

impl Stage {
    /// Whether nothing is in progress or connected.
    pub(crate) fn is_at_rest(self) -> bool {
        matches!(self, Self::Fresh | Self::WantsSession | Self::Waits | Self::Refused(_) | Self::GivenUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_what_a_second_brings() {
        let start = Instant::ZERO;
        let mut bucket = Bucket::new(10, start);
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 10);
        let half = start + Duration::from_millis(500);
        assert_eq!((0..20).filter(|_| bucket.take(half)).count(), 5);
        let later = start + Duration::from_secs(1_000);
        assert_eq!((0..50).filter(|_| bucket.take(later)).count(), 10);
    }
}
