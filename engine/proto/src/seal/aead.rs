//! The cipher behind the seal.
//!
//! Not inside: packet numbers, windows, limits. A cipher here takes a number that its caller never repeats.

use core::fmt;

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::key::{SecretKey, Suite};
use crate::wire::header::TAG_BYTES;

/// The cipher refused: a packet that does not open, or one too long to seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the packet does not open under this key")]
pub struct AeadError;

/// An authenticated cipher under one key. A faster implementation can be put in the place of [`RingAead`].
pub trait Aead: fmt::Debug + Send {
    /// Encrypts `in_out` in place and returns the tag over it and `header`. `number` becomes the nonce; the caller
    /// never uses one twice.
    fn seal(&self, number: u64, header: &[u8], in_out: &mut [u8]) -> Result<[u8; TAG_BYTES], AeadError>;

    /// Opens `in_out` (ciphertext and tag) in place and returns the length of the plaintext at its start. When it
    /// does not open, the content of `in_out` is lost.
    fn open(&self, number: u64, header: &[u8], in_out: &mut [u8]) -> Result<usize, AeadError>;
}

/// AES-256-GCM or ChaCha20-Poly1305 as `ring` implements them.
pub struct RingAead(LessSafeKey);

impl RingAead {
    /// The cipher of `suite` under `key`.
    pub fn new(suite: Suite, key: &SecretKey) -> Self {
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

/// 32 zero bits, then the packet number, big-endian. The keys differ by direction, so the numbers may not.
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
