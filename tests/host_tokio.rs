//! A hosted engine as a task of tokio's single-threaded runtime.

use std::thread;
use std::time::Duration;

use corewire::engine::Idle;
use corewire::hosts::TokioReactor;
use corewire::{EngineConfig, HostedEngine, IoChoice, Network, NetworkId};
use corewire_testkit::within;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

fn config(io: IoChoice, idle: Idle) -> EngineConfig {
    EngineConfig { shards: 1, io, idle, ..EngineConfig::default() }
}

/// Answers each number with its successor, on an engine with threads.
fn echo(id: NetworkId, rounds: u64) {
    let network =
        Network::builder(id).with_engine(config(IoChoice::Auto, Idle::ADAPTIVE)).build_blocking().unwrap();
    let mut calls = network.streams().consumer::<u64>().with_stream_id("calls").build();
    let answers = network.streams().producer::<u64>().with_stream_id("answers").build().unwrap();
    for n in calls.iter().take(rounds as usize) {
        answers.send_blocking(n + 1).unwrap();
    }
    network.shutdown_blocking(Duration::from_secs(20)).unwrap();
}

#[test]
fn the_engine_runs_as_a_task_of_tokio_on_every_driver() {
    const ROUNDS: u64 = 300;
    for io in [IoChoice::Auto, IoChoice::Epoll] {
        for idle in [Idle::Park, Idle::ADAPTIVE] {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let hosted = HostedEngine::start(config(io, idle)).unwrap();
            let id = NetworkId::random();
            let other = thread::spawn(move || echo(id, ROUNDS));
            LocalSet::new().block_on(&runtime, async {
                let engine = spawn_local(hosted.run(TokioReactor::new(&hosted).unwrap()));
                let network = Network::new(id).await.unwrap();
                assert!(network.engine().info().shards[0].hosted);
                let calls = network.streams().producer::<u64>().with_stream_id("calls").build().unwrap();
                let mut answers = network.streams().consumer::<u64>().with_stream_id("answers").build();
                for n in 0..ROUNDS {
                    within(calls.send(n)).await.unwrap();
                    assert_eq!(within(answers.recv()).await, Some(n + 1), "{io:?}, {idle:?}");
                }
                within(network.shutdown(Duration::from_secs(20))).await.unwrap();
                // The task ends with its engine.
                drop(hosted);
                within(engine).await.unwrap();
            });
            other.join().unwrap();
        }
    }
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
