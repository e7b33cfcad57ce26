//! What both ends of a stream compare before they are connected.

use core::fmt;

use super::layout::{self, PlainLayout};

/// What the encoded datums of one end of a stream are. A channel connects two ends only if their fingerprints
/// are equal; otherwise the producer refuses with
/// [`CloseCode::TYPE_MISMATCH`](crate::streams::CloseCode::TYPE_MISMATCH).
///
/// Names of types do not count, so both programs may call a type as they like:
///
/// ```
/// use corewire::{Codec, Fingerprint, Postcard};
///
/// let pair = <Postcard as Codec<(u32, String)>>::fingerprint();
/// assert_ne!(pair, <Postcard as Codec<(u64, String)>>::fingerprint());
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Entry {
///     key: u32,
///     value: String,
/// }
/// assert_eq!(pair, <Postcard as Codec<Entry>>::fingerprint());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Agrees with every fingerprint: for codecs that take any bytes as they are.
    pub const ANY: Self = Self([0; 16]);

    /// The fingerprint of a codec that describes its bytes. Another text has to be given whenever older
    /// programs would read the bytes wrongly.
    ///
    /// ```
    /// use corewire::Fingerprint;
    ///
    /// assert_ne!(Fingerprint::of("order book, version 1"), Fingerprint::of("order book, version 2"));
    /// ```
    pub fn of(description: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("corewire 2026 codec description");
        Self::from_hash(&hasher.update(description.as_bytes()).finalize())
    }

    /// The fingerprint of plain memory.
    pub(super) fn of_layout<D: PlainLayout>() -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("corewire 2026 plain fields");
        hasher.update(&(size_of::<D>() as u64).to_le_bytes());
        layout::write(D::FIELDS, 0, &mut hasher);
        Self::from_hash(&hasher.finalize())
    }

    pub(super) fn from_hash(hash: &blake3::Hash) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        // Zeros mean `ANY`.
        bytes[15] |= 1;
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use corewire::PlainLayout;

    use super::*;

    #[test]
    fn plain_numbers_of_one_size_are_told_apart() {
        let prints = [
            Fingerprint::of_layout::<u64>(),
            Fingerprint::of_layout::<f64>(),
            Fingerprint::of_layout::<i64>(),
            Fingerprint::of_layout::<[u32; 2]>(),
            Fingerprint::of_layout::<[f64; 1]>(),
            Fingerprint::of_layout::<[u64; 2]>(),
        ];
        for (at, one) in prints.iter().enumerate() {
            assert!(prints.iter().skip(at + 1).all(|other| one != other), "{at}");
        }
    }

    #[derive(PlainLayout)]
    #[repr(C)]
    struct Of<A, B>(A, B);

    #[test]
    fn plain_structs_are_told_apart_by_their_fields_and_not_by_names() {
        #[derive(PlainLayout)]
        #[repr(C)]
        struct Named {
            first: u64,
            second: f64,
        }
        let named = Fingerprint::of_layout::<Named>();
        assert_eq!(named, Fingerprint::of_layout::<Of<u64, f64>>());
        let others = [
            Fingerprint::of_layout::<Of<f64, u64>>(),
            Fingerprint::of_layout::<Of<u64, u64>>(),
            Fingerprint::of_layout::<Of<u64, i64>>(),
            Fingerprint::of_layout::<Of<u64, Option<core::num::NonZeroU64>>>(),
            Fingerprint::of_layout::<Of<u64, [u8; 8]>>(),
            Fingerprint::of_layout::<Of<u64, [f32; 2]>>(),
            Fingerprint::of_layout::<Of<u64, Of<f64, f64>>>(),
            Fingerprint::of_layout::<[u64; 2]>(),
        ];
        assert!(!others.contains(&named));
    }

    #[test]
    fn structs_inside_of_plain_structs_count_as_their_fields() {
        #[derive(PlainLayout)]
        #[repr(C)]
        struct Flat(u32, i32, u64);
        let flat = Fingerprint::of_layout::<Flat>();
        assert_eq!(flat, Fingerprint::of_layout::<Of<Of<u32, i32>, Of<u64, ()>>>());
        assert_ne!(flat, Fingerprint::of_layout::<Of<Of<i32, u32>, Of<u64, ()>>>());
        assert_eq!(Fingerprint::of_layout::<u64>(), Fingerprint::of_layout::<core::num::Wrapping<u64>>());
    }

    #[test]
    fn plain_arrays_of_structs_are_told_apart_by_the_fields() {
        let pairs = Fingerprint::of_layout::<[Of<u32, f32>; 2]>();
        assert_ne!(pairs, Fingerprint::of_layout::<[Of<f32, u32>; 2]>());
        assert_ne!(pairs, Fingerprint::of_layout::<[Of<u32, f32>; 3]>());
        assert_ne!(
            Fingerprint::of_layout::<Of<[u16; 2], [u16; 4]>>(),
            Fingerprint::of_layout::<Of<[u16; 4], [u16; 2]>>()
        );
    }

    #[test]
    fn plain_numbers_are_known_by_the_order_of_their_bytes() {
        use zerocopy::byteorder::{big_endian, little_endian};
        let (little, big) = (
            Fingerprint::of_layout::<Of<u8, little_endian::U32>>(),
            Fingerprint::of_layout::<Of<u8, big_endian::U32>>(),
        );
        assert_ne!(little, big);
        let native = if cfg!(target_endian = "little") { little } else { big };
        #[derive(PlainLayout)]
        #[repr(C, packed)]
        struct Packed(u8, u32);
        assert_eq!(native, Fingerprint::of_layout::<Packed>(), "alignment does not change the bytes");
    }

    #[test]
    fn a_described_codec_is_never_taken_for_any() {
        assert_ne!(Fingerprint::of(""), Fingerprint::ANY);
        assert_eq!(Fingerprint::of("a"), Fingerprint::of("a"));
        assert!(format!("{:?}", Fingerprint::ANY).starts_with("Fingerprint(0000"));
    }
}
