//! A consumer that takes from the nearest of three producers: whole hosts on the simulated network.

#[allow(dead_code, reason = "shared with the swarm, which uses the rest")]
mod swarm_rig;

use std::{sync::Arc, time::Duration};

use corewire_engine::{
    driver::sim::Link,
    publication::PublishSpec,
    shared::ChannelState,
    subscription::{PreferSpec, RankedProducer, SubscribeSpec},
};
use corewire_proto::{PeerId, StreamId, channel::Reliability};
use swarm_rig::{
    Internet, Setup,
    laws::{Account, Consumer, HEAD, Life},
};

const STREAM: StreamId = StreamId([1; 32]);
/// The time between two looks at the world.
const STEP: Duration = Duration::from_millis(10);
const HOLD: Duration = Duration::from_secs(2);

/// A consumer on host 0, and a producer on each other one.
struct Choice {
    internet: Internet,
    lives: Vec<Life>,
    consumer: Consumer,
}

fn nearest(producer: &RankedProducer<'_>) -> Option<u64> {
    producer.path.round_trip.and_then(|time| u64::try_from(time.as_nanos()).ok())
}

impl Choice {
    /// Producers at these distances, in milliseconds one way.
    fn new(delays: &[u64]) -> Self {
        let mut internet = Internet::with(9, delays.len() + 1, 1, Setup::defaults());
        internet.world.set_default_link(Link { delay: Duration::from_millis(1), ..Link::CLEAN });
        (0..=delays.len()).for_each(|place| internet.start(place));
        let publish = |place: usize| {
            let node = internet.node(place).expect("it runs");
            let publication = node.publish(PublishSpec::new(STREAM)).expect("a node has room");
            let ring = publication.ring().clone();
            let publication = Some(publication);
            let number = place as u64 - 1;
            Life { number, place, stream: STREAM, publication, ring, accepted: 0, evicts: false }
        };
        let lives = (1..=delays.len()).map(publish).collect();
        let prefer = PreferSpec { rank: Arc::new(nearest), hold: HOLD };
        let spec = SubscribeSpec { prefer: Some(prefer), ..SubscribeSpec::new(STREAM) };
        let subscription = internet.node(0).expect("it runs").subscribe(spec).expect("a node has room");
        let consumer = Consumer::new(0, STREAM, Reliability::Reliable, subscription);
        let mut choice = Self { internet, lives, consumer };
        (1..).zip(delays).for_each(|(place, delay)| choice.set_delay(place, *delay));
        choice
    }

    fn set_delay(&mut self, place: usize, millis: u64) {
        let places = &self.internet.places;
        let link = Link { delay: Duration::from_millis(millis), ..Link::CLEAN };
        self.internet.world.set_link(places[0], places[place], link.clone());
        self.internet.world.set_link(places[place], places[0], link);
    }

    fn peer(&self, place: usize) -> PeerId {
        self.internet.node(place).expect("it runs").peer_id()
    }

    /// Those whose channels are connected, at the consumer.
    fn connected(&self) -> Vec<PeerId> {
        let channels = self.consumer.subscription.channels();
        let connected = |channel: &Arc<corewire_engine::shared::Channel>| {
            (channel.shared().state() == ChannelState::Connected).then(|| channel.producer_id())
        };
        channels.iter().filter_map(connected).collect()
    }

    fn step(&mut self, push: bool) {
        for life in self.lives.iter_mut().filter(|_| push) {
            life.push(HEAD);
        }
        self.internet.run_for(STEP);
        self.consumer.gather();
        self.consumer.take(usize::MAX, &self.lives);
    }

    /// Runs until the producer at `place` is the only one; returns how long that took.
    fn settle_on(&mut self, place: usize) -> Duration {
        let (wanted, from) = (vec![self.peer(place)], self.internet.world.now());
        while self.connected() != wanted {
            self.step(true);
            let passed = self.internet.world.now().saturating_since(from);
            assert!(
                passed < Duration::from_secs(90),
                "{place}: not after {passed:?}: {:?}",
                self.connected()
            );
        }
        self.internet.world.now().saturating_since(from)
    }

    fn run(&mut self, time: Duration, push: bool) {
        let end = self.internet.world.now() + time;
        while self.internet.world.now() < end {
            self.step(push);
        }
    }

    fn account(&self, peer: PeerId) -> &Account {
        &self.consumer.accounts[&peer]
    }

    /// Channels that were connected so far.
    fn connections(&self) -> u64 {
        self.internet.node(0).expect("it runs").stats().channels_connected
    }
}

#[test]
fn the_nearest_producer_is_taken_and_followed_when_delays_change() {
    let mut choice = Choice::new(&[5, 20, 50]);
    let [near, middle] = [1, 2].map(|place| choice.peer(place));
    choice.settle_on(1);
    choice.run(Duration::from_secs(5), true);
    assert_eq!(choice.connected(), [near], "it stays");
    let before = choice.account(near).clone();

    choice.set_delay(1, 100);
    let away = choice.settle_on(2);
    assert!(away >= HOLD, "not before it was better for {HOLD:?}: {away:?}");
    choice.run(Duration::from_secs(5), true);
    let while_away = choice.account(middle).taken;
    assert!(while_away > 400, "one in ten milliseconds: {while_away}");

    choice.set_delay(1, 5);
    choice.settle_on(1);
    choice.run(Duration::from_secs(3), true);
    choice.run(Duration::from_secs(3), false);
    // Each datum came at most once and no gap was wrong: the laws look at every datum. What `near` sent
    // meanwhile is told, exactly.
    let after = choice.account(near);
    assert!(after.missing >= 500 && after.restarts == 0, "{after:?}");
    assert!(after.taken > before.taken + 200, "{after:?}");
    let first = choice.lives[0].accepted - after.taken - after.missing;
    assert!(first < 1_000, "what was sent before the first connection: {first}");
    assert_eq!(choice.account(middle).restarts, 0);
}

#[test]
fn a_producer_that_is_not_much_better_is_not_changed_to() {
    let mut choice = Choice::new(&[20, 18, 19]);
    choice.run(Duration::from_secs(5), true);
    let (connected, connections) = (choice.connected(), choice.connections());
    assert_eq!(connected.len(), 1);
    choice.run(Duration::from_secs(30), true);
    assert_eq!((choice.connected(), choice.connections()), (connected, connections));
}

#[test]
fn a_producer_that_dies_is_replaced_by_the_next_best() {
    let mut choice = Choice::new(&[5, 20, 50]);
    choice.settle_on(1);
    choice.internet.crash(1);
    choice.lives[0].publication = None;
    // The session needs ten seconds to give it up.
    let took = choice.settle_on(2);
    assert!(took < Duration::from_secs(13), "{took:?}");
    let taken = choice.account(choice.peer(2)).taken;
    choice.run(Duration::from_secs(1), true);
    assert!(choice.account(choice.peer(2)).taken > taken + 50);
}
