//! Settings of builders whose effect no other test needs. `tests/house_rules/knobs.rs` has the table of all.

use std::time::Duration;

use corewire::network::BeaconReach;
use corewire::streams::{CloseCode, ConsumerEvent};
use corewire::{Consumer, Network, NetworkId, Producer};

use super::support::{Data1, alone, apart, apart_with_threads, engine, within};

/// Of 200 datums the channel to a consumer that takes none sends fewer, because its window is full.
async fn assert_window_fills(producer: Producer<[u64; 16]>, consumer: Consumer<[u64; 16]>) {
    within(producer.when().online()).await;
    for n in 0..200 {
        within(producer.send([n; 16])).await.unwrap();
    }
    let blocked = async {
        loop {
            let stats = producer.consumers().next().unwrap().stats();
            assert!(stats.datums() < 200, "{stats}, no limit held it");
            if stats.blocked() > 0 {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    let stats = within(blocked).await;
    assert!(stats.datums() <= 64, "{stats}");
    drop(consumer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn each_window_of_a_consumer_limits_by_itself() {
    let nodes = apart_with_threads(2).await;
    let ends = |name: &'static str| {
        let producer = nodes[0].streams().producer::<[u64; 16]>().with_stream_id(name).build().unwrap();
        (producer, nodes[1].streams().consumer::<[u64; 16]>().with_stream_id(name))
    };
    let (producer, builder) = ends("bytes");
    assert_window_fills(producer, builder.with_window_bytes(1_024).build()).await;
    let (producer, builder) = ends("datums");
    assert_window_fills(producer, builder.with_window_datums(8).build()).await;
    let (producer, builder) = ends("datums by their other name");
    assert_window_fills(producer, builder.with_buffer_size(8).build()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn predicates_on_tags_as_text_refuse_at_either_end() {
    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(engine()).build().await.unwrap();
    let there = Network::builder(id).with_engine(engine()).with_tags("known").build().await.unwrap();
    let producer = |name: &'static str| here.streams().producer::<Data1>().with_stream_id(name);
    let consumer = |name: &'static str| there.streams().consumer::<Data1>().with_stream_id(name);
    let _choosy = producer("choosy").accept_if(|peer| peer.tags().contains("other")).build().unwrap();
    let refused = consumer("choosy").build();
    assert_eq!(first_code(&refused).await, CloseCode::NOT_ALLOWED);
    let open = producer("open").accept_if(|peer| peer.tags().contains("known")).build().unwrap();
    let picky = consumer("open").subscribe_if(|peer| peer.tags().contains("other")).build();
    assert_eq!(first_code(&picky).await, CloseCode::NOT_ALLOWED);
    let let_in = consumer("open").subscribe_if(|peer| !peer.tags().contains("other")).build();
    within(let_in.when().online()).await;
    within(open.when().online()).await;
}

/// The code with which the consumer's channel is refused or ended first.
async fn first_code(consumer: &Consumer<Data1>) -> CloseCode {
    let mut events = consumer.events();
    loop {
        match within(events.recv()).await.unwrap() {
            ConsumerEvent::Refused { code, .. } | ConsumerEvent::Closed { code, .. } => return code,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn refusals_are_seen_by_their_numbers() {
    let nodes = apart(2).await;
    let streams = nodes[0].streams();
    let producer = |name: &'static str| streams.producer::<Data1>().with_stream_id(name);
    let _denied = producer("denied").require(|_| false).build().unwrap();
    let _full = producer("full").with_max_consumers(0).build().unwrap();
    for (name, number) in [("denied", 10_403), ("full", 10_509)] {
        let consumer = nodes[1].streams().consumer::<Data1>().with_stream_id(name).build();
        assert_eq!(first_code(&consumer).await.number(), number, "{name}");
        let channel = consumer.producers().next().expect("it stays to be seen");
        assert_eq!(channel.close_code().map(CloseCode::number), Some(number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_stream_that_has_just_ended_is_not_found() {
    let nodes = apart(2).await;
    let here = *nodes[0].local().id();
    // The consumer asks before it can know of the end; most often the first attempt shows it.
    for attempt in 0..50 {
        let name = format!("stream {attempt}");
        let producer = nodes[0].streams().producer::<Data1>().with_stream_id(&*name).build().unwrap();
        let known = |network: &Network| {
            let entry = network.discovery().peer(&here);
            entry.is_some_and(|entry| entry.streams().contains(&(&*name).into()))
        };
        while !known(&nodes[1]) {
            let announced = nodes[1].discovery().when().peers().with_streams([&*name]);
            within(async { announced.await }).await;
        }
        drop(producer);
        let consumer = nodes[1].streams().consumer::<Data1>().with_stream_id(&*name).build();
        let mut events = consumer.events();
        let told = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
        if let Ok(Some(ConsumerEvent::Refused { code, .. })) = told {
            return assert_eq!(code.number(), 10_404);
        }
    }
    panic!("it was never too late");
}

#[tokio::test]
async fn a_node_binds_the_address_and_calls_the_bootstrap_that_it_was_given() {
    let address = "127.0.0.2:0".parse().unwrap();
    // Nothing listens there: a socket that was bound and is gone.
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = Network::builder(NetworkId::random()).with_addresses([address]).with_bootstrap([nowhere]);
    let network = builder.with_engine(engine()).build().await.unwrap();
    assert_eq!(network.local().addresses()[0].ip(), address.ip());
    let failed = async {
        while network.discovery().dial_failures().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    within(failed).await;
}

#[tokio::test]
async fn a_beacon_reaches_as_far_as_it_was_told() {
    assert_eq!(alone().await.discovery().beacon().reach, BeaconReach::Host);
    let silent = Network::builder(NetworkId::random()).with_beacon(BeaconReach::Off).build().await.unwrap();
    assert_eq!(silent.discovery().beacon().reach, BeaconReach::Off);
}
