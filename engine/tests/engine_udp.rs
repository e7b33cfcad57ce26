//! Engines that find each other over real UDP on the loopback interface.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here")]

mod engine_rig;

use std::{net::SocketAddr, time::Duration};

use corewire_engine::{
    Engine, EngineConfig, EngineError,
    driver::IoChoice,
    node::{JoinError, Node, NodeConfig},
    publication::{Publication, PublishSpec},
    shared::ChannelState,
    subscription::Subscription,
};
use corewire_proto::{NetworkId, PeerId, session::CloseCode};
use corewire_rings::RecvError;
use engine_rig::{
    Got, engine, engine_with, join, network, next, next_leg, next_number, push, spec, stream, wait,
    wait_consumers, wait_for,
};

/// A node that has to be told of others.
fn hidden(engine: &Engine, network: NetworkId, bootstrap: Vec<SocketAddr>) -> Node {
    let config = NodeConfig { use_registry: false, bootstrap, ..NodeConfig::new(network) };
    Node::join(engine, config).expect("a node")
}

fn publish(node: &Node, number: u8) -> Publication {
    node.publish(PublishSpec::new(stream(number))).expect("a publication")
}

fn subscribe(node: &Node, number: u8) -> Subscription {
    node.subscribe(spec(number)).expect("a subscription")
}

/// Publishes a few thousand numbers and takes them at the other end, in order.
fn carries(publication: &Publication, subscription: &Subscription) {
    let mut leg = next_leg(subscription);
    assert!(leg.inbox().is_remote());
    wait_consumers(publication, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..3_000).for_each(|number| push(publication, number)));
        for number in 0..3_000 {
            assert_eq!(next_number(&mut leg), number);
        }
    });
    assert_eq!(leg.channel().shared().state(), ChannelState::Connected);
}

/// A node on these addresses, none of which is announced for it.
fn hidden_at(engine: &Engine, network: NetworkId, bind: &[&str], bootstrap: Vec<SocketAddr>) -> Node {
    let bind = bind.iter().map(|address| address.parse().expect("an address")).collect();
    let config = NodeConfig { use_registry: false, bind, bootstrap, ..NodeConfig::new(network) };
    Node::join(engine, config).expect("a node")
}

/// Whether this host has IPv6; where it has not, that is printed.
fn has_ipv6() -> bool {
    let bound = std::net::UdpSocket::bind("[::1]:0");
    if let Err(error) = &bound {
        eprintln!("not tested, this host has no IPv6: {error}");
    }
    bound.is_ok()
}

/// A producer bound to `producer` that a consumer bound to `consumer` (or by default) calls at `host`.
fn meets(name: &str, producer: &str, host: &str, consumer: &[&str]) {
    for io in [IoChoice::Auto, IoChoice::Epoll] {
        let (here, there) = (engine_with(1, io), engine_with(2, io));
        let network = network(&format!("{name} {io:?}"));
        let producer = hidden_at(&there, network, &[producer], Vec::new());
        let port = producer.local_addrs()[0].port();
        let to = format!("{host}:{port}").parse().expect("an address");
        let consumer = hidden_at(&here, network, consumer, vec![to]);
        let publication = publish(&producer, 1);
        let subscription = subscribe(&consumer, 1);
        carries(&publication, &subscription);
    }
}

#[test]
fn a_node_without_addresses_reaches_a_peer_of_either_family() {
    meets("plain four", "127.0.0.1:0", "127.0.0.1", &[]);
    if has_ipv6() {
        meets("plain six", "[::1]:0", "[::1]", &[]);
    }
}

#[test]
fn a_node_of_both_families_calls_and_is_called_by_ipv4() {
    if has_ipv6() {
        meets("called", "[::]:0", "127.0.0.1", &[]);
        meets("calls", "127.0.0.1:0", "127.0.0.1", &["[::]:0"]);
        meets("both", "[::]:0", "127.0.0.1", &["[::]:0"]);
        meets("mapped", "127.0.0.1:0", "[::ffff:127.0.0.1]", &["[::]:0"]);
    }
}

#[test]
fn a_producer_on_every_address_is_reached_at_its_second_one() {
    meets("second address", "0.0.0.0:0", "127.0.0.2", &[]);
    if has_ipv6() {
        meets("second address, mapped", "[::]:0", "127.0.0.2", &[]);
    }
}

fn two_engines(io: IoChoice, shards: usize, name: &str) {
    let (here, there) = (engine_with(shards, io), engine_with(shards, io));
    let network = network(name);
    let (producer, consumer) = (join(&here, network), join(&there, network));
    let publication = publish(&producer, 1);
    let subscription = subscribe(&consumer, 1);
    carries(&publication, &subscription);
    assert_eq!(producer.stats().channels_served, 1);
    assert_eq!(consumer.stats().channels_connected, 1);
}

#[test]
fn two_engines_of_one_process_find_each_other_and_stream_over_epoll() {
    two_engines(IoChoice::Epoll, 1, "epoll");
}

#[test]
fn two_engines_carry_a_stream_over_the_best_driver_that_is_allowed_here() {
    // io_uring where it may be used; the fallback says why when it may not.
    two_engines(IoChoice::Auto, 1, "auto");
}

#[test]
fn two_shards_on_each_side_carry_a_stream() {
    two_engines(IoChoice::Epoll, 2, "two shards");
}

#[test]
fn sessions_spread_over_the_shards() {
    let (here, there) = (engine_with(2, IoChoice::Epoll), engine_with(2, IoChoice::Epoll));
    let network = network("spread");
    let producers = [(); 4].map(|()| join(&here, network));
    let publications: Vec<_> = producers.iter().map(|producer| publish(producer, 1)).collect();
    let consumer = join(&there, network);
    let subscription = subscribe(&consumer, 1);
    let mut legs: Vec<_> = producers.iter().map(|_| next_leg(&subscription)).collect();
    for (number, publication) in (0..).zip(&publications) {
        wait_consumers(publication, 1);
        push(publication, number);
    }
    let mut numbers: Vec<u64> = legs.iter_mut().map(next_number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn a_bootstrap_address_is_enough_to_meet() {
    let (here, there) = (engine(), engine());
    let network = network("bootstrap");
    let producer = hidden(&here, network, Vec::new());
    let consumer = hidden(&there, network, producer.local_addrs().to_vec());
    let publication = publish(&producer, 1);
    let subscription = subscribe(&consumer, 1);
    carries(&publication, &subscription);
}

#[test]
fn a_bootstrap_address_may_come_to_life_later() {
    let (here, there) = (engine(), engine());
    let network = network("later");
    // A port that was free a moment ago.
    let address = hidden(&here, network, Vec::new()).local_addrs()[0];
    let consumer = hidden(&there, network, vec![address]);
    let subscription = subscribe(&consumer, 1);
    while consumer.stats().handshakes_started == 0 {
        std::thread::yield_now();
    }
    let config = NodeConfig { use_registry: false, bind: vec![address], ..NodeConfig::new(network) };
    let producer = loop {
        // The first node closes its socket soon after its handle is gone.
        match Node::join(&here, config.clone()) {
            Ok(node) => break node,
            Err(JoinError::Bind(_)) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    };
    let publication = publish(&producer, 1);
    carries(&publication, &subscription);
}

#[test]
fn a_consumer_finds_a_stream_through_a_third_node() {
    let engines = [engine(), engine(), engine()];
    let network = network("third");
    let middle = hidden(&engines[1], network, Vec::new());
    let bootstrap = middle.local_addrs().to_vec();
    let producer = hidden(&engines[0], network, bootstrap.clone());
    let consumer = hidden(&engines[2], network, bootstrap);
    let publication = publish(&producer, 1);
    let subscription = subscribe(&consumer, 1);
    carries(&publication, &subscription);
    let known = |node: &Node| node.peers().iter().map(|peer| peer.peer_id()).collect::<Vec<PeerId>>();
    assert!(known(&consumer).contains(&producer.peer_id()));
    assert!(known(&consumer).contains(&middle.peer_id()));
    assert_eq!(middle.stats().channels_served, 0, "the stream goes directly");
}

#[test]
fn dropping_the_producer_drains_and_then_ends_the_leg() {
    let (here, there) = (engine(), engine());
    let network = network("drains");
    let (producer, consumer) = (join(&here, network), join(&there, network));
    let publication = publish(&producer, 1);
    let subscription = subscribe(&consumer, 1);
    let mut leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    for number in 0..500 {
        push(&publication, number);
    }
    drop(publication);
    for number in 0..500 {
        assert_eq!(next_number(&mut leg), number);
    }
    assert_eq!(next(&mut leg), Got::Ended(RecvError::Closed));
    let shared = leg.channel().shared().clone();
    wait_for("the end", shared.watch(), |state| *state == ChannelState::Terminated);
    assert_eq!(shared.close_code(), Some(CloseCode::GRACEFUL));
    // The stream is not announced any more, and is found when it is there again.
    let publication = publish(&producer, 1);
    carries(&publication, &subscription);
}

#[test]
fn dropping_the_consumer_is_seen_at_the_producer() {
    let (here, there) = (engine(), engine());
    let network = network("gone");
    let (producer, consumer) = (join(&here, network), join(&there, network));
    let publication = publish(&producer, 1);
    let subscription = subscribe(&consumer, 1);
    let leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    drop(leg);
    drop(subscription);
    wait_for("nobody", publication.watch(), |channels| channels.is_empty());
    // A subscription that is dropped before anything has come of it leaves nothing behind.
    drop(subscribe(&consumer, 1));
    let subscription = subscribe(&consumer, 1);
    carries(&publication, &subscription);
}

#[test]
fn a_producer_that_is_restarted_is_found_again() {
    let there = engine();
    let network = network("restart");
    let consumer = join(&there, network);
    let subscription = subscribe(&consumer, 1);
    let mut seed = [3; 32];
    for life in 0..3 {
        // Twice as the same peer, then as another one.
        seed[0] = u8::from(life == 2);
        let here = engine();
        let config = NodeConfig { identity_seed: Some(seed), ..NodeConfig::new(network) };
        let producer = Node::join(&here, config).expect("a node");
        let publication = publish(&producer, 1);
        carries(&publication, &subscription);
    }
    assert!(consumer.stats().sessions_opened >= 3);
}

#[test]
fn leaving_says_whether_a_remote_consumer_got_everything() {
    let (here, there) = (engine(), engine());
    let network = network("leaving");
    let (producer, consumer) = (join(&here, network), join(&there, network));
    let publication = publish(&producer, 1);
    let subscription = subscribe(&consumer, 1);
    let mut leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    for number in 0..300 {
        push(&publication, number);
    }
    let leaving = producer.shutdown(Duration::from_secs(10));
    for number in 0..300 {
        assert_eq!(next_number(&mut leg), number);
    }
    assert_eq!(wait("the end", leaving), Ok(()));
    assert_eq!(next(&mut leg), Got::Ended(RecvError::Closed));
}

/// Two nodes that name each other and do not belong together: they never meet, and both sides can see why.
fn never_meet(one: NodeConfig, other: NodeConfig) {
    let (here, there) = (engine(), engine());
    let one = Node::join(&here, one).expect("a node");
    let bootstrap = one.local_addrs().to_vec();
    let other = Node::join(&there, NodeConfig { bootstrap, ..other }).expect("a node");
    let _publication = publish(&one, 1);
    let subscription = subscribe(&other, 1);
    let until = std::time::Instant::now() + corewire_testkit::LIMIT;
    while one.stats().foreign_packets < 3 {
        assert!(std::time::Instant::now() < until, "{:?}", one.stats());
        std::thread::yield_now();
    }
    assert_eq!(one.stats().handshakes_finished, 0);
    assert_eq!(other.stats().handshakes_finished, 0);
    assert!(subscription.take_leg().is_none());
    assert!(one.peers().is_empty() && other.peers().is_empty());
}

#[test]
fn a_wrong_network_secret_never_connects_and_is_counted() {
    let network = network("secrets");
    let secret = |first: u8| -> [u8; 32] { std::array::from_fn(|at| first.wrapping_add(at as u8)) };
    let config = |first| NodeConfig { network_secret: Some(secret(first)), ..NodeConfig::new(network) };
    never_meet(config(1), config(2));
}

#[test]
fn a_wrong_network_id_never_connects_and_is_counted() {
    never_meet(NodeConfig::new(network("this one")), NodeConfig::new(network("that one")));
}

#[test]
fn an_address_in_use_is_named() {
    let (here, there) = (engine(), engine_with(2, IoChoice::Epoll));
    let network = network("in use");
    let node = join(&here, network);
    let bind = node.local_addrs().to_vec();
    let error = Node::join(&there, NodeConfig { bind: bind.clone(), ..NodeConfig::new(network) })
        .expect_err("in use");
    assert!(error.to_string().contains(&bind[0].to_string()), "{error}");
}

#[test]
fn a_configuration_that_cannot_work_is_an_error_that_says_so() {
    let many = EngineConfig { shards: 1_000, ..EngineConfig::default() };
    assert!(matches!(Engine::start(many), Err(EngineError::Shards(1_000))));
    let here = engine();
    let weak = NodeConfig { network_secret: Some([1; 32]), ..NodeConfig::new(network("weak")) };
    assert!(matches!(Node::join(&here, weak), Err(JoinError::WeakSecret(_))));
}

#[test]
fn an_address_that_nobody_can_send_to_is_not_announced() {
    let here = engine();
    let network = network("nowhere");
    for text in [
        "0.0.0.0:4000",
        "[::]:4000",
        "192.0.2.1:0",
        "224.0.0.1:4000",
        "[ff02::1]:4000",
        "255.255.255.255:4000",
        "[::ffff:192.0.2.1]:4000",
    ] {
        let address: SocketAddr = text.parse().expect("an address");
        let config = NodeConfig { announce: vec![address], ..NodeConfig::new(network) };
        let error = Node::join(&here, config).expect_err(text);
        assert!(matches!(error, JoinError::Announce { address: named } if named == address), "{error}");
    }
    // In the place of the unspecified address those of the host are announced.
    let bind = vec!["0.0.0.0:0".parse().expect("an address")];
    let node = Node::join(&here, NodeConfig { bind, ..NodeConfig::new(network) }).expect("a node");
    let announced = node.me().addresses().to_vec();
    assert!(!announced.is_empty() && announced.iter().all(|address| !address.ip().is_unspecified()));
    assert_eq!(node.stats().records_unsigned, 0);
}

#[test]
fn an_engine_stops_while_its_nodes_are_in_the_middle_of_it() {
    let (here, there) = (engine(), engine());
    let network = network("stops");
    let (producer, consumer) = (join(&here, network), join(&there, network));
    let publication = publish(&producer, 1);
    let subscription = subscribe(&consumer, 1);
    let mut leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    push(&publication, 1);
    assert_eq!(next_number(&mut leg), 1);
    assert!(here.stop(Duration::from_millis(200)));
    assert!(publication.is_closed());
    assert!(matches!(Node::join(&here, NodeConfig::new(network)), Err(JoinError::Stopped)));
    assert_eq!(next(&mut leg), Got::Ended(RecvError::Closed));
    assert!(wait("the end", producer.shutdown(Duration::ZERO)).is_ok());
}
