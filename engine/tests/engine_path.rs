//! Engines on paths that change: a translator that gives a peer another port, and links of several sizes.

mod engine_rig;
mod namespace;

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use corewire_engine::{
    Counter, Engine,
    driver::IoChoice,
    node::{Node, NodeConfig},
    publication::{Publication, PublishSpec},
    subscription::Leg,
};
use corewire_proto::NetworkId;
use engine_rig::{Got, engine_with, network, next, next_leg, spec, stream, wait, wait_consumers};
use namespace::{in_namespace, set_address, set_mtu};

const LEN: usize = 1_000;

/// A node that knows of no other but by `bootstrap`.
fn hidden(engine: &Engine, network: NetworkId, bootstrap: Vec<SocketAddr>) -> Node {
    let config = NodeConfig { use_registry: false, bootstrap, ..NodeConfig::new(network) };
    Node::join(engine, config).expect("a node")
}

/// Sends datums of [`LEN`] bytes that begin with their number.
fn send(publication: &Publication, numbers: std::ops::Range<u64>) {
    let writer = publication.writer();
    for number in numbers {
        let mut claim = wait("room in the ring", writer.claim(LEN)).expect("an open ring");
        claim.fill(0);
        claim[..8].copy_from_slice(&number.to_le_bytes());
        claim.commit();
    }
}

/// Sends and takes these datums, none of which may be lost or out of order.
fn carry(publication: &Publication, leg: &mut Leg, numbers: std::ops::Range<u64>) {
    thread::scope(|scope| {
        scope.spawn(|| send(publication, numbers.clone()));
        for number in numbers.clone() {
            match next(leg) {
                Got::Datum { bytes, skipped: 0, .. } => assert_eq!(bytes[..8], number.to_le_bytes()),
                other => panic!("{number} and not {other:?}"),
            }
        }
    });
}

/// The sum of a counter over the shards of an engine.
fn count(engine: &Engine, counter: Counter) -> u64 {
    engine.counters().iter().map(|shard| shard.get(counter)).sum()
}

/// A translator in front of one host: others see a port of its own, which it can change.
struct Translator {
    /// Where the hidden host sends to.
    inner: Arc<UdpSocket>,
    /// Which port the server sees.
    outer: Arc<Mutex<Arc<UdpSocket>>>,
    /// Ports that it saw before. Packets to them vanish: a closed one would refuse them, and a peer whose
    /// port refuses for a second counts as gone.
    former: Mutex<Vec<Arc<UdpSocket>>>,
    server: SocketAddr,
    client: Arc<Mutex<Option<SocketAddr>>>,
}

fn loopback() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a free port"))
}

/// Receives until the socket is told that nothing follows: by an empty datagram.
fn each_datagram(socket: &UdpSocket, mut on: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((0, _)) => return,
            Ok((len, from)) => on(&buffer[..len], from),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("{error}"),
        }
    }
}

impl Translator {
    fn new(server: SocketAddr) -> Self {
        let translator = Self {
            inner: loopback(),
            outer: Arc::new(Mutex::new(loopback())),
            former: Mutex::default(),
            server,
            client: Arc::default(),
        };
        let (inner, outer) = (translator.inner.clone(), translator.outer.clone());
        let client = translator.client.clone();
        thread::spawn(move || {
            each_datagram(&inner, |bytes, from| {
                *client.lock().expect("no panic") = Some(from);
                let outer = outer.lock().expect("no panic").clone();
                let _ = outer.send_to(bytes, server);
            });
        });
        translator.open();
        translator
    }

    fn address(&self) -> SocketAddr {
        self.inner.local_addr().expect("a bound socket")
    }

    /// Forwards what comes to the current port until there is another.
    fn open(&self) {
        let outer = self.outer.lock().expect("no panic").clone();
        let (inner, client, server) = (self.inner.clone(), self.client.clone(), self.server);
        thread::spawn(move || {
            each_datagram(&outer, |bytes, from| {
                if let Some(client) = *client.lock().expect("no panic")
                    && from == server
                {
                    let _ = inner.send_to(bytes, client);
                }
            });
        });
    }

    fn change_port(&self) {
        let before = std::mem::replace(&mut *self.outer.lock().expect("no panic"), loopback());
        end(&before);
        self.former.lock().expect("no panic").push(before);
        self.open();
    }
}

fn end(socket: &UdpSocket) {
    let _ = socket.send_to(&[], socket.local_addr().expect("a bound socket"));
}

impl Drop for Translator {
    fn drop(&mut self) {
        end(&self.inner);
        end(&self.outer.lock().expect("no panic"));
    }
}

#[test]
fn session_goes_on_when_a_translator_changes_the_port() {
    for consumer_moves in [true, false] {
        for io in [IoChoice::Auto, IoChoice::Epoll] {
            let (here, there) = (engine_with(1, io), engine_with(1, io));
            let network = network(&format!("moves {consumer_moves} {io:?}"));
            // The side that moves is the one behind the translator, and calls.
            let called = hidden(&there, network, Vec::new());
            let translator = Translator::new(called.local_addrs()[0]);
            let calls = hidden(&here, network, vec![translator.address()]);
            let (producer, consumer) = if consumer_moves { (&called, &calls) } else { (&calls, &called) };
            let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
            let subscription = consumer.subscribe(spec(1)).expect("a subscription");
            let mut leg = next_leg(&subscription);
            wait_consumers(&publication, 1);
            carry(&publication, &mut leg, 0..500);
            for round in 1..3 {
                translator.change_port();
                carry(&publication, &mut leg, round * 500..(round + 1) * 500);
            }
            // A packet under way may show a former port last.
            assert!(count(&there, Counter::PeersMoved) >= 1);
            assert_eq!(count(&here, Counter::PeersMoved), 0);
            for node in [&called, &calls] {
                assert_eq!(node.stats().sessions_opened, 1, "the session has gone on");
            }
        }
    }
}

/// Carries a stream over a loopback of these sizes, one after the other, and says how large the packets were
/// at the last one.
fn over_loopback_of(io: IoChoice, sizes: &[u32]) -> u64 {
    assert!(set_mtu(sizes[0]).status().expect("ip(8)").success());
    let (here, there) = (engine_with(1, io), engine_with(1, io));
    let network = network(&format!("{sizes:?} {io:?}"));
    let producer = hidden(&here, network, Vec::new());
    let consumer = hidden(&there, network, producer.local_addrs().to_vec());
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    let mut bytes = 0;
    for (round, size) in (0..).zip(sizes) {
        assert!(set_mtu(*size).status().expect("ip(8)").success());
        // Enough for the search to end, and then some to look at.
        carry(&publication, &mut leg, round * 8_000..round * 8_000 + 6_000);
        let before = [Counter::BytesSent, Counter::PacketsSent].map(|counter| count(&here, counter));
        carry(&publication, &mut leg, round * 8_000 + 6_000..(round + 1) * 8_000);
        let after = [Counter::BytesSent, Counter::PacketsSent].map(|counter| count(&here, counter));
        bytes = (after[0] - before[0]) / (after[1] - before[1]);
    }
    assert_eq!(producer.stats().sessions_opened, 1, "the session has gone on");
    bytes
}

#[test]
fn loopback_of_1500_bytes_carries_packets_of_that_size() {
    if in_namespace("loopback_of_1500_bytes_carries_packets_of_that_size") {
        for io in [IoChoice::Auto, IoChoice::Epoll] {
            let bytes = over_loopback_of(io, &[1_500]);
            assert!((1_000..=1_472).contains(&bytes), "{bytes} bytes a packet");
        }
    }
}

#[test]
fn path_of_1280_bytes_carries_a_stream() {
    if in_namespace("path_of_1280_bytes_carries_a_stream") {
        let bytes = over_loopback_of(IoChoice::Auto, &[1_280]);
        assert!(bytes <= 1_252, "{bytes} bytes a packet");
    }
}

#[test]
fn path_of_1000_bytes_carries_a_stream() {
    if in_namespace("path_of_1000_bytes_carries_a_stream") {
        for io in [IoChoice::Auto, IoChoice::Epoll] {
            let bytes = over_loopback_of(io, &[1_000]);
            assert!(bytes > 500 && bytes <= 972, "{bytes} bytes a packet");
        }
    }
}

#[test]
fn session_goes_on_when_the_address_that_was_called_is_lost() {
    const CALLED: &str = "10.99.0.1/32";
    if in_namespace("session_goes_on_when_the_address_that_was_called_is_lost") {
        for io in [IoChoice::Auto, IoChoice::Epoll] {
            let change = |change| assert!(set_address(change, CALLED).status().expect("ip(8)").success());
            assert!(set_mtu(65_536).status().expect("ip(8)").success());
            change("add");
            let (here, there) = (engine_with(1, io), engine_with(1, io));
            let network = network(&format!("lost address {io:?}"));
            let join = |engine: &Engine, ip: [u8; 4], bootstrap| {
                let bind = vec![SocketAddr::from((ip, 0))];
                let config = NodeConfig { use_registry: false, bind, bootstrap, ..NodeConfig::new(network) };
                Node::join(engine, config).expect("a node")
            };
            let producer = join(&here, [0; 4], Vec::new());
            let called = SocketAddr::from(([10, 99, 0, 1], producer.local_addrs()[0].port()));
            let consumer = join(&there, [127, 0, 0, 1], vec![called]);
            let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
            let subscription = consumer.subscribe(spec(1)).expect("a subscription");
            let mut leg = next_leg(&subscription);
            wait_consumers(&publication, 1);
            carry(&publication, &mut leg, 0..500);
            change("del");
            carry(&publication, &mut leg, 500..1_000);
            assert_eq!(count(&there, Counter::PeersMoved), 1);
            assert_eq!(producer.stats().sessions_opened, 1, "the session has gone on");
        }
    }
}

#[test]
fn path_that_shrinks_to_1280_bytes_under_load_goes_on() {
    if in_namespace("path_that_shrinks_to_1280_bytes_under_load_goes_on") {
        for io in [IoChoice::Auto, IoChoice::Epoll] {
            let bytes = over_loopback_of(io, &[65_536, 1_500, 1_280]);
            assert!(bytes <= 1_252, "{bytes} bytes a packet");
        }
    }
}

#[test]
fn whole_loopback_carries_large_packets() {
    if in_namespace("whole_loopback_carries_large_packets") {
        let bytes = over_loopback_of(IoChoice::Auto, &[65_536]);
        assert!(bytes > 4_000, "{bytes} bytes a packet");
    }
}
