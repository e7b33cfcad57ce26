//! One run: hosts that publish, consume, stop and fail, under faults that one seed chooses. Then the faults
//! stop, and every consumer has to get everything.
//!
//! Not inside: what must hold (`laws`).

use std::time::Duration;

use corewire_engine::{
    driver::sim::Link,
    publication::PublishSpec,
    subscription::{Backoff, SubscribeSpec},
};
use corewire_proto::{StreamId, channel::Reliability};

use super::{
    Dice, Internet,
    laws::{Consumer, Life, has_everything},
};

/// Streams that any host may publish.
const STREAMS: u64 = 2;

/// Rounds under faults. Each lets up to some milliseconds of the world's time pass.
const ROUNDS: usize = 150;

/// How much of the world's time may pass until everything has come right.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one seed does wrong.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    link: Link,
    partitions: bool,
    crashes: bool,
    leaves: bool,
    drops: bool,
    large: bool,
    lazy: bool,
}

impl Faults {
    /// A random subset, each at a random rate.
    fn draw(dice: &mut Dice) -> Self {
        let mut link = Link { delay: Duration::from_micros(20 + dice.below(2_000)), ..Link::CLEAN };
        if dice.percent(50) {
            link.loss = dice.part(0.2);
        }
        if dice.percent(40) {
            link.duplicate = dice.part(0.2);
        }
        if dice.percent(50) {
            link.reorder = dice.part(0.3);
            link.reorder_by = Duration::from_micros(dice.below(5_000));
        }
        if dice.percent(40) {
            link.corrupt = dice.part(0.05);
        }
        if dice.percent(20) {
            link.truncate = dice.part(0.03);
        }
        if dice.percent(40) {
            link.jitter = Duration::from_micros(dice.below(3_000));
        }
        Self {
            link,
            partitions: dice.percent(25),
            crashes: dice.percent(25),
            leaves: dice.percent(25),
            drops: dice.percent(60),
            large: dice.percent(20),
            lazy: dice.percent(30),
        }
    }
}

/// A run in progress.
pub(crate) struct Play {
    pub(crate) internet: Internet,
    dice: Dice,
    pub(crate) faults: Faults,
    lives: Vec<Life>,
    consumers: Vec<Consumer>,
    pub(crate) taken: usize,
}

impl Play {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let hosts = 2 + dice.below(2) as usize;
        let shards = 1 + dice.below(2) as usize;
        let faults = Faults::draw(&mut dice);
        let mut internet = Internet::new(seed, hosts, shards);
        internet.world.set_default_link(faults.link.clone());
        for place in 0..hosts {
            internet.start(place);
        }
        Self { internet, dice, faults, lives: Vec::new(), consumers: Vec::new(), taken: 0 }
    }

    /// The whole run.
    pub(crate) fn run(&mut self) {
        for _ in 0..ROUNDS {
            self.act();
            self.consume();
            self.check();
            let time = Duration::from_micros(1 + self.dice.below(20_000));
            self.internet.run_for(time);
            self.check();
        }
        self.heal();
        self.come_right();
        self.end();
    }

    /// Two hosts on clean links, one stream, for a long time: the keys of sessions grow old under it. Gives
    /// the longest time for which nothing arrived.
    pub(crate) fn grow_old(&mut self, time: Duration) -> Duration {
        self.internet.world.set_default_link(Link::CLEAN);
        self.publish(0);
        let stream = self.lives[0].stream;
        while self.consumers.first().is_none_or(|consumer| consumer.stream != stream) {
            self.consumers.clear();
            self.subscribe(1);
        }
        self.come_right();
        let end = self.internet.world.now() + time;
        let (mut last, mut longest) = (self.internet.world.now(), Duration::ZERO);
        while self.internet.world.now() < end {
            self.lives[0].push(HEAD_ROOM);
            self.internet.run_for(Duration::from_millis(10));
            self.consumers[0].gather();
            let taken = self.consumers[0].take(usize::MAX, &self.lives);
            if taken > 0 {
                longest = longest.max(self.internet.world.now().saturating_since(last));
                last = self.internet.world.now();
            }
            self.taken += taken;
            self.check();
        }
        longest
    }

    fn hosts(&self) -> usize {
        self.internet.places.len()
    }

    fn stream(&mut self) -> StreamId {
        StreamId([self.dice.below(STREAMS) as u8 + 1; 32])
    }

    /// Each host does something, or nothing.
    fn act(&mut self) {
        let place = self.dice.below(self.hosts() as u64) as usize;
        let chance = self.dice.below(100);
        match chance {
            0..20 => self.publish(place),
            20..45 => self.subscribe(place),
            45..49 if self.faults.drops => self.drop_publication(),
            49..53 if self.faults.drops => self.drop_subscription(),
            53..56 if self.faults.drops => self.drop_leg(),
            56..58 if self.faults.crashes => self.crash(place),
            58..60 if self.faults.leaves => self.leave(place),
            60..64 if self.faults.partitions => self.partition(place),
            _ => {}
        }
        for place in 0..self.hosts() {
            if self.internet.node(place).is_none() && self.dice.percent(10) {
                self.come_back(place);
            }
        }
        for at in 0..self.lives.len() {
            for _ in 0..self.dice.below(12) {
                let large = self.faults.large && self.dice.percent(5);
                let len = if large { self.dice.below(12_000) } else { self.dice.below(600) };
                if !self.lives[at].push(len as usize) {
                    break;
                }
            }
        }
    }

    fn publish(&mut self, place: usize) {
        let stream = self.stream();
        let Some(node) = self.internet.node(place) else { return };
        let spec =
            PublishSpec { datums: 64, bytes: 64 << 10, max_datum: 16 << 10, ..PublishSpec::new(stream) };
        let Ok(publication) = node.publish(spec) else { return };
        let (number, ring) = (self.lives.len() as u64, publication.ring().clone());
        let publication = Some(publication);
        self.lives.push(Life { number, place, stream, publication, ring, accepted: 0, evicts: false });
    }

    fn subscribe(&mut self, place: usize) {
        let stream = self.stream();
        if self.consumers.iter().filter(|consumer| consumer.place == place).count() >= 2 {
            return;
        }
        let best_effort = self.dice.percent(20);
        let reliability = if best_effort { Reliability::FireAndForget } else { Reliability::Reliable };
        let window_bytes = 16 << (10 + self.dice.below(3));
        let Some(node) = self.internet.node(place) else { return };
        let backoff = Backoff {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(1),
            max_elapsed: None,
            ..Backoff::default()
        };
        let spec = SubscribeSpec {
            reliability,
            window_bytes,
            max_datum: 16 << 10,
            backoff,
            ..SubscribeSpec::new(stream)
        };
        let Ok(subscription) = node.subscribe(spec) else { return };
        self.consumers.push(Consumer::new(place, stream, reliability, subscription));
    }

    fn drop_publication(&mut self) {
        let open: Vec<usize> =
            (0..self.lives.len()).filter(|at| self.lives[*at].publication.is_some()).collect();
        if !open.is_empty() {
            let at = open[self.dice.below(open.len() as u64) as usize];
            self.lives[at].publication = None;
        }
    }

    fn drop_subscription(&mut self) {
        if !self.consumers.is_empty() {
            let at = self.dice.below(self.consumers.len() as u64) as usize;
            self.consumers.swap_remove(at);
        }
    }

    fn drop_leg(&mut self) {
        if self.consumers.is_empty() {
            return;
        }
        let at = self.dice.below(self.consumers.len() as u64) as usize;
        self.consumers[at].drop_leg();
    }

    /// The handles on a host are gone, one way or the other.
    fn forget(&mut self, place: usize) {
        self.consumers.retain(|consumer| consumer.place != place);
        for life in self.lives.iter_mut().filter(|life| life.place == place) {
            life.publication = None;
        }
    }

    fn crash(&mut self, place: usize) {
        // Power goes before the handles, so that nothing is ended in order.
        self.internet.crash(place);
        self.forget(place);
    }

    fn leave(&mut self, place: usize) {
        let id = self.internet.places[place];
        if let Some(host) = self.internet.hosts.get_mut(&id) {
            host.node = None;
        }
        if self.dice.percent(50) {
            self.forget(place);
        }
    }

    fn come_back(&mut self, place: usize) {
        let id = self.internet.places[place];
        match self.internet.hosts.get(&id) {
            None => self.internet.start(place),
            // The old node has to close its sockets first.
            Some(host) if host.load().nodes == 0 => {
                self.forget(place);
                self.internet.join(place);
            }
            Some(_) => {}
        }
    }

    fn partition(&mut self, place: usize) {
        let cut = self.dice.percent(50);
        let one = [self.internet.places[place]];
        let others: Vec<_> = self.internet.places.iter().copied().filter(|other| *other != one[0]).collect();
        self.internet.world.set_partition(&one, &others, cut);
    }

    fn consume(&mut self) {
        for at in 0..self.consumers.len() {
            self.consumers[at].gather();
            if self.faults.lazy && self.dice.percent(60) {
                continue;
            }
            let most = self.dice.below(20) as usize;
            self.taken += self.consumers[at].take(most, &self.lives);
        }
    }

    fn check(&self) {
        for life in &self.lives {
            life.check();
        }
    }

    /// Stops the faults, and starts the hosts that are down.
    fn heal(&mut self) {
        self.internet.world.set_default_link(Link::CLEAN);
        let all = self.internet.places.clone();
        self.internet.world.set_partition(&all, &all, false);
        let limit = self.internet.world.now() + PATIENCE;
        while (0..self.hosts()).any(|place| self.internet.node(place).is_none()) {
            assert!(self.internet.world.now() < limit, "a node that left never lets go");
            for place in 0..self.hosts() {
                if self.internet.node(place).is_none() {
                    self.come_back(place);
                }
            }
            self.internet.run_for(Duration::from_millis(50));
        }
        self.publish(0);
        self.subscribe(self.hosts() - 1);
    }

    /// Whether every subscription is connected to every publication of its stream and has taken everything.
    fn is_right(&self) -> bool {
        self.consumers.iter().all(|consumer| {
            let lives =
                self.lives.iter().filter(|life| life.publication.is_some() && life.stream == consumer.stream);
            lives.into_iter().all(|life| {
                self.internet.node(life.place).is_some_and(|node| has_everything(consumer, life, node))
            })
        })
    }

    /// Liveness: without faults, every consumer gets everything.
    fn come_right(&mut self) {
        let limit = self.internet.world.now() + PATIENCE;
        loop {
            for life in &mut self.lives {
                if life.ring.is_empty() {
                    life.push(HEAD_ROOM);
                }
            }
            for _ in 0..10 {
                self.internet.run_for(Duration::from_millis(10));
                for consumer in &mut self.consumers {
                    consumer.gather();
                    self.taken += consumer.take(usize::MAX, &self.lives);
                }
                self.check();
                if self.is_right() {
                    return;
                }
            }
            assert!(self.internet.world.now() < limit, "not right after {PATIENCE:?}:\n{}", self.describe());
        }
    }

    /// Ends everything; nothing may be left.
    pub(crate) fn end(&mut self) {
        self.consumers.clear();
        for life in &mut self.lives {
            life.publication = None;
        }
        for host in self.internet.hosts.values_mut() {
            host.node = None;
            host.engine = None;
        }
        let limit = self.internet.world.now() + PATIENCE;
        while self.internet.hosts.values().any(|host| !host.clerk.is_stopped()) {
            assert!(self.internet.world.now() < limit, "an engine never stops:\n{}", self.describe());
            self.internet.run_for(Duration::from_millis(10));
        }
        for host in self.internet.hosts.values() {
            let load = host.load();
            assert_eq!(load, corewire_engine::clerk::Load::default(), "something is left");
            assert!(host.shards.iter().all(|shard| shard.is_stopped()), "a shard runs on");
        }
    }

    fn describe(&self) -> String {
        let mut text = format!("{:?}\n{:?}\n", self.faults, self.internet.world.stats());
        for (id, host) in &self.internet.hosts {
            text += &format!("{id:?} {:?} {:?}\n", host.load(), host.node.as_ref().map(|node| node.stats()));
            for shard in &host.shards {
                text += &format!("  {:?}\n", shard.counters().snapshot());
            }
        }
        for life in self.lives.iter().filter(|life| life.publication.is_some()) {
            text += &format!(
                "life {} on {} of {:?}: accepted {} gate {}\n",
                life.number,
                life.place,
                life.stream,
                life.accepted,
                life.ring.gate()
            );
            let channels = life.publication.iter().flat_map(|publication| publication.channels().to_vec());
            for channel in channels {
                text += &format!("  to {:?} {:?}\n", channel.consumer_id(), channel.shared().snapshot());
            }
        }
        for consumer in &self.consumers {
            text += &format!(
                "consumer on {} of {:?} {:?}\n",
                consumer.place, consumer.stream, consumer.reliability
            );
            for channel in consumer.subscription.channels().iter() {
                let shared = channel.shared();
                text += &format!(
                    "  channel {:?} {:?} {:?}\n",
                    channel.producer_id(),
                    shared.state(),
                    shared.close_code()
                );
            }
            for tap in &consumer.taps {
                let shared = tap.leg.channel().shared();
                text += &format!(
                    "  leg life {:?} next {} taken {} {:?} {:?}\n",
                    tap.life,
                    tap.next,
                    tap.taken,
                    shared.state(),
                    shared.snapshot()
                );
            }
        }
        text
    }
}

/// Bytes of the datums that keep a stream alive.
const HEAD_ROOM: usize = 64;
