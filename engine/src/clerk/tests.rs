use std::{net::UdpSocket, sync::Arc, time::Duration};

use corewire_proto::{
    session::SessionConfig,
    wire::header::{PacketKind, SHARD_OFFSET},
};
use corewire_rings::sync::EventCounter;

use super::*;
use crate::{
    beacon::Beacons,
    driver::{Socket, bind::bind_shards},
    shard::NodeId,
    shared::{
        node::{JoinRequest, LeaveError, NodeShared, NodeSocket, Presence},
        publication::{OnChange, PublishSpec},
        subscription::SubscribeSpec,
    },
};

fn clerk(port: &Arc<RequestPort>, shards: Vec<ShardLink>) -> Clerk {
    Clerk::new(ClerkParts {
        limits: Limits::default(),
        times: Times::default(),
        entropy: Box::new(|bytes| bytes.fill(7)),
        calendar: Box::new(|_| Duration::ZERO),
        port: port.clone(),
        shards,
        beacons: Beacons::none(),
    })
}

/// The request to take in node 2.
fn join(node: &Arc<NodeShared>, sockets: Vec<NodeSocket>) -> ClerkRequest {
    ClerkRequest::Join(Box::new(JoinRequest {
        shared: node.clone(),
        identity: testing::identity(2),
        secret: None,
        sockets,
        bootstrap: Vec::new(),
        beacon: None,
        session: SessionConfig::default(),
    }))
}

#[test]
fn packets_reach_their_shard_when_another_shard_has_closed_its_socket() {
    let port = RequestPort::new();
    let (links, mut ends) = testing::links(3, &Limits::default());
    let mut clerk = clerk(&port, links);
    let bound = bind_shards("127.0.0.1:0".parse().expect("an address"), 3).expect("a free port");
    let address = bound.address;
    let sockets = bound.sockets.into_iter().map(Socket::from).collect();
    let node = testing::node(2);
    assert!(port.reserve_node(1));
    port.send(join(&node, vec![NodeSocket { address, sockets }]));
    clerk.turn(Instant::ZERO);
    let mut given = |shard: usize| {
        std::iter::from_fn(|| ends[shard].0.try_recv())
            .find_map(|command| match command {
                Command::AddSocket { socket: Socket::Udp(socket), .. } => Some(socket),
                _ => None,
            })
            .expect("each shard gets its socket")
    };
    drop(given(1));
    let last = given(2);
    last.set_nonblocking(true).expect("a socket");
    let mut packet = [0; 40];
    (packet[0], packet[SHARD_OFFSET]) = (PacketKind::Data.first_byte(), 2);
    for _ in 0..40 {
        // Of many ports, so that the kernel's hash of the addresses would be seen.
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        sender.send_to(&packet, address).expect("loopback takes it");
    }
    let received = std::iter::from_fn(|| last.recv(&mut packet).ok()).count();
    assert_eq!(received, 40);
    drop(last);
    port.send(ClerkRequest::Leave { node: node.id, drain: Duration::ZERO });
    for second in 0..9 {
        clerk.turn(Instant::ZERO + Duration::from_secs(second));
    }
    drop(given(0));
    UdpSocket::bind(address).expect("the port of a node that is forgotten is free");
}

#[test]
fn requests_that_a_broken_clerk_never_saw_are_answered() {
    let port = RequestPort::new();
    let mut clerk = clerk(&port, Vec::new());
    let node = testing::node(2);
    let calls = Arc::new(EventCounter::default());
    let seen = calls.clone();
    let on_change: Option<OnChange> = Some(Arc::new(move || {
        seen.add_one();
        panic!("in a notice, as the test wants");
    }));
    let spec = PublishSpec { on_change: on_change.clone(), ..PublishSpec::new(testing::STREAM) };
    let publication = testing::publication(node.id, 2, spec);
    let spec = SubscribeSpec { on_change, ..SubscribeSpec::new(testing::STREAM) };
    let subscription = testing::subscription(node.id, 3, spec);
    port.send(join(&node, Vec::new()));
    port.send(ClerkRequest::Publish(publication.clone()));
    port.send(ClerkRequest::Subscribe(subscription.clone()));
    clerk.abandon();
    assert_eq!(*node.presence.borrow(), Presence::Left(Err(LeaveError::EngineStopped)));
    assert!(publication.ring.is_closed());
    assert!(subscription.is_closed());
    assert_eq!((calls.get(), clerk.load().panics), (1, 1), "one notice for one closure");
    assert!(!port.send(ClerkRequest::Changed(NodeId(2))), "no request is taken any more");
}
