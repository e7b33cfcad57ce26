//! How long a datum takes from one process to another, with hosted engines and with threads.
//!
//! For programs whose latency counts and that are one loop on one core: the loop owns the engine. The
//! publisher turns its engine while it waits for the next send time; the consumer's blocking receive turns
//! the engine of its process.
//!
//! ```sh
//! cargo run --release --example one_way            # both ways, taking turns
//! cargo run --release --example one_way -- hosted  # one of them: hosted, threads or spinning
//! ```
//!
//! Each process runs on one processor (`taskset`), where there are two. Latency counts from the time at which
//! a datum was to be sent.
#![allow(clippy::print_stdout, reason = "it reports")]

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corewire::engine::Idle;
use corewire::{Engine, EngineConfig, HostedEngine, Network, Plain};
use hdrhistogram::Histogram;

/// Datums a second.
const RATE: u64 = 10_000;
/// Seconds of one run, after those of the warm-up.
const SECONDS: u64 = 4;
const WARM_UP: u64 = 1;
/// Runs of each mode.
const ROUNDS: usize = 5;

/// 64 bytes; the first word is the intended send time.
type Tick = [u64; 8];

/// Who turns the shards of a process.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The application's thread.
    Hosted,
    /// The engine's threads; the application blocks or yields.
    Threads,
    /// The engine's threads, which spin; the application polls and yields.
    Spinning,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Hosted, Self::Threads, Self::Spinning];

    fn name(self) -> &'static str {
        match self {
            Self::Hosted => "hosted",
            Self::Threads => "threads",
            Self::Spinning => "spinning",
        }
    }
}

/// The engine of one process.
enum OwnEngine {
    Here(HostedEngine),
    Threads(Engine),
}

impl OwnEngine {
    fn start(mode: Mode) -> Result<Self, Box<dyn Error>> {
        let config = |idle| EngineConfig { shards: 1, idle, pin: false, ..EngineConfig::default() };
        Ok(match mode {
            Mode::Hosted => Self::Here(HostedEngine::start(config(Idle::Spin))?),
            Mode::Threads => Self::Threads(Engine::start(config(Idle::ADAPTIVE))?),
            Mode::Spinning => Self::Threads(Engine::start(config(Idle::Spin))?),
        })
    }

    fn engine(&self) -> &Engine {
        match self {
            Self::Here(hosted) => hosted.engine(),
            Self::Threads(engine) => engine,
        }
    }

    /// What a loop does while it waits.
    fn wait(&self) {
        match self {
            Self::Here(hosted) => drop(hosted.turn()),
            Self::Threads(_) => thread::yield_now(),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn join(engine: &Engine, name: &str, peer: Option<SocketAddr>) -> Result<Network, Box<dyn Error>> {
    Ok(Network::builder(name).with_engine(engine).with_bootstrap(peer).build_blocking()?)
}

/// The child: sends a datum at each send time.
fn publish(mode: Mode, name: &str, peer: SocketAddr) -> Result<(), Box<dyn Error>> {
    let driven = OwnEngine::start(mode)?;
    let network = join(driven.engine(), name, Some(peer))?;
    let producer = network.streams().producer::<Tick>().with_stream_id("ticks").codec(Plain).build()?;
    producer.when().online().wait_blocking();
    let period = 1_000_000_000 / RATE;
    let mut due = now() + 100_000_000;
    for _ in 0..RATE * (SECONDS + WARM_UP) {
        while now() < due {
            driven.wait();
        }
        // A full ring is waited for: the datum is late then, which the latency shows.
        producer.send_blocking([due, 0, 0, 0, 0, 0, 0, 0])?;
        due += period;
    }
    network.shutdown_blocking(Duration::from_secs(10))?;
    Ok(())
}

/// The parent: receives what a child on another processor sends.
fn consume(mode: Mode) -> Result<(), Box<dyn Error>> {
    let driven = OwnEngine::start(mode)?;
    let name = format!("one way from {}", std::process::id());
    let network = join(driven.engine(), &name, None)?;
    let mut consumer = network.streams().consumer::<Tick>().with_stream_id("ticks").codec(Plain).build();
    let address = network.local().addresses()[0].to_string();
    let mut child = start_on(0, &[mode.name(), &name, &address])?;
    let mut latency = Histogram::<u64>::new(3)?;
    for number in 0..RATE * (SECONDS + WARM_UP) {
        let tick = match (mode, &driven) {
            (Mode::Spinning, driven) => loop {
                match consumer.try_recv() {
                    Ok(tick) => break tick,
                    Err(_) => driven.wait(),
                }
            },
            _ => consumer.recv_blocking().ok_or("the stream has ended")?,
        };
        if number >= RATE * WARM_UP {
            latency.record(now().saturating_sub(tick[0]))?;
        }
    }
    let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(micros);
    let lost = consumer.stats().skipped();
    println!(
        "{:<9} {:>9} {p50:>8.1} {p90:>8.1} {p99:>8.1} {p999:>9.1} {:>9.1} {lost:>5}",
        mode.name(),
        latency.len(),
        micros(1.0)
    );
    // The child leaves in order while this process is turned; a hosted engine that waits for it would not be.
    drop((consumer, network, driven));
    child.wait()?;
    Ok(())
}

/// This program again, on one processor.
fn start_on(processor: usize, arguments: &[&str]) -> Result<Child, Box<dyn Error>> {
    let program = env::current_exe()?;
    let two = thread::available_parallelism().is_ok_and(|count| count.get() > 1) || processor > 0;
    let mut command = if two || arguments.len() > 1 {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(processor.to_string()).arg(program);
        command
    } else {
        Command::new(program)
    };
    Ok(command.args(arguments).stdout(Stdio::inherit()).spawn()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let mode = arguments.first().map(|name| {
        Mode::ALL.into_iter().find(|mode| mode.name() == name).ok_or("hosted, threads or spinning")
    });
    match (mode.transpose()?, &arguments[..]) {
        (Some(mode), [_, name, address]) => publish(mode, name, address.parse()?),
        (Some(mode), [_]) => consume(mode),
        _ => {
            println!("64 bytes, {RATE}/s, {SECONDS} s, microseconds from the intended send time");
            println!("mode         datums      p50      p90      p99     p99.9       max  lost");
            for _ in 0..ROUNDS {
                for mode in Mode::ALL {
                    start_on(1, &[mode.name()])?.wait()?;
                }
            }
            Ok(())
        }
    }
}
