//! NewReno: RFC 9002, section 7 and appendix B, without ECN.

use super::{Controller, initial_window, paced};
use crate::time::Instant;

/// Additive increase, multiplicative decrease.
#[derive(Debug)]
pub struct NewReno {
    /// Bytes of a full packet.
    packet: u64,
    /// Bytes that may be in flight; at least two packets.
    window: u64,
    /// Below this window growth is exponential (slow start).
    threshold: u64,
    /// When the last decrease happened; losses and acknowledgements of packets sent before it change nothing.
    recovery_start: Option<Instant>,
    /// Bytes acknowledged toward the next growth; less than `window` between calls.
    acked: u64,
}

impl NewReno {
    /// A controller for packets of up to `max_packet_bytes`.
    pub fn new(max_packet_bytes: usize) -> Self {
        let packet = max_packet_bytes as u64;
        Self { packet, window: initial_window(packet), threshold: u64::MAX, recovery_start: None, acked: 0 }
    }
}

impl Controller for NewReno {
    fn handle_ack(&mut self, _: Instant, sent: Instant, bytes: u64, _: u64, limited: bool) {
        if !limited || self.recovery_start.is_some_and(|start| sent <= start) {
            return;
        }
        if self.window < self.threshold {
            self.window = self.window.saturating_add(bytes);
            return;
        }
        self.acked += bytes;
        if self.acked >= self.window {
            self.acked -= self.window;
            self.window = self.window.saturating_add(self.packet);
        }
    }

    fn handle_loss(&mut self, now: Instant, sent: Instant) {
        if self.recovery_start.is_some_and(|start| sent <= start) {
            return;
        }
        self.recovery_start = Some(now);
        self.window = (self.window / 2).max(2 * self.packet);
        self.threshold = self.window;
        self.acked = 0;
    }

    fn handle_persistent_loss(&mut self) {
        self.window = 2 * self.packet;
        self.recovery_start = None;
    }

    fn handle_packet_bytes(&mut self, bytes: usize) {
        self.packet = bytes as u64;
        self.window = self.window.max(2 * self.packet);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn rate(&self, srtt_ns: u64) -> Option<u64> {
        paced(self.window, srtt_ns)
    }
}
