use corewire_proto::session::CloseCode;

use super::*;
use crate::{
    clerk::testing::{self, STREAM, index},
    shard::Command,
};

/// What node 1 knows, with a session to node 2.
struct Fixture {
    env: Env,
    catalogue: Catalogue,
    node: Arc<NodeShared>,
    other: Arc<NodeShared>,
    /// The record of node 2.
    record: SignedRecord,
}

impl Fixture {
    fn new() -> Self {
        let (mut env, node, other) = (testing::env(), testing::node(1), testing::node(2));
        let record = testing::record(&mut env, &other, 2);
        let mut catalogue = Catalogue::default();
        catalogue.add_node(&node, &env);
        catalogue.session_installed(&env, index(0), node.id, other.peer_id);
        Self { env, catalogue, node, other, record }
    }

    fn read(&mut self) -> Vec<Effect> {
        let bytes = self.record.bytes().to_vec();
        self.catalogue.read_record(&mut self.env, self.node.id, (&bytes, 0), RecordWay::Local);
        self.env.effects.drain()
    }

    /// Makes the session current, and gives back the control messages that are sent.
    fn greet(&mut self) -> Vec<Vec<u8>> {
        self.catalogue.session_current(&mut self.env, index(0), false);
        self.catalogue.send_news(&mut self.env, index(0), &[], true);
        let sent = self.env.effects.drain().into_iter().filter_map(|effect| match effect {
            Effect::Send(_, Command::SendControl { bytes, .. }) => Some(bytes),
            _ => None,
        });
        sent.collect()
    }
}

#[test]
fn a_record_is_taken_once_and_makes_its_peer_known() {
    let mut fixture = Fixture::new();
    let effects = fixture.read();
    assert!(matches!(&effects[..], [Effect::PeerChanged { now, .. }] if now.produces(&STREAM)));
    assert_eq!(fixture.catalogue.producers(fixture.node.id, &STREAM), [fixture.other.peer_id]);
    assert!(fixture.read().is_empty(), "it is known byte for byte");
    assert_eq!(fixture.node.counters.read().records_accepted, 1);
}

#[test]
fn a_record_of_the_node_itself_is_reported() {
    let mut fixture = Fixture::new();
    fixture.record = testing::record(&mut fixture.env, &fixture.node.clone(), 1);
    assert!(matches!(fixture.read()[..], [Effect::OwnRecordSeen(..)]));
}

#[test]
fn a_current_session_is_sent_the_own_record_and_later_news() {
    let mut fixture = Fixture::new();
    let own = testing::record(&mut fixture.env, &fixture.node.clone(), 1);
    let third = testing::record(&mut fixture.env, &testing::node(3), 3);
    fixture.catalogue.own_record(&mut fixture.env, fixture.node.id, own);
    assert_eq!(fixture.greet().len(), 1);
    assert!(!fixture.catalogue.owes_us(index(0)));
    fixture.catalogue.read_record(&mut fixture.env, fixture.node.id, (third.bytes(), 0), RecordWay::Local);
    let timer = |effect: &Effect| matches!(effect, Effect::EnsureTimer(Timer::Exchange(_), _));
    assert!(fixture.env.effects.drain().iter().any(timer));
}

#[test]
fn a_message_that_is_refused_is_made_again() {
    let mut fixture = Fixture::new();
    let own = testing::record(&mut fixture.env, &fixture.node.clone(), 1);
    fixture.catalogue.own_record(&mut fixture.env, fixture.node.id, own);
    let message = fixture.greet().remove(0);
    fixture.catalogue.control_refused(&mut fixture.env, index(0), &message);
    assert!(fixture.catalogue.owes_us(index(0)));
}

#[test]
fn a_malformed_message_closes_its_session() {
    let mut fixture = Fixture::new();
    fixture.catalogue.handle_control(&mut fixture.env, index(0), &[1, 9, 9]);
    let effects = fixture.env.effects.drain();
    assert!(matches!(effects[..], [Effect::CloseSession(_, CloseCode::PROTOCOL_VIOLATION)]));
    assert_eq!(fixture.node.counters.read().control_refused, 1);
}

#[test]
fn a_peer_without_a_record_can_be_forgotten() {
    let mut fixture = Fixture::new();
    fixture.catalogue.meet(fixture.node.id, fixture.other.peer_id);
    assert_eq!(fixture.catalogue.peers(), 1);
    assert!(fixture.catalogue.forget_peer(&mut fixture.env, fixture.node.id, fixture.other.peer_id));
    assert_eq!(fixture.catalogue.peers(), 0);
    fixture.read();
    assert!(!fixture.catalogue.forget_peer(&mut fixture.env, fixture.node.id, fixture.other.peer_id));
}

#[test]
fn a_silent_beacon_ends_a_record_that_no_session_bears_out() {
    for connected in [false, true] {
        let mut fixture = Fixture::new();
        let bytes = fixture.record.bytes().to_vec();
        let (node, peer) = (fixture.node.id, fixture.other.peer_id);
        let from = "127.0.0.1:7412".parse().unwrap();
        fixture.catalogue.read_beacon(&mut fixture.env, node, (&bytes, 0), from);
        assert_eq!(fixture.catalogue.heard_from(node, peer), Some(from));
        if connected {
            fixture.greet();
        }
        fixture.catalogue.silent(&mut fixture.env, node, peer);
        assert_eq!(fixture.catalogue.record(node, peer).is_some(), connected);
    }
}

#[test]
fn a_record_known_otherwise_is_not_ended_by_silence() {
    let mut fixture = Fixture::new();
    fixture.read();
    let (node, peer) = (fixture.node.id, fixture.other.peer_id);
    fixture.catalogue.silent(&mut fixture.env, node, peer);
    assert!(fixture.catalogue.record(node, peer).is_some());
}

#[test]
fn forged_and_foreign_records_of_beacons_are_refused() {
    let mut fixture = Fixture::new();
    let from = "127.0.0.1:7412".parse().unwrap();
    let mut bytes = fixture.record.bytes().to_vec();
    bytes[40] ^= 1;
    let node = fixture.node.id;
    for forged in [&bytes[..], &[], &[1; 32], &[1; 40_000]] {
        fixture.catalogue.read_beacon(&mut fixture.env, node, (forged, 0), from);
    }
    assert_eq!(fixture.catalogue.peers(), 0);
    assert_eq!(fixture.node.counters.read().records_refused, 4);
    assert!(fixture.env.effects.drain().is_empty());
}
