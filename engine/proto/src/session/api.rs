//! What goes in and out of a session besides packets.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    channel::{ChannelStats, Label},
    wire::{Accept, CloseCode, OpenRequest},
};

/// What a session wants its owner to know. Polled with [`super::Session::poll_event`] after each packet, each
/// timeout, and before [`super::Session::poll_transmit`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// The first packet of the peer opened: it holds the keys.
    Confirmed,
    /// The peer wants to consume a stream. Answer with `accept` or `reject`.
    Opened {
        /// The channel.
        label: Label,
        /// What the peer asks for.
        request: OpenRequest,
    },
    /// The producer let us in. Datums come only after this event could have been polled.
    Accepted {
        /// The channel.
        label: Label,
        /// What the producer said; its `weight` is not known here and 1.
        accept: Accept,
    },
    /// The producer refused. The channel is gone.
    Rejected {
        /// The channel.
        label: Label,
        /// Why.
        code: CloseCode,
    },
    /// Producer: [`super::Session::released`] moved since the last event of this kind.
    Released {
        /// The channel.
        label: Label,
    },
    /// Consumer: the producer waits for credit. The owner should look what the application took and `grant` it.
    Blocked {
        /// The channel.
        label: Label,
    },
    /// The channel ended in good order: everything before the end was delivered (consumer) or acknowledged
    /// (producer; sent, on FireAndForget). The channel is gone.
    Finished {
        /// The channel.
        label: Label,
        /// What it had counted by then. `in_order` is the end of the stream: what lies between the last datum that
        /// was delivered and it is missing, and no datum comes that could say so.
        stats: Box<ChannelStats>,
    },
    /// The channel was reset. The channel is gone.
    Reset {
        /// The channel.
        label: Label,
        /// Why.
        code: CloseCode,
        /// Whether the peer did it; otherwise this session had to.
        by_peer: bool,
    },
    /// The current key should be replaced: a new handshake is needed, whose key goes to
    /// [`super::Session::rekey`]. Comes once per key; without a new one the session ends with `KEY_EXHAUSTED`.
    RekeyDue,
    /// Packets are sealed under a new key from now on, and the peer has it too.
    Rekeyed {
        /// Which of the session's keys it is.
        phase: u8,
    },
    /// A message that the peer gave to `send_control`.
    Control(Vec<u8>),
    /// The session is over; nothing more happens in it.
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
    /// Its number was seen before or is too old to tell.
    #[error("replayed packet")]
    Replay,
    /// It was not sealed by the peer.
    #[error("packet did not authenticate")]
    Auth,
    /// It is under a key of the session that was replaced long ago, or is not here yet.
    #[error("packet under a key that was replaced")]
    OtherKey,
    /// The session is closed.
    #[error("the session is closed")]
    Closed,
    /// It authenticated, and broke a rule: the session closes with this code.
    #[error("the peer broke a rule: {0}")]
    Violation(CloseCode),
}

/// Why a channel could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenChannelError {
    /// The session is closing.
    #[error("the session is closing; open again in the next one")]
    Closed,
    /// As many channels as configured are open.
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
    /// Too much waits to be sent to this peer already.
    #[error("the queue of control messages is full; try again once the peer answers")]
    Full,
}

/// Why a control message was not queued. The message comes back.
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

/// The channel that a verb named is not there, or is not in the state that the verb needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such channel in this session, or it is not in a state for this")]
pub struct NoChannel;
