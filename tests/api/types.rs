//! Both ends of a stream have to agree on datum type and codec.

use corewire::network::BeaconReach;
use corewire::streams::consumer::RecvRefusal;
use corewire::streams::producer::{Error, TryBuildError, UnsendableCause};
use corewire::streams::{CloseCode, ConsumerEvent, ProducerEvent};
use corewire::{Network, NetworkId, Plain, PlainLayout};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::support::{LIMIT, alone, apart, poll_once, within};

mod theirs {
    use corewire::PlainLayout;
    use serde::{Deserialize, Serialize};
    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    pub(super) struct Rate {
        pub(super) name: String,
        pub(super) value: f64,
    }

    /// [`Tick`](super::Tick) under names of another program.
    #[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout, Debug, PartialEq)]
    #[repr(C)]
    pub(super) struct Sample {
        pub(super) at: u64,
        pub(super) value: f64,
    }
}

#[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Tick {
    time: u64,
    price: f64,
}

/// Has the size and alignment of [`Tick`].
#[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Trade {
    time: u64,
    price: i64,
}

#[derive(Serialize, Deserialize)]
struct Price {
    symbol: String,
    price: f64,
}

/// The price of another version of the program.
#[derive(Serialize, Deserialize, Debug)]
struct Price2 {
    symbol: String,
    price: f32,
}

/// A producer of `Price` at `here` refuses a consumer of `Price2` at `there`, and both ends know why.
async fn refuses_another_type(here: &Network, there: &Network) {
    let mut consumer = there.streams().consumer::<Price2>().with_stream_id("prices").build();
    let mut consumed = consumer.events();
    let producer = here.streams().producer::<Price>().with_stream_id("prices").build().unwrap();
    let mut produced = producer.events();
    let refused = within(consumed.recv()).await.unwrap();
    let ConsumerEvent::Refused { producer: by, code, retries, mismatch } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((by, code, retries), (*here.local().id(), CloseCode::TYPE_MISMATCH, false));
    let mismatch = mismatch.expect("what differs");
    assert!(mismatch.ours.as_str().ends_with("Price2 as Postcard"), "{mismatch}");
    assert!(mismatch.theirs.as_str().ends_with("Price as Postcard"), "{mismatch}");

    let refused = within(produced.recv()).await.unwrap();
    let ProducerEvent::Refused { consumer: whom, code, retries, mismatch: seen } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((whom, code, retries), (*there.local().id(), CloseCode::TYPE_MISMATCH, false));
    let seen = seen.expect("what differs");
    assert_eq!((&seen.ours, &seen.theirs), (&mismatch.theirs, &mismatch.ours));

    within(consumer.when().refused()).await;
    assert!(!consumer.is_online());
    let channel = consumer.producers().next().expect("the refused channel");
    assert_eq!(channel.close_code(), Some(CloseCode::TYPE_MISMATCH));
    match within(consumer.recv_or_refusal()).await {
        Err(RecvRefusal::Refused { producer, code: CloseCode::TYPE_MISMATCH, mismatch: Some(told) }) => {
            assert_eq!((producer, told), (*here.local().id(), mismatch));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn another_type_is_refused_within_an_engine() {
    let network = alone().await;
    refuses_another_type(&network, &network).await;
    assert_eq!(counted(&network), 2, "at either end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn another_type_is_refused_between_engines() {
    let nodes = apart(2).await;
    refuses_another_type(&nodes[0], &nodes[1]).await;
    assert_eq!((counted(&nodes[0]), counted(&nodes[1])), (1, 1));
}

fn counted(network: &Network) -> u64 {
    network.stats().type_mismatch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_type_of_the_same_shape_is_let_in_under_any_name() {
    let nodes = apart(2).await;
    let mut consumer = nodes[1].streams().consumer::<theirs::Rate>().with_stream_id("prices").build();
    let producer = nodes[0].streams().producer::<Price>().with_stream_id("prices").build().unwrap();
    within(producer.send(Price { symbol: "ETH".into(), price: 3200.0 })).await.unwrap();
    let rate = within(consumer.recv_or_refusal()).await.unwrap();
    assert_eq!(rate, theirs::Rate { name: "ETH".into(), value: 3200.0 });
}

/// A producer of `Tick` refuses a consumer of `Trade`, and admits one of `Sample`.
async fn compares_plain_structs(here: &Network, there: &Network) {
    let producer = here.streams().producer::<Tick>().with_stream_id("ticks").codec(Plain).build().unwrap();
    let mut produced = producer.events();
    let mut other = there.streams().consumer::<Trade>().with_stream_id("ticks").codec(Plain).build();
    let Err(RecvRefusal::Refused { mismatch: Some(told), .. }) = within(other.recv_or_refusal()).await else {
        panic!("no refusal")
    };
    assert!(told.ours.as_str().ends_with("Trade as Plain"), "{told}");
    assert!(told.theirs.as_str().ends_with("Tick as Plain"), "{told}");
    let refused = within(produced.recv()).await.unwrap();
    let ProducerEvent::Refused { mismatch: Some(seen), .. } = refused else { panic!("{refused:?}") };
    assert_eq!((&seen.ours, &seen.theirs), (&told.theirs, &told.ours));

    let mut same = there.streams().consumer::<theirs::Sample>().with_stream_id("ticks").codec(Plain).build();
    within(producer.send(Tick { time: 7, price: 1.5 })).await.unwrap();
    assert_eq!(within(same.recv()).await, Some(theirs::Sample { at: 7, value: 1.5 }));
}

#[tokio::test(crate = "crate::support::host")]
async fn plain_structs_of_one_size_are_told_apart_within_an_engine() {
    let network = alone().await;
    compares_plain_structs(&network, &network).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn plain_structs_of_one_size_are_told_apart_between_engines() {
    let nodes = apart(2).await;
    compares_plain_structs(&nodes[0], &nodes[1]).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn a_refusal_is_not_told_while_another_producer_is_being_reached() {
    let id = NetworkId::random();
    let node = async || Network::builder(id).with_beacon(BeaconReach::Off).build().await.unwrap();
    // Its entry is known, and it does not answer.
    let (gone, witness) = (node().await, node().await);
    let _elsewhere = gone.streams().producer::<u64>().with_stream_id("counts").build().unwrap();
    within(witness.discovery().when().peers().with_streams(["counts"]).into_future()).await;
    let entry = gone.discovery().export().await.unwrap();
    gone.shutdown(LIMIT).await.unwrap();
    witness.shutdown(LIMIT).await.unwrap();
    let here = node().await;
    let peer = here.discovery().feed(&entry).unwrap();
    within(here.discovery().when().peer(peer).with_streams(["counts"]).into_future()).await;
    let mut consumer = here.streams().consumer::<u64>().with_stream_id("counts").build();
    let _other = here.streams().producer::<f32>().with_stream_id("counts").build().unwrap();
    within(consumer.when().refused()).await;
    assert!(poll_once(&mut consumer.recv_or_refusal()).0.is_pending());
}

#[tokio::test(crate = "crate::support::host")]
async fn another_codec_is_refused() {
    let network = alone().await;
    let producer = network.streams().producer::<f64>().with_stream_id("one").codec(Plain).build().unwrap();
    let postcard = network.streams().consumer::<f64>().with_stream_id("one").build();
    let integers = network.streams().consumer::<u64>().with_stream_id("one").codec(Plain).build();
    let same = network.streams().consumer::<f64>().with_stream_id("one").codec(Plain).build();
    within(postcard.when().refused()).await;
    within(integers.when().refused()).await;
    within(same.when().online()).await;
    assert_eq!(producer.consumers().len(), 1);
}

#[tokio::test(crate = "crate::support::host")]
async fn a_refused_consumer_gets_a_later_producer_of_its_type() {
    let network = alone().await;
    let mut consumer = network.streams().consumer::<u32>().with_stream_id("versions").build();
    let wrong = network.streams().producer::<u64>().with_stream_id("versions").build().unwrap();
    within(consumer.when().refused()).await;
    drop(wrong);
    let right = network.streams().producer::<u32>().with_stream_id("versions").build().unwrap();
    within(right.send(7)).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(7));
    consumer.close();
    assert_eq!(within(consumer.recv_or_refusal()).await, Err(RecvRefusal::Closed));
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Gappy {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<String>,
}

#[tokio::test(crate = "crate::support::host")]
async fn a_field_that_is_left_out_is_found_by_the_send() {
    let network = alone().await;
    let mut consumer = network.streams().consume::<Vec<Gappy>>();
    let producer = network.streams().produce::<Vec<Gappy>>();
    within(producer.when().online()).await;
    let gappy = |note: Option<&str>| vec![Gappy { name: "a".into(), note: note.map(Into::into) }];
    let error = producer.try_send(gappy(None)).unwrap_err();
    let Error::Closed(refused) = error else { panic!("{error:?}") };
    let UnsendableCause::Encoding(why) = refused.cause() else { panic!("{refused:?}") };
    let text = why.to_string();
    assert!(text.contains("`note`") && text.contains("skip_serializing_if"), "{text}");
    producer.try_send(gappy(Some("b"))).unwrap();
    assert_eq!(within(consumer.recv()).await, Some(gappy(Some("b"))));
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u32),
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    price: Price,
}

#[tokio::test(crate = "crate::support::host")]
async fn a_type_that_no_consumer_could_read_is_not_produced() {
    let network = alone().await;
    let untagged = network.streams().producer::<Either>().try_build().unwrap_err();
    assert!(matches!(untagged, TryBuildError::Unreadable(_)), "{untagged}");
    assert!(untagged.to_string().contains("untagged"), "{untagged}");
    let flat = network.streams().producer::<Flat>().try_build().unwrap_err();
    assert!(flat.to_string().contains("flatten"), "{flat}");
}
