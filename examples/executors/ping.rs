//! What the examples of this folder run: a conversation with a node that has an engine with threads.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use corewire::{EngineConfig, Network, NetworkId};

/// Round trips that are measured.
const ROUNDS: u64 = 2_000;

/// Sends numbers to an echo on another thread and awaits the answers. The node of this side runs on the
/// engine that the calling thread hosts. Prints the time of a round trip.
pub(crate) async fn converse(executor: &str) -> Result<(), Box<dyn Error>> {
    let id = NetworkId::random();
    let echo = thread::spawn(move || echo(id).map_err(|error| error.to_string()));
    let network = Network::new(id).await?;
    let calls = network.streams().producer::<u64>().with_stream_id("calls").build()?;
    let mut answers = network.streams().consumer::<u64>().with_stream_id("answers").build();
    let mut times = Vec::new();
    for n in 0..ROUNDS {
        let start = Instant::now();
        calls.send(n).await?;
        let answer = answers.recv().await.ok_or("the echo has gone")?;
        assert_eq!(answer, n + 1);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: u64| times[(ROUNDS * share / 100) as usize];
    println!("{executor}: {ROUNDS} round trips, p50 {:?}, p99 {:?}", at(50), at(99));
    network.shutdown(Duration::from_secs(5)).await?;
    Ok(echo.join().map_err(|_| "the echo has panicked")??)
}

fn echo(id: NetworkId) -> Result<(), Box<dyn Error>> {
    let config = EngineConfig { shards: 1, ..EngineConfig::default() };
    let network = Network::builder(id).with_engine(config).build_blocking()?;
    let mut calls = network.streams().consumer::<u64>().with_stream_id("calls").build();
    let answers = network.streams().producer::<u64>().with_stream_id("answers").build()?;
    for n in calls.iter().take(ROUNDS as usize) {
        answers.send_blocking(n + 1)?;
    }
    network.shutdown_blocking(Duration::from_secs(5))?;
    Ok(())
}
