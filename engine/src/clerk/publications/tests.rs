use std::{sync::atomic::AtomicU64, time::Duration};

use corewire_rings::Writer;

use super::*;
use crate::{
    clerk::testing::{self, STREAM},
    peer::PeerFacts,
    shared::publication::PublishSpec,
};

fn request() -> OpenRequest {
    OpenRequest {
        stream_id: STREAM,
        subscription: [0; 8],
        resume: None,
        reliability: Reliability::Reliable,
        window_bytes: 1_024,
        window_datums: 16,
        max_datum_bytes: 64,
        weight: 9,
        criteria: Vec::new(),
        tickets: Vec::new(),
    }
}

/// Publications with one of node 1, and what its node and handles share.
struct Fixture {
    env: Env,
    publications: Publications,
    node: Arc<NodeShared>,
    shared: Arc<PublicationShared>,
}

impl Fixture {
    fn new(spec: PublishSpec) -> Self {
        let (mut env, node) = (testing::env(), testing::node(1));
        let shared = testing::publication(node.id, 2, spec);
        node.live_publications.fetch_add(1, Ordering::AcqRel);
        let mut publications = Publications::default();
        publications.publish(&mut env, &node, shared.clone());
        env.effects.drain();
        Self { env, publications, node, shared }
    }

    fn serve(&mut self, number: u64) -> Result<ChannelKey, CloseCode> {
        let peer = PeerId([9; 32]);
        let asked = ChannelRequest {
            node: &self.node,
            peer,
            info: Some(PeerInfo::new(PeerFacts { peer_id: peer, ..PeerFacts::default() })),
            index: testing::index(1),
            label: Label::from_u32(u32::try_from(number).expect("a small number")),
            request: &OpenRequest { subscription: number.to_le_bytes(), ..request() },
            number,
        };
        Ok(self.publications.serve(&mut self.env, asked)?.expect("no other channel is in the way"))
    }

    fn serve_local(&mut self) -> (ChannelKey, LegKey, LocalEndpoint) {
        let (key, leg) = (ChannelKey::new(self.shared.key, 3), LegKey(4));
        let consumer = PeerInfo::new(PeerFacts { peer_id: PeerId([9; 32]), ..PeerFacts::default() });
        let end = self.publications.serve_local(&mut self.env, key, leg, &consumer).expect("it is admitted");
        self.env.effects.drain();
        (key, leg, end)
    }
}

#[test]
fn a_request_with_criteria_is_refused_and_not_retried() {
    assert_eq!(honoured(&request()), Ok(()));
    let code =
        honoured(&OpenRequest { criteria: vec![1], ..request() }).expect_err("criteria are not honoured");
    assert_eq!(code, CloseCode::NOT_ALLOWED);
    assert!(!code.is_retriable());
}

#[test]
fn a_remote_consumer_is_accepted_up_to_the_limit() {
    let mut fixture = Fixture::new(PublishSpec { max_consumers: 1, ..PublishSpec::new(STREAM) });
    let key = fixture.serve(7).expect("there is room");
    assert_eq!(key.number, 7);
    let effects = fixture.env.effects.drain();
    assert!(matches!(effects[..], [Effect::Send(0, Command::AcceptChannel(_))]));
    assert_eq!(fixture.shared.channels.borrow().len(), 1);
    assert_eq!(fixture.serve(8), Err(CloseCode::NO_CAPACITY));
}

#[test]
fn a_predicate_that_panics_denies_and_is_counted() {
    let admit: crate::shared::publication::Admit = Arc::new(|_| panic!("the user's defect"));
    let mut fixture = Fixture::new(PublishSpec { admit: Some(admit), ..PublishSpec::new(STREAM) });
    assert_eq!(fixture.serve(7), Err(CloseCode::NOT_ALLOWED));
    let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(value(&fixture.shared.counters.panics), 1);
    assert_eq!(value(&fixture.node.counters.not_allowed), 1);
}

#[test]
fn a_closed_publication_is_forgotten_with_its_last_channel() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let key = fixture.serve(7).expect("it is admitted");
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    assert!(fixture.publications.streams_of(fixture.node.id).is_empty());
    assert_eq!(fixture.serve(8), Err(CloseCode::STREAM_NOT_FOUND));
    fixture.env.effects.drain();
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::PEER_LOST, None);
    let effects = fixture.env.effects.drain();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::DeliveryFailed(_))), "not in good order");
    assert_eq!(fixture.node.live_publications.load(Ordering::Acquire), 0);
}

#[test]
fn a_local_channel_drains_until_its_consumer_drops_it() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let (key, leg, _end) = fixture.serve_local();
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    let ends = |effect: &Effect| matches!(effect, Effect::EndLeg(_, _, LegEnd::ByProducer));
    assert!(fixture.env.effects.drain().iter().any(ends));
    fixture.publications.local_ended(&mut fixture.env, key, NodeId(5), CloseCode::GRACEFUL);
    assert!(fixture.publications.ring(fixture.shared.key).is_some(), "it is still read");
    fixture.publications.leg_dropped(&mut fixture.env, fixture.shared.key, leg);
    assert!(fixture.publications.ring(fixture.shared.key).is_none());
}

#[test]
fn a_local_consumer_that_stands_still_for_its_grace_is_cut_off() {
    const GRACE: Duration = Duration::from_millis(320);
    let spec = PublishSpec { datums: 4, lagging_grace: Some(GRACE), ..PublishSpec::new(STREAM) };
    let mut fixture = Fixture::new(spec);
    let (_, leg, _end) = fixture.serve_local();
    let writer: Writer = fixture.shared.ring.writer();
    while writer.try_push(&[1; 8]).is_ok() {}
    fixture.publications.ring_is_full(&mut fixture.env, fixture.shared.key);
    let effects = fixture.env.effects.drain();
    assert!(matches!(effects[..], [Effect::SetTimer(Timer::Lagging(_), _)]), "its clock has started");
    fixture.env.now += GRACE;
    fixture.publications.lagging_due(&mut fixture.env, fixture.shared.key);
    let cut = |effect: &Effect| matches!(effect, Effect::EndLeg(cut, CloseCode::TOO_SLOW, LegEnd::Cut) if *cut == leg);
    assert!(fixture.env.effects.drain().iter().any(cut));
}
