//! The forms of sending and receiving.

use std::time::Duration;

use bytes::Bytes;
use corewire::raw::{Reliability, StreamConfig, StreamError};
use corewire::{Network, NetworkId};
use corewire_testkit::{poll_once, wait};

use crate::support::{both, id_of, number_of, numbered, receive, reliable, two, until};

#[test]
fn every_form_of_sending_and_receiving_carries_bytes() {
    let (here, there) = two();
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    wait("sending", ours.send("one")).unwrap();
    ours.try_send(Bytes::from_static(b"two")).unwrap();
    ours.send_blocking(vec![3; 3]).unwrap();
    ours.send_timeout("four", Duration::from_secs(60)).unwrap();
    wait("sending many", ours.send_many(&["five".into(), "six".into()])).unwrap();
    ours.send_many_blocking(&["seven".into()]).unwrap();
    ours.try_send_many(&[]).unwrap();
    ours.try_send("").unwrap();
    assert_eq!(wait("receiving", theirs.recv()).unwrap(), "one");
    assert_eq!(theirs.recv_blocking().unwrap(), "two");
    assert_eq!(theirs.recv_timeout(Duration::from_secs(60)).unwrap().unwrap(), vec![3; 3]);
    let (payload, seq, lost) = wait("receiving", theirs.recv_numbered()).unwrap();
    assert_eq!((payload, seq, lost), ("four".into(), 3, 0));
    let mut fifth = None;
    until("a payload is there", || {
        fifth = theirs.try_recv().unwrap();
        fifth.is_some()
    });
    assert_eq!(fifth.unwrap(), "five");
    for last in ["six", "seven", ""] {
        assert_eq!(receive(&theirs).unwrap(), last);
    }
    assert_eq!(theirs.try_recv(), Ok(None));
    assert_eq!(theirs.recv_timeout(Duration::from_millis(1)), Ok(None));
}

#[test]
fn a_send_that_waits_for_room_goes_when_there_is_some() {
    let (here, there) = two();
    let small = reliable().with_window_bytes(2_048);
    let (ours, theirs) = both((&here, &there), 1, (small, small));
    let mut sent = 0;
    until("both windows are full", || {
        while ours.try_send(numbered(sent, 1_000)).is_ok() {
            sent += 1;
        }
        theirs.stats().inbound_pending + 2 == sent
    });
    let mut waiting = ours.send(numbered(sent, 1_000));
    assert!(poll_once(&mut waiting).0.is_pending());
    assert!(poll_once(&mut ours.send("dropped before it resolved")).0.is_pending());
    assert_eq!(ours.send_timeout("late", Duration::from_millis(1)), Err(StreamError::Backpressure));
    for number in 0..sent {
        assert_eq!(number_of(&receive(&theirs).unwrap()), number);
    }
    wait("the send resolves", waiting).unwrap();
    assert_eq!(number_of(&receive(&theirs).unwrap()), sent);
    assert_eq!(ours.stats().tx_seq, sent + 1);
}

#[test]
fn clones_in_several_threads_each_receive_their_share() {
    let (here, there) = two();
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    let receivers: Vec<_> = (0..4)
        .map(|_| {
            let theirs = theirs.clone();
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while let Ok(payload) = theirs.recv_blocking() {
                    match number_of(&payload) {
                        u64::MAX => return seen,
                        number => seen.push(number),
                    }
                }
                seen
            })
        })
        .collect();
    for number in 0..1_000 {
        ours.send_blocking(numbered(number, 8)).unwrap();
    }
    for _ in 0..4 {
        ours.send_blocking(numbered(u64::MAX, 8)).unwrap();
    }
    let mut all: Vec<u64> = receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..1_000));
}

#[test]
fn a_node_may_open_a_stream_to_itself() {
    let here = Network::new_blocking(NetworkId::random()).unwrap();
    let echo = here.open_stream(id_of(&here), 1, reliable()).unwrap();
    wait("it connects", echo.send("to myself")).unwrap();
    assert_eq!(receive(&echo).unwrap(), "to myself");
}

#[test]
fn each_side_decides_the_reliability_of_what_it_sends() {
    let (here, there) = two();
    let open = StreamConfig::new().with_window_bytes(0);
    let (ours, theirs) = both((&here, &there), 1, (open, reliable()));
    assert_eq!(ours.config().reliability, Reliability::FireAndForget);
    // Nothing is read, and the sender drops what the peer's window does not take.
    for number in 0..40_000 {
        ours.try_send(numbered(number, 4_000)).unwrap();
    }
    let (_, first, lost) = wait("the first", theirs.recv_numbered()).unwrap();
    assert_eq!(first, lost, "what is missing before it");
    let last = numbered(u64::MAX, 8);
    ours.try_send(last.clone()).unwrap();
    let mut missing = lost;
    loop {
        let (payload, _, lost) = wait("the next", theirs.recv_numbered()).unwrap();
        missing += lost;
        if payload == last {
            break;
        }
    }
    assert!(missing > 0, "more was sent than both windows hold");
    assert_eq!(theirs.stats().lost, missing);
}
