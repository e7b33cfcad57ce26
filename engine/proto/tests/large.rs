//! Large datums of several channels at once, in less memory than all of them need.

mod harness;

use std::time::Duration;

use corewire_proto::{channel::Reliability, session::SessionConfig};
use corewire_testkit::seeds;
use harness::{Faults, Flow, World};

const DATUM: usize = 250_000;

/// Half of what is held is for large datums: two of them.
fn config() -> SessionConfig {
    let mut config = SessionConfig::default();
    config.limits.max_held_bytes = 1 << 20;
    config
}

fn flow(datums: u64, length: fn(u64) -> usize) -> Flow {
    Flow { datums, length, window_bytes: 2 << 20, ..Flow::default() }
}

#[test]
fn five_channels_in_the_middle_of_large_datums_all_finish() {
    for seed in seeds(4) {
        let faults = Faults { loss: 20, reorder: 20, delay_us: 200, ..Faults::default() };
        let mut world = World::new(seed, &config(), faults);
        for _ in 0..5 {
            world.open(0, flow(4, |_| DATUM));
        }
        let small = world.open(0, flow(3_000, |_| 100));
        assert!(world.run_until(Duration::from_secs(20), World::all_finished), "seed {seed}");
        let consumer = world.peers[0].session.session_stats();
        assert_eq!(consumer.refused_packets, 0, "seed {seed}: more was begun than there is memory for");
        assert_eq!(world.peers[0].inboxes.consuming[&small].delivered, 3_000);
    }
}

#[test]
fn five_of_the_largest_datums_at_once_all_finish_with_default_limits() {
    const LARGEST: usize = (64 << 20) - 2;
    let mut world = World::new(3, &SessionConfig::default(), Faults { delay_us: 50, ..Faults::default() });
    for _ in 0..5 {
        let max_datum = LARGEST as u32;
        let window_bytes = 65 << 20;
        world.open(0, Flow { datums: 1, length: |_| LARGEST, max_datum, window_bytes, ..Flow::default() });
    }
    assert!(world.run_until(Duration::from_secs(60), World::all_finished));
    assert_eq!(world.peers[0].session.session_stats().refused_packets, 0);
}

#[test]
fn large_datums_of_mixed_sizes_and_directions_share_the_room() {
    for seed in seeds(4) {
        let faults = Faults { loss: 30, delay_us: 100, ..Faults::default() };
        let mut world = World::new(seed, &config(), faults);
        for index in 0..8 {
            let length: fn(u64) -> usize = |seq| [2_000, 90_000, 400_000, 10][seq as usize % 4];
            world.open(index % 2, flow(8, length));
        }
        assert!(world.run_until(Duration::from_secs(60), World::all_finished), "seed {seed}");
        for peer in &world.peers {
            assert_eq!(peer.session.session_stats().refused_packets, 0, "seed {seed}");
        }
    }
}

#[test]
fn channel_that_ends_in_the_middle_of_a_datum_gives_its_room_to_the_next() {
    let mut world = World::new(1, &config(), Faults { delay_us: 100, ..Faults::default() });
    let longest = 500_000;
    let first = world.open(0, flow(1 << 40, |_| 500_000));
    let second = world.open(0, flow(2, |_| 500_000));
    let held = |world: &World| world.peers[0].session.session_stats().held_bytes as usize;
    assert!(world.run_until(Duration::from_secs(1), |world| held(world) > longest));
    world.peers[0].session.reset(first, corewire_proto::session::CloseCode::GRACEFUL).unwrap();
    world.peers[0].inboxes.consuming.get_mut(&first).unwrap().closed =
        Some(corewire_proto::session::CloseCode::GRACEFUL);
    let finished = |world: &World| world.peers[0].inboxes.consuming[&second].finished;
    assert!(world.run_until(Duration::from_secs(10), finished));
    assert_eq!(held(&world), 0);
}

#[test]
fn large_fire_and_forget_datums_without_room_are_lost_and_counted() {
    let mut world = World::new(1, &config(), Faults { loss: 20, delay_us: 100, ..Faults::default() });
    for _ in 0..6 {
        let reliability = Reliability::FireAndForget;
        world.open(0, Flow { reliability, ..flow(20, |_| DATUM) });
    }
    let whole = world.open(0, flow(6, |_| DATUM));
    assert!(world.run_until(Duration::from_secs(60), World::all_finished));
    assert_eq!(world.peers[0].inboxes.consuming[&whole].delivered, 6, "Reliable has its own room");
    for inbox in world.peers[0].inboxes.consuming.values() {
        assert!(inbox.delivered + inbox.skipped <= 20);
    }
}

#[test]
fn datum_longer_than_the_room_is_refused_at_the_opening() {
    let mut world = World::new(1, &config(), Faults { delay_us: 100, ..Faults::default() });
    let label = world.open(0, flow(1, |_| 1));
    assert!(world.run_until(Duration::from_secs(1), World::all_finished));
    assert!(world.peers[0].inboxes.consuming[&label].finished);
    let asked = world.peers[1].asked.values().copied().collect::<Vec<_>>();
    assert_eq!(asked, [(1 << 19) - 384], "half of what is held, less what the datum costs beside");
}
