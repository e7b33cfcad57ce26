//! Knowing that what was sent has arrived: `flush`, and what drops and exits deliver.

use std::process::Command;
use std::time::Duration;

use corewire::streams::Undelivered;
use corewire::{Consumer, Engine, EngineConfig, Network, NetworkId, Producer};

use super::support::{Data1, alone, apart, connected, poll_once, within};

/// How long a flush is given that can't succeed.
const MOMENT: Duration = Duration::from_millis(20);

/// A producer with 100 datums for a consumer on another engine that has room for four.
async fn stalled(nodes: &[Network]) -> (Producer<Data1>, Consumer<Data1>) {
    let producer = nodes[0].streams().produce::<Data1>();
    let consumer = nodes[1].streams().consumer::<Data1>().with_window_datums(4).build();
    within(producer.when().online()).await;
    (0..100).for_each(|n| producer.try_send(Data1(n)).unwrap());
    (producer, consumer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn flush_waits_until_the_consumer_has_everything() {
    let nodes = apart(2).await;
    let (producer, mut consumer) = stalled(&nodes).await;
    let mut flushing = producer.flush();
    assert!(poll_once(&mut flushing).0.is_pending());
    let late = producer.flush_timeout(MOMENT).expect_err("the consumer has room for four");
    assert!(late.timed_out);
    for n in 0..100 {
        assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
    }
    within(flushing).await.unwrap();
    within(producer.flush()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn flush_names_the_consumer_that_lacks_something_and_how_much() {
    let nodes = apart(2).await;
    let (producer, consumer) = stalled(&nodes).await;
    let mut flushing = producer.flush();
    let lacking = |missing: &[Undelivered]| {
        let [one] = missing else { return false };
        assert_eq!((one.stream_id, one.consumer), (*producer.stream_id(), *nodes[1].local().id()));
        (96..=100).contains(&one.datums)
    };
    // The clerk is asked in the background.
    while flushing.missing().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(lacking(&flushing.missing()), "{flushing:?}");
    assert!(poll_once(&mut flushing).0.is_pending());
    drop(consumer);
    let error = within(flushing).await.expect_err("the consumer has left without them");
    assert!(!error.timed_out && lacking(&error.missing), "{error}");
    within(producer.flush()).await.expect("there is no consumer now");
}

#[tokio::test(crate = "crate::support::host")]
async fn flush_is_ready_for_consumers_of_the_same_engine() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 4).await;
    producer.try_send(Data1(1)).unwrap();
    within(producer.flush()).await.unwrap();
    assert_eq!(consumer.try_recv(), Ok(Data1(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn flush_after_close_waits_for_the_end_of_the_stream() {
    let nodes = apart(2).await;
    let (producer, mut consumer) = stalled(&nodes).await;
    let taker = tokio::spawn(async move {
        for n in 0..100 {
            assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
        }
        consumer
    });
    producer.close();
    within(producer.flush()).await.unwrap();
    within(taker).await.unwrap();
    let [here, _there] = <[Network; 2]>::try_from(nodes).unwrap();
    within(here.shutdown(Duration::from_secs(5))).await.unwrap();
    within(producer.flush()).await.expect("also when the node is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn flush_after_a_shutdown_that_lost_datums_names_who_lacks_them() {
    let nodes = apart(2).await;
    let (producer, _consumer) = stalled(&nodes).await;
    let [here, there] = <[Network; 2]>::try_from(nodes).unwrap();
    within(here.shutdown(MOMENT)).await.unwrap_err();
    let error = within(producer.flush()).await.unwrap_err();
    assert_eq!(error.missing.iter().map(|one| one.consumer).collect::<Vec<_>>(), [*there.local().id()]);
}

#[tokio::test(crate = "crate::support::host")]
async fn dropped_network_blocks_no_runtime_and_delivers_what_was_accepted() {
    let nodes = apart(2).await;
    let producer = nodes[0].streams().producer::<Data1>().with_buffer_size(4096).build().unwrap();
    let mut consumer = nodes[1].streams().consumer::<Data1>().with_window_datums(64).build();
    within(producer.when().online()).await;
    let accepted = (0..1_000).filter(|n| producer.try_send(Data1(*n)).is_ok()).count();
    assert_eq!(accepted, 1_000);
    let [here, _there] = <[Network; 2]>::try_from(nodes).unwrap();
    // On this thread, which is the only one that takes datums.
    drop(producer);
    drop(here);
    for n in 0..1_000 {
        assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
    }
}

const PEER: &str = "COREWIRE_TEST_EXIT_PEER";
const HOW: &str = "COREWIRE_TEST_EXIT_HOW";
const EXIT_NETWORK: &str = "datums survive the exit of a process";

/// An engine with threads in either mode of the suite: a hosted one ends with its thread's turns, not at the
/// exit of the process.
fn threads() -> Engine {
    Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).unwrap()
}

/// What the processes do that the next test starts; nothing in the process of the tests.
#[test]
#[expect(clippy::disallowed_methods, reason = "this is about an exit that skips destructors")]
fn child_that_sends_and_ends() {
    let (Ok(peer), Ok(how)) = (std::env::var(PEER), std::env::var(HOW)) else { return };
    let network = Network::builder(EXIT_NETWORK).with_engine(threads()).with_bootstrap([peer.as_str()]);
    let network = network.build_blocking().unwrap();
    let producer = network.streams().producer::<String>().with_stream_id(how.as_str()).build().unwrap();
    producer.send_blocking("the last word".into()).unwrap();
    match how.as_str() {
        "exit" => std::process::exit(0),
        "drop and exit" => {
            drop((producer, network));
            std::process::exit(0);
        }
        "panic" => panic!("the end"),
        _ => {}
    }
}

#[test]
fn accepted_datums_survive_every_ordinary_end_of_a_process() {
    let network = Network::builder(NetworkId::from(EXIT_NETWORK)).with_engine(threads()).build_blocking();
    let network = network.unwrap();
    let address = network.local().addresses()[0].to_string();
    let hows = ["exit", "drop and exit", "panic", "return"];
    let consumers = hows.map(|how| network.streams().consumer::<String>().with_stream_id(how).build());
    let children = hows.map(|how| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "flush::child_that_sends_and_ends", "--test-threads", "1"])
            .envs([(PEER, address.as_str()), (HOW, how)])
            .output()
            .unwrap()
    });
    for ((how, mut consumer), child) in hows.into_iter().zip(consumers).zip(children) {
        let word = consumer.recv_timeout(super::support::LIMIT);
        assert_eq!(word.as_deref(), Ok("the last word"), "{how}: {child:?}");
    }
}
