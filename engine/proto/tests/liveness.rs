//! Dead or only slow: when a session ends for want of its peer, and when a channel gives a datum up.

mod harness;

use std::time::Duration;

use corewire_proto::{
    session::{CloseCode, SessionConfig},
    time::Instant,
};
use harness::{Faults, Flow, Process, World};

const SECOND: Duration = Duration::from_secs(1);

/// Two peers with a stream that does not end, after half a second of traffic.
fn busy(seed: u64, faults: Faults) -> World {
    let mut world = World::new(seed, &SessionConfig::default(), faults);
    world.tick = Duration::from_millis(5);
    world.open(0, Flow { datums: 1 << 40, ..Flow::default() });
    world.run_until(SECOND / 2, |_| false);
    assert!(delivered(&world) > 1_000);
    world
}

fn delivered(world: &World) -> u64 {
    world.peers[0].inboxes.consuming.values().map(|inbox| inbox.delivered).sum()
}

fn run_until(world: &mut World, end: Instant) {
    world.run_until(end - world.now, |_| false);
}

#[test]
fn path_that_is_cut_for_eight_seconds_keeps_session_and_datums() {
    for seed in 0..3 {
        let mut world = busy(seed, Faults { delay_us: 100, loss: 20, ..Faults::default() });
        let end = world.now + SECOND * 8;
        world.cut = true;
        world.run_until(SECOND * 3 / 2, |_| false);
        assert!(world.peers[1].suspect.is_some_and(|silent_for| silent_for >= SECOND), "seed {seed}");
        run_until(&mut world, end);
        world.cut = false;
        let before = delivered(&world);
        world.run_until(SECOND * 3, |_| false);
        assert!(world.peers.iter().all(|peer| peer.closed.is_none()), "seed {seed}");
        assert!(delivered(&world) > before + 1_000, "seed {seed}");
        assert_eq!(world.peers[1].suspect, None, "seed {seed}: it has recovered");
    }
}

#[test]
fn stream_ends_at_its_producer_after_it_ended_at_its_consumer() {
    for seed in 0..20 {
        let faults = Faults { delay_us: 100, loss: 300, ..Faults::default() };
        let mut world = World::new(seed, &SessionConfig::default(), faults);
        world.open(0, Flow { datums: 50, ..Flow::default() });
        let ended = world.run_until(SECOND * 30, |world| {
            let producing = &world.peers[1].rings.producing;
            !producing.is_empty() && producing.values().all(|ring| ring.finished)
        });
        assert!(ended, "seed {seed}");
        let consuming = &world.peers[0].inboxes.consuming;
        assert!(consuming.values().all(|inbox| inbox.finished), "seed {seed}: FIN was lost");
    }
}

#[test]
fn peer_that_is_silent_for_ten_seconds_is_lost() {
    let mut world = busy(1, Faults { delay_us: 100, ..Faults::default() });
    let start = world.now;
    world.cut = true;
    world.run_until(SECOND * 20, |world| world.peers.iter().all(|peer| peer.closed.is_some()));
    assert!(world.peers.iter().all(|peer| peer.closed == Some((CloseCode::PEER_LOST, false))));
    assert!((SECOND * 9..SECOND * 13).contains(&(world.now - start)), "{:?}", world.now - start);
}

#[test]
fn probes_close_no_session_before_dead_after() {
    let config = SessionConfig { dead_after: SECOND * 60, ..SessionConfig::default() };
    let mut world = World::new(1, &config, Faults { delay_us: 100, ..Faults::default() });
    world.tick = Duration::from_millis(5);
    world.open(0, Flow { datums: 1 << 40, ..Flow::default() });
    world.run_until(SECOND / 2, |_| false);
    world.cut = true;
    world.run_until(SECOND * 50, |_| false);
    assert!(world.peers.iter().all(|peer| peer.closed.is_none()));
    world.cut = false;
    let before = delivered(&world);
    world.run_until(SECOND * 3, |_| false);
    assert!(delivered(&world) > before + 1_000);
}

#[test]
fn process_that_is_stopped_for_three_seconds_loses_nothing() {
    for stopped in [0, 1] {
        let mut world = busy(3, Faults { delay_us: 100, ..Faults::default() });
        world.peers[stopped].process = Process::Stopped;
        world.run_until(SECOND * 3, |_| false);
        assert_eq!(world.peers[1 - stopped].suspected, 1);
        let before = delivered(&world);
        world.go_on(stopped);
        world.run_until(SECOND, |_| false);
        assert!(world.peers.iter().all(|peer| peer.closed.is_none()));
        assert!(delivered(&world) > before + 1_000);
    }
}

#[test]
fn stalled_host_reads_its_socket_before_it_declares_a_peer_dead() {
    // The peer lives for longer than the stall, so only the stalled side could end the session.
    let config = SessionConfig { dead_after: SECOND * 2, ..SessionConfig::default() };
    let mut world = World::new(3, &config, Faults { delay_us: 100, ..Faults::default() });
    world.open(0, Flow { datums: 1 << 40, take: 1, ..Flow::default() });
    // It waits for an acknowledgement when it stops.
    let waits = |world: &World| world.peers[1].session.session_stats().bytes_in_flight > 0;
    world.run_until(SECOND / 2, |_| false);
    assert!(world.run_until(SECOND, waits));
    world.peers[1].process = Process::Stopped;
    world.run_until(SECOND * 19 / 10, |_| false);
    // A step of the clock of the stalled host alone.
    world.now += SECOND;
    world.go_on(1);
    assert_eq!(world.peers[1].closed, None);
}

#[test]
fn killed_process_is_known_as_gone_in_about_a_second() {
    for idle in [false, true] {
        let mut world = busy(5, Faults { delay_us: 100, ..Faults::default() });
        if idle {
            let labels: Vec<_> = world.peers[0].inboxes.consuming.keys().copied().collect();
            world.peers[0].session.reset(labels[0], CloseCode::GRACEFUL).unwrap();
            world.run_until(SECOND / 2, |_| false);
        }
        world.peers[0].process = Process::Killed;
        let start = world.now;
        world.run_until(SECOND * 20, |world| world.peers[1].closed.is_some());
        assert_eq!(world.peers[1].closed, Some((CloseCode::PEER_LOST, false)));
        // An idle session finds out with its next keep-alive.
        let limit = if idle { SECOND * 7 / 2 } else { SECOND * 3 / 2 };
        assert!(world.now - start < limit, "{:?}", world.now - start);
    }
}

#[test]
fn forged_refusals_do_not_end_a_session_whose_peer_answers() {
    let mut world = busy(7, Faults { delay_us: 100, loss: 50, ..Faults::default() });
    for _ in 0..500 {
        let now = world.now;
        world.peers[1].session.handle_unreachable(now);
        world.run_until(SECOND / 100, |_| false);
    }
    assert!(world.peers.iter().all(|peer| peer.closed.is_none()));
}

#[test]
fn idle_session_sends_one_keepalive_per_fifth_of_dead_after() {
    let mut world = World::new(1, &SessionConfig::default(), Faults { delay_us: 100, ..Faults::default() });
    world.tick = SECOND / 10;
    world.peers[0].session.send_control(vec![1]).unwrap();
    world.run_until(SECOND, |_| false);
    let sent = |world: &World| -> u64 {
        world.peers.iter().map(|peer| peer.session.session_stats().packets_sent).sum()
    };
    let before = sent(&world);
    world.run_until(SECOND * 60, |_| false);
    assert!((55..=62).contains(&(sent(&world) - before)), "a PING and its answer: {}", sent(&world) - before);
}
