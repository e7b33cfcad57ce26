//! The part "Streams" of the README.

use corewire::{Network, NetworkId};
use corewire_testkit::within;
use futures::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};

use super::{Result, settled};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Data1(u64);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_networks() -> Result {
    let network_id = NetworkId::random();

    let n0 = Network::new(network_id).await?;
    let n1 = Network::new(network_id).await?;
    let n2 = Network::new(network_id).await?;

    let mut p0 = n0.streams().produce::<Data1>();
    let mut c1 = n1.streams().consume::<Data1>();
    let mut c2 = n2.streams().consume::<Data1>();

    // await topology formation
    p0.when().subscribed().minimum_of(2).await;

    // produce item (implements futures::Sink)
    p0.send(Data1(42)).await?;

    // consume item (implements futures::Stream)
    assert_eq!(c1.next().await, Some(Data1(42)));
    assert_eq!(c2.next().await, Some(Data1(42)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_configuration() -> Result {
    let network_id = NetworkId::random();
    let network = Network::builder(network_id).with_tags(["tag1", "tag2"]).build().await?;

    let producer = network
        .streams()
        .producer::<Data1>()
        .accept_if(|peer| peer.tags().contains("tag1"))
        .online_when(|c| c.minimum_of(2))
        .with_max_consumers(4)
        .build()?;

    let mut consumer =
        network.streams().consumer::<Data1>().subscribe_if(|peer| peer.tags().contains("tag2")).build();

    within(producer.when().subscribed()).await;
    assert!(!producer.is_online(), "online needs two");
    // Both predicates keep the others out.
    let without_tag1 = Network::builder(network_id).with_tags("tag2").build().await?;
    let refused = without_tag1.streams().consume::<Data1>();
    settled(&without_tag1).await;
    assert_eq!(producer.consumers().count(), 1);
    assert!(!refused.is_online());
    let without_tag2 = Network::builder(network_id).with_tags("tag1").build().await?;
    let unwanted = without_tag2.streams().produce::<Data1>();

    let mut second = network.streams().consume::<Data1>();
    within(producer.send(Data1(1))).await?;
    assert_eq!(within(consumer.recv()).await, Some(Data1(1)));
    assert_eq!(within(second.recv()).await, Some(Data1(1)));
    within(unwanted.when().subscribed().minimum_of(2)).await;
    settled(&network).await;
    assert_eq!(unwanted.consumers().count(), 2, "of three consumers one wants `tag2`");
    Ok(())
}
