use std::ops::Range;

use super::{shares::ANSWERS_PER_SECOND, *};
use crate::{
    clerk::testing::{self, ShardMailboxes},
    shard::Command,
};

/// One node with its handshakes, and a shard for their indices.
struct Fixture {
    env: Env,
    handshakes: Handshakes,
    shards: Shards,
    _mailboxes: Vec<ShardMailboxes>,
    node: Arc<NodeShared>,
    local: Arc<Credentials>,
    address: SocketAddr,
    /// The addresses of sessions.
    sessions: Vec<SocketAddr>,
}

impl Fixture {
    fn new(number: u8) -> Self {
        Self::with_budget(number, testing::env().limits.handshakes_per_second)
    }

    /// Answers `per_second` handshakes per second before it asks for a cookie.
    fn with_budget(number: u8, per_second: u32) -> Self {
        let (mut env, node) = (testing::env(), testing::node(number));
        env.limits.handshakes_per_second = per_second;
        let local = testing::local(&mut env, &node, number);
        let mut handshakes = Handshakes::default();
        handshakes.add_node(&mut env, &node, local.clone(), Vec::new());
        let (shards, mailboxes) = testing::shards(1, &env.limits);
        env.effects.drain();
        let address = node.announced.lock()[0];
        Self { env, handshakes, shards, _mailboxes: mailboxes, node, local, address, sessions: Vec::new() }
    }

    /// Dials `other`.
    fn begin(&mut self, other: &Self) -> bool {
        let peer = other.node.peer_id;
        let record =
            testing::record(&mut self.env, &other.node, u8::try_from(other.node.id.0).expect("small"));
        self.handshakes.dial(
            &mut self.env,
            &mut self.shards,
            self.node.id,
            (record.record(), None),
            super::super::sessions::DialView::default(),
        );
        self.handshakes.attempt_with(self.node.id, peer).is_some()
    }

    /// The datagrams among the effects, and the others.
    fn datagrams(&mut self) -> (Vec<Vec<u8>>, Vec<Effect>) {
        let (mut datagrams, mut others) = (Vec::new(), Vec::new());
        for effect in self.env.effects.drain() {
            match effect {
                Effect::SendDatagram(_, Command::SendDatagram { bytes, .. }) => datagrams.push(bytes),
                other => others.push(other),
            }
        }
        (datagrams, others)
    }

    fn handle(&mut self, from: SocketAddr, bytes: &[u8]) {
        let has_session = || self.sessions.contains(&from);
        self.handshakes.handle_packet(&mut self.env, (self.node.id, 0), from, bytes, false, has_session);
    }
}

#[test]
fn two_components_give_each_other_keys() {
    let (mut one, mut other) = (Fixture::new(1), Fixture::new(2));
    assert!(one.begin(&other));
    let (init, _) = one.datagrams();
    other.handle(one.address, &init[0]);
    let (_, effects) = other.datagrams();
    let place = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted);
    let deadline = place(|effect| {
        matches!(effect, Effect::CancelTimer(Timer::Responder(_)) | Effect::SetTimer(Timer::Responder(_), _))
    });
    let asked = place(|effect| matches!(effect, Effect::RequestedSession(..)));
    assert!(deadline < asked, "the answer sets the deadline anew, so it must come last");
    let request = effects.into_iter().find_map(|effect| match effect {
        Effect::RequestedSession(_, request) => Some(*request),
        _ => None,
    });
    let request = request.expect("the other one is asked");
    assert_eq!(request.peer(), one.node.peer_id);
    assert!(other.handshakes.answer_request(&mut other.env, &mut other.shards, other.node.id, request));
    let (reply, effects) = other.datagrams();
    assert!(matches!(effects[0], Effect::SessionReady { .. }), "the session comes before the reply");
    one.handle(other.address, &reply[0]);
    let (_, effects) = one.datagrams();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::SessionReady { .. })));
    assert!(one.handshakes.attempt_with(one.node.id, other.node.peer_id).is_none());
}

#[test]
fn a_peer_that_does_not_answer_is_dialled_again_after_a_pause() {
    let (mut one, other) = (Fixture::new(1), Fixture::new(2));
    assert!(one.begin(&other));
    let peer = other.node.peer_id;
    let index = one.handshakes.attempt_with(one.node.id, peer).expect("it has begun");
    one.env.effects.drain();
    let mut effects = Vec::new();
    while one.handshakes.attempt_with(one.node.id, peer).is_some() {
        one.env.now += std::time::Duration::from_secs(1);
        one.handshakes.attempt_due(&mut one.env, one.node.id, index);
        effects.extend(one.env.effects.drain());
    }
    let again =
        |effect: &Effect| matches!(effect, Effect::SetTimer(Timer::Dial(..), at) if *at > one.env.now);
    assert!(effects.iter().any(again));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::FreeIndex(freed) if *freed == index)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::PeerUnreachable(..))));
}

#[test]
fn an_answer_from_another_address_is_counted_and_ignored() {
    let (mut one, mut other) = (Fixture::new(1), Fixture::new(2));
    assert!(one.begin(&other));
    let (init, _) = one.datagrams();
    other.handle(one.address, &init[0]);
    let (_, effects) = other.datagrams();
    let Some(Effect::RequestedSession(_, request)) = effects.into_iter().next_back() else {
        panic!("it is asked")
    };
    other.handshakes.answer_request(&mut other.env, &mut other.shards, other.node.id, *request);
    let (reply, _) = other.datagrams();
    one.handle(one.address, &reply[0]);
    assert!(one.env.effects.drain().is_empty());
    assert_eq!(one.node.counters.read().broken_packets, 1);
    assert_eq!(one.local.peer_id(), one.node.peer_id);
}

#[test]
fn broken_first_messages_use_up_what_is_answered_without_a_cookie() {
    let (one, mut other) = (Fixture::new(1), Fixture::new(2));
    // The key is right and the name is not: the message breaks in the curve operations.
    let target = Target::Known { peer: PeerId([3; 32]), key: *other.local.transport_key() };
    let numbers = AttemptParams { index: testing::index(1), generation: 0, number: 1 };
    let per_second = other.env.limits.handshakes_per_second;
    for n in 0..per_second + 1 {
        let entropy = *blake3::hash(&n.to_le_bytes()).as_bytes();
        let started = Initiator::start(other.env.now, entropy, one.local.clone(), target, numbers);
        other.handle(one.address, &started.expect("a valid key").1);
    }
    let counters = other.node.counters.read();
    assert_eq!((counters.broken_packets, counters.cookies_sent), (u64::from(per_second), 1));
    assert_eq!(other.datagrams().0.len(), 1, "the last one is asked for a cookie");
}

/// First messages from `from` that cost curve operations and come to nothing: the key is right and the
/// name is not. Each is sent again with a cookie if it is asked for one.
fn send_broken(other: &mut Fixture, local: &Arc<Credentials>, from: SocketAddr, numbers: Range<u32>) {
    let target = Target::Known { peer: PeerId([3; 32]), key: *other.local.transport_key() };
    let attempt = AttemptParams { index: testing::index(1), generation: 0, number: 1 };
    for n in numbers {
        let entropy = *blake3::hash(&n.to_le_bytes()).as_bytes();
        let started = Initiator::start(other.env.now, entropy, local.clone(), target, attempt);
        let (mut initiator, init) = started.expect("a valid key");
        other.handle(from, &init);
        if let Some(cookie) = other.datagrams().0.pop() {
            let progress = initiator.handle_packet(other.env.now, &cookie);
            let Ok(InitiatorProgress::Send(again)) = progress else { panic!("a cookie for it") };
            other.handle(from, &again);
        }
    }
}

#[test]
fn one_host_with_a_cookie_gets_its_share_of_answers_and_no_more() {
    const PER_SECOND: u32 = 20;
    let (one, mut other) = (Fixture::new(1), Fixture::with_budget(2, PER_SECOND));
    send_broken(&mut other, &one.local, one.address, 0..10 * PER_SECOND);
    let counters = other.node.counters.read();
    assert_eq!(counters.cookies_sent, u64::from(9 * PER_SECOND));
    assert_eq!(counters.broken_packets, u64::from(PER_SECOND) + 50, "{counters:?}");
    assert_eq!(counters.handshakes_refused, u64::from(9 * PER_SECOND) - 50, "each refusal is counted");
}

#[test]
fn a_host_and_a_session_are_answered_while_another_host_floods() {
    let (one, mut other) = (Fixture::new(1), Fixture::with_budget(2, 1));
    let address = |host: u8, port: u16| SocketAddr::from(([10, 0, 0, host], port));
    // A neighbour behind the address that floods has a session, and another host has none.
    other.sessions.push(address(1, 7));
    let broken = |other: &Fixture| other.node.counters.read().broken_packets;
    send_broken(&mut other, &one.local, address(1, 1), 0..51);
    assert_eq!(broken(&other), 51);
    send_broken(&mut other, &one.local, address(1, 2), 100..200);
    assert_eq!(broken(&other), 51, "another port of the host is no other host");
    send_broken(&mut other, &one.local, address(1, 7), 200..201);
    assert_eq!(broken(&other), 52);
    send_broken(&mut other, &one.local, address(2, 7), 300..301);
    assert_eq!(broken(&other), 53);
    // A session is no licence to flood.
    send_broken(&mut other, &one.local, address(1, 7), 400..500);
    assert_eq!(broken(&other), 53 + 9);
    let counters = other.node.counters.read();
    assert_eq!(counters.handshakes_refused, 100 + 91, "{counters:?}");
}

#[test]
fn strangers_leave_the_answers_of_sessions() {
    let (one, mut other) = (Fixture::new(1), Fixture::with_budget(2, 1));
    let host = |n: u32| SocketAddr::from(([10, 1, n.to_be_bytes()[2], n.to_be_bytes()[3]], 7));
    other.sessions.push(host(0));
    for n in 1..=ANSWERS_PER_SECOND + 2 {
        send_broken(&mut other, &one.local, host(n), n..n + 1);
    }
    let before = other.node.counters.read();
    assert_eq!(before.broken_packets, u64::from(1 + ANSWERS_PER_SECOND));
    assert_eq!(before.handshakes_refused, 1);
    send_broken(&mut other, &one.local, host(0), 0..1);
    assert_eq!(other.node.counters.read().broken_packets, before.broken_packets + 1);
}

#[test]
fn a_peer_is_called_first_where_its_beacon_came_from() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let announced = [address("10.0.0.1:7"), address("10.1.0.1:7")];
    let called = |near: Option<&str>| addresses_to_call(&announced, near.map(address));
    assert_eq!(called(None), announced);
    assert_eq!(called(Some("10.1.0.1:7412")), [announced[1], announced[0]]);
    assert_eq!(called(Some("127.0.0.1:7412")), called(None), "it is not announced");
    let link = address("[fe80::1%3]:7");
    assert_eq!(called(Some("[fe80::1%3]:7412")), [link, announced[0], announced[1]]);
    assert_eq!(addresses_to_call(&[], None), []);
}
