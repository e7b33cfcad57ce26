use std::time::Duration;

use corewire_proto::channel::PublicationId;

use super::*;
use crate::{
    clerk::testing::{self, STREAM},
    peer::PeerFacts,
    shared::subscription::{LegGap, SubscribeSpec},
};

const PRODUCER: PeerId = PeerId([9; 32]);

fn producer() -> PeerInfo {
    PeerInfo::new(PeerFacts { peer_id: PRODUCER, streams: vec![STREAM], ..PeerFacts::default() })
}

/// Subscriptions with one of node 1 that wants [`PRODUCER`].
struct Fixture {
    env: Env,
    subscriptions: Subscriptions,
    shared: Arc<SubscriptionShared>,
    key: InboundKey,
}

impl Fixture {
    fn new() -> Self {
        let (mut env, node) = (testing::env(), testing::node(1));
        let shared = testing::subscription(node.id, 2, SubscribeSpec::new(STREAM));
        let mut subscriptions = Subscriptions::default();
        assert!(node.live_subscriptions.take(usize::MAX));
        subscriptions.subscribe(&mut env, &node, shared.clone(), [PRODUCER].into_iter());
        let key = InboundKey { subscription: shared.key, producer: PRODUCER };
        Self { env, subscriptions, shared, key }
    }

    /// Looks at the producer, and gives back the effects.
    fn advance(&mut self, session: Option<ReceiverIndex>) -> Vec<Effect> {
        assert_eq!(self.subscriptions.next_fresh(), Some(self.key));
        if self.subscriptions.advance(&mut self.env, self.key, Some(&producer())) {
            self.subscriptions.connect(&mut self.env, self.key, &producer(), session, true);
        }
        self.env.effects.drain()
    }

    /// Asks the producer for a channel.
    fn open(&mut self) -> OpenId {
        let effects = self.advance(Some(testing::index(1)));
        let opened = effects.into_iter().find_map(|effect| match effect {
            Effect::OpenChannel(open) => Some(open.open_id),
            _ => None,
        });
        opened.expect("there is a session")
    }

    fn stage(&self) -> InboundStage {
        self.subscriptions.inbound(self.key).expect("it is wanted").stage
    }
}

#[test]
fn a_producer_without_a_session_is_dialled_and_asked_later() {
    let mut fixture = Fixture::new();
    assert!(matches!(fixture.advance(None)[..], [Effect::Dial(_, PRODUCER)]));
    let node = fixture.key.node();
    assert!(fixture.subscriptions.want_session(node, PRODUCER));
    fixture.subscriptions.session_there(node, PRODUCER);
    let open_id = fixture.open();
    assert_eq!(fixture.stage(), InboundStage::Opening(testing::index(1), open_id));
    assert_eq!(fixture.shared.channels.borrow().len(), 1);
}

#[test]
fn a_refusal_waits_for_a_change_and_a_failure_for_its_pause() {
    let mut fixture = Fixture::new();
    fixture.open();
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NOT_ALLOWED);
    assert_eq!(fixture.stage(), InboundStage::Refused(CloseCode::NOT_ALLOWED));
    fixture.subscriptions.reconsider_refused(fixture.key.node(), PRODUCER);
    fixture.open();
    fixture.env.effects.drain();
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NO_CAPACITY);
    assert_eq!(fixture.stage(), InboundStage::Waits);
    let retry = |effect: &Effect| matches!(effect, Effect::SetTimer(Timer::RetryProducer(_), _));
    assert!(fixture.env.effects.drain().iter().any(retry));
    fixture.subscriptions.retry_due(fixture.key);
    fixture.open();
}

#[test]
fn a_producer_is_undecided_until_it_refuses_for_good() {
    let mut fixture = Fixture::new();
    let undecided = |fixture: &mut Fixture| {
        fixture.subscriptions.looked_at(&mut fixture.env, fixture.key.subscription);
        fixture.env.effects.drain();
        fixture.shared.undecided.get()
    };
    assert!(undecided(&mut fixture), "it is to be looked at");
    fixture.advance(None);
    assert!(undecided(&mut fixture), "it is being reached");
    fixture.subscriptions.session_there(fixture.key.node(), PRODUCER);
    fixture.open();
    assert!(undecided(&mut fixture), "it is asked");
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NOT_ALLOWED);
    assert!(!fixture.shared.undecided.get());
    fixture.subscriptions.reconsider_refused(fixture.key.node(), PRODUCER);
    fixture.open();
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NO_CAPACITY);
    assert!(undecided(&mut fixture), "it is asked again");
}

#[test]
fn a_refusal_that_crossed_news_about_this_node_is_tried_again() {
    let mut fixture = Fixture::new();
    fixture.open();
    fixture.subscriptions.reconsider_refused(fixture.key.node(), PRODUCER);
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NOT_ALLOWED);
    assert_eq!(fixture.stage(), InboundStage::Waits);
    fixture.subscriptions.retry_due(fixture.key);
    fixture.open();
    fixture.subscriptions.asked(fixture.key);
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NOT_ALLOWED);
    assert_eq!(fixture.stage(), InboundStage::Refused(CloseCode::NOT_ALLOWED));
}

#[test]
fn a_producer_is_given_up_when_its_time_is_over() {
    let mut fixture = Fixture::new();
    fixture.open();
    fixture.env.now += Duration::from_secs(3_600);
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::PEER_LOST);
    assert_eq!(fixture.stage(), InboundStage::GivenUp);
    let before = PeerInfo::new(PeerFacts { peer_id: PRODUCER, ..PeerFacts::default() });
    fixture.subscriptions.producer_changed(fixture.key.node(), &before, &producer());
    fixture.open();
}

#[test]
fn the_end_of_a_subscription_withdraws_what_was_asked_for() {
    let mut fixture = Fixture::new();
    let opened = fixture.open();
    fixture.subscriptions.end(&mut fixture.env, fixture.shared.key);
    let effects = fixture.env.effects.drain();
    let withdrawn = |effect: &Effect| matches!(effect, Effect::WithdrawOpen(_, id) if *id == opened);
    assert!(effects.iter().any(withdrawn));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ForgetPeerIfIdle(_, PRODUCER))));
    assert!(fixture.shared.is_closed());
    assert!(!fixture.subscriptions.want(fixture.key.node(), PRODUCER));
}

#[test]
fn a_producer_that_stops_producing_is_forgotten() {
    let mut fixture = Fixture::new();
    fixture.advance(None);
    let silent = PeerInfo::new(PeerFacts { peer_id: PRODUCER, ..PeerFacts::default() });
    fixture.subscriptions.producer_changed(fixture.key.node(), &producer(), &silent);
    assert_eq!(fixture.subscriptions.next_fresh(), Some(fixture.key));
    assert!(!fixture.subscriptions.advance(&mut fixture.env, fixture.key, Some(&silent)));
    assert!(!fixture.subscriptions.want(fixture.key.node(), PRODUCER));
}

#[test]
fn a_gap_is_exact_within_a_publication_and_unknown_across_two() {
    let (one, other) = (PublicationId([1; 16]), PublicationId([2; 16]));
    let shared = Arc::new(ChannelShared::new(STREAM, PRODUCER, PeerId([1; 32])));
    let channel =
        Arc::new(Channel { shared: shared.clone(), peer: producer(), source: None, published: None });
    let stopped =
        StoppedChannel { publication: one, at: corewire_proto::time::Instant::ZERO, over: false, channel };
    let start = |publication, next_seq| Resume { publication, next_seq };
    let unknown = Some(LegGap { datums: 0, unknown: true });
    assert_eq!(
        (stopped.resume(), stopped.gap_to(start(one, 9), false)),
        (None, unknown),
        "it has not stopped yet"
    );
    shared.stop_at(5);
    assert_eq!(stopped.resume(), Some(start(one, 5)));
    assert_eq!(stopped.gap_to(start(one, 5), false), Some(LegGap::default()));
    assert_eq!(stopped.gap_to(start(one, 9), false), Some(LegGap { datums: 4, unknown: false }));
    assert_eq!(stopped.gap_to(start(one, 9), true), unknown, "criteria may want none of them");
    assert_eq!(stopped.gap_to(start(one, 5), true), Some(LegGap::default()));
    assert_eq!(stopped.gap_to(start(one, 4), false), None, "never back");
    assert_eq!(stopped.gap_to(start(other, 5), false), unknown);
}

/// Asks for a channel and connects it. Returns what is missing before its first datum.
fn connect(fixture: &mut Fixture) -> LegGap {
    let open_id = fixture.open();
    accept(fixture, open_id, 0).expect("a leg")
}

/// A producer lets us in, and claims that the channel begins at `next_seq`. `None`: that is not believed.
fn accept(fixture: &mut Fixture, open_id: OpenId, next_seq: u64) -> Option<LegGap> {
    let ring = corewire_rings::Ring::new(crate::shared::publication::PublishSpec::new(STREAM).ring_config());
    let reader = ring.expect("a ring").subscribe().expect("a cursor");
    let start = Resume { publication: PublicationId([1; 16]), next_seq };
    let asked = (testing::index(1), open_id, Label::from_u32(1));
    fixture.subscriptions.channel_accepted(&mut fixture.env, fixture.key, asked, start, Inbox::local(reader));
    // The consumer takes it at once.
    let legs = std::mem::take(&mut fixture.shared.waiting.lock().fresh);
    fixture.env.effects.drain();
    legs.front().map(Leg::gap)
}

#[test]
fn a_producer_that_goes_back_is_not_believed_however_often() {
    let mut fixture = Fixture::new();
    connect(&mut fixture);
    let stop = |fixture: &mut Fixture, at| {
        let channel = fixture.shared.channels.borrow()[0].clone();
        channel.shared.stop_at(at);
        channel
    };
    stop(&mut fixture, 10);
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::PEER_LOST);
    fixture.subscriptions.retry_due(fixture.key);
    for lie in [4, 4, 0, 9, 9] {
        let open_id = fixture.open();
        assert_eq!(accept(&mut fixture, open_id, lie), None, "it begins at {lie}");
        assert_eq!(fixture.stage(), InboundStage::Refused(CloseCode::PROTOCOL_VIOLATION));
        // The shard ends the channel where the lie began it.
        let refused = stop(&mut fixture, lie);
        assert_eq!(refused.shared.close_code(), Some(CloseCode::PROTOCOL_VIOLATION));
        fixture.subscriptions.reconsider_refused(fixture.key.node(), PRODUCER);
    }
    let open_id = fixture.open();
    let honest = accept(&mut fixture, open_id, 12);
    assert_eq!(honest, Some(LegGap { datums: 2, unknown: false }), "its last place is known still");
}

/// The pause before the next attempt, if there is one.
fn pause(fixture: &mut Fixture) -> Option<Duration> {
    let now = fixture.env.now;
    fixture.env.effects.drain().into_iter().find_map(|effect| match effect {
        Effect::SetTimer(Timer::RetryProducer(_), at) => Some(at.saturating_since(now)),
        _ => None,
    })
}

#[test]
fn a_consumer_that_is_cut_off_again_comes_back_later_each_time() {
    let mut fixture = Fixture::new();
    let mut pauses = Vec::new();
    for kept_up in [1, 12, 12, 12, 25] {
        connect(&mut fixture);
        fixture.env.now += Duration::from_secs(kept_up);
        fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::TOO_SLOW);
        pauses.push(pause(&mut fixture).expect("it is tried again"));
        fixture.subscriptions.retry_due(fixture.key);
    }
    // Chance gives the same in each round.
    assert!(pauses[..4].is_sorted_by(|one, next| one < next), "{pauses:?}");
    assert!(pauses[4] < pauses[1], "it has kept up for longer than one that stands still: {pauses:?}");
}

#[test]
fn a_request_that_is_not_answered_is_withdrawn_and_tried_again() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.subscriptions.next_fresh(), Some(fixture.key));
    assert!(fixture.subscriptions.advance(&mut fixture.env, fixture.key, Some(&producer())));
    let session = Some(testing::index(1));
    fixture.subscriptions.connect(&mut fixture.env, fixture.key, &producer(), session, true);
    fixture.env.effects.drain();
    fixture.subscriptions.unanswered(&mut fixture.env, fixture.key);
    assert_eq!(fixture.stage(), InboundStage::Waits);
    let effects = fixture.env.effects.drain();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::WithdrawOpen(..))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::SetTimer(Timer::RetryProducer(_), _))));
}

#[test]
fn a_producer_that_was_given_up_is_tried_again_when_it_is_back() {
    let mut fixture = Fixture::new();
    fixture.open();
    fixture.env.now += Duration::from_secs(3_600);
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::PEER_LOST);
    assert_eq!(fixture.stage(), InboundStage::GivenUp);
    fixture.subscriptions.session_there(fixture.key.node(), PRODUCER);
    fixture.open();
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NO_CAPACITY);
    assert_eq!(fixture.stage(), InboundStage::Waits, "its time begins anew");
}

#[test]
fn the_rest_of_a_stream_is_asked_for_though_it_is_not_announced_any_more() {
    let mut fixture = Fixture::new();
    connect(&mut fixture);
    let channel = fixture.shared.channels.borrow()[0].clone();
    channel.shared.stop_at(5);
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::PEER_LOST);
    fixture.env.effects.drain();
    let silent = PeerInfo::new(PeerFacts { peer_id: PRODUCER, ..PeerFacts::default() });
    fixture.subscriptions.retry_due(fixture.key);
    assert_eq!(fixture.subscriptions.next_fresh(), Some(fixture.key));
    assert!(fixture.subscriptions.advance(&mut fixture.env, fixture.key, Some(&silent)));
    let session = Some(testing::index(1));
    fixture.subscriptions.connect(&mut fixture.env, fixture.key, &silent, session, true);
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::STREAM_NOT_FOUND);
    fixture.subscriptions.retry_due(fixture.key);
    assert_eq!(fixture.subscriptions.next_fresh(), Some(fixture.key));
    assert!(!fixture.subscriptions.advance(&mut fixture.env, fixture.key, Some(&silent)), "nothing is left");
    assert!(!fixture.subscriptions.want(fixture.key.node(), PRODUCER));
}

#[test]
fn a_consumer_that_was_cut_off_and_does_not_read_comes_back_late() {
    let mut fixture = Fixture::new();
    let open_id = fixture.open();
    let ring = corewire_rings::Ring::new(crate::shared::publication::PublishSpec::new(STREAM).ring_config());
    let reader = ring.expect("a ring").subscribe().expect("a cursor");
    let start = Resume { publication: PublicationId([1; 16]), next_seq: 0 };
    let asked = (testing::index(1), open_id, Label::from_u32(1));
    fixture.subscriptions.channel_accepted(&mut fixture.env, fixture.key, asked, start, Inbox::local(reader));
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::TOO_SLOW);
    fixture.subscriptions.retry_due(fixture.key);
    assert_eq!(fixture.subscriptions.next_fresh(), Some(fixture.key));
    assert!(!fixture.subscriptions.advance(&mut fixture.env, fixture.key, Some(&producer())));
    fixture.env.now += fixture.shared.spec.backoff.max;
    fixture.subscriptions.retry_due(fixture.key);
    assert_eq!(fixture.subscriptions.next_fresh(), Some(fixture.key));
    assert!(fixture.subscriptions.advance(&mut fixture.env, fixture.key, Some(&producer())), "not for ever");
    fixture.subscriptions.refused_local(
        &mut fixture.env,
        fixture.key,
        &producer(),
        (CloseCode::TOO_SLOW, None),
    );
    fixture.shared.waiting.lock().fresh.clear();
    fixture.subscriptions.retry_due(fixture.key);
    assert_eq!(fixture.subscriptions.next_fresh(), Some(fixture.key));
    assert!(fixture.subscriptions.advance(&mut fixture.env, fixture.key, Some(&producer())));
}

#[test]
fn two_ends_that_refuse_each_other_do_not_ask_without_a_pause() {
    let mut fixture = Fixture::new();
    let offered = |fixture: &mut Fixture| {
        let Fixture { env, subscriptions, key, .. } = fixture;
        subscriptions.stream_offered(env, key.node(), PRODUCER, &STREAM);
        pause(fixture)
    };
    for at_once in [CloseCode::STREAM_NOT_FOUND, CloseCode::GRACEFUL, CloseCode::PEER_GONE] {
        fixture.open();
        fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, at_once);
        fixture.env.effects.drain();
        assert_eq!(offered(&mut fixture), None);
        assert!(fixture.subscriptions.has_fresh(), "the peer is there now");
    }
    let mut pauses = Vec::new();
    for refused in [CloseCode::TOO_LARGE; 3] {
        fixture.open();
        fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, refused);
        fixture.env.effects.drain();
        pauses.push(offered(&mut fixture).expect("it is tried later"));
        assert!(!fixture.subscriptions.has_fresh(), "not at once");
        fixture.subscriptions.retry_due(fixture.key);
    }
    assert!(pauses.is_sorted() && pauses[0] < pauses[2], "{pauses:?}");
    fixture.open();
    fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::NO_CAPACITY);
    assert!(pause(&mut fixture).is_some(), "it is tried later");
    assert_eq!(offered(&mut fixture), None);
    assert!(!fixture.subscriptions.has_fresh(), "not earlier");
}

#[test]
fn one_producer_is_asked_though_it_announces_nothing() {
    let (mut env, node) = (testing::env(), testing::node(1));
    let spec = SubscribeSpec { producer: Some(PRODUCER), ..SubscribeSpec::new(STREAM) };
    let shared = testing::subscription(node.id, 2, spec);
    let mut subscriptions = Subscriptions::default();
    assert!(node.direct.reserve(1));
    subscriptions.subscribe(&mut env, &node, shared.clone(), [PRODUCER].into_iter());
    let key = InboundKey { subscription: shared.key, producer: PRODUCER };
    assert_eq!(subscriptions.next_fresh(), Some(key));
    assert!(!subscriptions.advance(&mut env, key, None), "nothing is known about it");
    let info = |peer_id| PeerInfo::new(PeerFacts { peer_id, ..PeerFacts::default() });
    let (silent, other) = (info(PRODUCER), info(PeerId([8; 32])));
    subscriptions.producer_changed(node.id, &other, &other);
    subscriptions.stream_appeared(node.id, other.peer_id(), &STREAM);
    assert_eq!(subscriptions.next_fresh(), None, "another peer is not asked");
    subscriptions.producer_changed(node.id, &silent, &silent);
    assert_eq!(subscriptions.next_fresh(), Some(key));
    assert!(subscriptions.advance(&mut env, key, Some(&silent)));
    subscriptions.connect(&mut env, key, &silent, Some(testing::index(1)), true);
    subscriptions.channel_ended(&mut env, key, CloseCode::STREAM_NOT_FOUND);
    assert_eq!(subscriptions.inbound(key).expect("it is wanted").stage, InboundStage::Waits);
    // It has made the stream.
    subscriptions.stream_appeared(node.id, PRODUCER, &STREAM);
    assert_eq!(subscriptions.next_fresh(), Some(key));
    subscriptions.end(&mut env, shared.key);
    assert_eq!(node.direct.counts(), (0, 0));
    subscriptions.stream_appeared(node.id, PRODUCER, &STREAM);
    assert_eq!(subscriptions.next_fresh(), None);
}

#[test]
fn a_producer_that_is_wanted_keeps_its_place_when_others_come_and_go() {
    let mut fixture = Fixture::new();
    fixture.env.limits.legs = 2;
    // One after the other, the first of which has the least id and is wanted throughout.
    let [one, two, three] = [1, 2, 3].map(|number| PeerId([number; 32]));
    fixture.key.producer = one;
    fixture.subscriptions.next_fresh();
    let stop = |fixture: &mut Fixture, producer| {
        fixture.key.producer = producer;
        fixture.subscriptions.fresh.insert(fixture.key);
        connect(fixture);
        let channel = fixture.subscriptions.inbound(fixture.key).and_then(|inbound| inbound.channel.clone());
        channel.expect("it is connected").shared.stop_at(5);
        fixture.subscriptions.channel_ended(&mut fixture.env, fixture.key, CloseCode::PEER_LOST);
    };
    let leave = |fixture: &mut Fixture| {
        fixture.subscriptions.retry_due(fixture.key);
        fixture.subscriptions.next_fresh();
        fixture.subscriptions.advance(&mut fixture.env, fixture.key, None);
        fixture.env.effects.drain();
    };
    let come_back = |fixture: &mut Fixture, producer| {
        fixture.key.producer = producer;
        fixture.subscriptions.retry_due(fixture.key);
        fixture.subscriptions.fresh.insert(fixture.key);
        let open_id = fixture.open();
        accept(fixture, open_id, 15).expect("a leg")
    };
    stop(&mut fixture, one);
    stop(&mut fixture, two);
    leave(&mut fixture);
    stop(&mut fixture, three);
    leave(&mut fixture);
    assert_eq!(come_back(&mut fixture, one), LegGap { datums: 10, unknown: false });
    assert_eq!(come_back(&mut fixture, two), LegGap { datums: 0, unknown: true }, "its place gave way");
}

#[test]
fn a_producer_without_a_place_is_told_of_and_gets_the_next_one() {
    let (mut env, node) = (testing::env(), testing::node(1));
    env.limits.legs = 1;
    let refused = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = refused.clone();
    let on_event = move |event: ChannelEvent| {
        if let ChannelEvent::Refused { peer, code, .. } = event {
            told.lock().expect("no panic").push((peer, code));
        }
    };
    let spec = SubscribeSpec { on_event: Some(Arc::new(on_event)), ..SubscribeSpec::new(STREAM) };
    let shared = testing::subscription(node.id, 2, spec);
    let mut subscriptions = Subscriptions::default();
    let peers = [7, 8, 9].map(|number| PeerId([number; 32]));
    let key = |producer| InboundKey { subscription: shared.key, producer };
    let [first, gone, last] = peers.map(key);
    let info = |key: InboundKey| {
        PeerInfo::new(PeerFacts { peer_id: key.producer, streams: vec![STREAM], ..PeerFacts::default() })
    };
    subscriptions.subscribe(&mut env, &node, shared.clone(), peers.into_iter());
    for (key, has_place) in [(first, true), (gone, false), (last, false)] {
        assert_eq!(subscriptions.next_fresh(), Some(key));
        assert_eq!(subscriptions.advance(&mut env, key, Some(&info(key))), has_place);
    }
    for effect in env.effects.drain() {
        if let Effect::Tell(notice) = effect {
            (notice.hook)(notice.event);
        }
    }
    let no_capacity = [gone, last].map(|key| (key.producer, CloseCode::NO_CAPACITY));
    assert_eq!(*refused.lock().expect("no panic"), no_capacity);
    // The first one leaves, and the second one is gone by then.
    assert!(!subscriptions.advance(&mut env, first, None));
    assert_eq!(subscriptions.next_fresh(), Some(gone));
    assert!(!subscriptions.advance(&mut env, gone, None));
    assert_eq!(subscriptions.next_fresh(), Some(last));
    assert!(subscriptions.advance(&mut env, last, Some(&info(last))));
}
