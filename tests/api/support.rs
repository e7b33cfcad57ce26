//! Shared by these tests.
//!
//! The suite runs in two modes. By default engines have threads; with `COREWIRE_TEST_ENGINES=hosted` the
//! thread of each test hosts the engines that it uses, and its blocking calls and futures turn them.

use std::cell::RefCell;
use std::env;
use std::thread::{self, JoinHandle};

use corewire::streams::State;
use corewire::streams::producer::{Error, UnsendableCause};
use corewire::{Consumer, Datum, Engine, EngineConfig, HostedEngine, Network, NetworkId, Producer};
pub(crate) use corewire_testkit::{LIMIT, poll_once, within};
use serde::{Deserialize, Serialize};

/// An ordinary datum.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct Data1(pub(crate) u64);

/// A node of its own network.
pub(crate) async fn alone() -> Network {
    Network::new(NetworkId::random()).await.expect("a node on the loopback interface")
}

/// Two nodes of one network.
pub(crate) async fn two() -> (Network, Network) {
    let id = NetworkId::random();
    (Network::new(id).await.expect("the first node"), Network::new(id).await.expect("the second node"))
}

thread_local! {
    /// The engines that this test's thread hosts.
    static HOSTED: RefCell<Vec<HostedEngine>> = const { RefCell::new(Vec::new()) };
}

/// Whether tests host their engines.
fn hosts_engines() -> bool {
    match env::var("COREWIRE_TEST_ENGINES").as_deref() {
        Ok("hosted") => true,
        Ok("threads") | Err(_) => false,
        Ok(other) => panic!("COREWIRE_TEST_ENGINES is {other:?}; it is `threads` or `hosted`"),
    }
}

/// An engine with one shard, apart from that of the process. Its thread is the caller's when tests host.
pub(crate) fn engine() -> Engine {
    engine_with(EngineConfig::default())
}

/// As [`engine`], configured.
pub(crate) fn engine_with(config: EngineConfig) -> Engine {
    let config = EngineConfig { shards: 1, ..config };
    if !hosts_engines() {
        return Engine::start(config).expect("an engine with one shard");
    }
    let hosted = HostedEngine::start(config).expect("an engine on this thread");
    let engine = hosted.engine().clone();
    HOSTED.with_borrow_mut(|engines| engines.push(hosted));
    engine
}

/// Makes a node without an engine of its own run on this thread when tests host. For tests without a runtime.
pub(crate) fn host_here() {
    if hosts_engines() && HostedEngine::here().is_none() {
        engine();
    }
}

/// Waits for a thread's end. When tests host, the engines of this thread are turned meanwhile.
pub(crate) fn join<T: Send + 'static>(thread: JoinHandle<T>) -> T {
    let (ended, end) = tokio::sync::oneshot::channel();
    let joiner = thread::spawn(move || {
        let outcome = thread.join();
        let _ = ended.send(());
        outcome
    });
    let _ = corewire::block_on(end);
    joiner.join().expect("it only joins").expect("the thread has not panicked")
}

/// What `#[tokio::test]` makes its runtime of: tokio's own, or one whose first thread hosts an engine.
pub(crate) mod host {
    pub(crate) use tokio::pin;

    pub(crate) mod runtime {
        use std::future::Future;
        use std::io;

        pub(crate) struct Builder(tokio::runtime::Builder);

        impl Builder {
            pub(crate) fn new_current_thread() -> Self {
                // A runtime of one thread that is not run has no thread that polls its timers.
                let hosts = super::super::hosts_engines();
                let own = tokio::runtime::Builder::new_current_thread;
                Self(if hosts { tokio::runtime::Builder::new_multi_thread() } else { own() })
            }

            pub(crate) fn new_multi_thread() -> Self {
                Self(tokio::runtime::Builder::new_multi_thread())
            }

            pub(crate) fn worker_threads(&mut self, threads: usize) -> &mut Self {
                self.0.worker_threads(threads);
                self
            }

            pub(crate) fn enable_all(&mut self) -> &mut Self {
                self.0.enable_all();
                self
            }

            pub(crate) fn build(&mut self) -> io::Result<Runtime> {
                self.0.build().map(Runtime)
            }
        }

        pub(crate) struct Runtime(tokio::runtime::Runtime);

        impl Runtime {
            pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
                if !super::super::hosts_engines() {
                    return self.0.block_on(future);
                }
                let _entered = self.0.enter();
                super::super::host_here();
                let output = corewire::block_on(future);
                // Here and not with the thread's storage: engines end one after the other while all are
                // turned.
                while let Some(hosted) = super::super::HOSTED.with_borrow_mut(Vec::pop) {
                    drop(hosted);
                }
                output
            }
        }
    }
}

/// `n` nodes of one network on as many engines: nothing but datagrams between them.
pub(crate) async fn apart(n: usize) -> Vec<Network> {
    apart_on(n, engine).await
}

/// As [`apart`], on engines with threads also when tests host: for a test of who keeps whom waiting, in which
/// one thread can't be all parties.
pub(crate) async fn apart_with_threads(n: usize) -> Vec<Network> {
    apart_on(n, || Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).expect("an engine"))
        .await
}

async fn apart_on(n: usize, engine: impl Fn() -> Engine) -> Vec<Network> {
    let id = NetworkId::random();
    let mut networks = Vec::new();
    for _ in 0..n {
        networks.push(
            Network::builder(id).with_engine(engine()).build().await.expect("a node on its own engine"),
        );
    }
    networks
}

/// A producer and a connected consumer of the same node, with room for `datums`.
pub(crate) async fn connected<D: Datum>(network: &Network, datums: usize) -> (Producer<D>, Consumer<D>) {
    let consumer = network.streams().consume::<D>();
    let producer = network.streams().producer::<D>().with_buffer_size(datums).build().expect("a producer");
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}

/// The datum that could not be encoded, and whether its codec panicked.
#[track_caller]
pub(crate) fn unencodable<D>(result: Result<(), Error<D>>) -> (D, bool) {
    let Err(Error::Closed(refused)) = result else { panic!("not refused for good: {result:?}") };
    let panics = match refused.cause() {
        UnsendableCause::Encoding(error) => error.is_panic(),
        other => panic!("refused for another cause: {other:?}"),
    };
    (refused.into_inner(), panics)
}

/// Waits until every channel of `producer` is over or gone.
pub(crate) async fn alone_again<D, C>(producer: &Producer<D, C>) {
    within(producer.when().unsubscribed()).await;
    for info in producer.consumers() {
        assert_ne!(info.state(), State::Connected);
    }
}
