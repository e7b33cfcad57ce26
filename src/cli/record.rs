//! A record as `pub` and `sub` send it: its bytes, without an encoding, so that any program can take part.

use corewire::{Codec, DatumOutput, DecodeError, EncodeError, Fingerprint};

/// Records up to this length are stored inline; most lines of text are shorter and need no allocation.
const INLINE_BYTES: usize = 62;

/// The bytes of one record.
pub(crate) enum RawRecord {
    /// A short one.
    Inline([u8; INLINE_BYTES], u8),
    /// A long one.
    Heap(Box<[u8]>),
}

impl From<&[u8]> for RawRecord {
    fn from(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_BYTES];
        match inline.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                RawRecord::Inline(inline, bytes.len() as u8)
            }
            None => RawRecord::Heap(bytes.into()),
        }
    }
}

impl AsRef<[u8]> for RawRecord {
    fn as_ref(&self) -> &[u8] {
        match self {
            RawRecord::Inline(bytes, len) => &bytes[..usize::from(*len)],
            RawRecord::Heap(bytes) => bytes,
        }
    }
}

/// The codec of [`RawRecord`]: the bytes, unchanged.
#[derive(Clone, Copy)]
pub(crate) struct Raw;

impl Codec<RawRecord> for Raw {
    const MAY_PANIC: bool = false;

    /// The bytes of every stream are records.
    fn fingerprint() -> Fingerprint {
        Fingerprint::ANY
    }

    #[inline]
    fn encode(record: &RawRecord, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
        out.put(record.as_ref());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<RawRecord, DecodeError> {
        Ok(RawRecord::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_length_survive() {
        for len in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 5_000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let record = RawRecord::from(&bytes[..]);
            let mut room = vec![0; len];
            let mut out = DatumOutput::new(&mut room);
            Raw::encode(&record, &mut out).unwrap();
            assert_eq!(out.bytes(), Some(&bytes[..]));
            assert_eq!(Raw::decode(&bytes).unwrap().as_ref(), bytes);
            assert_eq!(matches!(record, RawRecord::Heap(_)), len > INLINE_BYTES);
        }
    }

    #[test]
    fn a_record_is_one_cache_line() {
        assert_eq!(size_of::<RawRecord>(), 64);
    }
}
