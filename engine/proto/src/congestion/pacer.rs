//! Pacing: a bound on bursts.

use core::time::Duration;

use crate::time::Instant;

/// Packets that may leave back to back: one segmented send of the kernel. RFC 9002, 7.7 recommends the
/// initial window at most, which is ten to twelve packets.
const BURST_PACKETS: u64 = 16;

/// A rate, and what follows from it; computed once per change.
#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    /// Bytes per nanosecond, times 2^64.
    scaled: u128,
    /// Most bytes that may leave back to back.
    capacity: i64,
    /// Nanoseconds that fill the bucket from empty.
    fill_ns: u64,
}

/// A token bucket: full, it lets a burst pass; afterwards packets leave at the controller's rate.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bytes of a burst.
    burst: u64,
    /// `None`: unpaced.
    rate: Option<Rate>,
    /// Bytes that may leave. Below zero after a packet that was larger than the rest, or that was not asked
    /// for: control packets leave unpaced. At least the negative capacity.
    tokens: i64,
    /// When tokens were last added.
    filled_at: Instant,
}

impl Pacer {
    pub(crate) const fn new(max_packet_bytes: usize, now: Instant) -> Self {
        let burst = BURST_PACKETS * max_packet_bytes as u64;
        Self { burst, rate: None, tokens: burst as i64, filled_at: now }
    }

    /// A full packet has this many bytes from now on.
    pub(crate) fn set_packet_bytes(&mut self, bytes: usize) {
        self.burst = BURST_PACKETS * bytes as u64;
        let rate = self.rate.take().map(|rate| rate.bytes_per_second);
        self.set_rate(rate);
    }

    /// Sets the rate in bytes per second; `None`: packets leave unpaced.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>) {
        if self.rate.as_ref().map(|rate| rate.bytes_per_second) == rate {
            return;
        }
        self.rate = rate.map(|rate| {
            let rate = rate.max(1);
            // At least what the rate gives in a millisecond, so that a coarse timer keeps up with it.
            let capacity = i64::try_from(self.burst.max(rate / 1_000)).unwrap_or(i64::MAX);
            Rate {
                bytes_per_second: rate,
                scaled: (u128::from(rate) << 64) / 1_000_000_000,
                capacity,
                fill_ns: time_for(capacity.unsigned_abs(), rate),
            }
        });
        // A smaller bucket, a smaller debt.
        self.tokens = self.tokens.max(-self.capacity());
    }

    fn capacity(&self) -> i64 {
        self.rate.as_ref().map_or(self.burst as i64, |rate| rate.capacity)
    }

    /// Whether a packet may leave at `now`; `Err`: when to ask again.
    pub(crate) fn check(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        let elapsed = u64::try_from((now - self.filled_at).as_nanos()).unwrap_or(u64::MAX);
        // The debt is at most a bucket, so two fillings fill it in any case.
        let elapsed = elapsed.min(rate.fill_ns.saturating_mul(2));
        let gained = i64::try_from((u128::from(elapsed) * rate.scaled) >> 64).unwrap_or(i64::MAX);
        if gained > 0 || self.tokens >= rate.capacity {
            self.tokens = self.tokens.saturating_add(gained).min(rate.capacity);
            self.filled_at = now;
        }
        if self.tokens > 0 {
            return Ok(());
        }
        // Half a bucket, so that one timer serves several packets.
        let missing = (rate.capacity / 2 + 1).saturating_sub(self.tokens);
        Err(now + Duration::from_nanos(time_for(missing.unsigned_abs(), rate.bytes_per_second)))
    }

    /// A packet left, paced or not. Nothing refills the bucket while no packet is paced, so what others owe
    /// is at most one bucket.
    pub(crate) fn handle_sent(&mut self, bytes: u64) {
        let left = self.tokens.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.tokens = left.max(-self.capacity());
    }
}

/// Nanoseconds, rounded up, in which `rate` gives `bytes`.
fn time_for(bytes: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX).saturating_add(1)
}
