//! A deserializer for the usual part of postcard's [wire format](https://postcard.jamesmunns.com/wire-format.html).
//!
//! postcard's own deserializer takes a varint byte by byte, with a branch for each, and hands on every field through
//! memory. Here a varint is one load of eight bytes, whose end is found and whose groups of seven bits are put together
//! by shifts and masks, and everything is inlined into what `serde` derived.
//!
//! It reads what postcard writes for the types that most datums are made of, and refuses everything else without
//! saying why: then postcard is asked, whose answer counts ([`read`]).
//!
//! Not inside: who asks ([`Codec`](crate::datum::Codec)).

use core::fmt::{self, Display};
use core::str;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};

use super::{WORD, WORD_BITS, read_short};

/// Reads a datum that occupies all of `bytes` into `into`. `false`: this module cannot, and `into` is as it was.
///
/// The only place that deserializes with [`Reader`], for each type of datum, and written to where the datum stays: a
/// compiler inlines what has one caller, and a datum that is handed back is copied in pieces of other sizes than it was
/// written in, which makes a processor wait for its own stores.
#[inline(never)]
pub(crate) fn read<D: DeserializeOwned, E>(bytes: &[u8], into: &mut core::result::Result<D, E>) -> bool {
    let mut reader = Reader::new(bytes);
    match D::deserialize(&mut reader) {
        // An error that somebody swallowed is not postcard's: that one might have read on.
        Ok(datum) if reader.rest.is_empty() && !reader.refused => {
            *into = Ok(datum);
            true
        }
        _ => false,
    }
}

/// Not read here: ask postcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused;

type Result<T> = core::result::Result<T, Refused>;

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not read here")
    }
}

impl core::error::Error for Refused {}

impl de::Error for Refused {
    /// The message is postcard's to give.
    #[inline]
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// The bit of each byte that says that another one follows.
const MORE: u64 = 0x8080_8080_8080_8080;

/// What eight bytes of a varint hold: seven bits each.
const FULL_BITS: u32 = 56;

/// Reads datums from a slice.
#[derive(Debug)]
struct Reader<'de> {
    /// What was not read yet.
    rest: &'de [u8],
    /// The last eight bytes of all, the last one highest, so that a varint near the end is read as a word, too.
    last: u64,
    /// Something was not read.
    refused: bool,
}

impl<'de> Reader<'de> {
    #[inline(always)]
    fn new(bytes: &'de [u8]) -> Self {
        let last = match bytes.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            // Two shifts, since one by 64 is none.
            None => read_short(bytes) << 8 << (WORD_BITS - 8 - 8 * bytes.len()),
        };
        Self { rest: bytes, last, refused: false }
    }

    /// What remains is for postcard, also if the error is swallowed.
    #[inline]
    fn refuse<T>(&mut self) -> Result<T> {
        self.refused = true;
        Err(Refused)
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8> {
        let Some((byte, rest)) = self.rest.split_first() else { return self.refuse() };
        self.rest = rest;
        Ok(*byte)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((array, rest)) = self.rest.split_first_chunk() else { return self.refuse() };
        self.rest = rest;
        Ok(*array)
    }

    /// As many bytes as a varint says.
    #[inline(always)]
    fn run(&mut self) -> Result<&'de [u8]> {
        let len = self.len()?;
        let Some((run, rest)) = self.rest.split_at_checked(len) else { return self.refuse() };
        self.rest = rest;
        Ok(run)
    }

    #[inline(always)]
    fn text(&mut self) -> Result<&'de str> {
        let run = self.run()?;
        str::from_utf8(run).or_else(|_| self.refuse())
    }

    #[inline(always)]
    fn len(&mut self) -> Result<usize> {
        self.varint::<{ usize::BITS }>().map(|len| len as usize)
    }

    /// A varint of a type of `BITS` bits, at most 64.
    #[inline(always)]
    fn varint<const BITS: u32>(&mut self) -> Result<u64> {
        // Tags, lengths, flags.
        match self.rest.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.rest = rest;
                return Ok(u64::from(*byte));
            }
            Some(_) => {}
            None => return self.refuse(),
        }
        let word = match self.rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            // What is left of the last ones, and above it bytes that end nothing.
            None => !(!self.last >> (WORD_BITS - 8 * self.rest.len())),
        };
        let end = !word & MORE;
        if end == 0 {
            return self.nine_bytes::<BITS>(word);
        }
        let value = squeeze(word & (end ^ (end - 1)));
        let len = (end.trailing_zeros() / 8) as usize + 1;
        if len > BITS.div_ceil(7) as usize || BITS < u64::BITS && value >> BITS != 0 {
            return self.refuse();
        }
        let Some(rest) = self.rest.get(len..) else { return self.refuse() };
        self.rest = rest;
        Ok(value)
    }

    /// A varint whose first eight bytes are `word` and do not end it: a time, for one.
    #[inline(always)]
    fn nine_bytes<const BITS: u32>(&mut self, word: u64) -> Result<u64> {
        match self.rest.get(WORD..).and_then(<[u8]>::split_first) {
            Some((ninth, rest)) if BITS > FULL_BITS && *ninth < 0x80 => {
                self.rest = rest;
                Ok(squeeze(word) | u64::from(*ninth) << FULL_BITS)
            }
            _ => self.refuse(),
        }
    }
}

/// Puts together what eight bytes hold in their lower seven bits, by pairs.
#[inline(always)]
fn squeeze(word: u64) -> u64 {
    let pairs = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours >> 32) << 28
}

/// The number that postcard writes as `zigzag`: 0, -1, 1, -2 as 0, 1, 2, 3.
#[inline(always)]
fn signed(zigzag: u64) -> i64 {
    (zigzag >> 1 ^ (zigzag & 1).wrapping_neg()).cast_signed()
}

/// Methods that read a number, or bytes, and hand it on.
macro_rules! hands_on {
    ($($method:ident: $visit:ident($self:ident) $value:expr;)+) => {$(
        #[inline(always)]
        fn $method<V: Visitor<'de>>($self, visitor: V) -> Result<V::Value> {
            visitor.$visit($value)
        }
    )+};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Refused;

    hands_on! {
        deserialize_u8: visit_u8(self) self.byte()?;
        deserialize_u16: visit_u16(self) self.varint::<16>()? as u16;
        deserialize_u32: visit_u32(self) self.varint::<32>()? as u32;
        deserialize_u64: visit_u64(self) self.varint::<64>()?;
        deserialize_i8: visit_i8(self) self.byte()?.cast_signed();
        deserialize_i16: visit_i16(self) signed(self.varint::<16>()?) as i16;
        deserialize_i32: visit_i32(self) signed(self.varint::<32>()?) as i32;
        deserialize_i64: visit_i64(self) signed(self.varint::<64>()?);
        deserialize_f32: visit_f32(self) f32::from_bits(u32::from_le_bytes(self.array()?));
        deserialize_f64: visit_f64(self) f64::from_bits(u64::from_le_bytes(self.array()?));
        deserialize_str: visit_borrowed_str(self) self.text()?;
        deserialize_string: visit_str(self) self.text()?;
        deserialize_bytes: visit_borrowed_bytes(self) self.run()?;
        deserialize_byte_buf: visit_bytes(self) self.run()?;
    }

    serde::forward_to_deserialize_any! { i128 u128 char map identifier ignored_any }

    /// What is rare, or what the format does not tell.
    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value> {
        self.refuse()
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline(always)]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => self.refuse(),
        }
    }

    #[inline(always)]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => self.refuse(),
        }
    }

    #[inline(always)]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.len()?;
        visitor.visit_seq(Several { reader: self, left })
    }

    /// On a reader of its own: the one behind `self` is in memory wherever a derived `deserialize` is called and not
    /// inlined, and then each field would store where it ended for the next one to load.
    #[inline(always)]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        let mut reader = Reader { ..*self };
        let value = visitor.visit_seq(Several { reader: &mut reader, left: len });
        *self = reader;
        value
    }

    #[inline(always)]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline(always)]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline(always)]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self)
    }
}

/// Values one after the other, and how many are left.
struct Several<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Several<'_, 'de> {
    type Error = Refused;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    /// serde's own goes by way of a seed, which is only inlined if the compiler likes to.
    #[inline(always)]
    fn next_element<T: Deserialize<'de>>(&mut self) -> Result<Option<T>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        T::deserialize(&mut *self.reader).map(Some)
    }

    /// Nothing, if there are fewer bytes than values: one may take no bytes, but who believes it makes room for as many
    /// as a few bytes claim.
    #[inline]
    fn size_hint(&self) -> Option<usize> {
        (self.left <= self.reader.rest.len()).then_some(self.left)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Reader<'de> {
    type Error = Refused;
    type Variant = Self;

    #[inline(always)]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let index = self.varint::<32>()? as u32;
        let variant = seed.deserialize(IntoDeserializer::<Refused>::into_deserializer(index))?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Reader<'de> {
    type Error = Refused;

    #[inline(always)]
    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    #[inline(always)]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    #[inline(always)]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline(always)]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests;
