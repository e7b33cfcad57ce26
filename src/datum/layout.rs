//! Where the numbers of plain memory are: what two ends of a stream compare of a type without serde.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8, NonZeroU16,
    NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize, Wrapping,
};

use zerocopy::byteorder::{
    BigEndian, F32, F64, I16, I32, I64, I128, Isize, LittleEndian, U16, U32, U64, U128, Usize,
};

/// The kind and offset of each number in a type of plain memory, for [`Plain`](crate::Plain).
///
/// It is derived for structs, and there for numbers, arrays, `Wrapping`, `Option<NonZero...>`, `PhantomData`
/// and the numbers of `zerocopy::byteorder`. Names do not count. A struct inside another one counts as its
/// fields, so a struct with one field has the layout of that field. An array has a kind of its own:
/// `[u32; 2]` differs from two fields.
///
/// ```
/// use corewire::{Codec, Plain, PlainLayout};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Tick {
///     time: u64,
///     price: f64,
/// }
///
/// #[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Sample(u64, f64);
///
/// #[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Trade {
///     time: u64,
///     price: i64,
/// }
///
/// let tick = <Plain as Codec<Tick>>::fingerprint();
/// assert_eq!(tick, <Plain as Codec<Sample>>::fingerprint());
/// assert_ne!(tick, <Plain as Codec<Trade>>::fingerprint());
/// ```
///
/// An enum of 256 variants takes the layout of its number by hand; so does a type that wraps one of another
/// crate:
///
/// ```
/// use corewire::{PlainField, PlainLayout};
///
/// #[repr(transparent)]
/// struct Duration(other::Nanoseconds);
///
/// impl PlainLayout for Duration {
///     const FIELDS: &'static [PlainField] = <u64 as PlainLayout>::FIELDS;
/// }
/// # mod other { pub struct Nanoseconds(pub u64); }
/// # assert_eq!(Duration::FIELDS, <u64 as PlainLayout>::FIELDS);
/// # let _ = Duration(other::Nanoseconds(1)).0.0;
/// ```
///
/// A wrong layout harms nothing but the comparison: two types may be taken for one.
#[diagnostic::on_unimplemented(
    message = "the fields of `{Self}` are not known",
    note = "`#[derive(corewire::PlainLayout)]` tells the two ends of a stream what they have to agree on"
)]
pub trait PlainLayout {
    /// The fields, in order of declaration.
    const FIELDS: &'static [PlainField];
}

/// One field of a type of plain memory, in [`PlainLayout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainField {
    /// From the start of the type that has the field, in bytes.
    offset: usize,
    part: FieldPart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldPart {
    Number(PlainNumber),
    /// `stride` bytes from one element to the next.
    Array {
        count: usize,
        stride: usize,
        element: &'static [PlainField],
    },
    Fields(&'static [PlainField]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlainNumber {
    kind: NumberKind,
    size: usize,
    order: ByteOrder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberKind {
    Unsigned,
    Signed,
    Float,
    /// Unsigned or 0 for nothing, and the same of signed ones.
    MaybeUnsigned,
    MaybeSigned,
}

/// The order of a number's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
    /// There is one byte.
    None,
}

/// The order of this machine.
const NATIVE: ByteOrder = if cfg!(target_endian = "little") { ByteOrder::Little } else { ByteOrder::Big };

impl PlainField {
    /// A field of type `T`, `offset` bytes from the start: what the derive macro writes.
    ///
    /// ```
    /// use corewire::{PlainField, PlainLayout};
    ///
    /// #[derive(PlainLayout)]
    /// #[repr(C)]
    /// struct Pair(u32, f32);
    /// assert_eq!(Pair::FIELDS, [PlainField::at::<u32>(0), PlainField::at::<f32>(4)]);
    /// ```
    pub const fn at<T: PlainLayout>(offset: usize) -> Self {
        Self { offset, part: FieldPart::Fields(T::FIELDS) }
    }

    const fn number(kind: NumberKind, size: usize, order: ByteOrder) -> Self {
        let order = if size == 1 { ByteOrder::None } else { order };
        Self { offset: 0, part: FieldPart::Number(PlainNumber { kind, size, order }) }
    }
}

/// Hashes the numbers of `fields`, which start `base` bytes from the start of what is hashed.
pub(super) fn write(fields: &[PlainField], base: usize, hasher: &mut blake3::Hasher) {
    for field in fields {
        let at = base + field.offset;
        let mut part = |kind: u8, numbers: &[usize]| {
            hasher.update(&[kind]);
            for number in numbers {
                hasher.update(&(*number as u64).to_le_bytes());
            }
        };
        match field.part {
            FieldPart::Number(PlainNumber { kind, size, order }) => {
                part(1, &[at, kind as usize, size, order as usize])
            }
            FieldPart::Array { count, stride, element } => {
                part(2, &[at, count, stride]);
                write(element, 0, hasher);
                hasher.update(&[3]);
            }
            FieldPart::Fields(fields) => write(fields, at, hasher),
        }
    }
}

impl<T: PlainLayout, const N: usize> PlainLayout for [T; N] {
    const FIELDS: &'static [PlainField] = &[PlainField {
        offset: 0,
        part: FieldPart::Array { count: N, stride: size_of::<T>(), element: T::FIELDS },
    }];
}

macro_rules! of_numbers {
    ($kind:ident, $order:expr => $($number:ty),*) => {$(
        impl PlainLayout for $number {
            const FIELDS: &'static [PlainField] =
                &[PlainField::number(NumberKind::$kind, size_of::<$number>(), $order)];
        }
    )*};
}

of_numbers!(Unsigned, NATIVE => u8, u16, u32, u64, u128, usize);
of_numbers!(Signed, NATIVE => i8, i16, i32, i64, i128, isize);
of_numbers!(Float, NATIVE => f32, f64);
of_numbers!(MaybeUnsigned, NATIVE => Option<NonZeroU8>, Option<NonZeroU16>, Option<NonZeroU32>);
of_numbers!(MaybeUnsigned, NATIVE => Option<NonZeroU64>, Option<NonZeroU128>, Option<NonZeroUsize>);
of_numbers!(MaybeSigned, NATIVE => Option<NonZeroI8>, Option<NonZeroI16>, Option<NonZeroI32>);
of_numbers!(MaybeSigned, NATIVE => Option<NonZeroI64>, Option<NonZeroI128>, Option<NonZeroIsize>);

macro_rules! of_ordered_numbers {
    ($($order:ident, $of:ty;)*) => {$(
        of_numbers!(Unsigned, ByteOrder::$order => U16<$of>, U32<$of>, U64<$of>, U128<$of>, Usize<$of>);
        of_numbers!(Signed, ByteOrder::$order => I16<$of>, I32<$of>, I64<$of>, I128<$of>, Isize<$of>);
        of_numbers!(Float, ByteOrder::$order => F32<$of>, F64<$of>);
    )*};
}

of_ordered_numbers! {
    Little, LittleEndian;
    Big, BigEndian;
}

macro_rules! of_nothing {
    ($($nothing:ty $(, $parameter:ident)?;)*) => {$(
        impl$(<$parameter: ?Sized>)? PlainLayout for $nothing {
            const FIELDS: &'static [PlainField] = &[];
        }
    )*};
}

of_nothing! {
    ();
    PhantomData<T>, T;
}

macro_rules! of_wrappers {
    ($($wrapper:ty),*) => {$(
        impl<T: PlainLayout> PlainLayout for $wrapper {
            const FIELDS: &'static [PlainField] = T::FIELDS;
        }
    )*};
}

of_wrappers!(Wrapping<T>, ManuallyDrop<T>, zerocopy::Unalign<T>);

#[cfg(test)]
mod tests {
    use corewire as renamed;
    use corewire::PlainLayout;

    use super::*;

    #[derive(PlainLayout)]
    #[plain_layout(crate = "renamed")]
    #[repr(C)]
    struct Renamed<const N: usize> {
        head: u16,
        tail: [u8; N],
    }

    #[test]
    fn the_derived_layout_has_each_field_at_its_offset() {
        assert_eq!(Renamed::<3>::FIELDS, [PlainField::at::<u16>(0), PlainField::at::<[u8; 3]>(2)]);
        assert_ne!(Renamed::<3>::FIELDS, Renamed::<4>::FIELDS);
    }

    #[test]
    fn numbers_in_the_order_of_the_machine_are_those_of_the_language() {
        let of = |fields: &'static [PlainField]| fields[0];
        let native = if cfg!(target_endian = "little") {
            <U32<LittleEndian>>::FIELDS
        } else {
            <U32<BigEndian>>::FIELDS
        };
        assert_eq!(of(u32::FIELDS), of(native));
        assert_ne!(of(<U32<LittleEndian>>::FIELDS), of(<U32<BigEndian>>::FIELDS));
        assert_eq!(<Option<NonZeroU8>>::FIELDS.len(), 1);
        assert_ne!(of(<Option<NonZeroU8>>::FIELDS), of(u8::FIELDS));
    }

    #[test]
    fn wrappers_have_the_layout_of_what_they_wrap_and_nothing_has_none() {
        assert_eq!(<Wrapping<i64>>::FIELDS, i64::FIELDS);
        assert_eq!(<ManuallyDrop<i64>>::FIELDS, i64::FIELDS);
        assert_eq!(<zerocopy::Unalign<i64>>::FIELDS, i64::FIELDS);
        assert_eq!((<()>::FIELDS, <PhantomData<str>>::FIELDS), (&[][..], &[][..]));
    }
}
