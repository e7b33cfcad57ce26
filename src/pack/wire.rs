//! A serializer that writes postcard's [wire format](https://postcard.jamesmunns.com/wire-format.html) in words.
//!
//! postcard's own serializer puts a varint together in memory, byte by byte, and copies it from there byte by byte.
//! Behind a record that another processor is about to read such stores wait in line for the record's, and so does the
//! next record. Here a value becomes one word, or two, by shifts and masks. Reading is in [`de`](super::de).
//!
//! Not inside: where the words go ([`Sink`]).

use core::fmt::{self, Display, Write};
use core::mem;

use postcard::{Error, Result};
use serde::Serialize;
use serde::ser;

/// Takes the encoded form in pieces.
///
/// It is handed on by value, from field to field: what it holds stays in registers then, while each change behind a
/// reference would be a store. The default is what remains after an error.
pub(crate) trait Sink: Default {
    /// The lowest `bits` of `bytes`, 8 to 64 and whole bytes, the lowest one first. The other bits are zeros.
    fn push(self, bytes: u64, bits: u32) -> Result<Self>;

    /// Bytes that lie in memory.
    fn run(self, bytes: &[u8]) -> Result<Self>;

    /// `text`, which is `len` bytes long.
    #[inline]
    fn text<T: Display + ?Sized>(self, text: &T, len: usize) -> Result<Self> {
        let mut into = Text { sink: Ok(self), left: len };
        let written = write!(into, "{text}");
        let sink = into.sink?;
        written.map_err(|_| Error::CollectStrError)?;
        // Another text than the one that was measured a moment ago: as when there is no room for it.
        if into.left == 0 { Ok(sink) } else { Err(Error::SerializeBufferFull) }
    }
}

/// The length of what it is given, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Length(usize);

impl Length {
    /// How many bytes `datum` is encoded.
    #[inline]
    pub(crate) fn of<D: Serialize + ?Sized>(datum: &D) -> Result<usize> {
        datum.serialize(Wire(Self(0))).map(|length| length.0)
    }
}

impl Sink for Length {
    #[inline(always)]
    fn push(self, _bytes: u64, bits: u32) -> Result<Self> {
        Ok(Self(self.0 + (bits / 8) as usize))
    }

    #[inline(always)]
    fn run(self, bytes: &[u8]) -> Result<Self> {
        Ok(Self(self.0 + bytes.len()))
    }

    #[inline]
    fn text<T: Display + ?Sized>(self, _text: &T, len: usize) -> Result<Self> {
        Ok(Self(self.0 + len))
    }
}

/// Serializes into a [`Sink`], and gives it back.
pub(crate) struct Wire<S>(pub(crate) S);

/// What eight bytes of a varint hold: seven bits each.
const FULL_BITS: u32 = 56;
const FULL: u64 = (1 << FULL_BITS) - 1;

/// The bit of each byte that says that another one follows.
const MORE: u64 = 0x8080_8080_8080_8080;

/// A varint of any length.
#[inline(always)]
fn varint<S: Sink>(sink: S, value: u64) -> Result<S> {
    // Tags, lengths, flags.
    if value < 0x80 {
        return sink.push(value, 8);
    }
    if value > FULL {
        // Times. One or two bytes more; the last one of two can only be 1.
        let (last, more) = (value >> FULL_BITS, value >> 63);
        return sink.push(spread(value & FULL) | MORE, 64)?.push(last | more << 8, 8 + 8 * more as u32);
    }
    // Of n bits, the first of which is 1, all but the last of its bytes take 8 * ((n - 1) / 7): written without a
    // division, exact for all lengths up to 64.
    let followed = (((value | 1).ilog2() + 1) * 9 / 8) & !7;
    // Two shifts, since one by 64 is none.
    sink.push(spread(value) | MORE >> 8 >> (FULL_BITS - followed), followed + 8)
}

#[inline]
fn varint_u128<S: Sink>(mut sink: S, mut value: u128) -> Result<S> {
    while value >> FULL_BITS != 0 {
        sink = sink.push(spread(value as u64 & FULL) | MORE, 64)?;
        value >>= FULL_BITS;
    }
    varint(sink, value as u64)
}

/// Spreads 56 bits over eight bytes, seven in each, by halves: what is shifted is added as often as it is missing.
#[inline(always)]
fn spread(value: u64) -> u64 {
    let value = value + (value & 0x00ff_ffff_f000_0000) * 15;
    let value = value + (value & 0x0fff_c000_0fff_c000) * 3;
    value + (value & 0x3f80_3f80_3f80_3f80)
}

/// The UTF-8 form of `char`, the first byte lowest, and its length.
#[inline]
fn utf8(char: char) -> (u64, u32) {
    let code = u64::from(char);
    let follows = |shift: u32| 0x80 | code >> shift & 0x3f;
    match char.len_utf8() {
        1 => (code, 1),
        2 => (0xc0 | code >> 6 | follows(0) << 8, 2),
        3 => (0xe0 | code >> 12 | follows(6) << 8 | follows(0) << 16, 3),
        _ => (0xf0 | code >> 18 | follows(12) << 8 | follows(6) << 16 | follows(0) << 24, 4),
    }
}

/// Counts what is formatted.
struct Count(usize);

impl Write for Count {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0 += piece.len();
        Ok(())
    }
}

/// Hands on what is formatted, up to the length that was announced.
struct Text<S> {
    /// Or why it took no more.
    sink: Result<S>,
    left: usize,
}

impl<S: Sink> Write for Text<S> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let left = self.left.checked_sub(piece.len()).ok_or(Error::SerializeBufferFull);
        self.sink = mem::replace(&mut self.sink, Err(Error::SerializeBufferFull)).and_then(|sink| {
            self.left = left?;
            sink.run(piece.as_bytes())
        });
        if self.sink.is_ok() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl<S: Sink> ser::Serializer for Wire<S> {
    type Ok = S;
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline(always)]
    fn serialize_bool(self, v: bool) -> Result<S> {
        self.0.push(v.into(), 8)
    }

    #[inline(always)]
    fn serialize_i8(self, v: i8) -> Result<S> {
        self.0.push(v.cast_unsigned().into(), 8)
    }

    #[inline(always)]
    fn serialize_i16(self, v: i16) -> Result<S> {
        self.serialize_u16((v << 1 ^ v >> 15).cast_unsigned())
    }

    #[inline(always)]
    fn serialize_i32(self, v: i32) -> Result<S> {
        self.serialize_u32((v << 1 ^ v >> 31).cast_unsigned())
    }

    #[inline(always)]
    fn serialize_i64(self, v: i64) -> Result<S> {
        self.serialize_u64((v << 1 ^ v >> 63).cast_unsigned())
    }

    #[inline]
    fn serialize_i128(self, v: i128) -> Result<S> {
        self.serialize_u128((v << 1 ^ v >> 127).cast_unsigned())
    }

    #[inline(always)]
    fn serialize_u8(self, v: u8) -> Result<S> {
        self.0.push(v.into(), 8)
    }

    #[inline(always)]
    fn serialize_u16(self, v: u16) -> Result<S> {
        varint(self.0, v.into())
    }

    #[inline(always)]
    fn serialize_u32(self, v: u32) -> Result<S> {
        varint(self.0, v.into())
    }

    #[inline(always)]
    fn serialize_u64(self, v: u64) -> Result<S> {
        varint(self.0, v)
    }

    #[inline]
    fn serialize_u128(self, v: u128) -> Result<S> {
        varint_u128(self.0, v)
    }

    #[inline(always)]
    fn serialize_f32(self, v: f32) -> Result<S> {
        self.0.push(v.to_bits().into(), 32)
    }

    #[inline(always)]
    fn serialize_f64(self, v: f64) -> Result<S> {
        self.0.push(v.to_bits(), 64)
    }

    #[inline]
    fn serialize_char(self, v: char) -> Result<S> {
        let (bytes, count) = utf8(v);
        self.0.push(u64::from(count) | bytes << 8, 8 * (count + 1))
    }

    #[inline]
    fn serialize_str(self, v: &str) -> Result<S> {
        self.serialize_bytes(v.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, v: &[u8]) -> Result<S> {
        varint(self.0, v.len() as u64)?.run(v)
    }

    #[inline(always)]
    fn serialize_none(self) -> Result<S> {
        self.0.push(0, 8)
    }

    #[inline(always)]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S> {
        value.serialize(Wire(self.0.push(1, 8)?))
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<S> {
        Ok(self.0)
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<S> {
        Ok(self.0)
    }

    #[inline(always)]
    fn serialize_unit_variant(self, _name: &'static str, index: u32, _variant: &'static str) -> Result<S> {
        varint(self.0, index.into())
    }

    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<S> {
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<S> {
        value.serialize(Wire(varint(self.0, index.into())?))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self> {
        varint(self.0, len.ok_or(Error::SerializeSeqLengthUnknown)? as u64).map(Wire)
    }

    #[inline(always)]
    fn serialize_tuple(self, _len: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self> {
        varint(self.0, index.into()).map(Wire)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self> {
        self.serialize_seq(len)
    }

    #[inline(always)]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self> {
        varint(self.0, index.into()).map(Wire)
    }

    /// Formats twice, since the length comes first; a sink that only measures is content with the first time.
    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S> {
        let mut len = Count(0);
        write!(len, "{value}").map_err(|_| Error::CollectStrError)?;
        varint(self.0, len.0 as u64)?.text(value, len.0)
    }
}

/// What holds several values is those values one after the other, without names, in all of serde's forms.
macro_rules! holds_several {
    ($($form:ident: $($method:ident($($key:ident)?)),+;)+) => {$(
        impl<S: Sink> ser::$form for Wire<S> {
            type Ok = S;
            type Error = Error;

            $(#[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? value: &T) -> Result<()> {
                self.0 = value.serialize(Wire(mem::take(&mut self.0)))?;
                Ok(())
            })+

            #[inline(always)]
            fn end(self) -> Result<S> {
                Ok(self.0)
            }
        }
    )+};
}

holds_several! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(_name);
    SerializeStructVariant: serialize_field(_name);
}

#[cfg(test)]
mod tests;
