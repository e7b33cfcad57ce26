//! The document "Streams".

use std::time::Duration;

use corewire::streams::{Config, ExponentialBackoffBuilder};
use corewire::*;
use corewire_testkit::within;
use serde::{Deserialize, Serialize};

use super::{Result, alone, settled, tagged};

mod the_datum_trait {
    use corewire::StreamId;
    use serde::{Serialize, de::DeserializeOwned};

    pub trait Datum: Serialize + DeserializeOwned + Send + 'static {
        fn derived_stream_id() -> StreamId {
            core::any::type_name::<Self>().into()
        }
    }

    impl<T: Serialize + DeserializeOwned + Send + 'static> Datum for T {}

    #[test]
    fn trait_as_printed_gives_the_same_ids() {
        fn is_one<T: corewire::Datum>() -> [StreamId; 2] {
            [<T as Datum>::derived_stream_id(), <T as corewire::Datum>::derived_stream_id()]
        }
        let [printed, ours] = is_one::<super::PriceUpdate>();
        assert_eq!(printed, ours);
        assert_eq!(ours, StreamId::from("documents::streams::PriceUpdate"));
    }
}

#[derive(Serialize, Deserialize)]
#[derive(Debug, Clone, PartialEq)] // added
pub // added: a stream that is `pub` has a type that is
struct PriceUpdate {
    symbol: String,
    price: f64,
}
// PriceUpdate is automatically a Datum
// StreamId = blake3("my_crate::PriceUpdate")

fn eth() -> PriceUpdate {
    PriceUpdate { symbol: "ETH".into(), price: 3200.0 }
}

#[tokio::test]
async fn quick_usage() -> Result {
    let network = alone().await;
    let other = network.streams().consume::<PriceUpdate>();

    // Producing data:
    let producer = network.streams().produce::<PriceUpdate>();
    // Wait until at least one consumer is connected
    producer.when().online().await;
    // Send via Sink trait
    use futures::SinkExt;
    producer.send(PriceUpdate { symbol: "ETH".into(), price: 3200.0 }).await?;
    // Or send immediately (non-blocking)
    producer.try_send(PriceUpdate { symbol: "BTC".into(), price: 65000.0 })?;

    assert_eq!(consuming(other).await?, ["ETH: $3200", "BTC: $65000"]);

    // Consuming data:
    let mut consumer = network.streams().consume::<PriceUpdate>();
    // Wait until connected to at least one producer
    consumer.when().online().await;
    producer.send(eth()).await?;
    producer.send(eth()).await?;
    assert_eq!(consuming(consumer).await?, ["ETH: $3200", "ETH: $3200"]);
    Ok(())
}

/// The two loops of "Consuming data", with `println!` replaced by a list and an end.
async fn consuming(mut consumer: Consumer<PriceUpdate>) -> Result<Vec<String>> {
    let mut printed = Vec::new();
    // Receive via async method
    while let Some(update) = consumer.recv().await {
        printed.push(format!("{}: ${}", update.symbol, update.price));
        break;
    }
    // Or use as a futures::Stream
    use futures::StreamExt;
    while let Some(update) = consumer.next().await {
        printed.push(format!("{}: ${}", update.symbol, update.price));
        break;
    }
    Ok(printed)
}

#[tokio::test]
async fn stream_identity() -> Result {
    let network = alone().await;
    let producer = network.streams()
        .producer::<PriceUpdate>()
        .with_stream_id("custom-price-feed")
        .build()?;
    assert_eq!(*producer.stream_id(), StreamId::from("custom-price-feed"));
    let derived = network.streams().produce::<PriceUpdate>();
    assert_ne!(producer.stream_id(), derived.stream_id());
    Ok(())
}

#[tokio::test]
async fn subsystem_configuration() -> Result {
    let config =
    Config::builder()
        .with_backoff(ExponentialBackoffBuilder::default()
            .with_max_elapsed_time(Some(Duration::from_secs(300)))
            .build())
        .build()?;
    assert_eq!(config, Config::default(), "the documented default");
    Ok(())
}

mod the_stream_macro {
    use super::*;

    // The document declares one name four times in one block.
    mod type_derived {
        use super::PriceUpdate;
        use corewire::*;
        // Type-derived StreamId (most common):
        declare::stream!(pub PriceFeed = PriceUpdate);
    }
    mod explicit {
        use super::PriceUpdate;
        use corewire::*;
        // Explicit StreamId:
        declare::stream!(pub PriceFeed = PriceUpdate, "oracle.price");
    }
    mod producer_only {
        use super::PriceUpdate;
        use corewire::*;
        // Producer only:
        declare::stream!(pub producer PriceFeed = PriceUpdate, "oracle.price");
    }
    mod consumer_only {
        use super::PriceUpdate;
        use corewire::*;
        // Consumer only:
        declare::stream!(pub consumer PriceFeed = PriceUpdate, "oracle.price");
    }

    #[tokio::test]
    async fn syntax() -> Result {
        let network = alone().await;
        let mut derived = type_derived::PriceFeed::consumer(&network);
        type_derived::PriceFeed::producer(&network).send(eth()).await?;
        assert_eq!(derived.recv().await, Some(eth()));
        assert_eq!(*derived.stream_id(), PriceUpdate::derived_stream_id());

        let mut named = explicit::PriceFeed::consumer(&network);
        let mut only = consumer_only::PriceFeed::consumer(&network);
        let producer = producer_only::PriceFeed::producer(&network);
        producer.when().subscribed().minimum_of(2).await;
        explicit::PriceFeed::producer(&network).send(eth()).await?;
        assert_eq!((named.recv().await, only.recv().await), (Some(eth()), Some(eth())));
        assert_eq!(*producer.stream_id(), "oracle.price".into());
        Ok(())
    }
}

mod baked_in_configuration {
    use super::*;

    declare::stream!(pub PriceFeed = PriceUpdate, "oracle.price",
        producer require: |peer| peer.tags().contains(&tag!("trusted")),
        producer online_when: |c| c.minimum_of(2),
        consumer require: |peer| true,
    );

    #[tokio::test]
    async fn a_block_of_keys() -> Result {
        let stranger = alone().await;
        let refused = PriceFeed::consumer(&stranger);
        let producer = PriceFeed::producer(&stranger);
        settled(&stranger).await;
        assert_eq!(producer.consumers().count(), 0);
        assert!(!refused.is_online());

        let network = tagged("trusted").await;
        let producer = PriceFeed::producer(&network);
        let _first = PriceFeed::online_consumer(&network).await;
        within(producer.when().subscribed()).await;
        assert!(!producer.is_online(), "two consumers are required");
        let _second = PriceFeed::online_consumer(&network).await;
        within(producer.when().online()).await;
        Ok(())
    }
}

mod ambiguous_keys {
    use super::*;

    stream!(pub PriceFeed = PriceUpdate,
        producer online_when: |c| c.minimum_of(2),
        consumer online_when: |c| c.minimum_of(1),
    );

    #[tokio::test]
    async fn prefixed_conditions() -> Result {
        let network = alone().await;
        let producer = PriceFeed::producer(&network);
        let one = within(PriceFeed::online_consumer(&network)).await;
        assert!(one.is_online() && !producer.is_online());
        let _two = within(PriceFeed::online_consumer(&network)).await;
        within(producer.when().online()).await;
        Ok(())
    }
}

mod usage {
    use super::PriceUpdate;
    use corewire::*;

    declare::stream!(pub PriceFeed = PriceUpdate, "oracle.price");

    struct MyType {
        producer: ProducerOf<PriceFeed>,
    }

    impl MyType {
        pub fn new(network: &corewire::Network) -> Self {
            Self { producer: PriceFeed::producer(network) }
        }
    }

    #[tokio::test]
    async fn a_field_of_the_declared_type() -> super::Result {
        let network = super::alone().await;
        let mut consumer: ConsumerOf<PriceFeed> = PriceFeed::consumer(&network);
        MyType::new(&network).producer.send(super::eth()).await?;
        assert_eq!(consumer.recv().await, Some(super::eth()));
        Ok(())
    }

    #[tokio::test]
    async fn online_producer_and_online_consumer() -> super::Result {
        let network = super::alone().await;
        let consumer = PriceFeed::consumer(&network);
        // These two are equivalent:
        let producer = PriceFeed::producer(&network);
        producer.when().online().await;
        let producer = PriceFeed::online_producer(&network).await;
        assert!(producer.is_online());
        let consumer = PriceFeed::online_consumer(&network).await;
        assert!(consumer.is_online());
        Ok(())
    }
}

mod stream_id_derivation {
    use corewire::*;

    const MY_STREAM: StreamId = unique_id!("my.stream");
    declare::stream!(pub MyStream = String, MY_STREAM);

    #[test]
    fn a_const_expression() {
        assert_eq!(MyStream::STREAM_ID, StreamId::from("my.stream"));
    }
}

mod doc_comments {
    use super::PriceUpdate;
    use corewire::*;

    declare::stream!(
        /// The primary price oracle feed.
        pub PriceFeed = PriceUpdate, "oracle.price"
    );

    #[test]
    fn stand_before_the_visibility() {
        assert_eq!(PriceFeed::STREAM_ID, StreamId::from("oracle.price"));
    }
}

#[tokio::test]
async fn stream_definitions() -> Result {
    use corewire::{unique_id, streams::{ProducerDef, ConsumerDef}};
    const PRICES: ProducerDef<PriceUpdate> =
        ProducerDef::new(Some(unique_id!("prices")));
    let network = alone().await;
    // Returns a pre-configured builder
    let producer = PRICES.open(&network).build()?;

    const CONSUMED: ConsumerDef<PriceUpdate> = ConsumerDef::new(Some(unique_id!("prices")));
    let mut consumer = CONSUMED.open(&network).build();
    producer.send(eth()).await?;
    assert_eq!(consumer.recv().await, Some(eth()));
    Ok(())
}
