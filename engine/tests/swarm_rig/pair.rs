//! One producer and one consumer on two hosts with a clean link, for scenarios of one fault each.

use std::{sync::atomic::Ordering, time::Duration};

use corewire_engine::{
    driver::sim::Link,
    publication::PublishSpec,
    shared::ChannelState,
    subscription::{Backoff, SubscribeSpec},
};
use corewire_proto::{StreamId, channel::Reliability};

use crate::swarm_rig::{
    Internet,
    laws::{Account, Consumer, HEAD, Life},
};

const STREAM: StreamId = StreamId([1; 32]);

/// Where the producer and the consumer live.
const PRODUCER: usize = 0;
const CONSUMER: usize = 1;

/// How much of the world's time any wish may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The time between two steps of a scenario.
pub(crate) const STEP: Duration = Duration::from_millis(10);

/// The scenario in progress.
pub(crate) struct Pair {
    pub(crate) internet: Internet,
    pub(crate) lives: Vec<Life>,
    pub(crate) consumer: Consumer,
}

impl Pair {
    /// Both hosts with a stream between them; the consumer has taken the first datum.
    pub(crate) fn connected(spec: impl FnOnce(PublishSpec) -> PublishSpec) -> Self {
        Self::connected_on(Internet::new(7, 2, 1), spec)
    }

    /// The same on an internet whose hosts have not started.
    pub(crate) fn connected_on(
        mut internet: Internet,
        spec: impl FnOnce(PublishSpec) -> PublishSpec,
    ) -> Self {
        internet.world.set_default_link(Link { delay: Duration::from_micros(200), ..Link::CLEAN });
        internet.start(PRODUCER);
        internet.start(CONSUMER);
        let life = publish(&internet, 0, spec);
        let backoff = Backoff {
            initial: Duration::from_millis(50),
            jitter: 0.0,
            max: Duration::from_secs(5),
            max_elapsed: None,
            ..Backoff::default()
        };
        let node = internet.node(CONSUMER).expect("a host that runs");
        let subscribed = node.subscribe(SubscribeSpec { backoff, ..SubscribeSpec::new(STREAM) });
        let consumer =
            Consumer::new(CONSUMER, STREAM, Reliability::Reliable, subscribed.expect("a node has room"));
        let mut pair = Self { internet, lives: vec![life], consumer };
        pair.run_until("the first datum", |pair| {
            if pair.is_served() && pair.life().accepted == 0 {
                pair.push();
            }
            pair.take();
            pair.account().taken > 0
        });
        pair
    }

    pub(crate) fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("one from the start")
    }

    /// Offers a datum.
    pub(crate) fn push(&mut self) -> bool {
        self.life().push(HEAD)
    }

    /// The consumer takes what has arrived.
    pub(crate) fn take(&mut self) {
        self.consumer.gather();
        self.consumer.take(usize::MAX, &self.lives);
    }

    pub(crate) fn account(&self) -> Account {
        self.consumer.accounts.values().next().cloned().unwrap_or_default()
    }

    /// Whether the producer has a channel to a consumer.
    pub(crate) fn is_served(&mut self) -> bool {
        let publication = self.life().publication.as_ref();
        publication.is_some_and(|publication| {
            publication.channels().iter().any(|channel| channel.shared().state() == ChannelState::Connected)
        })
    }

    /// Whether the consumer has a channel to a producer.
    pub(crate) fn is_subscribed(&self) -> bool {
        let channels = self.consumer.subscription.channels();
        channels.iter().any(|channel| channel.shared().state() == ChannelState::Connected)
    }

    /// How many datums the consumer's present channel has brought.
    pub(crate) fn arrived(&self) -> u64 {
        let channels = self.consumer.subscription.channels();
        channels.iter().map(|channel| channel.shared().snapshot().datums).max().unwrap_or_default()
    }

    /// Cuts the network between the two, or mends it.
    pub(crate) fn cut(&mut self, cut: bool) {
        let (one, other) = ([self.internet.places[PRODUCER]], [self.internet.places[CONSUMER]]);
        self.internet.world.set_partition(&one, &other, cut);
    }

    /// Lets the world's time pass until `done`, which is asked at each step. Gives the time it took.
    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) -> Duration {
        let from = self.internet.world.now();
        while !done(self) {
            let passed = self.internet.world.now().saturating_since(from);
            assert!(passed < PATIENCE, "{what}: not after {PATIENCE:?}: {:?}", self.account());
            self.internet.run_for(STEP);
            self.lives.iter().for_each(Life::check);
        }
        self.internet.world.now().saturating_since(from)
    }

    /// Cuts the network until both ends have noticed. The producer goes on.
    pub(crate) fn break_session(&mut self) {
        self.cut(true);
        self.run_until("both ends notice the break", |pair| {
            pair.push();
            pair.take();
            !pair.is_served() && !pair.is_subscribed()
        });
    }

    /// Lets the consumer take everything that was accepted.
    pub(crate) fn drain(&mut self) {
        self.run_until("everything is taken", |pair| {
            pair.take();
            let account = pair.account();
            account.taken + account.missing >= pair.accepted()
        });
    }

    /// What all lives have accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.lives.iter().map(|life| life.accepted).sum()
    }

    /// The producer's host loses power, comes back, and publishes again.
    pub(crate) fn restart_producer(&mut self) {
        self.internet.crash(PRODUCER);
        self.life().publication = None;
        self.internet.start(PRODUCER);
        self.publish_again();
    }

    /// The producer's host is started again with its clock a day earlier.
    pub(crate) fn restart_producer_in_the_past(&mut self) {
        self.internet.crash(PRODUCER);
        self.internet.dates[PRODUCER].fetch_sub(24 * 3_600, Ordering::Relaxed);
        self.internet.start(PRODUCER);
        self.publish_again();
    }

    pub(crate) fn publish_again(&mut self) {
        let number = self.lives.len() as u64;
        let life = publish(&self.internet, number, |spec| spec);
        self.lives.push(life);
    }
}

fn publish(internet: &Internet, number: u64, spec: impl FnOnce(PublishSpec) -> PublishSpec) -> Life {
    let node = internet.node(PRODUCER).expect("a host that runs");
    let publication =
        node.publish(spec(PublishSpec { datums: 64, ..PublishSpec::new(STREAM) })).expect("a node has room");
    let ring = publication.ring().clone();
    let publication = Some(publication);
    Life { number, place: PRODUCER, stream: STREAM, publication, ring, accepted: 0, evicts: false }
}
