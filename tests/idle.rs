//! An engine that has nothing to do uses no processor time to speak of, in every mode that sleeps.
//!
//! The only test of this file: it looks at the processor time of the whole process.

use std::time::{Duration, Instant};

use corewire::engine::Idle;
use corewire::{Engine, EngineConfig, HostedEngine, IoChoice, Network, NetworkId};
use corewire_testkit::LIMIT;
use rustix::time::{ClockId, clock_gettime};

/// How long nothing happens.
const QUIET: Duration = Duration::from_millis(1_500);
/// The share of one processor that may be used meanwhile.
const SHARE: f64 = 0.01;

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

#[test]
fn an_idle_engine_uses_less_than_one_per_cent_of_a_processor() {
    for io in drivers() {
        for idle in [Idle::Park, Idle::ADAPTIVE] {
            for is_hosted in [true, false] {
                let id = NetworkId::random();
                let config = EngineConfig { shards: 1, io, idle, ..EngineConfig::default() };
                let hosted = is_hosted.then(|| HostedEngine::start(config).unwrap());
                let here = match &hosted {
                    Some(hosted) => Network::builder(id).with_engine(hosted).build_blocking().unwrap(),
                    None => Network::builder(id).with_engine(config).build_blocking().unwrap(),
                };
                let there = Network::builder(id).with_engine(config).build_blocking().unwrap();
                let producer = there.streams().produce::<u64>();
                let mut consumer = here.streams().consume::<u64>();
                producer.send_blocking(1).unwrap();
                assert_eq!(consumer.recv_timeout(LIMIT), Ok(1));
                // What the start has left to do is done before the first look.
                assert!(consumer.recv_timeout(QUIET / 5).is_err());

                let (started, used) = (Instant::now(), processor_time());
                assert!(consumer.recv_timeout(QUIET).is_err());
                let share = (processor_time() - used).as_secs_f64() / started.elapsed().as_secs_f64();
                assert!(share < SHARE, "{share:.4} of a processor: {io:?}, {idle:?}, hosted: {is_hosted}");
            }
        }
    }
}
