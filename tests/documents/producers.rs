//! The document "Producers".

use corewire::streams::Criteria;
use corewire::streams::producer::{BuilderError, Error};
use corewire::{Network, NetworkId, Producer};
use corewire_testkit::within;

use super::{MyDatum, Result, alone, tagged};

#[tokio::test]
async fn creating_producers() -> Result {
    let network = alone().await;
    let producer = network.streams().produce::<MyDatum>();
    // If a producer for this datum type already exists, the existing one is returned.
    assert_eq!(network.streams().produce::<MyDatum>().stream_id(), producer.stream_id());

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
    assert_eq!(producer.stats().capacity, 2048);
    Ok(())
}

#[tokio::test]
async fn via_the_sink_trait() -> Result {
    let network = alone().await;
    let mut consumer = network.streams().consume::<MyDatum>();
    let producer = network.streams().produce::<MyDatum>();
    let datum = MyDatum(3);

    use futures::SinkExt;

    // Blocks until at least one consumer is connected (default online condition)
    producer.send(datum).await?;

    assert_eq!(consumer.recv().await, Some(MyDatum(3)));
    Ok(())
}

#[tokio::test]
async fn via_try_send() -> Result {
    let network = alone().await;
    let producer = network.streams().producer::<MyDatum>().with_buffer_size(1).build()?;

    fn offer(producer: &Producer<MyDatum>, datum: MyDatum) -> (&'static str, Option<MyDatum>) {
        match producer.try_send(datum) {
            Ok(()) => { /* sent to fanout */ }
            Err(Error::Offline(d)) => {
                /* no consumers, datum returned */
                return ("offline", Some(d));
            }
            Err(Error::Full(d)) => {
                /* buffer full, datum returned */
                return ("full", Some(d));
            }
            Err(Error::Closed(d)) => {
                /* producer closed */
                return ("closed", Some(d.into_inner()));
            }
        }
        ("sent", None)
    }

    assert_eq!(offer(&producer, MyDatum(1)), ("offline", Some(MyDatum(1))));
    let _consumer = network.streams().consume::<MyDatum>();
    within(producer.when().online()).await;
    assert_eq!(offer(&producer, MyDatum(2)), ("sent", None));
    assert_eq!(offer(&producer, MyDatum(3)), ("full", Some(MyDatum(3))));
    producer.close();
    assert_eq!(offer(&producer, MyDatum(4)), ("closed", Some(MyDatum(4))));
    Ok(())
}

#[tokio::test]
async fn online_conditions() -> Result {
    let network = tagged("validator").await;
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
    assert_eq!(producer.stats().accepted, 0);
    let _three = [0; 3].map(|_| network.streams().consume::<MyDatum>());
    within(producer.when().online()).await;
    Ok(())
}

#[tokio::test]
async fn observing_status() -> Result {
    let network = tagged("validator").await;
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
    let mut printed = Vec::new();
    for info in producer.consumers() {
        printed.push(format!(
            "Consumer {} connected to stream {} — state: {:?}, stats: {}",
            info.consumer_id(),
            info.stream_id(),
            info.state(),
            info.stats(),
        ));
    }
    assert_eq!(printed.len(), 1);
    assert!(printed[0].contains("state: Connected, stats: uptime: "), "{}", printed[0]);
    Ok(())
}

#[tokio::test]
async fn undelivered_sink() -> Result {
    let network = alone().await;
    let mut warned: Vec<String> = Vec::new();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();

    let producer = network.streams().producer::<MyDatum>().with_undelivered_sink(tx).build()?;
    let mut consumer = network.streams().consume::<MyDatum>();
    within(producer.send(MyDatum(1))).await?;
    assert_eq!(within(consumer.recv()).await, Some(MyDatum(1)));
    drop((producer, consumer));

    // In another task
    within(async {
        while let Some(datum) = rx.recv().await {
            warned.push(format!("Datum had no matching consumer: {:?}", datum));
        }
    })
    .await;
    assert!(warned.is_empty(), "the consumer wants all: {warned:?}");

    // The note below the block: connected consumers' criteria reject the datum.
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let builder = network.streams().producer::<MyDatum>().with_stream_id("keyed").with_key(|datum| datum.0);
    let producer = builder.with_undelivered_sink(tx).build()?;
    let builder = network.streams().consumer::<MyDatum>().with_stream_id("keyed");
    let _consumer = builder.with_criteria(Criteria::key(7)).build();
    within(producer.send(MyDatum(8))).await?;
    within(producer.send(MyDatum(7))).await?;
    assert_eq!(within(rx.recv()).await, Some(MyDatum(8)));
    assert!(rx.try_recv().is_err());
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
