//! Events and errors of a session.

use alloc::{boxed::Box, vec::Vec};
use core::{net::SocketAddr, time::Duration};

use crate::{
    channel::{ChannelStats, Label},
    wire::{Accept, CloseCode, MAX_TICKETS, OpenRequest, TypeName},
};

/// What happened in a session. Polled with [`super::Session::poll_event`] after each packet and each timeout,
/// and before [`super::Session::poll_transmit`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// The first packet of the peer opened, so it holds the keys.
    Confirmed,
    /// Producer: the peer asks for a stream. Answer with `accept` or `reject`.
    Opened {
        /// The channel.
        label: Label,
        /// What the peer asks for.
        request: OpenRequest,
    },
    /// Consumer: the producer accepted. Datums are delivered only after this event could have been polled.
    Accepted {
        /// The channel.
        label: Label,
        /// What the producer grants; `weight` is not sent, and 1 here.
        accept: Accept,
    },
    /// Consumer: the producer refused. The channel is gone.
    Rejected {
        /// The channel.
        label: Label,
        /// Why.
        code: CloseCode,
        /// The producer's datum type and codec, with `TYPE_MISMATCH`.
        type_name: TypeName,
    },
    /// Producer: [`super::Session::released`] moved since the last event of this kind.
    Released {
        /// The channel.
        label: Label,
    },
    /// Consumer: the producer waits for credit. The owner should `grant` what the application took.
    Blocked {
        /// The channel.
        label: Label,
    },
    /// The channel ended in good order: everything before the end was delivered (consumer) or acknowledged
    /// (producer; sent, on FireAndForget). The channel is gone.
    Finished {
        /// The channel.
        label: Label,
        /// Its final counters. `in_order` is the end of the stream; the sequences between the last delivered
        /// datum and it are missing, which no later datum can report.
        stats: Box<ChannelStats>,
    },
    /// The channel was ended at once. It is gone.
    Reset {
        /// The channel.
        label: Label,
        /// Why.
        code: CloseCode,
        /// Whether the peer did it; otherwise this session did.
        by_peer: bool,
        /// Its final counters. At the consumer `in_order` is where a new channel continues
        /// ([`crate::channel::Resume`]), or with `DISCARDED` the end of the stream; at the producer
        /// `released` is how far the consumer has received.
        stats: Box<ChannelStats>,
    },
    /// The peer has been silent for a while, though something waits for its acknowledgement. It may be
    /// stopped, or the path cut; the session goes on until `dead_after`.
    Suspect {
        /// How long it has been silent.
        silent_for: Duration,
    },
    /// A packet of the peer arrived after `Suspect`.
    Recovered,
    /// The peer has moved, and receives what is sent to this address: packets go there from now on.
    AddressChanged {
        /// Its new address.
        to: SocketAddr,
    },
    /// The current key should be replaced: the owner starts a handshake and passes its key to
    /// [`super::Session::rekey`]. Once per key. Without a new key the session ends with `KEY_EXHAUSTED`.
    RekeyDue,
    /// Packets are sealed under a new key from now on. The peer has it.
    Rekeyed {
        /// Which of the session's keys it is.
        phase: u8,
    },
    /// A message that the peer's owner passed to `send_control`.
    Control(Vec<u8>),
    /// The session has ended. It is the last event. [`super::Session::stats`] still answers for the channels
    /// that ended with it: `in_order` is where a new channel continues.
    Closed {
        /// Why.
        code: CloseCode,
        /// Whether the peer did it.
        by_peer: bool,
    },
}

/// Why a packet had no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Dropped {
    /// Too short, too long, or not a data packet of this session.
    #[error("not a packet of this session")]
    Malformed,
    /// Its number was seen, or is behind the replay window.
    #[error("replayed packet")]
    Replay,
    /// It was not sealed by the peer.
    #[error("packet did not authenticate")]
    Auth,
    /// Its key was dropped, has stopped, or has not been established.
    #[error("packet under a key that was dropped, has stopped, or has not been established")]
    OtherKey,
    /// The session is closed.
    #[error("the session is closed")]
    Closed,
    /// It authenticated and broke a rule: the session closes with this code.
    #[error("the peer broke a rule: {0}")]
    Violation(CloseCode),
}

/// Why a channel could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenChannelError {
    /// The session is closing.
    #[error("the session is closing; open again in the next one")]
    Closed,
    /// As many channels as `max_channels` are open.
    #[error("as many channels as `max_channels` are open; close one first")]
    TooManyChannels,
    /// Criteria and tickets are larger than a control message may be.
    #[error("criteria and tickets are {len} bytes, the limit is {limit}; make them shorter")]
    TooLarge {
        /// Bytes of the encoded request.
        len: usize,
        /// Most bytes allowed.
        limit: usize,
    },
    /// There are more tickets than [`MAX_TICKETS`].
    #[error("there are more than {MAX_TICKETS} tickets; show fewer")]
    TooManyTickets,
    /// The queue of control messages is full.
    #[error("the queue of control messages is full; try again once the peer answers")]
    Full,
}

/// Why a control message was not queued. The message is returned.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ControlError {
    /// The queue is full.
    #[error("the queue of control messages is full; try again once the peer answers")]
    Full(Vec<u8>),
    /// The message is larger than a control message may be.
    #[error("a control message of {} bytes is too long; the limit is {limit}", .message.len())]
    TooLarge {
        /// The message.
        message: Vec<u8>,
        /// Most bytes allowed.
        limit: usize,
    },
    /// The session is closing.
    #[error("the session is closing")]
    Closed(Vec<u8>),
}

/// The channel does not exist, or is not in the state that the call needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the channel does not exist, or is not in the state that the call needs")]
pub struct NoChannel;
