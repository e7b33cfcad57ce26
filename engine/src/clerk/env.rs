//! What the clerk gives to its components besides their inputs: the time, settings, chance, and a place for
//! effects.

use std::{net::IpAddr, time::Duration};

use corewire_proto::time::Instant;

use super::{Calendar, Entropy, effect::Effects};
use crate::shared::limits::{Limits, Times};

/// The surroundings of every component.
pub(crate) struct Env {
    /// The time of this turn.
    pub(crate) now: Instant,
    /// While a peer's call is handled: the address of this host that was called, where there are several.
    /// What answers the call leaves from there, and so does the session that comes of it.
    pub(crate) called_at: Option<IpAddr>,
    pub(crate) limits: Limits,
    pub(crate) times: Times,
    pub(crate) effects: Effects,
    entropy: Entropy,
    calendar: Calendar,
}

impl Env {
    pub(crate) fn new(limits: Limits, times: Times, entropy: Entropy, calendar: Calendar) -> Self {
        Self {
            now: Instant::ZERO,
            called_at: None,
            limits,
            times,
            effects: Effects::default(),
            entropy,
            calendar,
        }
    }

    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.entropy)(&mut bytes);
        bytes
    }

    pub(crate) fn random_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.random())
    }

    /// The source of random bytes, for the protocol.
    pub(crate) fn entropy(&mut self) -> &mut dyn FnMut(&mut [u8]) {
        &mut *self.entropy
    }

    /// A number from 0 to 1.
    pub(crate) fn chance(&mut self) -> f64 {
        f64::from(self.random_u32()) / f64::from(u32::MAX)
    }

    /// `time`, changed by up to a quarter in either direction, so that many do not try at once.
    pub(crate) fn jittered(&mut self, time: Duration) -> Duration {
        scaled(time, 0.75 + self.chance() / 2.0)
    }

    /// Seconds on a clock that only goes forward.
    pub(crate) fn seconds(&self) -> u64 {
        self.now.saturating_since(Instant::ZERO).as_secs()
    }

    /// The time since 1970.
    pub(crate) fn calendar(&self) -> Duration {
        (self.calendar)(self.now)
    }
}

/// `time` times `factor`. Times are settings, so that one that is too long for a [`Duration`] is the longest
/// one.
fn scaled(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_can_be_made_longer() {
        assert_eq!(scaled(Duration::MAX, 1.25), Duration::MAX);
        assert_eq!(scaled(Duration::from_secs(4), 0.75), Duration::from_secs(3));
        assert_eq!(scaled(Duration::ZERO, 1.25), Duration::ZERO);
    }
}
