//! Nodes of one engine: streams between them are read straight from the producer's ring.

mod engine_rig;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use corewire_engine::{
    node::{Node, NodeConfig},
    publication::{PublishError, PublishSpec, Verdict},
    shared::ChannelState,
    subscription::{SubscribeError, SubscribeSpec},
};
use corewire_proto::{TagId, session::CloseCode};
use corewire_rings::RecvError;
use engine_rig::{
    Got, connected, engine, join, network, next, next_leg, next_number, push, spec, stream, wait,
    wait_consumers, wait_for,
};

#[test]
fn a_consumer_reads_the_ring_of_a_producer_on_the_same_engine() {
    let engine = engine();
    let network = network("same engine");
    let (producer, consumer) = (join(&engine, network), join(&engine, network));
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let mut leg = next_leg(&subscription);
    assert!(leg.channel().is_local());
    assert!(!leg.inbox().is_remote());
    wait_consumers(&publication, 1);
    let channel = &publication.channels()[0];
    assert_eq!(channel.consumer_id(), consumer.peer_id());
    assert_eq!(channel.producer_id(), producer.peer_id());
    assert_eq!(leg.channel().peer().peer_id(), producer.peer_id());
    for number in 0..5_000 {
        push(&publication, number);
        assert_eq!(next_number(&mut leg), number);
    }
}

#[test]
fn short_datums_are_scattered_if_the_ring_has_bytes_for_it() {
    let engine = engine();
    let node = join(&engine, network("cells"));
    let sizes = [(1_024, 1_024 * 128, true), (1_024, 1_024 * 128 - 1, false), (1_000, 1_024 * 128, true)];
    for (number, (datums, bytes, cells)) in sizes.into_iter().enumerate() {
        let spec = PublishSpec { datums, bytes, max_datum: 64, ..PublishSpec::new(stream(number as u8)) };
        let publication = node.publish(spec).expect("a publication");
        assert_eq!(publication.ring().config().scatter_small, cells, "{datums} datums, {bytes} bytes");
    }
    let publication = node.publish(PublishSpec::new(stream(9))).expect("a publication");
    assert!(publication.ring().config().scatter_small, "by default");
}

#[test]
fn a_node_consumes_what_it_produces_itself() {
    let engine = engine();
    let node = join(&engine, network("itself"));
    let publication = node.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = node.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    push(&publication, 7);
    assert_eq!(next_number(&mut leg), 7);
    assert_eq!(leg.channel().producer_id(), leg.channel().consumer_id());
    assert!(node.peers().is_empty(), "a node is not its own peer");
}

#[test]
fn each_subscription_gets_its_own_copy() {
    let engine = engine();
    let node = join(&engine, network("copies"));
    let publication = node.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscriptions = [(); 3].map(|()| node.subscribe(spec(1)).expect("a subscription"));
    let mut legs = subscriptions.iter().map(next_leg).collect::<Vec<_>>();
    wait_consumers(&publication, 3);
    push(&publication, 1);
    push(&publication, 2);
    for leg in &mut legs {
        assert_eq!((next_number(leg), next_number(leg)), (1, 2));
    }
}

#[test]
fn publishing_twice_gives_the_existing_publication_and_attachment() {
    let engine = engine();
    let node = join(&engine, network("existing"));
    let spec = PublishSpec { attachment: Some(Arc::new(42_u32)), ..PublishSpec::new(stream(1)) };
    let first = node.publish(spec).expect("a publication");
    let Err(PublishError::AlreadyExists(second)) = node.publish(PublishSpec::new(stream(1))) else {
        panic!("the stream is published already");
    };
    let attachment = second.attachment().and_then(|any| any.downcast_ref::<u32>());
    assert_eq!(attachment, Some(&42));
    drop(first);
    assert!(!second.is_closed(), "one handle is left");
    second.close();
    assert!(second.is_closed());
    let third = node.publish(PublishSpec::new(stream(1))).expect("the closed one does not count");
    assert!(third.attachment().is_none());
}

#[test]
fn dropping_the_last_handle_ends_the_stream_after_its_datums() {
    let engine = engine();
    let network = network("last handle");
    let (producer, consumer) = (join(&engine, network), join(&engine, network));
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let mut leg = next_leg(&subscription);
    for number in 0..100 {
        push(&publication, number);
    }
    drop(publication);
    for number in 0..100 {
        assert_eq!(next_number(&mut leg), number);
    }
    assert_eq!(next(&mut leg), Got::Ended(RecvError::Closed));
    let shared = leg.channel().shared().clone();
    wait_for("the end", shared.watch(), |state| *state == ChannelState::Terminated);
    assert_eq!(shared.close_code(), Some(CloseCode::GRACEFUL));
    // The next publication of the stream is found as well.
    let again = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let mut leg = next_leg(&subscription);
    push(&again, 1);
    assert_eq!(next_number(&mut leg), 1);
}

#[test]
fn a_dropped_subscription_is_withdrawn_at_the_producer() {
    let engine = engine();
    let node = join(&engine, network("withdrawn"));
    let publication = node.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = node.subscribe(spec(1)).expect("a subscription");
    wait_consumers(&publication, 1);
    drop(subscription);
    wait_for("nobody", publication.watch(), |channels| channels.is_empty());
    // A leg that was taken ends with its own drop, and then holds nothing back.
    let subscription = node.subscribe(spec(1)).expect("a subscription");
    let leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    drop(leg);
    drop(subscription);
    wait_for("nobody", publication.watch(), |channels| channels.is_empty());
    for number in 0..5_000 {
        push(&publication, number);
    }
}

#[test]
fn buffered_datums_stay_readable_after_unsubscribing() {
    let engine = engine();
    let node = join(&engine, network("buffered"));
    let publication = node.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = node.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    push(&publication, 1);
    push(&publication, 2);
    drop(subscription);
    wait_for("nobody", publication.watch(), |channels| channels.is_empty());
    assert_eq!((next_number(&mut leg), next_number(&mut leg)), (1, 2));
}

#[test]
fn a_panic_in_a_change_notice_is_contained() {
    let engine = engine();
    let node = join(&engine, network("notices"));
    let calls = Arc::new(AtomicUsize::new(0));
    let (watched, mut changed) = tokio::sync::watch::channel(0_usize);
    let seen = calls.clone();
    let on_change = Arc::new(move || {
        let calls = seen.fetch_add(1, Ordering::SeqCst) + 1;
        watched.send_replace(calls);
        panic!("the user's defect");
    });
    let publication = node
        .publish(PublishSpec { on_change: Some(on_change), ..PublishSpec::new(stream(1)) })
        .expect("a publication");
    let subscription = node.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    wait("a notice", changed.wait_for(|calls| *calls > 0)).expect("the closure lives");
    let before = calls.load(Ordering::SeqCst);
    drop(subscription);
    wait("another notice", changed.wait_for(|calls| *calls > before)).expect("the closure lives");
    push(&publication, 3);
    assert_eq!(next_number(&mut leg), 3);
}

#[test]
fn leaving_ends_streams_and_reports_whether_they_were_delivered() {
    let engine = engine();
    let network = network("leaves");
    let (producer, consumer) = (join(&engine, network), join(&engine, network));
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    push(&publication, 1);
    // No consumer reads, so the deadline passes.
    let left = wait("the end", producer.shutdown(Duration::from_millis(50)));
    assert!(left.is_err());
    assert!(publication.is_closed());
    assert!(matches!(producer.publish(PublishSpec::new(stream(2))), Err(PublishError::Left)));
    assert!(matches!(producer.subscribe(spec(2)), Err(SubscribeError::Left)));
    // The datums are still readable, because the ring lives as long as its readers.
    assert_eq!(next_number(&mut leg), 1);

    let producer = join(&engine, network);
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let mut leg = next_leg(&subscription);
    push(&publication, 2);
    let leaving = producer.shutdown(Duration::from_secs(10));
    assert_eq!(next_number(&mut leg), 2);
    assert_eq!(wait("the end", leaving), Ok(()));
    assert!(wait("the consumer's end", consumer.shutdown(Duration::from_secs(10))).is_ok());
    assert!(subscription.is_closed());
}

#[test]
fn networks_do_not_mix_on_one_engine() {
    let engine = engine();
    let (one, other) = (join(&engine, network("one")), join(&engine, network("other")));
    let _publication = one.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = other.subscribe(spec(1)).expect("a subscription");
    let same = one.subscribe(spec(1)).expect("a subscription");
    // The clerk takes requests in order: when the later one is served, the earlier one was handled.
    let _leg = next_leg(&same);
    assert!(subscription.take_leg().is_none());
    assert!(subscription.channels().is_empty());
    // The same network with another secret is another network.
    let secret: [u8; 32] = std::array::from_fn(|at| at as u8);
    let config = NodeConfig { network_secret: Some(secret), ..NodeConfig::new(network("one")) };
    let stranger = Node::join(&engine, config).expect("a node");
    let hidden = stranger.subscribe(spec(1)).expect("a subscription");
    let same = one.subscribe(spec(1)).expect("a subscription");
    let _leg = next_leg(&same);
    assert!(hidden.take_leg().is_none());
}

#[test]
fn a_lagging_consumer_is_closed_and_the_others_go_on() {
    let engine = engine();
    let node = join(&engine, network("lagging"));
    let publish = PublishSpec {
        datums: 16,
        lagging_grace: Some(Duration::from_millis(30)),
        ..PublishSpec::new(stream(1))
    };
    let publication = node.publish(publish).expect("a publication");
    let no_retry = SubscribeSpec { accept: None, ..spec(1) };
    let slow = node.subscribe(no_retry).expect("a subscription");
    let good = node.subscribe(spec(1)).expect("a subscription");
    let slow_leg = next_leg(&slow);
    let mut good_leg = next_leg(&good);
    wait_consumers(&publication, 2);
    let writer = publication.writer();
    for number in 0..200_u64 {
        while writer.try_push(&number.to_le_bytes()).is_err() {
            publication.note_full();
            std::thread::yield_now();
        }
        assert_eq!(next_number(&mut good_leg), number);
    }
    assert_eq!(slow_leg.channel().shared().close_code(), Some(CloseCode::TOO_SLOW));
    assert!(publication.stats().too_slow >= 1);
    assert_eq!(good_leg.channel().shared().close_code(), None);
}

#[test]
fn a_change_of_tags_asks_the_predicates_again() {
    let engine = engine();
    let network = network("tags");
    let (producer, consumer) = (join(&engine, network), join(&engine, network));
    let trusted = TagId([9; 32]);
    let admit = Arc::new(move |peer: &corewire_engine::peer::PeerInfo| Verdict::from(peer.has_tag(&trusted)));
    let publication = producer
        .publish(PublishSpec { admit: Some(admit), ..PublishSpec::new(stream(1)) })
        .expect("a publication");
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    wait_for("a refusal", subscription.watch(), |channels| {
        channels.iter().any(|channel| channel.shared().close_code() == Some(CloseCode::NOT_ALLOWED))
    });
    consumer.set_tags(vec![trusted]);
    let leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    consumer.set_tags(Vec::new());
    let state = leg.channel().shared().watch();
    wait_for("the end", state, |state| *state == ChannelState::Terminated);
    assert_eq!(leg.channel().shared().close_code(), Some(CloseCode::NOT_ALLOWED));
    wait_for("nobody", publication.watch(), |channels| connected(channels) == 0);
    assert!(producer.stats().not_allowed >= 2);
}
