//! A producer that discards its stream at any moment: what each consumer got and what it is told to have
//! missed is what was sent, and the producer counts the same.

#[allow(dead_code, reason = "shared with the scenarios of one fault")]
#[path = "swarm_rig/pair.rs"]
mod pair;
#[allow(dead_code, reason = "shared with the swarm, which uses the rest")]
mod swarm_rig;

use std::time::Duration;

use corewire_engine::{
    driver::sim::Link,
    shared::ChannelState,
    subscription::{Leg, SubscribeSpec, Subscription},
};
use corewire_proto::session::CloseCode;
use corewire_testkit::{replay, seeds};
use pair::Pair;
use swarm_rig::Dice;

/// Seeds of one run of the test command.
const SEEDS: u64 = 60;

/// A consumer on the producer's host, which reads the producer's ring.
struct Local {
    /// `None`: it has left.
    leg: Option<(Subscription, Leg)>,
    /// The sequence after the last datum that it has taken.
    next: u64,
}

impl Local {
    /// Takes at most `most` datums, and shows it in the channel's counters as the typed layer does. That may
    /// be later (`shows` is false), but not later than it leaves.
    fn take(&mut self, most: u64, shows: bool) {
        let Some((_, leg)) = &mut self.leg else { return };
        for _ in 0..most {
            let Ok(Some(taken)) = leg.inbox_mut().try_recv() else { break };
            assert_eq!((taken.seq(), taken.skipped()), (self.next, 0));
            self.next = taken.seq() + 1;
        }
        if shows {
            leg.channel().shared().counters().delivered(0, 0, 0, self.next);
        }
    }

    /// It takes more, and may leave, before the clerk looks.
    fn go_on(&mut self, dice: &mut Dice) {
        self.take(dice.below(20), dice.percent(50));
        if dice.percent(20) {
            self.take(0, true);
            self.leg = None;
        }
    }

    fn is_over(&self) -> bool {
        let over = |leg: &Leg| {
            leg.channel().shared().state() == ChannelState::Terminated
                && leg.channel().shared().end_seq().is_some()
        };
        self.leg.as_ref().is_none_or(|(_, leg)| over(leg))
    }
}

/// Consumers on the producer's host that have connected.
fn locals(pair: &mut Pair, count: u64) -> Vec<Local> {
    let stream = pair.consumer.stream;
    (0..count)
        .map(|_| {
            let node = pair.internet.node(0).expect("a host that runs");
            let subscription = node.subscribe(SubscribeSpec::new(stream)).expect("a node has room");
            let mut leg = None;
            pair.run_until("a local leg", |_| {
                leg = leg.take().or_else(|| subscription.take_leg());
                leg.is_some()
            });
            let leg = leg.expect("it is there");
            let next = leg.inbox().position();
            Local { leg: Some((subscription, leg)), next }
        })
        .collect()
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut pair = Pair::connected(|spec| spec);
    let count = dice.below(4);
    let mut locals = locals(&mut pair, count);
    let delay = Duration::from_micros(20 + dice.below(2_000));
    let loss = dice.part(0.2);
    pair.internet.world.set_default_link(Link { delay, loss, ..Link::CLEAN });
    for _ in 0..dice.below(30) {
        for _ in 0..dice.below(30) {
            pair.push();
        }
        locals.iter_mut().for_each(|local| local.take(dice.below(20), true));
        pair.consumer.gather();
        pair.consumer.take(dice.below(20) as usize, &pair.lives);
        pair.internet.run_for(Duration::from_micros(1 + dice.below(5_000)));
    }
    for _ in 0..dice.below(30) {
        pair.push();
    }
    let publication = pair.life().publication.take().expect("it is open");
    publication.discard();
    locals.iter_mut().for_each(|local| local.go_on(&mut dice));
    pair.run_until("the end of all channels", |pair| {
        pair.take();
        let over = publication.channels().is_empty() && locals.iter().all(Local::is_over);
        over && pair.consumer.taps.is_empty()
    });
    let sent = pair.accepted();
    let mut untaken = 0;
    for local in &mut locals {
        local.take(u64::MAX, true);
        untaken += sent - local.next;
        let Some((_, leg)) = &local.leg else { continue };
        let shared = leg.channel().shared();
        assert_eq!((shared.close_code(), shared.end_seq()), (Some(CloseCode::DISCARDED), Some(sent)));
    }
    let account = pair.account();
    // It has connected before the first datum.
    assert_eq!(account.taken + account.told(), sent, "received and told as missing: {account:?}");
    let stats = publication.stats();
    let remote = stats.skipped_at_close - untaken;
    // Acknowledgements may be on their way; what is acknowledged has arrived.
    assert!((account.told()..=sent).contains(&remote), "{remote} of {account:?}, {stats:?}");
}

#[test]
fn what_is_sent_is_received_or_told_when_a_stream_is_discarded() {
    for seed in seeds(SEEDS) {
        replay(seed, "-p corewire-engine --test swarm_discard", play);
    }
}

#[test]
fn datums_of_local_consumers_that_are_discarded_are_counted_exactly() {
    for seed in seeds(SEEDS) {
        replay(seed, "-p corewire-engine --test swarm_discard", |seed| {
            let mut dice = Dice::new(seed);
            let mut pair = Pair::connected(|spec| spec);
            let mut locals = locals(&mut pair, 1 + dice.below(3));
            // The consumer on the other host has everything, so that only those here lack anything.
            for _ in 0..dice.below(40) {
                pair.push();
            }
            pair.drain();
            pair.run_until("the last acknowledgement", |pair| {
                let channels = pair.life().publication.as_ref().map(|publication| publication.channels());
                let sent = pair.accepted();
                let mut remote =
                    channels.iter().flat_map(|all| all.iter()).filter(|channel| !channel.is_local());
                remote.all(|channel| channel.shared().snapshot().released == sent)
            });
            let publication = pair.life().publication.take().expect("it is open");
            publication.discard();
            locals.iter_mut().for_each(|local| local.go_on(&mut dice));
            pair.run_until("the end of all channels", |_| {
                publication.channels().is_empty() && locals.iter().all(Local::is_over)
            });
            let sent = pair.accepted();
            let untaken: u64 = locals.iter().map(|local| sent - local.next).sum();
            assert_eq!(publication.stats().skipped_at_close, untaken);
        });
    }
}
