//! What travels: the [`Datum`] trait and the codecs that turn a datum into bytes and back.
//!
//! A codec knows one value and one slice. It does not know rings, streams or peers, and it never allocates for the
//! encoded form: bytes are written where readers will read them.

use core::any::type_name;
use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::contain::contain;
use crate::id::StreamId;
use crate::pack::{Length, Short, Wire, pack_into, read};

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
    /// The language does not promise that the name of a type stays the same from one compiler to the next, and it
    /// changes when the type moves to another module. Two programs that are built apart should name their streams:
    /// [`with_stream_id`](crate::streams::producer::Builder::with_stream_id).
    fn derived_stream_id() -> StreamId {
        derived_stream_id::<Self>()
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Datum for T {}

/// The id derived from the name of `T`, for types that are not a [`Datum`] because they only have the [`Plain`]
/// codec.
pub(crate) fn derived_stream_id<T>() -> StreamId {
    StreamId::from_text(type_name::<T>())
}

/// How datums of type `D` become bytes and come back.
///
/// A codec is a name without data: all its functions are static, so that a handle's type decides everything and
/// the compiler can inline it. Implementations may panic; every call is contained by the stream, counted, and
/// answered with [`EncodeError`] or skipped, unless [`MAY_PANIC`](Self::MAY_PANIC) says that there is no need to.
pub trait Codec<D>: 'static {
    /// Whether a call may panic, which is what a stream contains. `false` is for codecs that run no code of a user's:
    /// it saves the containment. A panic then goes through the call that sent or took the datum; the stream goes on, but
    /// the datum is gone and in no count.
    const MAY_PANIC: bool = true;

    /// Whether it is worth trying [`encode_short`](Self::encode_short).
    #[doc(hidden)]
    const ENCODES_SHORT: bool = false;

    /// The exact number of bytes that [`encode`](Self::encode) will write for `datum`.
    ///
    /// # Errors
    ///
    /// If the datum has no encoded form.
    fn encoded_len(datum: &D) -> Result<usize, EncodeError>;

    /// Writes `datum` into `out`, filling all of it. `out` has the length that
    /// [`encoded_len`](Self::encoded_len) gave for the same datum, and holds whatever was there before.
    ///
    /// # Errors
    ///
    /// If the datum has no encoded form, or its form is not as long as it was said to be.
    fn encode(datum: &D, out: &mut [u8]) -> Result<(), EncodeError>;

    /// Encodes a small datum without being asked for its length first, if the codec can and the form fits. `Ok(false)`:
    /// measure it, and encode it where it belongs.
    ///
    /// # Errors
    ///
    /// If the datum has no encoded form.
    #[doc(hidden)]
    #[inline]
    fn encode_short(_datum: &D, _out: &mut Short) -> Result<bool, EncodeError> {
        Ok(false)
    }

    /// Reads a datum that occupies all of `bytes`.
    ///
    /// # Errors
    ///
    /// If `bytes` are not exactly one encoded datum.
    fn decode(bytes: &[u8]) -> Result<D, DecodeError>;

    /// As [`decode`](Self::decode), into where the datum is wanted. `false`: `bytes` are not exactly one encoded datum,
    /// and `into` is as it was.
    #[doc(hidden)]
    #[inline]
    fn decode_into<E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
        let Ok(datum) = Self::decode(bytes) else { return false };
        *into = Ok(datum);
        true
    }
}

/// A codec whose encoded form *is* the value, so that it can be borrowed where it lies.
pub trait InPlace<D>: Codec<D> {
    /// The datum that occupies all of `bytes`, which start at a multiple of 16 bytes.
    ///
    /// # Errors
    ///
    /// If `bytes` are not exactly one datum.
    fn view(bytes: &[u8]) -> Result<&D, DecodeError>;
}

/// A codec whose datums can be written where they will be read: all have one length, and any bytes are a value.
pub trait InPlaceMut<D>: InPlace<D> {
    /// The encoded length of every datum, in bytes.
    const LEN: usize;

    /// The datum that occupies all of `bytes`: [`LEN`](Self::LEN) of them, from a multiple of 16 bytes on, with
    /// whatever was there before.
    ///
    /// # Errors
    ///
    /// If `bytes` are not as long as that. Room that a stream offers is, so an error there is a defect of the codec,
    /// and the stream panics.
    fn view_mut(bytes: &mut [u8]) -> Result<&mut D, DecodeError>;
}

/// The default codec: [postcard](https://docs.rs/postcard), a compact binary format for any serde type.
///
/// [`try_send`](crate::streams::Producer::try_send) and sinks encode a value of up to 64 bytes beside the stream's ring and
/// copy it there. Of a larger one, and in the forms that may wait, the size is computed first, then it is written straight
/// into the ring. Nothing is allocated.
///
/// A consumer that takes one datum first tries a deserializer of corewire's own, which reads the usual types; what that one
/// refuses is given to postcard's: then a `Deserialize` implementation is called twice for one datum. Those are datums with a
/// `char`, a map, an integer of 128 bits or one that takes ten bytes, and bytes that are no datum.
///
/// # Hostile bytes
///
/// A decoder meets bytes of a peer. What bounds it: a datum is never longer than the receiving side allows, and
/// serde reserves at most 1 MiB ahead of the elements that are really there, so memory is bounded by the datum's
/// bytes times the size of the largest element that one byte can stand for. What does not bound it: a collection
/// of zero-sized elements (`Vec<()>`) can claim any length in a few bytes and takes time for each. Do not put such
/// a type into a stream that strangers may produce for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postcard;

/// The codec for plain memory: types without padding or pointers for which any bytes are a value.
///
/// Such types derive zerocopy's traits. The encoded form is the value as it lies in memory, in the byte order of
/// the machine, so both ends need the same one; use the byte-order types of zerocopy where they may differ.
/// Consumers can borrow plain datums where they lie ([`recv_ref`](crate::streams::Consumer::recv_ref)), and producers
/// can write them there ([`claim`](crate::streams::Producer::claim)).
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
/// The alignment of the type may be at most 16 bytes; more is refused when the program is compiled, and so are types
/// with padding:
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

impl<D: Datum> Codec<D> for Postcard {
    const ENCODES_SHORT: bool = true;

    #[inline]
    fn encoded_len(datum: &D) -> Result<usize, EncodeError> {
        Length::of(datum).map_err(EncodeError::postcard)
    }

    #[inline]
    fn encode(datum: &D, out: &mut [u8]) -> Result<(), EncodeError> {
        match pack_into(out, |packer| datum.serialize(Wire(packer))) {
            Ok(true) => Ok(()),
            Ok(false) => Err(EncodeError(Encoding::SizeChanged)),
            Err(error) => Err(EncodeError::postcard(error)),
        }
    }

    /// The only place that serializes into a [`Short`], for each type of datum: a compiler inlines what has one caller.
    #[inline(never)]
    fn encode_short(datum: &D, out: &mut Short) -> Result<bool, EncodeError> {
        out.pack(|packer| datum.serialize(Wire(packer))).map_err(EncodeError::postcard)
    }

    /// With postcard's own deserializer, whose word counts.
    fn decode(bytes: &[u8]) -> Result<D, DecodeError> {
        let (datum, rest) = postcard::take_from_bytes(bytes).map_err(DecodeError::postcard)?;
        if rest.is_empty() { Ok(datum) } else { Err(DecodeError(Decoding::Trailing(rest.len()))) }
    }

    #[inline]
    fn decode_into<E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
        read(bytes, into) || read_slowly(bytes, into)
    }
}

/// What [`read`] cannot read, or nobody.
#[cold]
#[inline(never)]
fn read_slowly<D: Datum, E>(bytes: &[u8], into: &mut Result<D, E>) -> bool {
    let Ok(datum) = Postcard::decode(bytes) else { return false };
    *into = Ok(datum);
    true
}

/// The alignment that a record in a ring has.
const RECORD_ALIGN: usize = 16;

/// Refuses, while the program is compiled, types that need more alignment than a ring gives.
struct FitsRecord<D>(core::marker::PhantomData<D>);

impl<D> FitsRecord<D> {
    const CHECK: () =
        assert!(align_of::<D>() <= RECORD_ALIGN, "a plain datum may be aligned to 16 bytes at most");
}

impl<D: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Codec<D> for Plain {
    const MAY_PANIC: bool = false;

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

/// Why a datum has no encoded form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError(Encoding);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Encoding {
    Postcard(postcard::Error),
    SizeChanged,
    Panicked,
}

impl EncodeError {
    fn postcard(error: postcard::Error) -> Self {
        match error {
            // The slice was measured for this value: running out of it means that the value grew.
            postcard::Error::SerializeBufferFull => Self(Encoding::SizeChanged),
            error => Self(Encoding::Postcard(error)),
        }
    }

    /// Whether the `Serialize` implementation panicked.
    pub fn is_panic(&self) -> bool {
        self.0 == Encoding::Panicked
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Encoding::Postcard(error) => write!(f, "the value cannot be serialized: {error}"),
            Encoding::SizeChanged => f.write_str(
                "the value serialized to another length than a moment before: \
                 its Serialize implementation must give the same bytes each time",
            ),
            Encoding::Panicked => {
                f.write_str("the Serialize implementation panicked: see the panic message for where")
            }
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes are not a datum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(Decoding);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Decoding {
    Postcard(postcard::Error),
    Trailing(usize),
    WrongSize { expected: usize, found: usize },
    Panicked,
}

impl DecodeError {
    fn postcard(error: postcard::Error) -> Self {
        Self(Decoding::Postcard(error))
    }

    fn wrong_size<D>(found: usize) -> Self {
        Self(Decoding::WrongSize { expected: size_of::<D>(), found })
    }

    /// Whether the `Deserialize` implementation panicked.
    pub fn is_panic(&self) -> bool {
        self.0 == Decoding::Panicked
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Decoding::Postcard(error) => write!(f, "the bytes are not a value of this type: {error}"),
            Decoding::Trailing(n) => {
                write!(f, "{n} bytes follow the value: does the producer send another type on this stream?")
            }
            Decoding::WrongSize { expected, found } => write!(
                f,
                "a plain datum of {expected} bytes was expected and {found} bytes came: \
                 does the producer send another type, or with another codec?"
            ),
            Decoding::Panicked => {
                f.write_str("the Deserialize implementation panicked: see the panic message")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

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

/// [`Codec::encode_short`] with panics contained.
#[inline]
pub(crate) fn encode_short<D, C: Codec<D>>(datum: &D, out: &mut Short) -> Result<bool, EncodeError> {
    if !C::MAY_PANIC {
        return C::encode_short(datum, out);
    }
    contain(|| C::encode_short(datum, out)).unwrap_or(Err(EncodeError(Encoding::Panicked)))
}

/// The encoded form of `datum`, for a datum that has to wait outside of the ring.
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
