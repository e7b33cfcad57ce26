//! Why a channel or a session ended, as a number on the wire.

use core::{fmt, num::NonZeroU32};

/// The reason that closes a channel or a session.
///
/// The numbers are part of the wire format. Those for refusing a stream are mosaik's. Unknown numbers are
/// passed on unchanged, so that the code of a newer peer can be logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(NonZeroU32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:literal;)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self(NonZeroU32::new($number).unwrap());)*

            /// The meaning in a few words; `None` for a number that this version does not know.
            pub const fn text(self) -> Option<&'static str> {
                match self.0.get() {
                    $($number => Some($text),)*
                    _ => None,
                }
            }

            /// Whether the same attempt can succeed later; `true` for unknown numbers.
            pub const fn is_retriable(self) -> bool {
                match self.0.get() {
                    $($number => $retry,)*
                    _ => true,
                }
            }
        }
    };
}

codes! {
    /// The owner ended it in good order.
    GRACEFUL = 10_200, "closed in good order", true;
    /// A frame could not be decoded, or contradicted the protocol.
    PROTOCOL_VIOLATION = 10_400, "the peer broke the protocol", false;
    /// A predicate or a ticket did not admit the consumer.
    NOT_ALLOWED = 10_403, "not allowed", false;
    /// The peer does not produce this stream.
    STREAM_NOT_FOUND = 10_404, "stream not found", true;
    /// There was no channel and no message for the idle timeout.
    IDLE = 10_408, "idle for too long", true;
    /// A newer session, channel or start of the peer replaced it.
    SUPERSEDED = 10_409, "superseded by a newer one", true;
    /// A consumer kept the ring full for longer than the producer's grace.
    TOO_SLOW = 10_413, "too slow", true;
    /// A datum is larger than the other side takes.
    TOO_LARGE = 10_414, "a datum is too large", false;
    /// Producer and consumer name the stream alike, and its datums differ: another type, or another codec.
    TYPE_MISMATCH = 10_415, "another datum type or codec", false;
    /// The consumer takes the stream from another producer, which it prefers.
    NOT_PREFERRED = 10_420, "the consumer prefers another producer", true;
    /// The consumer's criteria ask for keys that the producer's datums do not have.
    CRITERIA_MISMATCH = 10_422, "no such keys as the criteria ask for", false;
    /// Data arrived that no credit covered.
    CREDIT_VIOLATION = 10_429, "the peer exceeded its credit", false;
    /// The producer ended the stream before its proper end, or its session before the stream's.
    ABORTED = 10_499, "ended before its time", true;
    /// The producer ended the stream and dropped what was not delivered yet.
    DISCARDED = 10_498, "ended, and the rest was dropped", true;
    /// The key reached its limit, and no new one was established.
    KEY_EXHAUSTED = 10_495, "the session key is used up", true;
    /// The peer's host reports that the peer's port is closed, and no packet arrived from the peer.
    PEER_GONE = 10_503, "the peer is gone: its port is closed", true;
    /// Packets in flight were answered by no packet of the peer for the dead-peer time.
    PEER_LOST = 10_504, "the peer does not answer", true;
    /// A configured bound was reached.
    NO_CAPACITY = 10_509, "no capacity", true;
    /// The peer answers, but a datum was not acknowledged for the give-up time: the path loses it each time,
    /// or carries no packets of 288 bytes.
    GAVE_UP = 10_598, "retransmission given up", true;
}

impl CloseCode {
    /// The code with this number; `None` for zero, which no code has.
    pub const fn from_number(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{text} ({})", self.0),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn known_codes_have_a_text_and_unknown_ones_keep_their_number() {
        assert_eq!(CloseCode::TOO_SLOW.to_string(), "too slow (10413)");
        assert_eq!(CloseCode::from_number(77).unwrap().to_string(), "code 77");
        assert_eq!(CloseCode::from_number(0), None);
        assert!(!CloseCode::NOT_ALLOWED.is_retriable() && !CloseCode::TYPE_MISMATCH.is_retriable());
        assert!(CloseCode::TOO_SLOW.is_retriable());
    }
}
