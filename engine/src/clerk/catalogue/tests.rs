use std::time::Duration;

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
        Self::with(1, 2)
    }

    /// What node `one` knows, with a session to node `two`.
    fn with(one: u8, two: u8) -> Self {
        let (mut env, node, other) = (testing::env(), testing::node(one), testing::node(two));
        let record = testing::record(&mut env, &other, two);
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

    /// Takes in a record of the peer with this number.
    fn learn(&mut self, number: u8) {
        let record = testing::record(&mut self.env, &testing::node(number), number);
        self.catalogue.read_record(&mut self.env, self.node.id, (record.bytes(), 0), RecordWay::Local);
        self.env.effects.drain();
    }

    /// Makes the session current, and gives back the control messages that are sent.
    fn greet(&mut self) -> Vec<Vec<u8>> {
        self.catalogue.session_current(&mut self.env, index(0), false);
        self.catalogue.send_news(&mut self.env, index(0), &[], true);
        self.sent()
    }

    /// The control messages among the effects.
    fn sent(&mut self) -> Vec<Vec<u8>> {
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
    assert!(
        matches!(&effects[..], [Effect::RecordChanged(..), Effect::PeerChanged { now, .. }] if now.produces(&STREAM))
    );
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
    assert_eq!(fixture.greet().len(), 2, "its record, and the digest");
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
fn a_silent_beacon_ends_the_record_of_a_peer_that_failed() {
    for (connected, failed) in [(false, false), (false, true), (true, true)] {
        let mut fixture = Fixture::new();
        let bytes = fixture.record.bytes().to_vec();
        let (node, peer) = (fixture.node.id, fixture.other.peer_id);
        let from = "127.0.0.1:7412".parse().unwrap();
        fixture.catalogue.read_beacon(&mut fixture.env, node, (&bytes, 0), from);
        assert_eq!(fixture.catalogue.heard_from(node, peer), Some(from));
        if connected {
            fixture.greet();
        }
        if failed {
            fixture.catalogue.failed(node, peer);
        }
        fixture.catalogue.silent(&mut fixture.env, node, peer);
        assert_eq!(fixture.catalogue.record(node, peer).is_some(), connected || !failed);
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

/// Two catalogues with a session between them, and what passed on it.
struct Two {
    ends: [Fixture; 2],
    records: usize,
    bytes: usize,
}

impl Two {
    /// Two nodes that know peers with these numbers.
    fn new(known: [&[u8]; 2]) -> Self {
        let mut number = 0;
        let ends = known.map(|known| {
            number += 1;
            let mut end = Fixture::with(number, 3 - number);
            let own = testing::record(&mut end.env, &end.node.clone(), number);
            end.catalogue.own_record(&mut end.env, end.node.id, own);
            known.iter().for_each(|peer| end.learn(*peer));
            end
        });
        Self { ends, records: 0, bytes: 0 }
    }

    /// Lets the session be current, and carries messages until there are none.
    fn meet(&mut self) {
        for end in &mut self.ends {
            end.catalogue.session_current(&mut end.env, index(0), false);
        }
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            let mut quiet = true;
            for from in 0..2 {
                let end = &mut self.ends[from];
                end.catalogue.send_news(&mut end.env, index(0), &[], true);
                for message in end.sent() {
                    quiet = false;
                    self.bytes += message.len();
                    self.records += usize::from(message[0] == 1);
                    let to = &mut self.ends[1 - from];
                    to.env.now += Duration::from_secs(1);
                    to.catalogue.handle_control(&mut to.env, index(0), &message);
                    to.env.effects.drain();
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn known(&self, end: usize) -> usize {
        let end = &self.ends[end];
        end.catalogue.nodes[&end.node.id].records.len()
    }
}

#[test]
fn a_new_session_carries_only_what_one_end_lacks() {
    let all: Vec<u8> = (10..210).collect();
    let mut two = Two::new([&all, &all]);
    two.meet();
    assert_eq!((two.known(0), two.known(1)), (201, 201), "and the record of the other end");
    assert!(two.bytes < 2_000, "{} bytes for nothing new", two.bytes);

    let mut two = Two::new([&all[1..], &all[..198]]);
    two.meet();
    assert_eq!((two.known(0), two.known(1)), (201, 201));
    assert!(two.bytes < 6_000, "{} bytes for three records", two.bytes);

    let mut two = Two::new([&all, &[]]);
    two.meet();
    assert_eq!((two.known(0), two.known(1)), (201, 201), "an empty catalogue is filled");
    let whole = two.bytes;
    let mut two = Two::new([&all[..100], &all[100..]]);
    two.meet();
    assert_eq!((two.known(0), two.known(1)), (201, 201));
    assert!(two.bytes < whole * 2, "{} bytes, {whole} for one whole catalogue", two.bytes);
}

#[test]
fn a_peer_that_asks_again_and_again_is_not_sent_everything_each_time() {
    let all: Vec<u8> = (10..60).collect();
    let mut two = Two::new([&all, &[]]);
    two.meet();
    two.ends[0].catalogue.handle_control(&mut two.ends[0].env, index(0), &[3; 513]);
    two.pump();
    let sent = two.bytes;
    let nothing = [&[4u8][..], &u64::MAX.to_le_bytes()].concat();
    for round in 0..20 {
        two.ends[0].catalogue.handle_control(&mut two.ends[0].env, index(0), &nothing);
        two.pump();
        assert!(round > 0 || two.bytes > sent, "the first is answered");
    }
    assert!(two.bytes < sent + 60 * 400, "{} bytes after {sent}", two.bytes);
    let empty = [&[3u8][..], &[0; 512]].concat();
    for _ in 0..20 {
        two.ends[0].catalogue.handle_control(&mut two.ends[0].env, index(0), &empty);
        two.pump();
    }
    assert!(two.bytes < sent + 5 * 60 * 400, "{} bytes after {sent}", two.bytes);
    assert!(two.ends[0].node.counters.read().control_refused > 0);
}

#[test]
fn a_member_that_invents_peers_by_beacons_displaces_none() {
    let mut fixture = Fixture::new();
    let (shared, room) = (testing::node(1), 8);
    fixture.env.limits.peers = room;
    fixture.catalogue = Catalogue::default();
    fixture.catalogue.add_node(&shared, &fixture.env);
    let node = shared.id;
    fixture.node = shared;
    (10..14).for_each(|friend| fixture.learn(friend));
    let from = "127.0.0.1:7412".parse().unwrap();
    for invented in 20..220 {
        let record = testing::record(&mut fixture.env, &testing::node(invented), invented);
        fixture.catalogue.read_beacon(&mut fixture.env, node, (record.bytes(), 0), from);
        fixture.env.effects.drain();
    }
    let known = &fixture.catalogue.nodes[&node];
    assert!(known.records.len() <= room);
    for friend in 10..14 {
        assert!(
            known.records.get(&testing::node(friend).peer_id).is_some(),
            "friend {friend} is known still"
        );
    }
    assert!(fixture.node.counters.read().records_refused >= 200 - room as u64);
}

/// What node 1 knows of node 2, which announces these ports of the host.
fn knows_ports(ports: &[u16]) -> (Fixture, impl Fn(u16) -> SocketAddr) {
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut fixture = Fixture::new();
    *fixture.other.announced.lock() = ports.iter().copied().map(at).collect();
    fixture.record = testing::record(&mut fixture.env, &fixture.other.clone(), 2);
    fixture.read();
    (fixture, at)
}

#[test]
fn beacon_of_a_peer_that_is_not_shown_makes_it_be_asked() {
    let (mut fixture, at) = knows_ports(&[1]);
    let (node, peer) = (fixture.node.id, fixture.other.peer_id);
    assert!(!fixture.catalogue.beacon_again(node, peer, at(4)));
    assert_eq!(fixture.catalogue.heard_from(node, peer), Some(at(4)));
    fixture.catalogue.lost(node, peer);
    assert!(fixture.catalogue.beacon_again(node, peer, at(4)));
    assert!(!fixture.catalogue.beacon_again(node, fixture.node.peer_id, at(4)), "it is no peer");
}

#[test]
fn silent_peer_is_tried_at_each_of_its_addresses_and_claims_last() {
    let (mut fixture, at) = knows_ports(&[1, 2, 3]);
    let (node, peer) = (fixture.node.id, fixture.other.peer_id);
    let mut next = |again| fixture.catalogue.member_address(node, peer, again, |_| true).expect("an address");
    assert_eq!([next(false), next(false), next(true), next(true)].map(|to| to.port()), [1, 1, 2, 3]);
    fixture.catalogue.claimed(node, peer, at(9));
    let mut next = |again| fixture.catalogue.member_address(node, peer, again, |_| true).expect("an address");
    assert_eq!([next(false), next(true), next(true)].map(|to| to.port()), [3, 9, 1]);
    fixture.catalogue.answered(node, peer, at(7));
    let mut next = |again| fixture.catalogue.member_address(node, peer, again, |_| true).expect("an address");
    assert_eq!([next(false), next(true), next(false)].map(|to| to.port()), [7, 1, 1]);
}

#[test]
fn replayed_packet_from_elsewhere_leads_nothing_astray() {
    let (mut fixture, at) = knows_ports(&[1]);
    let (node, peer) = (fixture.node.id, fixture.other.peer_id);
    fixture.catalogue.lost(node, peer);
    fixture.catalogue.claimed(node, peer, at(9));
    assert!(fixture.catalogue.nodes[&node].peers[&peer].lost, "nothing shows that it is there");
    assert_eq!(fixture.catalogue.member_address(node, peer, false, |_| true), Some(at(1)));
    fixture.catalogue.answered(node, peer, at(1));
    assert!(!fixture.catalogue.nodes[&node].peers[&peer].lost);
}

#[test]
fn peer_that_announces_no_address_is_asked_where_it_claims_to_be() {
    let (mut fixture, at) = knows_ports(&[]);
    let (node, peer) = (fixture.node.id, fixture.other.peer_id);
    assert_eq!(fixture.catalogue.member_address(node, peer, false, |_| true), None);
    fixture.catalogue.claimed(node, peer, at(9));
    assert_eq!(fixture.catalogue.member_address(node, peer, false, |_| true), Some(at(9)));
}

#[test]
fn tickets_that_change_too_often_are_taken_in_when_there_is_time() {
    let mut fixture = Fixture::new();
    fixture.read();
    let ticket = |class: u8| ShownTicket { class: [class; 32], bytes: vec![class].into() };
    let mut changes = 0;
    for number in 0..10_000_u32 {
        let class = if number == 9_999 { 3 } else { 1 + u8::from(number % 2 == 0) };
        let message = codec::encode_tickets(&[ticket(class)], 1_000);
        fixture.catalogue.handle_control(&mut fixture.env, index(0), &message);
        let is_change = |effect: &Effect| matches!(effect, Effect::PeerChanged { .. });
        changes += fixture.env.effects.drain().iter().filter(|effect| is_change(effect)).count();
    }
    assert!((1..=50).contains(&changes), "{changes}");
    fixture.env.now += Duration::from_secs(1);
    fixture.catalogue.send_news(&mut fixture.env, index(0), &[], true);
    let info = fixture.catalogue.info(fixture.node.id, fixture.other.peer_id).expect("it is known");
    assert_eq!(info.tickets(), [ticket(3)]);
}

#[test]
fn a_bucket_that_was_answered_is_not_looked_up_again() {
    let mut fixture = Fixture::new();
    fixture.learn(3);
    let have = codec::encode_have(u64::MAX, std::iter::empty()).1;
    fixture.catalogue.handle_control(&mut fixture.env, index(0), &have);
    assert!(!fixture.env.effects.drain().is_empty(), "it is sent what it lacks");
    fixture.catalogue.handle_control(&mut fixture.env, index(0), &have);
    assert!(fixture.env.effects.drain().is_empty());
}
