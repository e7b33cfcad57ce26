//! Identities: 32 bytes with a text form.
//!
//! Each kind of thing has an id type of its own, so that a peer's id cannot be passed where a stream's is
//! wanted. [`UniqueId`] is an id of no kind; it converts into each of the others with `From`, and none of
//! them into another kind. All convert from and into their 32 bytes.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Defines an id type: 32 bytes, with the text rule and the serde form of [`UniqueId`].
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id with exactly these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The id that `text` names: 64 hexadecimal digits are decoded, anything else is hashed with
            /// BLAKE3.
            pub fn from_text(text: &str) -> Self {
                Self(decode_hex(text).unwrap_or_else(|| *blake3::hash(text.as_bytes()).as_bytes()))
            }

            /// A new id from the operating system's randomness.
            ///
            /// # Panics
            ///
            /// If the operating system has no randomness to give: on Linux, if neither `getrandom(2)` nor
            /// `/dev/urandom` works.
            pub fn random() -> Self {
                Self(random_bytes())
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
            pub const fn short(&self) -> ShortId<'_> {
                ShortId(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.short(), f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::from_text(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from_text(&text)
            }
        }

        impl From<&String> for $name {
            fn from(text: &String) -> Self {
                Self::from_text(text)
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; 32] {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<&$name> for $name {
            fn from(id: &$name) -> Self {
                *id
            }
        }

        impl FromStr for $name {
            type Err = core::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self::from_text(text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_id(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_id(deserializer).map(Self)
            }
        }

        impl<T: IdText> FromIdText<T> for $name {
            const ID: Self = Self(T::BYTES);
        }
    };
}

id_type! {
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
    UniqueId
}

/// Defines the id types that a [`UniqueId`] converts into.
macro_rules! kinds_of_id {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        id_type! {
            $(#[$doc])*
            ///
            /// Text, bytes and serde follow the rules of [`UniqueId`].
            $name
        }

        impl From<UniqueId> for $name {
            fn from(id: UniqueId) -> Self {
                Self(id.0)
            }
        }
    )*};
}

kinds_of_id! {
    /// Identifies a network: only nodes of one network talk to each other.
    NetworkId

    /// Identifies a peer: the digest of its public signing key.
    ///
    /// ```compile_fail,E0277
    /// # use corewire::{PeerId, StreamId};
    /// let peer = PeerId::from("someone");
    /// let stream: StreamId = peer.into(); // one kind of id is not another
    /// ```
    PeerId

    /// Identifies a stream.
    StreamId

    /// A label that a peer announces about itself.
    Tag
}

impl UniqueId {
    /// The BLAKE3 hash of `bytes`.
    pub fn hash(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// An id that belongs to this one and to `info`: the BLAKE3 hash of both.
    pub fn derive(&self, info: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(info);
        Self(*hasher.finalize().as_bytes())
    }
}

fn random_bytes() -> [u8; 32] {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0u8; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gave no randomness: neither getrandom(2) nor /dev/urandom works here");
    bytes
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

/// The first ten hexadecimal digits of an id; made by [`UniqueId::short`] and its likes.
#[derive(Clone, Copy)]
pub struct ShortId<'a>(&'a [u8; 32]);

impl fmt::Display for ShortId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..5])
    }
}

impl fmt::Debug for ShortId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn serialize_id<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(&UniqueId(*bytes))
    } else {
        bytes.serialize(serializer)
    }
}

fn deserialize_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(HexVisitor)
    } else {
        <[u8; 32]>::deserialize(deserializer)
    }
}

/// Reads the text form. Text that is not 64 digits is an error: an id that was written out and came back
/// damaged must not become the hash of the damage.
struct HexVisitor;

impl serde::de::Visitor<'_> for HexVisitor {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; 32], E> {
        decode_hex(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

/// The bytes that a literal names; implemented by what [`unique_id!`](crate::unique_id) expands to.
#[doc(hidden)]
pub trait IdText {
    /// The bytes.
    const BYTES: [u8; 32];
}

/// An id made of a literal at compile time. A trait constant, because a `const fn` cannot be generic over its
/// result.
#[doc(hidden)]
pub trait FromIdText<T: IdText> {
    /// The id.
    const ID: Self;
}

/// Makes an id of a string literal at compile time, by the rule of
/// [`UniqueId::from_text`](crate::UniqueId::from_text). It is of the id type that its place asks for:
/// [`UniqueId`], [`NetworkId`], [`PeerId`], [`StreamId`] or [`Tag`].
///
/// ```
/// use corewire::{StreamId, UniqueId, unique_id};
///
/// const PRICES: StreamId = unique_id!("prices");
/// assert_eq!(PRICES, StreamId::from("prices"));
///
/// const TICKETS: UniqueId = unique_id!("my-app.jwt");
/// ```
///
/// Where several types would do, as for an `impl Into<StreamId>`, give it a constant with a type, or pass the
/// text itself.
///
/// [`UniqueId`]: crate::UniqueId
/// [`NetworkId`]: crate::NetworkId
/// [`PeerId`]: crate::PeerId
/// [`StreamId`]: crate::StreamId
/// [`Tag`]: crate::Tag
#[macro_export]
macro_rules! unique_id {
    ($($text:tt)*) => {{
        enum Literal {}
        impl $crate::__private::IdText for Literal {
            const BYTES: [u8; 32] = $crate::__private::digest!($($text)*);
        }
        <_ as $crate::__private::FromIdText<Literal>>::ID
    }};
}

/// Makes a [`Tag`](crate::Tag) of a string literal at compile time.
///
/// ```
/// use corewire::{Tag, tag};
///
/// const EU_WEST: Tag = tag!("eu-west");
/// assert_eq!(EU_WEST, Tag::from("eu-west"));
/// ```
#[macro_export]
macro_rules! tag {
    ($($text:tt)*) => {
        $crate::Tag::from_bytes($crate::__private::digest!($($text)*))
    };
}

#[cfg(test)]
mod tests {
    use super::{NetworkId, PeerId, StreamId, Tag, UniqueId};

    #[test]
    fn macro_and_function_follow_one_text_rule() {
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
    fn macro_gives_the_id_type_that_its_place_asks_for() {
        const NETWORK: NetworkId = crate::unique_id!("one name");
        const STREAM: Option<StreamId> = Some(crate::unique_id!("one name"));
        let (peer, tag): (PeerId, Tag) = (crate::unique_id!("one name"), crate::tag!("one name"));
        let bytes = UniqueId::from("one name").to_bytes();
        let all = [NETWORK.to_bytes(), STREAM.unwrap().to_bytes(), peer.to_bytes(), tag.to_bytes()];
        assert_eq!(all, [bytes; 4]);
    }

    #[test]
    fn unique_id_converts_into_every_kind() {
        let id = UniqueId::random();
        assert_eq!(StreamId::from(id).to_bytes(), id.to_bytes());
        assert_eq!(PeerId::from(id).to_bytes(), id.to_bytes());
        assert_eq!(NetworkId::from(id).to_bytes(), id.to_bytes());
        assert_eq!(Tag::from(id), Tag::from(&Tag::from(id.to_string())));
    }

    #[test]
    fn near_misses_of_hex_are_hashed() {
        for text in ["", "00", "g".repeat(64).as_str(), "0".repeat(63).as_str(), "é".repeat(32).as_str()] {
            assert_eq!(UniqueId::from_text(text), UniqueId::hash(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn text_forms_show_all_or_ten_digits() {
        let id = StreamId::from_bytes(*b"0123456789abcdef0123456789abcdef");
        assert_eq!(id.to_string(), "3031323334353637383961626364656630313233343536373839616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().to_string(), "3031323334");
        assert_eq!(format!("{id:?} {:?}", id.short()), "3031323334 3031323334");
    }

    #[test]
    fn binary_formats_carry_the_bare_32_bytes() {
        let id = PeerId::random();
        let bytes = postcard::to_allocvec(&id).unwrap();
        assert_eq!(bytes, id.as_bytes());
        assert_eq!(postcard::from_bytes::<PeerId>(&bytes).unwrap(), id);
    }

    #[test]
    fn human_readable_formats_carry_hex_and_refuse_anything_else() {
        let id = StreamId::random();
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<StreamId>(&text).unwrap(), id);
        let error = serde_json::from_str::<StreamId>("\"prices\"").unwrap_err();
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
