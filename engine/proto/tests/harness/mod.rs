//! Two sessions on a virtual clock and a network that loses, duplicates, reorders, delays and damages
//! packets, all from one seed. After every step the laws of the stream model are checked.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses its part")]

mod ends;
mod flow;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use corewire_proto::{
    StreamId,
    channel::{Accept, Label, OpenRequest, PublicationId, Reliability, datum_cost},
    seal::{KeyBytes, Opener, Sealer, Suite},
    session::{CloseCode, Session, SessionConfig, SessionEvent},
    time::Instant,
    wire::header::{DataPacket, Header, PHASES, ReceiverIndex},
};

pub use corewire_testkit::SplitMix64 as Rng;
pub use ends::{Consuming, Inboxes, Producing, Rings};
pub use flow::{Flow, content, is_skipped};
pub use trouble::{Counts, Trouble};

/// Rates per thousand packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub loss: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    /// Share of packets that take up to ten times as long.
    pub reorder: u64,
    pub delay_us: u64,
    /// Every packet takes exactly the delay, in place of up to a tenth more.
    pub steady: bool,
}

pub struct Peer {
    pub session: Session,
    pub rings: Rings,
    pub inboxes: Inboxes,
    pub controls: Vec<Vec<u8>>,
    pub closed: Option<(CloseCode, bool)>,
    pub confirmed: bool,
    pub rejected: Vec<(Label, CloseCode)>,
    /// How to answer an opened channel, by stream id.
    pub flows: BTreeMap<[u8; 32], (u64, Flow)>,
    pub refuse: BTreeSet<[u8; 32]>,
    /// The longest datum that the other peer takes, by channel.
    pub asked: BTreeMap<Label, u32>,
    pub packets: u64,
    /// It has asked for a new key.
    pub rekey_due: bool,
    /// The keys that came into use, by phase.
    pub rekeyed: Vec<u8>,
    /// The number and the phase of the last packet that it sealed.
    pub sealed: Option<(u64, u8)>,
    /// The other peer is silent, as it reported.
    pub suspect: Option<Duration>,
    /// How often it reported that.
    pub suspected: u64,
    pub process: Process,
    /// Where it is.
    pub address: SocketAddr,
    /// Where it found the other peer to have moved.
    pub moves: Vec<SocketAddr>,
    /// Packets that arrived while the process was stopped.
    waiting: Vec<Sent>,
}

/// A packet on its way.
#[derive(Clone)]
struct Sent {
    to: usize,
    /// Where it is sent.
    at: SocketAddr,
    from: SocketAddr,
    packet: Vec<u8>,
}

fn at(index: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_000 + index))
}

/// A bottleneck: packets that find its queue full are lost.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub bytes_per_second: u64,
    pub queue_bytes: u64,
}

/// What a peer's process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    Runs,
    /// Nothing happens, and packets wait in its socket.
    Stopped,
    /// Its port refuses packets.
    Killed,
}

pub struct World {
    pub now: Instant,
    pub rng: Rng,
    pub faults: Faults,
    pub peers: [Peer; 2],
    network: BTreeMap<(Instant, u64), Sent>,
    sequence: u64,
    next_tick: Instant,
    pub tick: Duration,
    next_flow: u64,
    buf: Vec<u8>,
    pub steps: u64,
    pub cut: bool,
    /// Packets to this peer vanish.
    pub deaf: Option<usize>,
    /// Larger packets vanish.
    pub mtu: usize,
    pub link: Option<Link>,
    /// When the link has sent what is in its queue, in each direction.
    link_free_at: [Instant; 2],
    /// Faults so far, by kind.
    pub counts: Counts,
}

pub fn key(byte: u8) -> KeyBytes {
    KeyBytes::from_bytes([byte; 32])
}

pub fn sealer(byte: u8) -> Sealer {
    Sealer::new(Suite::ChaCha20Poly1305, &key(byte), Instant::ZERO)
}

pub fn opener(byte: u8) -> Opener {
    Opener::new(Suite::ChaCha20Poly1305, &key(byte), Instant::ZERO)
}

pub fn session(config: &SessionConfig, send: u8, receive: u8) -> Session {
    Session::new(config.clone(), sealer(send), opener(receive), ReceiverIndex::NONE, Instant::ZERO)
}

fn peer(session: Session) -> Peer {
    Peer {
        session,
        rings: Rings::default(),
        inboxes: Inboxes::default(),
        controls: Vec::new(),
        closed: None,
        confirmed: false,
        rejected: Vec::new(),
        flows: BTreeMap::new(),
        refuse: BTreeSet::new(),
        asked: BTreeMap::new(),
        packets: 0,
        rekey_due: false,
        rekeyed: Vec::new(),
        sealed: None,
        suspect: None,
        suspected: 0,
        process: Process::Runs,
        address: at(0),
        moves: Vec::new(),
        waiting: Vec::new(),
    }
}

impl World {
    pub fn new(seed: u64, config: &SessionConfig, faults: Faults) -> Self {
        let mut peers = [peer(session(config, 1, 2)), peer(session(config, 2, 1))];
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.address = at(index as u16);
            peer.session.set_peer_address(at(1 - index as u16), key(9));
        }
        Self {
            now: Instant::ZERO,
            rng: Rng::new(seed),
            faults,
            peers,
            network: BTreeMap::new(),
            sequence: 0,
            next_tick: Instant::ZERO,
            tick: Duration::from_micros(500),
            next_flow: 0,
            buf: vec![0; 65_536],
            steps: 0,
            cut: false,
            deaf: None,
            mtu: usize::MAX,
            link: None,
            link_free_at: [Instant::ZERO; 2],
            counts: Counts::default(),
        }
    }

    /// Peer `consumer` opens a channel for `flow`; the other side will produce it.
    pub fn open(&mut self, consumer: usize, flow: Flow) -> Label {
        let id = self.next_flow;
        self.next_flow += 1;
        let mut stream = [0; 32];
        stream[..8].copy_from_slice(&id.to_le_bytes());
        let request = OpenRequest {
            stream_id: StreamId(stream),
            subscription: [0; 8],
            resume: None,
            reliability: flow.reliability,
            window_bytes: flow.window_bytes,
            window_datums: flow.window_datums,
            max_datum_bytes: flow.max_datum,
            weight: flow.weight,
            form: Default::default(),
            criteria: vec![1, 2, 3],
            tickets: vec![vec![4; 40]],
        };
        let label = self.peers[consumer].session.open(request).unwrap();
        self.peers[1 - consumer].flows.insert(stream, (id, flow.clone()));
        let consuming = Consuming {
            flow: id,
            next: flow.first_seq,
            taken_seq: flow.first_seq,
            config: flow,
            accepted: false,
            inbox: VecDeque::new(),
            inbox_cost: 0,
            taken_bytes: 0,
            delivered: 0,
            skipped: 0,
            finished: false,
            closed: None,
            stalled: false,
        };
        self.peers[consumer].inboxes.consuming.insert(label, consuming);
        label
    }

    /// Processes the next packet, timer or tick of the applications; `false` when there is none.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        let packet = self.network.first_key_value().map(|((at, _), _)| *at);
        let timers = [0, 1].map(|index| {
            let peer = &self.peers[index];
            if peer.process == Process::Runs { peer.session.poll_timeout() } else { None }
        });
        let next = [packet, timers[0], timers[1], Some(self.next_tick)].into_iter().flatten().min();
        let Some(next) = next else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let sent = entry.remove();
            if sent.at == self.peers[sent.to].address {
                self.arrive(sent);
            }
        }
        let runs = [0, 1].map(|index| self.peers[index].process == Process::Runs);
        for index in (0..2).filter(|index| runs[*index]) {
            self.peers[index].session.handle_timeout(self.now);
            self.events(index);
        }
        if self.next_tick <= self.now {
            self.next_tick = self.now + self.tick;
            self.applications();
        }
        for index in (0..2).filter(|index| runs[*index]) {
            self.transmit(index);
            self.events(index);
            let at = self.peers[index].session.poll_timeout();
            assert!(at.is_none_or(|at| at > self.now), "a timer stays in the past: {at:?} at {:?}", self.now);
        }
        self.check();
        true
    }

    fn arrive(&mut self, mut sent: Sent) {
        let to = sent.to;
        let peer = &mut self.peers[to];
        match peer.process {
            Process::Runs => {
                peer.packets += 1;
                if let Ok(Some(packet)) = DataPacket::parse(&mut sent.packet) {
                    let _ = peer.session.handle_packet_from(self.now, sent.from, packet, &mut peer.inboxes);
                }
                self.events(to);
            }
            Process::Stopped => peer.waiting.push(sent),
            Process::Killed => self.peers[1 - to].session.handle_unreachable(self.now, true),
        }
    }

    /// A stopped process goes on: it serves its timers before it reads its socket.
    pub fn go_on(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        peer.process = Process::Runs;
        let waiting = std::mem::take(&mut peer.waiting);
        peer.session.handle_timeout(self.now);
        self.events(index);
        for sent in waiting {
            self.arrive(sent);
        }
    }

    fn events(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        while let Some(event) = peer.session.poll_event() {
            match event {
                SessionEvent::Confirmed => peer.confirmed = true,
                SessionEvent::Opened { label, request } => Self::answer(peer, label, request),
                SessionEvent::Accepted { label, accept } => {
                    let inbox = peer.inboxes.consuming.get_mut(&label).unwrap();
                    assert_eq!(accept.first_seq, inbox.config.first_seq);
                    assert!(!std::mem::replace(&mut inbox.accepted, true));
                }
                SessionEvent::Rejected { label, code, .. } => peer.rejected.push((label, code)),
                SessionEvent::Released { label } => {
                    let released = peer.session.released(label).unwrap();
                    let before = peer.rings.released.insert(label, released).unwrap_or(0);
                    assert!(released >= before);
                }
                SessionEvent::Blocked { label } => Self::grant(peer, label),
                SessionEvent::Finished { label, .. } => {
                    if label.is_by_peer() {
                        let ring = peer.rings.producing.get_mut(&label).unwrap();
                        assert!(!std::mem::replace(&mut ring.finished, true) && ring.closed.is_none());
                    } else {
                        let inbox = peer.inboxes.consuming.get_mut(&label).unwrap();
                        assert!(!std::mem::replace(&mut inbox.finished, true) && inbox.closed.is_none());
                    }
                }
                SessionEvent::Reset { label, code, .. } => {
                    if label.is_by_peer() {
                        if let Some(ring) = peer.rings.producing.get_mut(&label) {
                            ring.closed = Some(code);
                        }
                    } else {
                        peer.inboxes.consuming.get_mut(&label).unwrap().closed = Some(code);
                    }
                }
                SessionEvent::Suspect { silent_for } => {
                    assert!(peer.suspect.replace(silent_for).is_none(), "reported twice");
                    peer.suspected += 1;
                }
                SessionEvent::Recovered => assert!(peer.suspect.take().is_some(), "recovered from nothing"),
                SessionEvent::AddressChanged { to } => peer.moves.push(to),
                SessionEvent::RekeyDue => {
                    assert!(!std::mem::replace(&mut peer.rekey_due, true), "asked twice for one key");
                }
                SessionEvent::Rekeyed { phase } => {
                    peer.rekey_due = false;
                    peer.rekeyed.push(phase);
                }
                SessionEvent::Control(message) => peer.controls.push(message),
                SessionEvent::Closed { code, by_peer } => {
                    assert!(peer.closed.replace((code, by_peer)).is_none(), "closed twice");
                }
            }
        }
    }

    /// Answers a channel that the other peer has opened.
    fn answer(peer: &mut Peer, label: Label, request: OpenRequest) {
        peer.asked.insert(label, request.max_datum_bytes);
        if peer.refuse.contains(&request.stream_id.0) {
            peer.session.reject(label, CloseCode::NOT_ALLOWED).unwrap();
            return;
        }
        let (id, flow) = peer.flows[&request.stream_id.0].clone();
        assert_eq!((request.criteria, request.tickets.len()), (vec![1, 2, 3], 1));
        let accept = Accept {
            publication: PublicationId::default(),
            first_seq: flow.first_seq,
            max_datum_bytes: flow.max_datum,
            reliability: flow.reliability,
            weight: flow.weight,
        };
        peer.session.accept(label, accept).unwrap();
        peer.rings.producing.insert(
            label,
            Producing {
                flow: id,
                published: flow.first_seq,
                config: flow,
                finished: false,
                closed: None,
                fetched: 0,
            },
        );
    }

    fn grant(peer: &mut Peer, label: Label) {
        if let Some(inbox) = peer.inboxes.consuming.get(&label) {
            peer.session.grant(label, inbox.taken_seq, inbox.taken_bytes);
        }
    }

    fn applications(&mut self) {
        for peer in self.peers.iter_mut().filter(|peer| peer.process == Process::Runs) {
            for (label, ring) in &mut peer.rings.producing {
                if ring.finished || ring.closed.is_some() {
                    continue;
                }
                let end = ring.config.first_seq + ring.config.datums;
                if ring.published < end {
                    ring.published = (ring.published + 1 + self.rng.below(100)).min(end);
                    peer.session.publish(*label, ring.published);
                    if ring.published == end {
                        peer.session.finish(*label, end).unwrap();
                    }
                }
            }
            let labels: Vec<Label> = peer.inboxes.consuming.keys().copied().collect();
            for label in labels {
                let inbox = peer.inboxes.consuming.get_mut(&label).unwrap();
                if inbox.stalled {
                    continue;
                }
                for _ in 0..inbox.config.take {
                    let Some((seq, len)) = inbox.inbox.pop_front() else { break };
                    inbox.inbox_cost -= datum_cost(len);
                    inbox.taken_bytes += datum_cost(len);
                    inbox.taken_seq = seq + 1;
                }
                Self::grant(peer, label);
            }
        }
    }

    fn transmit(&mut self, from: usize) {
        while let Some((at, len)) = self.peers[from].session.poll_path_transmit(self.now, &mut self.buf) {
            let packet = self.buf[..len].to_vec();
            self.send(1 - from, at, packet);
        }
        for _ in 0..64 {
            let peer = &mut self.peers[from];
            let Some(len) = peer.session.poll_transmit(self.now, &mut self.buf, &mut peer.rings) else {
                return;
            };
            let packet = self.buf[..len].to_vec();
            let (header, _) = Header::parse(&packet).unwrap();
            let (number, phase) = (header.number(), header.phase());
            if let Some((last, before)) = peer.sealed.replace((number, phase)) {
                assert!(number > last, "packet number {number} after {last}");
                assert!(phase == before || phase == (before + 1) % PHASES, "phase {phase} after {before}");
            }
            let at = self.peers[from].session.peer_address().unwrap_or(self.peers[1 - from].address);
            self.send(1 - from, at, packet);
        }
    }

    /// One step in which packets of a peer come from its present address, and it receives at `home`.
    pub fn forward(&mut self, index: usize, home: SocketAddr) {
        self.transmit(index);
        self.peers[index].address = home;
        self.step();
    }

    /// The peer gets another address, as behind a router that forgets its mapping.
    pub fn rebind(&mut self, index: usize) {
        let address = &mut self.peers[index].address;
        address.set_port(address.port() + 2);
    }

    /// The peer moves to another host: what is on its way to its old address is lost.
    pub fn relocate(&mut self, index: usize) {
        let address = &mut self.peers[index].address;
        let SocketAddr::V4(v4) = address else { unreachable!("the harness uses IPv4") };
        v4.set_ip(std::net::Ipv4Addr::from_bits(v4.ip().to_bits() + 1));
    }

    fn send(&mut self, to: usize, at: SocketAddr, mut packet: Vec<u8>) {
        let from = self.peers[1 - to].address;
        let faults = self.faults;
        if self.cut || self.deaf == Some(to) || packet.len() > self.mtu {
            return;
        }
        if self.rng.chance(faults.loss) {
            return self.counts.add("loss");
        }
        let Some(queued) = self.pass_link(to, packet.len() as u64) else { return };
        let copies = 1 + u64::from(self.rng.chance(faults.duplicate));
        if copies > 1 {
            self.counts.add("duplication");
        }
        if faults.delay_us > 0 {
            self.counts.add("delay");
        }
        for _ in 0..copies {
            let jitter = if faults.steady { 0 } else { faults.delay_us * 100 };
            let mut delay = faults.delay_us * 1000 + self.rng.below(jitter + 1);
            if self.rng.chance(faults.reorder) {
                self.counts.add("reordering");
                delay += self.rng.below(faults.delay_us * 10_000 + 1);
            }
            if self.rng.chance(faults.corrupt) {
                self.counts.add("corruption");
                let at = self.rng.below(packet.len() as u64) as usize;
                packet[at] ^= 1 << self.rng.below(8);
            }
            self.sequence += 1;
            let arrival = self.now + queued + Duration::from_nanos(delay);
            self.network.insert((arrival, self.sequence), Sent { to, at, from, packet: packet.clone() });
        }
    }

    /// How long the packet takes to leave the link; `None`: its queue is full.
    fn pass_link(&mut self, to: usize, bytes: u64) -> Option<Duration> {
        let Some(Link { bytes_per_second, queue_bytes }) = self.link else { return Some(Duration::ZERO) };
        let nanos = |bytes: u64| Duration::from_nanos(bytes * 1_000_000_000 / bytes_per_second);
        let free_at = self.link_free_at[to].max(self.now);
        if free_at - self.now > nanos(queue_bytes) {
            self.counts.add("full queue");
            return None;
        }
        self.link_free_at[to] = free_at + nanos(bytes);
        Some(self.link_free_at[to] - self.now)
    }

    /// The positions law of the stream model, and monotone levels.
    fn check(&self) {
        for (index, peer) in self.peers.iter().enumerate() {
            let other = &self.peers[1 - index];
            for (label, inbox) in &peer.inboxes.consuming {
                let Some(rx) = peer.session.stats(*label) else { continue };
                assert!(inbox.taken_seq <= rx.in_order.max(inbox.taken_seq));
                if !inbox.accepted {
                    continue;
                }
                assert!(inbox.next <= rx.in_order && rx.in_order <= rx.rx_seq, "{rx:?}");
                assert_eq!(rx.rx_datums, inbox.delivered);
                let passed = rx.rx_skipped + rx.rx_filtered + rx.lost;
                assert_eq!(passed, rx.in_order - inbox.config.first_seq - inbox.delivered);
                let twin = Label::from_u32(label.as_u32() | 1 << 31);
                let (Some(tx), Some(ring)) = (other.session.stats(twin), other.rings.producing.get(&twin))
                else {
                    continue;
                };
                if ring.flow != inbox.flow {
                    continue;
                }
                // A fragment of a large datum may arrive before its last one is sent.
                assert!(rx.rx_seq <= tx.tx_seq + 1 && tx.tx_seq <= tx.published, "{rx:?} {tx:?}");
                assert!(tx.released <= tx.tx_seq);
                if inbox.config.reliability == Reliability::Reliable {
                    assert!(tx.released <= rx.in_order.max(rx.rx_seq), "{rx:?} {tx:?}");
                }
            }
            let stats = peer.session.session_stats();
            assert!(stats.held_bytes <= peer.session.config().limits.max_held_bytes as u64);
        }
    }

    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return true;
            }
            if !self.step() {
                return done(self);
            }
        }
        done(self)
    }

    /// Every channel has finished at both ends.
    pub fn all_finished(&self) -> bool {
        self.peers.iter().all(|peer| {
            peer.inboxes.consuming.values().all(|inbox| inbox.finished)
                && peer.rings.producing.values().all(|ring| ring.finished)
        })
    }

    /// Every channel has finished at both ends, or was ended.
    pub fn all_over(&self) -> bool {
        self.peers.iter().all(|peer| {
            peer.inboxes.consuming.values().all(|inbox| inbox.finished || inbox.closed.is_some())
                && peer.rings.producing.values().all(|ring| ring.finished || ring.closed.is_some())
        })
    }

    /// Drops what is in the network.
    pub fn drain_network(&mut self) {
        self.network.clear();
    }
}
