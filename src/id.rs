//! Identities: 32 bytes with a text form.
//!
//! Nothing here says what an id names; that is the business of whoever holds it. There is one type with several
//! names, as constants made by [`unique_id!`](crate::unique_id) may serve as any of them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 32 bytes that identify something.
///
/// From text, exactly 64 hexadecimal digits are decoded and anything else is hashed with BLAKE3:
///
/// ```
/// use corewire::UniqueId;
///
/// let named = UniqueId::from("prices");
/// let copied = UniqueId::from(named.to_string());
/// assert_eq!(named, copied);
/// assert_eq!(named.to_string().len(), 64);
/// ```
///
/// With serde it is hexadecimal text in human-readable formats and 32 raw bytes in all others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueId([u8; 32]);

/// Identifies a network: only nodes of one network talk to each other.
pub type NetworkId = UniqueId;
/// Identifies a peer: the digest of its public signing key.
pub type PeerId = UniqueId;
/// Identifies a stream.
pub type StreamId = UniqueId;
/// A label that a peer announces about itself.
pub type Tag = UniqueId;
/// Identifies a group.
pub type GroupId = UniqueId;
/// Identifies a store.
pub type StoreId = UniqueId;

impl UniqueId {
    /// The id with exactly these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id that `text` names: 64 hexadecimal digits are decoded, anything else is hashed with BLAKE3.
    pub fn from_text(text: &str) -> Self {
        decode_hex(text).map_or_else(|| Self::hash(text.as_bytes()), Self)
    }

    /// The BLAKE3 hash of `bytes`.
    pub fn hash(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A fresh id from the operating system's randomness.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give, which on Linux means that neither `getrandom` nor
    /// `/dev/urandom` works. No program can have an identity then.
    pub fn random() -> Self {
        use ring::rand::SecureRandom as _;
        let mut bytes = [0u8; 32];
        ring::rand::SystemRandom::new().fill(&mut bytes).expect(
            "the operating system gave no randomness: neither getrandom(2) nor /dev/urandom works here",
        );
        Self(bytes)
    }

    /// An id that belongs to this one and to `info`: the hash of both.
    pub fn derive(&self, info: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(info);
        Self(*hasher.finalize().as_bytes())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 32 bytes, by value.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Displays the first ten hexadecimal digits: enough to tell ids apart in a log.
    pub const fn short(&self) -> Short<'_> {
        Short(self)
    }

    /// Displays the first and the last `LEN` hexadecimal digits with an ellipsis between them.
    pub const fn abbreviated<const LEN: usize>(&self) -> Abbreviated<'_, LEN> {
        Abbreviated(self)
    }
}

/// Decodes exactly 64 hexadecimal digits of either case.
fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

/// Writes `bytes` as lower-case hexadecimal digits.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Short display of a [`UniqueId`]; see [`UniqueId::short`].
#[derive(Clone, Copy)]
pub struct Short<'a>(&'a UniqueId);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0.0[..5])
    }
}

impl fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Two-ended display of a [`UniqueId`]; see [`UniqueId::abbreviated`].
#[derive(Clone, Copy)]
pub struct Abbreviated<'a, const LEN: usize>(&'a UniqueId);

impl<const LEN: usize> fmt::Display for Abbreviated<'_, LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if LEN >= 32 {
            return fmt::Display::fmt(self.0, f);
        }
        let text = self.0.to_string();
        write!(f, "{}…{}", &text[..LEN], &text[64 - LEN..])
    }
}

impl<const LEN: usize> fmt::Debug for Abbreviated<'_, LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.short(), f)
    }
}

impl From<&str> for UniqueId {
    fn from(text: &str) -> Self {
        Self::from_text(text)
    }
}

impl From<String> for UniqueId {
    fn from(text: String) -> Self {
        Self::from_text(&text)
    }
}

impl From<&String> for UniqueId {
    fn from(text: &String) -> Self {
        Self::from_text(text)
    }
}

impl From<[u8; 32]> for UniqueId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<&UniqueId> for UniqueId {
    fn from(id: &UniqueId) -> Self {
        *id
    }
}

impl From<UniqueId> for [u8; 32] {
    fn from(id: UniqueId) -> Self {
        id.0
    }
}

impl FromStr for UniqueId {
    type Err = core::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from_text(text))
    }
}

impl Serialize for UniqueId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for UniqueId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(HexVisitor)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// Reads the text form. Text that is not 64 digits is an error here: an id that was written out and came back
/// damaged must not turn into the hash of the damage.
struct HexVisitor;

impl serde::de::Visitor<'_> for HexVisitor {
    type Value = UniqueId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<UniqueId, E> {
        decode_hex(text)
            .map(UniqueId)
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

/// Makes a [`UniqueId`](crate::UniqueId) of a string literal while the program is compiled, by the rule of
/// [`UniqueId::from_text`](crate::UniqueId::from_text).
///
/// ```
/// use corewire::{StreamId, UniqueId, unique_id};
///
/// const PRICES: StreamId = unique_id!("prices");
/// assert_eq!(PRICES, UniqueId::from_text("prices"));
/// ```
#[macro_export]
macro_rules! unique_id {
    ($($text:tt)*) => {
        $crate::UniqueId::from_bytes($crate::__private::digest!($($text)*))
    };
}

/// Makes a [`Tag`](crate::Tag) of a string literal while the program is compiled.
///
/// ```
/// use corewire::{Tag, tag};
///
/// const TRUSTED: Tag = tag!("trusted");
/// assert_eq!(TRUSTED, Tag::from("trusted"));
/// ```
#[macro_export]
macro_rules! tag {
    ($($text:tt)*) => {
        $crate::unique_id!($($text)*)
    };
}

#[cfg(test)]
mod tests {
    use super::UniqueId;

    #[test]
    fn the_macro_and_the_function_follow_one_rule() {
        const HASHED: UniqueId = crate::unique_id!("oracle.price");
        const DECODED: UniqueId =
            crate::unique_id!("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF");
        assert_eq!(HASHED, UniqueId::from("oracle.price"));
        assert_eq!(
            DECODED,
            UniqueId::from("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff".to_owned())
        );
        assert_eq!(DECODED.as_bytes()[30..], [0x1e, 0xff]);
    }

    #[test]
    fn near_misses_of_hex_are_hashed() {
        for text in ["", "00", "g".repeat(64).as_str(), "0".repeat(63).as_str(), "é".repeat(32).as_str()] {
            assert_eq!(UniqueId::from_text(text), UniqueId::hash(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn text_forms_name_the_id_in_full_and_in_part() {
        let id = UniqueId::from_bytes(*b"0123456789abcdef0123456789abcdef");
        assert_eq!(id.to_string(), "3031323334353637383961626364656630313233343536373839616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().to_string(), "3031323334");
        assert_eq!(format!("{id:?}"), "3031323334");
        assert_eq!(id.abbreviated::<4>().to_string(), "3031…6566");
        assert_eq!(id.abbreviated::<40>().to_string(), id.to_string());
    }

    #[test]
    fn binary_formats_carry_the_bare_32_bytes() {
        let id = UniqueId::random();
        let bytes = postcard::to_allocvec(&id).unwrap();
        assert_eq!(bytes, id.as_bytes());
        assert_eq!(postcard::from_bytes::<UniqueId>(&bytes).unwrap(), id);
    }

    #[test]
    fn human_readable_formats_carry_hex_and_refuse_anything_else() {
        let id = UniqueId::random();
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<UniqueId>(&text).unwrap(), id);
        let error = serde_json::from_str::<UniqueId>("\"prices\"").unwrap_err();
        assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
    }

    #[test]
    fn random_ids_differ_and_derived_ids_depend_on_both_parts() {
        let (a, b) = (UniqueId::random(), UniqueId::random());
        assert_ne!(a, b);
        assert_ne!(a.derive(b"x"), a.derive(b"y"));
        assert_ne!(a.derive(b"x"), b.derive(b"x"));
        assert_eq!(a.derive(b"x"), a.derive(b"x"));
    }
}
