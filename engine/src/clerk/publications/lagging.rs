//! Consumers that keep a ring full.
//!
//! A producer that finds no room (or makes some by evicting) reports it. From then on the ring is checked a
//! few times per grace, until no producer has reported it and it is not full.
//!
//! A consumer *holds* the ring if it is at the gate and has something to take. Each consumer has a clock of
//! its own, which starts when the consumer is first found holding a full ring, and restarts when it has taken
//! something since. So the grace is that of one consumer's standstill, and a consumer that moves, however
//! slowly, is never closed. A record that is evicted does not count as taken: under the policies that drop,
//! the clock of a consumer that only loses runs on.

use std::{collections::BTreeMap, mem::take, sync::atomic::Ordering, time::Duration};

use corewire_proto::{session::CloseCode, time::Instant};
use corewire_rings::{ReaderId, Ring};

use super::{Env, OutboundEnd, PublicationState, Publications, parked::ConsumerKey};
use crate::{
    clerk::{effect::Effect, timers::Timer},
    shared::{
        ChannelState,
        counters::count,
        keys::{ChannelKey, LegKey, PublicationKey},
    },
};

/// Checks in a grace. A clock starts late by at most the time between two, except for the first of a
/// standstill, which starts when the producer reported the full ring.
const CHECKS_PER_GRACE: u32 = 32;

/// The least and the longest time between two checks.
const CHECK_PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// The grace of a consumer whose node has left, at a publication that closes no consumer: it is not a channel
/// any more that the producer has decided to wait for.
const LEFT_GRACE: Duration = Duration::from_secs(10);

/// Reads of a cursor that writers may be moving at the moment, before the last value is believed.
const CURSOR_READS_MAX: usize = 8;

/// A ring that is full, or was at the last check.
#[derive(Debug, Default)]
pub(super) struct FullWatch {
    /// The gate when the ring was known to be full. While it stays there, the ring stays as full as it was.
    full_at: Option<u64>,
    /// A producer has reported the full ring since the last timed check.
    reported: bool,
    /// The consumers that held the ring at the last check.
    clocks: BTreeMap<HolderKey, StandstillClock>,
}

/// Names a consumer that holds the ring. A local one keeps its name when its channel is over and it drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HolderKey {
    Leg(LegKey),
    Remote(ChannelKey),
    /// An absent one.
    Place(ConsumerKey),
}

/// How long a consumer stands still.
#[derive(Clone, Copy, Debug)]
struct StandstillClock {
    /// What it had taken at `since`, by a count that eviction does not change.
    taken: u64,
    since: Instant,
}

/// A consumer that holds the ring.
struct Holder {
    key: HolderKey,
    /// Its channel; `None` for a local one that drains.
    channel: Option<ChannelKey>,
    taken: u64,
    grace: Duration,
}

/// A reader of this engine that has something to take.
#[derive(Clone, Copy)]
struct BehindReader {
    id: ReaderId,
    position: u64,
    /// What it has taken, by a count that eviction does not change.
    taken: u64,
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
        self.check_holders(env, key);
    }

    /// It is time to check the ring again.
    pub(crate) fn lagging_due(&mut self, env: &mut Env, key: PublicationKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        // Cleared now and believed at the next check: a producer that finds the ring full in between reports
        // it, or waits for room by then.
        publication.shared.full.store(false, Ordering::Release);
        let Some(watch) = &mut publication.watch else { return };
        let ring = &publication.shared.ring;
        let (gate, tail) = (ring.gate(), ring.tail());
        let full = (watch.full_at == Some(gate) && gate < tail)
            || ring.waiting_writers() > 0
            || ring.len() >= ring.config().datums;
        watch.full_at = full.then_some(gate);
        if take(&mut watch.reported) || full {
            self.check_holders(env, key);
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
        publication.shared.left.store(true, Ordering::Release);
        publication.shared.full.store(false, Ordering::Release);
        // One check in any case: a producer that has waited since before will not report it again.
        publication.watch.get_or_insert_default().reported = true;
        self.check_holders(env, key);
    }

    /// Checks a full ring: starts clocks, stops those of consumers that moved, closes consumers whose grace
    /// is over.
    fn check_holders(&mut self, env: &mut Env, key: PublicationKey) {
        let Some(publication) = self.publications.get_mut(&key) else { return };
        let holders = publication.holders();
        let Some(watch) = &mut publication.watch else { return };
        let before = take(&mut watch.clocks);
        let mut next = env.now + check_pause(publication.shared.spec.lagging_grace);
        let mut over = Vec::new();
        for holder in holders {
            let clock = match before.get(&holder.key) {
                Some(clock) if clock.taken == holder.taken => *clock,
                _ => StandstillClock { taken: holder.taken, since: env.now },
            };
            watch.clocks.insert(holder.key, clock);
            let due = clock.since + holder.grace;
            if due <= env.now {
                over.push(holder);
            } else {
                next = next.min(due);
            }
        }
        env.effects.set_timer(Timer::Lagging(key), next);
        for holder in over {
            self.close_lagging(env, key, &holder);
        }
    }

    /// Closes a consumer whose grace is over.
    fn close_lagging(&mut self, env: &mut Env, key: PublicationKey, holder: &Holder) {
        match (holder.channel, holder.key) {
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
                    publication.give_up_place(consumer);
                }
            }
            (None, HolderKey::Remote(_)) => unreachable!("only local consumers drain"),
        }
    }
}

impl PublicationState {
    /// The consumers that hold the ring now.
    fn holders(&self) -> Vec<Holder> {
        let (ring, granted) = (&self.shared.ring, self.shared.spec.lagging_grace);
        let readers = behind_readers(ring);
        // After the cursors, so that one that a writer has moved meanwhile is not taken for one that got
        // away.
        let (gate, tail) = (ring.gate(), ring.tail());
        let clocks = self.watch.as_ref().map(|watch| &watch.clocks);
        let holder = |key: HolderKey, id: ReaderId, channel: Option<ChannelKey>, grace: Option<Duration>| {
            let reader = readers.iter().find(|reader| reader.id == id)?;
            let grace = grace?;
            if reader.position > gate {
                return None;
            }
            let known = clocks.and_then(|clocks| clocks.get(&key)).map(|clock| clock.taken);
            Some(Holder { key, channel, taken: taken(ring, reader, known), grace })
        };
        let mut holders = Vec::new();
        for (&key, outbound) in &self.channels {
            match outbound.end {
                OutboundEnd::Local(leg, id) => {
                    holders.extend(holder(HolderKey::Leg(leg), id, Some(key), granted));
                }
                OutboundEnd::Remote(..) => {
                    let channel = &outbound.channel.shared;
                    // Channels share a shard's cursor; their counters tell which of them holds it. One that
                    // has no cursor yet holds nothing.
                    let placed = channel.state() != ChannelState::Connecting;
                    let released = channel.snapshot().released;
                    if let Some(grace) = granted
                        && placed
                        && released <= gate
                        && released < tail
                    {
                        let holder = HolderKey::Remote(key);
                        holders.push(Holder { key: holder, channel: Some(key), taken: released, grace });
                    }
                }
            }
        }
        holders.extend(self.draining.iter().filter_map(|(&leg, draining)| {
            let grace = granted.or(draining.consumer_left.then_some(LEFT_GRACE));
            holder(HolderKey::Leg(leg), draining.reader, None, grace)
        }));
        holders.extend(
            self.places
                .iter()
                .filter_map(|(key, place)| holder(HolderKey::Place(key), place.reader.id(), None, granted)),
        );
        holders
    }
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
