//! Every value's encoded form is postcard's, in each of the ways in which a stream encodes and decodes.

use core::cell::Cell;
use core::fmt::{self, Debug, Display};
use std::collections::BTreeMap;
use std::io::Write;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Codec, DatumOutput, DecodeError, EncodeError, Encoding, Postcard, STAGING_BYTES, decode_into, encode,
    encode_what_fits, measure, serialize_to,
};

/// Encodes and decodes `datum` in every way, and gives its encoded form.
fn as_postcard<D>(datum: &D) -> Vec<u8>
where
    D: Serialize + DeserializeOwned + PartialEq + Debug + Send + 'static,
{
    let expected = postcard::to_allocvec(datum).unwrap();
    assert_eq!(measure::<D, Postcard>(datum), Ok(expected.len()), "{datum:?}");

    let mut out = vec![0xa5; expected.len()];
    assert_eq!(encode::<D, Postcard>(datum, &mut out), Ok(()), "{datum:?}");
    assert_eq!(out, expected, "{datum:?}");

    let mut short = [0xa5; STAGING_BYTES];
    assert_eq!(encode_what_fits::<D, Postcard>(datum, &mut short), Ok(expected.len()), "{datum:?}");
    if let Some(written) = short.get(..expected.len()) {
        assert_eq!(written, expected, "{datum:?}");
    }

    assert_eq!(<Postcard as Codec<D>>::decode(&out).as_ref(), Ok(datum));
    let mut into = Err(());
    assert!(decode_into::<D, Postcard, _>(&out, &mut into), "{datum:?}");
    assert_eq!(into.as_ref(), Ok(datum));

    out.push(0);
    assert!(<Postcard as Codec<D>>::decode(&out).is_err(), "a byte follows {datum:?}");
    let mut into: Result<D, _> = Err("unchanged");
    assert!(!decode_into::<D, Postcard, _>(&out, &mut into), "a byte follows {datum:?}");
    assert_eq!(into, Err("unchanged"));
    expected
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Numbers {
    truth: bool,
    signed: (i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128),
    sizes: (usize, isize),
    /// By their bits, since a NaN is not equal to itself.
    floats: (Bits32, Bits64),
    letter: char,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bits32(f32);

impl PartialEq for Bits32 {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bits64(f64);

impl PartialEq for Bits64 {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Two(String, u16);

/// Bytes as `serialize_bytes` gives them.
#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copied;

        impl Visitor<'_> for Copied {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Copied)
    }
}

/// A text that is formatted while it is serialized, in the pieces that it has.
#[derive(Clone, Debug, PartialEq)]
struct Formatted(Vec<String>);

impl Display for Formatted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| f.write_str(piece))
    }
}

impl Serialize for Formatted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Formatted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(vec![String::deserialize(deserializer)?]))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Any {
    Unit,
    New(Box<Numbers>),
    Tuple(String, Option<u64>, ()),
    Struct { bytes: Bytes, nothing: Nothing, two: Two },
    Words(Vec<u64>),
    Octets(Vec<u8>),
    Map(BTreeMap<String, Option<i64>>),
    Array([u32; 5]),
    Within(Vec<Any>),
}

fn numbers() -> impl Strategy<Value = Numbers> {
    // Numbers of every length in bits, since the length of a varint depends on it.
    let signed = (any::<i8>(), any::<i16>(), any::<i32>(), any::<i64>(), any::<i128>());
    let unsigned = (any::<u8>(), any::<u16>(), any::<u32>(), any::<u64>(), any::<u128>());
    let floats = (any::<u32>(), any::<u64>());
    (any::<bool>(), signed, unsigned, floats, any::<char>(), 0u32..128).prop_map(
        |(truth, (a, b, c, d, e), (f, g, h, i, j), floats, letter, by)| Numbers {
            truth,
            signed: (a >> (by % 8), b >> (by % 16), c >> (by % 32), d >> (by % 64), e >> by),
            unsigned: (f >> (by % 8), g >> (by % 16), h >> (by % 32), i >> (by % 64), j >> by),
            sizes: (i as usize >> (by % 64), d as isize >> (by % 64)),
            floats: (Bits32(f32::from_bits(floats.0)), Bits64(f64::from_bits(floats.1))),
            letter,
        },
    )
}

fn anything() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Unit),
        numbers().prop_map(|numbers| Any::New(Box::new(numbers))),
        (".{0,20}", any::<Option<u64>>()).prop_map(|(text, number)| Any::Tuple(text, number, ())),
        (vec(any::<u8>(), 0..90), ".{0,50}", any::<u16>()).prop_map(|(bytes, text, number)| {
            Any::Struct { bytes: Bytes(bytes), nothing: Nothing, two: Two(text, number) }
        }),
        vec(any::<u64>(), 0..10).prop_map(Any::Words),
        vec(any::<u8>(), 0..200).prop_map(Any::Octets),
        btree_map(".{0,5}", any::<Option<i64>>(), 0..5).prop_map(Any::Map),
        any::<[u32; 5]>().prop_map(Any::Array),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| vec(inner, 0..6).prop_map(Any::Within))
}

proptest! {
    #[test]
    fn any_value_is_encoded_as_postcard_encodes_it(any in anything()) {
        as_postcard(&any);
    }

    #[test]
    fn a_formatted_text_is_encoded_in_one_piece(pieces in vec(".{0,30}", 0..6), before in any::<u32>()) {
        let expected = postcard::to_allocvec(&(before, Formatted(pieces.clone()))).unwrap();
        // It comes back in one piece.
        let datum = (before, Formatted(vec![pieces.concat()]));
        prop_assert_eq!(as_postcard(&datum), &expected[..]);
        let datum = (before, Formatted(pieces));
        let mut out = vec![0; expected.len()];
        prop_assert_eq!(encode::<_, Postcard>(&datum, &mut out), Ok(()));
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn lengths_around_the_short_limit(len in 40usize..90, number in any::<u16>()) {
        as_postcard(&(number, Bytes(vec![7; len])));
        as_postcard(&(vec![9u8; len], number));
        as_postcard(&("x".repeat(len), number, number));
        as_postcard(&(number, vec![u64::from(number); len / 4]));
        as_postcard(&(number, Formatted(vec!["y".repeat(len)])));
    }
}

#[test]
fn numbers_of_every_length() {
    for bits in 0..128 {
        for near in [0, 1, u128::MAX] {
            let value = (1u128 << bits).wrapping_add(near);
            as_postcard(&value);
            as_postcard(&(value as u64));
            as_postcard(&(value as u32));
            as_postcard(&(value as u16));
            as_postcard(&(value as i128));
            as_postcard(&(value as i64));
            as_postcard(&(value as i32));
            as_postcard(&(value as i16));
            as_postcard(&(value as i8));
            // Behind a byte: unaligned.
            as_postcard(&(true, value, value as i64, value as u16));
        }
    }
    as_postcard(&(i128::MIN, i128::MAX, u128::MAX, i64::MIN, i64::MAX, u64::MAX));
    as_postcard(&(i32::MIN, i32::MAX, i16::MIN, i16::MAX, i8::MIN, i8::MAX));
}

#[test]
fn chars_of_every_length() {
    for char in ['\0', '\x7f', '\u{80}', '\u{7ff}', '\u{800}', '\u{ffff}', '\u{10000}', char::MAX] {
        as_postcard(&(char, true));
    }
}

#[test]
fn long_values_behind_and_before_short_ones() {
    for len in [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 1_000, 20_000] {
        for shift in 0..9 {
            as_postcard(&(vec![1u8; shift], "z".repeat(len), 5u8));
        }
    }
}

#[test]
fn nothing_at_all() {
    assert!(as_postcard(&()).is_empty());
    assert!(as_postcard(&Nothing).is_empty());
}

/// A sequence or a map that does not know its length.
struct Endless {
    map: bool,
}

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.map {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry(&1, &2)?;
            map.end()
        } else {
            let mut seq = serializer.serialize_seq(None)?;
            seq.serialize_element(&1)?;
            seq.end()
        }
    }
}

/// Its `Display` fails.
struct Refuses;

impl Display for Refuses {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

/// A text by `collect_str`.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Complains;

impl Serialize for Complains {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no form"))
    }
}

/// The error of postcard, which is ours too.
fn error_of<D: Serialize>(datum: D) -> postcard::Error {
    let error = postcard::to_allocvec(&datum).unwrap_err();
    assert_eq!(
        serialize_to(&datum, &mut DatumOutput::new(&mut [0; STAGING_BYTES])),
        Err(EncodeError(Encoding::Postcard(error.clone())))
    );
    error
}

#[test]
fn a_value_without_a_form_fails_as_in_postcard() {
    assert_eq!(error_of(Endless { map: false }), postcard::Error::SerializeSeqLengthUnknown);
    assert_eq!(error_of(Endless { map: true }), postcard::Error::SerializeSeqLengthUnknown);
    assert_eq!(error_of(Shown(Refuses)), postcard::Error::CollectStrError);
    assert_eq!(error_of(Complains), postcard::Error::SerdeSerCustom);
    assert_eq!(error_of((1, Endless { map: false })), postcard::Error::SerializeSeqLengthUnknown);
}

/// As many bytes as its cell says, one more each time.
#[derive(Debug, Deserialize, PartialEq)]
struct Grows(Cell<u8>);

impl Serialize for Grows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = self.0.get();
        self.0.set(len + 1);
        serializer.serialize_bytes(&vec![7; len.into()])
    }
}

#[test]
fn a_value_of_another_length_than_measured_is_an_error() {
    let grows = Grows(Cell::new(20));
    let len = measure::<_, Postcard>(&grows).unwrap();
    for len in [len - 1, len, len + 10] {
        assert_eq!(encode::<_, Postcard>(&grows, &mut vec![0; len]), Err(EncodeError(Encoding::SizeChanged)));
    }
}

/// Ignores the errors of its serializer.
#[derive(Debug, Deserialize, PartialEq)]
struct Stubborn(Vec<u8>);

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        let _ = tuple.serialize_element(&1u8);
        let _ = tuple.serialize_element(&self.0);
        let _ = tuple.serialize_element(&2u8);
        tuple.end()
    }
}

#[test]
fn a_serialize_that_ignores_errors_meets_none_for_want_of_room() {
    let stubborn = Stubborn(vec![7; STAGING_BYTES]);
    let len = STAGING_BYTES + 3;
    assert_eq!(encode_what_fits::<_, Postcard>(&stubborn, &mut [0; STAGING_BYTES]), Ok(len));
    assert_eq!(encode::<_, Postcard>(&stubborn, &mut [0; 10]), Err(EncodeError(Encoding::SizeChanged)));
    assert_eq!(encode::<_, Postcard>(&stubborn, &mut vec![0; len]), Ok(()));
}

#[test]
fn a_length_beyond_the_bytes_reserves_no_memory_and_fails() {
    let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 7];
    assert!(decode::<Vec<u64>>(&bytes).is_err());
    assert!(decode::<Vec<u8>>(&bytes).is_err());
    assert!(decode::<String>(&bytes).is_err());
    assert!(decode::<Vec<String>>(&bytes).is_err());
    assert!(decode::<BTreeMap<u8, u8>>(&bytes).is_err());
}

fn decode<D: super::Datum>(bytes: &[u8]) -> Result<D, DecodeError> {
    Postcard::decode(bytes)
}

proptest! {
    #[test]
    fn damaged_bytes_decode_alike_in_place_and_by_value(
        any in anything(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = postcard::to_allocvec(&any).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            let mut into = Err("unchanged");
            let read = decode_into::<Any, Postcard, &str>(bytes, &mut into);
            let expected = decode::<Any>(bytes);
            prop_assert_eq!(read, expected.is_ok());
            prop_assert_eq!(into.ok(), expected.ok());
        }
    }
}

#[test]
fn the_form_is_not_human_readable() {
    struct Asks;
    impl Serialize for Asks {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.is_human_readable().serialize(serializer)
        }
    }
    let mut room = [9; 1];
    let mut out = DatumOutput::new(&mut room);
    assert_eq!(serialize_to(&Asks, &mut out), Ok(()));
    assert_eq!(out.bytes(), Some(&[0][..]));
}

#[test]
fn an_output_keeps_what_fits_and_counts_the_rest() {
    let mut room = [9; 5];
    let mut out = DatumOutput::new(&mut room);
    assert!(out.is_empty());
    out.put(&[1, 2]);
    assert_eq!((out.len(), out.bytes()), (2, Some(&[1, 2][..])));
    out.put(&[3, 4, 5, 6]);
    // Would fit by itself, but not behind what is missing.
    out.put(&[7]);
    assert_eq!((out.len(), out.bytes()), (7, None));
    assert_eq!(room, [1, 2, 9, 9, 9]);
}

#[test]
fn an_output_is_a_writer_that_never_fails() {
    let mut room = [0; 4];
    let mut out = DatumOutput::new(&mut room);
    write!(out, "{}", 123).unwrap();
    assert_eq!(out.bytes(), Some(&b"123"[..]));
    out.write_all(&[7; 100]).unwrap();
    assert_eq!((out.len(), out.bytes()), (103, None));
}
