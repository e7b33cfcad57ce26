//! Eviction of datums under a shard's cursor: every gap is reported with its exact size, and streams go on.

mod shard_rig;

use std::time::Duration;

use corewire_engine::driver::sim::Link;
use corewire_proto::{channel::Reliability, session::SessionConfig};
use corewire_rings::Ring;
use shard_rig::{Leg, Rig, Setup, Wish, ring};

const LONG: Duration = Duration::from_secs(600);

fn connected(seed: u64, link: Link) -> Rig {
    let mut rig = Rig::new(Setup { seed, link, ..Setup::default() });
    rig.connect(1, &SessionConfig::default());
    rig
}

fn bad_link() -> Link {
    Link { loss: 0.15, duplicate: 0.05, reorder: 0.1, reorder_by: Duration::from_micros(500), ..Link::CLEAN }
}

/// Publishes one datum of `len` bytes that holds its sequence, evicting the readers that lag.
fn push_evicting(ring: &Ring, len: usize) {
    let writer = ring.writer();
    let mut claim = writer.claim_evicting(len, |_, _| {}).expect("no reader is pinned between turns");
    let seq = claim.seq();
    claim.fill(seq as u8);
    claim[..8].copy_from_slice(&seq.to_le_bytes());
    claim.commit();
}

/// Takes at most `most`; adds what came and what was missing before it.
fn take(leg: &mut Leg, most: usize, sum: &mut (u64, u64)) {
    let (taken, skipped) = leg.take(most);
    sum.0 += taken as u64;
    sum.1 += skipped;
}

/// Publishes `datums` by eviction while the consumer takes `most` at a time, closes the ring, and lets the
/// consumer drain. Every number is either received or part of a reported gap.
fn play(rig: &mut Rig, wish: Wish, datums: u64, most: usize, len: impl Fn(u64) -> usize) -> (Leg, u64) {
    let ring = ring(16, 1 << 14);
    let mut leg = rig.subscribe(1, &ring, wish);
    let mut sum = (0, 0);
    for n in 0..datums {
        push_evicting(&ring, len(n));
        if n % 5 == 0 {
            rig.step();
        }
        if n % 7 == 0 {
            take(&mut leg, most, &mut sum);
        }
    }
    ring.close();
    rig.run_until(LONG, |_| {
        take(&mut leg, most, &mut sum);
        leg.is_over()
    });
    let at_end = leg.inbox.as_ref().expect("the test keeps it").missing_at_end();
    assert_eq!(sum.0 + sum.1 + at_end, datums, "taken {}, gaps {}, {at_end} at the end", sum.0, sum.1);
    rig.run_until(LONG, |_| ring.is_empty());
    assert!(sum.1 > 0, "nothing was evicted");
    (leg, sum.1 + at_end)
}

#[test]
fn gaps_are_exact_on_a_clean_link() {
    for window_datums in [0, 1, 4, 64] {
        let wish = Wish { window_datums, window_bytes: 2_048, ..Wish::default() };
        let mut rig = connected(1, Link::CLEAN);
        let (leg, missing) = play(&mut rig, wish, 2_000, 3, |_| 64);
        let (left, right) = (leg.producer.snapshot(), leg.consumer.snapshot());
        assert_eq!((left.skipped, right.skipped), (missing, missing));
        assert_eq!((left.datums, right.datums), (2_000 - missing, 2_000 - missing));
        assert_eq!((left.position, right.position), (2_000, 2_000));
    }
}

#[test]
fn gaps_are_exact_whatever_the_link_loses_and_repeats() {
    for seed in 0..24 {
        // Small windows pass the limit by number, large ones leave much to be evicted after it was sent.
        let window_datums = [0, 1, 3, 64][seed as usize % 4];
        let wish = Wish { window_datums, window_bytes: 8_192, ..Wish::default() };
        let mut rig = connected(seed, bad_link());
        let (leg, missing) = play(&mut rig, wish, 1_500, 4, |n| 16 + (n as usize * 37) % 200);
        assert_eq!(leg.consumer.snapshot().skipped, missing, "seed {seed}");
    }
}

#[test]
fn datums_that_are_evicted_in_the_middle_of_their_pieces_are_gaps_too() {
    for seed in 0..16 {
        let wish = Wish { window_bytes: 16_384, ..Wish::default() };
        // Each datum of 6,000 bytes goes in several packets.
        let link = Link { mtu_bytes: 1_452, reports_mtu: true, ..bad_link() };
        let mut rig = connected(seed, link);
        play(&mut rig, wish, 600, 2, |n| if n % 3 == 0 { 6_000 } else { 100 });
    }
}

#[test]
fn fire_and_forget_tells_the_same_gaps() {
    for seed in 0..16 {
        let wish = Wish {
            reliability: Reliability::FireAndForget,
            window_bytes: 4_096,
            window_datums: [0, 8][seed as usize % 2],
            ..Wish::default()
        };
        let mut rig = connected(seed, bad_link());
        play(&mut rig, wish, 1_500, 4, |_| 100);
    }
}

#[test]
fn a_channel_that_keeps_up_loses_nothing_beside_one_that_does_not() {
    let mut rig = connected(1, Link::CLEAN);
    rig.connect(2, &SessionConfig::default());
    let ring = ring(16, 1 << 14);
    let mut fast = rig.subscribe(1, &ring, Wish::default());
    let mut slow = rig.subscribe(2, &ring, Wish { window_datums: 2, ..Wish::default() });
    let (mut of_fast, mut of_slow) = ((0, 0), (0, 0));
    for n in 0..500 {
        push_evicting(&ring, 64);
        rig.run_until(LONG, |_| {
            take(&mut fast, usize::MAX, &mut of_fast);
            of_fast.0 > n
        });
    }
    assert_eq!(of_fast, (500, 0));
    ring.close();
    rig.run_until(LONG, |_| {
        take(&mut slow, 1, &mut of_slow);
        slow.is_over()
    });
    assert_eq!(of_slow.0 + of_slow.1, 500);
    assert!(of_slow.1 > 400);
    assert_eq!(slow.producer.snapshot().skipped, of_slow.1);
    assert_eq!(fast.producer.snapshot().skipped, 0);
}

#[test]
fn a_consumer_that_takes_nothing_pins_nothing() {
    let mut rig = connected(1, Link::CLEAN);
    let ring = ring(4, 1_024);
    let wish = Wish { window_datums: 2, ..Wish::default() };
    let mut leg = rig.subscribe(1, &ring, wish);
    rig.run_for(Duration::from_millis(50));
    for _ in 0..10_000 {
        // `push_evicting` fails if the shard holds its cursor between turns.
        push_evicting(&ring, 32);
        rig.settle();
    }
    rig.run_for(Duration::from_secs(5));
    let mut sum = (0, 0);
    rig.run_until(LONG, |_| {
        take(&mut leg, 1, &mut sum);
        sum.0 + sum.1 == 10_000
    });
    assert_eq!(sum.0, 6, "two in the inbox and what the ring still had");
}

#[test]
fn stream_that_drops_more_than_its_window_per_round_trip_goes_on() {
    for reliability in [Reliability::Reliable, Reliability::FireAndForget] {
        let link = Link { delay: Duration::from_millis(5), ..Link::CLEAN };
        let mut rig = connected(1, link);
        let ring = ring(16, 1 << 14);
        let mut leg = rig.subscribe(1, &ring, Wish { reliability, window_datums: 8, ..Wish::default() });
        let mut sum = (0, 0);
        // 100 datums in each millisecond, for a hundred round trips.
        for _ in 0..1_000 {
            for _ in 0..100 {
                push_evicting(&ring, 32);
            }
            rig.run_for(Duration::from_millis(1));
            take(&mut leg, usize::MAX, &mut sum);
        }
        assert!(sum.0 >= 400, "{} datums in a hundred round trips of eight", sum.0);
        assert!(sum.1 > 90_000);
    }
}
