//! When a session ends: its peer is dead or only slow, it is not used, or it is closed in good order.

mod harness;

use std::time::Duration;

use corewire_proto::{
    channel::Reliability,
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
fn end_that_still_hears_is_told_that_the_other_has_given_it_up() {
    for deaf in [0, 1] {
        let mut world = busy(2, Faults { delay_us: 100, ..Faults::default() });
        let start = world.now;
        world.deaf = Some(deaf);
        world.run_until(SECOND * 25, |world| world.peers.iter().all(|peer| peer.closed.is_some()));
        let took = world.now - start;
        assert!((SECOND * 9..SECOND * 13).contains(&took), "peer {deaf} is deaf: {took:?}");
        assert_eq!(world.peers[deaf].closed, Some((CloseCode::PEER_LOST, false)));
        assert_eq!(world.peers[1 - deaf].closed, Some((CloseCode::PEER_LOST, true)));
    }
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
    // Longer than the notice of an end would be repeated, and shorter than a peer that is dead would live.
    world.run_until(SECOND, |_| false);
    assert_eq!([0, 1].map(|peer| world.peers[peer].closed), [None; 2]);
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
        assert_eq!(world.peers[1].closed, Some((CloseCode::PEER_GONE, false)));
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
        world.peers[1].session.handle_unreachable(now, true);
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

#[test]
fn dead_peer_is_noticed_after_dead_after_and_idle_one_stays() {
    let mut world = World::new(1, &SessionConfig::default(), Faults { delay_us: 50, ..Faults::default() });
    world.peers[0].session.send_control(b"hello".to_vec()).unwrap();
    world.run_until(Duration::from_secs(20), |_| false);
    assert!(world.peers.iter().all(|peer| peer.closed.is_none()));
    assert!(world.peers[0].packets < 20, "keep-alive takes {} packets", world.peers[0].packets);
    world.cut = true;
    let start = world.now;
    assert!(world.run_until(Duration::from_secs(13), |world| world.peers[0].closed.is_some()));
    assert_eq!(world.peers[0].closed, Some((CloseCode::PEER_LOST, false)));
    let took = world.now - start;
    assert!(took >= Duration::from_secs(10) && took < Duration::from_millis(12_600), "{took:?}");
}

#[test]
fn idle_session_closes_with_idle_at_both_ends() {
    let config = SessionConfig { idle_timeout: Duration::from_secs(5), ..SessionConfig::default() };
    let mut world = World::new(1, &config, Faults { delay_us: 50, ..Faults::default() });
    assert!(world.run_until(Duration::from_secs(7), |world| world.peers.iter().all(|p| p.closed.is_some())));
    assert!(world.peers.iter().all(|peer| peer.closed.unwrap().0 == CloseCode::IDLE));
    assert!(world.now > (Instant::ZERO + SECOND * 5));
}

#[test]
fn end_of_a_stream_goes_before_the_close() {
    for seed in 0..20 {
        let faults = Faults { delay_us: 50, loss: 300, ..Faults::default() };
        let mut world = World::new(seed, &SessionConfig::default(), faults);
        let reliability = if seed % 2 == 0 { Reliability::FireAndForget } else { Reliability::Reliable };
        let label = world.open(0, Flow { reliability, datums: 20, ..Flow::default() });
        let sent = |world: &World| world.peers[1].rings.producing.values().any(|ring| ring.finished);
        assert!(world.run_until(Duration::from_secs(20), sent), "seed {seed}");
        let now = world.now;
        world.peers[1].session.close(now, CloseCode::GRACEFUL);
        assert!(world.peers[1].session.is_closed());
        world.run_until(Duration::from_secs(5), |world| world.peers[0].closed.is_some());
        let inbox = &world.peers[0].inboxes.consuming[&label];
        assert!(inbox.finished, "seed {seed}: closed by {:?} without an end", world.peers[0].closed);
    }
}

#[test]
fn close_waits_no_longer_than_eight_probe_timeouts_for_a_silent_peer() {
    let mut world = World::new(1, &SessionConfig::default(), Faults { delay_us: 50, ..Faults::default() });
    world.peers[1].session.send_control(vec![1]).unwrap();
    world.run_until(Duration::from_millis(50), |_| false);
    world.cut = true;
    world.peers[1].session.send_control(vec![2]).unwrap();
    let start = world.now;
    world.peers[1].session.close(start, CloseCode::GRACEFUL);
    world.run_until(Duration::from_secs(5), |world| world.peers[1].closed.is_some());
    assert_eq!(world.peers[1].closed, Some((CloseCode::GRACEFUL, false)));
    // It waits with the CLOSE, and lingers afterwards.
    assert!((SECOND / 10 + SECOND / 1_000..SECOND * 3 / 10).contains(&(world.now - start)));
}

#[test]
fn peer_on_a_long_path_that_misses_the_close_is_told_again() {
    let faults = Faults { delay_us: 100_000, ..Faults::default() };
    let mut world = World::new(1, &SessionConfig::default(), faults);
    for peer in &mut world.peers {
        peer.session.send_control(vec![1]).unwrap();
    }
    world.run_until(SECOND, |_| false);
    world.cut = true;
    let start = world.now;
    world.peers[1].session.close(start, CloseCode::NOT_ALLOWED);
    world.run_until(SECOND / 20, |_| false);
    world.cut = false;
    world.run_until(SECOND / 10, |_| false);
    world.peers[0].session.send_control(vec![2]).unwrap();
    world.run_until(SECOND / 2, |world| world.peers[0].closed.is_some());
    assert_eq!(world.peers[0].closed, Some((CloseCode::NOT_ALLOWED, true)));
    let over = |world: &World| world.peers[1].closed.is_some();
    assert!(world.run_until(start + SECOND * 2 - world.now, over), "it lingers for three probe timeouts");
}
