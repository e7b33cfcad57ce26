//! Consumers that keep a ring full.
//!
//! A producer that finds no room (or makes some by evicting) reports it. From then on the ring is checked a
//! few times per grace, until it is not full and no consumer is on record for having held it.
//!
//! A consumer *holds* the ring if the ring is full and the consumer is at the gate with something to take. It
//! is closed in two cases:
//!
//! - It has held the ring, while another consumer had taken everything, for the grace in total. Taking a
//!   datum now and then does not reset this sum; having nothing left to take does, and so does a time without
//!   holding ([`FORGIVEN_AFTER`]).
//! - It holds the ring and has taken nothing for the standstill time, whatever the others do. A record that
//!   is evicted does not count as taken.
//!
//! A consumer does not hold the ring while a limit of the bandwidth holds its channel back: it could take
//! more.
//!
//! So a fast consumer waits for a slow one for the grace at most, and a consumer that is alone, or as slow as
//! all others, is closed only if it stands still.

use std::{mem::take, time::Duration};

use corewire_proto::{mutate, ordered::OrderedMap, session::CloseCode, time::Instant};
use corewire_rings::{ReaderId, Ring};

use super::{Env, OutboundChannel, OutboundEnd, PublicationState, Publications, parked::ConsumerKey};
use crate::{
    clerk::{effect::Effect, timers::Timer},
    shared::{
        ChannelShared, ChannelState,
        counters::count,
        keys::{LegKey, OutboundKey, PublicationKey},
    },
};

/// Checks in a grace. The sum of a consumer is exact to about the time between two.
const CHECKS_PER_GRACE: u32 = 32;

/// The least and the longest time between two checks.
const CHECK_PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// The standstill time of a consumer whose node has left, at a publication that closes no consumer: it is not
/// a channel any more that the producer has decided to wait for.
const LEFT_GRACE: Duration = Duration::from_secs(10);

/// A consumer that has not held the ring for this long has no sum any more.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// Reads of a cursor that writers may be moving at the moment, before the last value is believed.
const CURSOR_READS_MAX: usize = 8;

/// A ring that is full, or was lately.
#[derive(Debug, Default)]
pub(super) struct FullWatch {
    /// The gate when the ring was known to be full. While it stays there, the ring stays as full as it was.
    full_at: Option<u64>,
    /// A producer has reported the full ring since the last timed check.
    reported: bool,
    /// The last check; `None` before the first.
    checked_at: Option<Instant>,
    /// The consumers that have held the ring and were not forgiven.
    clocks: OrderedMap<HolderKey, HolderClock>,
}

/// Names a consumer. A local one keeps its name when its channel is over and it drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HolderKey {
    Leg(LegKey),
    Remote(OutboundKey),
    /// An absent one.
    Place(ConsumerKey),
}

/// What is on record about a consumer that has held the ring.
#[derive(Clone, Copy, Debug)]
struct HolderClock {
    /// What it had taken at `still_since`, by a count that eviction does not change.
    taken: u64,
    still_since: Instant,
    /// When it last held the ring.
    held_at: Instant,
    /// For how long it has held the ring while another consumer had taken everything.
    held: Duration,
    /// It did so at the last check.
    holds: bool,
    /// For how long a limit of the bandwidth had held its channel back at the last check.
    paced: Duration,
}

/// Where a consumer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has taken everything.
    Done,
    /// It has something to take, and another consumer has more.
    Between,
    /// No consumer has more to take.
    AtGate,
}

/// A consumer at a check.
struct ConsumerAtCheck {
    key: HolderKey,
    /// Its channel; `None` for a local one that drains, and for an absent one.
    channel: Option<OutboundKey>,
    standing: Standing,
    /// What it has taken, by a count that eviction does not change.
    taken: u64,
    /// For how long a limit of the bandwidth has held its channel back.
    paced: Duration,
    /// How long it may hold the ring while another one waits; `None`: without end.
    grace: Option<Duration>,
    /// How long it may hold the ring without taking anything; `None`: without end.
    standstill: Option<Duration>,
}

/// A reader of this engine that has something to take.
#[derive(Clone, Copy)]
struct BehindReader {
    id: ReaderId,
    position: u64,
    /// What it has taken, by a count that eviction does not change.
    taken: u64,
}

impl HolderClock {
    fn new(now: Instant, consumer: &ConsumerAtCheck) -> Self {
        let &ConsumerAtCheck { taken, paced, .. } = consumer;
        Self { taken, still_since: now, held_at: now, held: Duration::ZERO, holds: false, paced }
    }
}

impl Publications {
    /// A producer found its ring full.
    pub(crate) fn ring_is_full(&mut self, env: &mut Env, key: PublicationKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        if publication.closed {
            return;
        }
        let gate = publication.shared.ring.gate();
        let watch = publication.watch.get_or_insert_default();
        (watch.reported, watch.full_at) = (true, Some(gate));
        self.check_holders(env, key, true);
    }

    /// It is time to check the ring again.
    pub(crate) fn lagging_due(&mut self, env: &mut Env, key: PublicationKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        // Cleared now and believed at the next check: a producer that finds the ring full in between reports
        // it, or waits for room by then.
        publication.shared.full.set(false);
        let Some(watch) = &mut publication.watch else { return };
        let ring = &publication.shared.ring;
        let (gate, tail) = (ring.gate(), ring.tail());
        let full = (watch.full_at == Some(gate) && gate < tail)
            || ring.waiting_writers() > 0
            || ring.len() >= ring.config().datums;
        watch.full_at = full.then_some(gate);
        let full = take(&mut watch.reported) || full;
        if full || !watch.clocks.is_empty() {
            self.check_holders(env, key, full);
        } else {
            publication.watch = None;
        }
    }

    /// The node of a local consumer has left. The consumer may read to the end, but must not keep the ring
    /// full without end, whatever grace its producer grants to others.
    pub(crate) fn consumer_left(&mut self, env: &mut Env, key: PublicationKey, leg: LegKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        let draining = publication.draining.get_mut(&leg).expect("the channels of a node that left are over");
        draining.consumer_left = true;
        if publication.closed {
            return;
        }
        publication.shared.left.set(true);
        publication.shared.full.set(false);
        // One check in any case: a producer that has waited since before will not report it again.
        publication.watch.get_or_insert_default().reported = true;
        self.check_holders(env, key, true);
    }

    /// Checks where the consumers of a ring stand, and closes those whose time is over.
    fn check_holders(&mut self, env: &mut Env, key: PublicationKey, full: bool) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        let consumers = publication.consumers(env.now);
        // A leg that drains belongs to no consumer that could wait for more.
        let one_waits = consumers.iter().any(|one| one.standing == Standing::Done && one.channel.is_some());
        let pause = check_pause(publication.shared.spec.lagging_grace);
        let Some(watch) = &mut publication.watch else { return };
        // A check that comes late must not be charged to the consumers.
        let passed = watch.checked_at.map_or(Duration::ZERO, |at| env.now.saturating_since(at));
        let passed = passed.min(2 * pause);
        watch.checked_at = Some(env.now);
        let mut before = take(&mut watch.clocks);
        let mut next = env.now + pause;
        let mut over = Vec::new();
        for consumer in consumers {
            let known = before.remove(&consumer.key);
            let paced = known.map_or(Duration::ZERO, |clock| consumer.paced.saturating_sub(clock.paced));
            let by_limit = !paced.is_zero() && paced >= passed / 2;
            let at_gate = full && consumer.standing == Standing::AtGate && !by_limit;
            let clock = match known {
                _ if consumer.standing == Standing::Done => continue,
                Some(clock) if !at_gate && env.now >= clock.held_at + FORGIVEN_AFTER => continue,
                None if !at_gate => continue,
                known => known.unwrap_or_else(|| HolderClock::new(env.now, &consumer)),
            };
            let one_waits = mutate!(one_waits, "lone-consumer-cut" => true);
            let clock = clock.at_check(env.now, passed, &consumer, at_gate, at_gate && one_waits);
            match at_gate.then(|| clock.due(env.now, &consumer)).flatten() {
                Some(due) if due <= env.now => over.push((consumer.channel, consumer.key)),
                Some(due) => next = next.min(due),
                None => {}
            }
            watch.clocks.insert(consumer.key, clock);
        }
        env.effects.set_timer(Timer::Lagging(key), next);
        for (channel, holder) in over {
            self.close_lagging(env, key, channel, holder);
        }
    }

    /// Closes a consumer whose time is over.
    fn close_lagging(
        &mut self,
        env: &mut Env,
        key: PublicationKey,
        channel: Option<OutboundKey>,
        holder: HolderKey,
    ) {
        match (channel, holder) {
            (Some(channel), _) => {
                if let Some(publication) = self.publications.get(&key) {
                    count(&publication.node.counters.too_slow);
                    count(&publication.shared.counters.too_slow);
                }
                self.cut(env, channel, CloseCode::TOO_SLOW);
            }
            // Its channel is over already; what it has not read is lost to it.
            (None, HolderKey::Leg(leg)) => env.effects.push(Effect::DetachLeg(leg)),
            (None, HolderKey::Place(consumer)) => {
                if let Some(publication) = self.publications.get_mut(&key) {
                    count(&publication.node.counters.too_slow);
                    count(&publication.shared.counters.too_slow);
                    publication.give_up_place(env, consumer);
                }
            }
            (None, HolderKey::Remote(_)) => unreachable!("only local consumers drain"),
        }
    }
}

impl HolderClock {
    /// The clock after a check. `holds`: at the gate of a full ring, while another consumer has taken
    /// everything. Each end of the time since the last check stands for a half of it.
    fn at_check(
        mut self,
        now: Instant,
        passed: Duration,
        consumer: &ConsumerAtCheck,
        at_gate: bool,
        holds: bool,
    ) -> Self {
        if self.taken != consumer.taken {
            (self.taken, self.still_since) = (consumer.taken, now);
            self.held = mutate!(self.held, "grace-not-summed" => Duration::ZERO);
        }
        if at_gate {
            self.held_at = now;
        }
        self.paced = consumer.paced;
        self.held += passed / 2 * (u32::from(self.holds) + u32::from(holds));
        self.holds = holds;
        self
    }

    /// When the consumer is to be closed if it goes on like this.
    fn due(&self, now: Instant, consumer: &ConsumerAtCheck) -> Option<Instant> {
        let left = consumer.grace.map(|grace| grace.saturating_sub(self.held));
        let by_sum = left.filter(|left| self.holds || left.is_zero()).map(|left| now + left);
        let by_standstill = consumer.standstill.map(|standstill| self.still_since + standstill);
        [by_sum, by_standstill].into_iter().flatten().min()
    }
}

impl PublicationState {
    /// The consumers, as they stand now.
    fn consumers(&self, now: Instant) -> Vec<ConsumerAtCheck> {
        let spec = &self.shared.spec;
        let ring = &self.shared.ring;
        let readers = behind_readers(ring);
        // After the cursors, so that one that a writer has moved meanwhile is not taken for one that got
        // away.
        let (gate, tail) = (ring.gate(), ring.tail());
        let clocks = self.watch.as_ref().map(|watch| &watch.clocks);
        let standstill = spec.lagging_grace.map(|_| spec.standstill_grace);
        let local = |key: HolderKey, id: ReaderId, channel: Option<OutboundKey>, standstill| {
            let reader = readers.iter().find(|reader| reader.id == id);
            let standing = match reader {
                None => Standing::Done,
                Some(reader) if reader.position > gate => Standing::Between,
                Some(_) => Standing::AtGate,
            };
            let known = clocks.and_then(|clocks| clocks.get(&key)).map(|clock| clock.taken);
            let taken = reader.map_or(0, |reader| taken(ring, reader, known));
            let (paced, grace) = (Duration::ZERO, spec.lagging_grace);
            ConsumerAtCheck { key, channel, standing, taken, paced, grace, standstill }
        };
        let mut consumers = Vec::with_capacity(self.channels.len() + self.draining.len());
        for (&key, outbound) in &self.channels {
            match outbound.end {
                OutboundEnd::Local(leg, id) => {
                    consumers.push(local(HolderKey::Leg(leg), id, Some(key), standstill));
                }
                OutboundEnd::Remote(..) => {
                    let Some((standing, taken)) = remote_standing(outbound, gate, tail) else { continue };
                    let paced = paced(&outbound.channel.shared, now);
                    let (holder, grace) = (HolderKey::Remote(key), spec.lagging_grace);
                    consumers.push(ConsumerAtCheck {
                        key: holder,
                        channel: Some(key),
                        standing,
                        taken,
                        paced,
                        grace,
                        standstill,
                    });
                }
            }
        }
        consumers.extend(self.draining.iter().map(|(&leg, draining)| {
            let standstill = standstill.or(draining.consumer_left.then_some(LEFT_GRACE));
            local(HolderKey::Leg(leg), draining.reader, None, standstill)
        }));
        consumers.extend(
            self.places
                .iter()
                .map(|(key, place)| local(HolderKey::Place(key), place.reader.id(), None, standstill)),
        );
        consumers
    }
}

/// Where a remote consumer stands, and what it has taken. Channels share a shard's cursor; their counters
/// tell which of them holds it. `None`: it has no cursor yet.
fn remote_standing(outbound: &OutboundChannel, gate: u64, tail: u64) -> Option<(Standing, u64)> {
    let channel = &outbound.channel.shared;
    if channel.state() == ChannelState::Connecting {
        return None;
    }
    let snapshot = channel.snapshot();
    let standing = if snapshot.released >= tail {
        Standing::Done
    } else if snapshot.released <= gate {
        Standing::AtGate
    } else if snapshot.position >= tail {
        // What is on its way will be taken without the producer's help.
        Standing::Done
    } else {
        Standing::Between
    };
    Some((standing, snapshot.released))
}

/// For how long a limit of the bandwidth has held a channel back by now.
fn paced(channel: &ChannelShared, now: Instant) -> Duration {
    let numbers = channel.snapshot();
    let since = Some(numbers.paced_since).filter(|since| *since > 0).map(Instant::from_nanos);
    Duration::from_nanos(numbers.paced_ns) + since.map_or(Duration::ZERO, |since| now.saturating_since(since))
}

/// The time between two checks.
fn check_pause(grace: Option<Duration>) -> Duration {
    (grace.unwrap_or(LEFT_GRACE) / CHECKS_PER_GRACE).clamp(*CHECK_PAUSE.start(), *CHECK_PAUSE.end())
}

fn behind_readers(ring: &Ring) -> Vec<BehindReader> {
    let mut readers = Vec::new();
    ring.each_reader(|reader| {
        if reader.lag > 0 {
            let taken = reader.position.wrapping_sub(reader.lost);
            readers.push(BehindReader { id: reader.id, position: reader.position, taken });
        }
    });
    readers
}

/// What a reader has taken. A writer that evicts first moves the cursor and then counts the loss, so that a
/// read in between sees a reader that seems to have moved by itself. So `known` is given up only after
/// several reads.
fn taken(ring: &Ring, reader: &BehindReader, known: Option<u64>) -> u64 {
    let mut seen = reader.taken;
    for _ in 0..CURSOR_READS_MAX {
        if known.is_none_or(|known| known == seen) {
            break;
        }
        ring.each_reader(|status| {
            if status.id == reader.id {
                seen = status.position.wrapping_sub(status.lost);
            }
        });
    }
    seen
}
