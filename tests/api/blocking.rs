//! The blocking forms, on plain threads.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use corewire::network::ShutdownError;
use corewire::streams::State;
use corewire::streams::consumer::RecvTimeoutError;
use corewire::{Consumer, Network, NetworkId, Plain, Producer, block_on, block_on_timeout};

use super::support::{Data1, LIMIT, host_here, join};

/// Short: the time of a wait that has to run into its limit.
const MOMENT: Duration = Duration::from_millis(20);

fn network() -> Network {
    host_here();
    Network::new_blocking(NetworkId::random()).expect("a node on the loopback interface")
}

/// A connected pair whose ring holds four.
fn connected_pair(network: &Network) -> (Producer<u64, Plain>, Consumer<u64, Plain>) {
    let consumer = network.streams().consumer::<u64>().codec(Plain).build();
    let producer = network.streams().producer::<u64>().with_buffer_size(4).codec(Plain).build().unwrap();
    assert!(producer.when().online().wait_timeout(LIMIT) && consumer.when().online().wait_timeout(LIMIT));
    (producer, consumer)
}

#[test]
fn blocking_ends_carry_a_stream_without_a_runtime() {
    let network = network();
    let producer = network.streams().producer::<Data1>().with_buffer_size(2).build().unwrap();
    let mut consumer = network.streams().consume::<Data1>();
    let sender = thread::spawn(move || {
        for n in 0..1000 {
            producer.send_blocking(Data1(n)).expect("somebody listens");
        }
    });
    for n in 0..1000 {
        assert_eq!(consumer.recv_timeout(LIMIT), Ok(Data1(n)));
    }
    join(sender);
}

#[test]
fn recv_timeout_waits_for_its_limit() {
    let network = network();
    let mut consumer = network.streams().consume::<Data1>();
    let before = Instant::now();
    assert_eq!(consumer.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
    assert!(before.elapsed() >= MOMENT);
}

#[test]
fn blocked_sender_is_woken_by_its_first_consumer() {
    let network = network();
    let producer = network.streams().produce::<Data1>();
    let sender = thread::spawn(move || producer.send_blocking(Data1(1)).map(|()| producer));
    let mut consumer = network.streams().consume::<Data1>();
    assert_eq!(consumer.recv_timeout(LIMIT), Ok(Data1(1)));
    join(sender).unwrap();
}

#[test]
fn blocked_receives_are_woken_by_the_end_of_their_network() {
    let network = network();
    let takers = [0, 1, 2, 3].map(|form| {
        let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
        thread::spawn(move || match form {
            0 => consumer.recv_blocking().is_none(),
            1 => consumer.recv_delivery_blocking().is_none(),
            2 => consumer.recv_ref_blocking().is_none(),
            _ => consumer.recv_many_blocking(&mut Vec::new(), 9) == 0,
        })
    });
    drop(network);
    assert!(takers.into_iter().all(join));
}

#[test]
fn every_receive_with_a_limit_reports_datum_timeout_and_end() {
    let network = network();
    let (producer, mut consumer) = connected_pair(&network);
    let mut many = Vec::new();

    assert_eq!(consumer.recv_delivery_timeout(MOMENT).unwrap_err(), RecvTimeoutError::Timeout);
    assert_eq!(consumer.recv_ref_timeout(MOMENT).map(|datum| *datum), Err(RecvTimeoutError::Timeout));
    assert_eq!(consumer.recv_many_timeout(&mut many, 9, MOMENT), Err(RecvTimeoutError::Timeout));

    (1..=4).for_each(|n| producer.try_send(n).unwrap());
    assert_eq!(consumer.recv_delivery_timeout(LIMIT).map(|delivery| delivery.datum), Ok(1));
    assert_eq!(consumer.recv_ref_timeout(LIMIT).map(|datum| *datum), Ok(2));
    assert_eq!(consumer.recv_many_timeout(&mut many, 9, LIMIT), Ok(2));
    assert_eq!(many, [3, 4]);

    consumer.close();
    assert_eq!(consumer.recv_delivery_timeout(LIMIT).unwrap_err(), RecvTimeoutError::Closed);
    assert_eq!(consumer.recv_ref_timeout(LIMIT).map(|datum| *datum), Err(RecvTimeoutError::Closed));
    assert_eq!(consumer.recv_many_timeout(&mut many, 9, LIMIT), Err(RecvTimeoutError::Closed));
}

#[test]
fn every_blocking_receive_takes_in_order() {
    let network = network();
    let (producer, mut consumer) = connected_pair(&network);
    let sender = thread::spawn(move || (0..8).for_each(|n| producer.send_blocking(n).unwrap()));
    assert_eq!(consumer.recv_blocking(), Some(0));
    assert_eq!(
        consumer.recv_delivery_blocking().map(|delivery| (delivery.datum, delivery.seq)),
        Some((1, 1))
    );
    assert_eq!(consumer.recv_ref_blocking().map(|datum| *datum), Some(2));
    let mut many = Vec::new();
    while many.len() < 3 {
        let missing = 3 - many.len();
        assert!(consumer.recv_many_blocking(&mut many, missing) > 0);
    }
    assert_eq!(many, [3, 4, 5]);
    assert_eq!(consumer.iter().take(2).collect::<Vec<_>>(), [6, 7]);
    join(sender);
}

#[test]
fn iteration_ends_when_the_consumer_is_closed() {
    let network = network();
    let (producer, mut consumer) = connected_pair(&network);
    producer.try_send(1).unwrap();
    producer.try_send(2).unwrap();
    consumer.close();
    assert_eq!(consumer.iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(consumer.iter().next(), None);
}

#[test]
fn conditions_can_be_waited_for_on_a_thread_and_again() {
    let network = network();
    let producer = network.streams().produce::<Data1>();
    let mut condition = producer.when().subscribed();
    assert!(!condition.wait_timeout(MOMENT) && !producer.when().online().wait_timeout(MOMENT));
    for _ in 0..2 {
        let when = producer.when();
        let waiter = thread::spawn(move || when.online().wait_blocking());
        let consumer = network.streams().consume::<Data1>();
        condition.wait_blocking();
        join(waiter);
        assert!(!condition.wait_timeout(Duration::ZERO), "it has to stop holding first");
        drop(consumer);
        producer.when().unsubscribed().wait_blocking();
        producer.when().offline().wait_blocking();
        assert!(!condition.wait_timeout(Duration::ZERO));
    }
}

#[test]
fn peers_and_the_end_of_channels_can_be_waited_for_on_a_thread() {
    let id = NetworkId::random();
    host_here();
    let here = Network::new_blocking(id).unwrap();
    let discovery = here.discovery().clone();
    let waiter = thread::spawn(move || discovery.wait_for_blocking(|peer| peer.has_tag("archive")));
    let there = Network::builder(id).with_tags("archive").build_blocking().unwrap();
    let found = join(waiter).expect("the network lives");
    assert_eq!(found.id(), there.local().id());
    assert_eq!(found.to_string(), format!("{} at {:?}", found.id().short(), found.addresses()));

    let (producer, consumer) = connected_pair(&here);
    let channel = producer.consumers().next().unwrap();
    let waiter = thread::spawn(move || {
        channel.disconnected_blocking();
        channel.state()
    });
    drop(consumer);
    assert_eq!(join(waiter), State::Terminated);

    let discovery = here.discovery().clone();
    let waiter = thread::spawn(move || discovery.wait_for_blocking(|_| false));
    drop(here);
    assert_eq!(join(waiter), None);
}

#[test]
fn shutdown_blocking_reports_whether_everything_was_delivered() {
    let network = network();
    let (producer, mut consumer) = connected_pair(&network);
    producer.try_send(1).unwrap();
    let taker = thread::spawn(move || (consumer.recv_blocking(), consumer.recv_blocking()));
    assert_eq!(network.shutdown_blocking(LIMIT), Ok(()));
    assert_eq!(join(taker), (Some(1), None));

    let id = NetworkId::random();
    let [here, there] = [(); 2]
        .map(|()| Network::builder(id).with_engine(super::support::engine()).build_blocking().unwrap());
    let _stalled = there.streams().consumer::<u64>().with_window_datums(1).build();
    let producer = here.streams().produce::<u64>();
    (0..4).for_each(|n| producer.send_blocking(n).unwrap());
    let producer_stream = *producer.stream_id();
    let Err(ShutdownError::Deadline { undelivered }) = here.shutdown_blocking(MOMENT) else {
        panic!("a consumer that takes nothing has everything")
    };
    let [one] = undelivered[..] else { panic!("{undelivered:?}") };
    assert_eq!((one.stream_id, one.consumer), (producer_stream, *there.local().id()));
    assert!((3..=4).contains(&one.datums), "{one:?}");
}

#[test]
fn block_on_runs_futures_to_their_end_or_their_limit() {
    assert_eq!(block_on(async { 7 }), 7);
    assert_eq!(block_on_timeout(std::future::ready(7), Duration::ZERO), Some(7));
    assert_eq!(block_on_timeout(std::future::ready(7), Duration::MAX), Some(7));
    let before = Instant::now();
    assert_eq!(block_on_timeout(std::future::pending::<()>(), MOMENT), None);
    assert!(before.elapsed() >= MOMENT);
}

#[test]
fn bootstrap_and_announced_addresses_reach_the_peers() {
    let (id, engine) = (NetworkId::random(), super::support::engine());
    let here = Network::builder(id).with_engine(&engine).build_blocking().unwrap();
    let announced = "127.0.0.1:4000".parse().unwrap();
    let there = Network::builder(id)
        .with_engine(super::support::engine())
        .with_addresses(["127.0.0.1:0".parse().unwrap()])
        .with_announced_addresses([announced])
        .with_bootstrap(here.local().addresses().iter().copied())
        .build_blocking()
        .unwrap();
    assert_eq!(there.discovery().me().addresses(), [announced]);
    let found = here.discovery().wait_for_blocking(|peer| !peer.addresses().is_empty()).unwrap();
    assert_eq!((found.id(), found.addresses()), (there.local().id(), &[announced][..]));
}

#[test]
fn counters_of_node_and_engine_are_readable() {
    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(super::support::engine()).build_blocking().unwrap();
    let there = Network::builder(id).with_engine(super::support::engine()).build_blocking().unwrap();
    let producer = here.streams().produce::<Data1>();
    let mut consumer = there.streams().consume::<Data1>();
    producer.send_blocking(Data1(1)).unwrap();
    assert_eq!(consumer.recv_timeout(LIMIT), Ok(Data1(1)));
    let stats = there.stats();
    assert_eq!((stats.channels_opened, stats.channels_connected, here.stats().channels_served), (1, 1, 1));
    let names: BTreeSet<_> = stats.iter().map(|(name, _)| name).collect();
    assert!(names.contains("sessions_opened") && names.len() == stats.iter().count());
    assert_eq!(here.engine().info().shards.len(), 1);
}
