//! Round-trip time estimate: RFC 9002, section 5.

use core::time::Duration;

/// Smoothed round-trip time and its variation.
#[derive(Debug)]
pub(super) struct Rtt {
    /// Assumed before the first sample.
    initial: Duration,
    /// The last sample.
    latest: Duration,
    /// `None` before the first sample.
    smoothed: Option<Duration>,
    variation: Duration,
    /// The smallest sample.
    min: Duration,
    /// Shortest timer that is set (RFC 9002, 6.1.2).
    pub(super) granularity: Duration,
}

impl Rtt {
    pub(super) fn new(initial: Duration, granularity: Duration) -> Self {
        let variation = initial / 2;
        Self { initial, latest: initial, smoothed: None, variation, min: Duration::MAX, granularity }
    }

    pub(super) fn update(&mut self, sample: Duration, ack_delay: Duration) {
        self.latest = sample;
        self.min = self.min.min(sample);
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample);
            self.variation = sample / 2;
            return;
        };
        // The peer's delay is subtracted, unless that would go below the shortest round trip seen.
        let adjusted = match sample.checked_sub(ack_delay) {
            Some(adjusted) if adjusted >= self.min => adjusted,
            _ => sample,
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = Some((smoothed * 7 + adjusted) / 8);
    }

    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(self.initial)
    }

    pub(super) fn measured_ns(&self) -> u64 {
        self.smoothed.map_or(0, |smoothed| smoothed.as_nanos() as u64)
    }

    pub(super) fn min_ns(&self) -> u64 {
        if self.smoothed.is_some() { self.min.as_nanos() as u64 } else { 0 }
    }

    /// Time to wait for an acknowledgement before probing (6.2.1).
    pub(super) fn probe_timeout(&self, ack_delay: Duration) -> Duration {
        self.smoothed() + (self.variation * 4).max(self.granularity) + ack_delay
    }

    /// Age at which a packet is lost once a later one was acknowledged (6.1.2).
    pub(super) fn loss_delay(&self) -> Duration {
        (self.smoothed().max(self.latest) * 9 / 8).max(self.granularity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_follows_samples_and_ignores_an_impossible_delay() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::new(ms(25), ms(1));
        assert_eq!(rtt.smoothed(), ms(25));
        rtt.update(ms(8), ms(100));
        assert_eq!((rtt.smoothed(), rtt.variation), (ms(8), ms(4)));
        rtt.update(ms(16), ms(100));
        assert_eq!(rtt.smoothed(), ms(9));
        for _ in 0..200 {
            rtt.update(ms(16), ms(8));
        }
        assert!(rtt.smoothed() < Duration::from_micros(8_100));
        assert!(rtt.probe_timeout(ms(0)) < ms(10));
        assert_eq!(rtt.min_ns(), 8_000_000);
    }
}
