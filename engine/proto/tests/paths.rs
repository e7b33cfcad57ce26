//! What paths do to packets: their size, and the addresses of their ends.

mod harness;

use std::time::Duration;

use corewire_proto::{
    channel::Reliability,
    congestion::Congestion,
    handshake::MAX_HANDSHAKE_BYTES,
    session::{CloseCode, MIN_PACKET_BYTES, SessionConfig},
};
use harness::{Faults, Flow, World};

const SECOND: Duration = Duration::from_secs(1);
/// IPv6 and UDP headers.
const HEADERS: usize = 48;

/// A stream without end of datums that fill packets.
fn bulk(seed: u64, mtu: usize, faults: Faults) -> World {
    let mut world = World::new(seed, &SessionConfig::default(), faults);
    world.mtu = mtu - HEADERS;
    world.tick = Duration::from_millis(2);
    for reliability in [Reliability::Reliable, Reliability::FireAndForget] {
        let length: fn(u64) -> usize = |seq| if seq % 500 == 0 { 60_000 } else { 700 };
        let window_bytes = 256 << 10;
        world.open(
            0,
            Flow { datums: 1 << 40, reliability, length, window_bytes, take: 200, ..Flow::default() },
        );
    }
    world
}

fn delivered(world: &World) -> u64 {
    world.peers[0].inboxes.consuming.values().map(|inbox| inbox.delivered).min().unwrap()
}

fn packet_bytes(world: &World) -> usize {
    world.peers[1].session.packet_bytes()
}

#[test]
fn every_path_is_used_up_to_its_size() {
    let wide = [(1_280, 1_232), (1_500, 1_452), (9_000, 8_952), (65_507 + HEADERS, 65_507)];
    let narrow =
        [(288, 288), (400, 380), (548, 548), (972, 972)].map(|(payload, found)| (payload + HEADERS, found));
    for (mtu, found) in wide.into_iter().chain(narrow) {
        for loss in [0, 20] {
            let mut world = bulk(1, mtu, Faults { delay_us: 100, loss, ..Faults::default() });
            // On the narrowest paths the first message vanishes, before the round trip is known.
            let limit = if found < 548 { SECOND * 4 } else { SECOND / 5 };
            world.run_until(limit, |world| packet_bytes(world) == found && delivered(world) > 0);
            world.run_until(SECOND / 5, |_| false);
            if loss == 0 {
                assert_eq!(packet_bytes(&world), found);
            }
            assert!(packet_bytes(&world) <= found, "path of {mtu}");
            assert!(delivered(&world) > 500, "path of {mtu}, loss {loss}");
            assert!(world.peers.iter().all(|peer| peer.closed.is_none()));
        }
    }
}

#[test]
fn size_is_used_only_after_a_probe_of_it_has_arrived() {
    let (carried, found) = (1_352, 1_332);
    let mut world = bulk(9, carried + HEADERS, Faults { delay_us: 10_000, ..Faults::default() });
    let mut refused = false;
    while world.now < corewire_proto::time::Instant::from_nanos(2_000_000_000) && world.step() {
        let now = world.now;
        let producer = &mut world.peers[1].session;
        if !refused && producer.session_stats().pings_sent > 0 {
            producer.handle_too_large(now, 65_507);
            refused = true;
        }
        assert!(producer.packet_bytes() <= carried, "{} bytes at {now:?}", producer.packet_bytes());
    }
    assert!(refused && packet_bytes(&world) == found);
}

#[test]
fn path_that_shrinks_under_load_goes_on_with_small_packets() {
    let smallest = MIN_PACKET_BYTES + HEADERS;
    let shrinks =
        [(1_500, 1_280), (9_000, 1_500), (65_507 + HEADERS, 1_280), (1_500, 1_020), (1_500, smallest)];
    for (before, after) in shrinks {
        let mut world = bulk(2, before, Faults { delay_us: 100, ..Faults::default() });
        world.run_until(SECOND / 5, |_| false);
        assert!(packet_bytes(&world) > after - HEADERS);
        world.mtu = after - HEADERS;
        let start = delivered(&world);
        let recovered = world.run_until(SECOND, |world| delivered(world) > start + 1_000);
        assert!(recovered, "from {before} to {after}");
        assert!(packet_bytes(&world) <= after - HEADERS);
        assert!(world.peers.iter().all(|peer| peer.closed.is_none()));
    }
}

#[test]
fn every_path_that_carries_a_handshake_carries_a_session() {
    assert_eq!(MIN_PACKET_BYTES, MAX_HANDSHAKE_BYTES);
}

#[test]
fn path_too_small_for_a_session_ends_its_channels_in_time() {
    let config = SessionConfig { give_up_after: Some(SECOND * 3), ..SessionConfig::default() };
    for (delay_us, limit) in [(1_000, SECOND * 5), (150_000, SECOND * 30)] {
        let mut world = World::new(7, &config, Faults { delay_us, ..Faults::default() });
        world.tick = Duration::from_millis(5);
        world.open(0, Flow { datums: 1 << 40, length: |_| 700, ..Flow::default() });
        assert!(world.run_until(SECOND * 4, |world| delivered(world) > 0));
        let start = world.now;
        // What is acknowledged and asked passes, as long as it fills no packet.
        world.mtu = 150;
        let gave_up = Some(CloseCode::GAVE_UP);
        let ended = world.run_until(limit, |world| {
            let [consumer, producer] = &world.peers;
            let lost = |closed: Option<_>| closed == Some((CloseCode::PEER_LOST, false));
            (lost(consumer.closed) || consumer.inboxes.consuming.values().all(|end| end.closed == gave_up))
                && (lost(producer.closed)
                    || producer.rings.producing.values().all(|end| end.closed == gave_up))
        });
        assert!(ended, "after a delay of {delay_us} us the stream stands still in silence");
        assert!(world.now - start >= SECOND * 3, "the give-up time");
    }
}

#[test]
fn long_and_fast_path_is_filled_with_small_packets() {
    let config = SessionConfig { congestion: Congestion::Unlimited, ..SessionConfig::default() };
    // In half a second of 1 Gbit/s are 50,000 packets of this size.
    let mut world = World::new(8, &config, Faults { delay_us: 250_000, ..Faults::default() });
    (world.mtu, world.tick) = (1_232, Duration::from_millis(1));
    for _ in 0..2 {
        let window_bytes = 1 << 30;
        world
            .open(0, Flow { datums: 1 << 40, length: |_| 1_100, window_bytes, take: 200, ..Flow::default() });
    }
    let filled = |world: &World| world.peers[1].session.session_stats().bytes_in_flight > 18_000 * 1_100;
    assert!(world.run_until(SECOND * 3, filled), "the path stands empty for want of packets in flight");
}

#[test]
fn refused_packet_size_is_not_used_again() {
    let mut world = bulk(3, 65_507 + HEADERS, Faults { delay_us: 100, ..Faults::default() });
    world.run_until(SECOND / 5, |_| false);
    assert_eq!(packet_bytes(&world), 65_507);
    let now = world.now;
    world.peers[1].session.handle_too_large(now, 9_000);
    assert_eq!(packet_bytes(&world), 1_232);
    world.run_until(SECOND / 5, |_| false);
    assert_eq!(packet_bytes(&world), 8_972);
}

#[test]
fn either_peer_may_change_its_address_and_loses_nothing() {
    for moved in [0, 1] {
        let faults = Faults { delay_us: 100, loss: 20, ..Faults::default() };
        let mut world = World::new(5, &SessionConfig::default(), faults);
        world.tick = Duration::from_millis(2);
        world.open(0, Flow { datums: 1 << 40, ..Flow::default() });
        for _ in 0..3 {
            world.run_until(SECOND / 5, |_| false);
            world.rebind(moved);
            let before = delivered(&world);
            let limit = SECOND * 4;
            assert!(world.run_until(limit, |world| delivered(world) > before + 500), "peer {moved}");
        }
        let other = &world.peers[1 - moved];
        assert_eq!(other.moves.len(), 3);
        assert_eq!(other.moves.last(), Some(&world.peers[moved].address));
        assert!(world.peers[moved].moves.is_empty());
        assert!(world.peers.iter().all(|peer| peer.closed.is_none()));
    }
}

#[test]
fn losses_of_the_old_path_do_not_slow_down_the_new_one() {
    for still in [false, true] {
        let faults = Faults { delay_us: 20_000, steady: true, ..Faults::default() };
        let mut world = World::new(5, &SessionConfig::default(), faults);
        (world.mtu, world.tick) = (1_232, Duration::from_millis(2));
        let window_bytes = 8 << 20;
        // As much as the application publishes at once is in flight when the peer moves.
        let datums = if still { 2_000 } else { 1 << 40 };
        let length = |_| 1_000;
        world.open(0, Flow { datums, length, window_bytes, take: 10_000, ..Flow::default() });
        let filled = |world: &World| world.peers[1].session.session_stats().bytes_in_flight > 300_000;
        assert!(world.run_until(SECOND * 2, filled));
        world.relocate(0);
        assert!(world.run_until(SECOND * 4, |world| world.peers[1].moves.len() == 1));
        let in_flight = world.peers[1].session.session_stats().bytes_in_flight;
        assert!(in_flight < 2 * 12_320, "what is on the old path fills the new one: {in_flight}");
        world.run_until(SECOND / 2, |_| false);
        let stats = world.peers[1].session.session_stats();
        if still {
            assert!(world.all_finished(), "what the old path lost is sent again");
        } else {
            assert!(stats.congestion_window > 10 * 12_320, "slow start has ended early: {stats:?}");
        }
        assert!(stats.packets_lost > 100 && stats.rtt_ns < 60_000_000, "{stats:?}");
    }
}

#[test]
fn forwarded_packets_do_not_move_a_session() {
    let mut world = World::new(6, &SessionConfig::default(), Faults { delay_us: 100, ..Faults::default() });
    world.tick = Duration::from_millis(2);
    world.open(0, Flow { datums: 1 << 40, ..Flow::default() });
    world.run_until(SECOND / 5, |_| false);
    // Packets of peer 0 come from elsewhere for a while, where it does not receive.
    let home = world.peers[0].address;
    world.rebind(0);
    let elsewhere = std::mem::replace(&mut world.peers[0].address, home);
    for _ in 0..50 {
        world.peers[0].address = elsewhere;
        world.forward(0, home);
    }
    world.peers[0].address = home;
    let before = delivered(&world);
    assert!(world.run_until(SECOND, |world| delivered(world) > before + 500));
    assert!(world.peers[1].moves.is_empty());
    assert_eq!(world.peers[1].session.peer_address(), Some(home));
}

#[test]
fn session_that_sends_no_datums_searches_for_nothing() {
    let mut world = bulk(4, 65_507 + HEADERS, Faults { delay_us: 100, ..Faults::default() });
    world.run_until(SECOND / 5, |_| false);
    assert_eq!(world.peers[0].session.packet_bytes(), 1_232);
}
