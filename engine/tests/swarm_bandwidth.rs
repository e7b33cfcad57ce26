//! Limits of the bandwidth, over virtual seconds: whole hosts on the simulated network.

#[allow(dead_code, reason = "shared with the swarm, which uses the rest")]
mod swarm_rig;

use std::{num::NonZeroU64, time::Duration};

use corewire_engine::{
    counters::Counter,
    driver::sim::Link,
    publication::PublishSpec,
    shared::{ChannelSnapshot, ChannelState},
    subscription::SubscribeSpec,
};
use corewire_proto::{StreamId, channel::Reliability};
use swarm_rig::{
    Internet, Setup,
    laws::{Consumer, Life},
};

/// Bytes per second.
const RATE: u64 = 1_000_000;
/// Bytes of a datum.
const DATUM: usize = 500;
/// The time between two looks at the world.
const STEP: Duration = Duration::from_millis(10);

/// One producing host and several consuming ones.
struct Fleet {
    internet: Internet,
    lives: Vec<Life>,
    consumers: Vec<Consumer>,
    /// Datums that each consumer has taken.
    taken: Vec<usize>,
}

fn rate(bytes: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(bytes)
}

/// The setup in which a node has this limit.
fn node_limit(bytes: u64) -> Setup {
    Setup { max_bandwidth: rate(bytes), ..Setup::defaults() }
}

impl Fleet {
    /// Host 0, of `shards` shards, publishes; every other one consumes every stream.
    fn new(hosts: usize, shards: usize, setup: Setup, specs: Vec<PublishSpec>) -> Self {
        let mut internet = Internet::with(5, hosts, shards, setup);
        internet.world.set_default_link(Link { delay: Duration::from_micros(200), ..Link::CLEAN });
        (0..hosts).for_each(|place| internet.start(place));
        let streams: Vec<StreamId> = specs.iter().map(|spec| spec.stream).collect();
        let publish = |(at, spec): (usize, PublishSpec)| {
            let (number, stream) = (at as u64, spec.stream);
            let publication = internet.node(0).expect("it runs").publish(spec).expect("a node has room");
            let ring = publication.ring().clone();
            let publication = Some(publication);
            Life { number, place: 0, stream, publication, ring, accepted: 0, evicts: false }
        };
        let lives: Vec<Life> = specs.into_iter().enumerate().map(publish).collect();
        let mut fleet = Self { internet, lives, consumers: Vec::new(), taken: Vec::new() };
        for place in 1..hosts {
            streams.iter().for_each(|stream| fleet.subscribe(place, *stream));
        }
        fleet.run_until("all are connected", |fleet| fleet.channels().len() == fleet.consumers.len());
        fleet
    }

    fn subscribe(&mut self, place: usize, stream: StreamId) {
        // The limit is to be what holds them up, and not a window.
        let spec = SubscribeSpec { window_bytes: 1 << 20, window_datums: 0, ..SubscribeSpec::new(stream) };
        let subscription = self.internet.node(place).expect("it runs").subscribe(spec).expect("room");
        self.consumers.push(Consumer::new(place, stream, Reliability::Reliable, subscription));
        self.taken.push(0);
    }

    /// The numbers of the producer's connected channels to other hosts.
    fn channels(&self) -> Vec<ChannelSnapshot> {
        let all = self.lives.iter().filter_map(|life| life.publication.as_ref());
        all.flat_map(|publication| publication.channels().to_vec())
            .filter(|channel| !channel.is_local() && channel.shared().state() == ChannelState::Connected)
            .map(|channel| channel.snapshot())
            .collect()
    }

    /// Fills the rings, lets the time pass, and takes what has come.
    fn step(&mut self, time: Duration) {
        for life in &mut self.lives {
            while life.push(DATUM) {}
        }
        self.internet.run_for(time);
        for (consumer, taken) in self.consumers.iter_mut().zip(&mut self.taken) {
            consumer.gather();
            *taken += consumer.take(usize::MAX, &self.lives);
        }
    }

    fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.internet.run_for(STEP);
        }
        panic!("{what}: not after {:?}", STEP * 2_000);
    }

    /// What the producing host's shards have counted.
    fn counted(&self, counter: Counter) -> u64 {
        let host = &self.internet.hosts[&self.internet.places[0]];
        host.shards.iter().map(|shard| shard.counters().get(counter)).sum()
    }

    /// Runs for some seconds; returns the bytes that the producing host sent in each step.
    fn flow(&mut self, seconds: u64) -> Vec<u64> {
        self.flow_for(Duration::from_secs(seconds))
    }

    fn flow_for(&mut self, time: Duration) -> Vec<u64> {
        let steps = time.as_millis() / STEP.as_millis();
        let step = |_| {
            let before = self.counted(Counter::BytesSent);
            self.step(STEP);
            self.counted(Counter::BytesSent) - before
        };
        (0..steps).map(step).collect()
    }
}

fn stream(number: u8) -> PublishSpec {
    PublishSpec::new(StreamId([number; 32]))
}

/// The bytes are `wanted` per second, to 5 %.
#[track_caller]
fn assert_rate(bytes: u64, seconds: u64, wanted: u64) {
    let (rate, wanted) = (bytes as f64 / seconds as f64, wanted as f64);
    assert!((rate / wanted - 1.0).abs() < 0.05, "{rate} bytes a second, wanted {wanted}");
}

/// A producer with a limit and this many consumers sends at the limit, shared equally.
#[track_caller]
fn assert_shared(consumers: usize, shards: usize) {
    let spec = PublishSpec { max_bandwidth: rate(RATE), ..stream(1) };
    let mut fleet = Fleet::new(consumers + 1, shards, Setup::defaults(), vec![spec]);
    fleet.flow(1);
    let before = fleet.taken.clone();
    let sent = fleet.flow(4);
    assert_rate(sent.iter().sum(), 4, RATE);
    for (after, before) in fleet.taken.iter().zip(before) {
        // Frames and packets cost a few percent.
        let bytes = ((after - before) * DATUM) as f64;
        let share = bytes / (4 * RATE) as f64 * consumers as f64;
        assert!((0.85..1.05).contains(&share), "{share} of an equal share of {consumers}");
    }
    assert!(fleet.channels().iter().all(|channel| channel.paced > 0 && channel.paced_ns > 0));
}

#[test]
fn a_producer_sends_to_one_consumer_at_its_limit() {
    assert_shared(1, 1);
}

#[test]
fn consumers_of_a_limited_producer_share_its_bandwidth() {
    assert_shared(5, 1);
}

#[test]
fn a_limit_is_exact_over_several_shards() {
    assert_shared(5, 3);
}

#[test]
fn what_leaves_in_a_short_time_is_the_rate_and_a_small_burst() {
    let spec = PublishSpec { max_bandwidth: rate(RATE), ..stream(1) };
    let mut fleet = Fleet::new(4, 1, Setup::defaults(), vec![spec]);
    // Long without use, and then as fast as it can.
    fleet.internet.run_for(Duration::from_secs(5));
    let sent = fleet.flow(1);
    // In ten milliseconds: the rate, the burst, and a turn of each channel.
    let most = RATE / 100 + RATE / 100 + 3 * 5_000;
    assert!(sent.iter().all(|bytes| *bytes <= most), "{sent:?}");
}

#[test]
fn a_shard_sleeps_until_the_next_datum_may_leave() {
    let spec = PublishSpec { max_bandwidth: rate(20_000), ..stream(1) };
    let mut fleet = Fleet::new(2, 1, Setup::defaults(), vec![spec]);
    fleet.flow(1);
    let before = fleet.counted(Counter::Turns);
    let sent: u64 = fleet.flow(4).iter().sum();
    assert_rate(sent, 4, 20_000);
    let (turns, packets) = (fleet.counted(Counter::Turns) - before, sent / 1_000);
    // A few for each packet and its acknowledgement, and for each step of this test.
    assert!(turns < 40 * packets + 10 * 400, "{turns} turns for {packets} packets");
}

#[test]
fn a_limit_of_a_node_covers_its_streams_by_their_weights() {
    let specs = vec![stream(1), PublishSpec { weight: 4, ..stream(2) }];
    let mut fleet = Fleet::new(2, 1, node_limit(RATE), specs);
    fleet.flow(1);
    let before = fleet.taken.clone();
    let sent = fleet.flow(4);
    assert_rate(sent.iter().sum(), 4, RATE);
    let [one, four] = [0, 1].map(|at| (fleet.taken[at] - before[at]) as f64);
    assert!((four / one / 4.0 - 1.0).abs() < 0.1, "{one} and {four}");
}

#[test]
fn the_lower_of_both_limits_holds() {
    let specs = vec![PublishSpec { max_bandwidth: rate(RATE / 4), ..stream(1) }, stream(2)];
    let mut fleet = Fleet::new(2, 1, node_limit(RATE), specs);
    fleet.flow(1);
    let before = fleet.taken.clone();
    let sent = fleet.flow(4);
    assert_rate(sent.iter().sum(), 4, RATE);
    let share = (fleet.taken[0] - before[0]) * DATUM;
    assert!(share as u64 <= RATE, "four seconds of a quarter: {share}");
    assert!(share as u64 > RATE * 8 / 10, "{share}");
}

#[test]
fn a_channel_that_ends_while_it_waits_gives_back_what_it_had_booked() {
    let spec = PublishSpec { max_bandwidth: rate(RATE / 10), ..stream(1) };
    let mut fleet = Fleet::new(2, 1, Setup::defaults(), vec![spec]);
    fleet.flow(1);
    let (mut sent, mut took) = (0, 0);
    // One consumer stays, and another one comes and goes.
    for _ in 0..40 {
        fleet.subscribe(1, StreamId([1; 32]));
        sent += fleet.flow_for(Duration::from_millis(200)).iter().sum::<u64>();
        took += fleet.taken.pop().expect("one for each consumer");
        fleet.consumers.pop();
    }
    assert!(took > 40 * 5, "they have had turns: {took}");
    assert_rate(sent, 8, RATE / 10);
}

#[test]
fn a_consumer_behind_a_limit_is_not_called_lagging() {
    let spec = PublishSpec {
        max_bandwidth: rate(RATE / 10),
        lagging_grace: Some(Duration::from_millis(500)),
        ..stream(1)
    };
    let mut fleet = Fleet::new(2, 1, Setup::defaults(), vec![spec]);
    // One in the same process that takes everything at once.
    fleet.subscribe(0, StreamId([1; 32]));
    fleet.run_until("the local one is connected", |fleet| {
        let publication = fleet.lives[0].publication.as_ref().expect("it is open");
        publication.channels().iter().any(|channel| channel.is_local())
    });
    fleet.flow(30);
    assert_eq!(fleet.lives[0].publication.as_ref().expect("it is open").stats().too_slow, 0);
    assert_eq!(fleet.channels().len(), 1);
}
