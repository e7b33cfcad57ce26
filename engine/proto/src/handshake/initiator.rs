//! One attempt to reach one peer.
//!
//! Not inside: when to try again after an attempt failed, and which address to use.

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
    seal::KeyBytes,
    time::Instant,
    wire::header::{Header, PacketKind, ReceiverIndex},
};

/// An unanswered packet is sent again after this time, then after twice as long, and so on. Well above the
/// round trip of any path.
pub const RETRY_FIRST: Duration = Duration::from_millis(250);

/// The longest time between two sends of the same packet: four sends at least before the attempt ends.
pub const RETRY_MAX: Duration = Duration::from_secs(2);

/// An attempt without success ends after this time.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(8);

/// Cookies that one attempt accepts. A responder changes them every two minutes, so one is enough; the others
/// are for late answers.
const MAX_COOKIES: u8 = 3;

/// Answers with a changed header that one attempt recovers from.
const MAX_REBUILDS: u8 = 3;

const _: () =
    assert!(RETRY_FIRST.as_nanos() < RETRY_MAX.as_nanos() && RETRY_MAX.as_nanos() < GIVE_UP_AFTER.as_nanos());

/// The peer to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A peer whose record is known.
    Known {
        /// Its name.
        peer: PeerId,
        /// Its X25519 public key.
        key: [u8; 32],
    },
    /// The unknown peer at the address to which the packets are sent.
    Address,
}

/// What a packet from the peer led to.
#[derive(Debug)]
pub enum InitiatorProgress {
    /// Send this: the first message again with a cookie, or the last message again, which was lost.
    Send(Vec<u8>),
    /// There are keys. If `send` is set, send it first.
    Done {
        /// The session.
        outcome: Box<HandshakeOutcome>,
        /// The last message of the handshake. [`Initiator::handle_timeout`] repeats it until
        /// [`Initiator::handle_confirmed`].
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
    /// The attempt has failed. If it gave keys, they were not confirmed: drop the session.
    GaveUp,
}

enum InitiatorPhase {
    /// The first message was sent.
    Asking(Noise),
    /// The last message of a handshake by address was sent; this is `mac1` of the reply that it answered.
    Confirming([u8; MAC_BYTES]),
    /// Nothing has to be done.
    Over,
}

/// One attempt to reach one peer; see the module documentation for the messages.
///
/// - [`start`](Self::start) returns the first packet; [`handle_packet`](Self::handle_packet) takes the
///   packets whose receiver index is [`index`](Self::index).
/// - [`poll_timeout`](Self::poll_timeout) and [`handle_timeout`](Self::handle_timeout) repeat what was lost,
///   and end the attempt after [`GIVE_UP_AFTER`].
pub struct Initiator {
    local: Arc<Credentials>,
    target: Target,
    attempt: AttemptParams,
    phase: InitiatorPhase,
    /// From which the state after message 1 can be rebuilt.
    seed: KeyBytes,
    /// Times that it was rebuilt; at most [`MAX_REBUILDS`].
    rebuilt: u8,
    /// The packet to repeat.
    packet: Vec<u8>,
    /// Cookies that were accepted; at most [`MAX_COOKIES`].
    cookies: u8,
    /// The time until the next repetition, which doubles up to [`RETRY_MAX`].
    interval: Duration,
    resend_at: Instant,
    give_up_at: Instant,
}

impl Initiator {
    /// Starts an attempt; returns the packet to send. `entropy` is fresh and random.
    pub fn start(
        now: Instant,
        entropy: [u8; 32],
        local: Arc<Credentials>,
        target: Target,
        attempt: AttemptParams,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let seed = KeyBytes::from_bytes(entropy);
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

    /// The index for packets to this attempt, and then to its session.
    pub const fn index(&self) -> ReceiverIndex {
        self.attempt.index
    }

    /// The peer to reach.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Takes a packet. After an error the attempt goes on as if it had not arrived.
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
            // The responder repeats its reply when the last message was lost.
            (PacketKind::HelloReply, Target::Address, InitiatorPhase::Confirming(answered))
                if *answered == packet::mac1_of(packet) =>
            {
                Ok(InitiatorProgress::Send(self.packet.clone()))
            }
            _ => Err(HandshakeError::Unexpected),
        }
    }

    /// A packet opened under the session's keys: the peer has them, so nothing has to be repeated any more.
    pub fn handle_confirmed(&mut self) {
        if let InitiatorPhase::Confirming(_) = self.phase {
            self.phase = InitiatorPhase::Over;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; `None` when the attempt is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            InitiatorPhase::Over => None,
            _ => Some(self.resend_at.min(self.give_up_at)),
        }
    }

    /// What is due at `now`.
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
        let other = packet::meet(&self.local, header, &key, &payload).or_else(|error| self.recover(error))?;
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

    /// Takes the state that has read its answer, and ends the attempt. The answer is from the owner of the
    /// key, so if it turns out wrong, no better one will follow.
    fn take_read(&mut self) -> Result<Noise, HandshakeError> {
        match core::mem::replace(&mut self.phase, InitiatorPhase::Over) {
            InitiatorPhase::Asking(noise) => Ok(noise),
            _ => Err(HandshakeError::Unexpected),
        }
    }

    /// The exception to [`Self::take_read`]: a member of the network changed the header, which is not
    /// authenticated before the payload is read. Rebuilds the state before the answer, as the real answer may
    /// still arrive.
    fn recover<T>(&mut self, error: HandshakeError) -> Result<T, HandshakeError> {
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
        let other = packet::meet(&self.local, header, &key, &payload).or_else(|error| self.recover(error))?;
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

/// The state that waits for the answer to message 1, and message 1.
fn first_message(
    local: &Credentials,
    target: &Target,
    attempt: AttemptParams,
    seed: &KeyBytes,
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
