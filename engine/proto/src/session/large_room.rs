//! How much of large datums the peer has room for, shared by all channels that send them.
//!
//! The peer holds the fragments of a large Reliable datum until it is whole and at its position. If the
//! datums that were begun needed more memory than it has, each would wait for the others. So a datum is begun
//! only when all of it fits; channels wait for that in turn.

use alloc::collections::VecDeque;

/// The room, and who waits for it.
#[derive(Debug)]
pub(super) struct LargeRoom {
    /// What the peer may hold of datums that were begun and not released, in bytes.
    begun: usize,
    /// Most of `begun` when another datum is begun.
    limit: usize,
    /// Slots of channels that wait, in turn. Those whose channel is not marked so are passed over.
    waiting: VecDeque<u32>,
}

impl LargeRoom {
    pub(super) const fn new(limit: usize) -> Self {
        Self { begun: 0, limit, waiting: VecDeque::new() }
    }

    /// The peer has declared how much it holds.
    pub(super) fn declare(&mut self, bytes: u64) {
        self.limit = self.limit.min(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// A channel's datums that were begun changed from `before` to `after` bytes. Returns whether there is
    /// more room now.
    pub(super) fn change(&mut self, before: usize, after: usize) -> bool {
        self.begun = self.begun + after - before;
        after < before
    }

    /// Bytes that the channel in `slot` may begin. Those that wait go first, and a datum that is alone always
    /// fits.
    pub(super) fn room(&self, slot: u32) -> usize {
        if self.waiting.front().is_some_and(|first| *first != slot) {
            0
        } else if self.begun == 0 {
            usize::MAX
        } else {
            self.limit.saturating_sub(self.begun)
        }
    }

    /// The channel in `slot` waits.
    pub(super) fn push(&mut self, slot: u32) {
        self.waiting.push_back(slot);
    }

    /// The channel that has waited longest.
    pub(super) fn first(&self) -> Option<u32> {
        self.waiting.front().copied()
    }

    /// That channel does not wait any more.
    pub(super) fn pop(&mut self) {
        self.waiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datums_wait_in_turn_and_one_that_is_alone_always_fits() {
        let mut large = LargeRoom::new(1_000);
        large.declare(5_000);
        assert_eq!(large.room(1), usize::MAX);
        assert!(!large.change(0, 700));
        assert_eq!(large.room(2), 300);
        large.push(2);
        assert_eq!((large.room(2), large.room(3)), (300, 0), "no channel overtakes one that waits");
        large.declare(800);
        assert_eq!(large.room(2), 100);
        assert!(large.change(700, 0) && large.room(2) == usize::MAX);
        large.pop();
        assert_eq!((large.first(), large.room(3)), (None, usize::MAX));
    }
}
