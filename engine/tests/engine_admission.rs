//! Which consumers are admitted: predicates, bounds and tickets, over UDP between two engines.

mod engine_rig;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use corewire_engine::{
    Engine,
    node::{JoinError, Node, NodeConfig, TicketsTooLong},
    peer::{PeerInfo, ShownTicket},
    publication::{Admit, Publication, PublishSpec, Verdict},
    shared::ChannelState,
    subscription::{SubscribeSpec, Subscription},
};
use corewire_proto::{PeerId, TagId, session::CloseCode};
use engine_rig::{
    connected, engine, join, network, next_leg, next_number, push, spec, stream, wait_consumers, wait_for,
};

/// Two nodes of one network, each on an engine of its own.
fn pair(name: &str) -> (Engine, Engine, Node, Node) {
    let (here, there) = (engine(), engine());
    let network = network(name);
    let (producer, consumer) = (join(&here, network), join(&there, network));
    (here, there, producer, consumer)
}

fn publish(node: &Node, admit: impl Fn(&PeerInfo) -> Verdict + Send + Sync + 'static) -> Publication {
    let admit: Option<Admit> = Some(Arc::new(admit));
    node.publish(PublishSpec { admit, ..PublishSpec::new(stream(1)) }).expect("a publication")
}

/// Waits until a channel of the subscription has ended with this code.
#[track_caller]
fn wait_code(subscription: &Subscription, code: CloseCode) {
    wait_for(&code.to_string(), subscription.watch(), |channels| {
        channels.iter().any(|channel| channel.shared().close_code() == Some(code))
    });
}

#[test]
fn a_refused_consumer_is_admitted_once_its_tags_fit() {
    let (_here, _there, producer, consumer) = pair("refused");
    let trusted = TagId([9; 32]);
    let publication = publish(&producer, move |peer| Verdict::from(peer.has_tag(&trusted)));
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    wait_code(&subscription, CloseCode::NOT_ALLOWED);
    assert_eq!(publication.stats().not_allowed, 1, "it is not tried again before something changes");
    consumer.set_tags(vec![trusted]);
    let mut leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    push(&publication, 5);
    assert_eq!(next_number(&mut leg), 5);
    // It is closed when its tags do not fit any more.
    consumer.set_tags(Vec::new());
    let state = leg.channel().shared().watch();
    wait_for("the end", state, |state| *state == ChannelState::Terminated);
    assert_eq!(leg.channel().shared().close_code(), Some(CloseCode::NOT_ALLOWED));
    wait_for("nobody", publication.watch(), |channels| connected(channels) == 0);
}

#[test]
fn a_predicate_that_panics_denies_and_the_engine_goes_on() {
    let (_here, _there, producer, consumer) = pair("panics");
    let publication = publish(&producer, |_| panic!("the user's defect"));
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    wait_code(&subscription, CloseCode::NOT_ALLOWED);
    assert_eq!(publication.stats().panics, 1);
    drop(publication);
    let publication = publish(&producer, |_| Verdict::Allow);
    let mut leg = next_leg(&subscription);
    push(&publication, 1);
    assert_eq!(next_number(&mut leg), 1);
}

#[test]
fn a_consumer_over_the_limit_is_admitted_when_another_leaves() {
    let (_here, _there, producer, consumer) = pair("capacity");
    let publication = producer
        .publish(PublishSpec { max_consumers: 1, ..PublishSpec::new(stream(1)) })
        .expect("a publication");
    let first = consumer.subscribe(spec(1)).expect("a subscription");
    let leg = next_leg(&first);
    let second = consumer.subscribe(spec(1)).expect("a subscription");
    wait_code(&second, CloseCode::NO_CAPACITY);
    assert_eq!(publication.channels().len(), 1);
    assert!(publication.stats().no_capacity >= 1);
    drop(leg);
    drop(first);
    let mut leg = next_leg(&second);
    push(&publication, 2);
    assert_eq!(next_number(&mut leg), 2);
}

#[test]
fn a_local_consumer_counts_like_any_other() {
    let (_here, _there, producer, consumer) = pair("local counts");
    let publication = producer
        .publish(PublishSpec { max_consumers: 1, ..PublishSpec::new(stream(1)) })
        .expect("a publication");
    let own = producer.subscribe(spec(1)).expect("a subscription");
    let leg = next_leg(&own);
    assert!(leg.channel().is_local());
    let remote = consumer.subscribe(spec(1)).expect("a subscription");
    wait_code(&remote, CloseCode::NO_CAPACITY);
    drop((leg, own));
    let leg = next_leg(&remote);
    assert!(!leg.channel().is_local());
    wait_consumers(&publication, 1);
}

#[test]
fn a_stream_that_ended_meanwhile_is_not_found() {
    let (_here, _there, producer, consumer) = pair("meanwhile");
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let (asked, is_asked) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let accept: Admit = Arc::new(move |_| {
        // The consumer's clerk stands still here while the producer ends the stream.
        let _ = asked.send(());
        let _ = may_go_on.lock().expect("not poisoned").recv();
        Verdict::Allow
    });
    let subscription =
        consumer.subscribe(SubscribeSpec { accept: Some(accept), ..spec(1) }).expect("a subscription");
    is_asked.recv_timeout(corewire_testkit::LIMIT).expect("the producer was found");
    drop(publication);
    // The clerk takes requests in order: when this is served, the end above was handled.
    let barrier = producer.publish(PublishSpec::new(stream(2))).expect("a publication");
    let own = producer.subscribe(spec(2)).expect("a subscription");
    let _leg = next_leg(&own);
    drop((go_on, barrier));
    let until = std::time::Instant::now() + corewire_testkit::LIMIT;
    while producer.stats().stream_not_found == 0 {
        assert!(std::time::Instant::now() < until, "{:?}", producer.stats());
        std::thread::yield_now();
    }
    assert!(subscription.take_leg().is_none());
}

#[test]
fn a_consumer_chooses_its_producers() {
    let (_here, _there, producer, consumer) = pair("chooses");
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let wanted = TagId([4; 32]);
    let accept: Admit = Arc::new(move |peer| Verdict::from(peer.has_tag(&wanted)));
    let subscription =
        consumer.subscribe(SubscribeSpec { accept: Some(accept), ..spec(1) }).expect("a subscription");
    let until = std::time::Instant::now() + corewire_testkit::LIMIT;
    while consumer.stats().not_allowed == 0 {
        assert!(std::time::Instant::now() < until, "{:?}", consumer.stats());
        std::thread::yield_now();
    }
    assert!(publication.channels().is_empty());
    producer.set_tags(vec![wanted]);
    let leg = next_leg(&subscription);
    producer.set_tags(Vec::new());
    let state = leg.channel().shared().watch();
    wait_for("the end", state, |state| *state == ChannelState::Terminated);
    assert_eq!(leg.channel().shared().close_code(), Some(CloseCode::NOT_ALLOWED));
}

#[test]
fn a_verdict_is_asked_for_again_when_its_time_is_over() {
    let (_here, _there, producer, consumer) = pair("for a time");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let publication = publish(&producer, move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..3 => Verdict::AllowFor(Duration::from_millis(20)),
        _ => Verdict::Deny,
    });
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let leg = next_leg(&subscription);
    let state = leg.channel().shared().watch();
    wait_for("the end", state, |state| *state == ChannelState::Terminated);
    assert_eq!(leg.channel().shared().close_code(), Some(CloseCode::NOT_ALLOWED));
    assert!(asked.load(Ordering::SeqCst) >= 4);
    wait_for("nobody", publication.watch(), |channels| channels.is_empty());
}

#[test]
fn both_ends_show_tickets_in_the_session_and_can_renew_them() {
    let (here, there) = (engine(), engine());
    let network = network("tickets");
    let ticket = |text: &str| ShownTicket { class: [1; 32], bytes: text.as_bytes().into() };
    let has =
        |peer: &PeerInfo, text: &str| peer.tickets().iter().any(|ticket| &*ticket.bytes == text.as_bytes());
    let config = |text: &str| NodeConfig { tickets: vec![ticket(text)], ..NodeConfig::new(network) };
    let producer = Node::join(&here, config("producer")).expect("a node");
    let consumer = Node::join(&there, config("old")).expect("a node");
    let publication = publish(&producer, move |peer| Verdict::from(has(peer, "new")));
    let accept: Admit = Arc::new(move |peer| Verdict::from(has(peer, "producer")));
    let subscription =
        consumer.subscribe(SubscribeSpec { accept: Some(accept), ..spec(1) }).expect("a subscription");
    wait_code(&subscription, CloseCode::NOT_ALLOWED);
    consumer.change_tickets(|tickets| *tickets = vec![ticket("new")]).expect("a short one");
    let mut leg = next_leg(&subscription);
    push(&publication, 8);
    assert_eq!(next_number(&mut leg), 8);
    // What is too long is refused here; the peer would end the session.
    let limit = 16 << 10;
    let too_long = ShownTicket { class: [1; 32], bytes: vec![7; limit - 35].into() };
    let refused = consumer.change_tickets(|tickets| *tickets = vec![too_long.clone()]);
    assert_eq!(refused, Err(TicketsTooLong { bytes: limit + 1, limit }));
    let config = NodeConfig { tickets: vec![too_long], ..NodeConfig::new(network) };
    assert!(matches!(Node::join(&here, config), Err(JoinError::TooMany { what: "bytes of tickets", .. })));
    let fits = ShownTicket { class: [1; 32], bytes: vec![7; limit - 36 - 39].into() };
    consumer.change_tickets(|tickets| tickets.push(fits)).expect("exactly as long as allowed");
    // Tickets are in no record: only the peer of the session sees them.
    let third = join(&engine(), network);
    let known = wait_for("both", third.watch_peers(), |peers| peers.len() == 2);
    assert!(known.iter().all(|peer: &PeerInfo| peer.tickets().is_empty()));
    let ids: Vec<PeerId> = known.iter().map(PeerInfo::peer_id).collect();
    assert!(ids.contains(&producer.peer_id()) && ids.contains(&consumer.peer_id()));
}
