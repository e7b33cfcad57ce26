//! Shared by these tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use corewire::BackpressurePolicy;
use corewire::local::{BackpressureAnnotation, Stream, parse_backpressure_annotation};
use corewire_testkit::CountingWaker;
pub(crate) use corewire_testkit::in_time;

pub(crate) fn annotation(text: &str) -> BackpressureAnnotation {
    parse_backpressure_annotation(text).expect("a valid annotation")
}

/// A future with its own waker, polled by hand. It is kept after it has resolved, so that its item can be
/// taken.
pub(crate) struct Task<F> {
    future: F,
    waker: Arc<CountingWaker>,
}

impl<F: Future + Unpin> Task<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future, waker: Arc::default() }
    }

    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        self.waker.take();
        let waker = Waker::from(Arc::clone(&self.waker));
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }

    /// Woken since the last poll.
    pub(crate) fn is_woken(&self) -> bool {
        self.waker.wakes() > 0
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
