//! A shard at its bounds: no transmit memory, invalid packets, a clerk that does not read, many idle
//! sessions, and shutdown.

mod shard_rig;

use std::{net::SocketAddr, task::Waker, time::Duration};

use corewire_engine::{
    counters::{Counter, CounterSnapshot},
    driver::{Driver, DriverConfig, Route, Sleep, sim::SimDriver},
    shard::{AcceptChannel, Command, Event, ShardLimits},
    shared::{ChannelState, Next},
};
use corewire_proto::{
    congestion::Congestion,
    session::{CloseCode, SessionConfig},
    wire::header::{PROTOCOL_VERSION, PacketKind, ReceiverIndex},
};
use shard_rig::{Rig, Setup, Wish, index, publish, ring};

const LONG: Duration = Duration::from_secs(60);

fn connected(setup: Setup) -> Rig {
    let mut rig = Rig::new(setup);
    rig.connect(1, &SessionConfig::default());
    rig
}

#[test]
fn with_one_lease_everything_still_goes_its_way_and_is_counted() {
    let driver = DriverConfig { leases: 1, ..DriverConfig::default() };
    let mut rig = Rig::new(Setup { driver, ..Setup::default() });
    // Packets that are short beside a lease, so that several share one.
    let config = SessionConfig { max_packet_bytes: 1_452, ..SessionConfig::default() };
    for slot in [1, 2] {
        rig.connect(slot, &config);
    }
    let ring = ring(256, 1 << 18);
    let mut legs = [1, 2].map(|slot| rig.subscribe(slot, &ring, Wish::default()));
    let (mut sent, mut taken) = (0, [0; 2]);
    rig.run_until(LONG, |_| {
        // Unequal sizes, so that packets are set aside as well.
        sent += publish(&ring, (2_000 - sent).min(7), 64 + (sent * 37) % 900);
        for (leg, taken) in legs.iter_mut().zip(&mut taken) {
            *taken += leg.take(usize::MAX).0;
        }
        taken == [2_000; 2]
    });
    assert!(rig.left.count(Counter::LeasesExhausted) > 0);
    assert!(rig.left.count(Counter::PacketsDeferred) > 0);
    assert_eq!(legs[0].producer.snapshot().resent + legs[1].producer.snapshot().resent, 0);
    let sent = rig.left.count(Counter::PacketsSent);
    assert_eq!(rig.right.count(Counter::DatagramsReceived), sent, "each sealed packet was sent once");
}

/// Every datagram that came in is in exactly one of these.
fn fates(counts: &CounterSnapshot) -> u64 {
    [
        Counter::PacketsAccepted,
        Counter::DropMalformed,
        Counter::DropWrongShard,
        Counter::DropNoSession,
        Counter::DropBySession,
        Counter::DropHeldUp,
        Counter::DropNoNode,
        Counter::Handshakes,
        Counter::DropHandshake,
    ]
    .iter()
    .map(|&counter| counts.get(counter))
    .sum()
}

struct Stranger {
    driver: SimDriver,
    socket: corewire_engine::driver::SocketId,
}

impl Stranger {
    fn new(rig: &Rig) -> Self {
        let host = rig.world.host();
        let mut driver = rig.world.driver(host);
        let address = SocketAddr::new(rig.world.ip(host), 9_999);
        let socket = rig.world.bind(host, address, 1).expect("a free port").remove(0);
        let socket = driver.add_socket(socket.into()).expect("room for a socket");
        Self { driver, socket }
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let mut lease = self.driver.lease().expect("a lease");
        lease[..bytes.len()].copy_from_slice(bytes);
        self.driver.send(Route::new(self.socket, to), lease, bytes.len(), bytes.len());
        self.driver.submit().expect("the simulated network");
    }
}

/// A data packet of `len` bytes that is not sealed.
fn unsealed(to: ReceiverIndex, len: usize) -> Vec<u8> {
    let mut packet = vec![PacketKind::Data.first_byte(), 0, 0, 0];
    packet.extend_from_slice(&to.to_bytes());
    packet.extend_from_slice(&1u64.to_le_bytes());
    packet.resize(len, 0xa5);
    packet
}

#[test]
fn a_sleep_without_an_end_ends_at_the_shards_own_deadline() {
    let mut rig = connected(Setup::default());
    let due = loop {
        match rig.left.shard.turn() {
            Next::Again => {}
            Next::Until(at) => break at,
            Next::Idle => panic!("a session has deadlines"),
        }
    };
    for (limit, ends) in [(None, due), (Some(due - Duration::from_millis(1)), due - Duration::from_millis(1))]
    {
        let prepared = rig.left.shard.prepare_sleep(limit, Waker::noop());
        assert_eq!(prepared, Sleep::Until(Some(ends)));
        rig.left.shard.end_sleep();
    }
}

#[test]
fn a_channel_keeps_the_last_of_the_marks_it_was_given() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 1 << 16);
    let mut leg = rig.subscribe(1, &ring, Wish { window_datums: 4, ..Wish::default() });
    assert_eq!(publish(&ring, 32, 64), 32);
    rig.run_for(Duration::from_secs(1));
    let label = leg.left_label;
    for seq in 6..=32 {
        rig.left.tell(Command::Mark { index: leg.left_index(), label, seq });
    }
    rig.run_for(Duration::from_secs(1));
    let marked = |rig: &mut Rig| {
        let marked = rig.left.pick(|event| match event {
            Event::Marked { label: its, seq, .. } if *its == label => Some(*seq),
            _ => None,
        });
        marked.map(|(seq, _)| seq)
    };
    assert_eq!(marked(&mut rig), None, "the consumer has taken nothing");
    let mut taken = 0;
    rig.run_until(LONG, |_| {
        taken += leg.take(usize::MAX).0;
        taken == 32
    });
    rig.run_for(Duration::from_secs(1));
    assert_eq!((marked(&mut rig), marked(&mut rig)), (Some(32), None));
    rig.left.tell(Command::Mark { index: leg.left_index(), label, seq: 32 });
    rig.settle();
    assert_eq!(marked(&mut rig), Some(32), "what is reached is reported at once");
}

#[test]
fn junk_of_all_sizes_is_dropped_by_its_cause_and_harms_nobody() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 4_096);
    let mut leg = rig.subscribe(1, &ring, Wish::default());
    let mut stranger = Stranger::new(&rig);
    let to = rig.right.address;
    let before = rig.right.counters.snapshot();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for len in (0..200).chain((200..9_000).step_by(97)).chain([65_507]) {
        let junk: Vec<u8> = (0..len)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            })
            .collect();
        stranger.send(to, &junk);
    }
    let wrong_shard = ReceiverIndex::new(9, 1, 0x2001).expect("a slot below 2^24");
    let far = ReceiverIndex::new(0, 0xff_ffff, 0x2001).expect("a slot below 2^24");
    for len in [36, 100, 1_400, 60_000] {
        stranger.send(to, &unsealed(wrong_shard, len));
        stranger.send(to, &unsealed(index(1, 0x2002), len));
        stranger.send(to, &unsealed(far, len));
        stranger.send(to, &unsealed(index(1, 0x2001), len));
    }
    rig.run_for(Duration::from_millis(10));
    let counts = rig.right.counters.snapshot().since(&before);
    assert_eq!(counts.get(Counter::DropWrongShard), 4);
    assert!(counts.get(Counter::DropBySession) >= 4);
    assert!(counts.get(Counter::DropNoSession) >= 8);
    assert!(counts.get(Counter::DropMalformed) > 100);
    assert_eq!(fates(&counts), counts.get(Counter::DatagramsReceived));
    publish(&ring, 10, 64);
    let mut taken = 0;
    rig.run_until(LONG, |_| {
        taken += leg.take(usize::MAX).0;
        taken == 10
    });
}

#[test]
fn handshakes_beyond_the_clerks_mailbox_are_dropped_and_counted() {
    let mut rig = Rig::new(Setup { events: 4, ..Setup::default() });
    let mut stranger = Stranger::new(&rig);
    let to = rig.right.address;
    let mut bytes = vec![PacketKind::Init.first_byte(), PROTOCOL_VERSION, 0, 0];
    bytes.resize(148, 0);
    for _ in 0..100 {
        stranger.send(to, &bytes);
    }
    bytes.resize(30_000, 0);
    stranger.send(to, &bytes);
    rig.run_for(Duration::from_millis(10));
    assert_eq!(rig.right.count(Counter::Handshakes), 4);
    assert_eq!(rig.right.count(Counter::DropHandshake), 96);
    assert_eq!(rig.right.count(Counter::DropMalformed), 1);
    let heard = rig.right.pick(|event| match event {
        Event::Handshake { bytes, .. } => Some(bytes.len()),
        _ => None,
    });
    assert_eq!(heard.map(|(len, _)| len), Some(148));
}

#[test]
fn a_clerk_that_does_not_listen_holds_up_only_who_talks_to_it() {
    let limits = ShardLimits { backlog: 2, ..ShardLimits::default() };
    let mut rig = connected(Setup { limits, events: 16, ..Setup::default() });
    rig.connect(2, &SessionConfig::default());
    let ring = ring(64, 4_096);
    let mut leg = rig.subscribe(2, &ring, Wish::default());
    for n in 0..60u8 {
        rig.left.tell(Command::SendControl { index: index(1, 0x1001), bytes: vec![n; 100] });
    }
    rig.run_for(Duration::from_millis(20));
    assert!(rig.right.count(Counter::EventStalls) > 0);
    // The other session's datums pass while the clerk sleeps.
    let mut taken = 0;
    publish(&ring, 64, 64);
    rig.run_until(LONG, |_| {
        taken += leg.take(usize::MAX).0;
        taken == 64
    });
    // Nothing was lost meanwhile.
    let mut next = 0;
    rig.run_until(LONG, |rig| {
        while let Some((bytes, _)) = rig.right.pick(|event| match event {
            Event::Control { bytes, .. } => Some(bytes.clone()),
            _ => None,
        }) {
            assert_eq!(bytes, vec![next; 100]);
            next += 1;
        }
        next == 60
    });
}

#[test]
fn command_that_waits_for_a_full_backlog_lets_the_shard_sleep() {
    let limits = ShardLimits { backlog: 2, ..ShardLimits::default() };
    let mut rig = connected(Setup { limits, events: 16, ..Setup::default() });
    for n in 0..60u8 {
        rig.left.tell(Command::SendControl { index: index(1, 0x1001), bytes: vec![n; 100] });
    }
    rig.run_for(Duration::from_millis(20));
    let before = rig.right.counters.snapshot();
    rig.right.tell(Command::CloseSession { index: index(9, 9), code: CloseCode::GRACEFUL });
    rig.run_for(Duration::from_millis(20));
    let spent = rig.right.counters.snapshot().since(&before);
    assert!(spent.get(Counter::EventStalls) > 0, "the backlog was full");
    assert_eq!(spent.get(Counter::Commands), 0, "the command waits for room");
    assert_eq!(spent.get(Counter::ParksCalledOff), 0);
    // With a clerk that listens again, the command's turn comes.
    rig.run_until(LONG, |rig| {
        rig.right.pick(|_| None::<()>);
        rig.right.count(Counter::StaleCommands) > before.get(Counter::StaleCommands)
    });
}

/// What sending 500 datums one by one costs both shards, with `idle` other channels around.
fn cost_of_500(idle: usize) -> CounterSnapshot {
    let mut rig = connected(Setup::default());
    let rings: Vec<_> = (0..idle).map(|_| ring(4, 64)).collect();
    let _idle: Vec<_> = rings.iter().map(|ring| rig.subscribe(1, ring, Wish::default())).collect();
    rig.connect(2, &SessionConfig::default());
    let ring = ring(64, 4_096);
    let mut leg = rig.subscribe(2, &ring, Wish::default());
    rig.run_for(Duration::from_millis(20));
    let before = rig.left.counters.snapshot();
    for _ in 0..500 {
        publish(&ring, 1, 64);
        rig.run_until(LONG, |_| leg.take(1).0 == 1);
    }
    rig.left.counters.snapshot().since(&before)
}

#[test]
fn a_thousand_idle_channels_and_rings_cost_an_active_one_nothing() {
    let (alone, crowded) = (cost_of_500(0), cost_of_500(1_000));
    for counter in [Counter::Turns, Counter::RingPolls, Counter::PacketsSent, Counter::RingsArmed] {
        let (alone, crowded) = (alone.get(counter), crowded.get(counter));
        // A keep-alive of the busy session more or less; nothing that a thousand would make.
        assert!(crowded <= alone + alone / 20 + 8, "{counter:?}: {alone} alone, {crowded} in the crowd");
    }
}

#[test]
fn a_quiet_shard_sleeps_and_a_thousand_idle_rings_do_not_wake_it() {
    let mut rig = connected(Setup::default());
    let rings: Vec<_> = (0..1_000).map(|_| ring(4, 64)).collect();
    let legs: Vec<_> = rings.iter().map(|ring| rig.subscribe(1, ring, Wish::default())).collect();
    rig.run_for(Duration::from_millis(20));
    let before = rig.left.counters.snapshot();
    rig.run_for(Duration::from_secs(10));
    let spent = rig.left.counters.snapshot().since(&before);
    assert!(spent.get(Counter::Turns) < 1_000, "{spent:?}");
    assert_eq!(spent.get(Counter::RingPolls), 0);
    drop(legs);
}

#[test]
fn two_sessions_with_much_to_send_share_the_shard() {
    let mut rig = connected(Setup::default());
    rig.connect(2, &SessionConfig::default());
    let rings = [ring(4_096, 1 << 20), ring(4_096, 1 << 20)];
    let wish = Wish { window_bytes: 1 << 20, ..Wish::default() };
    let mut legs = [rig.subscribe(1, &rings[0], wish.clone()), rig.subscribe(2, &rings[1], wish)];
    let mut taken = [0usize; 2];
    rig.run_until(LONG, |_| {
        for ((ring, leg), taken) in rings.iter().zip(&mut legs).zip(&mut taken) {
            publish(ring, 4_096, 200);
            *taken += leg.take(usize::MAX).0;
        }
        taken[0].max(taken[1]) > 20_000
    });
    assert!(taken[0].min(taken[1]) > 15_000, "{taken:?}");
}

fn stopped(rig: &mut Rig) -> bool {
    rig.left.pick(|event| matches!(event, Event::ShardStopped { failure: None, .. }).then_some(())).is_some()
}

#[test]
fn a_shutdown_drains_closed_rings_then_closes_sessions_then_stops() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 8_192);
    let mut leg = rig.subscribe(1, &ring, Wish { window_bytes: 256, ..Wish::default() });
    publish(&ring, 40, 64);
    ring.close();
    rig.left.tell(Command::Shutdown { deadline: rig.now() + Duration::from_secs(4) });
    let mut taken = 0;
    rig.run_until(LONG, |_| {
        taken += leg.take(usize::MAX).0;
        leg.is_over()
    });
    assert_eq!(taken, 40);
    assert_eq!(leg.consumer.close_code(), Some(CloseCode::GRACEFUL));
    rig.run_until(LONG, stopped);
    assert!(rig.left.shard.is_stopped());
    assert!(rig.now().as_nanos() < 1_000_000_000, "nothing was left to wait for at {:?}", rig.now());
    assert_eq!(rig.right.count(Counter::Sessions), 0);
    assert_eq!(ring.readers(), 0);
}

#[test]
fn a_shutdown_keeps_its_deadline_when_the_peer_takes_nothing() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 8_192);
    let leg = rig.subscribe(1, &ring, Wish { window_bytes: 64, ..Wish::default() });
    publish(&ring, 40, 64);
    ring.close();
    let deadline = rig.now() + Duration::from_millis(400);
    rig.left.tell(Command::Shutdown { deadline });
    rig.run_until(LONG, stopped);
    assert!(rig.now() <= deadline + Duration::from_millis(1));
    assert!(rig.left.shard.is_stopped());
    assert_eq!(leg.producer.state(), ChannelState::Terminated);
    assert_eq!(ring.readers(), 0, "no cursor is left behind");
}

#[test]
fn a_shutdown_keeps_its_deadline_when_the_network_is_cut() {
    let mut rig = connected(Setup::default());
    let (left, right) = (rig.left.host, rig.right.host);
    rig.world.set_partition(&[left], &[right], true);
    let deadline = rig.now() + Duration::from_millis(100);
    rig.left.tell(Command::Shutdown { deadline });
    rig.run_until(LONG, stopped);
    assert!(rig.now() <= deadline + Duration::from_millis(1));
}

#[test]
fn a_shard_whose_clerk_is_gone_ends_by_itself() {
    let mut rig = connected(Setup::default());
    let (commands, _) = corewire_rings::mailbox(1);
    rig.left.commands = commands;
    rig.run_until(LONG, |rig| rig.left.shard.is_stopped());
    rig.run_until(LONG, |rig| rig.right.count(Counter::Sessions) == 0);
}

#[test]
fn a_node_that_leaves_closes_its_sessions_and_then_its_socket() {
    let mut rig = connected(Setup::default());
    let mut stranger = Stranger::new(&rig);
    rig.left.tell(Command::RemoveNode { node: shard_rig::NODE });
    rig.run_until(LONG, |rig| rig.left.count(Counter::Sessions) + rig.right.count(Counter::Sessions) == 0);
    let before = rig.left.count(Counter::DatagramsReceived);
    let to = rig.left.address;
    stranger.send(to, &[1; 100]);
    rig.run_for(Duration::from_millis(10));
    assert_eq!(rig.left.count(Counter::DatagramsReceived), before, "the socket is closed");
    // A session for a node that is gone is answered, not installed.
    rig.connect(3, &SessionConfig::default());
    assert_eq!(rig.left.count(Counter::Sessions), 0);
    let refused = rig.left.pick(|event| match event {
        Event::SessionClosed { index: its, .. } if *its == index(3, 0x1003) => Some(()),
        _ => None,
    });
    assert!(refused.is_some());
}

#[test]
fn tables_that_are_full_refuse_and_stay_usable() {
    let limits = ShardLimits { sessions: 3, channels: 2, streams: 1, ..ShardLimits::default() };
    let mut rig = connected(Setup { limits, ..Setup::default() });
    let (one, other) = (ring(16, 1_024), ring(16, 1_024));
    let _first = rig.subscribe(1, &one, Wish::default());
    // A second ring is one too many.
    let (_, consumer) = rig.ask(1, &Wish::default());
    let (label, _) = rig.asked();
    rig.left.tell(Command::AcceptChannel(Box::new(AcceptChannel {
        index: index(1, 0x1001),
        label,
        ring: other.clone(),
        end: std::sync::Arc::default(),
        weight: 1,
        reliability: Default::default(),
        handle: consumer.clone(),
        publication: corewire_proto::channel::PublicationId::default(),
        resume: None,
    })));
    rig.run_until(LONG, |_| consumer.close_code() == Some(CloseCode::NO_CAPACITY));
    assert_eq!(other.readers(), 0);
    rig.run_for(Duration::from_millis(10));
    // The same ring again is none.
    let _second = rig.subscribe(1, &one, Wish::default());
    let (_, third) = rig.ask(1, &Wish::default());
    rig.run_until(LONG, |_| third.close_code() == Some(CloseCode::NO_CAPACITY));
    // A slot beyond the table, and one that is taken.
    for slot in [7, 1] {
        rig.connect(slot, &SessionConfig::default());
        let refused = rig.left.pick(|event| match event {
            Event::SessionClosed { index: its, .. } if its.slot() == slot => Some(()),
            _ => None,
        });
        assert!(refused.is_some(), "slot {slot}");
    }
    assert_eq!(rig.left.count(Counter::Sessions), 1);
}

#[test]
fn a_dead_peer_ends_the_session_and_frees_the_ring() {
    let mut rig = connected(Setup::default());
    let ring = ring(64, 8_192);
    let leg = rig.subscribe(1, &ring, Wish::default());
    let (left, right) = (rig.left.host, rig.right.host);
    rig.world.set_partition(&[left], &[right], true);
    publish(&ring, 10, 64);
    rig.run_until(LONG, |rig| rig.left.count(Counter::Sessions) == 0);
    assert_eq!(leg.producer.state(), ChannelState::Terminated);
    // The event of the channel's end carries a reader that keeps the place of a consumer that comes back.
    assert!(!ring.is_empty());
    let kept = rig.left.pick(|event| match event {
        Event::ChannelClosed { parked: Some(_), .. } => Some(()),
        _ => None,
    });
    assert!(kept.is_some(), "a place is kept");
    drop(kept);
    assert!(ring.is_empty());
}

#[test]
fn turn_of_a_bulk_sender_ends_after_a_few_trains() {
    let driver = DriverConfig::default();
    let mut rig = Rig::new(Setup { driver, ..Setup::default() });
    let config = SessionConfig { congestion: Congestion::Unlimited, ..SessionConfig::default() };
    rig.connect(1, &config);
    let ring = ring(4_096, 8 << 20);
    let wish = Wish { window_bytes: 8 << 20, ..Wish::default() };
    let mut leg = rig.subscribe(1, &ring, wish);
    rig.run_for(Duration::from_millis(10));
    assert_eq!(publish(&ring, 3_000, 1_000), 3_000);
    let mut most = 0;
    // Without rests, as long as the shard has something to send.
    for _ in 0..100 {
        let before = rig.left.count(Counter::BytesSent);
        rig.left.shard.turn();
        most = most.max(rig.left.count(Counter::BytesSent) - before);
    }
    assert!((200_000..400_000).contains(&most), "{most} bytes in one turn");
    let mut taken = 0;
    rig.run_until(LONG, |_| {
        taken += leg.take(usize::MAX).0;
        taken == 3_000
    });
}
