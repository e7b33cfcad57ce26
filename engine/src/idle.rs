//! How a shard waits for work: the decision whether it spins, yields or sleeps.
//!
//! The shard's loop spins, and the driver sleeps ([`Driver::park`](crate::driver::Driver::park)).

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use corewire_proto::time::Instant;
use thiserror::Error;

/// How long a shard works without letting other threads of its CPU run. A yield costs half a microsecond
/// where no other thread waits (`threads-yield` in the notebook).
const BUSY_RUN: Duration = Duration::from_micros(200);

/// The same for a shard that has no spin permit: then other threads are likely to wait.
const BUSY_RUN_CROWDED: Duration = Duration::from_micros(50);

/// How many times longer an adaptive shard yields while work keeps coming within half of that time.
const STAYS: u32 = 5;

/// What a shard does when there is nothing to do.
///
/// It is a choice between latency and CPU time. A thread that has slept for 50 µs needs some 20 µs to wake up
/// (`ring-run-2` in `perf/NOTEBOOK.md`); a spinning one sees a change in its next turn.
///
/// Of the threads of a process at most as many spin as it has CPUs, less one. The others yield to other
/// threads between turns for as long as they would spin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Take the next turn at once, always. The lowest latency, and a core that is always busy.
    Spin,
    /// Spin for a while, then yield to other threads between turns for a while, then sleep.
    Adaptive {
        /// How long to spin after the last work.
        spin: Duration,
        /// How long to yield after that; five times as long while work has lately come, on average, within
        /// half of that time.
        yielding: Duration,
    },
    /// Sleep at once.
    Park,
}

impl Idle {
    /// Yields between turns for 100 µs, which is some round trips of a local network and several times a
    /// wake-up, so that a conversation in progress never sleeps; for 500 µs while work comes every 250 µs or
    /// sooner. Then it sleeps. So a stream of some thousand datums a second keeps a core busy, which other
    /// threads can have at any time, and one of a few hundred costs a tenth of a millisecond for each datum.
    ///
    /// It does not spin: a yield costs half a microsecond where no other thread waits, and spinning costs a
    /// thread that waits for the core all the time that it lasts.
    pub const ADAPTIVE: Self = Self::Adaptive { spin: Duration::ZERO, yielding: Duration::from_micros(100) };
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

impl Wait {
    /// Spins once or yields, as it says. `false`: the thread is to sleep, which is the caller's part.
    pub(crate) fn stays_awake(self) -> bool {
        match self {
            Self::Spin => std::hint::spin_loop(),
            Self::Yield => yield_now(),
            Self::Park => return false,
        }
        true
    }
}

/// Lets other threads of this CPU run.
pub(crate) fn yield_now() {
    #[cfg(test)]
    tests::YIELDS.set(tests::YIELDS.get() + 1);
    std::thread::yield_now();
}

/// Threads of this process that spin at present.
static SPINNING: AtomicUsize = AtomicUsize::new(0);

/// The right to spin. A process has one fewer than CPUs, so that the thread that has work for the spinning
/// ones can always run. Given back when dropped.
#[derive(Debug)]
pub(crate) struct SpinPermit(&'static AtomicUsize);

impl SpinPermit {
    /// A permit of this process, which may use `cpus` CPUs.
    pub(crate) fn take(cpus: usize) -> Option<Self> {
        Self::of(&SPINNING, cpus)
    }

    fn of(spinning: &'static AtomicUsize, cpus: usize) -> Option<Self> {
        // A plain load first: a thread that yields for want of a permit asks after each turn.
        let is_free = |count: usize| count + 1 < cpus;
        if !is_free(spinning.load(Ordering::Relaxed)) {
            return None;
        }
        let taken = spinning
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| is_free(count).then_some(count + 1));
        taken.ok().map(|_| Self(spinning))
    }
}

impl Drop for SpinPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Decides how one shard waits.
#[derive(Debug)]
pub struct Idler {
    idle: Idle,
    /// CPUs that the process may use.
    cpus: usize,
    /// Of whose permits it takes one.
    spinning: &'static AtomicUsize,
    /// Held while it spins.
    permit: Option<SpinPermit>,
    /// The first turn without work since there was some.
    since: Option<Instant>,
    /// How long it was without work before there was some, lately and on average.
    gap: Duration,
    /// Since when it works without having let other threads run.
    busy_since: Option<Instant>,
}

impl Idler {
    /// For a thread of a process that may use `cpus` CPUs. It spins while it can get one of the process's
    /// spin permits, of which there is one fewer than CPUs; without one it yields between turns instead.
    pub fn new(idle: Idle, cpus: usize) -> Self {
        Self::with_permits(idle, cpus, &SPINNING)
    }

    fn with_permits(idle: Idle, cpus: usize, spinning: &'static AtomicUsize) -> Self {
        Self { idle, cpus, spinning, permit: None, since: None, gap: Duration::MAX, busy_since: None }
    }

    /// The turn that began at `now` had work: waiting begins anew. `true`: let other threads run before the
    /// next turn, because none could for a while.
    pub fn worked(&mut self, now: Instant) -> bool {
        if let (Some(since), Idle::Adaptive { spin, yielding }) = (self.since.take(), self.idle) {
            // Capped, so that a long silence is soon forgotten; well above the limit of an average, so that a
            // long gap after short ones, as from a request to the next, is not frequent work.
            let most = spin.saturating_add(yielding.saturating_mul(STAYS)).saturating_mul(4);
            let gap = now.saturating_since(since).min(most);
            self.gap = (self.gap.min(most) / 4 * 3).saturating_add(gap / 4);
        }
        let limit = if self.permit.is_some() { BUSY_RUN } else { BUSY_RUN_CROWDED };
        let began = *self.busy_since.get_or_insert(now);
        let yields = now.saturating_since(began) >= limit;
        if yields {
            self.busy_since = Some(now);
        }
        yields
    }

    /// The turn at `now` had no work.
    pub fn wait(&mut self, now: Instant) -> Wait {
        let wait = match self.idle {
            Idle::Spin => Wait::Spin,
            Idle::Adaptive { spin, yielding } => {
                let idle_for = now.saturating_since(*self.since.get_or_insert(now));
                let longest = spin.saturating_add(yielding.saturating_mul(STAYS));
                let limit = if self.gap <= longest / 2 { longest } else { spin.saturating_add(yielding) };
                if idle_for < spin {
                    Wait::Spin
                } else if idle_for < limit {
                    Wait::Yield
                } else {
                    Wait::Park
                }
            }
            Idle::Park => Wait::Park,
        };
        if wait == Wait::Spin {
            if self.permit.is_none() {
                self.permit = SpinPermit::of(self.spinning, self.cpus);
            }
            if self.permit.is_some() {
                return Wait::Spin;
            }
        } else {
            self.permit = None;
        }
        // Other threads run now.
        self.busy_since = None;
        if wait == Wait::Park { Wait::Park } else { Wait::Yield }
    }

    /// Whether it holds a permit.
    #[cfg(test)]
    pub(crate) fn may_spin(&self) -> bool {
        self.permit.is_some()
    }

    /// The thread does something else: another one may spin.
    pub fn rest(&mut self) {
        self.permit = None;
        self.busy_since = None;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How often this thread has yielded.
        pub(crate) static YIELDS: Cell<u64> = const { Cell::new(0) };
    }

    /// With spin permits of its own.
    fn idler(idle: Idle, cpus: usize) -> Idler {
        Idler::with_permits(idle, cpus, Box::leak(Box::default()))
    }

    fn at(micros: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(micros)
    }

    const SPINS_FIRST: Idle =
        Idle::Adaptive { spin: Duration::from_micros(50), yielding: Duration::from_micros(50) };

    #[test]
    fn default_yields_then_parks_and_takes_no_spin_permit() {
        let mut idler = idler(Idle::default(), 2);
        assert_eq!([0, 99, 100].map(|micros| idler.wait(at(micros))), [Wait::Yield, Wait::Yield, Wait::Park]);
        assert!(idler.permit.is_none());
    }

    #[test]
    fn adaptive_spins_then_yields_then_parks_until_there_is_work() {
        let mut idler = idler(SPINS_FIRST, 2);
        for round in 0..3 {
            let start = round * 10_000;
            let seen: Vec<_> = [0, 49, 50, 99, 100, 5000].map(|micros| idler.wait(at(start + micros))).into();
            let expected = [Wait::Spin, Wait::Spin, Wait::Yield, Wait::Yield, Wait::Park, Wait::Park];
            assert_eq!(seen, expected);
            idler.worked(at(start + 5000));
        }
    }

    #[test]
    fn adaptive_stays_awake_while_work_comes_often() {
        // When it sleeps, if the next work does not come, after works that came every `micros`.
        let sleeps_after = |micros: u64| {
            let mut idler = idler(Idle::ADAPTIVE, 2);
            for work in 1..=20 {
                idler.wait(at((work - 1) * micros + 1));
                idler.worked(at(work * micros));
            }
            (0..1_000).find(|idle_for| idler.wait(at(20 * micros + 1 + idle_for)) == Wait::Park).unwrap()
        };
        assert_eq!([2, 100, 200, 240].map(sleeps_after), [500; 4]);
        assert_eq!([300, 1_000, 1_000_000].map(sleeps_after), [100; 3]);
    }

    #[test]
    fn request_with_its_reply_and_acknowledgement_is_no_frequent_work() {
        let mut idler = idler(Idle::ADAPTIVE, 2);
        let mut now = 0;
        for _ in 0..20 {
            for gap in [20, 230, 1_000_000] {
                idler.wait(at(now));
                now += gap;
                idler.worked(at(now));
            }
        }
        assert_eq!(
            [0, 99, 100].map(|idle_for| idler.wait(at(now + idle_for))),
            [Wait::Yield, Wait::Yield, Wait::Park]
        );
    }

    #[test]
    fn adaptive_forgets_frequent_work_after_a_long_wait() {
        let mut idler = idler(Idle::ADAPTIVE, 2);
        let mut now = 0;
        let mut work_after = |idler: &mut Idler, micros| {
            idler.wait(at(now));
            now += micros;
            let was = idler.wait(at(now));
            idler.worked(at(now));
            was
        };
        for _ in 0..20 {
            work_after(&mut idler, 100);
        }
        assert_eq!(
            [400, 10_000, 400].map(|micros| work_after(&mut idler, micros)),
            [Wait::Yield, Wait::Park, Wait::Park]
        );
    }

    #[test]
    fn an_idle_adaptive_shard_never_spins_again_without_work() {
        let mut idler = idler(SPINS_FIRST, 8);
        idler.wait(at(0));
        for micros in (100..100_000).step_by(777) {
            assert_eq!(idler.wait(at(micros)), Wait::Park);
        }
    }

    #[test]
    fn on_a_single_cpu_nothing_spins() {
        for idle in [Idle::Spin, Idle::ADAPTIVE, Idle::Park] {
            let mut idler = idler(idle, 1);
            for micros in 0..200 {
                assert_ne!(idler.wait(at(micros)), Wait::Spin, "{idle:?}");
            }
        }
        let mut adaptive = idler(Idle::ADAPTIVE, 1);
        assert_eq!(
            [0, 99, 100].map(|micros| adaptive.wait(at(micros))),
            [Wait::Yield, Wait::Yield, Wait::Park]
        );
    }

    #[test]
    fn as_many_threads_spin_as_there_are_cpus_less_one() {
        let spinning: &'static AtomicUsize = Box::leak(Box::default());
        let new = |idle| Idler::with_permits(idle, 3, spinning);
        let (mut first, mut second, mut third) = (new(Idle::Spin), new(SPINS_FIRST), new(Idle::Spin));
        assert_eq!(
            (first.wait(at(0)), second.wait(at(0)), third.wait(at(0))),
            (Wait::Spin, Wait::Spin, Wait::Yield)
        );
        // Yielding or parking gives the permit back, and so does the end.
        assert_eq!((second.wait(at(60)), third.wait(at(60))), (Wait::Yield, Wait::Spin));
        second.worked(at(70));
        assert_eq!(second.wait(at(70)), Wait::Yield);
        drop(first);
        assert_eq!(second.wait(at(71)), Wait::Spin);
        third.rest();
        assert_eq!(new(Idle::Spin).wait(at(0)), Wait::Spin);
        drop((second, third));
        assert_eq!(spinning.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_busy_shard_lets_others_run_now_and_then() {
        let mut crowded = idler(Idle::Spin, 1);
        let yields = |idler: &mut Idler, micros: std::ops::Range<u64>| {
            micros.filter(|micros| idler.worked(at(*micros))).collect::<Vec<_>>()
        };
        assert_eq!(yields(&mut crowded, 0..120), [50, 100]);
        let mut alone = idler(Idle::Spin, 2);
        alone.wait(at(0));
        assert_eq!(yields(&mut alone, 1..500), [201, 401]);
        // A yield for want of work counts as well.
        assert_eq!(crowded.wait(at(140)), Wait::Yield);
        assert_eq!(yields(&mut crowded, 141..192), [191]);
    }

    #[test]
    fn spin_spins_and_park_parks_at_any_time() {
        for micros in [0, 1, 1_000_000_000] {
            assert_eq!(idler(Idle::Spin, 2).wait(at(micros)), Wait::Spin);
            assert_eq!(idler(Idle::Park, 2).wait(at(micros)), Wait::Park);
        }
    }

    #[test]
    fn endless_times_and_clocks_that_go_back_are_handled() {
        let forever = Idle::Adaptive { spin: Duration::MAX, yielding: Duration::MAX };
        assert_eq!(idler(forever, 2).wait(Instant::FAR_FUTURE), Wait::Spin);
        let mut idler = idler(SPINS_FIRST, 2);
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
