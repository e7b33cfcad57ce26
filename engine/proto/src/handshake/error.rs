//! Why a handshake packet came to nothing. Not inside: an answer. None is ever sent.

/// Why a handshake packet was dropped or a handshake could not start. Nothing is sent to whoever caused it; the
/// variants exist to be counted ([`HandshakeError::COUNT`] of them, `error as usize` is the place).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, thiserror::Error)]
#[repr(u8)]
pub enum HandshakeError {
    /// No header of a handshake packet of this protocol version.
    #[error("no header of this protocol version")]
    Header,
    /// Not exactly as long as its kind.
    #[error("not as long as a packet of its kind")]
    Length,
    /// A kind that this side of the handshake does not take.
    #[error("a kind of packet that this side does not expect")]
    Unexpected,
    /// `mac1` is not from this network's secret, or meant for another peer.
    #[error("not made with this network's secret, or not for this peer")]
    Mac,
    /// Message 1 was seen before.
    #[error("message 1 was seen before")]
    Replayed,
    /// For a handshake that is not in progress here.
    #[error("for a handshake that is not in progress here")]
    UnknownIndex,
    /// Too many handshakes in progress.
    #[error("too many handshakes in progress: try again later")]
    Busy,
    /// The Noise message does not open: another secret, another key, another network, or damaged.
    #[error("the message does not open: other secret, other key, or damaged")]
    Noise,
    /// The payload opened but makes no sense.
    #[error("the payload is malformed")]
    Payload,
    /// The certificate does not tie the peer's key to its identity.
    #[error("the certificate is not from the peer it names")]
    Certificate,
    /// Another peer than the one that was asked for.
    #[error("another peer answered")]
    PeerMismatch,
    /// This node's own identity came back.
    #[error("own message came back, or another node uses this identity")]
    OwnIdentity,
    /// No cipher in common.
    #[error("no cipher in common")]
    NoCommonSuite,
    /// A cookie that does not open or comes too often.
    #[error("a cookie that does not open, or one too many")]
    Cookie,
    /// The peer's public key cannot be used: it is a point of low order.
    #[error("the peer's public key cannot be used")]
    BadKey,
}

impl HandshakeError {
    /// How many kinds of error there are.
    pub const COUNT: usize = Self::BadKey as usize + 1;
}
