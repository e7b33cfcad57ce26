//! What attackers get from the membership protocol: strangers, and members that lie.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use corewire_proto::{
    NetworkId, StreamId,
    handshake::NetworkSecret,
    membership::{LongRecord, MAX_RECORD_BYTES, RecordVersion, SignedRecord},
    swim::{
        MAX_SWIM_BYTES, MAX_SWIM_RECORD_BYTES, OPENS_PER_SECOND, PERIOD, Swim, SwimConfig, SwimError,
        SwimEvent, SwimTarget, mark_of,
    },
};

use crate::world::{Facts, World, address, identity, key, record};

/// Two nodes that know each other, and a packet of the first.
fn pair() -> (World, Vec<u8>) {
    let mut world = World::acquainted(5, 2, 0);
    let packet = loop {
        let now = world.nodes[0].poll_timeout();
        world.now = now;
        world.nodes[0].handle_timeout(now, &world.library);
        if let Some((_, packet)) = world.nodes[0].poll_transmit() {
            break packet;
        }
    };
    (world, packet)
}

fn take(world: &mut World, packet: &[u8]) -> Result<(), SwimError> {
    let now = world.now;
    world.nodes[1].handle_packet(now, address(0), packet, &world.library)
}

#[test]
fn changed_foreign_or_oversized_packets_change_nothing() {
    let (mut world, packet) = pair();
    for at in 0..packet.len() {
        let mut forged = packet.clone();
        forged[at] ^= 1;
        assert_eq!(take(&mut world, &forged), Err(SwimError::Foreign), "byte {at}");
        assert!(world.nodes[1].poll_transmit().is_none(), "a stranger gets no answer");
    }
    for len in 0..packet.len() {
        assert_eq!(take(&mut world, &packet[..len]), Err(SwimError::Foreign));
    }
    let long = [&packet[..], &vec![0; MAX_SWIM_BYTES]].concat();
    assert_eq!(take(&mut world, &long), Err(SwimError::Foreign));
    assert_eq!(take(&mut world, &packet), Ok(()), "the packet itself is good");

    let other = NetworkId([0x22; 32]);
    let foreign = NetworkSecret::of_public_network(&other).beacon_key(&other);
    let config = SwimConfig {
        identity: Arc::new(identity(0)),
        key: foreign,
        seed: [1; 32],
        max_members: 9,
        period: PERIOD,
    };
    let mut stranger = Swim::new(world.now, config);
    let (now, facts) = (world.now, Facts::default());
    stranger.announce(now, &record(0, &facts), &world.library);
    stranger.learned(now, &record(1, &facts), 0, false);
    stranger.handle_timeout(now + PERIOD, &world.library);
    let (_, foreign) = stranger.poll_transmit().expect("it asks");
    assert_eq!(take(&mut world, &foreign), Err(SwimError::Foreign));
}

#[test]
fn packet_that_comes_again_is_not_answered_again() {
    let (mut world, packet) = pair();
    assert_eq!(take(&mut world, &packet), Ok(()));
    while world.nodes[1].poll_transmit().is_some() {}
    for _ in 0..3 {
        assert_eq!(take(&mut world, &packet), Err(SwimError::Replayed));
        assert!(world.nodes[1].poll_transmit().is_none());
    }
}

#[test]
fn answer_of_another_node_does_not_hide_a_death() {
    let mut world = World::acquainted(5, 3, 0);
    // The third one has a session with the second, so only the first one asks that.
    let (now, second) = (world.now, world.ids[1]);
    world.nodes[2].set_connected(now, &second, true);
    world.run_for(PERIOD * 2);
    world.dead.insert(1);
    // Its questions reach the third one, which answers them.
    world.resent = Some((1, 2));
    assert!(world.time_until(PERIOD * 15, |world| world.given_up(1) == 1).is_some());
}

#[test]
fn address_of_a_packet_that_answers_nothing_is_only_a_claim() {
    let (mut world, packet) = pair();
    let (now, first, elsewhere) = (world.now, world.ids[0], address(77));
    world.nodes[1].handle_packet(now, elsewhere, &packet, &world.library).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| world.nodes[1].poll_event()).collect();
    assert_eq!(events, [SwimEvent::Claimed(first, elsewhere)]);
    // The answer to the question is more.
    let (_, answer) = world.nodes[1].poll_transmit().expect("an answer");
    let second = world.ids[1];
    world.nodes[0].handle_packet(now, elsewhere, &answer, &world.library).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| world.nodes[0].poll_event()).collect();
    assert_eq!(events, [SwimEvent::Answered(second, elsewhere)]);
}

#[test]
fn flooded_node_gives_no_one_up_until_the_flood_is_over() {
    let mut garbage = pair().1;
    garbage[30] ^= 1;
    let mut world = World::acquainted(12, 3, 0);
    world.flood = Some((0, garbage));
    world.run_for(PERIOD * 30);
    assert_eq!(world.failures.iter().filter(|(at, _)| *at == 0).count(), 0);
    world.flood = None;
    world.dead.insert(1);
    assert!(world.time_until(PERIOD * 15, |world| world.given_up(1) >= 1).is_some());
}

#[test]
fn packets_of_no_length_that_members_send_are_not_opened() {
    let (mut world, packet) = pair();
    for len in [0, 10, 59, 60, packet.len() - 1, packet.len() + 1, MAX_SWIM_BYTES + 64] {
        let garbage = vec![packet[0]; len];
        for _ in 0..OPENS_PER_SECOND {
            assert_eq!(take(&mut world, &garbage), Err(SwimError::Foreign));
        }
    }
    assert_eq!(take(&mut world, &packet), Ok(()), "nothing was taken from the budget");
}

#[test]
fn suspect_that_answers_is_not_given_up_though_its_objections_are_lost() {
    let mut world = World::acquainted(8, 5, 0);
    world.run_for(PERIOD * 2);
    world.mute = Some(2);
    let mut liar = liar(&world, &all_but_the_first(&world));
    lie(&mut world, &mut liar, PERIOD * 2, true);
    world.dead.insert(0);
    world.run_for(PERIOD * 30);
    assert_eq!(world.given_up(2), 0);
    assert_eq!(world.given_up(0), 4, "the liar is gone");
    world.dead.insert(2);
    assert!(world.time_until(PERIOD * 20, |world| world.given_up(2) == 3).is_some(), "it is asked still");
}

#[test]
fn differences_that_can_not_be_settled_are_compared_less_and_less_often() {
    let mut world = World::acquainted(13, 40, 0);
    let config = SwimConfig {
        identity: Arc::new(identity(0)),
        key: key(),
        seed: [8; 32],
        max_members: 8,
        period: PERIOD,
    };
    world.nodes[0] = Swim::new(world.now, config);
    world.change(0, |_| {});
    (1..8).for_each(|other| world.introduce(0, other));
    world.run_for(PERIOD * 60);
    let before = world.nodes_sent[0];
    world.run_for(PERIOD * 120);
    let sent = world.nodes_sent[0] - before;
    // Its question and answers to about one in a period, and a comparison with its answers in fifteen.
    assert!(sent < 120 * 4, "{sent} packets in 120 periods");
}

/// A record that is too long for a packet, which no one has.
fn invented_long_record(n: u64) -> LongRecord {
    let version = RecordVersion { incarnation: u64::MAX, sequence: n };
    let peer = identity(1_000 + n as usize).peer_id();
    LongRecord { peer, version, mark: n, len: 30_000, addresses: vec![address(77)] }
}

#[test]
fn invented_long_records_are_asked_for_within_bounds_and_counted() {
    let mut world = World::acquainted(14, 3, 0);
    for n in 0..1_000 {
        let long = invented_long_record(n);
        world.nodes[0].fetch(world.now, &long, &[address(77)]);
        // The same one again is no further fetch.
        world.nodes[0].fetch(world.now, &long, &[address(77)]);
    }
    let node = &mut world.nodes[0];
    let asked = std::iter::from_fn(|| node.poll_transmit()).count();
    assert_eq!(asked, 1_000, "one packet for each");
    let dropped = std::iter::from_fn(|| node.poll_event());
    assert_eq!(dropped.filter(|event| matches!(event, SwimEvent::Unfetched(_))).count(), 992);
    // Nothing comes: the last ones end after some repetitions.
    let mut again = 0;
    for _ in 0..100 {
        world.now += PERIOD / 10;
        let now = world.now;
        node.handle_timeout(now, &world.library);
        let sent = std::iter::from_fn(|| node.poll_transmit());
        again += sent.filter(|(to, _)| *to == SwimTarget::Address(address(77))).count();
    }
    let ended = std::iter::from_fn(|| node.poll_event());
    assert_eq!(ended.filter(|event| matches!(event, SwimEvent::Unfetched(_))).count(), 8);
    assert!((8..=8 * 6).contains(&again), "{again} repetitions");
}

#[test]
fn long_record_without_an_address_is_dropped_and_counted() {
    let mut world = World::acquainted(14, 2, 0);
    let long = invented_long_record(1);
    world.nodes[0].fetch(world.now, &long, &[]);
    assert_eq!(world.nodes[0].poll_event(), Some(SwimEvent::Unfetched(long.peer)));
    assert!(world.nodes[0].poll_transmit().is_none());
}

#[test]
fn packet_that_tells_of_many_long_records_makes_one_request() {
    let mut world = World::acquainted(14, 3, 0);
    let told: Vec<u8> = (0..15)
        .flat_map(|n| {
            let LongRecord { peer, version, mark, len, .. } = invented_long_record(n);
            let numbers = [version.incarnation, version.sequence, mark].map(u64::to_le_bytes).concat();
            [&[3][..], peer.as_bytes(), &numbers, &len.to_le_bytes(), &[0]].concat()
        })
        .collect();
    let plain = [&[1, 4][..], world.ids[1].as_bytes(), &[0; 8], &told].concat();
    let (now, node) = (world.now, &mut world.nodes[0]);
    for (room, requests) in [(MAX_SWIM_BYTES - 1, 0), (MAX_SWIM_BYTES, 1)] {
        node.handle_plaintext(now, address(77), (&plain, room), &world.library).unwrap();
        let sent: Vec<_> = std::iter::from_fn(|| node.poll_transmit()).map(|(to, _)| to).collect();
        assert_eq!(sent.len(), requests);
        assert!(sent.iter().all(|to| matches!(to, SwimTarget::Peer { peer, .. } if *peer == world.ids[1])));
    }
}

#[test]
fn records_of_no_possible_length_are_not_asked_for() {
    let mut world = World::acquainted(14, 3, 0);
    for len in [0, 1, 500, MAX_SWIM_RECORD_BYTES as u16, MAX_RECORD_BYTES as u16 + 1, u16::MAX] {
        let long = LongRecord { len, ..invented_long_record(1) };
        world.nodes[0].fetch(world.now, &long, &[address(77)]);
    }
    assert!(world.nodes[0].poll_transmit().is_none());
}

#[test]
fn parts_that_are_not_the_record_are_thrown_away() {
    let mut world = World::acquainted(15, 2, 0);
    let streams = (0..60).map(|n| StreamId([n; 32])).collect();
    let long = record(1, &Facts { sequence: 9, streams, ..Facts::default() });
    let mark = long.mark();
    // The second node has other bytes under this mark.
    let mut other = record(1, &Facts { sequence: 8, ..Facts::default() });
    while other.bytes().len() != long.bytes().len() {
        let streams = (0..60).map(|n| StreamId([n + 100; 32])).collect();
        other = record(1, &Facts { sequence: 9, streams, ..Facts::default() });
    }
    let (now, before) = (world.now, world.nodes[0].mark(&world.ids[1]));
    world.nodes[1].announce(now, &long, &world.library);
    world.library.records.insert(mark, (other, now));
    let told = LongRecord {
        peer: world.ids[1],
        version: long.record().version,
        mark,
        len: long.bytes().len() as u16,
        addresses: Vec::new(),
    };
    world.nodes[0].fetch(now, &told, &[address(1)]);
    world.after(0);
    world.run_for(PERIOD / 4);
    assert!(world.unfetched > 0);
    assert_eq!(world.nodes[0].mark(&world.ids[1]), before);
}

#[test]
fn flood_is_opened_at_a_bounded_rate_and_counted() {
    let (mut world, packet) = pair();
    let forged = |n: u32| {
        let mut forged = packet.clone();
        forged[20..24].copy_from_slice(&n.to_le_bytes());
        forged
    };
    let answers: Vec<_> = (0..OPENS_PER_SECOND * 2).map(|n| take(&mut world, &forged(n))).collect();
    let opened = answers.iter().filter(|answer| **answer == Err(SwimError::Foreign)).count();
    assert_eq!(opened, OPENS_PER_SECOND as usize);
    assert_eq!(answers.last(), Some(&Err(SwimError::Flood)));
    world.now += Duration::from_millis(100);
    assert_eq!(take(&mut world, &packet), Ok(()), "afterwards real packets are opened again");
}

#[test]
fn answers_are_not_longer_than_what_they_answer() {
    let mut world = World::acquainted(6, 40, 0);
    for n in 0..40 {
        world.change(n, |facts| facts.streams.push(StreamId([7; 32])));
    }
    let mut answered = 0;
    for _ in 0..400 {
        let now = world.now + Duration::from_millis(50);
        world.now = now;
        world.nodes[0].handle_timeout(now, &world.library);
        let packets: Vec<_> = std::iter::from_fn(|| world.nodes[0].poll_transmit()).collect();
        for (to, packet) in packets {
            let SwimTarget::Peer { peer, .. } = to else { unreachable!("nothing was received") };
            let to = world.ids.iter().position(|id| *id == peer).expect("a member");
            world.nodes[to].handle_packet(now, address(0), &packet, &world.library).unwrap();
            while world.nodes[to].poll_event().is_some() {}
            while let Some((target, answer)) = world.nodes[to].poll_transmit() {
                if matches!(target, SwimTarget::Address(_)) {
                    assert!(answer.len() <= packet.len(), "{} for {}", answer.len(), packet.len());
                    answered += 1;
                }
            }
        }
    }
    assert!(answered > 20, "{answered} answers");
}

/// A member that says what it likes: it knows `records`, hears nothing, and asks every 20 ms.
fn liar(world: &World, records: &[SignedRecord]) -> Swim {
    let period = Duration::from_millis(20);
    let config =
        SwimConfig { identity: Arc::new(identity(0)), key: key(), seed: [9; 32], max_members: 99, period };
    let mut liar = Swim::new(world.now, config);
    liar.announce(world.now, &latest(world, 0), &world.library);
    records.iter().for_each(|record| liar.learned(world.now, record, 0, false));
    liar
}

/// The record of a node as it is at the node.
fn latest(world: &World, n: usize) -> SignedRecord {
    let mark = world.nodes[n].mark(&world.ids[n]).expect("it has one");
    world.library.records[&mark].0.clone()
}

/// Lets the liar act for some time. It is given the latest records all the while if `informed`.
fn lie(world: &mut World, liar: &mut Swim, time: Duration, informed: bool) {
    let end = world.now + time;
    while world.now < end {
        let step = world.now + Duration::from_millis(10);
        world.run_until(step, |_| false);
        for n in 1..world.ids.len() {
            if informed {
                liar.learned(world.now, &latest(world, n), 1_000, false);
            }
        }
        liar.handle_timeout(world.now, &world.library);
        while liar.poll_event().is_some() {}
        while let Some((to, packet)) = liar.poll_transmit() {
            let SwimTarget::Peer { peer, .. } = to else { unreachable!("it hears nothing") };
            if let Some(to) = world.ids.iter().position(|id| *id == peer) {
                world.send(0, to, packet);
            }
        }
    }
}

fn all_but_the_first(world: &World) -> Vec<SignedRecord> {
    (1..world.ids.len()).map(|n| latest(world, n)).collect()
}

#[test]
fn record_of_another_network_makes_no_member() {
    let mut world = World::acquainted(7, 6, 0);
    let here = record(90, &Facts::default());
    let elsewhere = SignedRecord::sign(&identity(91), &NetworkId([0x22; 32]), here.record().clone()).unwrap();
    world.library.records.insert(mark_of(&elsewhere), (elsewhere.clone(), world.now));
    let mut records = all_but_the_first(&world);
    records.push(elsewhere);
    let mut liar = liar(&world, &records);
    let before = world.errors;
    lie(&mut world, &mut liar, PERIOD / 2, true);
    assert!(world.errors > before, "it was told");
    assert!(world.nodes.iter().all(|node| node.len() == 6), "and not believed");
}

#[test]
fn invented_members_that_do_not_answer_are_given_up() {
    let mut world = World::acquainted(7, 6, 0);
    let mut records = all_but_the_first(&world);
    for n in 100..110 {
        let invented = record(n, &Facts::default());
        world.library.records.insert(mark_of(&invented), (invented.clone(), world.now));
        records.push(invented);
    }
    let mut liar = liar(&world, &records);
    lie(&mut world, &mut liar, PERIOD, true);
    assert!(world.nodes.iter().any(|node| node.len() > 6), "they have signed records");
    let gone = world.time_until(PERIOD * 60, |world| world.nodes.iter().all(|node| node.len() == 6));
    assert!(gone.is_some());
    assert!(world.ids.clone().iter().all(|id| world.failures.iter().all(|(_, failed)| failed != id)));
}

#[test]
fn members_beyond_the_bound_are_not_kept() {
    let config = SwimConfig {
        identity: Arc::new(identity(0)),
        key: key(),
        seed: [1; 32],
        max_members: 8,
        period: PERIOD,
    };
    let world = World::new(1, 1, 0);
    let mut swim = Swim::new(world.now, config);
    swim.announce(world.now, &record(0, &Facts::default()), &world.library);
    for n in 1..100 {
        swim.learned(world.now, &record(n, &Facts::default()), 0, false);
    }
    assert_eq!(swim.len(), 8);
}

#[test]
fn member_that_suspects_everyone_makes_no_one_be_given_up() {
    let mut world = World::acquainted(8, 10, 10);
    world.run_for(PERIOD * 2);
    let mut liar = liar(&world, &all_but_the_first(&world));
    let periods = 10;
    lie(&mut world, &mut liar, PERIOD * periods, true);
    assert!(world.failures.is_empty(), "each objects in time: {} objections", world.objections);
    assert!(world.objections > 20, "{} objections", world.objections);
    let bound = 10 * u64::from(periods + 1);
    assert!(world.objections <= bound, "one per node and period: {}", world.objections);
}

#[test]
fn suspicion_of_an_old_record_does_nothing() {
    let mut world = World::acquainted(9, 6, 0);
    let old = latest(&world, 3);
    world.change(3, |facts| facts.tags.clear());
    world.run_for(PERIOD * 4);
    let before = world.objections;
    let mut liar = liar(&world, &[old]);
    for n in [1, 2, 4, 5] {
        liar.learned(world.now, &latest(&world, n), 1_000, true);
        liar.set_connected(world.now, &world.ids[n], true);
    }
    lie(&mut world, &mut liar, PERIOD * 2, false);
    world.run_for(PERIOD * 10);
    assert_eq!((world.objections, world.failures.len()), (before, 0));
}

#[test]
fn clock_that_jumps_ahead_gives_no_one_up_at_once() {
    let mut world = World::acquainted(10, 3, 0);
    world.run_for(PERIOD * 2);
    world.now += Duration::from_secs(3_600);
    let now = world.now;
    for n in 0..3 {
        world.nodes[n].handle_timeout(now, &world.library);
        let failed = std::iter::from_fn(|| world.nodes[n].poll_event());
        assert_eq!(failed.filter(|event| matches!(event, SwimEvent::Failed(_))).count(), 0);
        world.after(n);
    }
    world.run_for(PERIOD * 20);
    assert!(world.failures.is_empty());
}

proptest! {
    /// The plaintexts are those that a member could seal: kinds and counts are likely, the rest is not.
    #[test]
    fn any_plaintext_of_a_member_is_handled_within_bounds(
        kind in 0..13u8,
        body in prop::collection::vec(any::<u8>(), 0..1_160),
        items in prop::collection::vec(0..4u8, 0..40),
        room in 0..MAX_SWIM_BYTES,
    ) {
        let mut world = World::acquainted(11, 2, 0);
        let head = [&[1, kind][..], world.ids[0].as_bytes(), &[0; 8]].concat();
        let now = world.now;
        for plain in [[&head[..], &body].concat(), [&head[..], &body[..body.len().min(9)], &items].concat()] {
            let node = &mut world.nodes[1];
            let _ = node.handle_plaintext(now, address(0), (&plain, room), &world.library);
            let packets: Vec<_> = std::iter::from_fn(|| node.poll_transmit()).collect();
            prop_assert!(packets.len() <= 1 + plain.len() / 41);
            for (target, packet) in packets {
                let longest = if matches!(target, SwimTarget::Address(_)) { room } else { MAX_SWIM_BYTES };
                prop_assert!(packet.len() <= longest);
            }
            while node.poll_event().is_some() {}
        }
    }
}
