//! Nodes of a membership on a virtual clock and a network that loses, doubles and delays.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use corewire_proto::{
    NetworkId, PeerId, StreamId, TagId,
    handshake::NetworkSecret,
    identity::Identity,
    membership::{PeerRecord, RecordVersion, SignedRecord, TransportKeyEntry},
    seal::KeyBytes,
    swim::{PERIOD, RecordBook, Swim, SwimConfig, SwimError, SwimEvent, SwimTarget, mark_of},
    time::Instant,
};
use corewire_testkit::SplitMix64;

pub(crate) const NETWORK: NetworkId = NetworkId([0x11; 32]);

/// Bytes of the headers of IPv4 and UDP.
const HEADERS: u64 = 28;

pub(crate) fn key() -> KeyBytes {
    NetworkSecret::of_public_network(&NETWORK).beacon_key(&NETWORK)
}

pub(crate) fn identity(n: usize) -> Identity {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    Identity::from_seed(&seed)
}

pub(crate) fn address(n: usize) -> SocketAddr {
    let [a, b, c, _] = (n as u32).to_le_bytes();
    SocketAddr::from(([10, c, b, a], 4_000))
}

/// What a node announces beside its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) sequence: u64,
    pub(crate) tags: Vec<TagId>,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) leaving: bool,
}

pub(crate) fn record(n: usize, facts: &Facts) -> SignedRecord {
    let record = PeerRecord {
        peer_id: PeerId::default(),
        identity_key: [0; 32],
        transport_keys: vec![TransportKeyEntry { key: [9; 32], validity: 0 }],
        addresses: vec![address(n)],
        tags: facts.tags.clone(),
        streams: facts.streams.clone(),
        version: RecordVersion { incarnation: 5, sequence: facts.sequence },
        lifetime_s: 24 * 3_600,
        leaving: facts.leaving,
    };
    SignedRecord::sign(&identity(n), &NETWORK, record).unwrap()
}

/// All records that were ever signed, by their marks. Each node reads those that it knows.
#[derive(Default)]
pub(crate) struct Library {
    pub(crate) records: HashMap<u64, (SignedRecord, Instant)>,
    now: Instant,
}

impl RecordBook for Library {
    fn record(&self, _peer: &PeerId, mark: u64) -> Option<(&SignedRecord, u32)> {
        let (record, made) = self.records.get(&mark)?;
        Some((record, self.now.saturating_since(*made).as_secs() as u32))
    }
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Swim>,
    pub(crate) ids: Vec<PeerId>,
    places: HashMap<PeerId, usize>,
    pub(crate) facts: Vec<Facts>,
    pub(crate) library: Library,
    /// Nodes that neither send nor receive.
    pub(crate) dead: HashSet<usize>,
    /// Nodes are cut off from those of the other part.
    pub(crate) cut_at: Option<usize>,
    pub(crate) loss_per_mille: u64,
    /// An outsider resends what is for one node to another one.
    pub(crate) resent: Option<(usize, usize)>,
    /// A node that an outsider floods before each packet that it gets, and with what.
    pub(crate) flood: Option<(usize, Vec<u8>)>,
    /// A node that never signs a newer record when it is suspected.
    pub(crate) mute: Option<usize>,
    pub(crate) dice: SplitMix64,
    way: BTreeMap<(Instant, u64), (usize, usize, Vec<u8>)>,
    sent_order: u64,
    due: Vec<Instant>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Bytes that were sent, with the headers of IPv4 and UDP, and packets.
    pub(crate) sent: (u64, u64),
    /// Who has tried a further address of whom.
    pub(crate) sent_again: HashSet<(usize, usize)>,
    /// Packets that each node sent.
    pub(crate) nodes_sent: Vec<u64>,
    /// Who has given whom up.
    pub(crate) failures: Vec<(usize, PeerId)>,
    /// Nodes that know a record, by its mark, since it was watched.
    pub(crate) watched: HashMap<u64, usize>,
    /// Packets that led to an error.
    pub(crate) errors: u64,
    /// Records that nodes signed because they were suspected.
    pub(crate) objections: u64,
    /// Records that were told of and not fetched.
    pub(crate) unfetched: u64,
}

impl World {
    /// Nodes that know nothing but their own records.
    pub(crate) fn new(seed: u64, count: usize, loss_per_mille: u64) -> Self {
        let now = Instant::ZERO + Duration::from_secs(1_000);
        let ids: Vec<PeerId> = (0..count).map(|n| identity(n).peer_id()).collect();
        let swim = |n: usize| {
            let mut random = [3; 32];
            random[..8].copy_from_slice(&(n as u64 ^ seed << 20).to_le_bytes());
            let config = SwimConfig {
                identity: Arc::new(identity(n)),
                key: key(),
                seed: random,
                max_members: count.max(64),
                period: PERIOD,
            };
            Swim::new(now, config)
        };
        let mut world = Self {
            now,
            nodes: (0..count).map(swim).collect(),
            places: ids.iter().enumerate().map(|(place, id)| (*id, place)).collect(),
            ids,
            facts: vec![Facts::default(); count],
            library: Library { now, ..Library::default() },
            dead: HashSet::new(),
            cut_at: None,
            loss_per_mille,
            resent: None,
            flood: None,
            mute: None,
            dice: SplitMix64::new(seed),
            way: BTreeMap::new(),
            sent_order: 0,
            due: vec![Instant::FAR_FUTURE; count],
            timers: BinaryHeap::new(),
            sent: (0, 0),
            sent_again: HashSet::new(),
            nodes_sent: vec![0; count],
            failures: Vec::new(),
            watched: HashMap::new(),
            errors: 0,
            objections: 0,
            unfetched: 0,
        };
        for n in 0..count {
            world.facts[n].streams = (0..2).map(|stream| StreamId([stream; 32])).collect();
            world.facts[n].tags = vec![TagId([1; 32])];
            world.sign(n, Instant::ZERO);
        }
        world
    }

    /// The same, and everyone knows everyone.
    pub(crate) fn acquainted(seed: u64, count: usize, loss_per_mille: u64) -> Self {
        let mut world = Self::new(seed, count, loss_per_mille);
        let mut all: Vec<SignedRecord> =
            world.library.records.values().map(|(record, _)| record.clone()).collect();
        all.sort_by_key(|record| record.record().peer_id);
        for node in &mut world.nodes {
            all.iter().for_each(|record| node.learned(world.now, record, 1_000, false));
        }
        (0..count).for_each(|n| world.reschedule(n));
        world
    }

    /// Signs what a node announces, as of this time, and lets it announce that. The record's mark.
    fn sign(&mut self, n: usize, made: Instant) -> u64 {
        self.facts[n].sequence += 1;
        let record = record(n, &self.facts[n]);
        let mark = mark_of(&record);
        self.library.records.insert(mark, (record.clone(), made));
        self.nodes[n].announce(self.now, &record, &self.library);
        self.after(n);
        mark
    }

    /// A node changes what it announces. The new record's mark, whose spreading is watched.
    pub(crate) fn change(&mut self, n: usize, change: impl FnOnce(&mut Facts)) -> u64 {
        change(&mut self.facts[n]);
        let mark = self.sign(n, self.now);
        self.watched.insert(mark, 1);
        mark
    }

    /// Lets a node know another one's record, as by a session or a beacon.
    pub(crate) fn introduce(&mut self, n: usize, other: usize) {
        let mark = self.nodes[other].mark(&self.ids[other]).unwrap();
        let record = self.library.records[&mark].0.clone();
        self.nodes[n].learned(self.now, &record, 0, false);
        self.after(n);
    }

    /// Carries out what a node wants done after a call.
    pub(crate) fn after(&mut self, n: usize) {
        while let Some(event) = self.nodes[n].poll_event() {
            match event {
                SwimEvent::Record { bytes, age_s } => self.take_record(n, &bytes, age_s),
                SwimEvent::Suspected if self.mute == Some(n) => {}
                SwimEvent::Suspected => {
                    self.objections += 1;
                    self.sign(n, self.now);
                }
                SwimEvent::Failed(peer) => self.failures.push((n, peer)),
                SwimEvent::Unfetched(_) => self.unfetched += 1,
                SwimEvent::Answered(..) | SwimEvent::Claimed(..) | SwimEvent::Forgotten(_) => {}
            }
        }
        while let Some((to, bytes)) = self.nodes[n].poll_transmit() {
            let to = match to {
                // A peer that was invented is nowhere.
                SwimTarget::Peer { peer, .. } if !self.places.contains_key(&peer) => continue,
                SwimTarget::Peer { peer, again } => {
                    let to = self.places[&peer];
                    if again {
                        self.sent_again.insert((n, to));
                    }
                    to
                }
                SwimTarget::Address(to) => {
                    let std::net::IpAddr::V4(ip) = to.ip() else { unreachable!("all are IPv4") };
                    let [_, c, b, a] = ip.octets();
                    u32::from_le_bytes([a, b, c, 0]) as usize
                }
            };
            self.send(n, to, bytes);
        }
        self.reschedule(n);
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let to = self.resent.filter(|(meant, _)| *meant == to).map_or(to, |(_, other)| other);
        self.sent.0 += bytes.len() as u64 + HEADERS;
        self.sent.1 += 1;
        self.nodes_sent[from] += 1;
        let cut = self.cut_at.is_some_and(|at| (from < at) != (to < at));
        let gone = self.dead.contains(&from) || self.dead.contains(&to);
        if cut || gone || self.dice.chance(self.loss_per_mille) {
            return;
        }
        let copies = 1 + u64::from(self.dice.chance(self.loss_per_mille / 4));
        for _ in 0..copies {
            let delay = Duration::from_micros(200 + self.dice.below(3_000));
            self.sent_order += 1;
            self.way.insert((self.now + delay, self.sent_order), (from, to, bytes.clone()));
        }
    }

    fn take_record(&mut self, n: usize, bytes: &[u8], age_s: u32) {
        let Ok(record) = SignedRecord::verify(bytes, &NETWORK) else { return self.errors += 1 };
        let (peer, mark) = (record.record().peer_id, mark_of(&record));
        let known = self.nodes[n].mark(&peer).and_then(|mark| self.library.records.get(&mark));
        let newer = known.is_none_or(|(known, _)| record.record().version > known.record().version);
        if newer {
            self.nodes[n].learned(self.now, &record, u64::from(age_s), false);
            if let Some(count) = self.watched.get_mut(&mark) {
                *count += 1;
            }
        }
    }

    pub(crate) fn reschedule(&mut self, n: usize) {
        let due = self.nodes[n].poll_timeout();
        if due != self.due[n] {
            self.due[n] = due;
            self.timers.push(Reverse((due, n)));
        }
    }

    /// Runs until `end`, or until `done`, which is asked after each step.
    pub(crate) fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) {
        loop {
            while self.timers.peek().is_some_and(|Reverse((at, n))| self.due[*n] != *at) {
                self.timers.pop();
            }
            let timer = self.timers.peek().map(|Reverse((at, _))| *at);
            let arrival = self.way.first_key_value().map(|((at, _), _)| *at);
            let next = timer.into_iter().chain(arrival).min().unwrap_or(end).max(self.now);
            if next > end || done(self) {
                self.now = self.now.max(end.min(next));
                return;
            }
            (self.now, self.library.now) = (next, next);
            if arrival.is_some_and(|at| at <= next) {
                let (_, (from, to, bytes)) = self.way.pop_first().expect("it has arrived");
                if !self.dead.contains(&to) {
                    if let Some((_, garbage)) = self.flood.as_ref().filter(|(node, _)| *node == to) {
                        let node = &mut self.nodes[to];
                        let foreign = Err(SwimError::Foreign);
                        while node.handle_packet(next, address(from), garbage, &self.library) == foreign {}
                    }
                    let taken = self.nodes[to].handle_packet(self.now, address(from), &bytes, &self.library);
                    self.errors += u64::from(taken.is_err());
                    self.after(to);
                }
            } else if let Some(Reverse((_, n))) = self.timers.pop() {
                self.due[n] = Instant::FAR_FUTURE;
                if self.dead.contains(&n) {
                    continue;
                }
                self.nodes[n].handle_timeout(self.now, &self.library);
                self.after(n);
            }
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time, |_| false);
    }

    /// How long it takes until this holds, at most `limit`.
    pub(crate) fn time_until(
        &mut self,
        limit: Duration,
        done: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let (begun, end) = (self.now, self.now + limit);
        self.run_until(end, done);
        (self.now < end).then(|| self.now.saturating_since(begun))
    }

    /// Nodes that have given this one up.
    pub(crate) fn given_up(&self, n: usize) -> usize {
        self.failures.iter().filter(|(_, peer)| *peer == self.ids[n]).count()
    }
}
