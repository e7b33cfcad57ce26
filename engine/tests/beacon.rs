//! Nodes that find each other by beacons, over real multicast on the loopback interface.
#![allow(clippy::print_stderr, reason = "prints what could not be tested here, and times")]

mod engine_rig;
mod namespace;

use std::{
    io::Write,
    net::{IpAddr, SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use corewire_engine::{
    Engine, EngineConfig, HostedEngine,
    driver::IoChoice,
    node::{BeaconReach, Node, NodeConfig},
    peer::PeerChange,
    publication::{Admit, Publication, PublishSpec, Verdict},
    subscription::SubscribeSpec,
};
use corewire_proto::{
    NetworkId, PeerId, TagId,
    beacon::{Beacon, BeaconConfig},
    handshake::NetworkSecret,
    membership::{MAX_STREAMS, SignedRecord},
    seal::KeyBytes,
    session::CloseCode,
};
use engine_rig::{
    Got, engine, join, network, next, next_leg, next_number, push, spec, stream, wait, wait_consumers,
    wait_for,
};

/// A node that is found by its beacon only.
fn found(engine: &Engine, network: NetworkId, reach: BeaconReach) -> Node {
    let config = NodeConfig { use_registry: false, beacon: reach, ..NodeConfig::new(network) };
    Node::join(engine, config).expect("a node")
}

/// Whether this host has multicast on the loopback interface; where it has not, that is printed.
fn has_beacon(node: &Node) -> bool {
    let info = node.beacon();
    if let Some(problem) = &info.problem {
        eprintln!("not tested, no multicast here: {problem}");
    }
    info.problem.is_none()
}

#[test]
fn nodes_of_one_host_meet_without_addresses() {
    let (here, there) = (engine(), engine());
    let network = network("beacon");
    let begun = Instant::now();
    let producer = found(&here, network, BeaconReach::Host);
    if !has_beacon(&producer) {
        return;
    }
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let consumer = found(&there, network, BeaconReach::Host);
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    assert!(leg.inbox().is_remote());
    push(&publication, 7);
    assert_eq!(next_number(&mut leg), 7);
    eprintln!("first datum after {:?}", begun.elapsed());
    let stats = consumer.stats();
    assert!(stats.beacons_sent > 0 && stats.beacons_heard > 0, "{stats:?}");
    assert_eq!((stats.beacons_foreign, stats.beacons_replayed, stats.beacons_refused), (0, 0, 0));
    assert_eq!(consumer.beacon().interfaces, ["lo"]);
}

#[test]
fn nodes_of_other_networks_and_without_a_beacon_stay_alone() {
    let engines = [engine(), engine(), engine(), engine()];
    let (ours, theirs) = (network("beacon ours"), network("beacon theirs"));
    let node = found(&engines[0], ours, BeaconReach::Host);
    if !has_beacon(&node) {
        return;
    }
    let stranger = found(&engines[1], theirs, BeaconReach::Host);
    let silent = found(&engines[2], ours, BeaconReach::Off);
    // By the time these two have met, the others would have too.
    let friend = found(&engines[3], ours, BeaconReach::Host);
    wait_for("the friend", node.watch_peers(), |peers| !peers.is_empty());
    wait_for("the node", friend.watch_peers(), |peers| !peers.is_empty());
    assert_eq!(node.peers().len(), 1);
    assert!(stranger.peers().is_empty() && silent.peers().is_empty());
}

/// So many streams that the record is too long for a beacon.
fn publish_many(producer: &Node) -> Vec<Publication> {
    let number = |n: usize| {
        let mut id = [9; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        corewire_proto::StreamId(id)
    };
    let publish = |n| {
        let spec = PublishSpec { datums: 2, bytes: 4_096, max_datum: 64, ..PublishSpec::new(number(n)) };
        producer.publish(spec).expect("a publication")
    };
    (0..MAX_STREAMS / 4).map(publish).collect()
}

#[test]
fn a_node_that_publishes_much_is_met_too() {
    let (here, there) = (engine(), engine());
    let network = network("beacon long");
    let producer = found(&here, network, BeaconReach::Host);
    if !has_beacon(&producer) {
        return;
    }
    let publications = publish_many(&producer);
    let consumer = found(&there, network, BeaconReach::Host);
    let all = wait_for("the record", consumer.watch_peers(), |peers| {
        peers.iter().any(|peer| peer.streams().len() == publications.len())
    });
    assert_eq!(all[0].peer_id(), producer.peer_id());
    assert_eq!(consumer.stats().handshakes_started, 0, "the record came without a session");
}

#[test]
fn a_long_record_whose_fetch_failed_is_fetched_at_a_later_beacon() {
    let here = engine();
    let network = network("beacon long again");
    // Its beacon has a thread of its own. Its sockets are not read before this thread gives it a turn.
    let there = HostedEngine::start(EngineConfig { io: IoChoice::Epoll, ..EngineConfig::default() });
    let there = there.expect("an engine");
    let producer = found(there.engine(), network, BeaconReach::Host);
    if !has_beacon(&producer) {
        return;
    }
    let publications = publish_many(&producer);
    wait_until("the streams are announced", || producer.me().streams().len() == publications.len());
    let consumer = found(&here, network, BeaconReach::Host);
    wait_until("a fetch without an answer", || consumer.stats().members_unfetched > 0);
    assert!(consumer.peers().is_empty());
    // A member that asks all for their beacons, so that the test need not wait for the next one.
    let now = corewire_proto::time::Instant::ZERO;
    let config = BeaconConfig { key: key(&network), incarnation: 1, seed: [1; 32], max_peers: 1 };
    let mut asker = Beacon::new(now, PeerId([1; 32]), config);
    let record = producer.watch_record().borrow().clone().expect("a record");
    asker.announce(now, &SignedRecord::verify(&record, &network).expect("its own"));
    let datagram = asker.poll_transmit(now).expect("its first beacon");
    let (socket, group) = stranger(&network);
    socket.send_to(&datagram, group).expect("multicast on loopback");
    wait_until("the record", || {
        there.turn();
        consumer.peers().iter().any(|peer| peer.streams().len() == publications.len())
    });
    assert_eq!(consumer.stats().handshakes_started, 0, "the record came without a session");
}

/// Waits until this holds, which is asked again and again.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

fn key(network: &NetworkId) -> KeyBytes {
    NetworkSecret::of_public_network(network).beacon_key(network)
}

/// A socket of a stranger, and the group that `network` meets in.
fn stranger(network: &NetworkId) -> (UdpSocket, SocketAddr) {
    (UdpSocket::bind("127.0.0.1:0").expect("a socket"), Beacon::groups(&key(network)).0)
}

#[test]
fn garbage_in_the_group_is_counted_and_harmless() {
    let (here, there) = (engine(), engine());
    let network = network("beacon garbage");
    let node = found(&here, network, BeaconReach::Host);
    if !has_beacon(&node) {
        return;
    }
    let (attacker, group) = stranger(&network);
    for n in 0..200u8 {
        attacker.send_to(&vec![n; 40 + 9 * usize::from(n)], group).expect("multicast on loopback");
    }
    let friend = found(&there, network, BeaconReach::Host);
    wait_for("the friend", node.watch_peers(), |peers| !peers.is_empty());
    wait_for("the node", friend.watch_peers(), |peers| !peers.is_empty());
    let stats = node.stats();
    // The friend's beacon came behind them; the kernel may have dropped some.
    assert!(stats.beacons_foreign > 0 && stats.beacons_refused == 0, "{stats:?}");
}

#[test]
fn a_flood_in_the_group_is_accounted_for_and_survived() {
    const SENT: u64 = 20_000;
    let (here, there) = (engine(), engine());
    let network = network("beacon flood");
    let node = found(&here, network, BeaconReach::Host);
    if !has_beacon(&node) {
        return;
    }
    let (attacker, group) = stranger(&network);
    for _ in 0..SENT {
        attacker.send_to(&[7; 600], group).expect("multicast on loopback");
    }
    let friend = found(&there, network, BeaconReach::Host);
    wait_for("the friend", node.watch_peers(), |peers| !peers.is_empty());
    wait_for("the node", friend.watch_peers(), |peers| !peers.is_empty());
    let stats = node.stats();
    let counted = stats.beacons_foreign + stats.beacons_flooded + stats.beacons_dropped;
    eprintln!("{SENT} sent: {stats:?}");
    assert!(stats.beacons_foreign > 0 && counted <= SENT + 100, "{stats:?}");
}

#[test]
fn a_departure_is_heard_without_a_session() {
    let (here, there) = (engine(), engine());
    let network = network("beacon leave");
    let (node, other) = (found(&here, network, BeaconReach::Host), found(&there, network, BeaconReach::Host));
    if !has_beacon(&node) {
        return;
    }
    wait_for("the other", node.watch_peers(), |peers| !peers.is_empty());
    let mut changes = node.peer_changes();
    wait("the end", other.shutdown(Duration::ZERO)).expect("nothing to deliver");
    // That it joined may be told after it was seen among the peers.
    let mut told = wait("a change", changes.recv()).expect("the node is there");
    while matches!(&told, PeerChange::Joined(peer) if peer.peer_id() == other.peer_id()) {
        told = wait("another change", changes.recv()).expect("the node is there");
    }
    assert!(matches!(&told, PeerChange::Left(peer) if peer.peer_id() == other.peer_id()), "{told:?}");
    assert_eq!(node.stats().sessions_opened, 0);
}

#[test]
fn a_changed_tag_is_heard_without_a_session() {
    let (here, there) = (engine(), engine());
    let network = network("beacon tag");
    let (node, other) = (found(&here, network, BeaconReach::Host), found(&there, network, BeaconReach::Host));
    if !has_beacon(&node) {
        return;
    }
    wait_for("the other", node.watch_peers(), |peers| !peers.is_empty());
    let tag = TagId([5; 32]);
    other.set_tags(vec![tag]);
    wait_for("the tag", node.watch_peers(), |peers| peers.iter().any(|peer| peer.has_tag(&tag)));
    assert_eq!(node.stats().sessions_opened, 0, "no stream is shared");
}

#[test]
fn a_node_at_the_unspecified_address_is_called_through_a_third_one() {
    let engines = [engine(), engine(), engine()];
    let network = network("unspecified");
    let at = |engine: &Engine, bind: &str, bootstrap: Vec<SocketAddr>| {
        let bind = vec![bind.parse().expect("an address")];
        let config = NodeConfig { use_registry: false, bind, bootstrap, ..NodeConfig::new(network) };
        Node::join(engine, config).expect("a node")
    };
    let hub = at(&engines[0], "127.0.0.1:0", Vec::new());
    let to_hub = hub.local_addrs().to_vec();
    let producer = at(&engines[1], "0.0.0.0:0", to_hub.clone());
    let me = producer.me();
    let port = producer.local_addrs()[0].port();
    let usable = |address: &SocketAddr| !address.ip().is_unspecified() && address.port() == port;
    assert!(!me.addresses().is_empty() && me.addresses().iter().all(usable), "{me:?}");
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let consumer = at(&engines[2], "0.0.0.0:0", to_hub);
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    push(&publication, 5);
    assert_eq!(next_number(&mut leg), 5);
    // The two have a session of their own, so the third one may go.
    wait("the end of the hub", hub.shutdown(Duration::ZERO)).expect("nothing to deliver");
    push(&publication, 6);
    assert_eq!(next_number(&mut leg), 6);
}

#[test]
fn the_unspecified_address_as_a_bootstrap_is_this_host() {
    let (here, there) = (engine(), engine());
    let network = network("bootstrap any");
    let hub = join(&here, network);
    let port = hub.local_addrs()[0].port();
    let bootstrap = vec![SocketAddr::from(([0, 0, 0, 0], port))];
    let config = NodeConfig {
        use_registry: false,
        bind: vec![SocketAddr::from(([0, 0, 0, 0], 0))],
        bootstrap,
        ..NodeConfig::new(network)
    };
    let node = Node::join(&there, config).expect("a node");
    wait_for("the hub", node.watch_peers(), |peers| !peers.is_empty());
}

/// Set in a process that is a producer's host, to its number.
const PRODUCER: &str = "COREWIRE_TEST_PRODUCER";
/// The tag that the consumer asks for.
const WANTED: TagId = TagId([5; 32]);

/// A host of its own with a producer: a child in a network namespace, on one link with this one. It does what
/// is written to it, one word a line, and ends with its input.
struct Host(Child);

impl Host {
    fn start(number: u8, test: &str) -> Self {
        let far = format!("far{number}");
        let setup = "read go; ip link set lo up; ip addr add \"$0\" dev \"$1\"; ip link set \"$1\" up; \
                     shift; exec \"$@\"";
        let this = std::env::current_exe().expect("this program");
        let child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", setup, &format!("10.80.0.{number}/24"), &far])
            .arg(this)
            .args(["--exact", test, "--nocapture"])
            .env(PRODUCER, number.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .expect("a child");
        let id = child.id().to_string();
        ip(&["link", "add", "name", &format!("near{number}"), "type", "veth", "peer", "name", &far]);
        ip(&["link", "set", &format!("near{number}"), "master", "hub", "up"]);
        // The child has its own namespace once `unshare` has made way for the shell.
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let theirs = format!("/proc/{id}/ns/net");
        wait_until("a namespace", || std::fs::read_link(&theirs).expect("a child") != own);
        ip(&["link", "set", &far, "netns", &id]);
        let mut host = Self(child);
        host.tell("go");
        host
    }

    fn tell(&mut self, word: &str) {
        let stdin = self.0.stdin.as_mut().expect("it is piped");
        stdin.write_all(format!("{word}\n").as_bytes()).expect("the child reads");
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("a child").success());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It still runs only if the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a producer's host does.
fn serve_as_told(network: NetworkId) {
    let engine = engine();
    let node = found(&engine, network, BeaconReach::Lan);
    let publication = node.publish(PublishSpec::new(stream(1))).expect("a publication");
    for line in std::io::stdin().lines() {
        match line.expect("a line").as_str() {
            "tag" => node.set_tags(vec![WANTED]),
            "untag" => node.set_tags(Vec::new()),
            number => push(&publication, number.parse().expect("a number")),
        }
    }
}

#[test]
fn traffic_moves_between_hosts_when_they_change_their_tags() {
    let test = "traffic_moves_between_hosts_when_they_change_their_tags";
    let network = NetworkId([0x79; 32]);
    if std::env::var_os(PRODUCER).is_some() {
        return serve_as_told(network);
    }
    if !namespace::in_namespace(test) {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    let bridge = ["link", "add", "name", "hub", "type", "bridge", "mcast_snooping", "0"];
    let bridge = Command::new("ip").args(bridge).output().expect("ip(8)");
    if !bridge.status.success() {
        eprintln!("not tested, no bridge here: {}", String::from_utf8_lossy(&bridge.stderr));
        return;
    }
    ip(&["addr", "add", "10.80.0.9/24", "dev", "hub"]);
    ip(&["link", "set", "hub", "up"]);
    let [mut one, mut other] = [1, 2].map(|number| Host::start(number, test));
    let engine = engine();
    let node = found(&engine, network, BeaconReach::Lan);
    let accept: Admit = Arc::new(|peer| Verdict::from(peer.has_tag(&WANTED)));
    let subscription =
        node.subscribe(SubscribeSpec { accept: Some(accept), ..spec(1) }).expect("a subscription");
    wait_for("both hosts", node.watch_peers(), |peers| peers.len() == 2);
    assert!(subscription.take_leg().is_none(), "neither has the tag");
    one.tell("tag");
    let mut from_one = next_leg(&subscription);
    one.tell("1");
    assert_eq!(next_number(&mut from_one), 1);
    let begun = Instant::now();
    other.tell("tag");
    one.tell("untag");
    let mut from_other = next_leg(&subscription);
    assert_ne!(from_other.channel().producer_id(), from_one.channel().producer_id());
    other.tell("2");
    assert_eq!(next_number(&mut from_other), 2);
    assert!(matches!(next(&mut from_one), Got::Ended(_)));
    assert_eq!(from_one.channel().shared().close_code(), Some(CloseCode::NOT_ALLOWED));
    eprintln!("traffic has moved after {:?}", begun.elapsed());
    one.tell("3");
    other.tell("4");
    assert_eq!(next_number(&mut from_other), 4);
    assert!(subscription.take_leg().is_none(), "nothing comes from the first one any more");
    one.end();
    other.end();
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip(8)");
    assert!(status.success(), "ip {arguments:?}");
}

#[test]
fn addresses_of_interfaces_that_change_are_followed() {
    if !namespace::in_namespace("addresses_of_interfaces_that_change_are_followed") {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    ip(&["link", "add", "left", "type", "veth", "peer", "name", "right"]);
    ip(&["link", "set", "left", "up"]);
    ip(&["link", "set", "right", "up"]);
    ip(&["addr", "add", "10.77.0.1/24", "dev", "left"]);
    let (here, there) = (engine(), engine());
    let network = network("follow");
    let node = found(&here, network, BeaconReach::Lan);
    let other = found(&there, network, BeaconReach::Lan);
    let has = |node: &Node, other: &Node, ip: &str| {
        let (peer, ip): (_, IpAddr) = (other.peer_id(), ip.parse().expect("an address"));
        wait_for(&format!("{ip} in the record"), node.watch_peers(), move |peers| {
            let entry = peers.iter().find(|entry| entry.peer_id() == peer);
            entry.is_some_and(|entry| entry.addresses().iter().any(|address| address.ip() == ip))
        });
    };
    has(&other, &node, "10.77.0.1");
    let publication = node.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = other.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    push(&publication, 1);
    assert_eq!(next_number(&mut leg), 1);
    ip(&["addr", "add", "10.79.0.2/24", "dev", "left"]);
    has(&other, &node, "10.79.0.2");
    ip(&["addr", "del", "10.77.0.1/24", "dev", "left"]);
    wait_for("the old address to go", other.watch_peers(), |peers| {
        peers
            .iter()
            .all(|peer| peer.addresses().iter().all(|address| address.ip() != IpAddr::from([10, 77, 0, 1])))
    });
    for number in 2..50u64 {
        push(&publication, number);
        // Both ends of the session are gone with the address. The next session goes on where it stopped.
        let got = loop {
            match next(&mut leg) {
                Got::Datum { skipped, bytes, .. } => break (skipped, bytes),
                Got::Ended(_) => leg = next_leg(&subscription),
            }
        };
        assert_eq!(got, (0, number.to_le_bytes().to_vec()), "nothing is lost");
    }
}
