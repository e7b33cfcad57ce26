//! The [`Datum`] trait and the codecs that turn a datum into bytes and back.
//!
//! A codec knows one value and the room for its bytes, and allocates nothing for the encoded form.

mod attributes;
mod error;
mod fingerprint;
mod layout;
mod output;
mod shape;

use core::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use self::attributes::{Skipped, Watched};
pub use self::error::{DecodeError, EncodeError};
use self::error::{Decoding, Encoding};
pub use self::fingerprint::Fingerprint;
pub use self::layout::{PlainField, PlainLayout};
pub use self::output::DatumOutput;
use self::output::PostcardOutput;
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

/// Room for a first attempt to encode, on the stack.
pub(crate) const STAGING_BYTES: usize = 64;

/// How datums of type `D` become bytes and come back.
///
/// A codec is a type without data: all its functions are static, so the type of a handle decides everything
/// and the compiler can inline it. Three of them are to be written:
///
/// ```
/// use corewire::{Codec, DatumOutput, DecodeError, EncodeError, Fingerprint};
///
/// /// Seconds of a day, as four bytes in network order.
/// struct NetworkOrder;
///
/// impl Codec<u32> for NetworkOrder {
///     fn fingerprint() -> Fingerprint {
///         Fingerprint::of("seconds of a day, u32 in network order")
///     }
///
///     fn encode(datum: &u32, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
///         if *datum >= 86_400 {
///             return Err(EncodeError::custom("a day has 86,400 seconds"));
///         }
///         out.put(&datum.to_be_bytes());
///         Ok(())
///     }
///
///     fn decode(bytes: &[u8]) -> Result<u32, DecodeError> {
///         let bytes = bytes.try_into().map_err(|_| DecodeError::custom("four bytes were expected"))?;
///         Ok(u32::from_be_bytes(bytes))
///     }
/// }
///
/// # use corewire::{Network, NetworkId};
/// # let network = Network::new_blocking(NetworkId::random())?;
/// let times = network.streams().producer::<u32>().codec(NetworkOrder).build()?;
/// let mut clock = network.streams().consumer::<u32>().codec(NetworkOrder).build();
/// times.send_blocking(3_600)?;
/// assert_eq!(clock.recv_blocking(), Some(3_600));
/// assert!(times.send_blocking(90_000).is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// [`DatumOutput`] has an example with a format that has a writer.
pub trait Codec<D>: 'static {
    /// Whether a method may panic. By default they may: the stream contains and counts every panic, and
    /// answers it with [`EncodeError`] or skips the datum. It encodes a datum on the stack first, so that one
    /// without an encoded form takes no room.
    ///
    /// `false` is for codecs of a few instructions that cannot panic: they are called directly, first for the
    /// length and then in the claimed room. A panic then unwinds through the caller, and its datum is lost
    /// without being counted.
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

    /// Puts the encoded form of `datum` into `out`, which takes any number of bytes.
    ///
    /// A stream may call it several times for one datum, for instance to learn the length of one of more than
    /// 64 bytes. It has to give the same number of bytes each time; otherwise the datum is refused.
    ///
    /// # Errors
    ///
    /// If the datum has no encoded form. The producer gets its datum back with the error.
    fn encode(datum: &D, out: &mut DatumOutput<'_>) -> Result<(), EncodeError>;

    /// Reads a datum that occupies all of `bytes`.
    ///
    /// # Errors
    ///
    /// If `bytes` are not exactly one encoded datum. The consumer counts and skips it.
    fn decode(bytes: &[u8]) -> Result<D, DecodeError>;
}

/// A codec whose encoded form *is* the value: a consumer can borrow it from the ring.
///
/// ```
/// use corewire::{Codec, DatumOutput, InPlace, Plain};
///
/// #[repr(align(16))]
/// struct Record([u8; 8]);
///
/// let mut record = Record([0; 8]);
/// <Plain as Codec<u64>>::encode(&7, &mut DatumOutput::new(&mut record.0))?;
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
///
/// ```
/// use corewire::{Codec, InPlaceMut, Plain};
///
/// #[repr(align(16))]
/// struct Record([u8; <Plain as InPlaceMut<u64>>::LEN]);
///
/// let mut record = Record([0; 8]);
/// let datum: &mut u64 = Plain::view_mut(&mut record.0).expect("eight bytes");
/// *datum = 7;
/// assert_eq!(Plain::decode(&record.0), Ok(7_u64));
/// ```
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
/// A value of up to 64 bytes is encoded on the stack and copied into the stream's ring. The length of a
/// larger one is counted, and it is then written straight into the ring. Nothing is allocated.
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
/// Such types derive zerocopy's traits and [`PlainLayout`]. The encoded form is the value's memory, in the
/// byte order of the machine: both ends need the same order, or the byte-order types of zerocopy. Consumers
/// can borrow plain datums from the ring ([`recv_ref`](crate::streams::Consumer::recv_ref)), and producers
/// can write them there ([`claim`](crate::streams::Producer::claim)).
///
/// # Fingerprint
///
/// The size, and of each number its offset, size, byte order and kind (unsigned, signed or floating-point),
/// as [`PlainLayout`] has them, without the names of types and fields. What a number means is not compared: a
/// price in cents and a time in nanoseconds are both an `i64`.
///
/// # Which types
///
/// ```
/// use corewire::{Codec, DatumOutput, Plain, PlainLayout};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout, PartialEq, Debug)]
/// #[repr(C)]
/// struct Tick {
///     instrument: u64,
///     price: i64,
/// }
///
/// let tick = Tick { instrument: 7, price: -3 };
/// let mut out = DatumOutput::new(&mut []);
/// <Plain as Codec<Tick>>::encode(&tick, &mut out)?;
/// assert_eq!(out.len(), 16);
/// # Ok::<_, corewire::EncodeError>(())
/// ```
///
/// The alignment of the type may be at most 16 bytes; more is refused when the program is compiled, and so
/// are types with padding and those whose fields are not known:
///
/// ```compile_fail
/// # use corewire::{Codec, DatumOutput, Plain, PlainLayout};
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C, align(32))]
/// struct Wide([u64; 4]);
///
/// fn main() {
///     let _ = <Plain as Codec<Wide>>::encode(&Wide([0; 4]), &mut DatumOutput::new(&mut []));
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use corewire::{Codec, DatumOutput, Plain, PlainLayout};
/// #[derive(PlainLayout)]
/// struct Padded {
///     small: u8,
///     large: u64,
/// }
///
/// let padded = Padded { small: 0, large: 0 };
/// let _ = <Plain as Codec<Padded>>::encode(&padded, &mut DatumOutput::new(&mut []));
/// ```
///
/// ```compile_fail,E0277
/// # use corewire::{Codec, Plain};
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Unknown(u64);
///
/// let _ = <Plain as Codec<Unknown>>::fingerprint();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

impl<D: Datum> Codec<D> for Postcard {
    fn fingerprint() -> Fingerprint {
        shape::of::<D>().0
    }

    fn check() -> Result<(), EncodeError> {
        shape::of::<D>().1.map_or(Ok(()), |why| Err(EncodeError(why)))
    }

    #[inline]
    fn encode(datum: &D, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
        serialize_to(datum, out)
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<D, DecodeError> {
        match postcard::take_from_bytes(bytes) {
            Ok((datum, [])) => Ok(datum),
            Ok((_, rest)) => Err(DecodeError(Decoding::Trailing(rest.len()))),
            Err(error) => Err(DecodeError::postcard(error)),
        }
    }
}

/// [`Codec::encode`] of [`Postcard`], for any type that serializes.
#[inline(always)]
fn serialize_to<D: Serialize>(datum: &D, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
    let output = PostcardOutput(DatumOutput { room: &mut *out.room, len: out.len });
    out.len = serialize(datum, output)?.map_err(EncodeError::postcard)?;
    Ok(())
}

/// Serializes `datum` and gives the length of the output. The outer error: an attribute left a field out.
#[inline]
fn serialize<D: Serialize>(
    datum: &D,
    output: PostcardOutput<'_>,
) -> Result<postcard::Result<usize>, EncodeError> {
    if !cfg!(debug_assertions) {
        return Ok(postcard::serialize_with_flavor(datum, output));
    }
    let skipped = Skipped::new(None);
    let written = postcard::serialize_with_flavor(&Watched(datum, &skipped), output);
    skipped.get().map_or(Ok(written), |field| Err(EncodeError(Encoding::Skipped(field))))
}

/// The alignment that a record in a ring has.
const RECORD_ALIGN: usize = 16;

/// Refuses, at compile time, types that need more alignment than a ring gives.
struct FitsRecord<D>(core::marker::PhantomData<D>);

impl<D> FitsRecord<D> {
    const CHECK: () =
        assert!(align_of::<D>() <= RECORD_ALIGN, "a plain datum may be aligned to 16 bytes at most");
}

impl<D: PlainLayout + FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Codec<D> for Plain {
    const MAY_PANIC: bool = false;

    fn fingerprint() -> Fingerprint {
        Fingerprint::of_layout::<D>()
    }

    #[inline]
    fn encode(datum: &D, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
        const { FitsRecord::<D>::CHECK };
        out.put(datum.as_bytes());
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<D, DecodeError> {
        D::read_from_bytes(bytes).map_err(|_| DecodeError::wrong_size::<D>(bytes.len()))
    }
}

impl<D: PlainLayout + FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> InPlace<D> for Plain {
    #[inline]
    fn view(bytes: &[u8]) -> Result<&D, DecodeError> {
        const { FitsRecord::<D>::CHECK };
        D::ref_from_bytes(bytes).map_err(|_| DecodeError::wrong_size::<D>(bytes.len()))
    }
}

impl<D: PlainLayout + FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> InPlaceMut<D>
    for Plain
{
    const LEN: usize = size_of::<D>();

    #[inline]
    fn view_mut(bytes: &mut [u8]) -> Result<&mut D, DecodeError> {
        const { FitsRecord::<D>::CHECK };
        let found = bytes.len();
        D::mut_from_bytes(bytes).map_err(|_| DecodeError::wrong_size::<D>(found))
    }
}

/// The encoded length of `datum`. `room` has what fits, or anything after an error.
#[inline]
pub(crate) fn encode_what_fits<D, C: Codec<D>>(datum: &D, room: &mut [u8]) -> Result<usize, EncodeError> {
    if C::MAY_PANIC { encode_contained::<D, C>(datum, room) } else { encode_directly::<D, C>(datum, room) }
}

/// One function per type of datum: serde's generated code is large, and a compiler inlines all of it into a
/// function with one caller.
#[inline(never)]
fn encode_contained<D, C: Codec<D>>(datum: &D, room: &mut [u8]) -> Result<usize, EncodeError> {
    contain(|| encode_directly::<D, C>(datum, room)).unwrap_or(Err(EncodeError(Encoding::Panicked)))
}

#[inline(always)]
fn encode_directly<D, C: Codec<D>>(datum: &D, room: &mut [u8]) -> Result<usize, EncodeError> {
    let mut out = DatumOutput::new(room);
    C::encode(datum, &mut out)?;
    Ok(out.len())
}

/// The encoded length of `datum`.
#[inline]
pub(crate) fn measure<D, C: Codec<D>>(datum: &D) -> Result<usize, EncodeError> {
    encode_what_fits::<D, C>(datum, &mut [])
}

/// Fills `room`, which has the length that was measured. After an error it may hold anything.
#[inline]
pub(crate) fn encode<D, C: Codec<D>>(datum: &D, room: &mut [u8]) -> Result<(), EncodeError> {
    let len = room.len();
    if encode_what_fits::<D, C>(datum, room)? == len {
        Ok(())
    } else {
        Err(EncodeError(Encoding::SizeChanged))
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

/// [`Codec::decode`] into the place where the caller wants the datum, which saves a copy, with panics
/// contained. `false`: `bytes` are not exactly one encoded datum, and `into` is unchanged.
#[inline]
pub(crate) fn decode_into<D, C: Codec<D>, E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
    if C::MAY_PANIC {
        decode_contained::<D, C, E>(bytes, into)
    } else {
        decode_directly::<D, C, E>(bytes, into)
    }
}

/// One function per type of datum, as [`encode_contained`].
#[inline(never)]
fn decode_contained<D, C: Codec<D>, E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
    contain(|| decode_directly::<D, C, E>(bytes, into)).unwrap_or(false)
}

#[inline(always)]
fn decode_directly<D, C: Codec<D>, E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
    match C::decode(bytes) {
        Ok(datum) => {
            *into = Ok(datum);
            true
        }
        Err(_) => false,
    }
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
