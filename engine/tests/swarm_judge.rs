//! The judge: many small internets with default settings under every fault of a benign network and host. The
//! laws hold at every step and across reconnects; without faults everything comes right and to rest.
//!
//! One seed is one run. A failure prints what happened last and the command that replays it; a replay also
//! prints which faults the failure needs. `COREWIRE_SEED` runs one seed, `COREWIRE_SEEDS` sets how many are
//! run, and `COREWIRE_FAULTS` allows only some faults, by their names in the table.

#[path = "swarm_rig/faults.rs"]
mod faults;
#[path = "swarm_rig/judge.rs"]
mod judge;
#[allow(dead_code, reason = "shared with the swarm, which uses the rest")]
mod swarm_rig;
#[path = "swarm_rig/weather.rs"]
mod weather;

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use corewire_testkit::{replay, seeds};
use faults::{FaultSet, Tally};
use judge::Judge;

/// Seeds of one run of the test command.
const SEEDS: u64 = 16;

/// A long run prints what it has done so far after this many seeds.
const SEEDS_PER_TABLE: u64 = 500;

/// Seeds from which on every fault has to have happened.
const SEEDS_FOR_ALL: u64 = 100;

thread_local! {
    /// A failing run prints what led to it.
    static TRACED: Cell<bool> = const { Cell::new(true) };
}

fn wants_trace() -> bool {
    TRACED.get()
}

fn judge(seed: u64, faults: FaultSet) -> Tally {
    Judge::new(seed, faults).run()
}

/// Runs one seed. If it fails and `alone`, looks for the faults that the failure needs.
#[expect(clippy::print_stderr, reason = "part of a failing test's output")]
fn run(seed: u64, faults: FaultSet, alone: bool) -> Tally {
    replay(seed, "-p corewire-engine --test swarm_judge all_seeds", |seed| {
        let failed = match catch_unwind(AssertUnwindSafe(|| judge(seed, faults))) {
            Ok(tally) => return tally,
            Err(failed) if alone => failed,
            Err(failed) => std::panic::resume_unwind(failed),
        };
        TRACED.set(false);
        let mut needed = faults;
        for fault in faults.iter() {
            let fewer = needed.without(fault);
            if catch_unwind(AssertUnwindSafe(|| judge(seed, fewer))).is_err() {
                needed = fewer;
            }
        }
        TRACED.set(true);
        eprintln!("seed {seed} fails with COREWIRE_FAULTS={needed} as well");
        std::panic::resume_unwind(failed)
    })
}

#[test]
fn all_seeds_keep_the_laws_under_every_fault() {
    let (seeds, faults) = (seeds(SEEDS), FaultSet::from_environment());
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Tally::default());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tally = run(seed, faults, seeds.len() == 1);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.merge(&tally);
                    if total.seeds().is_multiple_of(SEEDS_PER_TABLE) {
                        eprintln!("{total}");
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    eprintln!("{total}");
    let many = seeds.len() as u64;
    assert!(many == 1 || total.outcome("datums taken") > many * 1_000, "the runs prove nothing");
    if many >= SEEDS_FOR_ALL && faults == FaultSet::ALL {
        let missing: Vec<_> = total.missing().iter().collect();
        assert!(missing.is_empty(), "faults that never happened: {missing:?}");
    }
}
