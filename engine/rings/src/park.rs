//! Blocking a plain thread on anything that has a waker. No runtime, no timers of its own, no spinning.

use crate::bugs::bug;
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

/// Unparks one thread. The flag keeps a wake that comes before the park, and tells it from an unpark by others.
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

/// The calling thread's unparker and its waker.
struct Bed {
    unparker: Arc<Unparker>,
    waker: Waker,
}

impl Bed {
    fn new() -> Self {
        let unparker = Arc::new(Unparker { thread: thread::current(), woken: AtomicBool::new(false) });
        Self { waker: Waker::from(Arc::clone(&unparker)), unparker }
    }
}

thread_local! {
    /// Kept between calls, so that blocking does not allocate. Empty while in use: a nested call gets its own, or it
    /// would swallow the outer call's wakes.
    static BED: Cell<Option<Bed>> = const { Cell::new(None) };
}

/// Gives the bed back at the end, also when the poll panics.
struct Lease(Option<Bed>);

impl Lease {
    fn take() -> Self {
        // A thread that is ending has no thread-local storage any more; then the bed is fresh.
        Self(Some(BED.try_with(Cell::take).ok().flatten().unwrap_or_else(Bed::new)))
    }

    fn bed(&self) -> &Bed {
        self.0.as_ref().expect("a lease has its bed until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let bed = self.0.take();
        let _ = BED.try_with(|place| place.set(bed));
    }
}

fn run<T>(deadline: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let lease = Lease::take();
    let bed = lease.bed();
    let mut cx = Context::from_waker(&bed.waker);
    loop {
        if let Poll::Ready(value) = poll(&mut cx) {
            return Some(value);
        }
        // Looks and lowers in one step: lowered apart, a second wake in between would be lost, and the next poll might
        // not see what it was about.
        let mut parked = false;
        while !bed.unparker.woken.swap(false, Ordering::Acquire) || bug("park-trusts-token") && !parked {
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
    }
}

/// Polls `poll`, parking the thread in between, until it is ready.
pub fn wait<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    run(None, poll).expect("only a deadline ends the wait early")
}

/// As [`wait`], but gives `None` at `deadline`. Polls once at least, and never gives up without having polled after
/// the last wake.
pub fn wait_until<T>(deadline: Instant, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    run(Some(deadline), poll)
}

/// Runs `future` to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    wait(|cx| future.as_mut().poll(cx))
}

/// As [`block_on`], but drops the future and gives `None` at `deadline`.
pub fn block_on_until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    wait_until(deadline, |cx| future.as_mut().poll(cx))
}
