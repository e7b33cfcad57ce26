use super::*;
use crate::{
    clerk::testing::{self, index},
    shared::keys::{PublicationKey, SubscriptionKey},
};

/// Sessions of node 1 with node 2.
struct Fixture {
    env: Env,
    sessions: Sessions,
    node: Arc<NodeShared>,
    peer: PeerId,
}

impl Fixture {
    /// With one session, which is current.
    fn new() -> Self {
        let (mut env, node, other) = (testing::env(), testing::node(1), testing::node(2));
        let (one, two) = (testing::local(&mut env, &node, 1), testing::local(&mut env, &other, 2));
        let outcome = testing::outcome(&mut env, &one, &two, index(0));
        let mut sessions = Sessions::default();
        env.effects.drain();
        let to = other.announced.lock()[0];
        sessions.install(&mut env, &node, SessionConfig::default(), outcome, to);
        Self { env, sessions, node, peer: other.peer_id }
    }
}

fn inbound() -> InboundKey {
    InboundKey { subscription: SubscriptionKey::new(NodeId(1), 5), producer: PeerId([2; 32]) }
}

fn outbound() -> ChannelOwner {
    ChannelOwner::Outbound(OutboundKey::new(PublicationKey::new(NodeId(1), 6), 7))
}

/// A request for a channel on session 0.
fn open(number: u64, consumer: PeerId) -> ChannelOpen {
    let request = Box::new(corewire_proto::channel::OpenRequest {
        stream_id: testing::STREAM,
        subscription: [0; 8],
        resume: None,
        reliability: corewire_proto::channel::Reliability::Reliable,
        window_bytes: 0,
        window_datums: 0,
        max_datum_bytes: 1,
        weight: 1,
        form: Default::default(),
        criteria: Vec::new(),
        tickets: Vec::new(),
    });
    let key = inbound();
    let handle = Arc::new(crate::shared::ChannelShared::new(testing::STREAM, key.producer, consumer));
    ChannelOpen { index: index(0), open_id: OpenId(number), key, request, handle }
}

/// The requests that were given to the shard, each with a time limit.
fn asked(env: &mut Env) -> Vec<u64> {
    let (mut asked, mut limited) = (Vec::new(), 0);
    for effect in env.effects.drain() {
        match effect {
            Effect::Send(0, Command::OpenChannel { open_id, .. }) => asked.push(open_id),
            Effect::SetTimer(Timer::Unanswered(_), at) => {
                assert_eq!(at, env.now + crate::shared::limits::OPEN_ANSWER);
                limited += 1;
            }
            _ => {}
        }
    }
    assert_eq!(limited, asked.len(), "the answer has a time limit");
    asked
}

#[test]
fn more_requests_than_may_be_under_way_wait_for_answers() {
    let mut fixture = Fixture::new();
    let (env, most) = (&mut fixture.env, OPENS_UNANSWERED as u64);
    env.effects.drain();
    for number in 0..most + 3 {
        fixture.sessions.open_channel(env, open(number, fixture.node.peer_id));
    }
    assert!(asked(env).into_iter().eq(0..most));
    assert_eq!(fixture.sessions.channels(), most as usize + 3);
    fixture.sessions.accepted(env, index(0), OpenId(7), Label::from_u32(1)).expect("it was asked for");
    assert_eq!(asked(env), [most]);
    fixture.sessions.withdraw_open(env, index(0), OpenId(most + 1));
    assert!(asked(env).is_empty(), "it was not asked for yet");
    fixture.sessions.rejected(env, index(0), OpenId(8)).expect("it was asked for");
    assert_eq!(asked(env), [most + 2]);
}

#[test]
fn a_confirmed_session_is_installed_and_current() {
    let mut fixture = Fixture::new();
    let effects = fixture.env.effects.drain();
    assert!(matches!(
        effects[..],
        [
            Effect::Send(0, Command::InstallSession(_)),
            Effect::SessionInstalled(..),
            Effect::CancelTimer(Timer::Slots(..)) | Effect::SetTimer(Timer::Slots(..), _),
            Effect::SessionCurrent(..),
        ]
    ));
    assert_eq!(fixture.sessions.current(fixture.node.id, fixture.peer), Some(index(0)));
}

#[test]
fn a_session_is_found_at_the_address_where_its_peer_is_now() {
    let mut fixture = Fixture::new();
    let (env, node) = (&mut fixture.env, fixture.node.id);
    let (before, _) = fixture.sessions.path(index(0)).expect("a session");
    let now = SocketAddr::from(([10, 0, 0, 9], 9));
    let found = |sessions: &Sessions, at| (sessions.at_address(node, at), sessions.is_peer_at(node, at));
    assert_eq!(found(&fixture.sessions, before), (Some(index(0)), true));
    assert!(!fixture.sessions.is_peer_at(NodeId(9), before), "it is another node's");
    fixture.sessions.moved(index(0), None, now);
    assert_eq!(found(&fixture.sessions, before), (None, false));
    assert_eq!(found(&fixture.sessions, now), (Some(index(0)), true));
    fixture.sessions.close(env, index(0), CloseCode::GRACEFUL);
    assert_eq!(found(&fixture.sessions, now), (None, false));
    fixture.sessions.closed(env, index(0), CloseCode::GRACEFUL);
    assert!(fixture.sessions.addresses.is_empty());
}

#[test]
fn a_session_is_told_to_close_once() {
    let mut fixture = Fixture::new();
    fixture.env.effects.drain();
    for _ in 0..2 {
        fixture.sessions.close(&mut fixture.env, index(0), CloseCode::GAVE_UP);
    }
    let effects = fixture.env.effects.drain();
    assert!(matches!(
        effects[..],
        [Effect::Send(0, Command::CloseSession { .. }), Effect::SessionClosing(_)]
    ));
}

#[test]
fn channels_end_with_their_session_and_its_index_is_freed() {
    let mut fixture = Fixture::new();
    let env = &mut fixture.env;
    fixture.sessions.add_channel(index(0), Label::from_u32(1), outbound());
    let open = open(3, fixture.node.peer_id);
    fixture.sessions.open_channel(env, open);
    assert_eq!(fixture.sessions.channels(), 2);
    env.effects.drain();
    let gone = fixture.sessions.closed(env, index(0), CloseCode::PEER_LOST).expect("it was waited for");
    assert!(gone.disconnected);
    let effects = env.effects.drain();
    let lost = effects.iter().filter_map(|effect| match effect {
        Effect::ChannelLost(owner, CloseCode::PEER_LOST, None) => Some(*owner),
        _ => None,
    });
    assert_eq!(lost.collect::<Vec<_>>(), [outbound(), ChannelOwner::Inbound(inbound())]);
    let freed = effects.iter().filter(|effect| matches!(effect, Effect::FreeIndex(_)));
    assert_eq!(freed.count(), 1);
    assert!(fixture.sessions.accepted(env, index(0), OpenId(3), Label::from_u32(2)).is_none());
}

#[test]
fn the_index_of_an_abandoned_session_is_freed_by_its_shard() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.sessions.abandon_node(&mut fixture.env, fixture.node.id), [index(0)]);
    assert!(fixture.sessions.addresses.is_empty());
    let is_free = |effect: &Effect| matches!(effect, Effect::FreeIndex(_));
    assert!(!fixture.env.effects.drain().iter().any(is_free));
    assert!(fixture.sessions.closed(&mut fixture.env, index(0), CloseCode::GRACEFUL).is_none());
    assert!(fixture.env.effects.drain().iter().any(is_free));
}
