//! How a shard waits for work: the decision whether it spins, yields or sleeps.
//!
//! The shard's loop spins, and the driver sleeps ([`Driver::park`](crate::driver::Driver::park)).

use std::{fmt, str::FromStr, time::Duration};

use corewire_proto::time::Instant;
use thiserror::Error;

/// What a shard does when there is nothing to do.
///
/// It is a choice between latency and CPU time: a sleeping thread wakes in about 7 µs after a short sleep and
/// 20 µs after a long one; a spinning thread sees a change within half a microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Take the next turn at once, always. The lowest latency, and a core that is always busy. Where the
    /// process has one CPU only, the shard yields between turns.
    Spin,
    /// Spin for a while, then yield to other threads between turns for a while, then sleep.
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
    /// Spins for 50 µs, which is some round trips of a local network and more than twice a wake-up, so that a
    /// conversation in progress never sleeps; then yields for as long. An idle engine sleeps after 100 µs.
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

/// A word that names no [`Idle`].
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

/// What to do before the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: take it at once.
    Spin,
    /// Let another thread run (`std::thread::yield_now`).
    Yield,
    /// Sleep until there is work or a deadline has come.
    Park,
}

/// Decides how one shard waits.
#[derive(Clone, Debug)]
pub struct Idler {
    idle: Idle,
    /// Other threads can run while this one spins.
    may_spin: bool,
    /// The first turn without work since there was some.
    since: Option<Instant>,
}

impl Idler {
    /// For a thread of a process that may use `cpus` CPUs. With a single one it never spins: the thread that
    /// has work for it could not run.
    pub fn new(idle: Idle, cpus: usize) -> Self {
        Self { idle, may_spin: cpus > 1, since: None }
    }

    /// The turn had work: waiting begins anew.
    pub fn worked(&mut self) {
        self.since = None;
    }

    /// The turn at `now` had no work.
    pub fn wait(&mut self, now: Instant) -> Wait {
        match self.idle {
            Idle::Spin if self.may_spin => Wait::Spin,
            Idle::Spin => Wait::Yield,
            Idle::Adaptive { .. } if !self.may_spin => Wait::Park,
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
    fn spin_spins_and_park_parks_at_any_time() {
        for micros in [0, 1, 1_000_000_000] {
            assert_eq!(Idler::new(Idle::Spin, 2).wait(at(micros)), Wait::Spin);
            assert_eq!(Idler::new(Idle::Park, 2).wait(at(micros)), Wait::Park);
        }
    }

    #[test]
    fn endless_times_and_clocks_that_go_back_are_handled() {
        let forever = Idle::Adaptive { spin: Duration::MAX, yielding: Duration::MAX };
        assert_eq!(Idler::new(forever, 2).wait(Instant::FAR_FUTURE), Wait::Spin);
        let mut idler = Idler::new(Idle::ADAPTIVE, 2);
        idler.wait(at(1000));
        assert_eq!(idler.wait(at(0)), Wait::Spin);
    }

    #[test]
    fn words_parse_to_ways_of_waiting() {
        for word in ["spin", "adaptive", "park"] {
            assert_eq!(word.parse::<Idle>().unwrap().to_string(), word);
        }
        assert!("sleep".parse::<Idle>().unwrap_err().to_string().contains("adaptive"));
    }
}
