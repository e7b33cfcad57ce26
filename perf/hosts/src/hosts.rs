//! Round trips of a node whose engine an executor runs.

use std::error::Error;
use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use async_executor::LocalExecutor;
use corewire::engine::PollThread;
use corewire::hosts::{GlommioReactor, TokioReactor, TokioUringReactor};
use corewire::{EngineConfig, HostedEngine, Network, NetworkId};
use glommio::{LocalExecutorBuilder, Placement};

use crate::{HostRow, HostRun};

pub(crate) const ROWS: [HostRow; 5] = [
    ("no executor: `HostedEngine::block_on`", none),
    ("tokio, one thread, `TokioReactor`", on_tokio),
    ("tokio-uring, `TokioUringReactor`", on_tokio_uring),
    ("glommio, `GlommioReactor`", on_glommio),
    ("async-executor, `PollThread`", on_async_executor),
];

/// How long an end may take to leave.
const LEAVE: Duration = Duration::from_secs(5);

fn hosted() -> Result<HostedEngine, Box<dyn Error>> {
    Ok(HostedEngine::start(EngineConfig::default())?)
}

/// Answers each number with its successor, on an engine with a thread.
fn answer(id: NetworkId, trips: u64) -> Result<(), Box<dyn Error>> {
    let config = EngineConfig { shards: 1, ..EngineConfig::default() };
    let network = Network::builder(id).with_engine(config).build_blocking()?;
    let mut calls = network.streams().consumer::<u64>().with_stream_id("calls").build();
    let answers = network.streams().producer::<u64>().with_stream_id("answers").build()?;
    for n in calls.iter().take(trips as usize) {
        answers.send_blocking(n + 1)?;
    }
    network.shutdown_blocking(LEAVE)?;
    Ok(())
}

/// Sends numbers and awaits their answers, on the engine that this thread hosts.
async fn converse(trips: u64) -> HostRun {
    let id = NetworkId::random();
    let other = thread::spawn(move || answer(id, trips).map_err(|error| error.to_string()));
    let network = Network::new(id).await?;
    let calls = network.streams().producer::<u64>().with_stream_id("calls").build()?;
    let mut answers = network.streams().consumer::<u64>().with_stream_id("answers").build();
    let mut times = Vec::with_capacity(trips as usize);
    for n in 0..trips {
        let start = Instant::now();
        calls.send(n).await?;
        if answers.recv().await != Some(n + 1) {
            return Err("a wrong answer, or none".into());
        }
        times.push(start.elapsed());
    }
    network.shutdown(LEAVE).await?;
    other.join().map_err(|_| "the echo has panicked")??;
    Ok(times)
}

fn none(trips: u64) -> HostRun {
    hosted()?.block_on(converse(trips))
}

fn on_tokio(trips: u64) -> HostRun {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hosted = hosted()?;
    let tasks = tokio::task::LocalSet::new();
    let done = tasks.block_on(&runtime, async {
        tokio::task::spawn_local(hosted.run(TokioReactor::new(&hosted)?));
        converse(trips).await
    });
    // Before the runtime, which drops the engine's task: the sessions close in order.
    drop(hosted);
    done
}

fn on_tokio_uring(trips: u64) -> HostRun {
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
    let hosted = hosted()?;
    let done = runtime.block_on(async {
        tokio_uring::spawn(hosted.run(TokioUringReactor::new(&hosted)?));
        converse(trips).await
    });
    drop(hosted);
    done
}

fn on_glommio(trips: u64) -> HostRun {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().map_err(|error| error.to_string())?;
    let hosted = hosted()?;
    let reactor = GlommioReactor::new(&hosted)?;
    let done = executor.run(async {
        glommio::spawn_local(hosted.run(reactor)).detach();
        converse(trips).await
    });
    drop(hosted);
    done
}

fn on_async_executor(trips: u64) -> HostRun {
    let hosted = hosted()?;
    let executor = LocalExecutor::new();
    let engine = executor.spawn(hosted.run(PollThread::start(&hosted)?));
    // A task as the engine's is, and not the future beside them, which is polled once in 200 polls of tasks.
    let done = block_on(executor.run(executor.spawn(converse(trips))));
    drop(hosted);
    drop(engine);
    done
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures_lite::future::block_on(future)
}
