//! Many small internets under faults: safety at every step, liveness once the faults stop, nothing left at
//! the end.
//!
//! One seed is one run. A failure names its seed and the command that replays it. `COREWIRE_SEED` runs one
//! seed, `COREWIRE_SEEDS` sets how many are run.

#[allow(dead_code, reason = "shared with the judge, which uses the rest")]
mod swarm_rig;

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use corewire_testkit::{replay, seeds};
use swarm_rig::play::Play;

/// Seeds of one run of the test command.
const SEEDS: u64 = 200;

/// Runs one seed; gives the network's trace and how many datums were taken.
fn play(seed: u64) -> (u64, usize) {
    replay(seed, "-p corewire-engine --test swarm all_seeds", |seed| {
        let mut play = Play::new(seed);
        play.run();
        (play.internet.world.trace_hash(), play.taken)
    })
}

#[test]
fn all_seeds_keep_the_laws_and_come_right() {
    let seeds = seeds(SEEDS);
    let next = AtomicUsize::new(0);
    let taken = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    taken.fetch_add(play(seed).1 as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let taken = taken.load(Ordering::Relaxed);
    // A single seed is replayed for its laws; only on average is much taken.
    assert!(
        seeds.len() == 1 || taken > seeds.len() as u64 * 100,
        "only {taken} datums were taken: the runs prove nothing"
    );
}

#[test]
fn a_stream_outlives_the_keys_of_its_sessions() {
    let mut play = Play::new(3);
    let longest = play.grow_old(Duration::from_secs(200));
    assert!(longest < Duration::from_millis(200), "nothing arrived for {longest:?}");
    let lost = play.internet.node(1).map(|node| node.stats().sessions_lost);
    assert_eq!(lost, Some(0), "a session died of its key");
    play.end();
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 2] {
        assert_eq!(play(seed), play(seed), "seed {seed} does not replay");
    }
}
