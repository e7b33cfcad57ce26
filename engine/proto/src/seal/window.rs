//! The replay window.
//!
//! Not inside: cryptography. The caller asks [`ReplayWindow::check`] before it opens a packet and calls
//! [`ReplayWindow::commit`] after the packet opened.

use alloc::boxed::Box;

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

    /// Whether `number` is acceptable. Changes nothing.
    pub fn check(&self, number: u64) -> bool {
        if number >= self.end {
            return number != u64::MAX;
        }
        // `end - number` is at least 1: the distance back from the end.
        self.end - number <= REPLAY_WINDOW_PACKETS && self.seen[word(number)] & bit(number) == 0
    }

    /// Records `number`; `false`, without a change, when it is not acceptable.
    pub fn commit(&mut self, number: u64) -> bool {
        if !self.check(number) {
            return false;
        }
        if number >= self.end {
            if number - self.end >= REPLAY_WINDOW_PACKETS {
                self.seen.fill(0);
            } else {
                self.forget(self.end, number);
            }
            self.end = number + 1;
        }
        self.seen[word(number)] |= bit(number);
        true
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

const fn word(number: u64) -> usize {
    ((number / 64) % WORDS as u64) as usize
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}
