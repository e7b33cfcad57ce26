//! One attempt to reach one peer.
//!
//! Not inside: when to try again after an attempt came to nothing, and which address to use.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{fmt, time::Duration};

use super::{
    AttemptParams, HandshakeOutcome, HandshakeRole, cookie,
    credentials::Credentials,
    error::HandshakeError,
    noise::Noise,
    packet::{self, HELLO_PADDING_BYTES, MAC_BYTES, PAYLOAD_BYTES},
};
use crate::{
    ids::PeerId,
    seal::SecretKey,
    time::Instant,
    wire::header::{Header, PacketKind, ReceiverIndex},
};

/// An unanswered packet is sent again after this time, then after twice as long, and so on.
pub const RETRY_FIRST: Duration = Duration::from_millis(250);

/// The longest time between two sends of the same packet.
pub const RETRY_MAX: Duration = Duration::from_secs(2);

/// An attempt that has come to nothing after this time ends.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(8);

/// Cookies that one attempt reacts to. A responder changes them every two minutes.
const MAX_COOKIES: u8 = 3;

/// How often an attempt recovers from an answer with a rewritten header.
const MAX_REBUILDS: u8 = 3;

const _: () =
    assert!(RETRY_FIRST.as_nanos() < RETRY_MAX.as_nanos() && RETRY_MAX.as_nanos() < GIVE_UP_AFTER.as_nanos());

/// Whom to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A peer whose record is known.
    Known {
        /// Its name.
        peer: PeerId,
        /// Its X25519 public key.
        key: [u8; 32],
    },
    /// Whoever lives at the address to which the packets are sent.
    Address,
}

/// What a packet from the other side led to.
#[derive(Debug)]
pub enum InitiatorProgress {
    /// Send this now: the first message again, with the cookie, or the last one, which was lost.
    Send(Vec<u8>),
    /// There are keys. `send`, if any, goes out first: it is the last message of the handshake.
    Done {
        /// The session.
        outcome: Box<HandshakeOutcome>,
        /// The last message. It is sent again by [`Initiator::handle_timeout`] until [`Initiator::handle_confirmed`].
        send: Option<Vec<u8>>,
    },
}

/// What the passing of time led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InitiatorTimeout {
    /// Nothing is due yet.
    Wait,
    /// Send this again.
    Resend(Vec<u8>),
    /// The attempt is over. If there were keys already, they never were confirmed: forget the session.
    GaveUp,
}

enum InitiatorPhase {
    /// The first message is out.
    Asking(Noise),
    /// The last message is out (handshake by address), and this is the reply that it answered.
    Confirming([u8; MAC_BYTES]),
    /// Nothing is left to do.
    Over,
}

/// One attempt to reach one peer; see the module documentation for the messages.
///
/// - [`start`](Self::start) gives the first packet; [`handle_packet`](Self::handle_packet) takes packets whose receiver index is
///   [`index`](Self::index).
/// - [`poll_timeout`](Self::poll_timeout) and [`handle_timeout`](Self::handle_timeout) repeat what was lost, and
///   end the attempt after [`GIVE_UP_AFTER`].
pub struct Initiator {
    local: Arc<Credentials>,
    target: Target,
    attempt: AttemptParams,
    phase: InitiatorPhase,
    /// The state after message 1 can be built again from it.
    seed: SecretKey,
    rebuilt: u8,
    /// What is sent again.
    packet: Vec<u8>,
    cookies: u8,
    interval: Duration,
    resend_at: Instant,
    give_up_at: Instant,
}

impl Initiator {
    /// Starts an attempt. `entropy` is fresh and random, Send the packet.
    pub fn start(
        now: Instant,
        entropy: [u8; 32],
        local: Arc<Credentials>,
        target: Target,
        attempt: AttemptParams,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let seed = SecretKey::from_bytes(entropy);
        let (noise, packet) = first_message(&local, &target, attempt, &seed)?;
        let initiator = Self {
            local,
            target,
            attempt,
            phase: InitiatorPhase::Asking(noise),
            seed,
            rebuilt: 0,
            packet: packet.clone(),
            cookies: 0,
            interval: RETRY_FIRST,
            resend_at: now + RETRY_FIRST,
            give_up_at: now + GIVE_UP_AFTER,
        };
        Ok((initiator, packet))
    }

    /// The index under which this attempt, and then its session, expects packets.
    pub const fn index(&self) -> ReceiverIndex {
        self.attempt.index
    }

    /// Whom this attempt is to reach.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Takes a packet. After an error the attempt goes on as if nothing had come.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        packet: &[u8],
    ) -> Result<InitiatorProgress, HandshakeError> {
        let (header, kind) = packet::parse(packet)?;
        if header.receiver() != self.attempt.index {
            return Err(HandshakeError::UnknownIndex);
        }
        let mac_key = match kind {
            PacketKind::Cookie => return self.handle_cookie(now, packet),
            PacketKind::Reply => &self.local.mac_own,
            PacketKind::HelloReply => &self.local.mac_address,
            _ => return Err(HandshakeError::Unexpected),
        };
        if !packet::mac1_holds(packet, mac_key) {
            return Err(HandshakeError::Mac);
        }
        match (kind, &self.target, &self.phase) {
            (PacketKind::Reply, Target::Known { .. }, InitiatorPhase::Asking(_)) => {
                self.handle_reply(&header, packet)
            }
            (PacketKind::HelloReply, Target::Address, InitiatorPhase::Asking(_)) => {
                self.handle_hello_reply(now, &header, packet)
            }
            // The responder repeats its reply when it has not got our last message.
            (PacketKind::HelloReply, Target::Address, InitiatorPhase::Confirming(answered))
                if *answered == packet::mac1_of(packet) =>
            {
                Ok(InitiatorProgress::Send(self.packet.clone()))
            }
            _ => Err(HandshakeError::Unexpected),
        }
    }

    /// A packet opened under the session's keys: the peer has them, nothing needs to be repeated any more.
    pub fn handle_confirmed(&mut self) {
        if let InitiatorPhase::Confirming(_) = self.phase {
            self.phase = InitiatorPhase::Over;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called; `None` when the attempt is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            InitiatorPhase::Over => None,
            _ => Some(self.resend_at.min(self.give_up_at)),
        }
    }

    /// Says what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> InitiatorTimeout {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return InitiatorTimeout::Wait;
        }
        if now >= self.give_up_at {
            self.phase = InitiatorPhase::Over;
            return InitiatorTimeout::GaveUp;
        }
        self.interval = (self.interval * 2).min(RETRY_MAX);
        self.resend_at = now + self.interval;
        InitiatorTimeout::Resend(self.packet.clone())
    }

    fn handle_cookie(&mut self, now: Instant, packet: &[u8]) -> Result<InitiatorProgress, HandshakeError> {
        if !matches!(self.phase, InitiatorPhase::Asking(_)) {
            return Err(HandshakeError::Unexpected);
        }
        if self.cookies >= MAX_COOKIES {
            return Err(HandshakeError::Cookie);
        }
        let cookie = cookie::read(&self.local.cookie_key, &packet::mac1_of(&self.packet), packet)?;
        self.cookies += 1;
        packet::add_mac2(&mut self.packet, &cookie);
        self.resend_at = now + self.interval;
        Ok(InitiatorProgress::Send(self.packet.clone()))
    }

    fn handle_reply(&mut self, header: &Header, packet: &[u8]) -> Result<InitiatorProgress, HandshakeError> {
        let (InitiatorPhase::Asking(noise), Target::Known { peer, key }) = (&mut self.phase, &self.target)
        else {
            return Err(HandshakeError::Unexpected);
        };
        let mut payload = [0; PAYLOAD_BYTES];
        noise.read(packet::noise_part(packet), &mut payload)?;
        let (peer, key) = (*peer, *key);
        let noise = self.take_read()?;
        let other = packet::meet(&self.local, header, &key, &payload).or_else(|error| self.again(error))?;
        if other.peer != peer {
            return Err(HandshakeError::PeerMismatch);
        }
        if (other.generation, other.attempt) != (self.attempt.generation, self.attempt.number) {
            return Err(HandshakeError::Payload);
        }
        let suite = self.local.suites.agree(other.suites).ok_or(HandshakeError::NoCommonSuite)?;
        let keys = noise.into_keys(suite)?;
        let outcome = other.into_outcome(keys, self.attempt, HandshakeRole::Initiator, true);
        Ok(InitiatorProgress::Done { outcome: Box::new(outcome), send: None })
    }

    /// Takes the state out that has just read its answer. From here on the message is known to come from the owner
    /// of the key. If it is still wrong, no better one will follow, and the attempt is over.
    fn take_read(&mut self) -> Result<Noise, HandshakeError> {
        match core::mem::replace(&mut self.phase, InitiatorPhase::Over) {
            InitiatorPhase::Asking(noise) => Ok(noise),
            _ => Err(HandshakeError::Unexpected),
        }
    }

    /// The one exception: somebody in the network rewrote the header, which is not encrypted. The state before the
    /// answer is built again, and the real answer may still come.
    fn again<T>(&mut self, error: HandshakeError) -> Result<T, HandshakeError> {
        if error == HandshakeError::Payload && self.rebuilt < MAX_REBUILDS {
            let (noise, _) = first_message(&self.local, &self.target, self.attempt, &self.seed)?;
            self.phase = InitiatorPhase::Asking(noise);
            self.rebuilt += 1;
        }
        Err(error)
    }

    fn handle_hello_reply(
        &mut self,
        now: Instant,
        header: &Header,
        packet: &[u8],
    ) -> Result<InitiatorProgress, HandshakeError> {
        let InitiatorPhase::Asking(noise) = &mut self.phase else { return Err(HandshakeError::Unexpected) };
        let mut payload = [0; PAYLOAD_BYTES];
        noise.read(packet::noise_part(packet), &mut payload)?;
        let mut noise = self.take_read()?;
        let key = noise.remote_static()?;
        let other = packet::meet(&self.local, header, &key, &payload).or_else(|error| self.again(error))?;
        let suite = self.local.suites.agree(other.suites).ok_or(HandshakeError::NoCommonSuite)?;
        let own = self.attempt;
        let payload = packet::introduce(&self.local, own.index, own.generation, own.number);
        let mac_key = &self.local.mac_address;
        let finish = packet::build(PacketKind::HelloFinish, other.index, own.index, mac_key, |out| {
            noise.write(&payload, out)
        })?;
        let keys = noise.into_keys(suite)?;
        self.phase = InitiatorPhase::Confirming(packet::mac1_of(packet));
        self.packet.clone_from(&finish);
        self.interval = RETRY_FIRST;
        self.resend_at = now + RETRY_FIRST;
        self.give_up_at = now + GIVE_UP_AFTER;
        let outcome = other.into_outcome(keys, self.attempt, HandshakeRole::Initiator, false);
        Ok(InitiatorProgress::Done { outcome: Box::new(outcome), send: Some(finish) })
    }
}

/// Message 1, and the state that waits for its answer.
fn first_message(
    local: &Credentials,
    target: &Target,
    attempt: AttemptParams,
    seed: &SecretKey,
) -> Result<(Noise, Vec<u8>), HandshakeError> {
    match target {
        Target::Known { peer, key } => {
            if *peer == local.peer_id || *key == local.transport.public {
                return Err(HandshakeError::OwnIdentity);
            }
            let mut noise = Noise::initiator(local, Some((peer, key)), seed)?;
            let payload = packet::introduce(local, attempt.index, attempt.generation, attempt.number);
            let mac_key = local.mac_for(key);
            let packet =
                packet::build(PacketKind::Init, ReceiverIndex::NONE, attempt.index, &mac_key, |out| {
                    noise.write(&payload, out)
                })?;
            Ok((noise, packet))
        }
        Target::Address => {
            let mut noise = Noise::initiator(local, None, seed)?;
            let mac_key = &local.mac_address;
            let packet =
                packet::build(PacketKind::Hello, ReceiverIndex::NONE, attempt.index, mac_key, |out| {
                    noise.write(&[0; HELLO_PADDING_BYTES], out)
                })?;
            Ok((noise, packet))
        }
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            InitiatorPhase::Asking(_) => "asking",
            InitiatorPhase::Confirming(_) => "confirming",
            InitiatorPhase::Over => "over",
        };
        f.debug_struct("Initiator")
            .field("attempt", &self.attempt)
            .field("target", &self.target)
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}
