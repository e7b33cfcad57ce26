//! A token bucket.

use std::time::Duration;

use corewire_proto::time::Instant;

/// Lets through a number of things per second, and as many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    per_second: u32,
    /// At most `per_second`.
    left: u32,
    /// The bucket has been refilled up to here.
    filled: Instant,
}

impl TokenBucket {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: per_second, filled: now }
    }

    /// Whether [`TokenBucket::take`] would succeed.
    pub(crate) fn has_any(&mut self, now: Instant) -> bool {
        let passed = now.saturating_since(self.filled);
        let nanos = passed.as_nanos() * u128::from(self.per_second);
        let more = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(self.per_second);
            // The time of a part of one goes to the next refill.
            let part = nanos % 1_000_000_000 / u128::from(self.per_second);
            self.filled = now - Duration::from_nanos(u64::try_from(part).unwrap_or(0));
        }
        self.left > 0
    }

    /// Takes one; `false` when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let any = self.has_any(now);
        self.left = self.left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_what_a_second_brings() {
        let start = Instant::ZERO;
        let mut bucket = TokenBucket::new(10, start);
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 10);
        let half = start + Duration::from_millis(500);
        assert_eq!((0..20).filter(|_| bucket.take(half)).count(), 5);
        let later = start + Duration::from_secs(1_000);
        assert_eq!((0..50).filter(|_| bucket.take(later)).count(), 10);
    }

    #[test]
    fn frequent_looks_lose_no_part_of_a_refill() {
        let mut bucket = TokenBucket::new(1_000, Instant::ZERO);
        assert_eq!((0..1_001).filter(|_| bucket.take(Instant::ZERO)).count(), 1_000);
        let looks = (1..=1_000).map(|n| Instant::ZERO + Duration::from_micros(1_900) * n);
        let taken: usize = looks.map(|at| (0..3).filter(|_| bucket.take(at)).count()).sum();
        assert_eq!(taken, 1_900);
    }
}
