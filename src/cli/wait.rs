//! Waiting on the main thread: a future, a deadline and the user's Ctrl-C, without an async runtime.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::exit::Exit;

/// How often a waiting thread looks whether the user pressed Ctrl-C. A tenth of a second feels immediate and
/// costs nothing.
pub(crate) const LOOK_AROUND: Duration = Duration::from_millis(100);

/// Remembers that the user wants the program to end. The first signal asks, the second one ends it at once.
#[derive(Clone)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts to listen for SIGINT and SIGTERM.
    pub(crate) fn listen() -> io::Result<Interrupt> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM] {
            let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
            // In this order: on the first signal the flag is still down and only gets raised.
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
            signal_hook::flag::register(number, again)?;
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Interrupt { signal })
    }

    /// The code to end with, if the user wants the program to end.
    pub(crate) fn asked(&self) -> Option<Exit> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            SIGINT => Some(Exit::Interrupted),
            SIGTERM => Some(Exit::Terminated),
            _ => None,
        }
    }
}

/// Why waiting ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The deadline has passed.
    Deadline,
    /// The user pressed Ctrl-C.
    Interrupted(Exit),
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` on this thread until it is done, the deadline passes, or the user asks to end. A future that is
/// given up is dropped: pass only futures that may be.
pub(crate) fn until<F: Future>(
    future: F,
    deadline: Option<Instant>,
    interrupt: &Interrupt,
) -> Result<F::Output, Stopped> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        if let Some(exit) = interrupt.asked() {
            return Err(Stopped::Interrupted(exit));
        }
        let left = match deadline {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => LOOK_AROUND,
        };
        if left.is_zero() {
            return Err(Stopped::Deadline);
        }
        thread::park_timeout(left.min(LOOK_AROUND));
    }
}

/// Runs `future` on this thread until it is done or the deadline has passed.
pub(crate) fn by<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    until(future, Some(deadline), &Interrupt { signal: Arc::default() }).ok()
}

/// Runs `future` on this thread until it is done, whatever the user presses meanwhile.
pub(crate) fn done<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::mpsc;

    use super::*;

    fn nobody() -> Interrupt {
        Interrupt { signal: Arc::default() }
    }

    #[test]
    fn a_ready_future_wins_even_over_a_passed_deadline() {
        assert_eq!(until(ready(7), Some(Instant::now()), &nobody()), Ok(7));
    }

    #[test]
    fn a_passed_deadline_and_a_signal_end_the_wait() {
        let deadline = Some(Instant::now());
        assert_eq!(until(pending::<()>(), deadline, &nobody()), Err(Stopped::Deadline));
        let pressed = Interrupt { signal: Arc::new(AtomicUsize::new(SIGTERM as usize)) };
        assert_eq!(until(pending::<()>(), None, &pressed), Err(Stopped::Interrupted(Exit::Terminated)));
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let (hand_over, wakers) = mpsc::channel::<Waker>();
        let waking = thread::spawn(move || wakers.recv().unwrap().wake());
        let mut polled = 0;
        done(std::future::poll_fn(|context| {
            polled += 1;
            if polled > 1 {
                return Poll::Ready(());
            }
            hand_over.send(context.waker().clone()).unwrap();
            Poll::Pending
        }));
        waking.join().unwrap();
    }
}
