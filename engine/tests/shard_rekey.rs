//! Nearly ten minutes of a session's life in the simulator, with the key's real times.

mod shard_rig;

use std::time::Duration;

use corewire_engine::{
    counters::Counter,
    driver::sim::Link,
    shard::{Command, Event, Rekey},
    shared::ChannelState,
};
use corewire_proto::{
    session::{CloseCode, SessionConfig},
    time::Instant,
};
use shard_rig::{Leg, Rig, Setup, Wish, index, keys, publish, ring};

const SLOT: u32 = 1;

fn rough() -> Link {
    Link {
        loss: 0.1,
        duplicate: 0.05,
        reorder: 0.1,
        reorder_by: Duration::from_millis(2),
        corrupt: 0.01,
        ..Link::CLEAN
    }
}

/// Does what two clerks would, where a shard asks for a key: the other side gets it first.
fn rekey_if_due(rig: &mut Rig, changed: &mut Vec<Instant>) {
    let due = |event: &Event| matches!(event, Event::RekeyDue { .. }).then_some(());
    let (left, right) = (rig.left.pick(due).is_some(), rig.right.pick(due).is_some());
    // Where both ask for one key, they get one.
    let fresh = changed.last().is_some_and(|at| rig.now() < *at + Duration::from_secs(10));
    if !(left || right) || fresh {
        return;
    }
    changed.push(rig.now());
    let phase = changed.len() as u8;
    let rekey = |index, mirrored, confirmed| {
        Command::RekeySession(Box::new(Rekey { index, phase, keys: keys(100 + phase, mirrored), confirmed }))
    };
    let (here, there) = (index(SLOT, 0x1000 + SLOT), index(SLOT, 0x2000 + SLOT));
    if left {
        rig.right.tell(rekey(there, true, false));
        rig.run_for(Duration::from_millis(30));
        rig.left.tell(rekey(here, false, true));
    } else {
        rig.left.tell(rekey(here, false, false));
        rig.run_for(Duration::from_millis(30));
        rig.right.tell(rekey(there, true, true));
    }
    rig.settle();
}

/// A few datums, then a pause, again and again.
fn live(rig: &mut Rig, leg: &mut Leg, rounds: usize, rekeys: bool) -> usize {
    let ring = ring(4_096, 1 << 20);
    *leg = rig.subscribe(SLOT, &ring, Wish::default());
    let mut changed = Vec::new();
    for _ in 0..rounds {
        assert_eq!(publish(&ring, 20, 300), 20, "nothing stops the ring");
        let mut taken = 0;
        let end = rig.now() + Duration::from_secs(1);
        while rig.now() < end && rig.step() {
            let (n, skipped) = leg.take(usize::MAX);
            assert_eq!(skipped, 0);
            taken += n;
            if rekeys {
                rekey_if_due(rig, &mut changed);
            }
        }
        if leg.producer.state() != ChannelState::Connected {
            return changed.len();
        }
        assert_eq!(taken, 20, "at {:?}", rig.now());
    }
    changed.len()
}

fn connected(seed: u64) -> (Rig, Leg) {
    let mut rig = Rig::new(Setup { seed, link: rough(), ..Setup::default() });
    // Patient: a tenth of all packets is lost for ten minutes.
    let config = SessionConfig { dead_after: Duration::from_secs(5), ..SessionConfig::default() };
    rig.connect(SLOT, &config);
    let leg = rig.subscribe(SLOT, &ring(16, 1 << 16), Wish::default());
    (rig, leg)
}

#[test]
fn nearly_ten_minutes_on_a_rough_link_under_changing_keys() {
    let (mut rig, mut leg) = connected(3);
    let changes = live(&mut rig, &mut leg, 580, true);
    assert_eq!(changes, 4, "every two minutes");
    assert_eq!(leg.producer.state(), ChannelState::Connected);
    assert_eq!(leg.consumer.snapshot().datums, 11_600);
    assert_eq!(rig.left.count(Counter::KeysChanged), 4);
    assert_eq!(rig.right.count(Counter::KeysChanged), 4);
    assert_eq!(rig.left.count(Counter::RefusedCommands) + rig.right.count(Counter::RefusedCommands), 0);
}

#[test]
fn a_session_that_gets_no_new_key_ends_with_the_old_one() {
    let (mut rig, mut leg) = connected(4);
    live(&mut rig, &mut leg, 600, false);
    let age = rig.now().as_nanos() / 1_000_000_000;
    assert!((179..=183).contains(&age), "after {age} s");
    assert_eq!(leg.producer.close_code(), Some(CloseCode::KEY_EXHAUSTED));
}
