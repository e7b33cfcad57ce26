//! Limits of the bandwidth as users meet them. How exact they are is tested in virtual time, in the engine.

use std::time::{Duration, Instant};

use corewire::network::NetworkError;
use corewire::streams::producer::TryBuildError;
use corewire::{Consumer, Network, NetworkId, Producer};

use super::support::{alone, apart, engine, within};

/// Bytes of a datum, how many are sent, and how long they take at least under a limit of 400,000 bytes per
/// second, of which the first hundredth of a second is a burst and one turn is not waited for.
const DATUM: usize = 1_000;
const DATUMS: usize = 200;
const RATE: u64 = 400_000;
const LEAST: Duration = Duration::from_millis(450);

/// Sends everything to a consumer of `there`; returns how long that took, and the consumer.
async fn send_all(producer: &Producer<Vec<u8>>, there: &Network) -> (Duration, Consumer<Vec<u8>>) {
    let consumer = there.streams().consumer::<Vec<u8>>().with_stream_id(*producer.stream_id());
    let mut consumer = consumer.build();
    within(producer.when().online()).await;
    let began = Instant::now();
    for _ in 0..DATUMS {
        within(producer.send(vec![7; DATUM])).await.unwrap();
    }
    for _ in 0..DATUMS {
        assert_eq!(within(consumer.recv()).await.map(|datum| datum.len()), Some(DATUM));
    }
    (began.elapsed(), consumer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_limited_producer_takes_its_time_and_counts_the_waits() {
    let nodes = apart(2).await;
    let builder = nodes[0].streams().producer::<Vec<u8>>();
    let producer = builder.with_stream_id("limited").with_max_bandwidth(RATE).build().unwrap();
    // Kept: a channel whose consumer is gone is not listed.
    let (took, _consumer) = send_all(&producer, &nodes[1]).await;
    assert!(took >= LEAST, "{took:?}");
    let stats = producer.consumers().next().unwrap().stats();
    assert!(stats.paced() > 0, "{stats}");
    assert!(stats.paced_for() > LEAST / 2 && stats.paced_for() <= took, "{:?}", stats.paced_for());
    assert!(stats.to_string().contains("paced: "), "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_limited_network_takes_its_time_for_all_streams() {
    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(engine()).with_max_bandwidth(2 * RATE).build().await.unwrap();
    let there = Network::builder(id).with_engine(engine()).build().await.unwrap();
    let producer = |name| here.streams().producer().with_stream_id(name).build().unwrap();
    let (one, other) = (producer("one"), producer("other"));
    let began = Instant::now();
    tokio::join!(send_all(&one, &there), send_all(&other, &there));
    assert!(began.elapsed() >= LEAST, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_bandwidth_of_nothing_is_an_error() {
    let network = alone().await;
    let producer = network.streams().producer::<u64>().with_max_bandwidth(0).try_build();
    assert!(matches!(producer, Err(TryBuildError::NoBandwidth)));
    let refused = Network::builder(NetworkId::random()).with_max_bandwidth(0).build().await;
    assert!(matches!(refused, Err(NetworkError::NoBandwidth)));
}
