//! The seal of a beacon.
//!
//! ```text
//! 0      24                                              len-16    len
//! | salt | ciphertext of a message, filled up with zeros | tag     |
//! ```
//!
//! Each beacon has a key of its own, the keyed hash of its salt, because a 96-bit nonce is too short to be
//! drawn by many nodes under one key. The plaintext has one of a few lengths, so that the length of a beacon
//! tells little.

use alloc::vec::Vec;

use crate::seal::{Aead, KeyBytes, RingAead, Suite};

/// Longest beacon, in bytes: with the headers of IPv6 and UDP it fits the smallest packet that every IPv6
/// link carries (1,280 bytes).
pub const MAX_BEACON_BYTES: usize = 1_232;

const SALT_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Longest plaintext.
pub(super) const MAX_PLAIN_BYTES: usize = MAX_BEACON_BYTES - SALT_BYTES - TAG_BYTES;

/// Plaintexts are filled up to a multiple of this, or to the longest.
const STEP_BYTES: usize = 256;

const CONTEXT_SEAL: &str = "corewire v1 beacon seal";
const CONTEXT_GROUP: &str = "corewire v1 beacon group";

/// Where the groups of a network come from.
pub(super) fn group_hash(key: &KeyBytes) -> [u8; 32] {
    blake3::derive_key(CONTEXT_GROUP, key.as_bytes())
}

/// Seals and opens beacons of one network.
#[derive(Debug)]
pub(super) struct BeaconSeal(KeyBytes);

impl BeaconSeal {
    pub(super) fn new(key: &KeyBytes) -> Self {
        Self(KeyBytes::from_bytes(blake3::derive_key(CONTEXT_SEAL, key.as_bytes())))
    }

    fn cipher(&self, salt: &[u8; SALT_BYTES]) -> RingAead {
        let key = KeyBytes::from_bytes(*blake3::keyed_hash(self.0.as_bytes(), salt).as_bytes());
        RingAead::new(Suite::ChaCha20Poly1305, &key)
    }

    /// Seals at most [`MAX_PLAIN_BYTES`] under a salt that is used once.
    pub(super) fn seal(&self, random: &[u8; 32], mut plain: Vec<u8>) -> Vec<u8> {
        plain.resize(plain.len().next_multiple_of(STEP_BYTES).min(MAX_PLAIN_BYTES), 0);
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&random[..SALT_BYTES]);
        let tag = self.cipher(&salt).seal(0, &[], &mut plain).expect("shorter than any limit of the cipher");
        [&salt[..], &plain, &tag].concat()
    }

    /// The plaintext, with what fills it up; `None` when this network's key did not seal it.
    pub(super) fn open(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        if datagram.len() > MAX_BEACON_BYTES {
            return None;
        }
        let (salt, sealed) = datagram.split_first_chunk::<SALT_BYTES>()?;
        let mut plain = sealed.to_vec();
        let len = self.cipher(salt).open(0, &[], &mut plain).ok()?;
        plain.truncate(len);
        Some(plain)
    }
}
