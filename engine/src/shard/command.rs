//! The commands that the clerk sends to a shard, and the events that a shard sends to the clerk.
//!
//! Both directions are bounded mailboxes. A command for a session or channel that is gone is counted and
//! dropped: the event that reports its end is already on its way. `super::control` applies commands.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use corewire_proto::{
    channel::{Label, OpenRequest, PublicationId, Reliability, TypeName},
    seal::{KeyBytes, SessionKeys},
    session::{CloseCode, SessionConfig},
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::{Reader, Ring, mailbox};

use super::inbox::TakenHook;
pub use crate::shared::keys::NodeId;
use crate::{
    driver::{PathFault, Socket},
    shared::{ChannelShared, path::PathShared, publication::StreamEnd},
};

/// A session with keys that the shard is to own from now on.
#[derive(Debug)]
pub struct Install {
    /// Where the session lives: this shard, a slot that the clerk keeps free, a generation it never used
    /// there.
    pub index: ReceiverIndex,
    /// What the peer wants to read in the headers of our packets.
    pub remote_index: ReceiverIndex,
    /// The node whose socket carries the session.
    pub node: NodeId,
    /// The address of this host that the peer has called, if it has called and there are several.
    pub source: Option<IpAddr>,
    /// The peer's address. The session follows its peer to another one.
    pub to: SocketAddr,
    /// The keys that the handshake gave.
    pub keys: SessionKeys,
    /// Random bytes that the peer does not know, for challenges to an address that it may have moved to.
    pub path_secret: KeyBytes,
    /// Where its measurements are shown.
    pub path: Arc<PathShared>,
    /// Limits and times of the session.
    pub config: SessionConfig,
}

/// A new key for a session that goes on.
#[derive(Debug)]
pub struct Rekey {
    /// The session.
    pub index: ReceiverIndex,
    /// Which of the session's keys it is.
    pub phase: u8,
    /// The keys that the handshake gave.
    pub keys: SessionKeys,
    /// Whether the peer is known to have them.
    pub confirmed: bool,
}

/// The shard's ends of its two mailboxes.
#[derive(Debug)]
pub struct ShardEnds {
    /// From the clerk.
    pub commands: mailbox::Receiver<Command>,
    /// To the clerk.
    pub events: mailbox::Sender<Event>,
}

/// A channel that the peer asked for and that is to be served.
#[derive(Debug)]
pub struct AcceptChannel {
    /// The session.
    pub index: ReceiverIndex,
    /// The label of the request.
    pub label: Label,
    /// The ring to read. The shard has one cursor in it, however many channels it serves.
    pub ring: Ring,
    /// How the channel ends when the ring is closed.
    pub end: Arc<StreamEnd>,
    /// The scheduler's weight, at least 1.
    pub weight: u8,
    /// What the channel promises: the lesser of what stream and consumer want.
    pub reliability: Reliability,
    /// Which life of the stream's sequence the ring holds.
    pub publication: PublicationId,
    /// Where the consumer's former channel ended, if its position was kept. Otherwise the channel begins with
    /// the next record.
    pub resume: Option<ResumePoint>,
    /// State and numbers of the channel.
    pub handle: Arc<ChannelShared>,
}

/// Where a channel begins that continues another one.
#[derive(Debug)]
pub struct ResumePoint {
    /// The first sequence that the consumer has not seen.
    pub next_seq: u64,
    /// Holds the ring at that sequence or before it; after an eviction, later.
    pub parked: Reader,
}

/// From the clerk to a shard.
#[derive(Debug)]
pub enum Command {
    /// Receive for `node` on this socket, and send its packets from there. A node may have several; a peer is
    /// reached through the first one that fits its address.
    AddSocket {
        /// The node.
        node: NodeId,
        /// A bound socket of the kind that the shard's driver takes.
        socket: Socket,
    },
    /// Close every session of `node` in good order, then its sockets.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// Send this datagram as it is: a handshake message.
    SendDatagram {
        /// From the socket of this node.
        node: NodeId,
        /// From this address of the host (see [`Route::source`](crate::driver::Route)).
        source: Option<IpAddr>,
        /// To this address.
        to: SocketAddr,
        /// The whole datagram.
        bytes: Vec<u8>,
    },
    /// Own this session.
    InstallSession(Box<Install>),
    /// Go on with this session under a new key.
    RekeySession(Box<Rekey>),
    /// Measure the round trip of a session.
    MeasurePath {
        /// The session.
        index: ReceiverIndex,
    },
    /// Close a session: the peer gets the code, and every channel ends with it.
    CloseSession {
        /// The session.
        index: ReceiverIndex,
        /// Why.
        code: CloseCode,
    },
    /// Ask the peer for a channel of a stream that it produces.
    OpenChannel {
        /// The session.
        index: ReceiverIndex,
        /// Comes back in the event that answers this command.
        open_id: u64,
        /// What is asked for. Its window and its largest datum also decide the size of the inbox.
        request: Box<OpenRequest>,
        /// State and numbers of the channel.
        handle: Arc<ChannelShared>,
    },
    /// Take a request for a channel back. When it was answered before this command came, nothing changes.
    WithdrawOpen {
        /// The session.
        index: ReceiverIndex,
        /// From [`Command::OpenChannel`].
        open_id: u64,
    },
    /// Serve a channel that the peer asked for.
    AcceptChannel(Box<AcceptChannel>),
    /// Refuse a channel that the peer asked for.
    RejectChannel {
        /// The session.
        index: ReceiverIndex,
        /// The label of the request.
        label: Label,
        /// Why.
        code: CloseCode,
        /// The producer's datum type and codec, with `TYPE_MISMATCH`; else empty.
        type_name: TypeName,
    },
    /// End a channel at once, from either end.
    ResetChannel {
        /// The session.
        index: ReceiverIndex,
        /// The channel.
        label: Label,
        /// Why.
        code: CloseCode,
    },
    /// Say when a channel, at the producer's end, needs no record below a sequence any more:
    /// [`Event::Marked`]. When it ends first, its end is the answer. A channel has one such mark: the next
    /// takes its place.
    Mark {
        /// The session.
        index: ReceiverIndex,
        /// The channel.
        label: Label,
        /// The sequence.
        seq: u64,
    },
    /// Carry these bytes to the peer's clerk, reliably and in order.
    SendControl {
        /// The session.
        index: ReceiverIndex,
        /// One message.
        bytes: Vec<u8>,
    },
    /// Send what closed rings still hold, close every session, stop.
    Shutdown {
        /// The driver's time at which the shard stops in any case.
        deadline: Instant,
    },
}

/// From a shard to the clerk.
#[derive(Debug)]
pub enum Event {
    /// An error came back for a datagram. A hint, which is lost when the clerk is behind.
    Unreachable {
        /// The node that sent the datagram.
        node: NodeId,
        /// Where it was to go.
        to: SocketAddr,
        /// What is wrong.
        fault: PathFault,
    },
    /// A handshake datagram came. Dropped and counted when the clerk's mailbox is full.
    Handshake {
        /// The node whose socket it came to.
        node: NodeId,
        /// The shard that received it.
        shard: u8,
        /// The sender's address.
        from: SocketAddr,
        /// The address that it was sent to (see [`Received::at`](crate::driver::Received)).
        at: Option<IpAddr>,
        /// The whole datagram.
        bytes: Vec<u8>,
    },
    /// The first packet under the session's keys was opened: the peer has them too.
    Confirmed {
        /// The session.
        index: ReceiverIndex,
    },
    /// The peer has been silent since `since`, though something waits for its acknowledgement. It may be
    /// stopped or cut off; the session goes on.
    Suspect {
        /// The session.
        index: ReceiverIndex,
        /// When the silence began.
        since: Instant,
    },
    /// A packet of the peer came after [`Event::Suspect`].
    Recovered {
        /// The session.
        index: ReceiverIndex,
    },
    /// The peer has moved: the session's packets go to its new address from now on.
    PeerMoved {
        /// The session.
        index: ReceiverIndex,
        /// The address of this host that the peer has called, if there are several.
        source: Option<IpAddr>,
        /// The peer's address.
        to: SocketAddr,
    },
    /// The session's key should be replaced; it stops some time after. Comes once per key.
    RekeyDue {
        /// The session.
        index: ReceiverIndex,
    },
    /// The session's packets are sealed under a new key, which the peer has too.
    Rekeyed {
        /// The session.
        index: ReceiverIndex,
        /// Which of the session's keys it is.
        phase: u8,
    },
    /// The session is gone and its slot may be used again.
    SessionClosed {
        /// The session.
        index: ReceiverIndex,
        /// Why.
        code: CloseCode,
        /// Its peer closed it.
        by_peer: bool,
    },
    /// The peer's clerk sent this.
    Control {
        /// The session.
        index: ReceiverIndex,
        /// One message.
        bytes: Vec<u8>,
    },
    /// [`Command::SendControl`] found the session's queue of such messages full.
    ControlRefused {
        /// The session.
        index: ReceiverIndex,
        /// The message, given back.
        bytes: Vec<u8>,
    },
    /// The peer wants a channel of a stream of ours. Answer with accept or reject.
    ChannelRequested {
        /// The session.
        index: ReceiverIndex,
        /// The label that the peer gave it.
        label: Label,
        /// What it asks for.
        request: Box<OpenRequest>,
    },
    /// An accepted channel has its place in the ring: it reads everything that is published from here on.
    ChannelServed {
        /// The session.
        index: ReceiverIndex,
        /// The channel.
        label: Label,
        /// The sequence of its first datum.
        first_seq: u64,
    },
    /// A channel needs no record below the sequence of a [`Command::Mark`] any more: the consumer's end has
    /// them or, if the channel is not reliable, they were sent.
    Marked {
        /// The session.
        index: ReceiverIndex,
        /// The channel.
        label: Label,
        /// The sequence of the mark.
        seq: u64,
    },
    /// The peer accepted a channel that we asked for.
    ChannelAccepted {
        /// The session.
        index: ReceiverIndex,
        /// From [`Command::OpenChannel`].
        open_id: u64,
        /// The channel's label from now on.
        label: Label,
        /// Which life of the producer's sequence it carries.
        publication: PublicationId,
        /// The first sequence that it can deliver.
        first_seq: u64,
        /// The consumer's end of the inbox.
        reader: Reader,
        /// What returns the consumer's credit.
        taken: TakenHook,
    },
    /// A channel that we asked for was refused.
    ChannelRejected {
        /// The session.
        index: ReceiverIndex,
        /// From [`Command::OpenChannel`].
        open_id: u64,
        /// Why.
        code: CloseCode,
    },
    /// A channel is over, at either end. Its inbox, if it has one, is closed; the datums in it stay readable.
    ChannelClosed {
        /// The session.
        index: ReceiverIndex,
        /// The channel.
        label: Label,
        /// Why. `GRACEFUL` after the producer's FIN and everything before it.
        code: CloseCode,
        /// Of a producer's end that may be resumed: a reader at the first record that the consumer has not
        /// acknowledged.
        parked: Option<Reader>,
    },
    /// A socket could not be added; the node can neither send nor receive through it on this shard.
    SocketRefused {
        /// The node.
        node: NodeId,
        /// The shard.
        shard: u8,
        /// The system's answer.
        error: std::io::Error,
    },
    /// The shard has stopped and owns nothing. It is the last event.
    ShardStopped {
        /// The shard.
        shard: u8,
        /// The text of the panic or of the driver's failure that ended it, if one did.
        failure: Option<String>,
    },
}
