//! Pacing: a bound on bursts.

use core::time::Duration;

use crate::time::Instant;

/// Packets that may leave back to back: one segmented send of the kernel. RFC 9002, 7.7 recommends the
/// initial window at most, which is ten to twelve packets.
const BURST_PACKETS: u64 = 16;

/// A token bucket: full, it lets a burst pass; afterwards packets leave at the controller's rate.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bytes of a burst.
    burst: u64,
    /// Bytes that may leave. Below zero after a packet that was larger than the rest; refilled before the
    /// next leaves.
    tokens: i64,
    /// When tokens were last added.
    filled_at: Instant,
}

impl Pacer {
    pub(crate) const fn new(max_packet_bytes: usize, now: Instant) -> Self {
        let burst = BURST_PACKETS * max_packet_bytes as u64;
        Self { burst, tokens: burst as i64, filled_at: now }
    }

    /// Whether a packet may leave at `now`; `Err`: when to ask again.
    pub(crate) fn check(&mut self, now: Instant, rate: Option<u64>) -> Result<(), Instant> {
        let Some(rate) = rate else {
            return Ok(());
        };
        // At least what the rate gives in a millisecond, so that a coarse timer keeps up with it.
        let capacity = self.burst.max(rate / 1_000);
        let elapsed = (now - self.filled_at).as_nanos();
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        let gained = i64::try_from(elapsed * u128::from(rate) / 1_000_000_000).unwrap_or(i64::MAX);
        if gained > 0 || self.tokens >= capacity {
            self.tokens = self.tokens.saturating_add(gained).min(capacity);
            self.filled_at = now;
        }
        if self.tokens > 0 {
            return Ok(());
        }
        // Half a bucket, so that one timer serves several packets.
        let missing = (capacity / 2 + 1).saturating_sub(self.tokens);
        let wait = u128::from(missing.unsigned_abs()) * 1_000_000_000 / u128::from(rate) + 1;
        Err(now + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    pub(crate) fn handle_sent(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
