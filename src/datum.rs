//! The [`Datum`] trait and the codecs that turn a datum into bytes and back.
//!
//! A codec knows one value and one slice, and allocates nothing for the encoded form: it writes where readers
//! read.

mod attributes;
mod error;
mod fingerprint;
mod shape;

use core::any::type_name;

use postcard::ser_flavors::{Flavor, Size};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use self::attributes::{Skipped, Watched};
pub use self::error::{DecodeError, EncodeError};
use self::error::{Decoding, Encoding};
pub use self::fingerprint::Fingerprint;
use crate::contain::contain;
use crate::id::StreamId;

/// A value that can be sent through a stream.
///
/// Every `Serialize + DeserializeOwned + Send + 'static` type is a datum; there is nothing to implement.
///
/// ```
/// use corewire::{Datum, StreamId};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct PriceUpdate {
///     symbol: String,
///     price: f64,
/// }
///
/// assert_eq!(PriceUpdate::derived_stream_id(), StreamId::from(std::any::type_name::<PriceUpdate>()));
/// ```
pub trait Datum: Serialize + DeserializeOwned + Send + 'static {
    /// The stream that carries this type when none is named: the BLAKE3 hash of the type's name.
    ///
    /// The language does not promise that the name of a type stays the same from one compiler to the next,
    /// and it changes when the type moves to another module. Two programs that are built apart should name
    /// their streams: [`with_stream_id`](crate::streams::producer::Builder::with_stream_id).
    fn derived_stream_id() -> StreamId {
        derived_stream_id::<Self>()
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Datum for T {}

/// The id derived from the name of `T`, for types that are not a [`Datum`] because they only have the
/// [`Plain`] codec.
#[doc(hidden)]
pub fn derived_stream_id<T>() -> StreamId {
    StreamId::from_text(type_name::<T>())
}

/// The longest encoded form that [`Codec::encode_short`] may give, in bytes.
pub const SHORT_BYTES: usize = 64;

/// How datums of type `D` become bytes and come back.
///
/// A codec is a type without data: all its functions are static, so the type of a handle decides everything
/// and the compiler can inline it. Implementations may panic, unless they set [`MAY_PANIC`](Self::MAY_PANIC)
/// to `false`: the stream contains and counts every panic, and answers it with [`EncodeError`] or skips the
/// datum.
///
/// ```
/// use corewire::{Codec, DecodeError, EncodeError, Fingerprint, Plain};
///
/// /// Seconds of a day, as four bytes in network order.
/// struct NetworkOrder;
///
/// impl Codec<u32> for NetworkOrder {
///     fn fingerprint() -> Fingerprint {
///         Fingerprint::of("seconds of a day, u32 in network order")
///     }
///
///     fn encoded_len(_: &u32) -> Result<usize, EncodeError> {
///         Ok(4)
///     }
///
///     fn encode(datum: &u32, out: &mut [u8]) -> Result<(), EncodeError> {
///         Plain::encode(&datum.to_be(), out)
///     }
///
///     fn decode(bytes: &[u8]) -> Result<u32, DecodeError> {
///         Plain::decode(bytes).map(u32::from_be)
///     }
/// }
///
/// let mut bytes = [0; 4];
/// NetworkOrder::encode(&1, &mut bytes)?;
/// assert_eq!(bytes, [0, 0, 0, 1]);
/// assert_eq!(NetworkOrder::decode(&bytes), Ok(1));
/// # Ok::<_, EncodeError>(())
/// ```
pub trait Codec<D>: 'static {
    /// Set to `false` only if no method can panic. Skips `catch_unwind`; a panic then unwinds through the
    /// caller, and its datum is lost without being counted.
    const MAY_PANIC: bool = true;

    /// What tells the encoded datums of this codec and type from others: two ends of a stream are connected
    /// only if theirs are equal. Called when a handle is built.
    fn fingerprint() -> Fingerprint;

    /// Whether datums of this type can be read back at all. Called when a producer is built, which fails with
    /// the error. Default: they can.
    ///
    /// # Errors
    ///
    /// Why not, and what to do about it.
    fn check() -> Result<(), EncodeError> {
        Ok(())
    }

    /// The exact number of bytes that [`encode`](Self::encode) will write for `datum`.
    ///
    /// # Errors
    ///
    /// If the datum has no encoded form.
    fn encoded_len(datum: &D) -> Result<usize, EncodeError>;

    /// Writes `datum` into `out`, all of it. `out` has the length that [`encoded_len`](Self::encoded_len)
    /// gave for the same datum; what it holds before is unspecified.
    ///
    /// # Errors
    ///
    /// If the datum has no encoded form, or one of another length.
    fn encode(datum: &D, out: &mut [u8]) -> Result<(), EncodeError>;

    /// Encodes a datum of at most [`SHORT_BYTES`] without measuring it, and returns the encoded length. The
    /// stream copies the bytes into the ring, so no user code runs while room is claimed, unless the send had
    /// to wait for room: then the datum is encoded once more, in the claimed room. `Ok(None)`: the
    /// datum is measured and encoded in the ring, as every datum is by default.
    ///
    /// # Errors
    ///
    /// If the datum has no encoded form.
    #[inline]
    fn encode_short(_datum: &D, _out: &mut [u8; SHORT_BYTES]) -> Result<Option<usize>, EncodeError> {
        Ok(None)
    }

    /// Reads a datum that occupies all of `bytes`.
    ///
    /// # Errors
    ///
    /// If `bytes` are not exactly one encoded datum.
    fn decode(bytes: &[u8]) -> Result<D, DecodeError>;

    /// [`decode`](Self::decode) into the place where the caller wants the datum, which saves a copy. `false`:
    /// `bytes` are not exactly one encoded datum, and `into` is unchanged.
    #[inline]
    fn decode_into<E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
        let Ok(datum) = Self::decode(bytes) else { return false };
        *into = Ok(datum);
        true
    }
}

/// A codec whose encoded form *is* the value: a consumer can borrow it from the ring.
///
/// ```
/// use corewire::{Codec, InPlace, Plain};
///
/// #[repr(align(16))]
/// struct Record([u8; 8]);
///
/// let mut record = Record([0; 8]);
/// <Plain as Codec<u64>>::encode(&7, &mut record.0)?;
/// let datum: &u64 = Plain::view(&record.0).expect("eight bytes");
/// assert_eq!(*datum, 7);
/// # Ok::<_, corewire::EncodeError>(())
/// ```
pub trait InPlace<D>: Codec<D> {
    /// The datum that occupies all of `bytes`, which start at a multiple of 16 bytes.
    ///
    /// # Errors
    ///
    /// If `bytes` are not exactly one datum.
    fn view(bytes: &[u8]) -> Result<&D, DecodeError>;
}

/// A codec whose datums can be written in the ring: all have one length, and any bytes are a value.
pub trait InPlaceMut<D>: InPlace<D> {
    /// The encoded length of every datum, in bytes.
    const LEN: usize;

    /// The datum that occupies all of `bytes`: [`LEN`](Self::LEN) of them, which start at a multiple of 16
    /// bytes and have unspecified values.
    ///
    /// # Errors
    ///
    /// If `bytes` are not [`LEN`](Self::LEN) long. A stream offers no other room, and panics on an error.
    fn view_mut(bytes: &mut [u8]) -> Result<&mut D, DecodeError>;
}

/// The default codec: [postcard](https://docs.rs/postcard), a compact binary format for any serde type.
///
/// A value of up to [`SHORT_BYTES`] is encoded on the stack and copied into the stream's ring. A larger one
/// is measured first, then written straight into the ring. Nothing is allocated.
///
/// # Hostile bytes
///
/// A consumer decodes bytes of a peer. Memory is bounded: a datum is never longer than the receiving side
/// allows, and serde reserves at most 1 MiB ahead of the elements that were read, so a datum costs at most
/// its bytes times the size of the largest element that one byte can encode. Time is not bounded for a
/// collection of zero-sized elements (`Vec<()>`), which can claim any length in a few bytes. Do not put such
/// a type into a stream that untrusted peers may produce for.
///
/// # What it cannot carry
///
/// postcard writes neither names nor types, so a reader has to know what comes next. The serde attributes
/// `untagged`, `tag` and `flatten`, and types that ask for "any" value, make that impossible: a producer of
/// such a type is not built ([`TryBuildError::Unreadable`](crate::streams::producer::TryBuildError)).
/// `skip_serializing_if` does too when it leaves a field out: in builds with debug assertions the send is
/// refused with an error that names the field; without them, consumers find the datum undecodable.
///
/// # Fingerprint
///
/// The kinds of values that the type reads, in order, without the names of types, fields and variants: a
/// consumer may use a type of its own that reads the same. It is found by deserializing invented values. What
/// follows a value whose `Deserialize` refuses all of them is not compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postcard;

/// The codec for plain memory: types without padding or pointers for which any bytes are a value.
///
/// Such types derive zerocopy's traits. The encoded form is the value's memory, in the byte order of the
/// machine: both ends need the same order, or the byte-order types of zerocopy. Consumers can borrow plain
/// datums from the ring ([`recv_ref`](crate::streams::Consumer::recv_ref)), and producers can write them
/// there ([`claim`](crate::streams::Producer::claim)).
///
/// # Fingerprint
///
/// Size, alignment and byte order; for numbers and arrays of them also the name of the type. Two structs of
/// one size and alignment are not told apart: give their streams different ids.
///
/// # Which types
///
/// ```
/// use corewire::{Codec, Plain};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PartialEq, Debug)]
/// #[repr(C)]
/// struct Tick {
///     instrument: u64,
///     price: i64,
/// }
///
/// let tick = Tick { instrument: 7, price: -3 };
/// assert_eq!(<Plain as Codec<Tick>>::encoded_len(&tick), Ok(16));
/// ```
///
/// The alignment of the type may be at most 16 bytes; more is refused when the program is compiled, and so
/// are types with padding:
///
/// ```compile_fail
/// # use corewire::{Codec, Plain};
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C, align(32))]
/// struct Wide([u64; 4]);
///
/// fn main() {
///     let _ = <Plain as Codec<Wide>>::encoded_len(&Wide([0; 4]));
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use corewire::{Codec, Plain};
/// struct Padded {
///     small: u8,
///     large: u64,
/// }
///
/// let _ = <Plain as Codec<Padded>>::encoded_len(&Padded { small: 0, large: 0 });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

/// One function per type of datum and none inlined: serde's generated code is large, and a compiler inlines
/// all of it into a function with one caller.
impl<D: Datum> Codec<D> for Postcard {
    fn fingerprint() -> Fingerprint {
        shape::of::<D>().0
    }

    fn check() -> Result<(), EncodeError> {
        shape::of::<D>().1.map_or(Ok(()), |why| Err(EncodeError(why)))
    }

    #[inline(never)]
    fn encoded_len(datum: &D) -> Result<usize, EncodeError> {
        serialize(datum, Size::default())?.map_err(EncodeError::postcard)
    }

    #[inline(never)]
    fn encode(datum: &D, out: &mut [u8]) -> Result<(), EncodeError> {
        let len = out.len();
        if serialize_into(datum, out)? == Some(len) {
            Ok(())
        } else {
            Err(EncodeError(Encoding::SizeChanged))
        }
    }

    #[inline(never)]
    fn encode_short(datum: &D, out: &mut [u8; SHORT_BYTES]) -> Result<Option<usize>, EncodeError> {
        serialize_into(datum, out)
    }

    fn decode(bytes: &[u8]) -> Result<D, DecodeError> {
        let (datum, rest) = postcard::take_from_bytes(bytes).map_err(DecodeError::postcard)?;
        if rest.is_empty() { Ok(datum) } else { Err(DecodeError(Decoding::Trailing(rest.len()))) }
    }

    #[inline(never)]
    fn decode_into<E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
        match postcard::take_from_bytes(bytes) {
            Ok((datum, [])) => {
                *into = Ok(datum);
                true
            }
            _ => false,
        }
    }
}

/// Serializes `datum` into `out` and returns the length. `Ok(None)`: it does not fit.
#[inline]
fn serialize_into<D: Serialize>(datum: &D, out: &mut [u8]) -> Result<Option<usize>, EncodeError> {
    let mut overflowed = false;
    let written = serialize(datum, SliceOutput { out, len: 0, overflowed: &mut overflowed })?;
    if overflowed { Ok(None) } else { written.map(Some).map_err(EncodeError::postcard) }
}

/// Serializes `datum`. The outer error: an attribute left a field out.
#[inline]
fn serialize<D: Serialize, F: Flavor>(
    datum: &D,
    flavor: F,
) -> Result<postcard::Result<F::Output>, EncodeError> {
    if !cfg!(debug_assertions) {
        return Ok(postcard::serialize_with_flavor(datum, flavor));
    }
    let skipped = Skipped::new(None);
    let written = postcard::serialize_with_flavor(&Watched(datum, &skipped), flavor);
    skipped.get().map_or(Ok(written), |field| Err(EncodeError(Encoding::Skipped(field))))
}

/// postcard's output into a slice. An overflow is kept apart from the result: a `Serialize` implementation
/// may ignore the error, and postcard reports another one for formatted text.
struct SliceOutput<'a> {
    out: &'a mut [u8],
    /// Bytes written.
    len: usize,
    overflowed: &'a mut bool,
}

impl Flavor for SliceOutput<'_> {
    type Output = usize;

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let Some(place) = self.out.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len())) else {
            *self.overflowed = true;
            return Err(postcard::Error::SerializeBufferFull);
        };
        place.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    #[inline]
    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.len)
    }
}

/// The alignment that a record in a ring has.
const RECORD_ALIGN: usize = 16;

/// Refuses, at compile time, types that need more alignment than a ring gives.
struct FitsRecord<D>(core::marker::PhantomData<D>);

impl<D> FitsRecord<D> {
    const CHECK: () =
        assert!(align_of::<D>() <= RECORD_ALIGN, "a plain datum may be aligned to 16 bytes at most");
}

impl<D: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Codec<D> for Plain {
    const MAY_PANIC: bool = false;

    fn fingerprint() -> Fingerprint {
        Fingerprint::of_layout::<D>()
    }

    #[inline]
    fn encoded_len(_datum: &D) -> Result<usize, EncodeError> {
        const { FitsRecord::<D>::CHECK };
        Ok(size_of::<D>())
    }

    #[inline]
    fn encode(datum: &D, out: &mut [u8]) -> Result<(), EncodeError> {
        datum.write_to(out).map_err(|_| EncodeError(Encoding::SizeChanged))
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<D, DecodeError> {
        D::read_from_bytes(bytes).map_err(|_| DecodeError::wrong_size::<D>(bytes.len()))
    }
}

impl<D: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> InPlace<D> for Plain {
    #[inline]
    fn view(bytes: &[u8]) -> Result<&D, DecodeError> {
        const { FitsRecord::<D>::CHECK };
        D::ref_from_bytes(bytes).map_err(|_| DecodeError::wrong_size::<D>(bytes.len()))
    }
}

impl<D: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> InPlaceMut<D> for Plain {
    const LEN: usize = size_of::<D>();

    #[inline]
    fn view_mut(bytes: &mut [u8]) -> Result<&mut D, DecodeError> {
        const { FitsRecord::<D>::CHECK };
        let found = bytes.len();
        D::mut_from_bytes(bytes).map_err(|_| DecodeError::wrong_size::<D>(found))
    }
}

/// [`Codec::encoded_len`] with panics contained.
#[inline]
pub(crate) fn measure<D, C: Codec<D>>(datum: &D) -> Result<usize, EncodeError> {
    if !C::MAY_PANIC {
        return C::encoded_len(datum);
    }
    contain(|| C::encoded_len(datum)).unwrap_or(Err(EncodeError(Encoding::Panicked)))
}

/// [`Codec::encode`] with panics contained. After an error `out` may hold anything.
#[inline]
pub(crate) fn encode<D, C: Codec<D>>(datum: &D, out: &mut [u8]) -> Result<(), EncodeError> {
    if !C::MAY_PANIC {
        return C::encode(datum, out);
    }
    contain(|| C::encode(datum, out)).unwrap_or(Err(EncodeError(Encoding::Panicked)))
}

/// [`Codec::encode_short`] with panics contained: the encoded bytes, if the codec gave any.
#[inline(always)]
pub(crate) fn encode_short<'a, D, C: Codec<D>>(
    datum: &D,
    out: &'a mut [u8; SHORT_BYTES],
) -> Result<Option<&'a [u8]>, EncodeError> {
    let len = if C::MAY_PANIC {
        contain(|| C::encode_short(datum, out)).unwrap_or(Err(EncodeError(Encoding::Panicked)))?
    } else {
        C::encode_short(datum, out)?
    };
    match len {
        None => Ok(None),
        Some(len) => out.get(..len).map(Some).ok_or(EncodeError(Encoding::SizeChanged)),
    }
}

/// The encoded form of `datum`, for a datum that waits outside of the ring.
pub(crate) fn to_vec<D, C: Codec<D>>(datum: &D) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![0; measure::<D, C>(datum)?];
    encode::<D, C>(datum, &mut bytes)?;
    Ok(bytes)
}

/// [`Codec::decode`] with panics contained.
#[inline]
pub(crate) fn decode<D, C: Codec<D>>(bytes: &[u8]) -> Result<D, DecodeError> {
    if !C::MAY_PANIC {
        return C::decode(bytes);
    }
    contain(|| C::decode(bytes)).unwrap_or(Err(DecodeError(Decoding::Panicked)))
}

/// [`Codec::decode_into`] with panics contained.
#[inline]
pub(crate) fn decode_into<D, C: Codec<D>, E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
    if !C::MAY_PANIC {
        return C::decode_into(bytes, into);
    }
    contain(|| C::decode_into(bytes, into)).unwrap_or(false)
}

/// Whether [`InPlace::view`] accepts `bytes`, with panics contained.
#[inline]
pub(crate) fn accept<D, C: InPlace<D>>(bytes: &[u8]) -> Result<(), DecodeError> {
    if !C::MAY_PANIC {
        return C::view(bytes).map(|_| ());
    }
    contain(|| C::view(bytes).map(|_| ())).unwrap_or(Err(DecodeError(Decoding::Panicked)))
}

#[cfg(test)]
mod tests;
