//! The futures of raw channels. A payload goes through shared memory: both ends are in one engine.

use corewire::raw::{RawStream, Reliability, StreamConfig};
use corewire::{Network, NetworkId};

use super::steps::{Task, within};

/// Payloads of [`LEN`] bytes that a channel of these tests takes.
const ROOM: u8 = 2;
const LEN: usize = 1_000;

/// Two nodes of one network.
async fn two() -> (Network, Network) {
    let id = NetworkId::random();
    (Network::new(id).await.unwrap(), Network::new(id).await.unwrap())
}

fn open(here: &Network, there: &Network) -> RawStream {
    let config = StreamConfig::new().with_reliability(Reliability::Reliable).with_window_bytes(2_048);
    here.open_stream(*there.local().id(), 1, config).unwrap()
}

/// Takes the next payload and gives its first byte.
async fn next(stream: &RawStream) -> u8 {
    within(stream.recv()).await.expect("it is open")[0]
}

#[tokio::test]
async fn a_raw_send_that_waits_for_room_can_be_dropped_after_any_poll() {
    let (here, there) = two().await;
    let (ours, theirs) = (open(&here, &there), open(&there, &here));
    within(ours.connected()).await.unwrap();
    for polls in 0..4 {
        for room_before_the_drop in [false, true] {
            for full in 0..ROOM {
                ours.try_send(vec![full; LEN]).unwrap();
            }
            let mut victim = Task::new(ours.send(vec![100; LEN]));
            let mut other = Task::new(ours.send(vec![101; LEN]));
            for _ in 0..polls {
                assert!(victim.poll().is_none(), "there is no room");
            }
            assert!(other.poll().is_none());
            let mut taken = 0;
            if room_before_the_drop {
                assert_eq!(next(&theirs).await, 0);
                taken = 1;
            }
            let _ = victim.cancel();
            for full in taken..ROOM {
                assert_eq!(next(&theirs).await, full);
            }
            other.resolve().await.unwrap();
            assert_eq!(next(&theirs).await, 101);
            assert_eq!(theirs.try_recv(), Ok(None), "what was dropped was not sent");
        }
    }
    let rounds = 8;
    assert_eq!(ours.stats().tx_seq, rounds * (u64::from(ROOM) + 1));
}

#[tokio::test]
async fn a_raw_send_that_waits_for_the_peer_can_be_dropped_after_any_poll() {
    for polls in 0..4 {
        for comes_before_the_drop in [false, true] {
            let (here, there) = two().await;
            let ours = open(&here, &there);
            let mut victim = Task::new(ours.send(vec![100; LEN]));
            let mut connected = Task::new(Box::pin(ours.connected()));
            let mut other = Task::new(ours.send(vec![101; LEN]));
            for _ in 0..polls {
                assert!(victim.poll().is_none() && connected.poll().is_none(), "the peer has not opened it");
            }
            assert!(other.poll().is_none());
            let theirs = comes_before_the_drop.then(|| open(&there, &here));
            if comes_before_the_drop {
                within(ours.connected()).await.unwrap();
            }
            let (victim, connected) = (victim.cancel(), connected.cancel());
            let theirs = theirs.unwrap_or_else(|| open(&there, &here));
            other.resolve().await.unwrap();
            assert_eq!(next(&theirs).await, 101);
            assert_eq!(theirs.try_recv(), Ok(None));
            ours.close();
            assert!(!victim.is_leaked() && !connected.is_leaked());
        }
    }
}

#[tokio::test]
async fn raw_receives_can_be_dropped_after_any_poll() {
    let (here, there) = two().await;
    let (ours, theirs) = (open(&here, &there), open(&there, &here));
    within(ours.connected()).await.unwrap();
    for polls in 0..4 {
        for comes_before_the_drop in [false, true] {
            let mut victim = Task::new(Box::pin(theirs.recv()));
            let mut numbered = Task::new(Box::pin(theirs.recv_numbered()));
            let mut other = Task::new(Box::pin(theirs.recv()));
            for _ in 0..polls {
                assert!(victim.poll().is_none() && numbered.poll().is_none(), "nothing was sent");
            }
            assert!(other.poll().is_none());
            if comes_before_the_drop {
                ours.try_send(vec![7; LEN]).unwrap();
            }
            let _ = (victim.cancel(), numbered.cancel());
            if !comes_before_the_drop {
                ours.try_send(vec![7; LEN]).unwrap();
            }
            assert_eq!(other.resolve().await.unwrap(), vec![7; LEN]);
            assert_eq!(theirs.try_recv(), Ok(None));
        }
    }
}

#[tokio::test]
async fn sending_many_raw_payloads_keeps_what_was_sent_when_dropped() {
    let (here, there) = two().await;
    let (ours, theirs) = (open(&here, &there), open(&there, &here));
    within(ours.connected()).await.unwrap();
    let all: Vec<bytes::Bytes> = (0..4).map(|number| vec![number; LEN].into()).collect();
    for polls in 0..3 {
        let mut victim = Task::new(Box::pin(ours.send_many(&all)));
        for _ in 0..polls {
            assert!(victim.poll().is_none(), "more than there is room for");
        }
        let _ = victim.cancel();
        for sent in 0..if polls == 0 { 0 } else { ROOM } {
            assert_eq!(next(&theirs).await, sent);
        }
        assert_eq!(theirs.try_recv(), Ok(None));
    }
}
