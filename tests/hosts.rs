//! One conversation under each host of an engine: what every host has to do, on every driver.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here")]

#[path = "../examples/executors/descriptor_loop.rs"]
mod descriptor_loop;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use corewire::engine::{HostedRun, Idle, PollThread};
use corewire::{
    Consumer, Engine, EngineConfig, HostedEngine, IoChoice, Network, NetworkId, Producer, block_on,
};
use corewire_testkit::LIMIT;
use rustix::time::{ClockId, clock_gettime};

/// Round trips of a conversation, and datums of its burst.
const ROUNDS: u64 = 100;
const BURST: u64 = 3_000;
/// Bytes of the large datum.
const BLOB: usize = 300_000;
/// How long the other end is silent.
const SILENCE: Duration = Duration::from_millis(200);
/// The number that ends the silence.
const END: u64 = u64::MAX;

fn config(io: IoChoice, idle: Idle) -> EngineConfig {
    EngineConfig { shards: 1, io, idle, ..EngineConfig::default() }
}

/// What the two ends agree on.
struct Meeting {
    id: NetworkId,
    /// Told that the hosted end has seen the other one leave.
    left: Sender<()>,
}

/// The streams of one end.
struct HostStreams {
    numbers: Producer<u64>,
    other_numbers: Consumer<u64>,
    blobs: Producer<Vec<u8>>,
    other_blobs: Consumer<Vec<u8>>,
}

impl HostStreams {
    fn new(network: &Network, here: &str, there: &str) -> Self {
        let name = |kind: &str, end: &str| format!("{kind} of {end}");
        let streams = network.streams();
        let blobs = streams.producer().with_stream_id(&*name("blobs", here)).with_max_datum_bytes(BLOB + 64);
        Self {
            numbers: streams.producer().with_stream_id(&*name("numbers", here)).build().unwrap(),
            other_numbers: streams.consumer().with_stream_id(&*name("numbers", there)).build(),
            blobs: blobs.build().unwrap(),
            other_blobs: streams.consumer().with_stream_id(&*name("blobs", there)).build(),
        }
    }
}

/// The other end, on engines with threads: answers each number with its successor and each blob with itself,
/// is silent for a while, and leaves. Then it comes back on another engine.
fn answer(id: NetworkId, left: &Receiver<()>) {
    let config = config(IoChoice::Auto, Idle::ADAPTIVE);
    let join = || Network::builder(id).with_engine(config).build_blocking().unwrap();
    let leave = |network: Network| network.shutdown_blocking(LIMIT).unwrap();
    let network = join();
    let mut streams = HostStreams::new(&network, "there", "here");
    for n in streams.other_numbers.iter().take((ROUNDS + BURST) as usize) {
        streams.numbers.send_blocking(n + 1).unwrap();
    }
    let blob = streams.other_blobs.recv_blocking().unwrap();
    streams.blobs.send_blocking(blob).unwrap();
    assert!(streams.other_numbers.recv_timeout(SILENCE).is_err());
    streams.numbers.send_blocking(END).unwrap();
    leave(network);
    left.recv().unwrap();
    let network = join();
    let mut streams = HostStreams::new(&network, "there", "here");
    for n in streams.other_numbers.iter().take(ROUNDS as usize) {
        streams.numbers.send_blocking(n + 1).unwrap();
    }
    leave(network);
}

/// The processor time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the hosted end does, under every host: single round trips, between which everything sleeps; a burst
/// in both directions; a datum of many packets; a wait without news, in which the engine sleeps; the same
/// streams with a peer that left and came back; and an orderly end.
async fn converse(meeting: Meeting) {
    let network = Network::new(meeting.id).await.unwrap();
    assert!(network.engine().info().shards[0].hosted);
    let mut streams = HostStreams::new(&network, "here", "there");
    call(&mut streams).await;
    let mut answered = 0;
    for n in 0..BURST {
        streams.numbers.send(n).await.unwrap();
        while let Ok(answer) = streams.other_numbers.try_recv() {
            answered += 1;
            assert_eq!(answer, answered);
        }
    }
    while answered < BURST {
        answered += 1;
        assert_eq!(streams.other_numbers.recv().await, Some(answered));
    }
    let blob: Vec<u8> = (0..BLOB).map(|index| (index ^ (index >> 8)) as u8).collect();
    streams.blobs.send(blob.clone()).await.unwrap();
    assert!(streams.other_blobs.recv().await == Some(blob), "the blob came back changed");
    let before = thread_time();
    assert_eq!(streams.other_numbers.recv().await, Some(END));
    let used = thread_time() - before;
    assert!(used < SILENCE / 4, "{used:?} of {SILENCE:?}: the engine did not sleep");
    streams.numbers.when().offline().await;
    meeting.left.send(()).unwrap();
    call(&mut streams).await;
    // The blocking form turns the engine inside a task as well.
    assert!(streams.other_numbers.recv_timeout(Duration::from_millis(1)).is_err());
    network.shutdown(LIMIT).await.unwrap();
}

/// Round trips, one after the other.
async fn call(streams: &mut HostStreams) {
    for n in 0..ROUNDS {
        streams.numbers.send(n).await.unwrap();
        assert_eq!(streams.other_numbers.recv().await, Some(n + 1));
    }
}

/// The drivers that this host allows.
fn drivers() -> Vec<IoChoice> {
    let allowed =
        |io: &IoChoice| Engine::start(EngineConfig { shards: 1, io: *io, ..EngineConfig::default() }).is_ok();
    [IoChoice::Uring, IoChoice::Epoll].into_iter().filter(allowed).collect()
}

/// Runs the conversation under `host` on every driver and with every way to wait that lets others run.
fn check(host: impl Fn(&HostedEngine, Meeting)) {
    for io in drivers() {
        for idle in [Idle::Park, Idle::ADAPTIVE] {
            let hosted = HostedEngine::start(config(io, idle)).unwrap();
            let id = NetworkId::random();
            let (left, has_left) = channel();
            let other = thread::spawn(move || answer(id, &has_left));
            host(&hosted, Meeting { id, left });
            assert!(!hosted.is_over(), "{io:?}, {idle:?}");
            // Nothing turns the engine from here on, so it ends before the other end is waited for.
            drop(hosted);
            other.join().unwrap();
        }
    }
}

#[test]
fn blocking_calls_host_an_engine() {
    check(|_, meeting| block_on(converse(meeting)));
    check(|hosted, meeting| hosted.block_on(converse(meeting)));
}

#[test]
fn a_loop_that_waits_for_descriptors_hosts_an_engine() {
    check(|hosted, meeting| descriptor_loop::run(hosted, converse(meeting)).unwrap());
}

#[test]
fn a_loop_sleeps_when_its_engine_is_over_and_its_future_is_not() {
    for io in drivers() {
        let hosted = HostedEngine::start(config(io, Idle::Park)).unwrap();
        let engine = hosted.engine().clone();
        let (tell, told) = channel();
        let mut tell = Some(tell);
        let future = poll_fn(|cx| {
            let (engine, waker) = (engine.clone(), cx.waker().clone());
            if let Some(tell) = tell.take() {
                thread::spawn(move || {
                    assert!(engine.stop(LIMIT));
                    thread::park_timeout(SILENCE);
                    tell.send(()).unwrap();
                    waker.wake();
                });
            }
            if told.try_recv().is_ok() { Poll::Ready(()) } else { Poll::Pending }
        });
        let before = thread_time();
        descriptor_loop::run(&hosted, future).unwrap();
        let used = thread_time() - before;
        assert!(hosted.is_over() && used < SILENCE / 4, "{io:?}: {used:?} of {SILENCE:?}");
    }
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
    check(|hosted, meeting| run_both(hosted.run(PollThread::start(hosted).unwrap()), converse(meeting)));
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use corewire::engine::Counter;
    use corewire::hosts::TokioReactor;
    use corewire_testkit::within;
    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[test]
    fn a_single_threaded_runtime_of_tokio_hosts_an_engine() {
        check(|hosted, meeting| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let engine = spawn_local(hosted.run(TokioReactor::new(hosted).unwrap()));
                converse(meeting).await;
                assert!(!engine.is_finished());
            });
        });
    }

    /// A `LocalSet` polls the future beside its tasks once for a batch of them.
    #[test]
    fn a_yielding_engine_lets_the_future_beside_it_run_after_a_few_turns() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let yields = Idle::Adaptive { spin: Duration::ZERO, yielding: Duration::MAX };
        let hosted = HostedEngine::start(config(IoChoice::Auto, yields)).unwrap();
        let turns = || hosted.engine().counters()[0].get(Counter::Turns);
        let (before, mut polls) = (turns(), 0);
        LocalSet::new().block_on(&runtime, async {
            spawn_local(hosted.run(TokioReactor::new(&hosted).unwrap()));
            poll_fn(|cx| {
                polls += 1;
                cx.waker().wake_by_ref();
                if polls < 100 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        });
        let taken = turns() - before;
        assert!(taken < 10 * polls, "{taken} turns in {polls} polls");
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

#[cfg(feature = "tokio-uring")]
mod on_tokio_uring {
    use corewire::hosts::TokioUringReactor;
    use corewire_testkit::within;
    use tokio_uring::Runtime;

    use super::*;

    fn runtime() -> Option<Runtime> {
        let made = Runtime::new(&tokio_uring::builder());
        made.inspect_err(|error| eprintln!("NOT RUN: tokio-uring does not run here: {error}")).ok()
    }

    #[test]
    fn a_runtime_of_tokio_uring_hosts_an_engine() {
        check(|hosted, meeting| {
            let Some(runtime) = runtime() else { return hosted.block_on(converse(meeting)) };
            runtime.block_on(async {
                let engine = tokio_uring::spawn(hosted.run(TokioUringReactor::new(hosted).unwrap()));
                converse(meeting).await;
                assert!(!engine.is_finished());
            });
        });
    }

    #[test]
    fn operations_of_tokio_uring_are_submitted_beside_a_busy_engine() {
        let Some(runtime) = runtime() else { return };
        for io in drivers() {
            let hosted = HostedEngine::start(config(io, Idle::Spin)).unwrap();
            runtime.block_on(async {
                let engine = tokio_uring::spawn(hosted.run(TokioUringReactor::new(&hosted).unwrap()));
                for _ in 0..100 {
                    within(tokio_uring::no_op()).await.unwrap();
                }
                drop(hosted);
                within(engine).await.unwrap();
            });
        }
    }
}

#[cfg(feature = "glommio")]
mod on_glommio {
    use corewire::hosts::GlommioReactor;
    use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, timer::Timer};

    use super::*;

    /// An executor that never takes the CPU from a task: every task has to yield.
    fn executor() -> Option<LocalExecutor> {
        let hour = Duration::from_secs(3600);
        let made = LocalExecutorBuilder::new(Placement::Unbound).preempt_timer(hour).make();
        made.inspect_err(|error| eprintln!("NOT RUN: glommio does not run here: {error}")).ok()
    }

    #[test]
    fn an_executor_of_glommio_hosts_an_engine() {
        check(|hosted, meeting| {
            let Some(executor) = executor() else { return hosted.block_on(converse(meeting)) };
            let engine = hosted.run(GlommioReactor::new(hosted).unwrap());
            executor.run(async {
                let engine = glommio::spawn_local(engine).detach();
                converse(meeting).await;
                engine.cancel();
            });
        });
    }

    #[test]
    fn timers_of_glommio_run_beside_a_busy_engine() {
        let Some(executor) = executor() else { return };
        for io in drivers() {
            let hosted = HostedEngine::start(config(io, Idle::Spin)).unwrap();
            let engine = hosted.run(GlommioReactor::new(&hosted).unwrap());
            executor.run(async {
                let engine = glommio::spawn_local(engine).detach();
                for _ in 0..10 {
                    Timer::new(Duration::from_millis(1)).await;
                }
                drop(hosted);
                engine.await;
            });
        }
    }
}
