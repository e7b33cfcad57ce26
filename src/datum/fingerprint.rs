//! What both ends of a stream compare before they are connected.

use core::any::type_name;
use core::fmt;

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
    pub(super) fn of_layout<D>() -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("corewire 2026 plain layout");
        for number in [size_of::<D>(), align_of::<D>()] {
            hasher.update(&(number as u64).to_le_bytes());
        }
        let order = if cfg!(target_endian = "little") { b"little" } else { b"big   " };
        let name = Some(type_name::<D>()).filter(|name| is_primitive(name));
        Self::from_hash(&hasher.update(order).update(name.unwrap_or_default().as_bytes()).finalize())
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

/// Whether a type's name is that of a number, or of arrays and tuples of numbers: those names are the same in
/// every program.
fn is_primitive(name: &str) -> bool {
    const NUMBERS: [&str; 14] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64",
    ];
    let words = name.split(|c: char| "[](),; ".contains(c)).filter(|word| !word.is_empty());
    words.into_iter().all(|word| NUMBERS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn plain_structs_are_known_by_size_and_alignment() {
        #[repr(C)]
        struct Tick(u64, i64);
        #[repr(C)]
        struct Quote(i64, u64);
        #[repr(C)]
        struct Wide(u64, i64, u64);
        assert_eq!(Fingerprint::of_layout::<Tick>(), Fingerprint::of_layout::<Quote>());
        assert_ne!(Fingerprint::of_layout::<Tick>(), Fingerprint::of_layout::<Wide>());
        assert_ne!(Fingerprint::of_layout::<Tick>(), Fingerprint::of_layout::<[u8; 16]>());
    }

    #[test]
    fn a_described_codec_is_never_taken_for_any() {
        assert_ne!(Fingerprint::of(""), Fingerprint::ANY);
        assert_eq!(Fingerprint::of("a"), Fingerprint::of("a"));
        assert!(format!("{:?}", Fingerprint::ANY).starts_with("Fingerprint(0000"));
    }
}
