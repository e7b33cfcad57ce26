//! The interface that every queue under test has, and its runs.
//!
//! Senders sit on the first allowed processor, receivers on the second. Each message carries its sender's
//! number and count in its first word and the same word in its last; a receiver checks both, so that a lost,
//! doubled, torn or reordered message is seen by every run, not only by a test.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub mod corewire;
pub mod full;
pub mod limits;
pub mod memory;
pub mod parked;
pub mod peers;
pub mod run;
pub mod typed;

/// A message of `W` 8-byte words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Message<const W: usize>(pub [u64; W]);

impl<const W: usize> Message<W> {
    /// Message number `count` of sender `sender`.
    #[inline(always)]
    pub fn new(sender: u64, count: u64) -> Self {
        let mut words = [count; W];
        words[0] = stamp(sender, count);
        words[W - 1] = words[0];
        Message(words)
    }
}

impl<const W: usize> Default for Message<W> {
    fn default() -> Self {
        Message([0; W])
    }
}

/// Bits of the stamp that hold the sender's count; the sender's number is above them.
const COUNT_BITS: u32 = 56;

/// The word that names a message: sender above, count below.
#[inline(always)]
pub fn stamp(sender: u64, count: u64) -> u64 {
    sender << COUNT_BITS | count
}

/// Splits a stamp into sender and count.
#[inline(always)]
pub fn parts(stamp: u64) -> (usize, u64) {
    ((stamp >> COUNT_BITS) as usize, stamp & ((1 << COUNT_BITS) - 1))
}

/// The sending side of a queue under test.
pub trait Tx<const W: usize>: Send + 'static {
    /// Sends one message; `false` when there is no room now.
    fn try_send(&mut self, message: &Message<W>) -> bool;

    /// Sends up to `n` messages of `sender` from `first` on, with one index update where the queue can.
    /// Returns how many went.
    fn try_send_batch(&mut self, sender: u64, first: u64, n: usize) -> usize {
        (0..n).take_while(|i| self.try_send(&Message::new(sender, first + *i as u64))).count()
    }
}

/// The receiving side of a queue under test.
pub trait Rx<const W: usize>: Send + 'static {
    /// Takes at most `max` messages and passes each to the callback. Returns how many.
    fn drain(&mut self, max: usize, see: impl FnMut(&Message<W>)) -> usize;

    /// Messages that the queue itself reported as lost to this receiver.
    fn lost(&self) -> u64 {
        0
    }
}

/// Drops a received value without reading it.
#[inline]
pub fn swallow<T>(value: T) {
    std::hint::black_box(value);
}
