//! Waits on the main thread for a future, a deadline or a signal, without an async runtime.

use std::fs;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corewire::block_on_timeout;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::exit::Exit;

/// How often a waiting thread checks for signals: short enough to feel immediate, long enough to cost
/// nothing.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long the parts of a run may take to find each other; on one machine they take milliseconds.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// How long the other end of a run may be silent until it counts as gone, and its datums as lost.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// How often a thread that waits for datums looks at what else may have happened.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Records SIGINT, SIGTERM and SIGHUP, except those that are ignored when the program starts: `nohup` and
/// shells that start a background job want it to live on. The first signal asks the program to end; the
/// second one of its kind ends it at once. By default it hears no signal.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts to listen.
    pub(crate) fn listen() -> io::Result<Interrupt> {
        let signal = Arc::new(AtomicUsize::new(0));
        let ignored = ignored_signals(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let heard = |number: &i32| ignored & 1 << (number - 1) == 0;
        for number in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(heard) {
            let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
            // In this order: the first signal finds the flag unset and only sets it.
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
            signal_hook::flag::register(number, again)?;
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Interrupt { signal })
    }

    /// As SIGTERM does.
    pub(crate) fn ask(&self) {
        self.signal.store(SIGTERM as usize, Ordering::Relaxed);
    }

    /// The exit code, once a signal has come.
    pub(crate) fn asked(&self) -> Option<Exit> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            SIGINT => Some(Exit::Interrupted),
            SIGTERM => Some(Exit::Terminated),
            SIGHUP => Some(Exit::HungUp),
            _ => None,
        }
    }
}

/// The signals that a process ignores, bit 0 for signal 1. `status` is its `/proc/self/status`.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
impl Interrupt {
    /// As after a signal.
    pub(crate) fn pressed(signal: i32) -> Interrupt {
        Interrupt { signal: Arc::new(AtomicUsize::new(signal as usize)) }
    }
}

/// Why waiting ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The deadline has passed.
    Deadline,
    /// A signal has come.
    Interrupted(Exit),
}

/// Runs `future` on this thread until it resolves, the deadline passes or a signal comes. In the last two
/// cases the future is dropped, so it must be cancel-safe.
pub(crate) fn until<F: Future>(
    future: F,
    deadline: Option<Instant>,
    interrupt: &Interrupt,
) -> Result<F::Output, Stopped> {
    until_looking(future, deadline, interrupt, &mut || {})
}

/// [`until`], with a look at something about every [`POLL_INTERVAL`].
pub(crate) fn until_looking<F: Future>(
    future: F,
    deadline: Option<Instant>,
    interrupt: &Interrupt,
    look: &mut dyn FnMut(),
) -> Result<F::Output, Stopped> {
    let mut future = pin!(future);
    let mut looked_at = Instant::now();
    let mut pause = Duration::ZERO;
    loop {
        if let Some(output) = block_on_timeout(future.as_mut(), pause) {
            return Ok(output);
        }
        if let Some(exit) = interrupt.asked() {
            return Err(Stopped::Interrupted(exit));
        }
        if looked_at.elapsed() >= POLL_INTERVAL {
            looked_at = Instant::now();
            look();
        }
        let left = deadline.map_or(POLL_INTERVAL, |at| at.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(Stopped::Deadline);
        }
        pause = left.min(POLL_INTERVAL);
    }
}

/// Runs `future` on this thread until it resolves or the deadline passes.
pub(crate) fn by<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    until(future, Some(deadline), &Interrupt::default()).ok()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn ready_future_wins_over_a_passed_deadline() {
        assert_eq!(until(ready(7), Some(Instant::now()), &Interrupt::default()), Ok(7));
    }

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        assert_eq!(ignored_signals("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001003\n"), 0x1003);
        assert_eq!(ignored_signals("Name:\tx\n"), 0);
    }

    #[test]
    fn deadline_and_signal_end_the_wait() {
        let deadline = Some(Instant::now());
        assert_eq!(until(pending::<()>(), deadline, &Interrupt::default()), Err(Stopped::Deadline));
        let pressed = Interrupt::pressed(SIGTERM);
        assert_eq!(until(pending::<()>(), None, &pressed), Err(Stopped::Interrupted(Exit::Terminated)));
    }
}
