//! The pause before a producer is tried again.

use std::time::Duration;

use crate::shared::subscription::Backoff;

/// The least pause.
const BACKOFF_MIN: Duration = Duration::from_millis(1);

impl Backoff {
    /// The pause after `failures` failed attempts (at least one); `chance` is from 0 to 1. Never panics,
    /// whatever the fields hold.
    pub(crate) fn pause(&self, failures: u32, chance: f64) -> Duration {
        let growth = if self.multiplier.is_finite() { self.multiplier.max(1.0) } else { 1.0 };
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * growth.powi(exponent);
        // Zero times infinity is not a number, and counts as zero.
        let grown = if grown.is_nan() { 0.0 } else { grown };
        let capped = grown.min(self.max.as_secs_f64());
        let changed = capped * (1.0 + jitter * (chance * 2.0 - 1.0));
        Duration::try_from_secs_f64(changed).unwrap_or(self.max).max(BACKOFF_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_its_bound_whatever_chance_says() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        assert_eq!(backoff.pause(1, 0.3), Duration::from_millis(500));
        assert_eq!(backoff.pause(2, 0.3), Duration::from_millis(750));
        assert_eq!(backoff.pause(u32::MAX, 0.3), Duration::from_secs(60));
        let jittered = Backoff::default();
        assert_eq!(jittered.pause(1, 0.0), Duration::from_millis(250));
        assert_eq!(jittered.pause(1, 1.0), Duration::from_millis(750));
    }

    #[test]
    fn a_senseless_backoff_still_gives_a_pause() {
        for multiplier in [f64::NAN, f64::INFINITY, -3.0, 0.0, 1e300] {
            for jitter in [f64::NAN, -1.0, 7.0] {
                let backoff = Backoff {
                    initial: Duration::MAX,
                    multiplier,
                    jitter,
                    max: Duration::MAX,
                    max_elapsed: None,
                };
                assert!(backoff.pause(9, 0.5) >= BACKOFF_MIN);
                let zero = Backoff { initial: Duration::ZERO, multiplier, jitter, ..backoff };
                assert_eq!(zero.pause(9, 0.5), BACKOFF_MIN);
            }
        }
    }
}
