//! Rekeying under running streams, over UDP on the loopback interface. Keys are due after milliseconds here
//! instead of two minutes.

mod engine_rig;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use corewire_engine::{
    Engine,
    driver::IoChoice,
    node::{Node, NodeConfig},
    publication::{Publication, PublishSpec},
    shared::ChannelState,
    subscription::{Leg, Subscription},
};
use corewire_proto::{NetworkId, session::SessionConfig};
use corewire_testkit::LIMIT;
use engine_rig::{engine, engine_with, network, next_leg, next_number, push, spec, stream, wait_consumers};

/// A node whose sessions get new keys this often.
fn node(engine: &Engine, network: NetworkId, session: SessionConfig) -> Node {
    Node::join(engine, NodeConfig { session, ..NodeConfig::new(network) }).expect("a node")
}

fn every(rekey_after: Duration) -> SessionConfig {
    SessionConfig { rekey_after, ..SessionConfig::default() }
}

fn publish(node: &Node) -> Publication {
    node.publish(PublishSpec::new(stream(1))).expect("a publication")
}

fn subscribe(node: &Node) -> Subscription {
    node.subscribe(spec(1)).expect("a subscription")
}

/// Sends numbers until both ends of the session have changed their key `changes` times, and some more. Every
/// number must arrive once, in order, through the same channel.
fn flows(nodes: [&Node; 2], publication: &Publication, leg: &mut Leg, changes: u64) {
    wait_consumers(publication, 1);
    let until = Instant::now() + LIMIT;
    let enough = || nodes.iter().all(|node| node.stats().sessions_rekeyed >= changes);
    let (stop, pushed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                push(publication, pushed.load(Ordering::Relaxed));
                pushed.fetch_add(1, Ordering::Release);
            }
        });
        let mut number = 0;
        loop {
            let late = Instant::now() >= until;
            if late || enough() {
                stop.store(true, Ordering::Relaxed);
            }
            if stop.load(Ordering::Relaxed) && number >= pushed.load(Ordering::Acquire) {
                assert!(!late, "only {:?} after {number}", nodes.map(|node| node.stats()));
                break;
            }
            assert_eq!(next_number(leg), number);
            number += 1;
        }
    });
    // What the producer pushed between the last look and its end.
    let rest = pushed.load(Ordering::Acquire);
    push(publication, rest);
    let mut last = next_number(leg);
    while last != rest {
        last = next_number(leg);
    }
    let shared = leg.channel().shared();
    assert_eq!((shared.state(), shared.close_code()), (ChannelState::Connected, None));
    for node in nodes {
        let stats = node.stats();
        assert_eq!(stats.sessions_lost, 0, "{stats:?}");
        assert_eq!(stats.broken_packets + stats.foreign_packets, 0, "{stats:?}");
    }
}

fn two_engines(io: IoChoice, shards: usize, session: &SessionConfig, name: &str, changes: u64) {
    let (here, there) = (engine_with(shards, io), engine_with(shards, io));
    let network = network(name);
    let (producer, consumer) =
        (node(&here, network, session.clone()), node(&there, network, session.clone()));
    let publication = publish(&producer);
    let subscription = subscribe(&consumer);
    let mut leg = next_leg(&subscription);
    assert!(leg.inbox().is_remote());
    flows([&producer, &consumer], &publication, &mut leg, changes);
    assert_eq!(producer.stats().channels_served, 1);
    assert_eq!(consumer.stats().channels_connected, 1);
}

#[test]
fn a_stream_flows_on_while_the_key_changes_ten_times() {
    two_engines(IoChoice::Epoll, 1, &every(Duration::from_millis(50)), "rekey", 10);
}

#[test]
fn a_stream_flows_on_over_the_best_driver_that_is_allowed_here() {
    two_engines(IoChoice::Auto, 1, &every(Duration::from_millis(50)), "rekey auto", 5);
}

#[test]
fn handshakes_for_a_session_of_any_shard_find_it() {
    two_engines(IoChoice::Epoll, 2, &every(Duration::from_millis(50)), "rekey shards", 5);
}

#[test]
fn both_ends_begin_at_once_again_and_again_and_agree() {
    // A key is due the moment it comes, at both ends.
    two_engines(IoChoice::Epoll, 1, &every(Duration::ZERO), "rekey storm", 40);
}

#[test]
fn a_key_is_also_replaced_after_so_many_packets() {
    let session = SessionConfig { rekey_after_packets: 500, ..SessionConfig::default() };
    two_engines(IoChoice::Epoll, 1, &session, "rekey packets", 5);
}

#[test]
fn peers_that_met_by_address_change_keys_as_well() {
    let (here, there) = (engine(), engine());
    let network = network("rekey address");
    let hidden = |engine: &Engine, bootstrap: Vec<SocketAddr>| {
        let session = every(Duration::from_millis(50));
        let config = NodeConfig { use_registry: false, bootstrap, session, ..NodeConfig::new(network) };
        Node::join(engine, config).expect("a node")
    };
    let producer = hidden(&here, Vec::new());
    let consumer = hidden(&there, producer.local_addrs().to_vec());
    let publication = publish(&producer);
    let subscription = subscribe(&consumer);
    let mut leg = next_leg(&subscription);
    flows([&producer, &consumer], &publication, &mut leg, 5);
}
