//! Keys of JSON Web Tokens. Each is of one algorithm, so that a token cannot choose another one for it.

use core::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use super::provider::is_private_key;
use crate::id::UniqueId;

/// The bytes are no key of the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtKeyError {
    /// A secret is shorter than the hash of its algorithm (RFC 7518, section 3.2).
    #[error("a secret of {algorithm} has at least {least} random bytes, not {given}")]
    ShortSecret {
        /// The algorithm.
        algorithm: &'static str,
        /// The least number of bytes.
        least: usize,
        /// How many were given.
        given: usize,
    },
    /// A public key has another form.
    #[error("a public key of {algorithm} is {form}")]
    PublicKey {
        /// The algorithm.
        algorithm: &'static str,
        /// The form that is expected.
        form: &'static str,
    },
    /// A private key has another form, or belongs to another algorithm.
    #[error("a private key of {algorithm} is a PKCS #8 document (DER) of that algorithm")]
    PrivateKey {
        /// The algorithm.
        algorithm: &'static str,
    },
}

/// A key that verifies the signatures of one algorithm. Made of [`Hs256`] and its likes.
#[derive(Clone)]
pub struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// Identifies the key without telling it.
    pub(super) digest: UniqueId,
}

impl VerifyingKey {
    fn new(algorithm: Algorithm, key: DecodingKey, bytes: &[u8]) -> Self {
        Self { algorithm, key, digest: UniqueId::hash(bytes).derive(format!("{algorithm:?}").as_bytes()) }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?})", self.algorithm)
    }
}

/// A key that signs with one algorithm: a secret ([`Hs256`] and its likes), or a private key.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

impl SigningKey {
    /// A private key of ES256, as a PKCS #8 document.
    ///
    /// # Errors
    ///
    /// [`JwtKeyError::PrivateKey`].
    pub fn es256(pkcs8: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
        Self::private(Algorithm::ES256, "ES256", pkcs8.as_ref(), EncodingKey::from_ec_der)
    }

    /// A private key of ES384, as a PKCS #8 document.
    ///
    /// # Errors
    ///
    /// [`JwtKeyError::PrivateKey`].
    pub fn es384(pkcs8: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
        Self::private(Algorithm::ES384, "ES384", pkcs8.as_ref(), EncodingKey::from_ec_der)
    }

    /// A private key of EdDSA with Ed25519, as a PKCS #8 document.
    ///
    /// # Errors
    ///
    /// [`JwtKeyError::PrivateKey`].
    pub fn ed_dsa(pkcs8: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
        Self::private(Algorithm::EdDSA, "EdDSA", pkcs8.as_ref(), EncodingKey::from_ed_der)
    }

    fn private(
        of: Algorithm,
        algorithm: &'static str,
        der: &[u8],
        make: fn(&[u8]) -> EncodingKey,
    ) -> Result<Self, JwtKeyError> {
        let is_key = is_private_key(of, der);
        is_key.then(|| Self { algorithm: of, key: make(der) }).ok_or(JwtKeyError::PrivateKey { algorithm })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.algorithm)
    }
}

macro_rules! secrets {
    ($($name:ident $algorithm:ident $text:literal $least:literal)*) => {$(
        #[doc = concat!("A secret of ", $text, ", shared by all who sign and verify. At least ",
            stringify!($least), " random bytes.")]
        #[derive(Clone)]
        pub struct $name {
            verifying: VerifyingKey,
            signing: SigningKey,
        }

        impl $name {
            /// The secret with these bytes.
            ///
            /// # Panics
            ///
            /// If there are too few; [`try_new`](Self::try_new) gives an error instead.
            #[track_caller]
            pub fn new(secret: impl AsRef<[u8]>) -> Self {
                match Self::try_new(secret) {
                    Ok(key) => key,
                    Err(error) => panic!("{error}"),
                }
            }

            /// The secret with these bytes.
            ///
            /// # Errors
            ///
            /// [`JwtKeyError::ShortSecret`].
            pub fn try_new(secret: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
                let secret = secret.as_ref();
                let short =
                    JwtKeyError::ShortSecret { algorithm: $text, least: $least, given: secret.len() };
                if secret.len() < $least {
                    return Err(short);
                }
                let algorithm = Algorithm::$algorithm;
                let decoding = DecodingKey::from_secret(secret).map_err(|_| short)?;
                let key = EncodingKey::from_secret(secret).map_err(|_| short)?;
                Ok(Self {
                    verifying: VerifyingKey::new(algorithm, decoding, secret),
                    signing: SigningKey { algorithm, key },
                })
            }
        }

        impl From<$name> for VerifyingKey {
            fn from(key: $name) -> Self {
                key.verifying
            }
        }

        impl From<$name> for SigningKey {
            fn from(key: $name) -> Self {
                key.signing
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

secrets! {
    Hs256 HS256 "HS256" 32
    Hs384 HS384 "HS384" 48
    Hs512 HS512 "HS512" 64
}

macro_rules! public_keys {
    ($($name:ident $algorithm:ident $text:literal $make:ident $form:literal $is_form:expr;)*) => {$(
        #[doc = concat!("A public key of ", $text, ": ", $form, ".")]
        #[derive(Clone, Debug)]
        pub struct $name(VerifyingKey);

        impl $name {
            /// The key with these bytes.
            ///
            /// # Panics
            ///
            /// If they have another form; [`try_new`](Self::try_new) gives an error instead.
            #[track_caller]
            pub fn new(key: impl AsRef<[u8]>) -> Self {
                match Self::try_new(key) {
                    Ok(key) => key,
                    Err(error) => panic!("{error}"),
                }
            }

            /// The key with these bytes.
            ///
            /// # Errors
            ///
            /// [`JwtKeyError::PublicKey`].
            pub fn try_new(key: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
                let key = key.as_ref();
                let is_form: fn(&[u8]) -> bool = $is_form;
                if !is_form(key) {
                    return Err(JwtKeyError::PublicKey { algorithm: $text, form: $form });
                }
                Ok(Self(VerifyingKey::new(Algorithm::$algorithm, DecodingKey::$make(key), key)))
            }
        }

        impl From<$name> for VerifyingKey {
            fn from(key: $name) -> Self {
                key.0
            }
        }
    )*};
}

public_keys! {
    Es256 ES256 "ES256" from_ec_der "a point of P-256, uncompressed: 65 bytes that begin with 4"
        |key| key.len() == 65 && key[0] == 4;
    Es384 ES384 "ES384" from_ec_der "a point of P-384, uncompressed: 97 bytes that begin with 4"
        |key| key.len() == 97 && key[0] == 4;
    EdDsa EdDSA "EdDSA" from_ed_der "an Ed25519 key of 32 bytes" |key| key.len() == 32;
}
