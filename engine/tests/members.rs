//! Nodes that have no session with each other: they learn of each other's changes, departures and deaths.

mod engine_rig;
#[allow(dead_code, unused_imports, reason = "each test program uses its own part")]
mod swarm_rig;

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use corewire_engine::{
    Engine,
    node::{Node, NodeConfig},
    peer::PeerChange,
    publication::PublishSpec,
};
use corewire_proto::{NetworkId, PeerId, StreamId, TagId, wire::header::PacketKind};
use engine_rig::{engine, network, wait, wait_for};
use swarm_rig::{Internet, Setup};
use tokio::sync::broadcast::Receiver;

const TAGS: [TagId; 1] = [TagId([5; 32])];

/// Hosts that have met through the first one, which is known to all by its address.
fn met_through_the_first(seed: u64, hosts: usize) -> Internet {
    met_with(Setup::small(), seed, hosts)
}

fn met_with(setup: Setup, seed: u64, hosts: usize) -> Internet {
    let mut net = Internet::with(seed, hosts, 1, setup);
    net.meeting = Some(0);
    (0..hosts).for_each(|place| net.start(place));
    net.run_for(Duration::from_secs(5));
    for place in 0..hosts {
        assert_eq!(net.node(place).expect("a node").peers().len(), hosts - 1, "all know all");
    }
    net
}

fn sessions(net: &Internet, place: usize) -> usize {
    net.hosts[&net.places[place]].load().sessions
}

fn failures(changes: &mut Receiver<PeerChange>) -> Vec<PeerId> {
    let mut failed = Vec::new();
    while let Ok(change) = changes.try_recv() {
        match change {
            PeerChange::Failed(peer) => failed.push(peer.peer_id()),
            PeerChange::Joined(peer) => panic!("{:?} was there all the time", peer.peer_id()),
            PeerChange::Changed { .. } | PeerChange::Left(_) => {}
        }
    }
    failed
}

#[test]
fn nodes_without_a_common_stream_have_no_session() {
    let net = met_through_the_first(3, 8);
    for place in 1..8 {
        assert_eq!(sessions(&net, place), 1, "with the meeting place only");
    }
}

#[test]
fn peer_without_a_session_that_loses_power_is_missed_in_seconds() {
    for seed in 0..3 {
        let mut net = met_through_the_first(seed, 6);
        let mut changes: Vec<_> =
            (1..5).map(|place| net.node(place).expect("a node").peer_changes()).collect();
        let lost = net.node(5).expect("a node").peer_id();
        net.crash(5);
        net.run_for(Duration::from_secs(9));
        for changes in &mut changes {
            assert_eq!(failures(changes), [lost], "seed {seed}");
        }
        net.run_for(Duration::from_secs(60));
        for changes in &mut changes {
            assert_eq!(failures(changes), [], "seed {seed}: told once");
        }
        let stats = net.node(1).expect("a node").stats();
        assert_eq!((stats.members_failed, stats.members_foreign, stats.members_refused), (1, 0, 0));
        net.start(5);
        net.run_for(Duration::from_secs(3));
        assert!((0..5).all(|place| net.node(place).expect("a node").peer(&lost).is_some()), "it is back");
    }
}

#[test]
fn shorter_probe_period_makes_a_loss_known_sooner() {
    let mut setup = Setup::small();
    setup.times.probe_period = Duration::from_millis(200);
    let mut net = met_with(setup, 3, 6);
    let mut changes = net.node(1).expect("a node").peer_changes();
    let lost = net.node(5).expect("a node").peer_id();
    net.crash(5);
    // A sixth of the time that the default needs at most.
    net.run_for(Duration::from_millis(2_000));
    assert_eq!(failures(&mut changes), [lost]);
}

#[test]
fn network_goes_on_without_the_node_that_it_met_through() {
    let mut net = met_through_the_first(5, 6);
    let [first, changed] = [0, 1].map(|place| net.node(place).expect("a node").peer_id());
    net.crash(0);
    // The sessions with it end some seconds after ten without an answer.
    net.run_for(Duration::from_secs(20));
    for place in 1..6 {
        assert_eq!(sessions(&net, place), 0, "host {place}");
        assert_eq!(net.node(place).expect("a node").peers().len(), 4);
        assert!(net.node(place).expect("a node").peer(&first).is_none());
    }
    net.node(1).expect("a node").set_tags(TAGS.to_vec());
    net.run_for(Duration::from_secs(2));
    for place in 2..6 {
        let seen = net.node(place).expect("a node").peer(&changed).expect("it is known");
        assert_eq!(seen.tags(), TAGS, "news need no session");
    }
    // One leaves in order.
    net.hosts.get_mut(&net.places[2]).expect("a host").node = None;
    net.run_for(Duration::from_secs(2));
    for place in [1, 3, 4, 5] {
        assert_eq!(net.node(place).expect("a node").peers().len(), 3, "the departure is known");
        assert_eq!(net.node(place).expect("a node").stats().members_failed, 1, "the first one only");
    }
    net.start(0);
    net.run_for(Duration::from_secs(5));
    assert_eq!(net.node(0).expect("a node").peers().len(), 4, "the others find it again");
}

#[test]
fn record_too_long_for_a_packet_is_known_to_all_without_a_session() {
    let mut net = met_through_the_first(7, 5);
    net.crash(0);
    net.run_for(Duration::from_secs(20));
    let producer = net.node(1).expect("a node");
    let publications: Vec<_> = (0..100)
        .map(|n| {
            let spec =
                PublishSpec { datums: 2, bytes: 4_096, max_datum: 64, ..PublishSpec::new(StreamId([n; 32])) };
            producer.publish(spec).expect("a publication")
        })
        .collect();
    let producer = producer.peer_id();
    let begun = |net: &Internet| {
        (2..5).map(|place| net.node(place).expect("a node").stats().handshakes_started).sum::<u64>()
    };
    let before = begun(&net);
    net.run_for(Duration::from_secs(4));
    for place in 2..5 {
        let seen = net.node(place).expect("a node").peer(&producer).expect("it is known");
        assert_eq!(seen.streams().len(), publications.len(), "host {place}");
        assert_eq!(sessions(&net, place), 0, "host {place}");
    }
    // They go on trying the first one, but no one else.
    assert!(begun(&net) - before <= 3 * 4, "{} handshakes", begun(&net) - before);
}

#[test]
fn process_that_stands_still_for_moments_is_not_given_up() {
    let mut net = met_through_the_first(6, 6);
    for place in 1..6 {
        net.freeze(place, true);
        net.run_for(Duration::from_millis(2_500));
        net.freeze(place, false);
        net.run_for(Duration::from_secs(4));
    }
    for place in 0..6 {
        assert_eq!(net.node(place).expect("a node").stats().members_failed, 0);
        assert_eq!(net.node(place).expect("a node").peers().len(), 5);
    }
}

/// A node that meets only those whose address it is given.
fn hidden(engine: &Engine, network: NetworkId, bootstrap: &[SocketAddr]) -> Node {
    let bootstrap = bootstrap.to_vec();
    Node::join(engine, NodeConfig { use_registry: false, bootstrap, ..NodeConfig::new(network) })
        .expect("a node")
}

#[test]
fn nodes_that_met_through_a_third_tell_each_other_news_over_udp() {
    let engines = [engine(), engine(), engine()];
    let network = network("members");
    let seed = hidden(&engines[0], network, &[]);
    let at = [seed.local_addrs()[0]];
    let [one, other] = [1, 2].map(|n| hidden(&engines[n], network, &at));
    wait_for("the other", one.watch_peers(), |peers| peers.len() == 2);
    wait_for("the one", other.watch_peers(), |peers| peers.len() == 2);
    wait("the seed leaves", seed.shutdown(Duration::ZERO)).expect("nothing to deliver");
    wait_for("its departure", one.watch_peers(), |peers| peers.len() == 1);
    wait_for("its departure", other.watch_peers(), |peers| peers.len() == 1);
    one.set_tags(TAGS.to_vec());
    wait_for("the tag", other.watch_peers(), |peers| peers.len() == 1 && peers[0].tags() == TAGS);
    wait("the one leaves", one.shutdown(Duration::ZERO)).expect("nothing to deliver");
    wait_for("its departure", other.watch_peers(), |peers| peers.is_empty());
    let stats = other.stats();
    assert_eq!(stats.sessions_opened, 1, "{stats:?}");
    assert!(stats.members_sent > 0 && stats.members_heard > 0, "{stats:?}");
}

/// Waits until a counter of a node has this value.
#[track_caller]
fn wait_count(what: &str, wanted: u64, count: impl Fn() -> u64) {
    let begun = Instant::now();
    while count() != wanted {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {} of {wanted}", count());
        std::thread::yield_now();
    }
}

#[test]
fn forged_membership_packets_are_counted_and_not_answered() {
    let engine = engine();
    let node = hidden(&engine, network("members forged"), &[]);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = node.local_addrs()[0];
    let mut packet = vec![0; 200];
    (packet[0], packet[1]) = (PacketKind::Member.first_byte(), 1);
    for n in 0..50 {
        packet[30] = n;
        stranger.send_to(&packet, to).expect("sent");
    }
    wait_count("foreign packets", 50, || node.stats().members_foreign);
    packet.resize(1_800, 7);
    stranger.send_to(&packet, to).expect("sent");
    wait_count("packets that are too long", 51, || node.stats().members_foreign);
    assert_eq!(node.stats().members_heard, 0);
    stranger.set_nonblocking(true).expect("a socket");
    assert!(stranger.recv_from(&mut packet).is_err(), "a stranger gets no answer");
}
