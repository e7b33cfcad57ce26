//! Where postcard's bytes go: whole words into a slice, so that a datum of a few fields is a few stores.
//!
//! A serializer gives single bytes and short runs of them. Written one by one into a ring they are dozens of stores to a
//! cache line that another processor has, in turns with stores to the stack, and a copy of bytes that were just written
//! one by one has to wait for all of them. The packer collects eight bytes in a register instead.

use postcard::ser_flavors::Flavor;
use postcard::{Error, Result};

/// Bytes of a word.
const WORD: usize = 8;

/// Runs up to this length are taken in byte by byte; longer ones are copied.
const SHORT_RUN: usize = 2 * WORD;

/// The longest encoded form that is encoded before it is measured, in bytes.
const SHORT_DATUM: usize = 64;

/// Room for the encoded form of a small datum. Encoding it here and copying it is cheaper than going through the datum
/// twice, once to measure it; and what a user's `Serialize` does is over before room is claimed.
#[derive(Debug)]
pub struct Short {
    /// One word longer than it takes, so that the last word is written in one piece.
    bytes: [u8; SHORT_DATUM + WORD],
    len: usize,
}

impl Short {
    /// Empty room.
    #[inline]
    pub(crate) fn new() -> Self {
        Self { bytes: [0; SHORT_DATUM + WORD], len: 0 }
    }

    /// Packs what `fill` gives. `Ok(false)`: it does not fit.
    #[inline]
    pub(crate) fn pack(&mut self, fill: impl FnOnce(&mut Packer<'_>) -> Result<()>) -> Result<bool> {
        let room = &mut self.bytes;
        let all = room.len();
        let mut packer = Packer::new(room);
        let left = match fill(&mut packer).and_then(|()| packer.finish()) {
            Ok(left) => left,
            Err(Error::SerializeBufferFull) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.len = all - left;
        Ok(self.len <= SHORT_DATUM)
    }

    /// How many bytes were packed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies what was packed into `out`, which is as long.
    #[inline]
    pub(crate) fn copy_to(&self, out: &mut [u8]) {
        // Word by word, as they were written, and not in wider pieces; a compiler that saw through this would make one
        // copy of it, which waits until the words have reached the cache.
        let (words, _) = self.bytes.as_chunks::<WORD>();
        let word =
            |index: usize| std::hint::black_box(words.get(index).map_or(0, |w| u64::from_le_bytes(*w)));
        let (places, rest) = out.as_chunks_mut::<WORD>();
        let whole = places.len();
        for (index, place) in places.iter_mut().enumerate() {
            *place = word(index).to_le_bytes();
        }
        if !rest.is_empty() {
            write_short(rest, word(whole));
        }
    }
}

/// Fills `out`, shorter than a word, with the lowest bytes of `word`.
#[inline]
fn write_short(out: &mut [u8], mut word: u64) {
    let (four, rest) = out.split_at_mut(out.len() & 4);
    if let Ok(four) = <&mut [u8; 4]>::try_from(four) {
        *four = (word as u32).to_le_bytes();
        word >>= 32;
    }
    for (place, byte) in rest.iter_mut().zip(word.to_le_bytes()) {
        *place = byte;
    }
}

/// Writes into a slice.
pub(crate) struct Packer<'a> {
    /// Bytes that are not written yet, the first in the lowest place.
    word: u64,
    /// How many bits of it; a multiple of 8, below 64.
    bits: u32,
    rest: &'a mut [u8],
}

impl<'a> Packer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { word: 0, bits: 0, rest: out }
    }

    /// Writes the last bytes and gives the number of those that were not filled; some of them may be zeros then.
    #[inline]
    pub(crate) fn finish(mut self) -> Result<usize> {
        let left = self.rest.len().checked_sub(self.bits as usize / 8).ok_or(Error::SerializeBufferFull)?;
        match self.rest.first_chunk_mut() {
            Some(here) => *here = self.word.to_le_bytes(),
            None => self.write_rest()?,
        }
        Ok(left)
    }

    /// Eight bytes, the lowest one first.
    #[inline]
    fn push_word(&mut self, bytes: u64) -> Result<()> {
        self.write_word(self.word | bytes << self.bits)?;
        // Two shifts, since one by 64 is none.
        self.word = bytes >> 1 >> (63 - self.bits);
        Ok(())
    }

    #[inline]
    fn write_word(&mut self, word: u64) -> Result<()> {
        let (here, rest) =
            core::mem::take(&mut self.rest).split_first_chunk_mut().ok_or(Error::SerializeBufferFull)?;
        *here = word.to_le_bytes();
        self.rest = rest;
        Ok(())
    }

    /// Writes the last bytes, fewer than a word.
    #[inline]
    fn write_rest(&mut self) -> Result<()> {
        let (here, rest) = core::mem::take(&mut self.rest)
            .split_at_mut_checked(self.bits as usize / 8)
            .ok_or(Error::SerializeBufferFull)?;
        write_short(here, self.word);
        self.rest = rest;
        (self.word, self.bits) = (0, 0);
        Ok(())
    }
}

/// By reference, because serializers hand their flavor around by value, in pieces of other sizes than it was written.
impl Flavor for &mut Packer<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> Result<()> {
        self.word |= u64::from(byte) << self.bits;
        self.bits += 8;
        if self.bits == u64::BITS {
            self.write_word(self.word)?;
            (self.word, self.bits) = (0, 0);
        }
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> Result<()> {
        // A float, nearly always; those come in one piece.
        if let Ok(word) = <[u8; WORD]>::try_from(data) {
            return self.push_word(u64::from_le_bytes(word));
        }
        if data.len() <= SHORT_RUN {
            // Byte by byte, as a serializer has just written them: a wider load would wait for those stores.
            let (mut word, mut bits) = (self.word, self.bits);
            for byte in data {
                word |= u64::from(*byte) << bits;
                bits += 8;
                if bits == u64::BITS {
                    self.write_word(word)?;
                    (word, bits) = (0, 0);
                }
            }
            (self.word, self.bits) = (word, bits);
            return Ok(());
        }
        self.write_rest()?;
        let (here, rest) = core::mem::take(&mut self.rest)
            .split_at_mut_checked(data.len())
            .ok_or(Error::SerializeBufferFull)?;
        here.copy_from_slice(data);
        self.rest = rest;
        Ok(())
    }

    #[inline]
    fn finalize(self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Packer, SHORT_DATUM, Short};
    use postcard::ser_flavors::Flavor;
    use proptest::prelude::*;

    fn pack(pieces: &[Vec<u8>], out: &mut [u8]) -> postcard::Result<usize> {
        let mut packer = Packer::new(out);
        for piece in pieces {
            match piece[..] {
                [byte] => (&mut packer).try_push(byte)?,
                _ => (&mut packer).try_extend(piece)?,
            }
        }
        packer.finish()
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_follow_one_another(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20), spare in 0usize..20) {
            let flat = pieces.concat();
            let mut out = vec![0xa5; flat.len() + spare];
            prop_assert_eq!(pack(&pieces, &mut out), Ok(spare));
            prop_assert_eq!(&out[..flat.len()], &flat[..]);
            let behind = out.get(flat.len() + 8..).unwrap_or_default();
            prop_assert!(behind.iter().all(|byte| *byte == 0xa5), "written far behind the end");
        }

        #[test]
        fn a_short_datum_is_copied_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let flat = pieces.concat();
            let mut short = Short::new();
            let fits = short.pack(|mut packer| pieces.iter().try_for_each(|piece| packer.try_extend(piece)));
            prop_assert_eq!(&fits, &Ok(flat.len() <= SHORT_DATUM));
            if fits == Ok(true) {
                let mut out = vec![0; short.len()];
                short.copy_to(&mut out);
                prop_assert_eq!(out, flat);
            }
        }

        #[test]
        fn room_that_ends_too_early_is_an_error(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..20), missing in 1usize..20) {
            let len = pieces.concat().len();
            let mut out = vec![0; len.saturating_sub(missing)];
            prop_assert_eq!(pack(&pieces, &mut out), Err(postcard::Error::SerializeBufferFull));
        }
    }
}
