//! What a datum costs does not depend on how many other channels are there and idle.
//!
//! The instructions of a datum are counted with callgrind, as the notebook in `perf/` says; for that
//! `COREWIRE_IDLE` and `COREWIRE_DATUMS` replace the numbers below.

mod shard_rig;

use std::time::Duration;

use corewire_engine::counters::Counter;
use corewire_proto::session::SessionConfig;
use corewire_testkit::env_number;
use shard_rig::{Leg, Rig, Setup, Wish, publish, ring};

/// Channels of one session, and of one ring.
const OF_A_SESSION: usize = 1_000;
const OF_A_RING: usize = 10;

/// What the shards do for the datums of one channel beside `idle` others: turns, and work by kind.
fn work(idle: usize, datums: usize) -> Vec<u64> {
    let mut rig = Rig::new(Setup::default());
    let wish = Wish { window_bytes: 4_096, max_datum: 64, ..Wish::default() };
    let rings: Vec<_> = (0..idle.div_ceil(OF_A_RING)).map(|_| ring(4, 256)).collect();
    let mut others: Vec<Leg> = Vec::with_capacity(idle);
    for number in 0..idle {
        let slot = 1 + (number / OF_A_SESSION) as u32;
        if number % OF_A_SESSION == 0 {
            rig.connect(slot, &SessionConfig::default());
        }
        others.push(rig.subscribe(slot, &rings[number / OF_A_RING], wish.clone()));
    }
    rig.connect(0, &SessionConfig::default());
    let busy = ring(16, 4_096);
    let mut leg = rig.subscribe(0, &busy, wish);
    // What the start has left to do, acknowledgements of the last channels among it.
    rig.run_for(Duration::from_millis(100));
    let kinds = [
        Counter::RingPolls,
        Counter::TimersFired,
        Counter::TimersPutOff,
        Counter::PacketsSent,
        Counter::DatumsDelivered,
        Counter::RingsArmed,
        Counter::RingsWoken,
        Counter::Grants,
    ];
    let count = |rig: &Rig| -> Vec<u64> {
        [&rig.left, &rig.right]
            .into_iter()
            .flat_map(|side| {
                let seen = side.counters.snapshot();
                kinds.map(|kind| seen.get(kind)).into_iter().chain([side.turns as u64])
            })
            .collect()
    };
    let before = count(&rig);
    for _ in 0..datums {
        assert_eq!(publish(&busy, 1, 64), 1);
        rig.run_until(Duration::from_secs(1), |_| leg.take(1).0 == 1);
    }
    count(&rig).iter().zip(before).map(|(after, before)| after - before).collect()
}

#[test]
fn idle_channels_add_no_work_to_a_datum() {
    let datums = env_number("COREWIRE_DATUMS").unwrap_or(200) as usize;
    let numbers = env_number("COREWIRE_IDLE").map_or(vec![1, 100, 1_000], |idle| vec![idle as usize]);
    let all: Vec<_> = numbers.iter().map(|idle| work(*idle, datums)).collect();
    for (idle, work) in numbers.iter().zip(&all) {
        assert_eq!(work, &all[0], "beside {idle} idle channels and beside {}", numbers[0]);
    }
}
