//! The replay window.
//!
//! Not inside: cryptography. The caller asks for the [`Vacancy`] of a number before it opens the packet and
//! commits it after the packet opened.

use alloc::boxed::Box;

use crate::mutate;

/// Packet numbers that the window covers: four milliseconds of reordering at two million packets a second.
pub const REPLAY_WINDOW_PACKETS: u64 = 8_192;

const WORDS: usize = (REPLAY_WINDOW_PACKETS / 64) as usize;

const _: () =
    assert!(REPLAY_WINDOW_PACKETS.is_power_of_two() && WORDS * 64 == REPLAY_WINDOW_PACKETS as usize);

/// The last [`REPLAY_WINDOW_PACKETS`] packet numbers of one key, one bit each, 1 KiB.
///
/// A number ahead of the window is acceptable, however far it jumps; a number behind it is not.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One more than the highest committed number; 0 before the first.
    end: u64,
    /// Bit `n % REPLAY_WINDOW_PACKETS` is set when number `n` of the window was committed.
    seen: Box<[u64; WORDS]>,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayWindow {
    /// A window in which nothing was seen.
    pub fn new() -> Self {
        Self { end: 0, seen: Box::new([0; WORDS]) }
    }

    /// The place of `number`; `None` when it was seen or is behind the window. Changes nothing.
    pub fn vacancy(&mut self, number: u64) -> Option<Vacancy<'_>> {
        let free = if number >= self.end {
            number != u64::MAX
        } else {
            // `end - number` is at least 1: the distance back from the end.
            self.end - number <= REPLAY_WINDOW_PACKETS && self.seen[word(number)] & bit(number) == 0
        };
        mutate!(free, "replay-opened" => true).then_some(Vacancy { window: self, number })
    }

    /// One more than the highest number that was committed; 0 before the first.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Clears the bits of the numbers `from..=to`, which enter the window; their places hold numbers that
    /// left it.
    fn forget(&mut self, from: u64, to: u64) {
        let mut number = from;
        while number <= to {
            let first = number % 64;
            let count = (64 - first).min(to - number + 1);
            let mask = if count == 64 { u64::MAX } else { ((1 << count) - 1) << first };
            self.seen[word(number)] &= !mask;
            number += count;
        }
    }
}

/// A number that was not seen. It borrows the window, so nothing can take the number before it is committed.
#[derive(Debug)]
pub struct Vacancy<'window> {
    window: &'window mut ReplayWindow,
    number: u64,
}

impl Vacancy<'_> {
    /// Records the number.
    pub fn commit(self) {
        let Self { window, number } = self;
        if number >= window.end {
            if number - window.end >= REPLAY_WINDOW_PACKETS {
                window.seen.fill(0);
            } else {
                window.forget(window.end, number);
            }
            window.end = number + 1;
        }
        window.seen[word(number)] |= bit(number);
    }
}

const fn word(number: u64) -> usize {
    ((number / 64) % WORDS as u64) as usize
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}
