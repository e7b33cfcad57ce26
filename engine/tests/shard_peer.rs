//! Sessions whose peer is silent or moves, and whose path takes packets of other sizes than before.

mod shard_rig;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use corewire_engine::{
    counters::Counter,
    driver::{Driver, Route, sim::Link},
    shard::Event,
    shared::Next,
};
use corewire_proto::{session::SessionConfig, time::Instant};
use corewire_rings::Ring;
use shard_rig::{Leg, Rig, Setup, Side, Wish, publish, ring};

const SLOT: u32 = 1;
const LEN: usize = 300;

/// A stream under way from the left side to the right one.
struct Flow {
    rig: Rig,
    ring: Ring,
    leg: Leg,
}

impl Flow {
    fn over(link: Link) -> Self {
        let mut rig = Rig::new(Setup { link, ..Setup::default() });
        rig.connect(SLOT, &SessionConfig::default());
        let ring = ring(256, 1 << 18);
        let leg = rig.subscribe(SLOT, &ring, Wish::default());
        Self { rig, ring, leg }
    }

    /// Carries `count` datums, none of which may be lost, within `limit`.
    fn carry(&mut self, count: usize, limit: Duration) {
        let Self { rig, ring, leg } = self;
        let (mut sent, mut taken) = (0, 0);
        rig.run_until(limit, |_| {
            sent += publish(ring, count - sent, LEN);
            let (new, skipped) = leg.take(usize::MAX);
            assert_eq!(skipped, 0);
            taken += new;
            taken == count
        });
    }

    /// Bytes per packet that the left side sends while it carries `count` datums.
    fn packet_bytes(&mut self, count: usize, limit: Duration) -> u64 {
        let before = self.rig.left.counters.snapshot();
        self.carry(count, limit);
        let sent = self.rig.left.counters.snapshot().since(&before);
        sent.get(Counter::BytesSent) / sent.get(Counter::PacketsSent)
    }
}

/// A path of `mtu` bytes of payload.
fn path(mtu_bytes: usize, reports_mtu: bool) -> Link {
    Link { mtu_bytes, reports_mtu, delay: Duration::from_micros(100), ..Link::CLEAN }
}

/// Since when the side's peer is silent, if that was reported.
fn suspect(side: &mut Side) -> Option<Instant> {
    let picked = side.pick(|event| match event {
        Event::Suspect { since, .. } => Some(*since),
        _ => None,
    });
    picked.map(|(since, _)| since)
}

/// A loop that takes one turn per frame, each of which finds what came since the last one.
#[test]
fn deadlines_fire_in_turns_that_are_far_apart_and_always_find_datagrams() {
    const FRAME: Duration = Duration::from_millis(33);
    let config = SessionConfig { dead_after: Duration::from_secs(2), ..SessionConfig::default() };
    let mut rig = Rig::new(Setup::default());
    rig.connect(SLOT, &config);
    let ring = ring(64, 1 << 16);
    let mut leg = rig.subscribe(SLOT, &ring, Wish::default());
    rig.connect_to_nobody(SLOT + 1, &config);
    let start = rig.now();
    let received = rig.left.count(Counter::DatagramsReceived);
    let mut frames = 0;
    let died_after = loop {
        frames += 1;
        publish(&ring, 1, LEN);
        rig.left.shard.turn();
        let frame_ends = start + FRAME * frames;
        while rig.now() < frame_ends {
            // Only the right side runs in between, and answers.
            rig.right.settle();
            rig.world.advance_to(frame_ends.min(rig.now() + Duration::from_millis(1)));
        }
        assert_eq!(leg.take(usize::MAX).1, 0);
        let died = rig.left.pick(|event| matches!(event, Event::SessionClosed { .. }).then_some(()));
        if died.is_some() {
            break rig.now() - start;
        }
        assert!(rig.now() - start < 3 * config.dead_after, "the dead peer lives on: {rig:?}");
    };
    assert!(died_after < config.dead_after + 10 * FRAME, "{died_after:?}");
    let received = rig.left.count(Counter::DatagramsReceived) - received;
    assert!(received + 10 > u64::from(frames), "{received} datagrams in {frames} frames");
}

#[test]
fn silent_peer_is_reported_with_the_start_of_its_silence_and_its_end() {
    let mut rig = Rig::new(Setup::default());
    rig.connect(SLOT, &SessionConfig::default());
    let ring = ring(64, 1 << 16);
    let mut leg = rig.subscribe(SLOT, &ring, Wish::default());
    let hosts = ([rig.left.host], [rig.right.host]);
    rig.world.set_partition(&hosts.0, &hosts.1, true);
    let cut = rig.now();
    publish(&ring, 1, 100);
    let mut since = None;
    rig.run_until(Duration::from_secs(3), |rig| {
        since = suspect(&mut rig.left);
        since.is_some()
    });
    let since = since.expect("just set");
    assert_eq!(rig.now() - since, Duration::from_secs(1));
    assert!(since >= cut && since - cut < Duration::from_millis(10), "{since:?}, cut at {cut:?}");
    rig.run_for(Duration::from_secs(3));
    assert_eq!(suspect(&mut rig.left), None, "once");
    let recovered = |event: &Event| matches!(event, Event::Recovered { .. }).then_some(());
    assert!(rig.left.pick(recovered).is_none());

    rig.world.set_partition(&hosts.0, &hosts.1, false);
    rig.run_until(Duration::from_secs(5), |rig| rig.left.pick(recovered).is_some());
    // The session has gone on.
    rig.run_until(Duration::from_secs(5), |_| leg.take(9) == (1, 0));
}

#[test]
fn session_follows_a_peer_that_moves_and_loses_nothing() {
    for producer_moves in [true, false] {
        let mut flow = Flow::over(Link::CLEAN);
        flow.carry(500, Duration::from_secs(1));
        assert_eq!(flow.leg.producer.remote_address(), Some(flow.rig.right.address));
        assert_eq!(flow.leg.consumer.remote_address(), Some(flow.rig.left.address));
        for port in [5_000, 5_001] {
            let rig = &mut flow.rig;
            let moves = if producer_moves { &rig.left } else { &rig.right };
            let to = SocketAddr::new(rig.world.ip(moves.host), port);
            rig.world.translate(moves.address, to);
            flow.carry(2_000, Duration::from_secs(5));
            let rig = &mut flow.rig;
            let other = if producer_moves { &mut rig.right } else { &mut rig.left };
            let moved = other.pick(|event| match event {
                Event::PeerMoved { to, .. } => Some(*to),
                _ => None,
            });
            assert_eq!(moved.map(|(to, _)| to), Some(to), "told once");
            let end = if producer_moves { &flow.leg.consumer } else { &flow.leg.producer };
            assert_eq!(end.remote_address(), Some(to));
            assert!(other.count(Counter::PacketsFromElsewhere) > 0);
        }
        let rig = &mut flow.rig;
        let (here, other) = if producer_moves { (&rig.left, &rig.right) } else { (&rig.right, &rig.left) };
        assert_eq!((other.count(Counter::PeersMoved), here.count(Counter::PeersMoved)), (2, 0));
        assert_eq!(other.count(Counter::SessionsClosed) + here.count(Counter::SessionsClosed), 0);
    }
}

#[test]
fn session_goes_on_when_its_host_loses_the_address_that_it_sends_from() {
    let mut rig = Rig::new(Setup::default());
    let lost = IpAddr::from([10, 9, 9, 9]);
    rig.connect_from(SLOT, &SessionConfig::default(), Some(lost));
    let ring = ring(256, 1 << 18);
    let leg = rig.subscribe(SLOT, &ring, Wish::default());
    let mut flow = Flow { rig, ring, leg };
    flow.carry(1_000, Duration::from_secs(2));
    assert_eq!(flow.rig.left.count(Counter::SessionsClosed), 0);
}

#[test]
fn packets_grow_to_the_size_of_the_path() {
    for (mtu, least, reports) in
        [(1_472, 1_000, false), (1_472, 1_000, true), (8_972, 4_000, true), (65_507, 9_000, false)]
    {
        let mut flow = Flow::over(path(mtu, reports));
        flow.carry(3_000, Duration::from_secs(5));
        let bytes = flow.packet_bytes(3_000, Duration::from_secs(5));
        assert!(bytes > least && bytes <= mtu as u64, "{bytes} bytes on a path of {mtu}");
        if reports {
            assert_eq!(flow.rig.world.stats().too_large, 1, "one probe shows the end of the search");
        }
    }
}

#[test]
fn path_below_the_base_size_carries_a_stream() {
    for (mtu, reports) in [(1_172, true), (972, false), (972, true), (548, false), (300, false)] {
        let mut flow = Flow::over(path(mtu, reports));
        flow.carry(1_000, Duration::from_secs(5));
        let bytes = flow.packet_bytes(1_000, Duration::from_secs(5));
        assert!(bytes > mtu as u64 / 3 && bytes <= mtu as u64, "{bytes} bytes on a path of {mtu}");
    }
}

#[test]
fn path_within_a_host_is_used_whole_after_a_round_trip() {
    let mut flow = Flow::over(path(65_507, false));
    flow.carry(1, Duration::from_secs(1));
    flow.rig.run_for(Duration::from_millis(1));
    let before = flow.rig.left.counters.snapshot();
    flow.carry(200, Duration::from_secs(1));
    let sent = flow.rig.left.counters.snapshot().since(&before);
    assert!(sent.get(Counter::PacketsSent) <= 10, "{sent:?}");
}

#[test]
fn path_that_shrinks_under_load_is_noticed_with_and_without_reports() {
    for (before, after) in [(1_472, 1_232), (65_507, 1_472), (1_472, 972)] {
        for reports in [true, false] {
            let mut flow = Flow::over(path(before, reports));
            flow.carry(3_000, Duration::from_secs(5));
            let (left, right) = (flow.rig.left.host, flow.rig.right.host);
            flow.rig.world.set_link(left, right, path(after, reports));
            let start = flow.rig.now();
            flow.carry(3_000, Duration::from_secs(5));
            let took = flow.rig.now() - start;
            assert!(took < Duration::from_secs(1), "{before} to {after}, reports {reports}: {took:?}");
            assert_eq!(flow.rig.left.count(Counter::SendTooLarge) > 0, reports);
        }
    }
}

#[test]
fn peer_is_not_given_up_while_its_answer_waits_to_be_read() {
    let mut flow = Flow::over(Link::CLEAN);
    flow.carry(10, Duration::from_secs(1));
    let (rig, ring) = (&mut flow.rig, &flow.ring);
    rig.run_for(Duration::from_millis(100));
    // The left side sends a datum and stands still from then on. Noise comes before the answer.
    publish(ring, 1, LEN);
    while rig.left.shard.turn() == Next::Again {}
    let sent = rig.now();
    let stranger = rig.world.host();
    let mut noise = rig.world.driver(stranger);
    let address = SocketAddr::new(rig.world.ip(stranger), 9_000);
    let socket = rig.world.bind(stranger, address, 1).expect("a free port").remove(0);
    let socket = noise.add_socket(socket.into()).expect("a socket");
    for _ in 0..1_000 {
        let lease = noise.lease().expect("a simulated send is done at once");
        noise.send(Route::new(socket, rig.left.address), lease, 100, 100);
        noise.submit().expect("a simulated send");
    }
    let dead_after = SessionConfig::default().dead_after;
    let late = sent + dead_after + Duration::from_millis(50);
    while rig.now() < late && rig.world.advance_to_next_event().is_some_and(|at| at < late) {
        rig.right.settle();
    }
    rig.world.advance_to(late);
    rig.settle();
    assert_eq!(rig.left.count(Counter::SessionsClosed), 0, "the answer was there");
    assert_eq!(flow.leg.take(9), (1, 0));
    flow.carry(10, Duration::from_secs(5));
}
