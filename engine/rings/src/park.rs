//! Blocks a plain thread on a future or a poll function. No runtime, no timers of its own, and no spinning
//! but the caller's ([`wait_with`]).

use crate::bugs::mutate;
use crate::sync::Ordering;
use crate::sync::parking::{
    AtomicBool,
    thread::{self, Thread},
    thread_local,
};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// Unparks one thread. The flag keeps a wake that comes before the park, and distinguishes it from an unpark
/// by other code.
struct Unparker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: what the waker did comes before the poll that its wake causes.
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// The calling thread's unparker, and the waker made of it.
struct ThreadParker {
    unparker: Arc<Unparker>,
    waker: Waker,
}

impl ThreadParker {
    fn new() -> Self {
        let unparker = Arc::new(Unparker { thread: thread::current(), woken: AtomicBool::new(false) });
        Self { waker: Waker::from(Arc::clone(&unparker)), unparker }
    }
}

thread_local! {
    /// Kept between calls, so that blocking does not allocate. Empty while in use: a nested call makes its
    /// own, because it would consume the outer call's wakes.
    static PARKER: Cell<Option<ThreadParker>> = const { Cell::new(None) };
}

/// Gives the parker back at the end, also when the poll panics.
struct ParkerLoan(Option<ThreadParker>);

impl ParkerLoan {
    fn take() -> Self {
        // A thread that is ending has no thread-local storage any more; then the parker is new.
        Self(Some(PARKER.try_with(Cell::take).ok().flatten().unwrap_or_else(ThreadParker::new)))
    }

    fn parker(&self) -> &ThreadParker {
        self.0.as_ref().expect("a loan has its parker until it is dropped")
    }
}

impl Drop for ParkerLoan {
    fn drop(&mut self) {
        let parker = self.0.take();
        let _ = PARKER.try_with(|place| place.set(parker));
    }
}

/// As [`wait_until`], or [`wait`] without a deadline. `stays` is called before the thread parks; `true` makes
/// it look for a wake again instead, so a caller that may spin does so there.
pub fn wait_with<T>(
    deadline: Option<Instant>,
    mut stays: impl FnMut() -> bool,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let loan = ParkerLoan::take();
    let parker = loan.parker();
    let mut cx = Context::from_waker(&parker.waker);
    let mut is_last = false;
    loop {
        if let Poll::Ready(value) = poll(&mut cx) {
            return Some(value);
        }
        if is_last {
            return None;
        }
        // Tests and clears in one step: between two, a second wake would be lost, and the next poll might not
        // see its cause.
        let mut parked = false;
        let woken = |parked: bool| {
            let woken = parker.unparker.woken.swap(false, Ordering::Acquire);
            mutate!(woken, "park-trusts-token" => woken && parked)
        };
        while !woken(parked) {
            if stays() {
                continue;
            }
            parked = true;
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    thread::park_timeout(left);
                }
            }
        }
        // The last poll begins after the deadline, so it sees what every wake before the deadline was for. A
        // poll that wakes itself again and again ends too.
        is_last = deadline.is_some_and(|deadline| Instant::now() >= deadline);
    }
}

/// Polls `poll` until it is ready, and parks the thread in between.
pub fn wait<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    wait_with(None, || false, poll).expect("only a deadline ends the wait early")
}

/// As [`wait`], but gives `None` at `deadline`, also to a poll that keeps waking itself. Polls at least once,
/// and once more after a wake that it sees before the deadline.
pub fn wait_until<T>(deadline: Instant, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    wait_with(Some(deadline), || false, poll)
}

/// Runs `future` to completion on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    wait(|cx| future.as_mut().poll(cx))
}

/// As [`block_on`], but drops the future and gives `None` at `deadline`.
pub fn block_on_until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    wait_until(deadline, |cx| future.as_mut().poll(cx))
}
