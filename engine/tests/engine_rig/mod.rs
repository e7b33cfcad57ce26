//! Shared by the engine's tests: nodes with short times, and a reader of legs.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::time::Duration;

use corewire_engine::{
    Engine, EngineConfig,
    driver::IoChoice,
    idle::Idle,
    node::{Node, NodeConfig},
    publication::{Channels, Publication},
    shared::{ChannelState, limits::Times},
    subscription::{Backoff, Leg, SubscribeSpec, Subscription},
};
use corewire_proto::{NetworkId, StreamId};
use corewire_rings::{ClaimError, RecvError};
pub(crate) use corewire_testkit::wait;
use tokio::sync::watch;

/// Waits until what is watched fits.
#[track_caller]
pub(crate) fn wait_for<T: Clone>(
    what: &str,
    mut watched: watch::Receiver<T>,
    fits: impl FnMut(&T) -> bool,
) -> T {
    wait(what, async move { watched.wait_for(fits).await.expect("the watched is gone").clone() })
}

/// Channels that are connected.
pub(crate) fn connected(channels: &Channels) -> usize {
    channels.iter().filter(|channel| channel.shared().state() == ChannelState::Connected).count()
}

/// Waits until a publication has this many connected consumers.
#[track_caller]
pub(crate) fn wait_consumers(publication: &Publication, count: usize) {
    wait_for(&format!("{count} consumers"), publication.watch(), |channels| connected(channels) == count);
}

/// An engine with short times, that sleeps instead of spinning: several run side by side here.
pub(crate) fn engine_with(shards: usize, io: IoChoice) -> Engine {
    let times = Times {
        redial: Duration::from_millis(20),
        redial_max: Duration::from_millis(200),
        ..Times::default()
    };
    let config = EngineConfig { shards, io, idle: Idle::Park, pin: false, times, ..EngineConfig::default() };
    Engine::start(config).expect("an engine")
}

/// An engine with one shard on epoll.
pub(crate) fn engine() -> Engine {
    engine_with(1, IoChoice::Epoll)
}

/// A network of this test's own.
pub(crate) fn network(name: &str) -> NetworkId {
    let mut bytes = [0; 32];
    let name = format!("{name} {}", std::process::id());
    let text = name.as_bytes();
    let take = text.len().min(32);
    bytes[..take].copy_from_slice(&text[text.len() - take..]);
    NetworkId(bytes)
}

/// A node with every default.
#[track_caller]
pub(crate) fn join(engine: &Engine, network: NetworkId) -> Node {
    Node::join(engine, NodeConfig::new(network)).expect("a node")
}

/// The stream with this number.
pub(crate) fn stream(number: u8) -> StreamId {
    StreamId([number; 32])
}

/// A subscription that tries again soon.
pub(crate) fn spec(number: u8) -> SubscribeSpec {
    let backoff = Backoff {
        initial: Duration::from_millis(20),
        max: Duration::from_millis(200),
        max_elapsed: None,
        ..Backoff::default()
    };
    SubscribeSpec { backoff, ..SubscribeSpec::new(stream(number)) }
}

/// Waits for the next leg.
#[track_caller]
pub(crate) fn next_leg(subscription: &Subscription) -> Leg {
    wait("a leg", std::future::poll_fn(|cx| subscription.poll_leg(cx))).expect("the subscription is open")
}

/// What a leg gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Datum { seq: u64, skipped: u64, bytes: Vec<u8> },
    Ended(RecvError),
}

/// Waits for the next datum of a leg, or its end.
#[track_caller]
pub(crate) fn next(leg: &mut Leg) -> Got {
    loop {
        match leg.inbox_mut().try_recv() {
            Ok(Some(taken)) => {
                return Got::Datum {
                    seq: taken.seq(),
                    skipped: taken.skipped(),
                    bytes: taken.bytes().to_vec(),
                };
            }
            Ok(None) => {}
            Err(ended) => return Got::Ended(ended),
        }
        wait("a datum", std::future::poll_fn(|cx| leg.inbox_mut().poll_ready(cx)));
    }
}

/// Waits for the next datum, which has to be a number.
#[track_caller]
pub(crate) fn next_number(leg: &mut Leg) -> u64 {
    match next(leg) {
        Got::Datum { bytes, .. } => u64::from_le_bytes(bytes.try_into().expect("eight bytes")),
        Got::Ended(ended) => {
            panic!("a number, not the end: {ended:?} {:?}", leg.channel().shared().close_code())
        }
    }
}

/// Publishes a number, waiting for room.
#[track_caller]
pub(crate) fn push(publication: &Publication, number: u64) {
    let writer = publication.writer();
    let claimed = wait("room in the ring", async {
        writer.claim(8).await.map(|mut claim| {
            claim.copy_from_slice(&number.to_le_bytes());
            claim.commit()
        })
    });
    assert!(!matches!(claimed, Err(ClaimError::Closed)), "the ring is closed");
    claimed.expect("room for a number");
}
