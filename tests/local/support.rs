//! What the tests share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use corewire::BackpressurePolicy;
use corewire::local::{BackpressureAnnotation, Stream, parse_backpressure_annotation};

/// Longer than any of these tests takes on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn annotation(text: &str) -> BackpressureAnnotation {
    parse_backpressure_annotation(text).expect("a valid annotation")
}

/// Runs `test` on a thread of its own, and fails instead of hanging.
pub(crate) fn in_time<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, wait) = channel();
    let runner = thread::spawn(move || done.send(test()));
    match wait.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => {
            panic!("nothing happened within {LIMIT:?}: a deadlock or a lost wake-up")
        }
        Err(RecvTimeoutError::Disconnected) => match runner.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => unreachable!("the sender goes with the thread"),
        },
    }
}

/// A waker that remembers that it was woken.
#[derive(Default)]
pub(crate) struct Flagged(AtomicBool);

impl Wake for Flagged {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future with its own waker, polled by hand.
pub(crate) struct Task<F> {
    future: F,
    flag: Arc<Flagged>,
}

impl<F: Future + Unpin> Task<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future, flag: Arc::default() }
    }

    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        self.flag.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.flag));
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }

    /// Woken since the last poll.
    pub(crate) fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::SeqCst)
    }

    pub(crate) fn future(&mut self) -> &mut F {
        &mut self.future
    }
}

/// Every policy's stream of numbers; the degrader marks what it touched by adding 1,000,000.
pub(crate) fn stream_of(policy: BackpressurePolicy, capacity: usize) -> Stream<u64> {
    Stream::with_degrader(capacity, policy, Arc::new(|n| n + 1_000_000))
}

pub(crate) fn assert_balanced<T>(stream: &Stream<T>) {
    let metrics = stream.metrics();
    assert!(metrics.is_balanced(), "{metrics:#?}");
}
