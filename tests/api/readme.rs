//! The first example of the project that this API takes after: three networks, one producer, two consumers.

// `SinkExt` is imported because the example imports it; the handle's own `send` is what the example calls,
// and it asks for no `mut`.
#![allow(unused_imports, unused_mut)]

use corewire::{Network, NetworkId};
use futures::{SinkExt, StreamExt};

use super::support::{Data1, apart, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_networks_one_producer_two_consumers() -> Result<(), Box<dyn std::error::Error>> {
    let network_id = NetworkId::random();

    let n0 = Network::new(network_id).await?;
    let n1 = Network::new(network_id).await?;
    let n2 = Network::new(network_id).await?;

    let mut p0 = n0.streams().produce::<Data1>();
    let mut c1 = n1.streams().consume::<Data1>();
    let mut c2 = n2.streams().consume::<Data1>();

    // await topology formation
    within(p0.when().subscribed().minimum_of(2)).await;

    // produce item (implements futures::Sink)
    within(p0.send(Data1(42))).await?;

    // consume item (implements futures::Stream)
    assert_eq!(within(c1.next()).await, Some(Data1(42)));
    assert_eq!(within(c2.next()).await, Some(Data1(42)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_networks_on_three_engines() -> Result<(), Box<dyn std::error::Error>> {
    let nodes = apart(3).await;
    let mut p0 = nodes[0].streams().produce::<Data1>();
    let mut c1 = nodes[1].streams().consume::<Data1>();
    let mut c2 = nodes[2].streams().consume::<Data1>();

    within(p0.when().subscribed().minimum_of(2)).await;
    within(p0.send(Data1(42))).await?;
    assert_eq!(within(c1.next()).await, Some(Data1(42)));
    assert_eq!(within(c2.next()).await, Some(Data1(42)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_and_consumers_can_be_further_configured() {
    let id = NetworkId::random();
    let network = Network::builder(id).with_tags(["tag1", "tag2"]).build().await.unwrap();

    let producer = network
        .streams()
        .producer::<Data1>()
        .accept_if(|peer| peer.tags().contains("tag1"))
        .online_when(|c| c.minimum_of(2))
        .with_max_consumers(4)
        .build()
        .unwrap();

    let mut consumer =
        network.streams().consumer::<Data1>().subscribe_if(|peer| peer.tags().contains("tag2")).build();

    within(producer.when().subscribed()).await;
    assert!(!producer.is_online(), "online needs two");
    let mut second = network.streams().consume::<Data1>();
    within(producer.send(Data1(1))).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(Data1(1)));
    assert_eq!(within(second.recv()).await, Some(Data1(1)));
}
