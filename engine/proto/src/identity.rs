//! A peer's identity: an Ed25519 key that signs, and X25519 keys for handshakes.
//!
//! The [`PeerId`] is a hash of the Ed25519 key and never changes. The X25519 key is replaced from time to
//! time; a [`Certificate`] ties each one to the Ed25519 key. Both are derived separately from one seed, so no
//! key serves two protocols.
//!
//! Not inside: storage of the seed, and a peer's record ([`crate::membership`]).

use core::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::{
    ids::{NetworkId, PeerId},
    seal::KeyBytes,
    x25519,
};

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

const CONTEXT_PEER_ID: &str = "corewire v1 peer id";
const CONTEXT_SIGNING: &str = "corewire v1 identity signing seed";
const CONTEXT_TRANSPORT: &str = "corewire v1 transport key";
const CONTEXT_CERTIFICATE: &[u8] = b"corewire v1 certificate of a transport key\0";

/// Hashed before the key when a [`PeerId`] is computed, so that other kinds of key can be added.
const ALGORITHM_ED25519: u8 = 1;

/// The name of the peer with this Ed25519 public key.
pub fn peer_id(identity_key: &[u8; 32]) -> PeerId {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_PEER_ID);
    hasher.update(&[ALGORITHM_ED25519]).update(identity_key);
    PeerId(*hasher.finalize().as_bytes())
}

/// Whether `signature` over `message` was made with the key.
pub fn verify(identity_key: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    UnparsedPublicKey::new(&ED25519, identity_key).verify(message, signature).is_ok()
}

/// A peer's secret keys: signs, and derives transport keys.
pub struct Identity {
    signing: Ed25519KeyPair,
    /// From which transport keys are derived.
    seed: KeyBytes,
    /// The public half of `signing`; `peer_id` is its hash.
    public: [u8; 32],
    peer_id: PeerId,
}

impl Identity {
    /// The identity derived from 32 random bytes; the same bytes always give the same peer.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing_seed = KeyBytes::from_bytes(blake3::derive_key(CONTEXT_SIGNING, seed));
        let signing = Ed25519KeyPair::from_seed_unchecked(signing_seed.as_bytes())
            .expect("every 32 bytes are a seed of an Ed25519 key");
        let mut public = [0; 32];
        public.copy_from_slice(signing.public_key().as_ref());
        Self { signing, seed: KeyBytes::from_bytes(*seed), public, peer_id: peer_id(&public) }
    }

    /// The Ed25519 public key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    /// The peer's name.
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Signs a message. Each kind of message starts with its own context, so that no signature serves two
    /// purposes.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes.copy_from_slice(self.signing.sign(message).as_ref());
        bytes
    }

    /// The transport key of one validity period. The caller numbers the periods; each number has its own key.
    pub fn transport_key(&self, validity: u64) -> TransportKey {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_TRANSPORT);
        hasher.update(self.seed.as_bytes()).update(&validity.to_le_bytes());
        let secret = KeyBytes::from_bytes(*hasher.finalize().as_bytes());
        let public = x25519::public_key(secret.as_bytes());
        TransportKey { secret, public, validity }
    }

    /// Ties a transport key to this identity within one network.
    pub fn certify(&self, network: &NetworkId, key: &TransportKey) -> Certificate {
        let message = certificate_message(network, &key.public, key.validity);
        Certificate { key: key.public, validity: key.validity, signature: self.sign(&message) }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.peer_id)
    }
}

/// An X25519 key pair of one validity period.
#[derive(Clone, Debug)]
pub struct TransportKey {
    /// The secret half.
    pub secret: KeyBytes,
    /// The public half, as in the peer's record.
    pub public: [u8; 32],
    /// Which period the key is for.
    pub validity: u64,
}

/// A signed statement by an Ed25519 identity that an X25519 key is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// The X25519 public key.
    pub key: [u8; 32],
    /// Which period it is for.
    pub validity: u64,
    /// Ed25519 over context, network id, key and period.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Certificate {
    /// Whether the owner of `identity_key` signed this for this network.
    pub fn verify(&self, network: &NetworkId, identity_key: &[u8; 32]) -> bool {
        verify(identity_key, &certificate_message(network, &self.key, self.validity), &self.signature)
    }
}

const CERTIFICATE_MESSAGE_BYTES: usize = CONTEXT_CERTIFICATE.len() + 32 + 32 + 8;

fn certificate_message(
    network: &NetworkId,
    key: &[u8; 32],
    validity: u64,
) -> [u8; CERTIFICATE_MESSAGE_BYTES] {
    let mut message = [0; CERTIFICATE_MESSAGE_BYTES];
    let (context, rest) = message.split_at_mut(CONTEXT_CERTIFICATE.len());
    context.copy_from_slice(CONTEXT_CERTIFICATE);
    rest[..32].copy_from_slice(network.as_bytes());
    rest[32..64].copy_from_slice(key);
    rest[64..].copy_from_slice(&validity.to_le_bytes());
    message
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn seed_always_gives_the_same_peer() {
        let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[1; 32]));
        assert_eq!(a.peer_id(), b.peer_id());
        assert_eq!(a.transport_key(3).public, b.transport_key(3).public);
        assert_ne!(a.peer_id(), Identity::from_seed(&[2; 32]).peer_id());
        assert_ne!(a.transport_key(3).public, a.transport_key(4).public);
        assert_ne!(a.transport_key(0).public, *a.public_key());
    }

    #[test]
    fn certificate_holds_for_one_network_key_and_period() {
        let network = NetworkId([5; 32]);
        let (alice, bob) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let certificate = alice.certify(&network, &alice.transport_key(0));
        assert!(certificate.verify(&network, alice.public_key()));
        assert!(!certificate.verify(&network, bob.public_key()));
        assert!(!certificate.verify(&NetworkId([6; 32]), alice.public_key()));
        assert!(!Certificate { validity: 1, ..certificate }.verify(&network, alice.public_key()));
        let key = bob.transport_key(0).public;
        assert!(!Certificate { key, ..certificate }.verify(&network, alice.public_key()));
        for bit in 0..SIGNATURE_BYTES * 8 {
            let mut signature = certificate.signature;
            signature[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !Certificate { signature, ..certificate }.verify(&network, alice.public_key()),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::from_seed(&[0x5a; 32]);
        let text = format!("{identity:?} {:?}", identity.transport_key(0));
        assert!(!text.contains("90, 90"), "{text}");
    }
}
