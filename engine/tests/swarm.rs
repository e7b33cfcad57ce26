//! Many small internets under faults: safety at every step, liveness once the faults stop, nothing left at
//! the end.
//!
//! One seed is one run. A failure names its seed and the command that replays it. `COREWIRE_SEED` runs one
//! seed, `COREWIRE_SEEDS` sets how many are run.

mod swarm_rig;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use swarm_rig::play::Play;

/// Seeds of one run of the test command.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; gives the network's trace and how many datums were taken.
fn play(seed: u64) -> (u64, usize) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut play = Play::new(seed);
        play.run();
        (play.internet.world.trace_hash(), play.taken)
    }));
    outcome.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        panic!(
            "seed {seed}: {text}\nreplay: COREWIRE_SEED={seed} cargo test -p corewire-engine --test swarm all_seeds"
        );
    })
}

#[test]
fn all_seeds_keep_the_laws_and_come_right() {
    if let Some(seed) = number("COREWIRE_SEED") {
        play(seed);
        return;
    }
    let seeds = number("COREWIRE_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let taken = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    taken.fetch_add(play(seed).1 as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken > seeds * 100, "only {taken} datums were taken: the runs prove nothing");
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
