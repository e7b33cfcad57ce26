//! How channels within an engine are cut off, and nodes of an engine that stops, on virtual time.

#[allow(dead_code, reason = "only its clerk is used here")]
mod lagging_rig;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use corewire_engine::{
    node::{LeaveError, Node, NodeConfig},
    publication::{PublishSpec, Verdict},
    subscription::{Leg, SubscribeSpec},
};
use corewire_proto::{TagId, session::CloseCode};
use corewire_rings::RecvError;
use lagging_rig::{GRACE, Rig, STREAM, code, drain, fill, ms, subscribe_spec, take_one, trying_again};

/// The sequences of all there is to take.
fn sequences(leg: &mut Leg) -> Vec<u64> {
    let next = || leg.inbox_mut().try_recv().ok().flatten().map(|taken| taken.seq());
    std::iter::from_fn(next).collect()
}

#[test]
fn a_producer_that_is_not_accepted_any_more_delivers_nothing() {
    let mut rig = Rig::new(1);
    let (producer, consumer) = (rig.node(1), rig.node(2));
    let publication = rig.publish(&producer, Some(GRACE));
    let accepted = Arc::new(AtomicBool::new(true));
    let asked = accepted.clone();
    let accept = move |_: &_| if asked.load(Ordering::Relaxed) { Verdict::Allow } else { Verdict::Deny };
    let spec = SubscribeSpec { accept: Some(Arc::new(accept)), ..subscribe_spec() };
    let subscription = consumer.subscribe(spec).expect("a subscription");
    rig.settle();
    let mut leg = subscription.take_leg().expect("a leg");
    let push = |number: u64| publication.writer().try_push(&number.to_le_bytes()).expect("there is room");
    let _ = push(0);
    assert_eq!(take_one(&mut leg), 0);
    accepted.store(false, Ordering::Relaxed);
    producer.set_tags(vec![TagId([1; 32])]);
    rig.settle();
    assert_eq!(code(&leg), Some(CloseCode::NOT_ALLOWED));
    let _ = push(1);
    assert_eq!(drain(&mut leg), Err(RecvError::Detached));
    assert_eq!(leg.channel().shared().end_seq(), Some(1), "what it misses is known");
    assert_eq!(publication.ring().readers(), 0, "it holds nothing in the ring");
    accepted.store(true, Ordering::Relaxed);
    producer.set_tags(Vec::new());
    rig.settle();
    let mut again = subscription.take_leg().expect("it is accepted again");
    let _ = push(2);
    assert_eq!(take_one(&mut again), 2);
}

#[test]
fn a_consumer_that_is_cut_off_while_it_reads_in_place_gets_nothing_twice() {
    let mut rig = Rig::new(2);
    let node = rig.node(1);
    let publication = rig.publish(&node, Some(GRACE));
    let subscription = node.subscribe(trying_again(ms(50))).expect("a subscription");
    rig.settle();
    let mut leg = subscription.take_leg().expect("a leg");
    let shared = leg.channel().shared().clone();
    let mut accepted = 0;
    fill(&publication, &mut accepted);
    let borrowed = leg.inbox_mut().try_recv().expect("not over").expect("a datum");
    let mut seen = vec![borrowed.seq()];
    while shared.close_code().is_none() {
        fill(&publication, &mut accepted);
        rig.step();
        assert!(rig.passed() < Duration::from_secs(20), "never closed");
    }
    // For longer than the pause of the backoff.
    for _ in 0..200 {
        rig.step();
    }
    let mut next = subscription.take_leg();
    drop(borrowed);
    seen.extend(sequences(&mut leg));
    fill(&publication, &mut accepted);
    seen.extend(sequences(&mut leg));
    while next.is_none() {
        rig.step();
        next = subscription.take_leg();
        assert!(rig.passed() < Duration::from_secs(20), "never connected again");
    }
    let mut next = next.expect("a leg");
    fill(&publication, &mut accepted);
    seen.extend(sequences(&mut next));
    assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
    assert_eq!(seen.last(), Some(&(accepted - 1)));
}

#[test]
fn a_publication_that_is_refused_because_its_node_leaves_is_announced() {
    let mut rig = Rig::new(3);
    let node = rig.node(1);
    let calls = Arc::new(AtomicU64::new(0));
    let seen = calls.clone();
    let on_change = move || {
        seen.fetch_add(1, Ordering::Relaxed);
    };
    rig.engine.stop(Duration::ZERO);
    let spec = PublishSpec { on_change: Some(Arc::new(on_change)), ..PublishSpec::new(STREAM) };
    let publication = node.publish(spec).expect("the clerk has not seen the end");
    rig.settle();
    assert!(publication.ring().is_closed());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_node_that_joins_while_its_engine_stops_is_told_so() {
    let mut rig = Rig::new(4);
    rig.engine.stop(Duration::ZERO);
    let node = Node::join_on(&rig.engine, NodeConfig::new(rig.network), Vec::new())
        .expect("the clerk has not seen it");
    rig.settle();
    let mut left = std::pin::pin!(node.shutdown(Duration::ZERO));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(left.as_mut().poll(&mut cx), std::task::Poll::Ready(Err(LeaveError::EngineStopped)));
}
