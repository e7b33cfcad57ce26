//! How much may be in flight, and how fast it may leave.
//!
//! Not inside: loss detection (`session::recovery`), and the order of channels (`schedule`).

mod cubic;
mod new_reno;
mod pacer;

use alloc::boxed::Box;
use core::fmt;

pub use cubic::Cubic;
pub use new_reno::NewReno;
pub(crate) use pacer::Pacer;

use crate::time::Instant;

/// Which controller a session uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Congestion {
    /// Additive increase, multiplicative decrease: RFC 9002, section 7.
    NewReno,
    /// CUBIC (RFC 9438), the default.
    #[default]
    Cubic,
    /// A fixed rate, for a network whose capacity is known. Loss does not change it.
    Fixed {
        /// At least 1.
        bytes_per_second: u64,
    },
    /// No limit but that of the session's memory, which is 65,536 packets in flight.
    Unlimited,
}

/// A congestion controller.
pub trait Controller: fmt::Debug + Send {
    /// Packets of `bytes` in total were acknowledged, the youngest of which was sent at `sent`. `limited`: at
    /// least half of the window was in use, so it may grow. `srtt_ns`: the smoothed round trip.
    fn handle_ack(&mut self, now: Instant, sent: Instant, bytes: u64, srtt_ns: u64, limited: bool);

    /// Packets were lost; the youngest of them was sent at `sent`.
    fn handle_loss(&mut self, now: Instant, sent: Instant);

    /// Everything was lost that was sent over several probe timeouts, as later acknowledgements show: start
    /// over (RFC 9002, 7.6).
    fn handle_persistent_loss(&mut self);

    /// A full packet has this many bytes from now on.
    fn handle_packet_bytes(&mut self, bytes: usize);

    /// Bytes that may be in flight.
    fn window(&self) -> u64;

    /// Bytes per second at which packets may leave; `None`: unpaced.
    fn rate(&self, srtt_ns: u64) -> Option<u64>;
}

impl Congestion {
    pub(crate) fn controller(self, max_packet_bytes: usize) -> Box<dyn Controller> {
        match self {
            Self::NewReno => Box::new(NewReno::new(max_packet_bytes)),
            Self::Cubic => Box::new(Cubic::new(max_packet_bytes)),
            Self::Fixed { bytes_per_second } => {
                Box::new(FixedController { rate: Some(bytes_per_second.max(1)) })
            }
            Self::Unlimited => Box::new(FixedController { rate: None }),
        }
    }
}

/// RFC 9002, 7.2: ten packets, but not more than the larger of 14,720 bytes and two packets.
pub(crate) const fn initial_window(max_packet_bytes: u64) -> u64 {
    let two = 2 * max_packet_bytes;
    let ten = 10 * max_packet_bytes;
    let cap = if two > 14_720 { two } else { 14_720 };
    if ten < cap { ten } else { cap }
}

/// Twice the window per round trip: the window may double in one, and pacing must not limit that.
pub(crate) fn paced(window: u64, srtt_ns: u64) -> Option<u64> {
    if srtt_ns == 0 {
        return None;
    }
    Some((window.saturating_mul(2_000_000_000) / srtt_ns).max(1))
}

/// A rate or none, and no window.
#[derive(Debug)]
struct FixedController {
    rate: Option<u64>,
}

impl Controller for FixedController {
    fn handle_ack(&mut self, _: Instant, _: Instant, _: u64, _: u64, _: bool) {}
    fn handle_loss(&mut self, _: Instant, _: Instant) {}
    fn handle_persistent_loss(&mut self) {}
    fn handle_packet_bytes(&mut self, _: usize) {}

    fn window(&self) -> u64 {
        u64::MAX
    }

    fn rate(&self, _: u64) -> Option<u64> {
        self.rate
    }
}

#[cfg(test)]
mod tests;
