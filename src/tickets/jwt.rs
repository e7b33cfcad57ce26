//! JSON Web Tokens as tickets.
//!
//! The JWT library parses tokens and checks that the algorithm is that of the key and the signature is
//! right; the claims are checked here, each for its type too, so that a claim of another type is a refusal.

mod keys;
mod provider;

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, Header, Validation};
use serde_json::{Map, Value};

pub use self::keys::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, JwtKeyError, SigningKey, VerifyingKey};
use super::{Expiration, InvalidTicket, Ticket, TicketValidator};
use crate::discovery::PeerEntry;
use crate::id::{PeerId, UniqueId};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// Accepts [JSON Web Tokens](https://www.rfc-editor.org/rfc/rfc7519) that an issuer signed for a peer.
///
/// A token is accepted when it is signed with one of the [keys](Self::with_key), by that key's algorithm; its
/// subject (`sub`) is the peer's id in hexadecimal; it has an expiration (`exp`) that has not come; its `nbf`
/// and `iat`, if any, are past; and everything else holds that was asked for. The methods say how to ask for
/// less or more.
///
/// ```
/// use corewire::tickets::{Hs256, Jwt, JwtTicketBuilder};
/// use corewire::{Network, NetworkId};
/// use std::time::Duration;
///
/// # let secret = [7; 32];
/// let id = NetworkId::random();
/// let (exchange, trader) = (Network::new_blocking(id)?, Network::new_blocking(id)?);
///
/// // The issuer knows the secret, and hands a ticket to the trader.
/// let ticket = JwtTicketBuilder::new(Hs256::new(secret))
///     .issuer("my-app")
///     .expires_in(Duration::from_secs(3600))
///     .build(trader.local().id())?;
/// trader.discovery().add_ticket(ticket)?;
///
/// let validator = Jwt::with_key(Hs256::new(secret)).allow_issuer("my-app");
/// let producer = exchange.streams().producer::<u64>().require_ticket(validator).build()?;
/// let mut consumer = trader.streams().consume::<u64>();
/// producer.send_blocking(7)?;
/// assert_eq!(consumer.recv_blocking(), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a validator does nothing until `require_ticket` gets it"]
pub struct Jwt {
    keys: Vec<NamedKey>,
    issuers: BTreeSet<String>,
    audiences: BTreeSet<String>,
    /// `None`: the id of the peer.
    subject: Option<String>,
    claims: BTreeMap<String, Value>,
    needs_expiration: bool,
    max_lifetime: Option<Duration>,
    max_age: Option<Duration>,
    leeway: Duration,
}

/// A key, and the `kid` of the tokens that it verifies; without one, of any token.
#[derive(Clone)]
struct NamedKey {
    id: Option<String>,
    key: VerifyingKey,
}

/// Why a token was refused; see [`Jwt::check`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// It is longer than 8 KiB.
    #[error("the token has {0} bytes; at most {MAX_TOKEN_BYTES} are looked at")]
    TooLong(usize),
    /// It is not three parts of base64url with JSON in them, or names an algorithm that is not supported.
    #[error("this is no token: {0}")]
    Malformed(String),
    /// There is no key of its algorithm, or none with its key id.
    #[error("no key verifies {algorithm} with key id {key_id:?}: add it with `add_key`")]
    UnknownKey {
        /// The algorithm that the token names.
        algorithm: String,
        /// The key id that the token names.
        key_id: Option<String>,
    },
    /// The signature is not that of the key.
    #[error("the signature is wrong")]
    Signature,
    /// A claim that is required is missing.
    #[error("the claim `{0}` is missing")]
    Missing(String),
    /// A claim has another value or another type than required.
    #[error("the claim `{0}` is not as required")]
    Claim(String),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come: `nbf` or `iat` is in the future.
    #[error("the token is not valid yet: `{0}` is in the future")]
    NotYet(&'static str),
    /// It is valid for longer than `max_lifetime`.
    #[error("the token is valid for longer than is allowed")]
    LongLived,
    /// It was issued longer ago than `max_age`.
    #[error("the token was issued too long ago")]
    TooOld,
}

impl Jwt {
    /// The class of tickets that are JSON Web Tokens.
    pub const CLASS: UniqueId = crate::unique_id!("corewire.tickets.jwt.v1");

    /// Accepts tokens that are signed with this key.
    pub fn with_key(key: impl Into<VerifyingKey>) -> Self {
        provider::install();
        Self {
            keys: vec![NamedKey { id: None, key: key.into() }],
            issuers: BTreeSet::new(),
            audiences: BTreeSet::new(),
            subject: None,
            claims: BTreeMap::new(),
            needs_expiration: true,
            max_lifetime: None,
            max_age: None,
            leeway: Duration::ZERO,
        }
    }

    /// Accepts tokens that are signed with the key and have this key id (`kid`), or none. For the rotation of
    /// keys: add the new one everywhere, sign with it, then drop the old one.
    pub fn with_key_id(id: impl Into<String>, key: impl Into<VerifyingKey>) -> Self {
        let mut jwt = Self::with_key(key);
        jwt.keys[0].id = Some(id.into());
        jwt
    }

    /// Accepts tokens that are signed with this key too.
    pub fn add_key(mut self, key: impl Into<VerifyingKey>) -> Self {
        self.keys.push(NamedKey { id: None, key: key.into() });
        self
    }

    /// As [`add_key`](Self::add_key), for tokens with this key id (`kid`), or none.
    pub fn add_key_with_id(mut self, id: impl Into<String>, key: impl Into<VerifyingKey>) -> Self {
        self.keys.push(NamedKey { id: Some(id.into()), key: key.into() });
        self
    }

    /// Requires this issuer (`iss`), or another one of those that were allowed. Default: any issuer.
    pub fn allow_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.insert(issuer.into());
        self
    }

    /// Requires this audience (`aud`), or another one of those that were allowed. Default: any audience.
    pub fn allow_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.insert(audience.into());
        self
    }

    /// Requires this subject (`sub`). Default: the id of the peer, in lower-case hexadecimal. A token with
    /// another subject can be used by every peer that gets hold of it.
    pub fn require_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Requires a claim with exactly this value; all that were required have to hold.
    pub fn require_claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Accepts tokens without an expiration (`exp`). Default: they are refused.
    pub fn allow_non_expiring(mut self) -> Self {
        self.needs_expiration = false;
        self
    }

    /// Refuses tokens that are valid for longer, from `iat` to `exp`; both have to be there. Default: any
    /// time.
    pub fn max_lifetime(mut self, time: Duration) -> Self {
        self.max_lifetime = Some(time);
        self
    }

    /// Refuses tokens that were issued longer ago (`iat`, which has to be there), and ends channels when
    /// theirs becomes that old. Default: any age.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// How far the clocks of issuer and validator may be apart: `exp` counts as that much later, `nbf` and
    /// `iat` as that much earlier. Default: zero.
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// As [`validate`](TicketValidator::validate), with the reason of a refusal.
    ///
    /// ```
    /// use corewire::tickets::{Hs256, Jwt, JwtError};
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    ///
    /// let refused = Jwt::with_key(Hs256::new([7; 32])).check(b"nonsense", &network.discovery().me());
    /// assert!(matches!(refused, Err(JwtError::Malformed(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`JwtError`].
    pub fn check(&self, token: &[u8], peer: &PeerEntry) -> Result<Expiration, JwtError> {
        let claims = self.verified(token)?;
        self.check_identity(&claims, peer)?;
        self.check_times(&claims, SystemTime::now())
    }

    /// The claims of a token that is signed with one of the keys.
    fn verified(&self, token: &[u8]) -> Result<Map<String, Value>, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong(token.len()));
        }
        let malformed = |error: jsonwebtoken::errors::Error| JwtError::Malformed(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
        let fits = |named: &&NamedKey| {
            let same_id = named.id.is_none() || header.kid.is_none() || named.id == header.kid;
            named.key.algorithm == header.alg && same_id
        };
        let mut outcome =
            Err(JwtError::UnknownKey { algorithm: format!("{:?}", header.alg), key_id: header.kid.clone() });
        for named in self.keys.iter().filter(fits) {
            match jsonwebtoken::decode(token, &named.key.key, &only_the_signature(header.alg)) {
                Ok(token) => return Ok(token.claims),
                Err(error) if is_wrong_signature(&error) => outcome = Err(JwtError::Signature),
                Err(error) => outcome = Err(malformed(error)),
            }
        }
        outcome
    }

    fn check_identity(&self, claims: &Map<String, Value>, peer: &PeerEntry) -> Result<(), JwtError> {
        let among = |name: &str, allowed: &BTreeSet<String>| match (claims.get(name), allowed.is_empty()) {
            (_, true) => Ok(()),
            (None, false) => Err(JwtError::Missing(name.into())),
            (Some(Value::String(text)), false) if allowed.contains(text) => Ok(()),
            // An audience may be a list, which has to be one of texts.
            (Some(Value::Array(list)), false) if name == "aud" => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                let fits = texts.is_some_and(|texts| texts.iter().any(|text| allowed.contains(*text)));
                if fits { Ok(()) } else { Err(JwtError::Claim(name.into())) }
            }
            _ => Err(JwtError::Claim(name.into())),
        };
        among("iss", &self.issuers)?;
        among("aud", &self.audiences)?;
        let subject = self.subject.clone().unwrap_or_else(|| peer.id().to_string());
        equals(claims, "sub", &Value::String(subject))?;
        self.claims.iter().try_for_each(|(name, value)| equals(claims, name, value))
    }

    /// Until when a token with these claims is valid, if it is at `now`.
    fn check_times(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<Expiration, JwtError> {
        let (expires, issued) = (time(claims, "exp")?, time(claims, "iat")?);
        let later = |time: SystemTime| time.checked_add(self.leeway).unwrap_or(time);
        for (name, begins) in [("nbf", time(claims, "nbf")?), ("iat", issued)] {
            if begins.is_some_and(|begins| begins > later(now)) {
                return Err(JwtError::NotYet(name));
            }
        }
        if self.needs_expiration && expires.is_none() {
            return Err(JwtError::Missing("exp".into()));
        }
        if expires.is_some_and(|expires| later(expires) <= now) {
            return Err(JwtError::Expired);
        }
        if let Some(most) = self.max_lifetime {
            let (issued, expires) = (needed(issued, "iat")?, needed(expires, "exp")?);
            if expires.duration_since(issued).is_ok_and(|lifetime| lifetime > most) {
                return Err(JwtError::LongLived);
            }
        }
        let too_old = match self.max_age {
            Some(age) => needed(issued, "iat")?.checked_add(age),
            None => None,
        };
        if too_old.is_some_and(|too_old| later(too_old) <= now) {
            return Err(JwtError::TooOld);
        }
        let ends = expires.into_iter().chain(too_old).min();
        Ok(ends.map_or(Expiration::Never, |ends| Expiration::At(later(ends))))
    }
}

/// What the library is to check: the algorithm and the signature.
fn only_the_signature(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn is_wrong_signature(error: &jsonwebtoken::errors::Error) -> bool {
    matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature)
}

fn needed<T>(claim: Option<T>, name: &str) -> Result<T, JwtError> {
    claim.ok_or_else(|| JwtError::Missing(name.into()))
}

fn equals(claims: &Map<String, Value>, name: &str, value: &Value) -> Result<(), JwtError> {
    let is_equal = needed(claims.get(name), name)? == value;
    is_equal.then_some(()).ok_or_else(|| JwtError::Claim(name.into()))
}

/// A claim that is a time: seconds since 1970, perhaps with a fraction.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, JwtError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let since_epoch = match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    };
    let time = since_epoch.and_then(|since| UNIX_EPOCH.checked_add(since));
    time.map(Some).ok_or_else(|| JwtError::Claim(name.into()))
}

impl TicketValidator for Jwt {
    fn class(&self) -> UniqueId {
        Self::CLASS
    }

    fn signature(&self) -> UniqueId {
        let keys: BTreeSet<_> = self.keys.iter().map(|named| (&named.id, named.key.digest)).collect();
        let times = (self.needs_expiration, self.max_lifetime, self.max_age, self.leeway);
        let all = (keys, &self.issuers, &self.audiences, &self.subject, &self.claims, times);
        Self::CLASS.derive(&serde_json::to_vec(&all).expect("texts, numbers and JSON values"))
    }

    fn validate(&self, ticket: &[u8], peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
        self.check(ticket, peer).map_err(|_| InvalidTicket)
    }

    fn valid_from(&self, ticket: &[u8], peer: &PeerEntry) -> Option<SystemTime> {
        let claims = self.verified(ticket).ok()?;
        self.check_identity(&claims, peer).ok()?;
        let begins = [time(&claims, "nbf").ok()?, time(&claims, "iat").ok()?].into_iter().flatten().max()?;
        let begin = begins.checked_sub(self.leeway)?;
        (begin > SystemTime::now() && self.check_times(&claims, begin).is_ok()).then_some(begin)
    }
}

/// Without the keys.
impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("keys", &self.keys.len())
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// Signs tickets that [`Jwt`] accepts. For an example see there.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct JwtTicketBuilder {
    key: SigningKey,
    key_id: Option<String>,
    claims: Map<String, Value>,
}

impl JwtTicketBuilder {
    /// Signs with this key. The time of issue (`iat`) is now; there is no expiration yet.
    pub fn new(key: impl Into<SigningKey>) -> Self {
        provider::install();
        let builder = Self { key: key.into(), key_id: None, claims: Map::new() };
        builder.issued_at(SystemTime::now())
    }

    /// The id of the key (`kid`), by which validators choose among theirs. Default: none.
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// Who issues the ticket (`iss`). Default: not said.
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.claim("iss", issuer.into())
    }

    /// For whom it is (`aud`). Default: not said.
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.claim("aud", audience.into())
    }

    /// Whom it is about (`sub`). Default: the peer that it is built for.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject.into())
    }

    /// The time of issue (`iat`), to the second. Default: now.
    pub fn issued_at(self, time: SystemTime) -> Self {
        self.claim("iat", seconds(time))
    }

    /// From when it is valid (`nbf`), to the second. Default: at once.
    pub fn not_before(self, time: SystemTime) -> Self {
        self.claim("nbf", seconds(time))
    }

    /// Until when it is valid (`exp`), to the second. Default: for ever, which validators refuse by default.
    pub fn expires_at(self, time: SystemTime) -> Self {
        self.claim("exp", seconds(time))
    }

    /// As [`expires_at`](Self::expires_at), this long from now. A time that the calendar does not have is
    /// its last second of the year 9999.
    pub fn expires_in(self, time: Duration) -> Self {
        const LAST: Duration = Duration::from_secs(253_402_300_799);
        self.expires_at(SystemTime::now().checked_add(time).unwrap_or(UNIX_EPOCH + LAST))
    }

    /// A claim of your own, or another value for one of the above.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Signs the ticket for this peer.
    ///
    /// # Errors
    ///
    /// [`JwtKeyError::PrivateKey`], if the key does not sign after all.
    pub fn build(&self, peer: &PeerId) -> Result<Ticket, JwtKeyError> {
        let mut claims = self.claims.clone();
        claims.entry("sub").or_insert_with(|| peer.to_string().into());
        let mut header = Header::new(self.key.algorithm);
        header.kid.clone_from(&self.key_id);
        let token = jsonwebtoken::encode(&header, &claims, &self.key.key)
            .map_err(|_| JwtKeyError::PrivateKey { algorithm: "the algorithm" })?;
        Ok(Ticket::new(Jwt::CLASS, token))
    }
}

/// Whole seconds since 1970; zero for times before.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
