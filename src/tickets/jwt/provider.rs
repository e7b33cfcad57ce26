//! Signatures of JSON Web Tokens by `ring`, for the JWT library.
//!
//! The library asks one provider per process. If the program has chosen one, that one is used, and this one
//! is not installed.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{hmac, rand};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Sees to it that the library has a provider.
pub(super) fn install() {
    if CryptoProvider::try_get_default().is_none() {
        // Another thread may have installed one meanwhile; then that one is used.
        let _ = PROVIDER.install_default();
    }
}

/// The HMAC of an algorithm with a shared secret.
pub(super) fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn ecdsa_of(algorithm: Algorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => Some(&ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => None,
    }
}

fn verification_of(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&ED25519),
        _ => None,
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    /// A secret, or a public key as `ring` takes it.
    key: Vec<u8>,
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.try_get_as_bytes()?.to_vec() }))
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = if let Some(hash) = hmac_of(self.algorithm) {
            hmac::verify(&hmac::Key::new(hash, &self.key), message, signature)
        } else {
            let algorithm = verification_of(self.algorithm).ok_or_else(Error::new)?;
            UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature)
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

enum KeyPair {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

struct RingSigner {
    algorithm: Algorithm,
    keys: KeyPair,
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let keys = key_pair(*algorithm, key.as_bytes()).ok_or(ErrorKind::InvalidKeyFormat)?;
    Ok(Box::new(RingSigner { algorithm: *algorithm, keys }))
}

/// A secret, or a PKCS #8 document, as a key of this algorithm.
fn key_pair(algorithm: Algorithm, key: &[u8]) -> Option<KeyPair> {
    if let Some(hash) = hmac_of(algorithm) {
        return Some(KeyPair::Hmac(hmac::Key::new(hash, key)));
    }
    if let Some(ecdsa) = ecdsa_of(algorithm) {
        return EcdsaKeyPair::from_pkcs8(ecdsa, key, &SystemRandom::new()).ok().map(KeyPair::Ecdsa);
    }
    let is_ed = algorithm == Algorithm::EdDSA;
    is_ed.then(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).ok().map(KeyPair::Ed)).flatten()
}

/// Whether `key` is a private key of this algorithm.
pub(super) fn is_private_key(algorithm: Algorithm, key: &[u8]) -> bool {
    key_pair(algorithm, key).is_some()
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        match &self.keys {
            KeyPair::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            KeyPair::Ecdsa(key) => {
                let random: &dyn rand::SecureRandom = &SystemRandom::new();
                key.sign(random, message).map(|signed| signed.as_ref().to_vec()).map_err(|_| Error::new())
            }
            KeyPair::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
