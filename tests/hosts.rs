//! One conversation under each host of an engine: what every host has to do, on every driver.

#[path = "../examples/executors/descriptor_loop.rs"]
mod descriptor_loop;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use corewire::engine::{HostedRun, Idle, PollThread};
use corewire::{Engine, EngineConfig, HostedEngine, IoChoice, Network, NetworkId, block_on};
use corewire_testkit::LIMIT;

/// Round trips of a conversation, and datums of its burst.
const ROUNDS: u64 = 100;
const BURST: u64 = 3_000;

fn config(io: IoChoice, idle: Idle) -> EngineConfig {
    EngineConfig { shards: 1, io, idle, ..EngineConfig::default() }
}

/// Answers each number with its successor, on an engine with threads.
fn echo(id: NetworkId) {
    let network =
        Network::builder(id).with_engine(config(IoChoice::Auto, Idle::ADAPTIVE)).build_blocking().unwrap();
    let mut calls = network.streams().consumer::<u64>().with_stream_id("calls").build();
    let answers = network.streams().producer::<u64>().with_stream_id("answers").build().unwrap();
    for n in calls.iter().take((ROUNDS + BURST) as usize) {
        answers.send_blocking(n + 1).unwrap();
    }
    network.shutdown_blocking(Duration::from_secs(20)).unwrap();
}

/// What the hosted end does: single round trips, between which everything sleeps, a burst, a wait without
/// news, and an orderly end.
async fn converse(id: NetworkId) {
    let network = Network::new(id).await.unwrap();
    assert!(network.engine().info().shards[0].hosted);
    let calls = network.streams().producer::<u64>().with_stream_id("calls").build().unwrap();
    let mut answers = network.streams().consumer::<u64>().with_stream_id("answers").build();
    for n in 0..ROUNDS {
        calls.send(n).await.unwrap();
        assert_eq!(answers.recv().await, Some(n + 1));
    }
    let mut answered = 0;
    for n in 0..BURST {
        calls.send(n).await.unwrap();
        while let Ok(answer) = answers.try_recv() {
            answered += 1;
            assert_eq!(answer, answered);
        }
    }
    while answered < BURST {
        answered += 1;
        assert_eq!(answers.recv().await, Some(answered));
    }
    // The blocking form turns the engine inside a task as well.
    assert!(answers.recv_timeout(Duration::from_millis(1)).is_err());
    network.shutdown(Duration::from_secs(20)).await.unwrap();
}

/// The drivers that this host allows.
fn drivers() -> Vec<IoChoice> {
    let allowed =
        |io: &IoChoice| Engine::start(EngineConfig { shards: 1, io: *io, ..EngineConfig::default() }).is_ok();
    [IoChoice::Uring, IoChoice::Epoll].into_iter().filter(allowed).collect()
}

/// Runs the conversation under `host` on every driver and with every way to wait that lets others run.
fn check(host: impl Fn(&HostedEngine, NetworkId)) {
    for io in drivers() {
        for idle in [Idle::Park, Idle::ADAPTIVE] {
            let hosted = HostedEngine::start(config(io, idle)).unwrap();
            let id = NetworkId::random();
            let other = thread::spawn(move || echo(id));
            host(&hosted, id);
            assert!(!hosted.is_over(), "{io:?}, {idle:?}");
            // Nothing turns the engine from here on, so it ends before the other end is waited for.
            drop(hosted);
            other.join().unwrap();
        }
    }
}

#[test]
fn blocking_calls_host_an_engine() {
    check(|_, id| block_on(converse(id)));
    check(|hosted, id| hosted.block_on(converse(id)));
}

#[test]
fn a_loop_that_waits_for_descriptors_hosts_an_engine() {
    check(|hosted, id| descriptor_loop::run(hosted, converse(id)).unwrap());
}

/// Wakes the thread that runs [`run_both`].
struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A single-threaded executor with two tasks and no reactor.
fn run_both<T>(mut engine: HostedRun<PollThread>, task: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut task = pin!(task);
    loop {
        if let Poll::Ready(done) = task.as_mut().poll(&mut cx) {
            return done;
        }
        assert!(pin!(&mut engine).poll(&mut cx).is_pending());
        thread::park_timeout(LIMIT);
    }
}

#[test]
fn an_executor_without_a_reactor_hosts_an_engine_with_a_poll_thread() {
    check(|hosted, id| run_both(hosted.run(PollThread::start(hosted).unwrap()), converse(id)));
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use corewire::hosts::TokioReactor;
    use corewire_testkit::within;
    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[test]
    fn a_single_threaded_runtime_of_tokio_hosts_an_engine() {
        check(|hosted, id| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let engine = spawn_local(hosted.run(TokioReactor::new(hosted).unwrap()));
                converse(id).await;
                assert!(!engine.is_finished());
            });
        });
    }

    #[test]
    fn task_of_the_engine_ends_with_it() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let hosted = HostedEngine::start(config(IoChoice::Auto, Idle::Park)).unwrap();
        LocalSet::new().block_on(&runtime, async {
            let engine = spawn_local(hosted.run(TokioReactor::new(&hosted).unwrap()));
            drop(hosted);
            within(engine).await.unwrap();
        });
    }

    #[test]
    fn timers_of_other_tasks_run_beside_an_idle_engine() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let hosted = HostedEngine::start(config(IoChoice::Auto, Idle::Spin)).unwrap();
        LocalSet::new().block_on(&runtime, async {
            spawn_local(hosted.run(TokioReactor::new(&hosted).unwrap()));
            let never = std::future::pending::<()>();
            assert!(within(tokio::time::timeout(Duration::from_millis(5), never)).await.is_err());
        });
    }
}
