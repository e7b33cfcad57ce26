//! A waker that counts, and futures that are polled by hand with one.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A waker that counts its calls.
///
/// The counter is `SeqCst`: a test that sees the effect of a wake-up also sees the count.
#[derive(Debug, Default)]
pub struct CountingWaker {
    wakes: AtomicU64,
}

impl CountingWaker {
    /// A counter at zero and a waker that increments it.
    #[must_use]
    pub fn pair() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self::default());
        (Arc::clone(&counter), Waker::from(counter))
    }

    /// Calls so far.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::SeqCst)
    }

    /// Calls since the last `take`, and resets the counter to zero.
    pub fn take(&self) -> u64 {
        self.wakes.swap(0, Ordering::SeqCst)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls `future` once with a new [`CountingWaker`].
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> (Poll<F::Output>, Arc<CountingWaker>) {
    let (counter, waker) = CountingWaker::pair();
    (Pin::new(future).poll(&mut Context::from_waker(&waker)), counter)
}

/// A future with its own [`CountingWaker`], polled by hand.
#[derive(Debug)]
pub struct Task<F> {
    /// `None` once it has resolved.
    future: Option<F>,
    waker: Arc<CountingWaker>,
    /// Wake-ups counted at the last poll; `None` before the first.
    wakes_at_poll: Option<u64>,
}

impl<F: Future + Unpin> Task<F> {
    /// A task that was not polled yet.
    #[must_use]
    pub fn new(future: F) -> Self {
        Self { future: Some(future), waker: Arc::default(), wakes_at_poll: None }
    }

    /// Polls the future. `None` if it is pending or has resolved before.
    pub fn poll(&mut self) -> Option<F::Output> {
        let future = self.future.as_mut()?;
        self.wakes_at_poll = Some(self.waker.wakes());
        let waker = Waker::from(Arc::clone(&self.waker));
        match Pin::new(future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => {
                self.future = None;
                Some(output)
            }
            Poll::Pending => None,
        }
    }

    /// Polls only if the task was woken since the last poll, as an executor does.
    pub fn poll_if_woken(&mut self) -> Option<F::Output> {
        if self.is_woken() { self.poll() } else { None }
    }

    /// Whether the task was woken since the last poll.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.wakes_at_poll.is_some_and(|wakes| self.waker.wakes() > wakes)
    }

    /// Whether the task was polled and has not resolved.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.future.is_some() && self.wakes_at_poll.is_some()
    }

    /// Polls after each wake-up until the future resolves, as an executor does. Panics at
    /// [`LIMIT`](crate::LIMIT).
    pub async fn resolve(&mut self) -> F::Output {
        crate::within(poll_fn(|cx| {
            let first = self.wakes_at_poll.is_none();
            if let Some(output) = if first { self.poll() } else { self.poll_if_woken() } {
                return Poll::Ready(output);
            }
            // Yields to the executor: other tasks run before the next look.
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
        .await
    }

    /// The future, while it has not resolved.
    pub fn future(&mut self) -> Option<&mut F> {
        self.future.as_mut()
    }

    /// Drops the future and keeps its waker, to see whether a reference to it was leaked.
    #[must_use]
    pub fn cancel(self) -> CancelledTask {
        CancelledTask(self.waker)
    }
}

/// The waker of a [`Task`] whose future was dropped.
#[derive(Debug)]
pub struct CancelledTask(Arc<CountingWaker>);

impl CancelledTask {
    /// Whether a clone of the task's waker still exists.
    #[must_use]
    pub fn is_leaked(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_is_polled_again_only_after_a_wake_up() {
        let (mut left, mut kept) = (1, None);
        let mut task = Task::new(poll_fn(|cx| {
            kept = Some(cx.waker().clone());
            if left == 0 {
                return Poll::Ready(7);
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        assert!(!task.is_pending() && task.poll_if_woken().is_none());
        assert_eq!(task.poll(), None);
        assert!(task.is_pending() && task.is_woken());
        assert_eq!(task.poll_if_woken(), Some(7));
        assert_eq!((task.is_pending(), task.poll()), (false, None));
        let cancelled = task.cancel();
        assert!(cancelled.is_leaked());
        drop(kept);
        assert!(!cancelled.is_leaked());
    }

    #[test]
    fn counting_waker_counts_calls_through_all_clones() {
        let (counter, waker) = CountingWaker::pair();
        waker.wake_by_ref();
        let clone = waker.clone();
        clone.wake();
        assert_eq!((counter.wakes(), counter.take(), counter.wakes()), (2, 2, 0));
    }
}
