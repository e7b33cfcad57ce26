//! The snippets of the stream documents that this API takes after, as they stand there. What they use of the
//! world around them is above each; inside, only `mosaik` became `corewire`.

#![allow(unused_imports, clippy::needless_return, clippy::never_loop)]

use std::time::Duration;

use corewire::streams::producer::{BuilderError, Error};
use corewire::streams::{Config, ExponentialBackoffBuilder};
use corewire::*;
use serde::{Deserialize, Serialize};

use super::support::{alone, within};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct PriceUpdate {
    symbol: String,
    price: f64,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct MyDatum(u8);

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::test]
async fn producing_and_consuming_data() -> Result {
    let network = alone().await;
    let other = network.streams().consume::<PriceUpdate>();

    let producer = network.streams().produce::<PriceUpdate>();

    // Wait until at least one consumer is connected
    producer.when().online().await;

    // Send via Sink trait
    use futures::SinkExt;
    producer.send(PriceUpdate { symbol: "ETH".into(), price: 3200.0 }).await?;

    // Or send immediately (non-blocking)
    producer.try_send(PriceUpdate { symbol: "BTC".into(), price: 65000.0 })?;

    let mut consumer = other;

    // Wait until connected to at least one producer
    consumer.when().online().await;

    let mut seen = Vec::new();
    // Receive via async method
    while let Some(update) = consumer.recv().await {
        seen.push(format!("{}: ${}", update.symbol, update.price));
        break;
    }

    // Or use as a futures::Stream
    use futures::StreamExt;
    while let Some(update) = consumer.next().await {
        seen.push(format!("{}: ${}", update.symbol, update.price));
        break;
    }
    assert_eq!(seen, ["ETH: $3200", "BTC: $65000"]);
    Ok(())
}

#[tokio::test]
async fn stream_identity() -> Result {
    let network = alone().await;
    let producer = network.streams().producer::<PriceUpdate>().with_stream_id("custom-price-feed").build()?;
    assert_eq!(*producer.stream_id(), StreamId::from("custom-price-feed"));
    let derived = network.streams().produce::<PriceUpdate>();
    assert_eq!(*derived.stream_id(), PriceUpdate::derived_stream_id());
    assert_eq!(PriceUpdate::derived_stream_id(), core::any::type_name::<PriceUpdate>().into());
    Ok(())
}

#[tokio::test]
async fn subsystem_configuration() -> Result {
    let config = Config::builder()
        .with_backoff(
            ExponentialBackoffBuilder::default()
                .with_max_elapsed_time(Some(Duration::from_secs(300)))
                .build(),
        )
        .build()?;
    assert_eq!(config, Config::default(), "the documented default");
    let network = Network::builder(NetworkId::random()).with_streams_config(config.clone()).build().await?;
    assert_eq!(network.streams().config(), &config);
    Ok(())
}

#[tokio::test]
async fn stream_definitions() -> Result {
    use corewire::{
        streams::{ConsumerDef, ProducerDef},
        unique_id,
    };

    const PRICES: ProducerDef<PriceUpdate> = ProducerDef::new(Some(unique_id!("prices")));

    let network = alone().await;
    // Returns a pre-configured builder
    let producer = PRICES.open(&network).build()?;

    const CONSUMED: ConsumerDef<PriceUpdate> = ConsumerDef::new(Some(unique_id!("prices")));
    let consumer = CONSUMED.open(&network).build();
    assert_eq!(producer.stream_id(), consumer.stream_id());
    assert_eq!(*producer.stream_id(), StreamId::from("prices"));
    within(producer.when().online()).await;
    Ok(())
}

#[tokio::test]
async fn builder_in_full() -> Result {
    let network = alone().await;
    let producer = network
        .streams()
        .producer::<MyDatum>()
        .require(|peer| peer.tags().contains(&"trusted".into()))
        .online_when(|c| c.minimum_of(2).with_tags("validator"))
        .disconnect_lagging(true)
        .with_buffer_size(2048)
        .with_max_consumers(10)
        .with_stream_id("custom-id")
        .build()?;
    assert!(!producer.is_online());
    Ok(())
}

#[tokio::test]
async fn try_send_gives_the_datum_back() -> Result {
    let network = alone().await;
    let producer = network.streams().produce::<MyDatum>();
    let datum = MyDatum(9);
    match producer.try_send(datum) {
        Ok(()) => { /* sent to fanout */ }
        Err(Error::Offline(d)) => {
            assert_eq!(d, MyDatum(9)); /* no consumers, datum returned */
            return Ok(());
        }
        Err(Error::Full(_d)) => { /* buffer full, datum returned */ }
        Err(Error::Closed(_d)) => { /* producer closed */ }
    }
    panic!("nobody listens");
}

#[tokio::test]
async fn online_conditions() -> Result {
    let network = alone().await;
    let datum = MyDatum(1);
    // Online when at least 3 validators are subscribed
    let producer = network
        .streams()
        .producer::<MyDatum>()
        .online_when(|c| c.minimum_of(3).with_tags("validator"))
        .build()?;

    if producer.is_online() {
        producer.try_send(datum)?;
    }
    Ok(())
}

#[tokio::test]
async fn observing_status() -> Result {
    let network = Network::builder(NetworkId::random()).with_tags("validator").build().await?;
    let producer = network.streams().produce::<MyDatum>();
    let consumers = [0; 3].map(|_| network.streams().consume::<MyDatum>());

    within(async {
        // Wait until online
        producer.when().online().await;

        // Wait until subscribed by at least one peer
        producer.when().subscribed().await;

        // Wait until subscribed by at least N peers
        producer.when().subscribed().minimum_of(3).await;

        // Wait until subscribed by peers with specific tags
        producer.when().subscribed().with_tags("validator").await;
    })
    .await;
    drop(consumers);
    within(async {
        // Wait until offline
        producer.when().offline().await;

        // Wait until no subscribers
        producer.when().unsubscribed().await;
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn inspecting_consumers() -> Result {
    let network = alone().await;
    let producer = network.streams().produce::<MyDatum>();
    let _consumer = network.streams().consume::<MyDatum>();
    within(producer.when().online()).await;
    let mut lines = Vec::new();
    for info in producer.consumers() {
        lines.push(format!(
            "Consumer {} connected to stream {} — state: {:?}, stats: {}",
            info.consumer_id(),
            info.stream_id(),
            info.state(),
            info.stats(),
        ));
    }
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("state: Connected, stats: uptime: "), "{}", lines[0]);
    Ok(())
}

#[tokio::test]
async fn builder_errors() -> Result {
    let network = alone().await;
    let first = network.streams().produce::<MyDatum>();
    let producer = match network.streams().producer::<MyDatum>().build() {
        Ok(new) => new,
        Err(BuilderError::AlreadyExists(existing)) => existing,
    };
    assert_eq!(producer.stream_id(), first.stream_id());
    Ok(())
}

#[test]
fn ids_at_compile_time() {
    const MY_STREAM: StreamId = unique_id!("my.stream");
    const JWT_TICKET: UniqueId = unique_id!("my-app.jwt");
    assert_eq!(MY_STREAM, "my.stream".into());
    assert_ne!(MY_STREAM, JWT_TICKET.into());
    assert_eq!(tag!("trusted"), Tag::from("trusted"));
}
