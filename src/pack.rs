//! Where postcard's bytes go: whole words into a slice, so that a datum of a few fields is a few stores.
//!
//! A datum's fields are single bytes and short runs of them. Written one by one into a ring they are dozens of stores
//! to a cache line that another processor has, in turns with stores to the stack, and a copy of bytes that were just
//! written one by one has to wait for all of them. The packer collects eight bytes in a register instead.
//!
//! Not inside: what the bytes are ([`wire`]), and how they are read ([`de`]).

use core::sync::atomic::{AtomicU64, Ordering};

use postcard::{Error, Result};

pub(crate) use de::read;
pub(crate) use wire::{Length, Sink, Wire};

mod de;
mod wire;

/// Bytes of a word.
const WORD: usize = 8;

const WORD_BITS: usize = 8 * WORD;

/// Runs up to this length, in bytes, are taken in word by word; longer ones are copied.
const SHORT_RUN: usize = 4 * WORD;

/// The longest encoded form that is encoded before it is measured, in words.
const SHORT_WORDS: usize = 8;

/// A place for eight bytes.
pub(crate) trait Word {
    /// Puts the bytes there, the lowest first.
    fn put(&mut self, bytes: u64);
}

impl Word for [u8; WORD] {
    #[inline(always)]
    fn put(&mut self, bytes: u64) {
        *self = bytes.to_le_bytes();
    }
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn put(&mut self, bytes: u64) {
        *self.get_mut() = bytes;
    }
}

/// Room for the encoded form of a small datum. Encoding it here and copying it is cheaper than going through the datum
/// twice, once to measure it; and what a user's `Serialize` does is over before room is claimed.
#[derive(Debug)]
pub struct Short {
    /// Atomic, though nobody shares it: then a compiler loads word by word, as they were written, and makes no wider copy,
    /// which would have to wait until the words have reached the cache.
    words: [AtomicU64; SHORT_WORDS],
    len: usize,
}

impl Short {
    /// Empty room.
    #[inline]
    pub(crate) fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; SHORT_WORDS], len: 0 }
    }

    /// Packs what `fill` gives. `Ok(false)`: it does not fit.
    #[inline]
    pub(crate) fn pack<'a>(
        &'a mut self,
        fill: impl FnOnce(Packer<'a, AtomicU64>) -> Result<Packer<'a, AtomicU64>>,
    ) -> Result<bool> {
        let Self { words, len } = self;
        let packer = match fill(Packer::new(words)) {
            Ok(packer) => packer,
            Err(Error::SerializeBufferFull) => return Ok(false),
            Err(error) => return Err(error),
        };
        *len = packer.len();
        let (word, rest) = packer.finish();
        match rest.first_mut() {
            Some(last) => last.put(word),
            // A few bytes more than there is room for are still in the register.
            None if *len > SHORT_WORDS * WORD => return Ok(false),
            None => {}
        }
        Ok(true)
    }

    /// How many bytes were packed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies what was packed into `out`, which is as long.
    #[inline]
    pub(crate) fn copy_to(&self, out: &mut [u8]) {
        let word = |index: usize| self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
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

/// Packs what `fill` gives into `out`. `Ok(false)`: it is not as long as `out`.
#[inline]
pub(crate) fn pack_into(
    out: &mut [u8],
    fill: impl FnOnce(Packer<'_, [u8; WORD]>) -> Result<Packer<'_, [u8; WORD]>>,
) -> Result<bool> {
    let all = out.len();
    let (words, last) = out.as_chunks_mut();
    let packer = fill(Packer::new(words))?;
    if packer.len() != all {
        return Ok(false);
    }
    write_short(last, packer.finish().0);
    Ok(true)
}

/// Writes into a slice of words. Fewer bytes than a word may be left over at the end: [`finish`](Self::finish) gives
/// them.
#[derive(Debug)]
pub(crate) struct Packer<'a, W> {
    words: &'a mut [W],
    /// How many bits were pushed: a multiple of 8.
    bits: usize,
    /// The bytes that are not written yet, fewer than a word, the first in the lowest place.
    word: u64,
}

impl<W> Default for Packer<'_, W> {
    fn default() -> Self {
        Self { words: &mut [], bits: 0, word: 0 }
    }
}

impl<'a, W: Word> Packer<'a, W> {
    #[inline(always)]
    fn new(words: &'a mut [W]) -> Self {
        Self { words, bits: 0, word: 0 }
    }

    /// How many bytes were pushed.
    #[inline(always)]
    fn len(&self) -> usize {
        self.bits / 8
    }

    /// The bytes that are not written yet, and the words that were not.
    #[inline]
    fn finish(self) -> (u64, &'a mut [W]) {
        (self.word, self.words.get_mut(self.bits / WORD_BITS..).unwrap_or_default())
    }

    /// Bytes of any number, copied.
    #[inline(never)]
    fn copy(mut self, bytes: &[u8]) -> Result<Self> {
        let first = (WORD - self.len() % WORD) % WORD;
        let (first, bytes) = bytes.split_at_checked(first).ok_or(Error::SerializeBufferFull)?;
        if !first.is_empty() {
            self = self.push(read_short(first), 8 * first.len() as u32)?;
        }
        let (words, last) = bytes.as_chunks();
        let place = self.bits / WORD_BITS;
        let places = self.words.get_mut(place..place + words.len()).ok_or(Error::SerializeBufferFull)?;
        places.iter_mut().zip(words).for_each(|(place, word)| place.put(u64::from_le_bytes(*word)));
        self.bits += 8 * bytes.len();
        self.word = read_short(last);
        Ok(self)
    }
}

impl<W: Word> Sink for Packer<'_, W> {
    #[inline(always)]
    fn push(mut self, bytes: u64, bits: u32) -> Result<Self> {
        debug_assert!(
            bits.is_multiple_of(8) && (8..=64).contains(&bits) && bytes & !(u64::MAX >> (64 - bits)) == 0
        );
        let place = self.bits / WORD_BITS;
        let before = self.bits % WORD_BITS;
        self.bits += bits as usize;
        let word = self.word | bytes << before;
        self.word = if self.bits / WORD_BITS == place {
            word
        } else {
            self.words.get_mut(place).ok_or(Error::SerializeBufferFull)?.put(word);
            // Two shifts, since one by 64 is none.
            bytes >> 1 >> (WORD_BITS - 1 - before)
        };
        Ok(self)
    }

    #[inline]
    fn run(mut self, bytes: &[u8]) -> Result<Self> {
        if bytes.len() > SHORT_RUN {
            return self.copy(bytes);
        }
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self = self.push(u64::from_le_bytes(*word), 64)?;
        }
        if rest.is_empty() { Ok(self) } else { self.push(read_short(rest), 8 * rest.len() as u32) }
    }
}

/// Fills `out`, shorter than a word, with the lowest bytes of `word`.
#[inline]
fn write_short(out: &mut [u8], mut word: u64) {
    let (four, rest) = out.split_at_mut(out.len() & 4);
    let (two, one) = rest.split_at_mut(rest.len() & 2);
    if let Ok(four) = <&mut [u8; 4]>::try_from(four) {
        *four = (word as u32).to_le_bytes();
        word >>= 32;
    }
    if let Ok(two) = <&mut [u8; 2]>::try_from(two) {
        *two = (word as u16).to_le_bytes();
        word >>= 16;
    }
    if let Some(one) = one.first_mut() {
        *one = word as u8;
    }
}

/// The bytes of `from`, fewer than a word, the first in the lowest place.
#[inline]
fn read_short(from: &[u8]) -> u64 {
    let (four, rest) = from.split_at(from.len() & 4);
    let (two, one) = rest.split_at(rest.len() & 2);
    let mut word = one.first().map_or(0, |byte| u64::from(*byte));
    if let Ok(two) = <[u8; 2]>::try_from(two) {
        word = word << 16 | u64::from(u16::from_le_bytes(two));
    }
    if let Ok(four) = <[u8; 4]>::try_from(four) {
        word = word << 32 | u64::from(u32::from_le_bytes(four));
    }
    word
}

#[cfg(test)]
mod tests;
