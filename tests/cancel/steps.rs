//! What the tests share: sequences of steps, and futures that are polled by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corewire::{Consumer, Datum, Engine, EngineConfig, Network, NetworkId, Producer};

/// Longer than any of these waits takes on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

/// Awaits `future`, and fails the test instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("a wake-up was lost, or what it waits for never came")
}

/// Every sequence of at most `len` of these steps, shortest first.
pub(crate) fn sequences<S: Copy>(alphabet: &[S], len: usize) -> Vec<Vec<S>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..len {
        let to = all.len();
        for at in from..to {
            for step in alphabet {
                let mut longer = all[at].clone();
                longer.push(*step);
                all.push(longer);
            }
        }
        from = to;
    }
    all
}

#[derive(Default)]
struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future with a waker of its own.
pub(crate) struct Task<F> {
    future: Option<F>,
    count: Arc<Count>,
    /// Wakes at the last poll; `None`: never polled.
    seen: Option<u64>,
}

impl<F: Future + Unpin> Task<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(future), count: Arc::default(), seen: None }
    }

    /// Polls, if it has not resolved.
    pub(crate) fn poll(&mut self) -> Option<F::Output> {
        let future = self.future.as_mut()?;
        self.seen = Some(self.count.0.load(Ordering::SeqCst));
        let waker = Waker::from(self.count.clone());
        match Pin::new(future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => {
                self.future = None;
                Some(output)
            }
            Poll::Pending => None,
        }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.seen.is_some_and(|seen| self.count.0.load(Ordering::SeqCst) > seen)
    }

    /// As an executor would: only if it was woken.
    pub(crate) fn poll_if_woken(&mut self) -> Option<F::Output> {
        if self.is_woken() { self.poll() } else { None }
    }

    /// Polled, and not resolved.
    pub(crate) fn waits(&self) -> bool {
        self.future.is_some() && self.seen.is_some()
    }

    /// Polls after each wake until it resolves.
    pub(crate) async fn resolve(&mut self) -> F::Output {
        within(async {
            loop {
                if let Some(output) = self.poll_if_woken() {
                    return output;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Drops the future, and keeps an eye on its waker.
    pub(crate) fn cancel(self) -> Dropped {
        Dropped(self.count)
    }
}

/// What is left of a future that was dropped.
pub(crate) struct Dropped(Arc<Count>);

impl Dropped {
    /// Whether somebody still has the waker.
    pub(crate) fn is_leaked(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// A node of its own network.
pub(crate) async fn alone() -> Network {
    Network::new(NetworkId::random()).await.expect("a node on the loopback interface")
}

/// Two nodes of one network on two engines: nothing but datagrams between them.
pub(crate) async fn apart() -> (Network, Network) {
    let id = NetworkId::random();
    let node = async || {
        let engine = Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).unwrap();
        Network::builder(id).with_engine(engine).build().await.unwrap()
    };
    (node().await, node().await)
}

/// A producer with room for `datums` and a connected consumer. It waits for a slow consumer as long as it takes.
pub(crate) async fn connected<D: Datum>(
    here: &Network,
    there: &Network,
    datums: usize,
) -> (Producer<D>, Consumer<D>) {
    let consumer = there.streams().consume::<D>();
    let producer = here
        .streams()
        .producer::<D>()
        .with_buffer_size(datums)
        .disconnect_lagging(false)
        .build()
        .expect("a producer");
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}
