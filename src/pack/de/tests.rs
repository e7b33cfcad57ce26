//! What is read here is what postcard reads; what is not, postcard is asked.

use core::fmt::Debug;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use super::{read, squeeze};
use crate::datum::{Codec, Datum, Postcard};

/// What is read of `bytes` here.
fn ours<D: DeserializeOwned>(bytes: &[u8]) -> Option<D> {
    let mut into = Err(());
    let is_read = read::<D, ()>(bytes, &mut into);
    assert_eq!(is_read, into.is_ok(), "{bytes:?}");
    into.ok()
}

/// What postcard makes of all of `bytes`.
fn postcards<D: DeserializeOwned>(bytes: &[u8]) -> Option<D> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(datum, _)| datum)
}

/// What must hold for every type and all bytes: nothing is read that postcard would not read, nor as anything else; and
/// a stream gets what postcard reads.
fn agrees<D: Datum + PartialEq + Debug>(bytes: &[u8]) {
    let expected = postcards::<D>(bytes);
    if let Some(datum) = ours::<D>(bytes) {
        assert_eq!(Some(&datum), expected.as_ref(), "{bytes:?}");
    }
    let mut into = Err("as it was");
    assert_eq!(Postcard::decode_into(bytes, &mut into), expected.is_some(), "{bytes:?}");
    assert_eq!(into, expected.ok_or("as it was"), "{bytes:?}");
}

/// The same, for a list of types.
macro_rules! agree {
    ($bytes:expr; $($type:ty),+ $(,)?) => {{
        let bytes: &[u8] = $bytes;
        $(agrees::<$type>(bytes);)+
    }};
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Order {
    Market,
    Limit(i64),
    Iceberg(u32, u32),
    Stop { at: i64, note: Option<String> },
    Both(Box<Order>, Vec<Order>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Usual {
    time: u64,
    signed: (i8, i16, i32, i64),
    unsigned: (u8, u16, u32, u64, usize),
    price: Option<u32>,
    truth: bool,
    text: String,
    list: Vec<u16>,
    array: [u32; 3],
    unit: (),
    order: Order,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unusual {
    wide: (u128, i128),
    letter: char,
    map: BTreeMap<u16, bool>,
}

/// Takes what it cannot read for the default.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
struct Lenient<T>(T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).unwrap_or_default()))
    }
}

fn order() -> impl Strategy<Value = Order> {
    let leaf = prop_oneof![
        Just(Order::Market),
        any::<i64>().prop_map(Order::Limit),
        any::<(u32, u32)>().prop_map(|(shown, all)| Order::Iceberg(shown, all)),
        (any::<i64>(), proptest::option::of(".{0,9}")).prop_map(|(at, note)| Order::Stop { at, note }),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        (inner.clone(), vec(inner, 0..4)).prop_map(|(one, more)| Order::Both(Box::new(one), more))
    })
}

fn usual() -> impl Strategy<Value = Usual> {
    // Numbers of every length in bits, since the length of a varint depends on it.
    let numbers = (any::<u64>(), any::<i64>(), 0u32..64);
    let rest = (any::<bool>(), ".{0,20}", vec(any::<u16>(), 0..20), any::<[u32; 3]>(), order());
    (numbers, rest).prop_map(|((number, signed, by), (truth, text, list, array, order))| Usual {
        time: number >> by,
        signed: ((signed >> by) as i8, (signed >> by) as i16, (signed >> by) as i32, signed >> by),
        unsigned: (
            (number >> by) as u8,
            (number >> by) as u16,
            (number >> by) as u32,
            number >> by,
            (number >> by) as usize,
        ),
        price: (by % 2 == 0).then_some((number >> by) as u32),
        truth,
        text,
        list,
        array,
        unit: (),
        order,
    })
}

/// Bytes as they are found in varints: many that are continued, and small ones.
fn bytes() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), 0x80u8.., Just(0x80), Just(0xff), 0u8..6]
}

fn all_agree(bytes: &[u8]) {
    agree!(bytes;
        bool, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, char, (), String, Box<str>,
        Option<u32>, Option<Option<i64>>, Vec<u8>, Vec<u64>, Vec<String>, Vec<Order>, (u64, u64, u32), [u16; 4],
        (Lenient<u128>, Vec<u8>), (Lenient<char>, u8), (Lenient<(u8, bool)>, u8), (Lenient<u16>, Vec<u8>),
        Order, Usual, Unusual, BTreeMap<u16, Option<char>>, Result<u32, String>,
    );
}

proptest! {
    #[test]
    fn usual_datums_are_read_here(usual in usual()) {
        let bytes = postcard::to_allocvec(&usual).unwrap();
        let ten_bytes = [usual.time, usual.unsigned.3, usual.unsigned.4 as u64, usual.signed.3.unsigned_abs()];
        // A varint of ten bytes is the only thing in there that is left to postcard.
        let orders_small = !format!("{:?}", usual.order).contains(|c: char| c.is_ascii_digit());
        if orders_small && ten_bytes.iter().all(|number| *number < 1 << 62) {
            prop_assert_eq!(ours::<Usual>(&bytes), Some(usual.clone()));
        }
        let mut into = Err(());
        prop_assert!(Postcard::decode_into(&bytes, &mut into));
        prop_assert_eq!(into, Ok(usual));
    }

    #[test]
    fn any_bytes_are_what_postcard_makes_of_them(bytes in vec(bytes(), 0..40)) {
        all_agree(&bytes);
    }

    #[test]
    fn a_damaged_datum_is_what_postcard_makes_of_it(
        usual in usual(),
        changes in vec((any::<prop::sample::Index>(), bytes()), 0..4),
        cut in any::<prop::sample::Index>(),
        appended in vec(bytes(), 0..12),
    ) {
        let mut bytes = postcard::to_allocvec(&usual).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        agrees::<Usual>(&bytes);
        agrees::<Usual>(&bytes[..cut.index(bytes.len())]);
        bytes.extend(appended);
        agrees::<Usual>(&bytes);
        all_agree(&bytes[cut.index(bytes.len())..]);
    }

    #[test]
    fn seven_bits_come_from_each_byte(word in any::<u64>()) {
        let bytes = word.to_le_bytes();
        let value = bytes.iter().rev().fold(0, |all, byte| all << 7 | u64::from(*byte & 0x7f));
        prop_assert_eq!(value, squeeze(word));
    }
}

#[test]
fn varints_of_every_length_at_every_distance_from_the_end() {
    for len in 0..22 {
        for last in [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127] {
            for more in [0x80, 0x81, 0xff] {
                for after in 0..12 {
                    let mut bytes = vec![more; len];
                    bytes.push(last);
                    agree!(&bytes; u16, u32, u64, usize, i16, i32, i64);
                    bytes.extend(vec![0x41; after]);
                    agree!(&bytes; (u16, u8), (u64, u16), (i64, [u8; 3]), (u32, [u8; 7]), (u64, [u8; 11]), Vec<u8>);
                    agree!(&bytes[..len]; u16, u64, (u8, u16), (u8, u64));
                    bytes.insert(0, 1);
                    agree!(&bytes; (u8, u16, [u8; 2]), (bool, u64, [u8; 5]), Option<i64>, (Option<u32>, [u8; 9]));
                }
            }
        }
    }
}

#[test]
fn two_bytes_are_what_postcard_makes_of_them() {
    for bytes in 0..=u16::MAX {
        let bytes = &bytes.to_le_bytes();
        agree!(bytes; bool, u8, i8, u16, i32, u64, String, Vec<bool>, Option<u8>, (u8, u8), (bool, i8), Order, char);
    }
}

#[test]
fn an_error_that_is_swallowed_is_swallowed_where_postcard_has_it() {
    let bytes = postcard::to_allocvec(&(Lenient(4u128), vec![1u8, 2, 3])).unwrap();
    agree!(&bytes; (Lenient<u128>, Vec<u8>));
    assert_eq!(ours::<(Lenient<u128>, Vec<u8>)>(&bytes), None);
    agree!(&[7, 2, 5, 0]; (Lenient<(u8, bool)>, u8, u8), (Lenient<(u8, bool, u8)>, u8));
}

#[test]
fn what_the_format_does_not_tell_is_read_by_nobody() {
    assert!(ours::<IgnoredAny>(&[1]).is_none() && postcards::<IgnoredAny>(&[1]).is_none());
}

#[test]
fn a_length_beyond_the_bytes_makes_no_room_ahead() {
    let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 7];
    agree!(&bytes; Vec<u64>, Vec<u8>, String, Vec<String>, BTreeMap<u8, u8>);
}
