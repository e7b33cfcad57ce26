//! An engine that has nothing to do uses no processor time to speak of, in every mode that sleeps and under
//! every host.
//!
//! The only test of this file: it looks at the processor time of the whole process.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use corewire::engine::{Idle, PollThread};
use corewire::{Consumer, Engine, EngineConfig, HostedEngine, IoChoice, Network, NetworkId, Producer};
use corewire_testkit::LIMIT;
use rustix::time::{ClockId, clock_gettime};

/// How long nothing happens.
const QUIET: Duration = Duration::from_millis(1_500);
/// The share of one processor that may be used meanwhile.
const SHARE: f64 = 0.01;
/// Sessions of the engine, each with deadlines of its own.
const PEERS: usize = 8;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
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
    #[cfg(feature = "tokio")]
    Tokio,
}

impl Host {
    const ALL: &[Self] = &[
        Self::Threads,
        Self::BlockingCalls,
        Self::PollThread,
        #[cfg(feature = "tokio")]
        Self::Tokio,
    ];

    /// Drives `hosted`, if it is, while nothing happens.
    fn rest(self, hosted: Option<&HostedEngine>, consumer: &mut Consumer<u64>, time: Duration) {
        match (self, hosted) {
            (Self::PollThread, Some(hosted)) => {
                let mut run = hosted.run(PollThread::start(hosted).unwrap());
                let waker = Waker::from(Arc::new(Unparks(thread::current())));
                let (mut cx, end) = (Context::from_waker(&waker), Instant::now() + time);
                while Instant::now() < end {
                    assert!(pin!(&mut run).poll(&mut cx).is_pending());
                    thread::park_timeout(end.saturating_duration_since(Instant::now()));
                }
            }
            #[cfg(feature = "tokio")]
            (Self::Tokio, Some(hosted)) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let run = hosted.run(corewire::hosts::TokioReactor::new(hosted).unwrap());
                    assert!(tokio::time::timeout(time, run).await.is_err());
                });
            }
            _ => assert!(consumer.recv_timeout(time).is_err()),
        }
    }
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

                let (started, used) = (Instant::now(), processor_time());
                host.rest(hosted.as_ref(), &mut consumer, QUIET);
                let share = (processor_time() - used).as_secs_f64() / started.elapsed().as_secs_f64();
                assert!(share < SHARE, "{share:.4} of a processor: {io:?}, {idle:?}, {host:?}");
            }
        }
    }
}
