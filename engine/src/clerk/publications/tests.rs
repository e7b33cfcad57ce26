use std::time::Duration;

use corewire_proto::channel::Resume;
use corewire_rings::Writer;
use corewire_rings::sync::EventCounter;

use super::*;
use crate::{
    clerk::testing::{self, STREAM},
    criteria::{KeyKind, KeyRule, number_key},
    peer::PeerFacts,
    shared::{limits::STARTS_MAX, publication::PublishSpec},
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
        form: DatumForm::default(),
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
        let placed = match shared.spec.direct {
            Some(_) => node.direct.reserve(usize::MAX),
            None => node.live_publications.take(usize::MAX),
        };
        assert!(placed);
        let mut publications = Publications::default();
        publications.publish(&mut env, &node, shared.clone());
        env.effects.drain();
        Self { env, publications, node, shared }
    }

    fn serve(&mut self, number: u64) -> Result<OutboundKey, CloseCode> {
        self.serve_with(number, request())
    }

    fn serve_with(&mut self, number: u64, request: OpenRequest) -> Result<OutboundKey, CloseCode> {
        let peer = PeerId([9; 32]);
        let asked = ChannelRequest {
            node: &self.node,
            peer,
            info: Some(PeerInfo::new(PeerFacts { peer_id: peer, ..PeerFacts::default() })),
            index: testing::index(1),
            label: Label::from_u32(u32::try_from(number).expect("a small number")),
            request: &OpenRequest { subscription: number.to_le_bytes(), ..request },
            number,
        };
        Ok(self.publications.serve(&mut self.env, asked)?.expect("no other channel is in the way"))
    }

    /// Serves subscription 7 of the peer on another label.
    fn serve_again(&mut self, label: u32, resume: Option<u64>) -> Result<Option<OutboundKey>, CloseCode> {
        let peer = PeerId([9; 32]);
        let publication = self.publications.publications[&self.shared.key].id;
        let resume = resume.map(|next_seq| Resume { publication, next_seq });
        let asked = ChannelRequest {
            node: &self.node,
            peer,
            info: Some(PeerInfo::new(PeerFacts { peer_id: peer, ..PeerFacts::default() })),
            index: testing::index(2),
            label: Label::from_u32(label),
            request: &OpenRequest { subscription: 7u64.to_le_bytes(), resume, ..request() },
            number: u64::from(label),
        };
        self.publications.serve(&mut self.env, asked)
    }

    fn serve_local(&mut self) -> (OutboundKey, LegKey, LocalEndpoint) {
        let (key, leg) = (OutboundKey::new(self.shared.key, 3), LegKey(4));
        let consumer = PeerInfo::new(PeerFacts { peer_id: PeerId([9; 32]), ..PeerFacts::default() });
        let end = self
            .publications
            .serve_local(&mut self.env, (key, leg), &consumer, &SubscribeSpec::new(STREAM))
            .expect("it is admitted");
        self.env.effects.drain();
        (key, leg, end)
    }
}

#[test]
fn criteria_are_accepted_if_the_stream_has_such_keys() {
    let rule = KeyRule::one_of(vec![number_key(7).into()]);
    let seven = StreamCriteria { every: 1, keys: Some((KeyKind::Number, rule)) };
    let asked = |keys, criteria: Vec<u8>| {
        let mut fixture = Fixture::new(PublishSpec { keys, ..PublishSpec::new(STREAM) });
        let served = fixture.serve_with(7, OpenRequest { criteria, ..request() });
        let counted = fixture.shared.counters.criteria_mismatch.get();
        (served.map(|key| key.number), counted)
    };
    let bytes = seven.encode();
    assert_eq!(asked(Some(KeyKind::Number), bytes.clone()), (Ok(7), 0));
    for other in [Some(KeyKind::Text), None] {
        assert_eq!(asked(other, bytes.clone()), (Err(CloseCode::CRITERIA_MISMATCH), 1));
    }
    assert!(!CloseCode::CRITERIA_MISMATCH.is_retriable());
    assert_eq!(asked(None, StreamCriteria { every: 3, keys: None }.encode()), (Ok(7), 0));
    assert_eq!(asked(None, vec![1]), (Err(CloseCode::PROTOCOL_VIOLATION), 0));
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
    let value = |counter: &EventCounter| counter.get();
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
    let failed = |effect: &Effect| matches!(effect, Effect::DeliveryFailed(..));
    assert!(!effects.iter().any(failed), "the ring was empty");
    assert_eq!(fixture.node.live_publications.get(), 0);
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
fn a_local_consumer_that_stands_still_is_cut_off() {
    const GRACE: Duration = Duration::from_millis(320);
    const STANDSTILL: Duration = Duration::from_secs(2);
    let spec = PublishSpec {
        datums: 4,
        lagging_grace: Some(GRACE),
        standstill_grace: STANDSTILL,
        ..PublishSpec::new(STREAM)
    };
    let mut fixture = Fixture::new(spec);
    let (_, leg, _end) = fixture.serve_local();
    let writer: Writer = fixture.shared.ring.writer();
    while writer.try_push(&[1; 8]).is_ok() {}
    fixture.publications.ring_is_full(&mut fixture.env, fixture.shared.key);
    let effects = fixture.env.effects.drain();
    assert!(matches!(effects[..], [Effect::SetTimer(Timer::Lagging(_), _)]), "its clock has started");
    fixture.env.now += STANDSTILL;
    fixture.publications.lagging_due(&mut fixture.env, fixture.shared.key);
    let cut = |effect: &Effect| matches!(effect, Effect::EndLeg(cut, CloseCode::TOO_SLOW, LegEnd::Cut) if *cut == leg);
    assert!(fixture.env.effects.drain().iter().any(cut));
}

/// The position at which the shard is told to resume a channel, if it is.
fn resumed_at(effects: Vec<Effect>) -> Option<(u64, u64)> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::Send(_, Command::AcceptChannel(accept)) => {
            accept.resume.map(|resume| (resume.next_seq, resume.parked.position()))
        }
        _ => None,
    })
}

#[test]
fn an_absent_consumer_keeps_its_place_for_a_while() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let reader = fixture.shared.ring.subscribe().expect("a cursor");
    let writer: Writer = fixture.shared.ring.writer();
    (0..3).for_each(|_| assert!(writer.try_push(&[1; 8]).is_ok()));
    let key = fixture.serve(7).expect("it is admitted");
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::PEER_LOST, Some(reader));
    assert_eq!(fixture.shared.ring.len(), 3, "its place holds the ring");
    let effects = fixture.env.effects.drain();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::SetTimer(Timer::Places(_), _))));
    fixture.serve_again(8, Some(2)).expect("it is admitted").expect("no channel is in the way");
    assert_eq!(resumed_at(fixture.env.effects.drain()), Some((2, 0)));
    assert_eq!(fixture.shared.counters.resumed.get(), 1);
}

#[test]
fn a_place_that_is_given_up_is_counted_and_not_resumed() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let reader = fixture.shared.ring.subscribe().expect("a cursor");
    let writer: Writer = fixture.shared.ring.writer();
    (0..3).for_each(|_| assert!(writer.try_push(&[1; 8]).is_ok()));
    let key = fixture.serve(7).expect("it is admitted");
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::PEER_LOST, Some(reader));
    fixture.env.now = fixture.env.now + fixture.node.dead_after + fixture.shared.spec.resume_for;
    fixture.publications.places_due(&mut fixture.env, fixture.shared.key);
    assert_eq!(fixture.shared.ring.len(), 0);
    assert_eq!(fixture.shared.counters.skipped_at_close.get(), 3);
    fixture.env.effects.drain();
    fixture.serve_again(8, Some(2)).expect("it is admitted").expect("no channel is in the way");
    assert_eq!(resumed_at(fixture.env.effects.drain()), None);
}

#[test]
fn place_of_a_peer_that_is_gone_ends_sooner_than_that_of_a_silent_one() {
    for (code, later) in [(CloseCode::PEER_GONE, false), (CloseCode::PEER_LOST, true)] {
        let mut fixture = Fixture::new(PublishSpec::new(STREAM));
        let reader = fixture.shared.ring.subscribe().expect("a cursor");
        assert!(fixture.shared.ring.writer().try_push(&[1; 8]).is_ok());
        let key = fixture.serve(7).expect("it is admitted");
        fixture.publications.channel_ended(&mut fixture.env, key, code, Some(reader));
        assert_eq!(fixture.shared.ring.len(), 1, "its place holds the ring");
        fixture.env.now += fixture.shared.spec.resume_for;
        fixture.publications.places_due(&mut fixture.env, fixture.shared.key);
        assert_eq!(fixture.shared.ring.len(), usize::from(later), "{code}");
    }
}

#[test]
fn what_a_returning_consumer_missed_is_counted_once() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let mut first = None;
    for (label, next_seq, first_seq, missed) in
        [(7, None, 5, 0), (8, Some(10), 30, 20), (9, Some(10), 34, 24), (10, Some(40), 41, 25)]
    {
        let key = match first.replace(()) {
            None => fixture.serve(7).expect("it is admitted"),
            Some(()) => {
                fixture.serve_again(label, next_seq).expect("it is admitted").expect("no channel is left")
            }
        };
        fixture.publications.channel_served(&mut fixture.env, key, first_seq);
        let channel = &fixture.publications.publications[&fixture.shared.key].channels[&key].channel;
        assert_eq!(channel.shared.missed_before(), missed, "label {label}");
        assert_eq!(fixture.shared.counters.missed_while_away.get(), missed);
        fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::PEER_LOST, None);
    }
    assert_eq!(fixture.publications.publications[&fixture.shared.key].starts.len(), 1);
}

#[test]
fn the_start_of_an_absent_consumer_gives_way_before_that_of_a_present_one() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let present = fixture.serve(7).expect("it is admitted");
    fixture.publications.channel_served(&mut fixture.env, present, 5);
    let publication = fixture.publications.publications.get_mut(&fixture.shared.key).expect("it is there");
    let first = *publication.starts.keys().next().expect("its start");
    let absent = |number: u64| ConsumerKey { peer: PeerId([10; 32]), subscription: number.to_le_bytes() };
    publication.starts.extend((1..STARTS_MAX as u64).map(|number| (absent(number), ChannelStart::default())));
    let other = OpenRequest { subscription: [1; 8], ..request() };
    let other = fixture.serve_with(8, other).expect("it is admitted");
    fixture.publications.channel_served(&mut fixture.env, other, 6);
    let starts = &fixture.publications.publications[&fixture.shared.key].starts;
    assert_eq!(starts.len(), STARTS_MAX);
    assert!(starts.contains_key(&first));
}

#[test]
fn a_request_waits_until_the_last_channel_of_its_consumer_has_ended() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let key = fixture.serve(7).expect("it is admitted");
    fixture.env.effects.drain();
    assert_eq!(fixture.serve_again(8, None), Ok(None));
    let effects = fixture.env.effects.drain();
    let superseded = CloseCode::SUPERSEDED;
    assert!(matches!(effects[..],
        [Effect::Send(_, Command::ResetChannel { code, .. })] if code == superseded));
    fixture.publications.channel_ended(&mut fixture.env, key, superseded, None);
    let effects = fixture.env.effects.drain();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::AnswerOpen(_))));
    assert!(fixture.serve_again(8, None).is_ok_and(|served| served.is_some()));
}

fn filled(spec: PublishSpec) -> (Fixture, Writer) {
    let fixture = Fixture::new(spec);
    let writer: Writer = fixture.shared.ring.writer();
    (fixture, writer)
}

#[test]
fn consumer_with_all_of_an_ended_stream_keeps_no_place() {
    let (mut fixture, writer) = filled(PublishSpec::new(STREAM));
    let key = fixture.serve(7).expect("it is admitted");
    assert!(writer.try_push(&[1; 8]).is_ok());
    let reader = fixture.shared.ring.subscribe().expect("a cursor, behind the datum");
    fixture.shared.ring.close();
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::SUPERSEDED, Some(reader));
    assert!(fixture.publications.publications.is_empty(), "the node waits for it no longer");
    assert_eq!(failed(&fixture.env.effects.drain()), None, "nothing is missing");
}

/// Serves subscription 7 and lets its session break after three datums, none of which it has.
fn absent_consumer(fixture: &mut Fixture, writer: &Writer) {
    let reader = fixture.shared.ring.subscribe().expect("a cursor");
    (0..3).for_each(|_| assert!(writer.try_push(&[1; 8]).is_ok()));
    let key = fixture.serve(7).expect("it is admitted");
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::PEER_LOST, Some(reader));
    fixture.env.effects.drain();
}

fn failed(effects: &[Effect]) -> Option<&[Shortfall]> {
    effects.iter().find_map(|effect| match effect {
        Effect::DeliveryFailed(_, missing) => Some(&missing[..]),
        _ => None,
    })
}

#[test]
fn an_absent_consumer_may_fetch_the_rest_of_a_closed_stream() {
    let (mut fixture, writer) = filled(PublishSpec::new(STREAM));
    absent_consumer(&mut fixture, &writer);
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    assert!(!fixture.publications.have_drained(fixture.node.id));
    assert_eq!(fixture.serve(8), Err(CloseCode::STREAM_NOT_FOUND), "a stranger");
    fixture.env.effects.drain();
    let key = fixture.serve_again(8, Some(2)).expect("it is admitted").expect("no channel is in the way");
    assert_eq!(resumed_at(fixture.env.effects.drain()), Some((2, 0)));
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::GRACEFUL, None);
    assert_eq!(failed(&fixture.env.effects.drain()), None);
    assert_eq!(fixture.node.live_publications.get(), 0);
}

#[test]
fn what_an_absent_consumer_of_a_closed_stream_misses_is_reported() {
    let (mut fixture, writer) = filled(PublishSpec::new(STREAM));
    absent_consumer(&mut fixture, &writer);
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    fixture.env.now = fixture.env.now + fixture.node.dead_after + fixture.shared.spec.resume_for;
    fixture.publications.places_due(&mut fixture.env, fixture.shared.key);
    let effects = fixture.env.effects.drain();
    let one = Shortfall { stream: STREAM, consumer: PeerId([9; 32]), datums: 3 };
    assert_eq!(failed(&effects), Some(&[one][..]));
    assert_eq!(fixture.shared.counters.skipped_at_close.get(), 3);
    assert_eq!(fixture.node.live_publications.get(), 0);
    let late = FlushShared::new(STREAM, 3);
    fixture.publications.flush(&mut fixture.env, &fixture.shared, late.clone());
    assert_eq!(crate::shared::flush::Flush(late).missing(), [one], "a later flush knows it as well");
}

/// The marks that a shard was asked for.
fn marks(effects: Vec<Effect>) -> Vec<u64> {
    let seq = |effect| match effect {
        Effect::Send(_, Command::Mark { seq, .. }) => Some(seq),
        _ => None,
    };
    effects.into_iter().filter_map(seq).collect()
}

#[test]
fn a_flush_waits_for_marks_ends_and_absent_consumers() {
    let (mut fixture, writer) = filled(PublishSpec::new(STREAM));
    absent_consumer(&mut fixture, &writer);
    let (one, other) = (fixture.serve(1).expect("admitted"), fixture.serve(2).expect("admitted"));
    for key in [one, other] {
        let channel = &fixture.publications.publications[&fixture.shared.key].channels[&key].channel;
        channel.shared.set_connected(Instant::ZERO);
    }
    fixture.env.effects.drain();
    let flush = FlushShared::new(STREAM, fixture.shared.ring.tail());
    fixture.publications.flush(&mut fixture.env, &fixture.shared, flush.clone());
    assert_eq!(marks(fixture.env.effects.drain()), [3, 3]);
    fixture.publications.marked(&mut fixture.env, one, 2);
    let lacking = |flush: &Arc<FlushShared>| crate::shared::flush::Flush(flush.clone()).missing().len();
    assert_eq!(lacking(&flush), 3, "that mark is of an earlier flush");
    fixture.publications.marked(&mut fixture.env, one, 3);
    assert_eq!(lacking(&flush), 2);
    fixture.publications.channel_ended(&mut fixture.env, other, CloseCode::NOT_ALLOWED, None);
    assert!(!flush.is_over(), "one is absent");
    fixture.env.effects.drain();
    let again = fixture.serve_again(8, Some(1)).expect("it is admitted").expect("no channel is in the way");
    assert_eq!(marks(fixture.env.effects.drain()), [3], "its new channel is asked");
    fixture.publications.marked(&mut fixture.env, again, 3);
    assert!(flush.is_over());
    let missing = crate::shared::flush::Flush(flush).missing();
    assert_eq!(missing.iter().map(|one| one.datums).collect::<Vec<_>>(), [3], "the one that was cut off");
}

#[test]
fn a_flush_that_was_given_up_is_forgotten_with_the_next_one() {
    let (mut fixture, writer) = filled(PublishSpec::new(STREAM));
    absent_consumer(&mut fixture, &writer);
    for _ in 0..3 {
        let flush = FlushShared::new(STREAM, 3);
        fixture.publications.flush(&mut fixture.env, &fixture.shared, flush.clone());
    }
    assert_eq!(fixture.publications.publications[&fixture.shared.key].flushes.len(), 1);
}

#[test]
fn a_channel_is_asked_for_one_mark_at_a_time_the_earliest() {
    let mut fixture = Fixture::new(PublishSpec::new(STREAM));
    let key = fixture.serve(1).expect("admitted");
    fixture.publications.publications[&fixture.shared.key].channels[&key]
        .channel
        .shared
        .set_connected(Instant::ZERO);
    fixture.env.effects.drain();
    let flush = |fixture: &mut Fixture, seq| {
        let flush = FlushShared::new(STREAM, seq);
        fixture.publications.flush(&mut fixture.env, &fixture.shared, flush.clone());
        flush
    };
    for seq in 3..10_003 {
        drop(flush(&mut fixture, seq));
    }
    assert_eq!(marks(fixture.env.effects.drain()), [3], "nothing waits for the others");
    let (late, soon) = (flush(&mut fixture, 5), flush(&mut fixture, 4));
    assert!(marks(fixture.env.effects.drain()).is_empty());
    fixture.publications.marked(&mut fixture.env, key, 3);
    assert_eq!(marks(fixture.env.effects.drain()), [4]);
    // An earlier one is not kept waiting by the one that was asked for.
    let sooner = flush(&mut fixture, 3);
    assert_eq!(marks(fixture.env.effects.drain()), [3]);
    fixture.publications.marked(&mut fixture.env, key, 4);
    assert!(sooner.is_over() && soon.is_over() && !late.is_over());
    assert_eq!(marks(fixture.env.effects.drain()), [5]);
    fixture.publications.marked(&mut fixture.env, key, 5);
    assert!(late.is_over());
}

#[test]
fn events_of_a_publication_are_told_in_order() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = told.clone();
    let on_event: crate::shared::event::OnEvent = Arc::new(move |event: ChannelEvent| {
        let text = format!("{event:?}");
        log.lock().expect("the log").push(text.split(' ').next().unwrap_or_default().to_owned());
    });
    let spec = PublishSpec { on_event: Some(on_event), max_consumers: 1, ..PublishSpec::new(STREAM) };
    let (mut fixture, writer) = filled(spec);
    let key = fixture.serve(7).expect("it is admitted");
    fixture.publications.channel_served(&mut fixture.env, key, 0);
    assert_eq!(fixture.serve(8), Err(CloseCode::NO_CAPACITY));
    fixture.publications.suspect(&mut fixture.env, key, true);
    let channel = fixture.shared.channels.borrow()[0].clone();
    channel.shared.set_connected(Instant::ZERO);
    assert!(channel.shared.is_suspect());
    fixture.publications.suspect(&mut fixture.env, key, false);
    assert!(!channel.shared.is_suspect());
    assert!(writer.try_push(&[1; 8]).is_ok());
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::TOO_SLOW, None);
    let mut notices = crate::clerk::notice::Notices::default();
    for effect in fixture.env.effects.drain() {
        if let Effect::Tell(notice) = effect {
            notices.add_event(notice);
        }
    }
    notices.send(&EventCounter::default());
    let expected = ["Connected", "Refused", "Suspect", "Recovered", "Closed", "Undelivered"];
    assert_eq!(*told.lock().expect("the log"), expected);
}

/// A direct publication for `consumer`; requests come from peer 9.
fn direct(consumer: u8) -> Fixture {
    let direct = DirectTo { consumer: PeerId([consumer; 32]), back: StreamId([4; 32]) };
    Fixture::new(PublishSpec { direct: Some(direct), ..PublishSpec::new(STREAM) })
}

fn skipped(fixture: &Fixture) -> u64 {
    fixture.shared.counters.skipped_at_close.get()
}

#[test]
fn a_direct_publication_serves_its_peer_and_is_not_announced() {
    let mut strange = direct(8);
    assert_eq!(strange.serve(7), Err(CloseCode::STREAM_NOT_FOUND));
    assert_eq!(strange.node.counters.read().stream_not_found, 1);
    let mut fixture = direct(9);
    assert!(fixture.publications.streams_of(fixture.node.id).is_empty());
    fixture.serve(7).expect("it is for this peer");
    let offered =
        |effect: &Effect| matches!(effect, Effect::StreamOffered(_, PeerId([9, ..]), StreamId([4, ..])));
    assert!(fixture.env.effects.drain().iter().any(offered), "the other direction may be open now");
}

#[test]
fn what_a_direct_publication_has_for_no_channel_is_counted() {
    let mut fixture = direct(9);
    let writer = fixture.shared.ring.writer();
    let push = |count: u64| (0..count).for_each(|_| _ = writer.try_push(b"x").expect("no reader stops it"));
    push(2);
    let key = fixture.serve(7).expect("it is for this peer");
    fixture.publications.channel_served(&mut fixture.env, key, 2);
    assert_eq!(skipped(&fixture), 2, "before the first channel");
    let channel = fixture.shared.channels.borrow()[0].clone();
    channel.shared.set_connected(Instant::ZERO);
    let counters = crate::shared::ChannelSnapshot { released: 2, ..Default::default() };
    channel.shared.counters().write(&counters);
    push(3);
    fixture.publications.channel_ended(&mut fixture.env, key, CloseCode::GRACEFUL, None);
    assert_eq!(skipped(&fixture), 5, "left by the consumer");
    push(4);
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    assert_eq!(skipped(&fixture), 9, "between the last channel and the close");
}

#[test]
fn what_is_published_while_a_loss_is_counted_is_counted_later() {
    let mut fixture = direct(9);
    let writer = fixture.shared.ring.writer();
    let push = |count: u64| (0..count).for_each(|_| _ = writer.try_push(b"x").expect("no reader stops it"));
    let publication = fixture.publications.publications.get_mut(&fixture.shared.key).expect("it is open");
    publication.hold(0);
    push(3);
    // The loss of a channel was counted up to the tail before another thread has published the third.
    publication.unhold(2);
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    assert_eq!(skipped(&fixture), 1);
}

#[test]
fn a_discarded_publication_cuts_its_channels_at_once() {
    let mut fixture = direct(9);
    fixture.serve(7).expect("it is for this peer");
    fixture.env.effects.drain();
    fixture.shared.end.set(CloseCode::DISCARDED);
    fixture.shared.discarded.set(true);
    fixture.publications.unpublish(&mut fixture.env, fixture.shared.key);
    let cut = |effect: &Effect| matches!(effect, Effect::ResetChannel(_, _, CloseCode::DISCARDED));
    assert!(fixture.env.effects.drain().iter().any(cut));
    assert!(fixture.publications.handles_of(fixture.node.id).is_empty(), "it is forgotten");
}
