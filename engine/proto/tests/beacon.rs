//! Beacons on a simulated link: who meets whom, how soon, at what cost, and what attackers get.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use corewire_proto::{
    NetworkId, PeerId, StreamId,
    beacon::{
        BURST, Beacon, BeaconConfig, BeaconError, BeaconEvent, MAX_BEACON_BYTES, MAX_BEACON_RECORD_BYTES,
        OPENS_PER_SECOND, PERIOD, SEND_GAP,
    },
    handshake::NetworkSecret,
    identity::Identity,
    membership::{LongRecord, PeerRecord, RecordVersion, SignedRecord, TransportKeyEntry},
    seal::KeyBytes,
    time::Instant,
};
use corewire_testkit::{SplitMix64, seeds};

const NETWORK: NetworkId = NetworkId([0x11; 32]);

fn key() -> KeyBytes {
    NetworkSecret::of_public_network(&NETWORK).beacon_key(&NETWORK)
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn identity(n: usize) -> Identity {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    Identity::from_seed(&seed)
}

fn record(n: usize, sequence: u64, streams: usize) -> SignedRecord {
    let record = PeerRecord {
        peer_id: PeerId::default(),
        identity_key: [0; 32],
        transport_keys: vec![TransportKeyEntry { key: [9; 32], validity: 0 }],
        addresses: vec!["10.0.0.1:4000".parse().unwrap(), "[fd00::1]:4000".parse().unwrap()],
        tags: Vec::new(),
        streams: (0..streams).map(|n| StreamId([n as u8; 32])).collect(),
        version: RecordVersion { incarnation: 5, sequence },
        lifetime_s: 600,
        leaving: false,
    };
    SignedRecord::sign(&identity(n), &NETWORK, record).unwrap()
}

fn config(n: usize, incarnation: u64) -> BeaconConfig {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    seed[8..16].copy_from_slice(&incarnation.to_le_bytes());
    BeaconConfig { key: key(), incarnation, seed, max_peers: 2_048 }
}

fn node(now: Instant, n: usize, incarnation: u64) -> Beacon {
    let mut beacon = Beacon::new(now, identity(n).peer_id(), config(n, incarnation));
    beacon.announce(now, &record(n, incarnation, 1));
    beacon
}

/// Nodes on one link that loses, doubles and delays.
struct Link {
    now: Instant,
    nodes: Vec<Beacon>,
    loss_per_mille: u64,
    dice: SplitMix64,
    /// Datagrams on their way: when, from and to whom, what.
    way: BTreeMap<(Instant, u64), (usize, usize, Vec<u8>)>,
    sent: u64,
    bytes: u64,
    /// Whose records each has, as (node, record's bytes), and when the latest came.
    known: BTreeSet<(usize, Vec<u8>)>,
    latest: Instant,
}

impl Link {
    fn new(seed: u64, nodes: usize, loss_per_mille: u64) -> Self {
        Self {
            now: Instant::ZERO,
            nodes: (0..nodes).map(|n| node(Instant::ZERO, n, 1)).collect(),
            loss_per_mille,
            dice: SplitMix64::new(seed),
            way: BTreeMap::new(),
            sent: 0,
            bytes: 0,
            known: BTreeSet::new(),
            latest: Instant::ZERO,
        }
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            for from in 0..self.nodes.len() {
                while let Some(datagram) = self.nodes[from].poll_transmit(self.now) {
                    self.sent += 1;
                    self.bytes += datagram.len() as u64;
                    for to in (0..self.nodes.len()).filter(|to| *to != from) {
                        if !self.dice.chance(self.loss_per_mille) {
                            let copies = 1 + u64::from(self.dice.chance(100));
                            for _ in 0..copies {
                                let delay = Duration::from_millis(1 + self.dice.below(3));
                                let key = (self.now + delay, self.dice.next_u64());
                                self.way.insert(key, (from, to, datagram.clone()));
                            }
                        }
                    }
                }
            }
            let timers = self.nodes.iter().map(Beacon::poll_timeout);
            let arrival = self.way.first_key_value().map(|((when, _), _)| *when);
            let next = timers.chain(arrival).min().unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            while let Some(entry) = self.way.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (_, to, datagram) = entry.remove();
                if let Ok(Some(BeaconEvent::Record { bytes, .. })) =
                    self.nodes[to].handle_datagram(self.now, &datagram)
                {
                    self.known.insert((to, bytes));
                    self.latest = self.now;
                }
            }
            for node in &mut self.nodes {
                while node.poll_silent(self.now).is_some() {}
            }
        }
    }

    fn all_know_all(&self) -> bool {
        self.nodes.iter().all(|node| node.believed() == self.nodes.len() - 1)
    }
}

#[test]
fn two_nodes_meet_within_a_second_though_a_third_is_lost() {
    let mut late = 0;
    for seed in seeds(100) {
        let mut link = Link::new(seed, 2, 0);
        link.run_until(at(40));
        assert!(link.all_know_all(), "seed {seed}: without loss it takes two beacons of each");
        let mut link = Link::new(seed, 2, 50);
        link.run_until(at(1_000));
        assert!(link.all_know_all(), "seed {seed}: not within a second");
        let mut link = Link::new(seed, 2, 333);
        link.run_until(at(1_000));
        late += u32::from(!link.all_know_all());
        link.run_until(at(40_000));
        assert!(link.all_know_all(), "seed {seed}: never met");
    }
    println!("{late} of 100 pairs needed more than a second");
    assert!(late <= 5);
}

#[test]
fn many_nodes_that_start_at_once_meet_at_a_bounded_rate() {
    const NODES: usize = 40;
    let mut link = Link::new(1, NODES, 20);
    link.run_until(at(4_000));
    assert!(link.all_know_all());
    let (begun, bytes) = (link.sent, link.bytes);
    assert!(begun < NODES as u64 * u64::from(BURST) * 2, "{begun} beacons");
    link.run_until(at(34_000));
    assert!(link.all_know_all());
    let each = (link.bytes - bytes) as f64 / NODES as f64 / 30.0;
    println!("{NODES} nodes met with {begun} beacons; then {each:.0} bytes per node and second");
    assert!(each < 200.0);
}

#[test]
fn a_changed_record_is_known_at_once() {
    let mut link = Link::new(1, 3, 0);
    link.run_until(at(1_000));
    let changed = record(0, 2, 3);
    link.nodes[0].announce(at(1_000), &changed);
    link.run_until(at(1_005));
    let knows = |node| link.known.contains(&(node, changed.bytes().to_vec()));
    assert!(knows(1) && knows(2) && link.latest <= at(1_004));
}

#[test]
fn a_record_that_is_too_long_is_told_of() {
    let mut link = Link::new(1, 2, 0);
    let streams = MAX_BEACON_RECORD_BYTES / 32;
    link.nodes[0].announce(at(0), &record(0, 9, streams));
    link.run_until(at(0));
    let (mut one, mut other) = (link.nodes.remove(0), link.nodes.remove(0));
    let told = meet(at(500), &mut one, &mut other);
    let long = record(0, 9, streams);
    assert!(long.bytes().len() > MAX_BEACON_RECORD_BYTES);
    let told_of = LongRecord {
        peer: identity(0).peer_id(),
        version: long.record().version,
        mark: long.mark(),
        len: long.bytes().len() as u16,
        addresses: long.record().addresses.clone(),
    };
    assert_eq!(told, Some(BeaconEvent::Long(told_of.clone())));
    let again = meet(at(10_000), &mut one, &mut other);
    assert_eq!(again, Some(BeaconEvent::Same(told_of.peer)));
    other.forget_told(&told_of.peer);
    let again = meet(at(30_000), &mut one, &mut other);
    assert_eq!(again, Some(BeaconEvent::Long(told_of)), "it was not fetched");
}

/// Lets two nodes exchange beacons until `other` believes `one`, and gives back what it was told then.
fn meet(mut now: Instant, one: &mut Beacon, other: &mut Beacon) -> Option<BeaconEvent> {
    for _ in 0..1_000 {
        now += Duration::from_millis(5);
        while let Some(datagram) = other.poll_transmit(now) {
            let _ = one.handle_datagram(now, &datagram);
        }
        while let Some(datagram) = one.poll_transmit(now) {
            if let Ok(Some(event)) = other.handle_datagram(now, &datagram) {
                return Some(event);
            }
        }
    }
    None
}

#[test]
fn a_stranger_reads_and_forges_nothing() {
    let mut one = node(at(0), 0, 1);
    let mut datagrams = Vec::new();
    for ms in 0..2_000 {
        datagrams.extend(one.poll_transmit(at(ms)));
    }
    assert!(datagrams.len() >= 4);
    let windows = |datagram: &[u8]| datagram.windows(6).map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
    for pair in datagrams.windows(2) {
        assert_eq!(pair[0].len(), pair[1].len(), "the length tells nothing");
        assert!(windows(&pair[0]).is_disjoint(&windows(&pair[1])), "equal bytes in two beacons");
    }
    let signed = record(0, 1, 1);
    for public in [NETWORK.as_bytes(), identity(0).peer_id().as_bytes(), identity(0).public_key()] {
        assert!(windows(&datagrams[0]).is_disjoint(&windows(public)));
    }
    assert!(windows(&datagrams[0]).is_disjoint(&windows(signed.bytes())));

    let other_key = NetworkSecret::of_public_network(&NetworkId([0x12; 32])).beacon_key(&NETWORK);
    let mut foreign =
        Beacon::new(at(0), identity(1).peer_id(), BeaconConfig { key: other_key, ..config(1, 1) });
    assert_eq!(foreign.handle_datagram(at(1), &datagrams[0]), Err(BeaconError::Foreign));
    let mut member = node(at(0), 2, 1);
    for bit in 0..datagrams[0].len() * 8 {
        let mut damaged = datagrams[0].clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let now = at(1 + bit as u64);
        assert_eq!(member.handle_datagram(now, &damaged), Err(BeaconError::Foreign), "bit {bit}");
    }
    for len in [0, 1, 40, 41, MAX_BEACON_BYTES, MAX_BEACON_BYTES + 1, 65_507] {
        assert_eq!(member.handle_datagram(at(60_000), &vec![1; len]), Err(BeaconError::Foreign), "{len}");
    }
    assert_eq!(member.believed(), 0);
}

#[test]
fn a_replayed_beacon_tells_nothing() {
    let (mut one, mut other) = (node(at(0), 0, 1), node(at(0), 1, 1));
    assert!(meet(at(0), &mut one, &mut other).is_some());
    let recorded = (0..40_000).find_map(|ms| one.poll_transmit(at(20_000 + ms))).unwrap();
    let later = (0..40_000).find_map(|ms| one.poll_transmit(at(61_000 + ms))).unwrap();
    let same = BeaconEvent::Same(identity(0).peer_id());
    assert_eq!(other.handle_datagram(at(101_000), &later), Ok(Some(same)));
    assert_eq!(other.handle_datagram(at(101_001), &later), Ok(None), "the same on another interface");
    assert_eq!(other.handle_datagram(at(101_002), &recorded), Err(BeaconError::Replayed));
    // The peer is silent, and forgotten: what was recorded is not believed.
    assert_eq!(other.poll_silent(at(200_000)), Some(identity(0).peer_id()));
    assert_eq!(other.handle_datagram(at(200_001), &later), Ok(None));
    assert_eq!(other.believed(), 0);
    // Nor is it by a node that starts later, which asks a few times and then no more.
    let mut late = node(at(300_000), 2, 1);
    while late.poll_timeout() < at(304_000) {
        let _ = late.poll_transmit(late.poll_timeout());
    }
    let mut answers = 0;
    for round in 0..100 {
        let now = at(304_000 + round * 20);
        let datagram = if round % 2 == 0 { &recorded } else { &later };
        assert_eq!(late.handle_datagram(now, datagram), Ok(None));
        answers += u32::from(late.poll_transmit(now + Duration::from_millis(15)).is_some());
    }
    assert_eq!(late.believed(), 0);
    assert!(answers <= 8, "{answers} answers to replays");
}

#[test]
fn a_peer_that_starts_anew_is_believed_at_once() {
    let (mut one, mut other) = (node(at(0), 0, 1), node(at(0), 1, 1));
    assert!(meet(at(0), &mut one, &mut other).is_some());
    let mut again = node(at(10_000), 0, 2);
    let first = again.poll_transmit(at(10_000)).unwrap();
    assert!(matches!(other.handle_datagram(at(10_001), &first), Ok(Some(BeaconEvent::Record { .. }))));
}

#[test]
fn a_flood_is_opened_at_a_bounded_rate() {
    let mut one = node(at(0), 0, 1);
    let garbage = vec![0x55; MAX_BEACON_BYTES];
    let mut count = |now: Instant, datagrams: u32| {
        let refused = |_| one.handle_datagram(now, &garbage) == Err(BeaconError::Flood);
        (0..datagrams).map(refused).filter(|flood| *flood).count() as u32
    };
    assert_eq!(count(at(0), OPENS_PER_SECOND * 3), OPENS_PER_SECOND * 2);
    assert_eq!(count(at(500), OPENS_PER_SECOND), OPENS_PER_SECOND / 2);
    assert_eq!(count(at(5_000), OPENS_PER_SECOND), 0);
}

#[test]
fn a_node_that_is_asked_without_end_sends_at_a_bounded_rate() {
    let mut one = node(at(0), 0, 1);
    let mut sent = 0;
    for ms in (0..10_000u64).step_by(20) {
        // Every 20 milliseconds another newcomer asks.
        let mut newcomer = node(at(ms), 1 + ms as usize, 1);
        let asking = newcomer.poll_transmit(at(ms)).unwrap();
        let _ = one.handle_datagram(at(ms), &asking);
        while let Some(datagram) = one.poll_transmit(at(ms)) {
            assert!(datagram.len() <= MAX_BEACON_BYTES);
            sent += 1;
        }
    }
    let most = BURST + (10_000 / SEND_GAP.as_millis() as u32);
    assert!(sent <= most, "{sent} beacons in ten seconds, at most {most}");
    assert!(sent > most / 2, "it answers: {sent}");
}

#[test]
fn invented_peers_take_a_bounded_room_and_displace_none() {
    let limit = 8;
    let mut one =
        Beacon::new(at(0), identity(0).peer_id(), BeaconConfig { max_peers: limit, ..config(0, 1) });
    one.announce(at(0), &record(0, 1, 1));
    let mut friend = node(at(0), 1, 1);
    assert!(meet(at(0), &mut friend, &mut one).is_some());
    for n in 2..100 {
        let invented = node(at(6_000), n, 1).poll_transmit(at(6_000)).unwrap();
        assert_eq!(one.handle_datagram(at(6_000 + n as u64), &invented), Ok(None));
    }
    assert_eq!(one.believed(), 1);
    // Members that answer fill the table; then a further one is refused.
    let mut members: Vec<_> = (100..100 + limit).map(|n| node(at(20_000), n, 1)).collect();
    let mut refused = 0;
    for (round, member) in (0..).zip(&mut members) {
        let met = meet(at(20_000 + 6_000 * round), member, &mut one);
        refused += usize::from(met.is_none());
    }
    assert_eq!((one.believed(), refused), (limit, 1));
    assert_eq!(
        one.handle_datagram(at(80_000), &node(at(0), 500, 1).poll_transmit(at(0)).unwrap()),
        Err(BeaconError::Full)
    );
}

#[test]
fn a_silent_peer_is_told_once() {
    let mut link = Link::new(1, 3, 0);
    link.run_until(at(1_000));
    assert!(link.all_know_all());
    // One falls silent; the others go on.
    let mut gone = link.nodes.remove(2);
    link.way.clear();
    let mut silent = Vec::new();
    for second in 1..100 {
        link.now = at(1_000 * second);
        for node in 0..2 {
            while let Some(datagram) = link.nodes[node].poll_transmit(link.now) {
                let _ = link.nodes[1 - node].handle_datagram(link.now, &datagram);
            }
        }
        while let Some(peer) = link.nodes[0].poll_silent(link.now) {
            silent.push((peer, link.now));
        }
    }
    let [(peer, when)] = silent[..] else { panic!("{silent:?}") };
    assert_eq!(peer, identity(2).peer_id());
    assert!(when.saturating_since(at(1_000)) <= PERIOD * 5);
    assert!(gone.poll_transmit(at(100_000)).is_some());
}

#[test]
fn groups_follow_from_the_key() {
    let (v4, v6) = Beacon::groups(&key());
    assert!(v4.ip().is_multicast() && v6.ip().is_multicast());
    let other = NetworkSecret::of_public_network(&NetworkId([0x12; 32])).beacon_key(&NETWORK);
    assert_ne!(Beacon::groups(&other), (v4, v6));
}
