//! Consumers that keep a ring full.
//!
//! Not inside: the policy about datums. A producer that finds no room (or makes some by evicting) says so; from then
//! on the clerk looks at the ring a few times per grace, until nobody says so any more.
//!
//! A consumer *holds* the ring if nobody stands behind it and there is something that it has not taken. Each consumer
//! has a clock of its own: it starts when the consumer is found holding a full ring, and anew when it has taken
//! something since. So the grace is that of one consumer's standstill, whoever else held the ring before; and one that
//! moves, however slowly, is never closed. What eviction takes from a consumer is not taken *by* it: under the
//! policies that drop, the clock of a consumer that only loses runs on.

use std::{collections::BTreeMap, mem::take, sync::atomic::Ordering, time::Duration};

use corewire_proto::{session::CloseCode, time::Instant};
use corewire_rings::{ReaderId, Ring};

use super::{
    Clerk,
    state::{OutboundEnd, PublicationState},
    timers::Timer,
};
use crate::{
    shard::NodeId,
    shared::{ChannelState, counters::count, publication::PublicationShared},
};

/// How many looks there are in a grace. A clock starts late by at most the time between two, except for the first of
/// a standstill, which starts when the producer said that the ring is full.
const LOOKS_PER_GRACE: u32 = 32;

/// The least and the longest time between two looks.
const LOOK_PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// The grace of a consumer whose node has left, at a publication that closes nobody: it is no channel any more for
/// which anybody decided to wait.
const LEFT_GRACE: Duration = Duration::from_secs(10);

/// Looks at a cursor that writers may be moving right now, before what was seen last is taken for true.
const CURSOR_LOOKS: usize = 8;

/// A ring that is full, or was a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The gate when the ring was known to be full. As long as it stays there, the ring stays as full as it was.
    full_at: Option<u64>,
    /// A producer has found the ring full since the last look that nobody asked for.
    told: bool,
    /// Who held the ring at the last look: legs of this engine by their number, other consumers by their serving's.
    clocks: BTreeMap<u64, Clock>,
}

/// How long a consumer stands still.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// What it had taken then, by a count of its own.
    taken: u64,
    since: Instant,
}

/// A consumer that holds the ring.
struct Holder {
    /// Names its clock.
    key: u64,
    what: Held,
    taken: u64,
    grace: Duration,
}

enum Held {
    /// By a serving, by its number.
    OutboundChannel(u64),
    /// By the cursor of a leg that is over, by its number.
    Draining(u64),
}

/// What a reader of this engine has taken, by a count that eviction leaves alone, if it may hold the ring.
#[derive(Clone, Copy)]
struct Standing {
    id: ReaderId,
    position: u64,
    taken: u64,
}

impl Clerk {
    /// A producer found its ring full.
    pub(super) fn ring_is_full(&mut self, publication: &PublicationShared) {
        let (node, key) = (publication.node, publication.key);
        let Some(publishing) = self.publishing_mut(node, key) else { return };
        if publishing.closed {
            return;
        }
        let gate = publishing.shared.ring.gate();
        let watch = publishing.watch.get_or_insert_default();
        (watch.told, watch.full_at) = (true, Some(gate));
        self.look_at_holders(node, key);
    }

    /// It is time to look at the ring again.
    pub(super) fn lagging_due(&mut self, node: NodeId, key: u64) {
        let Some(publishing) = self.publishing_mut(node, key) else { return };
        // Lowered now, and believed at the next look: whoever found the ring full in between has said so, or waits for
        // room by then.
        publishing.shared.full.store(false, Ordering::Release);
        let Some(watch) = &mut publishing.watch else { return };
        let ring = &publishing.shared.ring;
        let (gate, tail) = (ring.gate(), ring.tail());
        let full = (watch.full_at == Some(gate) && gate < tail)
            || ring.waiting_writers() > 0
            || ring.len() >= ring.config().datums;
        watch.full_at = full.then_some(gate);
        if take(&mut watch.told) || full {
            self.look_at_holders(node, key);
        } else {
            publishing.watch = None;
        }
    }

    /// The node of these consumers has left. Their legs may be read to the end, but not keep a ring full for ever,
    /// whatever its producer grants to others.
    pub(super) fn legs_left(&mut self, node: NodeId) {
        let left: Vec<(NodeId, u64)> = self
            .legs
            .values()
            .filter(|leg| leg.consumer.0 == node)
            .map(|leg| (leg.producer.0, leg.producer.1))
            .collect();
        for (producer, key) in left {
            let Some(publishing) = self.publishing_mut(producer, key) else { continue };
            if publishing.closed {
                continue;
            }
            publishing.shared.left.store(true, Ordering::Release);
            publishing.shared.full.store(false, Ordering::Release);
            // One look in any case: a producer that waits since before will not say so again.
            publishing.watch.get_or_insert_default().told = true;
            self.look_at_holders(producer, key);
        }
    }

    fn publishing_mut(&mut self, node: NodeId, key: u64) -> Option<&mut PublicationState> {
        self.members.get_mut(&node)?.publications.get_mut(&key)
    }

    /// Looks at a full ring: starts clocks, stops those of consumers that moved, closes those whose grace is over.
    fn look_at_holders(&mut self, node: NodeId, key: u64) {
        let now = self.now;
        let holders = self.holders(node, key);
        let Some(publishing) = self.publishing_mut(node, key) else { return };
        let Some(watch) = &mut publishing.watch else { return };
        let before = take(&mut watch.clocks);
        let mut next = now + look_pause(publishing.shared.spec.lagging_grace);
        let mut over = Vec::new();
        for holder in holders {
            let clock = match before.get(&holder.key) {
                Some(clock) if clock.taken == holder.taken => *clock,
                _ => Clock { taken: holder.taken, since: now },
            };
            watch.clocks.insert(holder.key, clock);
            let due = clock.since + holder.grace;
            if due <= now {
                over.push(holder.what);
            } else {
                next = next.min(due);
            }
        }
        self.timers.set(Timer::Lagging(node, key), next);
        for held in over {
            self.cut_lagging(node, key, held);
        }
    }

    /// Who holds the ring now.
    fn holders(&self, node: NodeId, key: u64) -> Vec<Holder> {
        let publishing = self.members.get(&node).and_then(|member| member.publications.get(&key));
        let Some(publishing) = publishing else { return Vec::new() };
        let (ring, granted) = (&publishing.shared.ring, publishing.shared.spec.lagging_grace);
        let readers = standing(ring);
        // After the cursors: one that was moved on by a writer meanwhile is not taken for one that got away.
        let (gate, tail) = (ring.gate(), ring.tail());
        let clocks = publishing.watch.as_ref().map(|watch| &watch.clocks);
        let local = |leg: u64, what: Held| {
            let local = self.legs.get(&leg)?;
            let grace = granted.or_else(|| {
                let left = !self.members.contains_key(&local.consumer.0);
                left.then_some(LEFT_GRACE)
            })?;
            let reader = readers.iter().find(|reader| reader.id == local.reader)?;
            if reader.position > gate {
                return None;
            }
            let known = clocks.and_then(|clocks| clocks.get(&leg)).map(|clock| clock.taken);
            Some(Holder { key: leg, what, taken: taken(ring, reader, known), grace })
        };
        let mut holders = Vec::new();
        for (&number, serving) in &publishing.servings {
            match serving.end {
                OutboundEnd::Local(leg) => holders.extend(local(leg, Held::OutboundChannel(number))),
                OutboundEnd::Remote(_) => {
                    let channel = &serving.channel.shared;
                    // Several channels share a shard's cursor; the numbers say which of them holds it. One that has
                    // no place in the ring yet holds nothing.
                    let placed = channel.state() != ChannelState::Connecting;
                    let released = channel.snapshot().released;
                    if placed
                        && released <= gate
                        && released < tail
                        && let Some(grace) = granted
                    {
                        let what = Held::OutboundChannel(number);
                        holders.push(Holder { key: number, what, taken: released, grace });
                    }
                }
            }
        }
        holders.extend(publishing.draining.iter().filter_map(|&leg| local(leg, Held::Draining(leg))));
        holders
    }

    /// Closes a consumer whose grace is over.
    fn cut_lagging(&mut self, node: NodeId, key: u64, held: Held) {
        match held {
            Held::OutboundChannel(number) => {
                if let Some(member) = self.members.get(&node) {
                    count(&member.shared.counters.too_slow);
                    if let Some(publishing) = member.publications.get(&key) {
                        count(&publishing.shared.counters.too_slow);
                    }
                }
                self.cut_serving(node, key, number, CloseCode::TOO_SLOW);
            }
            // In nobody's way but the ring's: what it has not read is gone.
            Held::Draining(leg) => self.detach(leg),
        }
    }
}

/// The time between two looks.
fn look_pause(grace: Option<Duration>) -> Duration {
    (grace.unwrap_or(LEFT_GRACE) / LOOKS_PER_GRACE).clamp(*LOOK_PAUSE.start(), *LOOK_PAUSE.end())
}

/// The readers that lag.
fn standing(ring: &Ring) -> Vec<Standing> {
    let mut readers = Vec::new();
    ring.each_reader(|reader| {
        if reader.lag > 0 {
            let taken = reader.position.wrapping_sub(reader.lost);
            readers.push(Standing { id: reader.id, position: reader.position, taken });
        }
    });
    readers
}

/// What a reader has taken. A writer that evicts moves the cursor first and counts the loss then, so that a look in
/// between sees a reader that seems to have moved by itself; hence a second look before `known` is no longer believed.
fn taken(ring: &Ring, reader: &Standing, known: Option<u64>) -> u64 {
    let mut seen = reader.taken;
    for _ in 0..CURSOR_LOOKS {
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
