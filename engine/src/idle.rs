//! How a shard waits for work: a decision, made from what it saw and what time it is.
//!
//! Not inside: the waiting itself. Spinning is the shard's loop, sleeping is the driver's
//! ([`Driver::park`](crate::driver::Driver::park)).
#![deny(unsafe_code)]

use std::{fmt, str::FromStr, time::Duration};

use corewire_proto::time::Instant;
use thiserror::Error;

/// What a shard does when there is nothing to do.
///
/// Waking a sleeping thread costs 7 µs after a short sleep and 20 µs after a long one, whatever wakes it; a spinning
/// thread sees a change within half a microsecond. That is what the choice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Look again at once, for ever. The lowest latency, and a core of its own that is always busy. Where the process
    /// has one CPU only, it yields between looks.
    Spin,
    /// Look again for a while, then yield to other threads between looks for a while, then sleep.
    Adaptive {
        /// How long to spin after the last work.
        spin: Duration,
        /// How long to yield after that.
        yielding: Duration,
    },
    /// Sleep at once.
    Park,
}

impl Idle {
    /// Spin for 50 µs, some round trips of a local network and more than twice what a wake-up costs, so that a
    /// conversation in progress never sleeps; then yield for as long again. An idle engine sleeps after 100 µs.
    pub const ADAPTIVE: Self =
        Self::Adaptive { spin: Duration::from_micros(50), yielding: Duration::from_micros(50) };
}

impl Default for Idle {
    fn default() -> Self {
        Self::ADAPTIVE
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Adaptive { .. } => "adaptive",
            Self::Park => "park",
        })
    }
}

/// A word that names no way to wait.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no way to wait; choose spin, adaptive or park")]
pub struct UnknownIdle(String);

impl FromStr for Idle {
    type Err = UnknownIdle;

    fn from_str(word: &str) -> Result<Self, UnknownIdle> {
        match word {
            "spin" => Ok(Self::Spin),
            "adaptive" => Ok(Self::ADAPTIVE),
            "park" => Ok(Self::Park),
            _ => Err(UnknownIdle(word.to_owned())),
        }
    }
}

/// What to do before the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: look again.
    Spin,
    /// Let another thread run (`std::thread::yield_now`), then look again.
    Yield,
    /// Sleep until something comes or a timer is due.
    Park,
}

/// Decides how one shard waits.
#[derive(Clone, Debug)]
pub struct Idler {
    idle: Idle,
    has_room: bool,
    since: Option<Instant>,
}

impl Idler {
    /// For a thread of a process that may use `cpus` CPUs. With a single one, whoever has work for this thread can't
    /// run while it spins, so it does not.
    pub fn new(idle: Idle, cpus: usize) -> Self {
        Self { idle, has_room: cpus > 1, since: None }
    }

    /// There was work: the patience begins anew.
    pub fn worked(&mut self) {
        self.since = None;
    }

    /// There was none. `now` is only compared with earlier values of itself.
    pub fn wait(&mut self, now: Instant) -> Wait {
        match self.idle {
            Idle::Spin if self.has_room => Wait::Spin,
            Idle::Spin => Wait::Yield,
            Idle::Adaptive { .. } if !self.has_room => Wait::Park,
            Idle::Adaptive { spin, yielding } => {
                let idle_for = now.saturating_since(*self.since.get_or_insert(now));
                if idle_for < spin {
                    Wait::Spin
                } else if idle_for < spin.saturating_add(yielding) {
                    Wait::Yield
                } else {
                    Wait::Park
                }
            }
            Idle::Park => Wait::Park,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(micros)
    }

    #[test]
    fn adaptive_spins_then_yields_then_parks_until_there_is_work() {
        let mut idler = Idler::new(Idle::ADAPTIVE, 2);
        for round in 0..3 {
            let start = round * 10_000;
            let seen: Vec<_> = [0, 49, 50, 99, 100, 5000].map(|micros| idler.wait(at(start + micros))).into();
            let expected = [Wait::Spin, Wait::Spin, Wait::Yield, Wait::Yield, Wait::Park, Wait::Park];
            assert_eq!(seen, expected);
            idler.worked();
        }
    }

    #[test]
    fn an_idle_adaptive_shard_never_spins_again_without_work() {
        let mut idler = Idler::new(Idle::default(), 8);
        idler.wait(at(0));
        for micros in (100..100_000).step_by(777) {
            assert_eq!(idler.wait(at(micros)), Wait::Park);
        }
    }

    #[test]
    fn on_a_single_cpu_nothing_spins() {
        for idle in [Idle::Spin, Idle::ADAPTIVE, Idle::Park] {
            let mut idler = Idler::new(idle, 1);
            for micros in 0..200 {
                assert_ne!(idler.wait(at(micros)), Wait::Spin, "{idle:?}");
            }
        }
        assert_eq!(Idler::new(Idle::ADAPTIVE, 1).wait(at(0)), Wait::Park);
    }

    #[test]
    fn spin_spins_and_park_parks_whatever_the_time() {
        for micros in [0, 1, 1_000_000_000] {
            assert_eq!(Idler::new(Idle::Spin, 2).wait(at(micros)), Wait::Spin);
            assert_eq!(Idler::new(Idle::Park, 2).wait(at(micros)), Wait::Park);
        }
    }

    #[test]
    fn patience_without_end_and_clocks_that_go_back_are_survived() {
        let forever = Idle::Adaptive { spin: Duration::MAX, yielding: Duration::MAX };
        assert_eq!(Idler::new(forever, 2).wait(Instant::FAR_FUTURE), Wait::Spin);
        let mut idler = Idler::new(Idle::ADAPTIVE, 2);
        idler.wait(at(1000));
        assert_eq!(idler.wait(at(0)), Wait::Spin);
    }

    #[test]
    fn words_name_ways_to_wait() {
        for word in ["spin", "adaptive", "park"] {
            assert_eq!(word.parse::<Idle>().unwrap().to_string(), word);
        }
        assert!("sleep".parse::<Idle>().unwrap_err().to_string().contains("adaptive"));
    }
}
