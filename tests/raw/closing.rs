//! Both ways to close, as the other end sees them, and peers that go and come back.

use std::time::Duration;

use corewire::network::SessionSettings;
use corewire::raw::{CloseBehavior, RawStream, StreamConfig, StreamError};
use corewire::{HostedEngine, Network, NetworkId, SecretKey};

use crate::support::{
    both, connected, engine, id_of, node, number_of, numbered, receive, reliable, two, until,
};

/// Payloads that are sent before the channel is closed; the peer's window takes a few of them.
const PAYLOADS: u64 = 100;

fn closing(behavior: CloseBehavior) -> StreamConfig {
    reliable().with_window_bytes(1 << 20).with_close_behavior(behavior)
}

/// Sends [`PAYLOADS`] to a peer that does not read, and closes.
fn send_and_close((here, there): (&Network, &Network), behavior: CloseBehavior) -> (RawStream, RawStream) {
    let small = reliable().with_window_bytes(4_096);
    let (ours, theirs) = both((here, there), 1, (closing(behavior), small));
    for number in 0..PAYLOADS {
        ours.try_send(numbered(number, 1_000)).unwrap();
    }
    until("the first have arrived", || theirs.stats().inbound_pending > 0);
    ours.close();
    (ours, theirs)
}

/// Everything that comes until the peer's end.
fn rest(stream: &RawStream) -> u64 {
    let mut count = 0;
    loop {
        match receive(stream) {
            Ok(payload) => assert_eq!(number_of(&payload), count),
            Err(StreamError::NotConnected) => return count,
            Err(other) => panic!("{other}"),
        }
        count += 1;
    }
}

// "`DrainThenClose`: Wait for the stream's pending outbound packets to leave the scheduler before tearing
// down state. "Durable close.""
#[test]
fn drain_then_close_delivers_what_waits() {
    let (here, there) = two();
    let (ours, theirs) = send_and_close((&here, &there), CloseBehavior::DrainThenClose);
    assert_eq!(rest(&theirs), PAYLOADS);
    assert_eq!(ours.stats().undelivered, 0);
}

// "`DropAndClose`: Drop pending outbound packets immediately. "Fast close.""
#[test]
fn drop_and_close_drops_what_waits() {
    let (here, there) = two();
    let (ours, theirs) = send_and_close((&here, &there), CloseBehavior::DropAndClose);
    // Reading before that would make room for more.
    until("the rest is dropped and counted", || ours.stats().undelivered > 0);
    let arrived = rest(&theirs);
    assert!(arrived < PAYLOADS / 2, "{arrived} arrived");
    assert!(ours.stats().undelivered >= PAYLOADS - arrived);
    assert!(ours.stats().undelivered <= PAYLOADS);
}

#[test]
fn within_one_engine_both_ways_to_close_act_too() {
    let (id, engine) = (NetworkId::random(), engine());
    let node = || Network::builder(id).with_engine(engine.clone()).build_blocking().unwrap();
    let (here, there) = (node(), node());
    for (number, behavior) in [(1, CloseBehavior::DrainThenClose), (2, CloseBehavior::DropAndClose)] {
        let (ours, theirs) = both((&here, &there), number, (closing(behavior), reliable()));
        for number in 0..10 {
            ours.try_send(numbered(number, 100)).unwrap();
        }
        assert_eq!(number_of(&receive(&theirs).unwrap()), 0);
        ours.close();
        match behavior {
            CloseBehavior::DrainThenClose => {
                assert_eq!((1..10).map(|_| number_of(&receive(&theirs).unwrap())).max(), Some(9));
                assert_eq!(receive(&theirs), Err(StreamError::NotConnected));
            }
            CloseBehavior::DropAndClose => {
                until("the channel ends", || theirs.try_recv() == Err(StreamError::NotConnected));
            }
        }
        until("the other direction has ended", || !theirs.is_connected());
    }
}

#[test]
fn what_a_peer_leaves_unread_when_it_closes_is_counted() {
    let (here, there) = two();
    let (ours, theirs) = both((&here, &there), 1, (closing(CloseBehavior::DropAndClose), reliable()));
    until("its inbox is full, and so is the window behind it", || {
        while ours.try_send(vec![0; 4_000]).is_ok() {}
        theirs.stats().inbound_pending >= 16 && ours.stats().tx_credit_remaining < 4_000
    });
    theirs.close();
    until("the peer is missed", || !ours.is_connected());
    until("the loss is counted", || ours.stats().undelivered > 0);
    assert_eq!(receive(&ours), Err(StreamError::NotConnected));
    assert!(ours.stats().active, "this side is open");
}

#[test]
fn either_side_may_open_first() {
    let (here, there) = two();
    for (first, second, number) in [(&here, &there, 1), (&there, &here, 2)] {
        let early = first.open_stream(id_of(second), number, reliable()).unwrap();
        assert_eq!(early.try_send("too early"), Err(StreamError::NotConnected));
        until("the early one is refused", || second.stats().stream_not_found >= number);
        let late = second.open_stream(id_of(first), number, reliable()).unwrap();
        corewire_testkit::wait("the late one is there", early.send("hello")).unwrap();
        assert_eq!(receive(&late).unwrap(), "hello");
        corewire_testkit::wait("the early one is there", late.send("hi")).unwrap();
        assert_eq!(receive(&early).unwrap(), "hi");
    }
}

#[test]
fn the_highest_sequence_is_that_of_the_last_opening() {
    let (here, there) = two();
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    for number in 0..3 {
        theirs.try_send(numbered(number, 8)).unwrap();
        assert_eq!(number_of(&receive(&ours).unwrap()), number);
    }
    assert_eq!(ours.stats().rx_seq, 2);
    theirs.close();
    assert_eq!(receive(&ours), Err(StreamError::NotConnected));
    assert_eq!(ours.stats().rx_seq, 0);
    let theirs = there.open_stream(id_of(&here), 1, reliable()).unwrap();
    corewire_testkit::wait("it is open again", theirs.send(numbered(7, 8))).unwrap();
    assert_eq!(number_of(&receive(&ours).unwrap()), 7);
    assert_eq!(ours.stats().rx_seq, 0, "the first of this opening");
}

#[test]
fn a_peer_that_starts_anew_meets_the_open_stream() {
    let (id, key) = (NetworkId::random(), SecretKey::random());
    let here = node(id, SessionSettings::new());
    let start = || {
        let builder = Network::builder(id).with_engine(engine()).with_secret_key(key.clone());
        builder.build_blocking().expect("a node")
    };
    let there = start();
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    ours.try_send("first life").unwrap();
    assert_eq!(receive(&theirs).unwrap(), "first life");
    drop(there);
    until("the peer is missed", || !ours.is_connected());
    assert_eq!(receive(&ours), Err(StreamError::NotConnected), "the peer's network has left");

    let there = start();
    let theirs = there.open_stream(id_of(&here), 1, reliable()).unwrap();
    corewire_testkit::wait("the peer is back", ours.send("second life")).unwrap();
    assert_eq!(receive(&theirs).unwrap(), "second life");
    connected(&theirs);
    theirs.try_send("thanks").unwrap();
    assert_eq!(receive(&ours).unwrap(), "thanks");
}

#[test]
fn a_stream_goes_on_without_a_gap_when_its_session_broke() {
    let id = NetworkId::random();
    let quick = || SessionSettings::new().with_dead_after(Duration::from_millis(300));
    let here = node(id, quick());
    // The peer's engine stands still whenever this thread does not wait in a call of this crate.
    let hosted = HostedEngine::start(corewire::EngineConfig::default()).unwrap();
    let there = Network::builder(id).with_engine(&hosted).with_session(quick()).build_blocking().unwrap();
    let ours = here.open_stream(id_of(&there), 1, reliable()).unwrap();
    let theirs = there.open_stream(id_of(&here), 1, reliable()).unwrap();
    theirs.connected_blocking().unwrap();
    ours.connected_blocking().unwrap();
    let mut next = 0;
    for _ in 0..10 {
        ours.try_send(numbered(next, 100)).unwrap();
        next += 1;
    }
    assert_eq!(number_of(&theirs.recv_blocking().unwrap()), 0);
    until("the session is given up", || {
        if ours.try_send(numbered(next, 100)).is_ok() {
            next += 1;
        }
        !ours.is_connected()
    });
    let sender = std::thread::spawn(move || {
        ours.send_blocking(numbered(next, 100)).unwrap();
        ours
    });
    for number in 1..=next {
        let payload = theirs.recv_timeout(corewire_testkit::LIMIT).unwrap().expect("the next payload");
        assert_eq!(number_of(&payload), number);
    }
    let ours = sender.join().unwrap();
    assert_eq!((theirs.stats().lost, ours.stats().undelivered), (0, 0));
}
