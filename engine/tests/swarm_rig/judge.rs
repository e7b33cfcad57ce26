//! One seed as judge: hosts with default settings that publish and consume while everything happens to them
//! that happens to benign networks and hosts. The laws are checked at every step; then the faults stop, and
//! everything has to come right.
//!
//! Not inside: the laws of one consumer (`laws`), and what a fault does (`weather`).

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use corewire_engine::{
    counters::Counter, publication::PublishSpec, shared::Channel, subscription::SubscribeSpec,
};
use corewire_proto::{StreamId, channel::Reliability, time::Instant};

use super::{
    faults::{Fault, FaultSet, Tally},
    swarm_rig::{
        Dice, Internet, Setup,
        laws::{Consumer, HEAD, Life, has_everything},
    },
};

/// Streams that any host may publish.
const STREAMS: u64 = 2;

/// Handles of each kind that a host has at most.
const HANDLES_EACH: usize = 2;

/// How much of the world's time may pass until everything has come right: a producer that could not be
/// reached is tried again after a minute and a half at most, and a peer is taken for dead after ten seconds.
const PATIENCE: Duration = Duration::from_secs(240);

/// Events that are printed with a failure.
const TRACE_LINES: usize = 60;

/// How long the hosts may take to come to rest once nothing is sent any more, and how long they are watched
/// then.
const REST_AFTER: Duration = Duration::from_secs(15);
const REST_FOR: Duration = Duration::from_secs(20);

/// How a consumer takes what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Eager,
    /// A few at a time, and seldom.
    Slow,
    Stalled,
}

/// A consumer, and how it behaves until when.
pub(super) struct Watched {
    pub(super) consumer: Consumer,
    pub(super) pace: Pace,
    pub(super) until: Instant,
}

/// Something that is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Relief {
    /// The process at a place goes on.
    Thaw(usize),
    /// The process at a place is started again.
    Start(usize),
    /// One direction between two places works again.
    Mend(usize, usize),
    /// A host is seen at its own address again.
    Return(usize),
    /// Receive queues are as large as usual.
    Queues,
}

/// A run in progress.
pub(crate) struct Judge {
    pub(super) internet: Internet,
    pub(super) dice: Dice,
    /// What this run may draw.
    pub(super) faults: FaultSet,
    pub(super) lives: Vec<Life>,
    pub(super) consumers: Vec<Watched>,
    pub(super) reliefs: Vec<(Instant, Relief)>,
    pub(super) tally: Tally,
    /// The mean time between two faults of hosts and links.
    fault_pause: Duration,
    next_fault: Instant,
    trace: VecDeque<String>,
}

impl Judge {
    pub(crate) fn new(seed: u64, allowed: FaultSet) -> Self {
        let mut dice = Dice::new(seed ^ 0x6a75_6467);
        let hosts = 2 + dice.below(3) as usize;
        let shards = 1 + dice.below(2) as usize;
        let faults = FaultSet::draw(&mut dice) & allowed;
        let mut setup = Setup::defaults();
        let short = 1 + dice.below(2) as u16;
        if faults.has(Fault::TransmitMemory) {
            (setup.driver.leases, setup.driver.receive_buffers) = (short, 4);
        }
        let mut internet = Internet::with(seed, hosts, shards, setup);
        let link = Self::first_link(&mut dice);
        internet.world.set_default_link(link);
        let fault_pause = Duration::from_millis(200 + dice.below(2_000));
        for place in 0..hosts {
            internet.start(place);
        }
        let mut judge = Self {
            internet,
            dice,
            faults,
            lives: Vec::new(),
            consumers: Vec::new(),
            reliefs: Vec::new(),
            tally: Tally::default(),
            fault_pause,
            next_fault: Instant::ZERO,
            trace: VecDeque::new(),
        };
        judge.trace(|| format!("{hosts} hosts of {shards} shards, faults {faults}"));
        judge
    }

    /// The whole run.
    pub(crate) fn run(mut self) -> Tally {
        let time = Duration::from_millis(60_000 + self.dice.below(90_000));
        let end = self.internet.world.now() + time;
        while self.internet.world.now() < end {
            self.relieve(false);
            self.populate();
            self.produce();
            if self.internet.world.now() >= self.next_fault {
                let pause = self.fault_pause.as_micros() as u64 * 2;
                self.next_fault = self.internet.world.now() + Duration::from_micros(self.dice.below(pause));
                self.draw_fault();
            }
            self.step();
        }
        self.heal();
        self.come_right();
        self.check_books();
        self.rest();
        self.end();
        self.tally.end(self.internet.world.now().saturating_since(Instant::ZERO));
        std::mem::take(&mut self.tally)
    }

    /// Remembers what happens, for a failure's report.
    pub(super) fn trace(&mut self, what: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        let at = self.internet.world.now().saturating_since(Instant::ZERO);
        self.trace.push_back(format!("{:>12.6} {}", at.as_secs_f64(), what()));
    }

    /// Lets some time pass, from a millisecond to a tenth of a second.
    fn step(&mut self) {
        let base = 1_000 << self.dice.below(7);
        let time = Duration::from_micros(base + self.dice.below(base));
        self.consume();
        self.internet.run_for(time);
        self.consume();
        self.check();
    }

    pub(super) fn hosts(&self) -> usize {
        self.internet.places.len()
    }

    pub(super) fn place(&mut self) -> usize {
        self.dice.below(self.hosts() as u64) as usize
    }

    /// From a tenth of a second to 30 s, short times as often as long ones.
    pub(super) fn span(&mut self) -> Duration {
        let base = 100 << self.dice.below(8);
        Duration::from_millis((base + self.dice.below(base)).min(30_000))
    }

    /// Whether the process at a place runs now.
    pub(super) fn is_awake(&self, place: usize) -> bool {
        self.internet.hosts.get(&self.internet.places[place]).is_some_and(|host| !host.frozen)
    }

    /// Hosts make the handles that they lack, in their own time.
    fn populate(&mut self) {
        if !self.dice.percent(5) {
            return;
        }
        let (place, produces) = (self.place(), self.dice.percent(50));
        if !self.is_awake(place) {
            return;
        }
        if produces {
            self.publish(place);
        } else {
            self.subscribe(place);
        }
    }

    fn publish(&mut self, place: usize) {
        let stream = StreamId([self.dice.below(STREAMS) as u8 + 1; 32]);
        let (cuts, evicts) = (self.dice.percent(80), self.dice.percent(20));
        let Some(node) = self.internet.node(place) else { return };
        let open = self.lives.iter().filter(|life| life.place == place && life.publication.is_some());
        if open.count() >= HANDLES_EACH {
            return;
        }
        // As the typed layer's defaults are.
        let lagging_grace = cuts.then_some(Duration::from_secs(1));
        let spec = PublishSpec { lagging_grace, ..PublishSpec::new(stream) };
        let Ok(publication) = node.publish(spec) else { return };
        let (number, ring) = (self.lives.len() as u64, publication.ring().clone());
        let publication = Some(publication);
        self.lives.push(Life { number, place, stream, publication, ring, accepted: 0, evicts });
        self.trace(|| format!("host {place} publishes {} as life {number}, evicts {evicts}", stream.0[0]));
    }

    fn subscribe(&mut self, place: usize) {
        let stream = StreamId([self.dice.below(STREAMS) as u8 + 1; 32]);
        let best_effort = self.dice.percent(20);
        let Some(node) = self.internet.node(place) else { return };
        if self.consumers.iter().filter(|watched| watched.consumer.place == place).count() >= HANDLES_EACH {
            return;
        }
        let reliability = if best_effort { Reliability::FireAndForget } else { Reliability::Reliable };
        let Ok(subscription) = node.subscribe(SubscribeSpec { reliability, ..SubscribeSpec::new(stream) })
        else {
            return;
        };
        let consumer = Consumer::new(place, stream, reliability, subscription);
        self.consumers.push(Watched { consumer, pace: Pace::Eager, until: Instant::ZERO });
        self.trace(|| format!("host {place} consumes {}, {reliability:?}", stream.0[0]));
    }

    /// Producers offer a few datums, or many.
    fn produce(&mut self) {
        for at in 0..self.lives.len() {
            let many = match self.dice.below(1_000) {
                0..800 => 0,
                800..990 => 1 + self.dice.below(3),
                990..999 => self.dice.below(30),
                _ => self.dice.below(1_500),
            };
            if self.lives[at].publication.is_none() || !self.is_awake(self.lives[at].place) {
                continue;
            }
            for _ in 0..many {
                let len = match self.dice.below(1_000) {
                    0..970 => self.dice.below(600),
                    970..999 => self.dice.below(20_000),
                    _ => self.dice.below(300_000),
                };
                if !self.lives[at].push(len as usize) {
                    break;
                }
            }
        }
    }

    fn consume(&mut self) {
        let now = self.internet.world.now();
        for at in 0..self.consumers.len() {
            if now >= self.consumers[at].until {
                self.consumers[at].pace = Pace::Eager;
            }
            let (place, pace) = (self.consumers[at].consumer.place, self.consumers[at].pace);
            let slow = self.dice.percent(20);
            let most = match pace {
                _ if !self.is_awake(place) => continue,
                Pace::Eager => usize::MAX,
                Pace::Slow if slow => 2,
                Pace::Slow | Pace::Stalled => continue,
            };
            let consumer = &mut self.consumers[at].consumer;
            let before = consumer.taps.len();
            consumer.gather();
            let taken = consumer.take(most, &self.lives);
            self.tally.note("datums taken", taken as u64);
            if self.consumers[at].consumer.taps.len() != before {
                self.trace_legs(at);
            }
        }
    }

    fn trace_legs(&mut self, at: usize) {
        let consumer = &self.consumers[at].consumer;
        let mut text = format!("consumer {at} on host {} has legs", consumer.place);
        for tap in &consumer.taps {
            let gap = tap.leg.gap();
            let _ = write!(text, " [life {:?} next {} {gap:?}]", tap.life, tap.next);
        }
        self.trace(|| text);
    }

    /// What holds at any time.
    fn check(&self) {
        self.lives.iter().for_each(Life::check);
        for host in self.internet.hosts.values() {
            let (load, identities) = (host.load(), self.identities());
            assert!(
                load.peers <= identities
                    && load.sessions <= 4 * identities
                    && load.channels + load.legs <= 4 * identities * HANDLES_EACH * HANDLES_EACH
                    && load.timers <= 24 * identities,
                "more is kept than {identities} identities have a use for: {load:?}"
            );
        }
    }

    /// Identities that the network has seen.
    fn identities(&self) -> usize {
        self.hosts() + self.internet.identities.iter().map(|past| usize::from(*past)).sum::<usize>()
    }

    /// Whether every subscription is connected to every publication of its stream and has taken everything.
    fn is_right(&self) -> bool {
        self.consumers.iter().all(|Watched { consumer, .. }| {
            let lives =
                self.lives.iter().filter(|life| life.publication.is_some() && life.stream == consumer.stream);
            lives.into_iter().all(|life| {
                self.internet.node(life.place).is_some_and(|node| has_everything(consumer, life, node))
            })
        })
    }

    /// Liveness: without faults, every consumer gets everything.
    fn come_right(&mut self) {
        // A run without a consumer would prove nothing.
        for place in 0..self.hosts() {
            self.publish(place);
            self.subscribe(place);
        }
        let healed = self.internet.world.now();
        loop {
            for life in self.lives.iter_mut().filter(|life| life.ring.is_empty()) {
                life.push(HEAD);
            }
            for _ in 0..10 {
                self.internet.run_for(Duration::from_millis(20));
                self.consume();
                self.check();
                if self.is_right() {
                    let took = self.internet.world.now().saturating_since(healed);
                    self.tally.note("seconds until everything was right", took.as_secs());
                    return;
                }
            }
            assert!(
                self.internet.world.now().saturating_since(healed) < PATIENCE,
                "not right {PATIENCE:?} after the last fault"
            );
        }
    }

    /// Once nothing is sent any more the hosts have next to nothing to do.
    fn rest(&mut self) {
        self.internet.run_for(REST_AFTER);
        self.consume();
        assert!(self.is_right(), "something came undone without a fault");
        let sent = self.internet.world.stats().sent;
        let settled = |judge: &Self| judge.internet.hosts.values().map(|host| host.settled).sum::<u64>();
        let before = settled(self);
        self.internet.run_for(REST_FOR);
        let (sent, settled) = (self.internet.world.stats().sent - sent, settled(self) - before);
        // A PING every two seconds and its answer in each direction; dials of peers that are gone.
        let pairs = (self.hosts() * self.identities()) as u64;
        let most = REST_FOR.as_secs() * 3 * pairs;
        assert!(sent <= most, "{sent} datagrams at rest, {most} would do");
        assert!(settled <= most * 8, "{settled} times busy at rest, {} would do", most * 8);
    }

    /// What consumers got and what they were told is missing is everything.
    fn check_books(&mut self) {
        for life in self.lives.iter().filter(|life| life.publication.is_some()) {
            let of_stream = self.consumers.iter().filter(|one| one.consumer.stream == life.stream);
            of_stream.for_each(|watched| watched.consumer.check_books(life));
            self.check_missed(life);
        }
        for Watched { consumer, .. } in &self.consumers {
            for account in consumer.accounts.values() {
                self.tally.note("datums told as missing", account.missing);
                self.tally.note("restarts of producers told", account.restarts);
            }
        }
        for at in 0..self.lives.len() {
            self.note_stats(at);
        }
    }

    /// What consumers missed between two channels is counted by the producer as it was told to them.
    fn check_missed(&self, life: &Life) {
        let channels = life.publication.as_ref().map(|publication| publication.channels());
        for place in (0..self.hosts()).filter(|place| *place != life.place) {
            let Some(node) = self.internet.node(place) else { continue };
            let there = |watched: &&Watched| {
                watched.consumer.place == place && watched.consumer.stream == life.stream
            };
            let told: u64 = self
                .consumers
                .iter()
                .filter(there)
                .map(|watched| watched.consumer.missed_between(life))
                .sum();
            let of_node = |channel: &&std::sync::Arc<Channel>| channel.consumer_id() == node.peer_id();
            let channels = channels.iter().flat_map(|channels| channels.iter());
            let counted: u64 = channels.filter(of_node).map(|channel| channel.shared().missed_before()).sum();
            assert_eq!(counted, told, "missed between channels of life {} at host {place}", life.number);
        }
    }

    /// Adds what a publication has counted to the tally.
    pub(super) fn note_stats(&mut self, at: usize) {
        if let Some(publication) = &self.lives[at].publication {
            let stats = publication.stats();
            self.tally.note("channels served", stats.admitted);
            self.tally.note("channels that went on where they were", stats.resumed);
            self.tally.note("consumers cut off as too slow", stats.too_slow);
            self.tally.note("datums that absent consumers lost", stats.skipped_at_close);
            self.tally.note("datums missed between two channels", stats.missed_while_away);
        }
    }

    /// Ends everything; nothing may be left.
    fn end(&mut self) {
        let network = self.internet.world.stats();
        for (fault, times) in [
            (Fault::Loss, network.lost),
            (Fault::Duplicate, network.duplicated),
            (Fault::Reorder, network.reordered),
            (Fault::Corrupt, network.corrupted),
            (Fault::Truncate, network.truncated),
            (Fault::ReceiveQueue, network.overflowed),
        ] {
            self.tally.add(fault, times);
        }
        for (outcome, times) in [
            ("datagrams sent", network.sent),
            ("datagrams lost to cuts", network.cut),
            ("datagrams larger than the path", network.too_large),
            ("datagrams dropped before a slow link", network.queue_full),
            ("datagrams to a closed port", network.refused),
        ] {
            self.tally.note(outcome, times);
        }
        self.consumers.clear();
        for life in &mut self.lives {
            life.publication = None;
        }
        for host in self.internet.hosts.values_mut() {
            (host.node, host.engine) = (None, None);
        }
        let limit = self.internet.world.now() + PATIENCE;
        while self.internet.hosts.values().any(|host| !host.clerk.is_stopped()) {
            assert!(self.internet.world.now() < limit, "an engine never stops");
            self.internet.run_for(Duration::from_millis(10));
        }
        for host in self.internet.hosts.values() {
            assert_eq!(host.load(), corewire_engine::clerk::Load::default(), "something is left");
            for shard in &host.shards {
                assert!(shard.is_stopped(), "a shard runs on");
                let counters = shard.counters();
                for level in [Counter::Sessions, Counter::Channels, Counter::Streams] {
                    assert_eq!(counters.get(level), 0, "{level:?} are left");
                }
            }
        }
        for at in 0..self.hosts() {
            self.note_memory(at);
        }
    }

    /// Adds what the shards of a host have counted to the tally.
    pub(super) fn note_memory(&mut self, place: usize) {
        if let Some(host) = self.internet.hosts.get(&self.internet.places[place]) {
            let counters = host.shards.iter().map(|shard| shard.counters());
            let short: u64 = counters.map(|counters| counters.get(Counter::LeasesExhausted)).sum();
            self.tally.add(Fault::TransmitMemory, u64::from(short > 0));
            self.tally.note("times that no transmit buffer was free", short);
        }
    }
}

/// A failure is printed with what led to it.
impl Drop for Judge {
    #[expect(clippy::print_stderr, reason = "part of a failing test's output")]
    fn drop(&mut self) {
        if !std::thread::panicking() || !super::wants_trace() {
            return;
        }
        let lines: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        eprintln!("the last events, in seconds of the world's time:\n{}", lines.join("\n"));
        eprintln!("at the end, at {:?}:\n{}", self.internet.world.now(), self.describe());
    }
}

impl Judge {
    fn describe(&self) -> String {
        let mut text = format!("{:?}\n", self.internet.world.stats());
        for (place, id) in self.internet.places.iter().enumerate() {
            let Some(host) = self.internet.hosts.get(id) else {
                let _ = writeln!(text, "host {place} is down");
                continue;
            };
            let (load, frozen) = (host.load(), host.frozen);
            let _ = writeln!(text, "host {place} frozen {frozen} {load:?}");
            if let Some(node) = &host.node {
                let _ = writeln!(text, "  {:?} {:?}", node.peer_id(), node.stats());
            }
        }
        for life in self.lives.iter().filter(|life| life.publication.is_some()) {
            let (number, accepted, gate) = (life.number, life.accepted, life.ring.gate());
            let _ = writeln!(text, "life {number} on host {} accepted {accepted} gate {gate}", life.place);
            let channels = life.publication.iter().flat_map(|publication| publication.channels().to_vec());
            for channel in channels {
                let numbers = channel.shared().snapshot();
                let (at, state) = (channel.consumer_id(), channel.shared().state());
                let _ = writeln!(
                    text,
                    "  to {at:?} {state:?} released {} position {} published {}",
                    numbers.released, numbers.position, numbers.published
                );
            }
        }
        for (at, Watched { consumer, pace, .. }) in self.consumers.iter().enumerate() {
            let (place, stream) = (consumer.place, consumer.stream.0[0]);
            let _ = writeln!(text, "consumer {at} on host {place} of {stream} {pace:?}");
            for channel in consumer.subscription.channels().iter() {
                let (producer, shared) = (channel.producer_id(), channel.shared());
                let (state, code) = (shared.state(), shared.close_code());
                let _ = writeln!(text, "  channel from {producer:?} {state:?} {code:?}");
            }
            for tap in &consumer.taps {
                let (life, next, state) = (tap.life, tap.next, tap.leg.channel().shared().state());
                let _ = writeln!(text, "  leg of life {life:?} next {next} {state:?}");
            }
        }
        text
    }
}
