//! Declared streams beyond the document: each form of a declaration carries datums, with the type and the
//! configuration that it names.

use core::time::Duration;

use corewire::streams::producer::Error;
use corewire::streams::{Criteria, ExponentialBackoffBuilder};
use corewire::*;
use corewire_testkit::within;

use super::{MyDatum, Result, alone, settled, tagged};

/// Sends one datum from a declared producer to a declared consumer.
async fn datum_flows<P, C>(network: &Network, datum: P::Datum) -> C::Datum
where
    P: StreamProducer<Producer = Producer<<P as StreamProducer>::Datum, <P as StreamProducer>::Codec>>,
    C: StreamConsumer<Consumer = Consumer<<C as StreamConsumer>::Datum, <C as StreamConsumer>::Codec>>,
{
    let mut consumer = C::consumer(network);
    let producer = within(P::online_producer(network)).await;
    producer.try_send(datum).expect("it is online");
    within(consumer.recv()).await.expect("one datum")
}

declare::stream!(Simple = MyDatum);
declare::stream!(pub(crate) Named = MyDatum, "a.name");
declare::stream!(pub Decoded = MyDatum, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF");
const CONST_ID: StreamId = unique_id!("a.constant");
declare::stream!(ConstId = MyDatum, CONST_ID);
declare::stream!(producer ProducerOnly = MyDatum, "one side");
declare::stream!(consumer ConsumerOnly = MyDatum, "one side");
declare::stream!(pub Wrapped<T: Datum> = Option<T>, "wrapped");
declare::stream!(Ticks = [f64; 2], "ticks", codec: Plain);

declare::stream!(Keyed = MyDatum, "keyed",
    key: |datum: &MyDatum| datum.0,
    undelivered_sink: |datum: MyDatum| UNWANTED.lock().unwrap().push(datum),
    criteria: Criteria::range(5..10),
);

/// What no consumer of `Keyed` wanted.
static UNWANTED: std::sync::Mutex<Vec<MyDatum>> = std::sync::Mutex::new(Vec::new());

#[tokio::test]
async fn stream_macro_with_criteria() {
    let network = alone().await;
    let mut consumer = Keyed::consumer(&network);
    let producer = within(Keyed::online_producer(&network)).await;
    for number in [4, 5, 10] {
        within(producer.send(MyDatum(number))).await.unwrap();
    }
    assert_eq!(within(consumer.recv()).await, Some(MyDatum(5)));
    assert_eq!(*UNWANTED.lock().unwrap(), [MyDatum(4), MyDatum(10)]);
}

#[tokio::test]
async fn stream_macro_simple() {
    let network = alone().await;
    assert_eq!(Simple::stream_id(), MyDatum::derived_stream_id());
    assert_eq!(datum_flows::<Simple, Simple>(&network, MyDatum(1)).await, MyDatum(1));
}

#[tokio::test]
async fn stream_macro_named() {
    let network = alone().await;
    assert_eq!(Named::STREAM_ID, StreamId::from("a.name"));
    assert_eq!(Decoded::STREAM_ID.as_bytes()[28..], [28, 29, 30, 255]);
    assert_eq!(datum_flows::<Named, Named>(&network, MyDatum(2)).await, MyDatum(2));
    assert_eq!(datum_flows::<Decoded, Decoded>(&network, MyDatum(3)).await, MyDatum(3));
}

#[tokio::test]
async fn stream_macro_const_id() {
    let network = alone().await;
    assert_eq!((ConstId::STREAM_ID, ConstId::stream_id()), (CONST_ID, CONST_ID));
    assert_eq!(datum_flows::<ConstId, ConstId>(&network, MyDatum(4)).await, MyDatum(4));
}

#[tokio::test]
async fn stream_macro_producer_only() {
    let network = alone().await;
    assert_eq!(datum_flows::<ProducerOnly, ConsumerOnly>(&network, MyDatum(5)).await, MyDatum(5));
}

#[tokio::test]
async fn generic_stream_is_declared_for_each_type() {
    let network = alone().await;
    assert_eq!(datum_flows::<Wrapped<u8>, Wrapped<u8>>(&network, Some(6)).await, Some(6));
    assert_eq!(Wrapped::<String>::STREAM_ID, StreamId::from("wrapped"));
}

#[tokio::test]
async fn declared_codec_is_that_of_both_handles() {
    let network = alone().await;
    assert_eq!(datum_flows::<Ticks, Ticks>(&network, [1.5, 2.5]).await, [1.5, 2.5]);
    let _: (Producer<[f64; 2], Plain>, Consumer<[f64; 2], Plain>) =
        (Ticks::producer(&network), Ticks::consumer(&network));
}

declare::stream!(pub Configured = Vec<u8>, "configured",
    max_consumers: 1,
    buffer_size: 2,
    max_bandwidth: 1 << 30,
    buffer_bytes: 1 << 20,
    max_datum_bytes: 100,
    disconnect_lagging: false,
    resume_for: Duration::from_secs(3),
    on_full: BackpressurePolicy::DegradeQuality,
    degrader: |datum| datum[..1].to_vec(),
    fairness_weight: 3,
    backoff: ExponentialBackoffBuilder::new().with_max_interval(Duration::from_secs(1)).build(),
    window_bytes: 1 << 16,
    window_datums: 64,
    require: |peer| peer.has_tag("trusted"),
    require: |peer| peer.has_tag("known"),
    online_when: |c| c.with_tags("trusted"),
    reliability: Reliability::FireAndForget,
);

#[tokio::test]
async fn stream_macro_configured() -> Result {
    let network = Network::builder(NetworkId::random()).with_tags(["trusted", "known"]).build().await?;
    let mut first = Configured::consumer(&network);
    let producer = within(Configured::online_producer(&network)).await;
    let second = Configured::consumer(&network);
    settled(&network).await;
    assert!(!second.is_online(), "max_consumers");
    assert_eq!(producer.try_send(vec![0; 200]), Err(Error::too_large(vec![0; 200], 100)));
    for n in 0..3 {
        producer.try_send(vec![n, n])?;
    }
    assert_eq!((within(first.recv()).await, within(first.recv()).await), (Some(vec![1, 1]), Some(vec![2])));
    Ok(())
}

#[tokio::test]
async fn declared_requirements_add_up() -> Result {
    let network = tagged("trusted").await;
    let consumer = Configured::consumer(&network);
    let producer = Configured::producer(&network);
    settled(&network).await;
    assert!(!consumer.is_online() && producer.consumers().next().is_none(), "`known` is missing");
    Ok(())
}

#[tokio::test]
async fn second_declared_producer_is_the_first_one() -> Result {
    let network = alone().await;
    let first = Named::producer(&network);
    assert_eq!(Named::producer(&network).try_send(MyDatum(1)), Err(Error::Offline(MyDatum(1))));
    assert_eq!(first.stats().refused_offline, 1);
    assert!(Named::producer_builder(&network).with_buffer_size(0).try_build().is_err());
    Ok(())
}

declare::stream!(ByProducer = MyDatum, "by the producer", producer require: |peer| peer.has_tag("trusted"));
declare::stream!(ByConsumer = MyDatum, "by the consumer", consumer require: |peer| peer.has_tag("trusted"));

/// Asserts that of `ByProducer` and `ByConsumer` only the one with this index connects a producer on one node
/// with a consumer on the other.
async fn connects(producing: &Network, consuming: &Network, index: usize) {
    let consumers = [ByProducer::consumer(consuming), ByConsumer::consumer(consuming)];
    let _producers = [ByProducer::producer(producing), ByConsumer::producer(producing)];
    within(consumers[index].when().online()).await;
    settled(consuming).await;
    assert!(!consumers[1 - index].is_online());
}

#[tokio::test]
async fn stream_macro_producer_require_and_consumer_require() -> Result {
    let id = NetworkId::random();
    let trusted = Network::builder(id).with_tags("trusted").build().await?;
    let other = Network::new(id).await?;
    // The producer asks for a trusted consumer, the consumer for a trusted producer.
    connects(&other, &trusted, 0).await;
    connects(&trusted, &other, 1).await;
    Ok(())
}
