//! The authenticated ciphers.
//!
//! Not inside: packet numbers, which the caller never repeats, and limits.

use core::fmt;

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::key::{KeyBytes, Suite};
use crate::wire::header::TAG_BYTES;

/// A packet does not open, or is too long to seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the packet does not open under this key")]
pub struct AeadError;

/// An authenticated cipher under one key. A trait, so that another implementation can replace [`RingAead`].
pub trait Aead: fmt::Debug + Send {
    /// Encrypts `in_out` in place and returns the tag over it and `header`. `number` is the nonce; the caller
    /// never uses one twice.
    fn seal(&self, number: u64, header: &[u8], in_out: &mut [u8]) -> Result<[u8; TAG_BYTES], AeadError>;

    /// Opens `in_out` (ciphertext and tag) in place and returns the length of the plaintext at its start. On
    /// an error the content of `in_out` is undefined.
    fn open(&self, number: u64, header: &[u8], in_out: &mut [u8]) -> Result<usize, AeadError>;
}

/// AES-256-GCM or ChaCha20-Poly1305 as `ring` implements them.
pub struct RingAead(LessSafeKey);

impl RingAead {
    /// The cipher of `suite` under `key`.
    pub fn new(suite: Suite, key: &KeyBytes) -> Self {
        let algorithm = match suite {
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key.as_bytes()).expect("both ciphers take keys of 32 bytes");
        Self(LessSafeKey::new(key))
    }
}

impl fmt::Debug for RingAead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingAead({:?})", self.0.algorithm())
    }
}

/// 32 zero bits, then the packet number, big-endian. Each direction has its own key, so the two may use equal
/// numbers.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Aead for RingAead {
    fn seal(&self, number: u64, header: &[u8], in_out: &mut [u8]) -> Result<[u8; TAG_BYTES], AeadError> {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(number), Aad::from(header), in_out)
            .map_err(|_| AeadError)?;
        tag.as_ref().try_into().map_err(|_| AeadError)
    }

    fn open(&self, number: u64, header: &[u8], in_out: &mut [u8]) -> Result<usize, AeadError> {
        let plaintext =
            self.0.open_in_place(nonce(number), Aad::from(header), in_out).map_err(|_| AeadError)?;
        Ok(plaintext.len())
    }
}
