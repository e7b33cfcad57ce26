//! A limit on how fast the peer may open channels.

use crate::time::Instant;

/// Tokens are counted in billionths, so that a rate per second times nanoseconds gives tokens without
/// division.
const TOKEN: u64 = 1_000_000_000;

/// A token bucket that holds one second's worth of opens.
#[derive(Debug)]
pub(super) struct OpenRate {
    /// Opens per second, and at most at once.
    per_second: u32,
    /// At most `per_second * TOKEN`.
    tokens: u64,
    filled_at: Instant,
}

impl OpenRate {
    /// A full bucket.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, tokens: u64::from(per_second) * TOKEN, filled_at: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let rate = u64::from(self.per_second);
        let elapsed = u64::try_from((now - self.filled_at).as_nanos()).unwrap_or(u64::MAX);
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(rate)).min(rate * TOKEN);
        self.filled_at = now;
        match self.tokens.checked_sub(TOKEN) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn bucket_lets_a_second_of_opens_through_at_once() {
        let mut rate = OpenRate::new(3, Instant::ZERO);
        let allowed = |rate: &mut OpenRate, now| (0..10).filter(|_| rate.take(now)).count();
        assert_eq!(allowed(&mut rate, Instant::ZERO), 3);
        assert_eq!(allowed(&mut rate, Instant::ZERO + Duration::from_millis(350)), 1);
        assert_eq!(allowed(&mut rate, Instant::ZERO + Duration::from_secs(9)), 3);
    }
}
