//! What a node sees of its peers: who joins, changes, leaves and fails; and peers that are given to it.

mod engine_rig;
#[allow(dead_code, unused_imports, reason = "each test program uses its own part")]
mod swarm_rig;

use std::{sync::Arc, time::Duration};

use corewire_engine::{
    Engine,
    node::{FeedError, JoinError, Node, NodeConfig, RecordError},
    peer::PeerChange,
    publication::PublishSpec,
};
use corewire_proto::{NetworkId, PeerId, TagId, membership::SignedRecord};
use engine_rig::{engine, network, next_leg, next_number, push, spec, stream, wait, wait_for};
use swarm_rig::Internet;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

/// What was told, as a word and the peer.
fn told(changes: &mut Receiver<PeerChange>) -> Vec<(&'static str, PeerId)> {
    std::iter::from_fn(|| match changes.try_recv() {
        Ok(PeerChange::Joined(peer)) => Some(("joined", peer.peer_id())),
        Ok(PeerChange::Changed { now, .. }) => Some(("changed", now.peer_id())),
        Ok(PeerChange::Left(peer)) => Some(("left", peer.peer_id())),
        Ok(PeerChange::Failed(peer)) => Some(("failed", peer.peer_id())),
        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        Err(error) => panic!("{error}"),
    })
    .collect()
}

#[test]
fn a_listener_is_told_who_joins_changes_leaves_and_fails() {
    let mut net = Internet::new(7, 3, 1);
    net.start(0);
    net.run_for(Duration::from_secs(1));
    let mut changes = net.node(0).expect("a node").peer_changes();
    net.start(2);
    net.start(1);
    net.run_for(Duration::from_secs(5));
    let [one, two] = [1, 2].map(|place| net.node(place).expect("a node").peer_id());
    let begun = told(&mut changes);
    let joined = |peer| begun.iter().filter(|change| **change == ("joined", peer)).count();
    assert_eq!((joined(one), joined(two)), (1, 1), "{begun:?}");
    assert!(begun.iter().all(|(what, _)| ["joined", "changed"].contains(what)), "{begun:?}");

    net.node(1).expect("a node").set_tags(vec![TagId([5; 32])]);
    net.run_for(Duration::from_secs(1));
    assert_eq!(told(&mut changes), [("changed", one)]);

    // It leaves in order.
    net.hosts.get_mut(&net.places[1]).expect("a host").node = None;
    net.run_for(Duration::from_secs(2));
    assert_eq!(told(&mut changes), [("left", one)]);
    assert!(net.node(0).expect("a node").peer(&one).is_none());

    // It loses power: its session breaks, or its record is not renewed (60 s here).
    net.crash(2);
    net.run_for(Duration::from_secs(70));
    assert_eq!(told(&mut changes), [("failed", two)]);
    assert!(net.node(0).expect("a node").peers().is_empty());

    net.start(2);
    net.run_for(Duration::from_secs(5));
    let again = told(&mut changes);
    assert_eq!(again.first(), Some(&("joined", two)), "{again:?}");
}

/// A node that meets only those whose address or record it is given.
fn hidden(engine: &Engine, network: NetworkId) -> Node {
    Node::join(engine, NodeConfig { use_registry: false, ..NodeConfig::new(network) }).expect("a node")
}

#[test]
fn a_listener_is_at_its_end_when_the_node_has_left() {
    let engine = engine();
    let node = hidden(&engine, network("listener"));
    let mut changes = node.peer_changes();
    wait("the end", node.shutdown(Duration::ZERO)).expect("nothing to deliver");
    assert!(wait("the end", changes.recv()).is_err());
    assert!(matches!(node.peer_changes().try_recv(), Err(TryRecvError::Closed)));
}

#[test]
fn a_peer_that_is_added_is_met() {
    let (here, there) = (engine(), engine());
    let network = network("added");
    let (node, other) = (hidden(&here, network), hidden(&there, network));
    let port = other.local_addrs()[0].port();
    node.add_peer(Err(format!("localhost:{port}"))).expect("a name");
    wait_for("the other", node.watch_peers(), |peers| !peers.is_empty());
    let named = node.add_peer(Err("localhost".into()));
    assert!(matches!(named, Err(JoinError::BootstrapName { .. })));
    let address = other.local_addrs()[0];
    let refused = (0..64).map(|_| node.add_peer(Ok(address))).find_map(Result::err);
    assert!(matches!(refused, Some(JoinError::TooMany { limit: 64, .. })), "{refused:?}");
}

#[test]
fn a_record_that_is_fed_leads_to_its_peer() {
    let (here, there) = (engine(), engine());
    let (network, elsewhere) = (network("fed"), network("fed elsewhere"));
    let (consumer, producer) = (hidden(&here, network), hidden(&there, network));
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let has_stream = |record: &Option<Arc<[u8]>>| {
        let signed = record.as_ref().map(|record| SignedRecord::verify(record, &network).expect("a record"));
        signed.is_some_and(|signed| signed.record().streams == [stream(1)])
    };
    let record = wait_for("a record", producer.watch_record(), has_stream).expect("a record");
    assert_eq!(consumer.feed(&record), Ok(producer.peer_id()));
    let mut leg = next_leg(&subscription);
    push(&publication, 9);
    assert_eq!(next_number(&mut leg), 9);

    let mut forged = record.to_vec();
    forged[50] ^= 1;
    let refused = |bytes: &[u8]| matches!(consumer.feed(bytes), Err(FeedError::Record(_)));
    assert!(refused(&forged) && refused(&record[1..]) && refused(&[]) && refused(&[0; 40_000]));
    let foreign = hidden(&here, elsewhere);
    assert_eq!(foreign.feed(&record), Err(FeedError::Record(RecordError::Signature)));
}
