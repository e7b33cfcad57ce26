//! What can be asked of handles, channels, nodes and peers.

use std::collections::BTreeSet;
use std::time::Instant;

use corewire::streams::State;
use corewire::streams::producer::Error;
use corewire::{Datum, Engine, EngineConfig, HostedEngine, Network, NetworkId, SecretKey, StreamId, Tag};

use super::support::{Data1, LIMIT, connected, two, within};

#[tokio::test(crate = "crate::support::host")]
async fn channel_info_names_both_ends_and_counts_datums() {
    let (here, there) = two().await;
    let producer = here.streams().producer::<Data1>().with_stream_id("watched").build().unwrap();
    let mut consumer = there.streams().consumer::<Data1>().with_stream_id("watched").build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    for n in 0..10 {
        producer.try_send(Data1(n)).unwrap();
        assert_eq!(within(consumer.recv()).await, Some(Data1(n)));
    }
    let at_producer = producer.consumers().next().unwrap();
    let at_consumer = consumer.producers().next().unwrap();
    for info in [&at_producer, &at_consumer] {
        assert_eq!(*info.stream_id(), StreamId::from("watched"));
        assert_eq!(info.producer_id(), here.local().id());
        assert_eq!(info.consumer_id(), there.local().id());
        assert_eq!(info.state(), State::Connected);
        assert!(info.is_connected());
        assert_eq!(info.close_code(), None);
        assert_eq!((info.stats().datums(), info.stats().bytes()), (10, 10));
        assert!(info.stats().uptime().is_some());
        let text = format!("{} {} {info}", info.stats(), *info.state_watcher().borrow() == State::Connected);
        assert!(text.contains("uptime: ") && text.contains("datums: 10, bytes: 10"), "{text}");
    }
    assert_eq!(at_producer.peer().id(), there.local().id());
    assert_eq!(at_consumer.peer().id(), here.local().id());
    assert_eq!((consumer.stats().datums(), consumer.stats().bytes()), (10, 10));

    let mut watcher = at_producer.state_watcher();
    drop(consumer);
    within(at_producer.disconnected()).await;
    assert_eq!(
        *within(watcher.wait_for(|state| *state == State::Terminated)).await.unwrap(),
        State::Terminated
    );
    assert!(!at_producer.is_connected());
    assert!(at_producer.close_code().is_some());
}

#[tokio::test(crate = "crate::support::host")]
async fn debug_output_names_state_and_hides_datums() {
    let network = super::support::alone().await;
    let (producer, consumer) = connected::<Data1>(&network, 4).await;
    assert_eq!(producer.stream_id(), consumer.stream_id());
    for text in [format!("{producer:?}"), format!("{consumer:?}"), format!("{:?}", producer.when())] {
        assert!(text.contains("online: true"), "{text}");
    }
    assert!(format!("{}", producer.stats()).contains("accepted: 0"));
    let refused = Error::Full(Data1(2));
    assert_eq!(format!("{refused:?}"), "Full(..)");
    assert_eq!(refused.into_inner(), Data1(2));
}

#[tokio::test(crate = "crate::support::host")]
async fn node_identity_follows_its_key_and_its_address_is_bound() {
    let key = SecretKey::random();
    let first = Network::builder("named").with_secret_key(key.clone()).with_tags("a").build().await.unwrap();
    let id = *first.local().id();
    assert_eq!(*first.network_id(), NetworkId::from("named"));
    assert_eq!(first.local().addresses().len(), 1);
    assert_ne!(first.local().addresses()[0].port(), 0);
    let me = first.discovery().me();
    assert_eq!(
        (me.id(), me.network_id(), me.tags()),
        (&id, first.network_id(), &BTreeSet::from([Tag::from("a")]))
    );
    assert!(me.has_tag("a") && !me.has_tag("b"));
    assert_eq!(format!("{key:?}"), "SecretKey(..)");
    assert!(!format!("{first:?}").contains(&format!("{:?}", key.as_bytes())));
    drop(first);
    let second = Network::builder("named").with_secret_key(key).build().await.unwrap();
    assert_eq!(*second.local().id(), id);
}

#[tokio::test(crate = "crate::support::host")]
async fn address_in_use_differs_from_other_join_errors() {
    let network = super::support::alone().await;
    let taken = network.local().addresses()[0];
    let error = Network::builder("other").with_addresses([taken]).build().await.unwrap_err();
    assert!(error.is_address_in_use(), "{error}");
    assert!(error.to_string().contains(&taken.port().to_string()), "{error}");
    let error =
        Network::builder("other").with_addresses(["192.0.2.1:0".parse().unwrap()]).build().await.unwrap_err();
    assert!(!error.is_address_in_use(), "{error}");
}

#[tokio::test(crate = "crate::support::host")]
async fn peers_become_known_with_their_tags_and_streams() {
    let id = NetworkId::random();
    let here = Network::new(id).await.unwrap();
    let there = Network::builder(id).with_tags(["validator", "archive"]).build().await.unwrap();
    let _producer = there.streams().produce::<Data1>();
    let name = *there.local().id();
    let entry = within(here.discovery().wait_for(|peer| *peer.id() == name)).await.unwrap();
    assert_eq!(*entry.tags(), BTreeSet::from([Tag::from("archive"), Tag::from("validator")]));
    assert_eq!(entry.addresses(), there.local().addresses());
    let producing =
        within(here.discovery().wait_for(|peer| peer.streams().contains(&Data1::derived_stream_id())));
    assert_eq!(*producing.await.unwrap().id(), name);
    assert_eq!(here.discovery().peer(&name).map(|peer| *peer.id()), Some(name));
    assert!(here.discovery().peers().iter().all(|peer| peer.id() != here.local().id()));
}

#[test]
fn a_channel_is_connecting_until_its_producer_has_answered() {
    let id = NetworkId::random();
    let engine = Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).unwrap();
    // Stands still while this thread does not wait in a call of this crate.
    let hosted = HostedEngine::start(EngineConfig::default()).unwrap();
    let here = Network::builder(id).with_engine(&engine).build_blocking().unwrap();
    let there = Network::builder(id).with_engine(&hosted).build_blocking().unwrap();
    let streams = ["first", "second"];
    let _producers =
        streams.map(|name| there.streams().producer::<Data1>().with_stream_id(name).build().unwrap());
    here.discovery().when().peers().with_streams(streams).wait_blocking();
    let consume = |name: &'static str| here.streams().consumer::<Data1>().with_stream_id(name).build();
    let first = consume("first");
    first.when().online().wait_blocking();
    let second = consume("second");
    let begun = Instant::now();
    let channel = loop {
        if let Some(channel) = second.producers().next() {
            break channel;
        }
        assert!(begun.elapsed() < LIMIT, "it is not asked for");
        std::thread::yield_now();
    };
    assert_eq!((channel.state(), channel.is_connected()), (State::Connecting, false));
    assert!(channel.stats().uptime().is_none());
    second.when().online().wait_blocking();
    assert_eq!(channel.state(), State::Connected);
}
