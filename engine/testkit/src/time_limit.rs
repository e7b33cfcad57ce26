//! One time limit for whatever a test waits for, under any executor and without one.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Time after which a test that waits has failed.
///
/// A defect (a lost wake-up, a deadlock) never ends, so the limit only has to be longer than a wait can take
/// without one. On two cores shared with other builds a wait of a few milliseconds has been seen to take
/// several seconds.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Panics at [`LIMIT`] unless `future` has resolved. Works under any executor.
pub fn within<F: Future>(future: F) -> Within<F> {
    Within { future: Box::pin(future), deadline: Instant::now() + LIMIT, alarm: None }
}

/// The future of [`within`].
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Within<F> {
    future: Pin<Box<F>>,
    deadline: Instant,
    /// The key of this future's entry in [`Alarms`], from its first pending poll on.
    alarm: Option<(Instant, u64)>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        assert!(Instant::now() < self.deadline, "{LIMIT:?} passed: a lost wake-up, or the event never came");
        let waker = cx.waker().clone();
        let deadline = self.deadline;
        let mut alarms = Alarms::of_process();
        let key = *self.alarm.get_or_insert_with(|| (deadline, alarms.next_key()));
        let former = alarms.wakers.insert(key, waker);
        // Dropping a waker may drop a task, and with it another `Within`: not under the lock.
        drop(alarms);
        drop(former);
        Poll::Pending
    }
}

impl<F> Drop for Within<F> {
    fn drop(&mut self) {
        if let Some(key) = self.alarm {
            let former = Alarms::of_process().wakers.remove(&key);
            drop(former);
        }
    }
}

/// Wakers to call when their deadline has passed. One thread of the process looks after them.
#[derive(Debug, Default)]
struct Alarms {
    wakers: BTreeMap<(Instant, u64), Waker>,
    keys: u64,
}

impl Alarms {
    /// How late an alarm may be.
    const PRECISION: Duration = Duration::from_secs(1);

    fn of_process() -> MutexGuard<'static, Self> {
        static ALARMS: OnceLock<Arc<Mutex<Alarms>>> = OnceLock::new();
        let alarms = ALARMS.get_or_init(|| {
            let alarms = Arc::<Mutex<Self>>::default();
            let shared = Arc::clone(&alarms);
            thread::spawn(move || {
                loop {
                    thread::park_timeout(Self::PRECISION);
                    let due = shared.lock().unwrap_or_else(PoisonError::into_inner).take_due();
                    due.into_values().for_each(Waker::wake);
                }
            });
            alarms
        });
        alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    fn take_due(&mut self) -> BTreeMap<(Instant, u64), Waker> {
        let later = self.wakers.split_off(&(Instant::now(), 0));
        std::mem::replace(&mut self.wakers, later)
    }
}

struct UnparkWaker(Thread);

impl Wake for UnparkWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` on this thread; `None` if it has not resolved after `limit`.
pub fn wait_at_most<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let waker = Waker::from(Arc::new(UnparkWaker(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let deadline = Instant::now() + limit;
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Some(value);
        }
        thread::park_timeout(deadline.checked_duration_since(Instant::now())?);
    }
}

/// Runs `future` on this thread. Panics at [`LIMIT`] and names what was waited for.
#[track_caller]
pub fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    wait_at_most(LIMIT, future).unwrap_or_else(|| panic!("waited {LIMIT:?} for {what}"))
}

/// Runs `test` on its own thread and panics at [`LIMIT`]: for calls that block their thread.
pub fn in_time<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = channel();
    let runner = thread::spawn(move || sender.send(test()));
    match receiver.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("{LIMIT:?} passed: a deadlock or a lost wake-up"),
        Err(RecvTimeoutError::Disconnected) => match runner.join() {
            Err(panic) => resume_unwind(panic),
            Ok(_) => unreachable!("the sender lives until the thread ends"),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use super::*;

    #[test]
    fn future_that_resolves_leaves_no_alarm() {
        assert_eq!(wait("a ready future", within(ready(3))), 3);
        let mut polls = 0;
        let twice = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut bounded = within(twice);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut bounded).poll(&mut cx).is_pending());
        let key = bounded.alarm.expect("an alarm while it waits");
        assert!(Alarms::of_process().wakers.contains_key(&key));
        assert!(Pin::new(&mut bounded).poll(&mut cx).is_ready());
        drop(bounded);
        assert!(!Alarms::of_process().wakers.contains_key(&key));
    }

    #[test]
    #[should_panic(expected = "a lost wake-up")]
    fn future_that_never_resolves_panics_at_the_limit() {
        let now = Instant::now();
        wait("an alarm", Within { future: Box::pin(pending::<()>()), deadline: now, alarm: None });
    }

    #[test]
    fn alarm_wakes_a_future_that_nothing_else_wakes() {
        let (counter, waker) = crate::CountingWaker::pair();
        let mut alarms = Alarms::default();
        alarms.wakers.insert((Instant::now(), 0), waker.clone());
        alarms.wakers.insert((Instant::now() + LIMIT, 1), waker);
        alarms.take_due().into_values().for_each(Waker::wake);
        assert_eq!((counter.wakes(), alarms.wakers.len()), (1, 1));
    }

    #[test]
    #[should_panic(expected = "the test's own panic")]
    fn panic_inside_in_time_reaches_the_caller() {
        in_time(|| panic!("the test's own panic"));
    }
}
