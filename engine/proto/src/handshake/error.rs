//! Errors of a handshake.

/// Why a handshake packet was dropped, or a handshake could not start. No answer is sent; the variants exist
/// to be counted (`error as usize` is below [`HandshakeError::COUNT`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, thiserror::Error)]
#[repr(u8)]
pub enum HandshakeError {
    /// No header of a handshake packet of this protocol version.
    #[error("no header of this protocol version")]
    Header,
    /// Not exactly as long as packets of its kind.
    #[error("not as long as a packet of its kind")]
    Length,
    /// A kind of packet that this side does not expect.
    #[error("a kind of packet that this side does not expect")]
    Unexpected,
    /// `mac1` was not made with this network's secret, or is for another peer.
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
    /// The payload opened but is malformed.
    #[error("the payload is malformed")]
    Payload,
    /// The certificate is not from the peer that it names.
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
    /// A cookie that does not open, or one too many.
    #[error("a cookie that does not open, or one too many")]
    Cookie,
    /// The peer's public key cannot be used: it is a point of low order.
    #[error("the peer's public key cannot be used")]
    BadKey,
}

impl HandshakeError {
    /// The number of variants.
    pub const COUNT: usize = Self::BadKey as usize + 1;
}
