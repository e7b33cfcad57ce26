//! Each way in which a datum is refused, and the counters that have to add up.

use corewire::engine::{EngineConfig, Limits};
use corewire::streams::producer::{BuilderError, Error, TryBuildError};
use corewire::{BackpressurePolicy, Datum, Network, NetworkId, Producer, UniqueId};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::support::{Data1, alone, alone_again, connected, engine_with, two, unencodable, within};

/// Every datum that was offered is in one counter.
fn assert_adds_up<D>(producer: &Producer<D>, offered: u64) {
    let stats = producer.stats();
    assert_eq!(stats.offered(), offered, "{stats}");
}

#[tokio::test(crate = "crate::support::host")]
async fn offline_gives_the_datum_back() {
    let network = alone().await;
    let producer = network.streams().produce::<Data1>();
    assert_eq!(producer.try_send(Data1(1)), Err(Error::Offline(Data1(1))));
    assert_eq!(producer.push(Data1(2)).await, Err(Error::Offline(Data1(2))));
    assert_eq!(producer.push_blocking(Data1(3)), Err(Error::Offline(Data1(3))));
    assert_eq!(producer.stats().refused_offline, 3);
    assert_adds_up(&producer, 3);
}

#[tokio::test(crate = "crate::support::host")]
async fn full_gives_the_datum_back_at_exactly_the_capacity() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Data1>(&network, 3).await;
    for n in 0..3 {
        producer.try_send(Data1(n)).unwrap();
    }
    assert_eq!(producer.try_send(Data1(3)), Err(Error::Full(Data1(3))));
    assert_eq!(consumer.try_recv(), Ok(Data1(0)));
    producer.try_send(Data1(4)).unwrap();
    assert_eq!(producer.try_send(Data1(5)), Err(Error::Full(Data1(5))));
    let stats = producer.stats();
    assert_eq!((stats.accepted, stats.refused_full, stats.in_ring, stats.capacity), (4, 2, 3, 3));
    assert_adds_up(&producer, 6);
}

#[tokio::test(crate = "crate::support::host")]
async fn fail_never_waits_and_leaves_the_stream_usable() {
    let network = alone().await;
    let mut consumer = network.streams().consume::<Data1>();
    let producer = network
        .streams()
        .producer::<Data1>()
        .with_buffer_size(1)
        .on_full(BackpressurePolicy::Fail)
        .build()
        .unwrap();
    within(producer.send(Data1(0))).await.unwrap();
    assert_eq!(within(producer.send(Data1(1))).await, Err(Error::Full(Data1(1))));
    assert_eq!(within(producer.push(Data1(2))).await, Err(Error::Full(Data1(2))));
    assert_eq!(producer.send_blocking(Data1(3)), Err(Error::Full(Data1(3))));
    assert_eq!(within(consumer.recv()).await, Some(Data1(0)));
    within(producer.send(Data1(4))).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(Data1(4)));
    assert_adds_up(&producer, 5);
}

#[tokio::test(crate = "crate::support::host")]
async fn closed_gives_the_datum_back() {
    let network = alone().await;
    let (producer, _consumer) = connected::<Data1>(&network, 4).await;
    let other = producer.clone();
    producer.close();
    producer.close();
    assert!(other.is_closed());
    assert_eq!(other.try_send(Data1(1)), Err(Error::closed(Data1(1))));
    assert_eq!(within(other.send(Data1(2))).await, Err(Error::closed(Data1(2))));
    assert_eq!(within(other.push(Data1(3))).await, Err(Error::closed(Data1(3))));
    assert_eq!(other.send_blocking(Data1(4)), Err(Error::closed(Data1(4))));
    assert_eq!(other.stats().refused_closed, 4);
    assert_adds_up(&other, 4);
}

#[tokio::test(crate = "crate::support::host")]
async fn too_large_names_the_limit() {
    let network = alone().await;
    let mut consumer = network.streams().consume::<Vec<u8>>();
    let producer = network.streams().producer::<Vec<u8>>().with_max_datum_bytes(100).build().unwrap();
    within(producer.when().online()).await;
    // One byte for the length.
    within(producer.send(vec![7; 99])).await.unwrap();
    assert_eq!(producer.try_send(vec![7; 100]), Err(Error::too_large(vec![7; 100], 100)));
    assert_eq!(within(producer.send(vec![7; 101])).await, Err(Error::too_large(vec![7; 101], 100)));
    assert_eq!(within(consumer.recv()).await, Some(vec![7; 99]));
    assert_eq!(producer.stats().too_large, 2);
    assert_adds_up(&producer, 3);
}

/// Encodes in one of several bad ways.
#[derive(Clone, Debug, PartialEq)]
enum Moody {
    Fine,
    Refuses,
    Panics,
    DecodesBadly,
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fine => serializer.serialize_u8(0),
            Self::Refuses => Err(S::Error::custom("no")),
            Self::Panics => panic!("serialize panics, as the test wants"),
            Self::DecodesBadly => serializer.serialize_u8(3),
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self::Fine),
            _ => panic!("deserialize panics, as the test wants"),
        }
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn an_unencodable_datum_comes_back_and_the_stream_goes_on() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Moody>(&network, 8).await;
    for (datum, panics) in [(Moody::Refuses, false), (Moody::Panics, true)] {
        let expected = (datum.clone(), panics);
        assert_eq!(unencodable(producer.try_send(datum.clone())), expected);
        assert_eq!(unencodable(within(producer.send(datum)).await), expected);
    }
    within(producer.send(Moody::Fine)).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(Moody::Fine));
    assert_eq!(producer.stats().unencodable, 4);
    assert_adds_up(&producer, 5);
}

#[tokio::test(crate = "crate::support::host")]
async fn an_undecodable_datum_is_counted_and_seen_as_a_gap() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Moody>(&network, 8).await;
    for datum in [Moody::DecodesBadly, Moody::Fine, Moody::DecodesBadly, Moody::DecodesBadly, Moody::Fine] {
        producer.try_send(datum).unwrap();
    }
    let first = within(consumer.recv_delivery()).await.unwrap();
    assert_eq!((first.datum, first.skipped_before), (Moody::Fine, 1));
    let second = within(consumer.recv_delivery()).await.unwrap();
    assert_eq!((second.datum, second.seq - first.seq, second.skipped_before), (Moody::Fine, 3, 2));
    assert_eq!(second.producer, *network.local().id());
    assert_eq!(consumer.stats().undecodable(), 3);
    assert_eq!(consumer.stats().datums(), 2);
}

#[tokio::test(crate = "crate::support::host")]
async fn try_recv_many_skips_undecodable_datums() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Moody>(&network, 64).await;
    for n in 0..40 {
        let bad = [0, 20, 21, 39].contains(&n);
        producer.try_send(if bad { Moody::DecodesBadly } else { Moody::Fine }).unwrap();
    }
    let mut into = Vec::new();
    assert_eq!(consumer.try_recv_many(&mut into, 64), Ok(36));
    assert!(into.len() == 36 && into.iter().all(|datum| *datum == Moody::Fine));
    assert_eq!((consumer.stats().datums(), consumer.stats().undecodable()), (36, 4));
    producer.try_send(Moody::Fine).unwrap();
    assert_eq!(consumer.try_recv_delivery().unwrap().skipped_before, 1);
    assert_eq!(consumer.producers().next().unwrap().stats().datums(), 37);
}

#[tokio::test(crate = "crate::support::host")]
async fn undecodable_records_do_not_delay_other_producers() {
    let (bad, good) = two().await;
    let mut consumer = good.streams().consume::<Moody>();
    let noisy = bad.streams().producer::<Moody>().with_buffer_size(1_000).build().unwrap();
    let sound = good.streams().producer::<Moody>().with_buffer_size(8).build().unwrap();
    within(consumer.when().subscribed().minimum_of(2)).await;
    within(noisy.when().subscribed()).await;
    within(sound.when().subscribed()).await;
    for _ in 0..1_000 {
        noisy.try_send(Moody::DecodesBadly).unwrap();
    }
    sound.try_send(Moody::Fine).unwrap();
    // One search finds it, though the other backlog is longer than a search.
    assert_eq!(consumer.try_recv(), Ok(Moody::Fine));
}

/// Serializes to another length each time.
struct Growing(std::sync::atomic::AtomicU64);

impl Serialize for Growing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        serializer.serialize_str(&"x".repeat(digits as usize))
    }
}

impl<'de> Deserialize<'de> for Growing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self((text.len() as u64).into()))
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_value_that_changes_during_encoding_is_refused() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Growing>(&network, 2).await;
    for _ in 0..100 {
        // Longer than a short datum: measured first, then encoded into the claimed room.
        unencodable(producer.try_send(Growing(100.into())));
        assert!(consumer.try_recv().is_err(), "room that was claimed and given up is no datum");
    }
    assert_eq!((producer.stats().unencodable, producer.stats().accepted), (100, 0));
    assert_adds_up(&producer, 100);
}

#[tokio::test(crate = "crate::support::host")]
async fn a_short_value_is_encoded_once() {
    let network = alone().await;
    let (producer, mut consumer) = connected::<Growing>(&network, 2).await;
    assert!(producer.try_send(Growing(5.into())).is_ok());
    assert_eq!(consumer.try_recv().map(|datum| datum.0.into_inner()).ok(), Some(5));
}

#[tokio::test(crate = "crate::support::host")]
async fn every_refusal_names_a_remedy() {
    let refusals: [Error<()>; 4] =
        [Error::Offline(()), Error::Full(()), Error::closed(()), Error::too_large((), 9)];
    for (refusal, cure) in
        refusals.iter().zip(["when().online()", "with_buffer_size", "build a new", "with_max_datum_bytes"])
    {
        assert!(refusal.to_string().contains(cure), "{refusal}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_second_build_returns_the_existing_producer() {
    let network = alone().await;
    let first = network.streams().producer::<Data1>().with_buffer_size(7).build().unwrap();
    let existing = match network.streams().producer::<Data1>().with_buffer_size(9).build() {
        Err(BuilderError::AlreadyExists(existing)) => existing,
        other => panic!("{other:?}"),
    };
    let third = network.streams().produce::<Data1>();
    for handle in [&first, &existing, &third] {
        assert_eq!(handle.stats().capacity, 7, "as the first one was configured");
    }
    assert_eq!(existing.try_send(Data1(0)), Err(Error::Offline(Data1(0))));
    assert_eq!(first.stats().refused_offline, 1, "handles share their numbers");

    drop((first, existing, third));
    let fresh = network.streams().producer::<Data1>().with_buffer_size(9).build().unwrap();
    assert_eq!(fresh.stats().capacity, 9, "once the last handle is gone, the stream is free again");
}

#[tokio::test(crate = "crate::support::host")]
async fn a_type_conflict_names_both_types() {
    let network = alone().await;
    let id = UniqueId::random();
    let _first = network.streams().producer::<Data1>().with_stream_id(id).build().unwrap();
    let error = network.streams().producer::<String>().with_stream_id(id).try_build().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, TryBuildError::TypeConflict { .. }));
    assert!(text.contains("Data1") && text.contains("String") && text.contains("with_stream_id"), "{text}");
}

#[tokio::test(crate = "crate::support::host")]
async fn impossible_ring_sizes_are_build_errors() {
    let network = alone().await;
    for builder in [
        network.streams().producer::<Data1>().with_buffer_size(0),
        network.streams().producer::<Data1>().with_buffer_bytes(0),
        network.streams().producer::<Data1>().with_buffer_size(usize::MAX),
        network.streams().producer::<Data1>().with_buffer_bytes(64).with_max_datum_bytes(65),
    ] {
        assert!(matches!(builder.try_build(), Err(TryBuildError::Ring(_))));
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn require_and_max_consumers_refuse_consumers() {
    let network = alone().await;
    let strict = network
        .streams()
        .producer::<Data1>()
        .with_stream_id("strict")
        .require(|_| true)
        .require(|peer| peer.tags().contains(&"trusted".into()))
        .build()
        .unwrap();
    let bounded = network
        .streams()
        .producer::<Data1>()
        .with_stream_id("bounded")
        .with_max_consumers(1)
        .build()
        .unwrap();
    let _refused = network.streams().consumer::<Data1>().with_stream_id("strict").build();
    let first = network.streams().consumer::<Data1>().with_stream_id("bounded").build();
    within(bounded.when().subscribed()).await;
    let second = network.streams().consumer::<Data1>().with_stream_id("bounded").build();
    within(first.when().online()).await;
    // The engine works in order, so once a later subscription is served the earlier ones were judged.
    let open = network.streams().produce::<Data1>();
    let witness = network.streams().consume::<Data1>();
    within(witness.when().online()).await;
    within(open.when().online()).await;
    assert!(!strict.is_online());
    assert!(!second.is_online());
    assert_eq!(bounded.consumers().filter(|info| info.is_connected()).count(), 1);
    let stats = strict.stats();
    assert_eq!((stats.consumers_admitted, stats.consumers_not_allowed), (0, 1), "{stats}");
    let stats = bounded.stats();
    // A consumer without a place tries again, so that a slow machine counts more than one refusal.
    assert_eq!(stats.consumers_admitted, 1, "{stats}");
    assert!(stats.consumers_no_capacity >= 1, "{stats}");
    drop(first);
    within(second.when().online()).await;
    drop(second);
    alone_again(&bounded).await;
}

#[tokio::test(crate = "crate::support::host")]
async fn a_panicking_predicate_denies_and_is_counted() {
    let network = alone().await;
    let producer = network
        .streams()
        .producer::<Data1>()
        .online_when(|c| c.with_predicate(|_| panic!("online_when panics, as the test wants")))
        .build()
        .unwrap();
    let _consumer = network.streams().consume::<Data1>();
    within(producer.when().subscribed()).await;
    assert!(!producer.is_online());
    assert!(producer.stats().predicate_panics > 0);
}

#[tokio::test(crate = "crate::support::host")]
async fn a_panic_in_require_refuses_and_is_counted_where_it_was_asked() {
    let network = alone().await;
    let streams = network.streams();
    let wary = streams.producer::<Data1>().with_stream_id("wary").require(|_| panic!("as the test wants"));
    let wary = wary.build().unwrap();
    let consumer = streams.consumer::<Data1>().with_stream_id("wary").build();
    within(consumer.when().refused()).await;
    assert_eq!((wary.stats().predicate_panics, consumer.stats().predicate_panics()), (1, 0));

    let trusting = streams.producer::<Data1>().with_stream_id("trusting").build().unwrap();
    let wary =
        streams.consumer::<Data1>().with_stream_id("trusting").require(|_| panic!("as the test wants"));
    let mut wary = wary.build();
    within(wary.when().refused()).await;
    assert_eq!(trusting.stats().predicate_panics, 0);
    let counted = wary.stats().predicate_panics();
    assert!(counted > 0);
    wary.close();
    assert!(wary.stats().predicate_panics() >= counted, "the count outlives the subscription");
}

#[test]
fn every_type_has_its_own_stream() {
    assert_ne!(Data1::derived_stream_id(), Moody::derived_stream_id());
    assert_ne!(u32::derived_stream_id(), u64::derived_stream_id());
}

#[test]
fn a_policy_is_named_by_its_slug() {
    for policy in BackpressurePolicy::ALL {
        assert_eq!(policy.to_string(), policy.slug());
        assert_eq!(policy.slug().parse(), Ok(policy));
    }
    let slugs = BackpressurePolicy::ALL.map(BackpressurePolicy::slug);
    assert_eq!(slugs, ["drop_oldest", "degrade_quality", "pause_upstream", "fail"]);
    assert_eq!(BackpressurePolicy::default(), BackpressurePolicy::PauseUpstream);

    let unknown = "Drop_Oldest".parse::<BackpressurePolicy>().unwrap_err();
    assert_eq!(unknown.found(), "Drop_Oldest");
    let text = unknown.to_string();
    for slug in slugs {
        assert!(text.contains(slug), "{text}");
    }
}

#[tokio::test(crate = "crate::support::host")]
async fn a_consumer_beyond_the_limit_is_refused_when_it_is_built() {
    let limits = Limits { subscriptions: 2, ..Limits::default() };
    let engine = engine_with(EngineConfig { limits, ..EngineConfig::default() });
    let network = Network::builder(NetworkId::random()).with_engine(engine).build().await.unwrap();
    let build = || network.streams().consumer::<Data1>().try_build();
    let (first, _second) = (build().unwrap(), build().unwrap());
    let refused = build().unwrap_err();
    assert_eq!(refused.limit, 2);
    assert!(refused.to_string().contains("drop one"), "{refused}");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        network.streams().consume::<Data1>().is_closed()
    }));
    assert!(panicked.is_err(), "no consumer is closed from its start");
    drop(first);
    while build().is_err() {
        tokio::task::yield_now().await;
    }
}
