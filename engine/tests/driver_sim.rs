//! The simulated world: one seed gives the same bytes, every fault happens and is counted, and time moves
//! only on request.

use std::{net::SocketAddr, time::Duration};

use corewire_engine::driver::{
    Driver, DriverConfig, Route, SocketId,
    bind::BindError,
    sim::{HostId, Link, SimDriver, World, WorldStats},
};

/// A host with one driver and one socket.
struct Node {
    host: HostId,
    driver: SimDriver,
    socket: SocketId,
    address: SocketAddr,
}

fn node(world: &World) -> Node {
    let host = world.host();
    let mut driver = world.driver(host);
    let socket = world.bind(host, (world.ip(host), 0).into(), 1).unwrap().remove(0);
    let address = socket.local_addr();
    let socket = driver.add_socket(socket.into()).unwrap();
    Node { host, driver, socket, address }
}

impl Node {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let mut lease = self.driver.lease().unwrap();
        lease[..bytes.len()].copy_from_slice(bytes);
        self.driver.send(Route::new(self.socket, to), lease, bytes.len(), bytes.len());
        self.driver.submit().unwrap();
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        self.driver.receive(usize::MAX, |datagram| got.push(datagram.bytes.to_vec()));
        got
    }
}

/// Sends `count` numbered datagrams of 100 bytes, 10 µs apart, and gives what arrives in order of arrival.
fn stream(world: &World, from: &mut Node, to: &mut Node, count: u32) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    for number in 0..count {
        let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(100).collect();
        from.send(to.address, &bytes);
        world.advance_to(world.now() + Duration::from_micros(10));
        got.extend(to.receive());
    }
    while !world.is_quiet() {
        world.advance_to_next_event();
        got.extend(to.receive());
    }
    got
}

const BAD: Link = Link {
    jitter: Duration::from_micros(50),
    loss: 0.1,
    duplicate: 0.1,
    reorder: 0.1,
    reorder_by: Duration::from_millis(1),
    corrupt: 0.1,
    truncate: 0.1,
    ..Link::CLEAN
};

fn bad_day(seed: u64) -> (u64, WorldStats, Vec<Vec<u8>>) {
    let world = World::new(seed);
    let (mut a, mut b) = (node(&world), node(&world));
    world.set_default_link(BAD);
    let there = stream(&world, &mut a, &mut b, 500);
    let mut back = stream(&world, &mut b, &mut a, 500);
    back.extend(there);
    (world.trace_hash(), world.stats(), back)
}

#[test]
fn the_same_seed_does_the_same_to_the_byte_and_another_does_not() {
    let (first, again, other) = (bad_day(42), bad_day(42), bad_day(43));
    assert!(first == again);
    assert_ne!(first.0, other.0);
    assert!(first.2 != other.2);
}

#[test]
fn every_fault_happens_at_about_its_rate_and_the_books_balance() {
    let (_, stats, got) = bad_day(7);
    assert_eq!(stats.sent, 1000);
    for (name, count) in [
        ("lost", stats.lost),
        ("duplicated", stats.duplicated),
        ("reordered", stats.reordered),
        ("corrupted", stats.corrupted),
        ("truncated", stats.truncated),
    ] {
        assert!((50..200).contains(&count), "{name}: {count} of 1000");
    }
    assert_eq!(stats.delivered, stats.sent - stats.lost + stats.duplicated);
    assert_eq!(got.len() as u64, stats.delivered);
    assert!(got.iter().any(|bytes| bytes.len() < 100));
}

#[test]
fn a_clean_link_delivers_all_in_order_after_its_delay() {
    let world = World::new(1);
    let (mut a, mut b) = (node(&world), node(&world));
    let got = stream(&world, &mut a, &mut b, 100);
    assert!(got.iter().map(|bytes| u32::from_le_bytes(bytes[..4].try_into().unwrap())).eq(0..100));
    let sent_at = world.now();
    a.send(b.address, b"x");
    assert!(b.receive().is_empty());
    assert_eq!(world.advance_to_next_event(), Some(sent_at + Link::CLEAN.delay));
    assert_eq!(b.receive(), [b"x"]);
}

#[test]
fn a_partition_stops_everything_and_mends() {
    let world = World::new(1);
    let (mut a, mut b) = (node(&world), node(&world));
    let mut third = node(&world);
    world.set_partition(&[a.host], &[b.host], true);
    assert!(stream(&world, &mut a, &mut b, 10).is_empty());
    assert!(stream(&world, &mut b, &mut a, 10).is_empty());
    assert_eq!(stream(&world, &mut a, &mut third, 10).len(), 10);
    assert_eq!(world.stats().cut, 20);
    world.set_partition(&[a.host], &[b.host], false);
    assert_eq!(stream(&world, &mut a, &mut b, 10).len(), 10);
    // One direction only.
    world.set_cut(b.host, a.host, true);
    assert_eq!(stream(&world, &mut a, &mut b, 10).len(), 10);
    assert!(stream(&world, &mut b, &mut a, 10).is_empty());
}

#[test]
fn a_slow_link_a_small_mtu_and_a_small_queue_drop_and_count() {
    let world = World::new(1);
    let (mut a, mut b) = (node(&world), node(&world));
    world.set_link(
        a.host,
        b.host,
        Link { bytes_per_second: Some(1_000_000), queue_bytes: 1000, ..Link::CLEAN },
    );
    // 100 bytes every 10 µs is ten times what the link carries.
    let arrived = stream(&world, &mut a, &mut b, 500).len() as u64;
    let stats = world.stats();
    assert!(stats.queue_full > 300 && arrived + stats.queue_full == 500, "{stats:?}");

    world.set_link(a.host, b.host, Link { mtu_bytes: 99, ..Link::CLEAN });
    assert!(stream(&world, &mut a, &mut b, 10).is_empty());
    assert_eq!(world.stats().too_large, 10);

    world.set_link(a.host, b.host, Link::CLEAN);
    world.limit_receive_queues(3);
    for number in 0..10 {
        a.send(b.address, &[number]);
    }
    world.advance_to(world.now() + Duration::from_millis(1));
    assert_eq!(b.receive(), [[0], [1], [2]]);
    assert_eq!(b.driver.counters().kernel_receive_drops, 7);
}

#[test]
fn a_crash_closes_every_socket_and_the_host_comes_back() {
    let world = World::new(1);
    let (mut a, mut b) = (node(&world), node(&world));
    a.send(b.address, b"on its way");
    world.crash(b.host);
    world.advance_to(world.now() + Duration::from_millis(1));
    assert!(b.receive().is_empty());
    assert_eq!(a.driver.counters().send_unreachable, 1);
    let socket = world.bind(b.host, b.address, 1).unwrap().remove(0);
    b.driver = world.driver(b.host);
    b.socket = b.driver.add_socket(socket.into()).unwrap();
    assert_eq!(stream(&world, &mut a, &mut b, 5).len(), 5);
}

#[test]
fn time_goes_to_the_next_deadline_or_wake_up_and_stands_still_otherwise() {
    let world = World::new(1);
    let (mut a, mut b) = (node(&world), node(&world));
    assert_eq!(world.advance_to_next_event(), None, "nobody waits for anything");
    let (soon, later) = (world.now() + Duration::from_secs(1), world.now() + Duration::from_secs(2));
    a.driver.park(Some(later));
    b.driver.park(Some(soon));
    assert!(!a.driver.is_due() && !b.driver.is_due());
    assert_eq!(world.advance_to_next_event(), Some(soon));
    assert!(b.driver.is_due() && !a.driver.is_due());
    b.driver.park(None);
    a.driver.waker().wake();
    assert!(a.driver.is_due());
    assert_eq!(world.advance_to_next_event(), Some(soon), "a wake-up does not wait for time");
    // The wake-up is used up by the park that it ends.
    a.driver.park(Some(later));
    assert_eq!(world.advance_to_next_event(), Some(soon));
    a.driver.park(Some(later));
    assert_eq!(world.advance_to_next_event(), Some(later));
    a.driver.park(None);
    assert_eq!(world.advance_to_next_event(), None);
}

#[test]
fn loopback_is_per_host_and_the_unspecified_address_means_all() {
    let world = World::new(1);
    let (mut a, mut b) = (node(&world), node(&world));
    let loopback: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let any: SocketAddr = "0.0.0.0:77".parse().unwrap();
    let listen = |node: &mut Node, address| {
        let socket = world.bind(node.host, address, 1).unwrap().remove(0);
        node.driver.add_socket(socket.into()).unwrap();
    };
    listen(&mut a, loopback);
    listen(&mut b, loopback);
    listen(&mut b, any);
    a.send(loopback, b"self");
    a.send((b.address.ip(), 77).into(), b"any");
    world.advance_to(world.now() + Duration::from_millis(1));
    assert_eq!(a.receive(), [b"self"]);
    assert_eq!(b.receive(), [b"any"]);
    assert!(matches!(world.bind(b.host, (b.address.ip(), 77).into(), 1), Err(BindError::InUse { .. })));
    assert!(matches!(world.bind(b.host, a.address, 1), Err(BindError::NotHere { .. })));
}

#[test]
fn sockets_that_share_an_address_are_steered_by_the_shard_byte() {
    let world = World::new(1);
    let mut sender = node(&world);
    let host = world.host();
    let sockets = world.bind(host, (world.ip(host), 5).into(), 3).unwrap();
    let mut shards: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let mut driver = world.driver(host);
            driver.add_socket(socket.into()).unwrap();
            driver
        })
        .collect();
    // A data packet is of kind 8; its shard byte is the fifth.
    for packet in [[0x80, 0, 0, 0, 2], [0x80, 0, 0, 0, 1], [0x10, 0, 0, 0, 2], [0x80, 0, 0, 0, 2]] {
        sender.send((world.ip(host), 5).into(), &packet);
    }
    world.advance_to(world.now() + Duration::from_millis(1));
    let got: Vec<_> = shards.iter_mut().map(|driver| driver.receive(10, |_| ())).collect();
    assert_eq!(got, [1, 1, 2]);
}

#[test]
fn traffic_on_one_link_does_not_change_the_fate_of_another() {
    let fate = |noise: bool| {
        let world = World::new(9);
        let (mut a, mut b, mut c) = (node(&world), node(&world), node(&world));
        world.set_default_link(BAD);
        if noise {
            stream(&world, &mut a, &mut c, 100);
            stream(&world, &mut c, &mut b, 100);
        }
        stream(&world, &mut a, &mut b, 100)
    };
    assert_eq!(fate(false), fate(true));
}

#[test]
fn entropy_is_the_seeds_and_differs_between_drivers() {
    let draw = |seed| {
        let world = World::new(seed);
        let host = world.host();
        let mut drivers = [world.driver(host), world.driver(host)];
        drivers.each_mut().map(|driver| {
            let mut bytes = [0; 16];
            driver.entropy(&mut bytes);
            bytes
        })
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1)[0], draw(1)[1]);
    assert_ne!(draw(1)[0], draw(2)[0]);
}

#[test]
fn short_memory_is_a_matter_of_configuration() {
    let world = World::new(1);
    let host = world.host();
    let config = DriverConfig { leases: 1, receive_buffers: 1, sockets: 1 };
    let mut driver = world.driver_with(host, &config).unwrap();
    let lease = driver.lease().unwrap();
    assert!(driver.lease().is_none());
    drop(lease);
    assert!(driver.lease().is_some());
}
