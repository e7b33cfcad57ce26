//! What happens to channels, for handles that want to be told of each thing in order.
//!
//! Not inside: the queue of a handle (the typed layer's).

use std::{fmt, sync::Arc};

use corewire_proto::{PeerId, channel::TypeName, session::CloseCode};

use super::Channel;

/// Two datum types, each with its codec, under the name of one stream. Each name has a limited length; one
/// that was cut ends with three dots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeMismatch {
    /// At this end.
    pub ours: TypeName,
    /// At the other end.
    pub theirs: TypeName,
}

impl fmt::Display for TypeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs } = self;
        write!(
            f,
            "the datums are {ours} here and {theirs} there: use one type and codec, or another stream id"
        )
    }
}

/// Something that happened to a channel, or to the wish for one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// It carries datums.
    Connected {
        /// The channel.
        channel: Arc<Channel>,
    },
    /// It is over.
    Closed {
        /// The channel.
        channel: Arc<Channel>,
        /// Why.
        code: CloseCode,
        /// At the consumer: it is tried again. At the producer: the consumer's place is kept.
        goes_on: bool,
    },
    /// None came about: the producer refused it, or this node did.
    Refused {
        /// The peer at the other end.
        peer: PeerId,
        /// Why.
        code: CloseCode,
        /// It is tried again by itself.
        goes_on: bool,
        /// What differs, with `TYPE_MISMATCH`.
        mismatch: Option<TypeMismatch>,
    },
    /// A producer was tried for as long as the backoff allows.
    GaveUp {
        /// The producer.
        producer: PeerId,
    },
    /// The peer is silent, though it has something to acknowledge.
    Suspect {
        /// The channel.
        channel: Arc<Channel>,
    },
    /// A packet of the peer has come after [`ChannelEvent::Suspect`].
    Recovered {
        /// The channel.
        channel: Arc<Channel>,
    },
    /// Datums that were accepted for a consumer will not be delivered to it by this producer.
    Undelivered {
        /// The channel on which it was connected last.
        channel: Arc<Channel>,
        /// How many. Those on their way when the channel ended may have arrived.
        datums: u64,
    },
}

impl ChannelEvent {
    /// The peer of a channel is silent, or is not any more. The channel shows it from now on.
    pub(crate) fn suspect(channel: Arc<Channel>, suspect: bool) -> Self {
        channel.shared.set_suspect(suspect);
        if suspect { Self::Suspect { channel } } else { Self::Recovered { channel } }
    }
}

/// Called for each event, in order, without any lock held. Runs on the clerk, after the channels that are
/// shown have changed and before those are woken that wait for it. A panic is caught and counted.
pub type OnEvent = Arc<dyn Fn(ChannelEvent) + Send + Sync>;

/// An event and what is to be called with it.
pub(crate) struct EventNotice {
    pub(crate) hook: OnEvent,
    pub(crate) event: ChannelEvent,
}

impl fmt::Debug for EventNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.fmt(f)
    }
}
