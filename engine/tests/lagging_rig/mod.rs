//! A clerk on virtual time, and the producers and consumers of its tests.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use corewire_engine::{
    Engine,
    clerk::Clerk,
    internals::inline_engine,
    node::{Node, NodeConfig},
    publication::{Publication, PublishSpec},
    shared::{
        Next,
        limits::{Limits, Times},
    },
    subscription::{Backoff, Leg, SubscribeSpec, Subscription},
};
use corewire_proto::{NetworkId, StreamId, session::CloseCode, time::Instant};
use corewire_rings::{ClaimError, RecvError, WaitTicket, Writer};

pub(crate) const STREAM: StreamId = StreamId([1; 32]);

/// Datums that the rings of these tests hold.
pub(crate) const CAPACITY: usize = 16;

pub(crate) const GRACE: Duration = Duration::from_millis(320);

/// How much later than its grace a consumer may be closed: two checks, and a step of these tests.
pub(crate) const LATE: Duration = Duration::from_millis(22);

/// How long a consumer may stand still that no other one waits for.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(10);

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A clerk on virtual time, without shards: all nodes are in one engine.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) clerk: Clerk,
    pub(crate) network: NetworkId,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
}

impl Rig {
    pub(crate) fn new(test: u8) -> Self {
        let calendar =
            Box::new(|now: Instant| Duration::from_secs(1_700_000_000) + now.saturating_since(Instant::ZERO));
        let mut next = test;
        let entropy = Box::new(move |out: &mut [u8]| {
            out.fill_with(|| {
                next = next.wrapping_mul(5).wrapping_add(17);
                next
            });
        });
        let (engine, clerk, _) = inline_engine(0, Limits::default(), Times::default(), entropy, calendar);
        let start = Instant::ZERO + Duration::from_secs(1);
        let mut network = [test; 32];
        network[..4].copy_from_slice(&std::process::id().to_le_bytes());
        Self { engine, clerk, network: NetworkId(network), start, now: start }
    }

    pub(crate) fn node(&mut self, seed: u8) -> Node {
        let config = NodeConfig { identity_seed: Some([seed; 32]), ..NodeConfig::new(self.network) };
        let node = Node::join_on(&self.engine, config, Vec::new()).expect("a node without sockets");
        self.settle();
        node
    }

    pub(crate) fn publish(&mut self, node: &Node, grace: Option<Duration>) -> Publication {
        let publication = node.publish(publish_spec(grace)).expect("a publication");
        self.settle();
        publication
    }

    pub(crate) fn subscribe(&mut self, node: &Node) -> (Subscription, Leg) {
        let subscription = node.subscribe(subscribe_spec()).expect("a subscription");
        self.settle();
        let leg = subscription.take_leg().expect("a leg");
        (subscription, leg)
    }

    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.clerk.turn(self.now) != Next::Again {
                return;
            }
        }
        panic!("the clerk never rests");
    }

    /// A millisecond passes.
    pub(crate) fn step(&mut self) {
        self.now += ms(1);
        self.settle();
    }

    pub(crate) fn passed(&self) -> Duration {
        self.now.saturating_since(self.start)
    }
}

pub(crate) fn publish_spec(grace: Option<Duration>) -> PublishSpec {
    PublishSpec { datums: CAPACITY, lagging_grace: grace, ..PublishSpec::new(STREAM) }
}

/// Tries again after `pause`, to the millisecond.
pub(crate) fn trying_again(pause: Duration) -> SubscribeSpec {
    let backoff = Backoff { initial: pause, multiplier: 1.0, jitter: 0.0, max: pause, max_elapsed: None };
    SubscribeSpec { backoff, window_datums: 4, ..SubscribeSpec::new(STREAM) }
}

/// Does not try again in these tests.
pub(crate) fn subscribe_spec() -> SubscribeSpec {
    trying_again(Duration::from_secs(86_400))
}

/// Fills the ring, and reports that it is full.
pub(crate) fn fill(publication: &Publication, accepted: &mut u64) {
    while publication.writer().try_push(&accepted.to_le_bytes()).is_ok() {
        *accepted += 1;
    }
    publication.note_full();
}

/// Offers one datum, and reports a full ring if there is no room.
pub(crate) fn fill_once(publication: &Publication, accepted: &mut u64) {
    match publication.writer().try_push(&accepted.to_le_bytes()) {
        Ok(_) => *accepted += 1,
        Err(_) => publication.note_full(),
    }
}

/// Takes all there is. Returns how many datums that were, and how many were missing.
pub(crate) fn drain(leg: &mut Leg) -> Result<(u64, u64), RecvError> {
    let mut sum = (0, 0);
    while let Some(taken) = leg.inbox_mut().try_recv()? {
        sum.0 += 1;
        sum.1 += taken.skipped();
    }
    Ok(sum)
}

pub(crate) fn take_one(leg: &mut Leg) -> u64 {
    let taken = leg.inbox_mut().try_recv().expect("not over").expect("a datum");
    taken.seq()
}

pub(crate) fn code(leg: &Leg) -> Option<CloseCode> {
    leg.channel().shared().close_code()
}

pub(crate) fn assert_closed_after(passed: Duration, grace: Duration) {
    assert!(passed >= grace && passed <= grace + LATE, "closed after {passed:?}, not {grace:?}");
}

/// How a producer goes on that finds its ring full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Wait,
    Refuse,
    Evict,
}

/// A producer that offers as much as its ring takes.
pub(crate) struct Offers<'a> {
    pub(crate) publication: &'a Publication,
    pub(crate) mode: Mode,
    pub(crate) writer: Writer,
    /// Its place in the queue, while it waits for room.
    pub(crate) ticket: WaitTicket,
    pub(crate) accepted: u64,
}

impl<'a> Offers<'a> {
    pub(crate) fn new(publication: &'a Publication, mode: Mode) -> Self {
        Self { publication, mode, writer: publication.writer(), ticket: WaitTicket::default(), accepted: 0 }
    }

    /// Fills the ring, or evicts one datum from the full one.
    pub(crate) fn fill(&mut self) {
        if self.mode == Mode::Evict {
            let room = (CAPACITY as u64).saturating_sub(self.publication.ring().len() as u64).max(1);
            for _ in 0..room {
                evict(self.publication, &mut self.accepted).expect("no reader is pinned");
            }
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..CAPACITY {
            let claim = match self.mode {
                Mode::Wait => match self.writer.poll_claim(&mut self.ticket, 8, &mut cx) {
                    Poll::Ready(claim) => claim,
                    Poll::Pending => Err(ClaimError::Full),
                },
                _ => self.writer.try_claim(8),
            };
            let Ok(mut claim) = claim else { break };
            claim.copy_from_slice(&self.accepted.to_le_bytes());
            claim.commit();
            self.accepted += 1;
        }
        self.publication.note_full();
    }
}

/// What stands beside a fast consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Beside {
    Stalled,
    /// One datum in a hundred milliseconds, where the fast one takes one in each.
    HundredTimesSlower,
    EveryNineSeconds,
}

impl Beside {
    pub(crate) const ALL: [Self; 3] = [Self::Stalled, Self::HundredTimesSlower, Self::EveryNineSeconds];

    /// Whether it takes a datum at this millisecond.
    pub(crate) fn takes(self, step: u64) -> bool {
        match self {
            Self::Stalled => false,
            Self::HundredTimesSlower => step % 100 == 99,
            Self::EveryNineSeconds => step % 9_000 == 700,
        }
    }
}

/// Sends a datum, evicting another one if needed.
pub(crate) fn evict(publication: &Publication, accepted: &mut u64) -> Result<(), ClaimError> {
    let mut evicted = false;
    let writer = publication.writer();
    let mut claim = writer.claim_evicting(8, |_, _| evicted = true)?;
    claim.copy_from_slice(&accepted.to_le_bytes());
    claim.commit();
    *accepted += 1;
    if evicted {
        publication.note_full();
    }
    Ok(())
}
