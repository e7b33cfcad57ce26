//! How two peers that share a network secret agree on session keys.
//!
//! Two Noise patterns, run by the crate `snow`:
//!
//! ```text
//! IKpsk2, when the responder's key is known          XXpsk3, to join by address
//!   initiator             responder                    initiator             responder
//!      | Init (288) ----------> |                         | Hello (288) ---------> |
//!      | <---------- Reply (240) |                        | <---- HelloReply (288) |
//!      |                        |                         | HelloFinish (256) ---> |
//! ```
//!
//! - Keys come from Noise's `Split()` only, so the network secret and a recording of all packets do not give
//!   them away.
//! - Before anything is allocated or a curve operation runs, a packet must have the exact length of its kind
//!   and a 16-byte keyed hash (`mac1`) from the network secret. Other packets get no reply;
//!   [`HandshakeError`] counts them.
//! - Under load the responder answers message 1 with a cookie bound to the address, and goes on only with
//!   packets that return it (`mac2`). No reply is longer than the packet that it answers.
//! - Each side presents, encrypted, its Ed25519 key and the certificate that ties its X25519 key to it.
//! - Message 1 alone can be replayed. The only effect is a reply: the session that it leads to becomes
//!   current only when a packet opens under its keys (see [`PeerSessions`]).
//!
//! [`Initiator`] is one attempt to reach one peer. [`Responder`] answers the handshakes of one node. Both get
//! time and randomness from the caller, so the same input gives the same packets.
//!
//! Not inside: who may have a session (the caller decides between [`Responder::handle_packet`] and
//! [`Responder::accept`]), limits on CPU time, sockets.
//!
//! Known limit: `snow` does not erase its working state when dropped. The keys that leave it, this crate's
//! copies of secret keys, and the randomness are erased.

mod cookie;
mod credentials;
mod error;
mod initiator;
mod noise;
mod packet;
mod peer_sessions;
mod recent;
mod responder;

pub use credentials::{Credentials, CredentialsConfig, NetworkSecret, PeerLimits, WeakSecret};
pub use error::HandshakeError;
pub use initiator::{
    GIVE_UP_AFTER, Initiator, InitiatorProgress, InitiatorTimeout, RETRY_FIRST, RETRY_MAX, Target,
};
pub use packet::{
    COOKIE_BYTES, HELLO_BYTES, HELLO_FINISH_BYTES, HELLO_REPLY_BYTES, INIT_BYTES, MAX_HANDSHAKE_BYTES,
    REPLY_BYTES,
};
pub use peer_sessions::{EstablishedSession, InitVerdict, PeerSessions, PeerSessionsConfig};
pub use responder::{
    HandshakeLoad, HandshakeRequest, Hello, Responder, ResponderConfig, ResponderEvent, host_of,
};

use crate::{
    ids::PeerId,
    seal::{KeyLimits, Opener, Sealer, SessionKeys},
    time::Instant,
    wire::header::{PHASES, ReceiverIndex},
};

/// Which side of a handshake a peer was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeRole {
    /// It sent the first message.
    Initiator,
    /// It answered.
    Responder,
}

/// What an initiator chooses for one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptParams {
    /// The index for the answer and then for the session's packets; free at this node.
    pub index: ReceiverIndex,
    /// From [`PeerSessions::next_generation`] for a new session, or 0 where the peer is not known yet; from
    /// [`next_key`] for a new key of an open session.
    pub generation: u16,
    /// Counts this node's attempts to all peers since its start, from 1, so that the peer can order first
    /// messages without a clock.
    pub number: u32,
}

/// The result of a finished handshake.
#[derive(Debug)]
pub struct HandshakeOutcome {
    /// The session's keys.
    pub keys: SessionKeys,
    /// The index for packets to this side.
    pub local_index: ReceiverIndex,
    /// The index for packets to the peer.
    pub remote_index: ReceiverIndex,
    /// The peer.
    pub peer: PeerId,
    /// Its Ed25519 public key.
    pub peer_key: [u8; 32],
    /// Its X25519 public key, certified by the former.
    pub peer_static: [u8; 32],
    /// The validity period of that key.
    pub peer_validity: u64,
    /// Drawn at each start of the peer; sessions with another value are obsolete.
    pub peer_boot: u64,
    /// What the peer accepts.
    pub peer_limits: PeerLimits,
    /// The number of the session with this peer, or of the key of a session (see
    /// [`AttemptParams::generation`]).
    pub generation: u16,
    /// The initiator's number of the attempt (see [`AttemptParams::number`]).
    pub attempt: u32,
    /// The side of this node.
    pub role: HandshakeRole,
    /// Whether the peer has proved that it holds the keys. If not, the session waits as `next` until a packet
    /// opens under it, and a responder should send only empty packets.
    pub confirmed: bool,
}

/// Flag in the generation of a handshake that is for the next key of an open session.
const FOR_KEY: u16 = 1 << 15;

const _: () =
    assert!(FOR_KEY.is_multiple_of(PHASES as u16), "the count of keys wraps together with their phases");

/// The generation of a handshake for the key after the one of `generation` (0 for a session's first). Its low
/// four bits are the key's phase (see [`crate::session::NewKey`]).
pub const fn next_key(generation: u16) -> u16 {
    generation.wrapping_add(1) | FOR_KEY
}

/// The phase of the key that a handshake of this generation is for.
pub const fn key_phase(generation: u16) -> u8 {
    (generation % PHASES as u16) as u8
}

impl HandshakeOutcome {
    /// Sealer and opener of the session. `jitter` is a random byte (see [`KeyLimits::jittered`]).
    pub fn seals(&self, jitter: u8, now: Instant) -> (Sealer, Opener) {
        let limits = KeyLimits::new(self.keys.suite).jittered(jitter);
        (
            Sealer::with_limits(self.keys.suite, &self.keys.send, limits, now),
            Opener::with_limits(self.keys.suite, &self.keys.recv, limits, now),
        )
    }
}

#[cfg(test)]
mod tests;
