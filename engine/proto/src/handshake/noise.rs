//! The Noise protocol framework as the crate `snow` runs it, with this crate's curve and randomness.
//!
//! Not inside: packets. A message here is what Noise writes and reads.

use alloc::{boxed::Box, vec::Vec};

use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice, NoiseParams},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroize;

use super::{credentials::Credentials, error::HandshakeError};
use crate::{
    ids::PeerId,
    seal::{KeyBytes, SessionKeys, Suite},
    wire::header::PROTOCOL_VERSION,
    x25519,
};

const PROLOGUE_LABEL: &[u8] = b"corewire handshake";
const CONTEXT_SESSION_KEY: &str = "corewire v1 session key of one direction";

/// The ciphers of this protocol version, bound into the prologue.
const KNOWN_SUITES: [u8; 2] = [Suite::ChaCha20Poly1305 as u8, Suite::Aes256Gcm as u8];

/// Which of the two handshakes it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pattern {
    /// The initiator knows the responder's key.
    Known,
    /// Both keys are exchanged.
    Address,
}

impl Pattern {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Known => "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s",
            Self::Address => "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s",
        }
    }

    pub(super) const fn psk_place(self) -> u8 {
        match self {
            Self::Known => 2,
            Self::Address => 3,
        }
    }
}

/// One side of one handshake.
pub(super) struct Noise(Box<HandshakeState>);

impl Noise {
    /// The initiator. `responder`: the peer's name and key, if known. All randomness is derived from `seed`.
    pub(super) fn initiator(
        local: &Credentials,
        responder: Option<(&PeerId, &[u8; 32])>,
        seed: &KeyBytes,
    ) -> Result<Self, HandshakeError> {
        let pattern = if responder.is_some() { Pattern::Known } else { Pattern::Address };
        let prologue = prologue(local, pattern, responder.map(|(peer, _)| peer));
        let mut builder = builder(local, pattern, seed, &prologue)?;
        if let Some((_, key)) = responder {
            builder = builder.remote_public_key(key).map_err(error)?;
        }
        builder.build_initiator().map(Box::new).map(Self).map_err(error)
    }

    /// The responder. All randomness is derived from `seed`.
    pub(super) fn responder(
        local: &Credentials,
        pattern: Pattern,
        seed: &KeyBytes,
    ) -> Result<Self, HandshakeError> {
        let own = (pattern == Pattern::Known).then_some(&local.peer_id);
        let prologue = prologue(local, pattern, own);
        builder(local, pattern, seed, &prologue)?.build_responder().map(Box::new).map(Self).map_err(error)
    }

    /// Writes the next message, which must fill `out` exactly.
    pub(super) fn write(&mut self, payload: &[u8], out: &mut [u8]) -> Result<(), HandshakeError> {
        let length = out.len();
        match self.0.write_message(payload, out).map_err(error)? {
            written if written == length => Ok(()),
            _ => Err(HandshakeError::Noise),
        }
    }

    /// Reads the next message, whose payload must fill `payload` exactly.
    pub(super) fn read(&mut self, message: &[u8], payload: &mut [u8]) -> Result<(), HandshakeError> {
        let length = payload.len();
        match self.0.read_message(message, payload).map_err(error)? {
            read if read == length => Ok(()),
            _ => Err(HandshakeError::Noise),
        }
    }

    /// The peer's static key, once it is known.
    pub(super) fn remote_static(&self) -> Result<[u8; 32], HandshakeError> {
        self.0.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(HandshakeError::Noise)
    }

    /// The session's keys after the last message: from Noise's `Split()`, bound to the agreed cipher.
    pub(super) fn into_keys(mut self, suite: Suite) -> Result<SessionKeys, HandshakeError> {
        if !self.0.is_handshake_finished() {
            return Err(HandshakeError::Noise);
        }
        let (mut forth, mut back) = self.0.dangerously_get_raw_split();
        let (from_initiator, from_responder) = (
            session_key(&forth, KeyDirection::FromInitiator, suite),
            session_key(&back, KeyDirection::FromResponder, suite),
        );
        forth.zeroize();
        back.zeroize();
        Ok(if self.0.is_initiator() {
            SessionKeys { send: from_initiator, recv: from_responder, suite }
        } else {
            SessionKeys { send: from_responder, recv: from_initiator, suite }
        })
    }

    /// A public value: computable from the recorded messages.
    #[cfg(test)]
    pub(super) fn transcript_hash(&self) -> Vec<u8> {
        self.0.get_handshake_hash().to_vec()
    }
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum KeyDirection {
    FromInitiator = 1,
    FromResponder = 2,
}

fn session_key(split: &[u8; 32], direction: KeyDirection, suite: Suite) -> KeyBytes {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_SESSION_KEY);
    hasher.update(split).update(&[direction as u8, suite as u8]);
    KeyBytes::from_bytes(*hasher.finalize().as_bytes())
}

/// What both sides must agree on before the first message: version, ciphers, pattern, network, and the
/// responder's name where the initiator knows it. The initiator's name is bound by its payload.
fn prologue(local: &Credentials, pattern: Pattern, responder: Option<&PeerId>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(PROLOGUE_LABEL);
    bytes.push(PROTOCOL_VERSION);
    bytes.extend_from_slice(&KNOWN_SUITES);
    bytes.push(pattern as u8);
    bytes.extend_from_slice(local.network.as_bytes());
    if let Some(peer) = responder {
        bytes.extend_from_slice(peer.as_bytes());
    }
    bytes
}

fn builder<'a>(
    local: &'a Credentials,
    pattern: Pattern,
    seed: &KeyBytes,
    prologue: &'a [u8],
) -> Result<Builder<'a>, HandshakeError> {
    let params: NoiseParams = pattern.name().parse().map_err(error)?;
    Builder::with_resolver(params, Box::new(Resolver { seed: seed.clone() }))
        .psk(pattern.psk_place(), local.psk.as_bytes())
        .and_then(|builder| builder.local_private_key(local.transport.secret.as_bytes()))
        .and_then(|builder| builder.prologue(prologue))
        .map_err(error)
}

fn error(error: Error) -> HandshakeError {
    match error {
        Error::Dh => HandshakeError::BadKey,
        _ => HandshakeError::Noise,
    }
}

/// Gives `snow` this crate's curve and randomness; cipher and hash are its own.
pub(super) struct Resolver {
    pub(super) seed: KeyBytes,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let mut hasher = blake3::Hasher::new_keyed(self.seed.as_bytes());
        hasher.update(b"corewire handshake randomness");
        Some(Box::new(SeededRandom(hasher.finalize_xof())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => {
                Some(Box::new(Curve { secret: KeyBytes::from_bytes([0; 32]), public: [0; 32] }))
            }
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Random bytes derived from one seed.
struct SeededRandom(blake3::OutputReader);

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl Drop for SeededRandom {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// X25519 that refuses points of low order and erases its secret.
struct Curve {
    secret: KeyBytes,
    public: [u8; 32],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        let mut bytes = [0; 32];
        let length = secret.len().min(32);
        bytes[..length].copy_from_slice(&secret[..length]);
        self.secret = KeyBytes::from_bytes(bytes);
        self.public = x25519::public_key(self.secret.as_bytes());
        bytes.zeroize();
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = [0; 32];
        random.try_fill_bytes(&mut bytes)?;
        self.set(&bytes);
        bytes.zeroize();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        // `snow` passes its whole buffer, of which the first 32 bytes are the key.
        let public: &[u8; 32] = public.first_chunk().ok_or(Error::Dh)?;
        let mut shared = x25519::shared_secret(self.secret.as_bytes(), public).ok_or(Error::Dh)?;
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(&shared);
        shared.zeroize();
        Ok(())
    }
}
