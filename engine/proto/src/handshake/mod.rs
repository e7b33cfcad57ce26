//! How two peers that share a network secret come to have keys.
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
//! - Keys come from Noise's `Split()` and from nothing else, so somebody who holds the network secret and has
//!   recorded everything cannot compute them.
//! - Before anything is allocated or any curve is touched, a packet must have the exact length of its kind and a
//!   16-byte keyed hash (`mac1`) from the network secret. Who fails gets no reply: [`HandshakeError`] is for
//!   counting.
//! - Under load the responder answers message 1 with a cookie bound to the address, and goes on only with those
//!   who return it (`mac2`). No reply is longer than what asked for it.
//! - Each side shows its Ed25519 key and the certificate that ties its X25519 key to it, inside the encryption.
//! - Message 1 alone can be replayed. It has no effect but a reply: the session it leads to becomes current only
//!   when a packet opens under its keys (see [`PeerSessions`]).
//!
//! [`Initiator`] is one attempt to reach one peer. [`Responder`] answers all comers of one node. Both are told
//! the time and given their randomness, so the same input always gives the same packets.
//!
//! Not inside: who may have a session (the clerk decides between [`Responder::handle_packet`] and
//! [`Responder::accept`]), budgets of CPU time, tables of sessions, and where a packet comes from or goes to.
//!
//! One known limit: `snow` does not erase its working state when it is dropped. The keys that leave it, our copies
//! of secret keys, and the randomness are erased here.

mod cookie;
mod credentials;
mod error;
mod initiator;
mod noise;
mod packet;
mod peer_sessions;
mod recent;
mod responder;

#[cfg(test)]
mod tests;

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
pub use responder::{HandshakeLoad, HandshakeRequest, Hello, Responder, ResponderConfig, ResponderEvent};

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
    /// Where this node expects the answer and then the session's packets; free at this node.
    pub index: ReceiverIndex,
    /// From [`PeerSessions::next_generation`] for a session of its own; 0 where the peer is not known yet. For a new key of a
    /// session that goes on, from [`next_key`].
    pub generation: u16,
    /// Counts this node's attempts since its start, from 1, to whatever peer: tells the peer which of two first
    /// messages is the later one, without a clock.
    pub number: u32,
}

/// What a finished handshake is worth.
#[derive(Debug)]
pub struct HandshakeOutcome {
    /// The session's keys.
    pub keys: SessionKeys,
    /// The index under which this side expects packets.
    pub local_index: ReceiverIndex,
    /// The index that goes into the packets to the other side.
    pub remote_index: ReceiverIndex,
    /// Who the other side is.
    pub peer: PeerId,
    /// Its Ed25519 public key.
    pub peer_key: [u8; 32],
    /// Its X25519 public key, certified by the former.
    pub peer_static: [u8; 32],
    /// Which validity period that key is for.
    pub peer_validity: u64,
    /// Differs from start to start of the peer: sessions with another one are of no use any more.
    pub peer_boot: u64,
    /// What the peer can take.
    pub peer_limits: PeerLimits,
    /// Counts the sessions with this peer, or the keys of one session, as the initiator saw it (see
    /// [`AttemptParams::generation`]).
    pub generation: u16,
    /// The initiator's number of the attempt (see [`AttemptParams::number`]).
    pub attempt: u32,
    /// Which side this one was.
    pub role: HandshakeRole,
    /// Whether the other side has shown that it holds the keys. If not, the session waits in the slot `next` until
    /// a packet opens under it, and nothing but empty packets should be sent by a responder.
    pub confirmed: bool,
}

/// Set in the generation of a handshake for the next key of a session that goes on; never in that of a handshake for
/// a session.
const FOR_KEY: u16 = 1 << 15;

const _: () =
    assert!(FOR_KEY.is_multiple_of(PHASES as u16), "the count of keys and their phases go round together");

/// The generation of a handshake for the next key of a session whose current one has `generation` (0 for its first).
/// Its low four bits are the key's phase (see [`crate::session::NewKey`]).
pub const fn next_key(generation: u16) -> u16 {
    generation.wrapping_add(1) | FOR_KEY
}

/// Which of a session's keys a handshake of this generation is for.
pub const fn key_phase(generation: u16) -> u8 {
    (generation % PHASES as u16) as u8
}

impl HandshakeOutcome {
    /// The two ends of the session's encryption. `jitter` is a random byte (see [`KeyLimits::jittered`]).
    pub fn seals(&self, max_packet_bytes: usize, jitter: u8, now: Instant) -> (Sealer, Opener) {
        let limits = KeyLimits::new(self.keys.suite, max_packet_bytes).jittered(jitter);
        (
            Sealer::with_limits(self.keys.suite, &self.keys.send, limits, now),
            Opener::with_limits(self.keys.suite, &self.keys.recv, limits, now),
        )
    }
}
