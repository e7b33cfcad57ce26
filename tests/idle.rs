//! An engine that has nothing to do uses no processor time to speak of, in every mode that sleeps and under
//! every host.
//!
//! The only test of this file: it looks at the processor time of the whole process.
#![cfg_attr(
    any(feature = "tokio-uring", feature = "glommio"),
    allow(clippy::print_stderr, reason = "prints what could not be tested here")
)]

#[path = "../examples/executors/descriptor_loop.rs"]
mod descriptor_loop;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use corewire::engine::{Idle, PollThread};
use corewire::{Consumer, Engine, EngineConfig, HostedEngine, IoChoice, Network, NetworkId, Producer};
use corewire_testkit::LIMIT;
use rustix::time::{ClockId, clock_gettime};

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(1);
/// The share of one processor that may be used meanwhile.
const SHARE: f64 = 0.01;
/// Sessions of the engine, each with deadlines of its own.
const PEERS: usize = 8;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Measures what the process uses.
#[derive(Clone, Copy)]
struct ProcessorMeter {
    started: Instant,
    used: Duration,
}

impl ProcessorMeter {
    fn start() -> Self {
        Self { started: Instant::now(), used: processor_time() }
    }

    /// The share of one processor that was used since the start.
    fn share(self) -> f64 {
        (processor_time() - self.used).as_secs_f64() / self.started.elapsed().as_secs_f64()
    }
}

/// The drivers that this host allows.
fn drivers() -> Vec<IoChoice> {
    let allowed =
        |io: &IoChoice| Engine::start(EngineConfig { shards: 1, io: *io, ..EngineConfig::default() }).is_ok();
    [IoChoice::Uring, IoChoice::Epoll].into_iter().filter(allowed).collect()
}

/// What drives the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Host {
    Threads,
    BlockingCalls,
    PollThread,
    OwnLoop,
    #[cfg(feature = "tokio")]
    Tokio,
    #[cfg(feature = "tokio-uring")]
    TokioUring,
    #[cfg(feature = "glommio")]
    Glommio,
}

impl Host {
    const ALL: &[Self] = &[
        Self::Threads,
        Self::BlockingCalls,
        Self::PollThread,
        Self::OwnLoop,
        #[cfg(feature = "tokio")]
        Self::Tokio,
        #[cfg(feature = "tokio-uring")]
        Self::TokioUring,
        #[cfg(feature = "glommio")]
        Self::Glommio,
    ];

    /// Drives `hosted`, if it is, while nothing happens, and returns the share of a processor that was used
    /// meanwhile. What it costs to make an executor does not count.
    fn rest(self, hosted: Option<&HostedEngine>, consumer: &mut Consumer<u64>, time: Duration) -> f64 {
        match (self, hosted) {
            (Self::PollThread, Some(hosted)) => {
                let mut run = hosted.run(PollThread::start(hosted).unwrap());
                let waker = Waker::from(Arc::new(Unparks(thread::current())));
                let (mut cx, end) = (Context::from_waker(&waker), Instant::now() + time);
                let meter = ProcessorMeter::start();
                while Instant::now() < end {
                    assert!(pin!(&mut run).poll(&mut cx).is_pending());
                    thread::park_timeout(end.saturating_duration_since(Instant::now()));
                }
                meter.share()
            }
            (Self::OwnLoop, Some(hosted)) => descriptor_loop::run(hosted, measured(time)).unwrap(),
            #[cfg(feature = "tokio")]
            (Self::Tokio, Some(hosted)) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let run = hosted.run(corewire::hosts::TokioReactor::new(hosted).unwrap());
                    let meter = ProcessorMeter::start();
                    assert!(tokio::time::timeout(time, run).await.is_err());
                    meter.share()
                })
            }
            #[cfg(feature = "tokio-uring")]
            (Self::TokioUring, Some(hosted)) => {
                let Ok(runtime) = tokio_uring::Runtime::new(&tokio_uring::builder()) else {
                    eprintln!("NOT RUN: tokio-uring does not run here");
                    return 0.0;
                };
                runtime.block_on(async {
                    let run = hosted.run(corewire::hosts::TokioUringReactor::new(hosted).unwrap());
                    let engine = tokio_uring::spawn(run);
                    let share = measured(time).await;
                    assert!(!engine.is_finished());
                    engine.abort();
                    share
                })
            }
            #[cfg(feature = "glommio")]
            (Self::Glommio, Some(hosted)) => {
                let Ok(executor) = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound).make()
                else {
                    eprintln!("NOT RUN: glommio does not run here");
                    return 0.0;
                };
                let run = hosted.run(corewire::hosts::GlommioReactor::new(hosted).unwrap());
                executor.run(async {
                    let engine = glommio::spawn_local(run).detach();
                    let share = measured(time).await;
                    engine.cancel();
                    share
                })
            }
            _ => {
                let meter = ProcessorMeter::start();
                assert!(consumer.recv_timeout(time).is_err());
                meter.share()
            }
        }
    }
}

/// Waits for `time`, and returns the share of a processor that was used meanwhile.
async fn measured(time: Duration) -> f64 {
    let meter = ProcessorMeter::start();
    after(time).await;
    meter.share()
}

/// Completes after `time`, woken by a thread that sleeps until then.
async fn after(time: Duration) {
    let end = Instant::now() + time;
    let mut sleeper = None;
    poll_fn(|cx| {
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        sleeper.get_or_insert_with(|| {
            let waker = cx.waker().clone();
            thread::spawn(move || {
                while Instant::now() < end {
                    thread::park_timeout(end.saturating_duration_since(Instant::now()));
                }
                waker.wake();
            })
        });
        Poll::Pending
    })
    .await;
}

/// Unparks the thread that polls the engine's task.
struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A node with a producer, for a consumer on another engine.
fn peer(id: NetworkId, engine: &Engine) -> (Network, Producer<u64>) {
    let network = Network::builder(id).with_engine(engine).build_blocking().unwrap();
    let producer = network.streams().produce::<u64>();
    (network, producer)
}

#[test]
fn an_idle_engine_uses_less_than_one_per_cent_of_a_processor() {
    for io in drivers() {
        for idle in [Idle::Park, Idle::ADAPTIVE] {
            for host in Host::ALL {
                let id = NetworkId::random();
                let config = EngineConfig { shards: 1, io, idle, ..EngineConfig::default() };
                let hosted = (*host != Host::Threads).then(|| HostedEngine::start(config).unwrap());
                let here = match &hosted {
                    Some(hosted) => Network::builder(id).with_engine(hosted).build_blocking().unwrap(),
                    None => Network::builder(id).with_engine(config).build_blocking().unwrap(),
                };
                let there = Engine::start(config).unwrap();
                let mut consumer = here.streams().consume::<u64>();
                let peers: Vec<_> = (0..PEERS).map(|_| peer(id, &there)).collect();
                for (_, producer) in &peers {
                    producer.send_blocking(1).unwrap();
                    assert_eq!(consumer.recv_timeout(LIMIT), Ok(1));
                }
                // What the start has left to do is done before the first look.
                host.rest(hosted.as_ref(), &mut consumer, QUIET / 5);
                let share = host.rest(hosted.as_ref(), &mut consumer, QUIET);
                assert!(share < SHARE, "{share:.4} of a processor: {io:?}, {idle:?}, {host:?}");
            }
        }
    }
}
