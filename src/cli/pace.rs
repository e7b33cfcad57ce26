//! Sending on time: `--rate`, at most so many records a second, and waits for a moment.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// How far behind its schedule a sender may be and still make up for it: longer than a thread waits for a
/// core on a busy machine. What a longer pause has delayed is not made up for.
const CATCH_UP: Duration = Duration::from_millis(100);

/// How late a sleeping thread wakes at most on an idle machine: the kernel's timer slack is 50 us, and the
/// core has to leave its idle state. Shorter waits yield instead of sleeping.
pub(crate) const SLEEP_ERROR: Duration = Duration::from_micros(200);

/// Waits until `at`, with the punctuality of a thread that yields where there is more than one CPU.
pub(crate) fn wait_until(at: Instant) {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        pause(left);
    }
}

/// Whether there is one CPU for all threads. Asked once: before a thread is pinned, because a pinned one
/// would take its own CPU for the only one.
pub(crate) fn has_one_cpu() -> bool {
    static ONE: OnceLock<bool> = OnceLock::new();
    let ask = || thread::available_parallelism().is_ok_and(|cpus| cpus == NonZero::<usize>::MIN);
    *ONE.get_or_init(ask)
}

/// How long a thread may sleep that has `left` to go: most of it. `None`: it is too short for a sleep. With a
/// single CPU it always sleeps: a thread that yields would take time from the threads that have work.
pub(crate) fn sleep_time(left: Duration) -> Option<Duration> {
    if has_one_cpu() { Some(left) } else { (left > 2 * SLEEP_ERROR).then(|| left - SLEEP_ERROR) }
}

/// A step of a wait that has `left` to go: sleeps most of it, or lets other threads run.
pub(crate) fn pause(left: Duration) {
    match sleep_time(left) {
        Some(time) => thread::sleep(time),
        None => thread::yield_now(),
    }
}

/// A schedule of records at a fixed rate.
pub(crate) struct RateLimit {
    interval: Duration,
    /// When the next record is due.
    due: Instant,
}

impl RateLimit {
    /// `rate` records a second; the first one is due at once.
    pub(crate) fn new(rate: f64, now: Instant) -> Self {
        RateLimit { interval: Duration::from_secs_f64(1.0 / rate), due: now }
    }

    /// How long the next record has to wait at `now`, and moves on to the one after it.
    fn take(&mut self, now: Instant) -> Duration {
        let at = self.due.max(now.checked_sub(CATCH_UP).unwrap_or(self.due));
        // Beyond the clock's range: one record in 500 years.
        self.due = at.checked_add(self.interval).unwrap_or(at);
        at.saturating_duration_since(now)
    }

    /// Sleeps until the next record is due.
    pub(crate) fn wait(&mut self) {
        let pause = self.take(Instant::now());
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_the_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(1_000.0, start);
        let pauses: Vec<Duration> = (0..4).map(|_| limit.take(start)).collect();
        assert_eq!(pauses, [0, 1, 2, 3].map(Duration::from_millis));
    }

    #[test]
    fn short_delay_is_made_up_for_and_a_long_pause_is_not() {
        let start = Instant::now();
        let mut limit = RateLimit::new(1_000.0, start);
        limit.take(start);
        let count_at = |limit: &mut RateLimit, now: Instant| {
            (0..100_000).take_while(|_| limit.take(now).is_zero()).count()
        };
        // Those due at 1 ms to 50 ms.
        assert_eq!(count_at(&mut limit, start + Duration::from_millis(50)), 50);
        let burst = count_at(&mut limit, start + Duration::from_secs(60));
        assert_eq!(burst, 101, "no more than the last 100 ms are made up for");
    }
}
