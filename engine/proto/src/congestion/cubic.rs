//! CUBIC (RFC 9438) in integers, without HyStart and ECN.

use super::{Controller, initial_window, paced};
use crate::{mutate, time::Instant};

/// Multiplicative decrease to 0.7 (RFC 9438, 4.6).
const BETA_PER_MILLE: u64 = 700;
/// Growth of the Reno-friendly window per round trip in packets: 3 (1 - beta) / (1 + beta) (4.3).
const ALPHA_PER_MILLE: u64 = 529;

/// Round trips without an acknowledgement after which the window counts as not in use.
const SILENT_TRIPS: u128 = 4;

/// The window grows with the cube of the time since the last loss, away from the window at that loss.
#[derive(Debug)]
pub struct Cubic {
    /// Bytes of a full packet.
    packet: u64,
    /// Bytes that may be in flight; at least two packets.
    window: u64,
    /// Below this window growth is exponential (slow start).
    threshold: u64,
    /// `W_max`: the window before the last decrease, lowered by fast convergence. At least `threshold` after
    /// a loss.
    origin: u64,
    /// The Reno-friendly window; 0 while it is to start at the threshold.
    friendly: u64,
    /// Bytes acknowledged toward its next growth; less than `friendly` between calls.
    friendly_acked: u64,
    /// `K` in milliseconds: the time from the last decrease at which the curve passes `origin`.
    k_ms: u64,
    /// When growth after the last decrease began, moved on by the time in which the window was not in use.
    epoch: Option<Instant>,
    /// When the window was last in use.
    used_at: Option<Instant>,
    /// An acknowledgement since then found it not in use.
    unused: bool,
    /// When the last decrease happened; losses and acknowledgements of packets sent before it change nothing.
    recovery_start: Option<Instant>,
}

impl Cubic {
    /// A controller for packets of up to `max_packet_bytes`.
    pub fn new(max_packet_bytes: usize) -> Self {
        let packet = max_packet_bytes as u64;
        Self {
            packet,
            window: initial_window(packet),
            threshold: u64::MAX,
            origin: 0,
            friendly: 0,
            friendly_acked: 0,
            k_ms: 0,
            epoch: None,
            used_at: None,
            unused: false,
            recovery_start: None,
        }
    }

    /// `W_cubic(t) = C (t - K)^3 + W_max` in bytes, where C is 0.4 packets per second cubed, and the curve
    /// passes `W_max` at time K (4.2).
    fn target(&self, elapsed_ms: u64) -> u64 {
        // In packets / 1024: C is 1024 * 0.4 / 1e9 per millisecond cubed. 2^20 ms are 17 minutes.
        let distance = elapsed_ms.abs_diff(self.k_ms).min(1 << 20);
        let offset = (distance.pow(3) / 2_441_406).saturating_mul(self.packet) / 1_024;
        if elapsed_ms >= self.k_ms {
            self.origin.saturating_add(offset)
        } else {
            self.origin.saturating_sub(offset)
        }
    }

    /// K = cbrt((W_max - cwnd_epoch) / C); with milliseconds and packets: cbrt(packets * 2.5e9) ms (4.2).
    fn measure_k(&mut self) {
        let below = u128::from(self.origin - self.origin.min(self.threshold));
        self.k_ms = cube_root(below * 2_500_000_000 / u128::from(self.packet));
    }
}

/// The largest integer whose cube is not above `n`.
fn cube_root(n: u128) -> u64 {
    let mut root = 0u64;
    for bit in (0..42).rev() {
        let candidate = root | 1 << bit;
        if u128::from(candidate).pow(3) <= n {
            root = candidate;
        }
    }
    root
}

impl Controller for Cubic {
    fn handle_ack(&mut self, now: Instant, sent: Instant, bytes: u64, srtt_ns: u64, limited: bool) {
        if !limited {
            self.unused = true;
            return;
        }
        // Time in which the window was not in use does not count (5.8).
        let since = now - self.used_at.replace(now).unwrap_or(now);
        if core::mem::take(&mut self.unused) || since.as_nanos() > u128::from(srtt_ns) * SILENT_TRIPS {
            let unused = mutate!(since, "grows-while-unused" => core::time::Duration::ZERO);
            self.epoch = self.epoch.map(|epoch| epoch + unused);
        }
        if self.recovery_start.is_some_and(|start| sent <= start) {
            return;
        }
        if self.window < self.threshold {
            self.window = self.window.saturating_add(bytes);
            return;
        }
        let epoch = *self.epoch.get_or_insert(now);
        self.friendly = self.friendly.max(self.threshold.min(self.window));
        self.friendly_acked += bytes;
        if self.friendly_acked >= self.friendly {
            self.friendly_acked -= self.friendly;
            // Above the old window Reno itself would grow by a whole packet (4.3).
            self.friendly +=
                if self.friendly < self.origin { self.packet * ALPHA_PER_MILLE / 1000 } else { self.packet };
        }
        let ahead = (now - epoch).as_nanos() as u64 / 1_000_000 + srtt_ns / 1_000_000;
        // The window grows by at most half per round trip (4.4).
        let target = self.target(ahead).clamp(self.window, self.window + self.window / 2);
        let grown = (target - self.window).saturating_mul(bytes) / self.window.max(1);
        self.window = self.window.saturating_add(grown).max(self.friendly);
    }

    fn handle_loss(&mut self, now: Instant, sent: Instant) {
        if self.recovery_start.is_some_and(|start| sent <= start) {
            return;
        }
        self.recovery_start = Some(now);
        self.epoch = None;
        // Fast convergence (4.7): a flow that loses before it is back at its old window leaves room for
        // others.
        self.origin = if self.window < self.origin {
            self.window * (1000 + BETA_PER_MILLE) / 2000
        } else {
            self.window
        };
        self.window = (self.window * BETA_PER_MILLE / 1000).max(2 * self.packet);
        self.threshold = self.window;
        self.origin = self.origin.max(self.window);
        (self.friendly, self.friendly_acked) = (self.window, 0);
        self.measure_k();
    }

    fn handle_persistent_loss(&mut self) {
        self.window = 2 * self.packet;
        self.recovery_start = None;
        self.epoch = None;
        // A Reno-friendly window from before would lift the window at once.
        (self.friendly, self.friendly_acked) = (0, 0);
    }

    fn handle_packet_bytes(&mut self, bytes: usize) {
        self.packet = bytes as u64;
        self.window = self.window.max(2 * self.packet);
        self.origin = self.origin.max(self.window.min(self.threshold));
        self.measure_k();
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn rate(&self, srtt_ns: u64) -> Option<u64> {
        paced(self.window, srtt_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_root_is_the_largest_integer_root() {
        for n in [0u128, 1, 7, 8, 26, 27, 28, 1_000_000, 999_999_999_999] {
            let root = u128::from(cube_root(n));
            assert!(root.pow(3) <= n && (root + 1).pow(3) > n);
        }
    }
}
