//! How far a producer's channel has come.

use super::POSITION_LIMIT;

/// Positions of a producer's channel. Law, kept by the setters: `released <= next <= published <= end`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Positions {
    /// Reliable: every sequence below is acknowledged. FireAndForget: where the channel started.
    released: u64,
    /// The sequence to be sent next; a large datum that is being sent in fragments is at `next`.
    next: u64,
    /// Where `next` starts in the offset space; while a large datum is being sent, where the one behind it
    /// starts.
    next_offset: u64,
    /// One past the last sequence that may be fetched from the source.
    published: u64,
    /// One past the last sequence of the stream, once the owner has named it.
    end: Option<u64>,
}

impl Positions {
    /// A channel whose first sequence is `first_seq`.
    pub(super) const fn starting_at(first_seq: u64) -> Self {
        Self { released: first_seq, next: first_seq, next_offset: 0, published: first_seq, end: None }
    }

    pub(super) const fn released(&self) -> u64 {
        self.released
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn next_offset(&self) -> u64 {
        self.next_offset
    }

    pub(super) const fn published(&self) -> u64 {
        self.published
    }

    pub(super) const fn end(&self) -> Option<u64> {
        self.end
    }

    /// Whether a datum or a skipped sequence waits to be sent for the first time.
    pub(super) const fn has_unsent(&self) -> bool {
        self.next < self.published
    }

    /// Whether everything up to the end was sent.
    pub(super) fn reached_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Sequences below `end_seq` may be fetched.
    pub(super) fn publish(&mut self, end_seq: u64) {
        let end_seq = self.end.map_or(end_seq, |end| end_seq.min(end)).min(POSITION_LIMIT);
        self.published = self.published.max(end_seq);
        self.check();
    }

    /// Everything before `seq` was sent; `seq` starts at `offset`.
    pub(super) fn advance(&mut self, seq: u64, offset: u64) {
        debug_assert!(seq >= self.next && offset >= self.next_offset, "sending goes forward");
        self.next = seq;
        self.next_offset = offset;
        self.check();
    }

    /// Every sequence below `seq` is acknowledged; `false` when that was known.
    pub(super) fn release(&mut self, seq: u64) -> bool {
        let moved = seq > self.released;
        self.released = self.released.max(seq);
        self.check();
        moved
    }

    /// Names the end of the stream, once: `end_seq`, but not before `begun`, what was begun to be sent.
    /// Returns the end in force.
    pub(super) fn finish(&mut self, end_seq: u64, begun: u64) -> u64 {
        let end = *self.end.get_or_insert(end_seq.max(begun).min(POSITION_LIMIT - 1));
        self.published = self.published.min(end);
        self.check();
        end
    }

    fn check(&self) {
        debug_assert!(
            self.released <= self.next
                && self.next <= self.published
                && self.end.is_none_or(|end| self.published <= end),
            "released <= next <= published <= end: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_stops_at_the_end_and_the_end_stays() {
        let mut positions = Positions::starting_at(10);
        positions.publish(15);
        positions.advance(12, 32);
        assert_eq!(positions.finish(11, 13), 13, "a datum that was begun is sent to its end");
        positions.publish(20);
        assert_eq!((positions.published(), positions.finish(99, 13)), (13, 13));
        positions.advance(13, 48);
        assert!(positions.reached_end() && !positions.has_unsent());
        assert!(positions.release(13) && !positions.release(12));
    }
}
