//! Two shards on a simulated network, and a hand in the clerk's place.
//!
//! Not inside: a clerk. The sessions have keys made by hand, and the tests answer the shards' questions.
#![allow(dead_code, reason = "each test binary uses a part of the rig")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use corewire_engine::{
    counters::{Counter, ShardCounters},
    driver::{
        DriverConfig,
        sim::{HostId, Link, SimDriver, World},
    },
    shard::{AcceptChannel, Command, Event, Inbox, Install, NodeId, Shard, ShardConfig, ShardLimits},
    shared::{ChannelShared, Next},
};
use corewire_proto::{
    PeerId, StreamId,
    channel::{Label, OpenRequest, Reliability},
    seal::{KeyBytes, SessionKeys, Suite},
    session::{CloseCode, SessionConfig},
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::{
    Ring, RingConfig,
    mailbox::{Receiver, Sender, mailbox},
};

pub(crate) const NODE: NodeId = NodeId(1);
pub(crate) const STREAM: StreamId = StreamId([7; 32]);
/// Turns in a row that may ask for another one; more is a shard that spins.
const RESTLESS: usize = 100_000;

/// One host: a shard and both ends of its mailboxes.
pub(crate) struct Side {
    pub(crate) shard: Shard<SimDriver>,
    pub(crate) commands: Sender<Command>,
    pub(crate) events: Receiver<Event>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) host: HostId,
    pub(crate) address: SocketAddr,
    /// Events that were taken out of the mailbox and not used yet.
    pub(crate) heard: Vec<Event>,
    pub(crate) turns: usize,
}

impl Side {
    pub(crate) fn tell(&self, command: Command) {
        assert!(self.commands.try_send(command).is_ok(), "the shard's mailbox is full");
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.counters.get(counter)
    }

    /// Takes the first event that `pick` wants.
    pub(crate) fn pick<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> Option<(T, Event)> {
        while let Some(event) = self.events.try_recv() {
            self.heard.push(event);
        }
        for place in 0..self.heard.len() {
            if let Some(picked) = pick(&self.heard[place]) {
                return Some((picked, self.heard.remove(place)));
            }
        }
        None
    }

    /// Turns until there is nothing to do, then rests.
    pub(crate) fn settle(&mut self) {
        for _ in 0..RESTLESS {
            self.turns += 1;
            match self.shard.turn() {
                Next::Again => {}
                Next::Until(at) => return self.shard.park(Some(at)),
                Next::Idle => return self.shard.park(None),
            }
        }
        panic!("the shard never rests: {:?}", self.counters.snapshot());
    }
}

/// The world and its two hosts. By custom the left one produces.
pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) left: Side,
    pub(crate) right: Side,
    next_open: u64,
}

/// What a rig is made of.
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) link: Link,
    pub(crate) limits: ShardLimits,
    pub(crate) driver: DriverConfig,
    pub(crate) events: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            link: Link::CLEAN,
            limits: ShardLimits::default(),
            driver: DriverConfig { leases: 8, ..DriverConfig::default() },
            events: 1_024,
        }
    }
}

pub(crate) fn index(slot: u32, generation: u32) -> ReceiverIndex {
    ReceiverIndex::new(0, slot, generation).expect("a slot below 2^24")
}

pub(crate) fn keys(salt: u8, mirrored: bool) -> SessionKeys {
    let (one, other) = (KeyBytes::from_bytes([salt; 32]), KeyBytes::from_bytes([salt ^ 0xff; 32]));
    let (send, recv) = if mirrored { (other, one) } else { (one, other) };
    SessionKeys { send, recv, suite: Suite::ChaCha20Poly1305 }
}

/// A session named `(own, peer's)`, over the way `(source, to)`.
fn install(
    (index, remote_index): (ReceiverIndex, ReceiverIndex),
    (source, to): (Option<IpAddr>, SocketAddr),
    keys: SessionKeys,
    config: &SessionConfig,
) -> Command {
    Command::InstallSession(Box::new(Install {
        index,
        remote_index,
        node: NODE,
        source,
        to,
        keys,
        path_secret: KeyBytes::from_bytes([9; 32]),
        path: Arc::default(),
        config: config.clone(),
    }))
}

impl Rig {
    pub(crate) fn new(setup: Setup) -> Self {
        let world = World::new(setup.seed);
        world.set_default_link(setup.link.clone());
        let left = Self::side(&world, &setup);
        let right = Self::side(&world, &setup);
        let mut rig = Self { world, left, right, next_open: 0 };
        rig.settle();
        rig
    }

    fn side(world: &World, setup: &Setup) -> Side {
        let host = world.host();
        let address = SocketAddr::new(world.ip(host), 4_000);
        let socket = world.bind(host, address, 1).expect("a free port").remove(0);
        let driver = world.driver_with(host, &setup.driver).expect("memory");
        let (commands, to_shard) = mailbox(1_024);
        let (to_clerk, events) = mailbox(setup.events);
        let shard = Shard::new(driver, ShardConfig { id: 0, limits: setup.limits }, to_shard, to_clerk);
        let counters = shard.counters();
        let side = Side { shard, commands, events, counters, host, address, heard: Vec::new(), turns: 0 };
        side.tell(Command::AddSocket { node: NODE, socket: socket.into() });
        side
    }

    /// Installs the session in `slot` on both sides.
    pub(crate) fn connect(&mut self, slot: u32, config: &SessionConfig) {
        self.connect_from(slot, config, None);
    }

    /// The same; the left side sends from the address `source` of its host.
    pub(crate) fn connect_from(&mut self, slot: u32, config: &SessionConfig, source: Option<IpAddr>) {
        let (left, right) = (index(slot, 0x1000 + slot), index(slot, 0x2000 + slot));
        let [to_right, to_left] = [self.right.address, self.left.address];
        self.left.tell(install((left, right), (source, to_right), keys(slot as u8, false), config));
        self.right.tell(install((right, left), (None, to_left), keys(slot as u8, true), config));
        self.settle();
    }

    /// Installs a session in `slot` on the left side only: no packet of its peer ever comes.
    pub(crate) fn connect_to_nobody(&mut self, slot: u32, config: &SessionConfig) {
        let nobody = SocketAddr::new(self.world.ip(self.world.host()), 4_000);
        let names = (index(slot, 0x1000 + slot), index(slot, 0x2000 + slot));
        self.left.tell(install(names, (None, nobody), keys(slot as u8, false), config));
        self.settle();
    }

    /// Both shards do what they have to, now.
    pub(crate) fn settle(&mut self) {
        self.left.settle();
        self.right.settle();
    }

    /// Goes on to the next moment at which something happens. `false`: nothing ever will.
    pub(crate) fn step(&mut self) -> bool {
        let more = self.world.advance_to_next_event().is_some();
        self.settle();
        more
    }

    /// Runs until `done`, or fails after `limit` of the world's time.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.world.now() + limit;
        self.settle();
        while !done(self) {
            let more = self.step();
            if done(self) {
                return;
            }
            assert!(more && self.world.now() <= end, "not done at {:?}: {self:?}", self.world.now());
        }
    }

    /// Lets the world's time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.world.now() + time;
        self.settle();
        while self.world.now() < end && self.step() {}
    }

    pub(crate) fn now(&self) -> Instant {
        self.world.now()
    }

    /// The right side asks for the stream behind `ring`, the left one serves it.
    pub(crate) fn subscribe(&mut self, slot: u32, ring: &Ring, wish: Wish) -> Leg {
        let (open_id, consumer) = self.ask(slot, &wish);
        let (label, request) = self.asked();
        assert_eq!(request.stream_id, STREAM);
        let producer = Arc::new(ChannelShared::new(STREAM, PeerId([1; 32]), PeerId([2; 32])));
        self.left.tell(Command::AcceptChannel(Box::new(AcceptChannel {
            index: index(slot, 0x1000 + slot),
            label,
            ring: ring.clone(),
            end: Arc::default(),
            weight: 1,
            reliability: wish.reliability,
            handle: producer.clone(),
            publication: corewire_proto::channel::PublicationId::default(),
            resume: None,
        })));
        let mut inbox = None;
        self.run_until(Duration::from_secs(5), |rig| {
            let taken = rig.right.pick(|event| match event {
                Event::ChannelAccepted { open_id: its, label, .. } if *its == open_id => Some(*label),
                _ => None,
            });
            if let Some((label, Event::ChannelAccepted { reader, taken, .. })) = taken {
                inbox = Some((label, Inbox::remote(reader, taken)));
            }
            inbox.is_some()
        });
        let (right_label, inbox) = inbox.expect("just set");
        Leg { slot, left_label: label, right_label, inbox: Some(inbox), producer, consumer, next: None }
    }

    /// The right side asks for a stream; the answer is left to the test.
    pub(crate) fn ask(&mut self, slot: u32, wish: &Wish) -> (u64, Arc<ChannelShared>) {
        self.next_open += 1;
        let consumer = Arc::new(ChannelShared::new(STREAM, PeerId([1; 32]), PeerId([2; 32])));
        self.right.tell(Command::OpenChannel {
            index: index(slot, 0x2000 + slot),
            open_id: self.next_open,
            request: Box::new(OpenRequest {
                stream_id: STREAM,
                subscription: [0; 8],
                resume: None,
                reliability: wish.reliability,
                window_bytes: wish.window_bytes,
                window_datums: wish.window_datums,
                max_datum_bytes: wish.max_datum,
                weight: 1,
                form: Default::default(),
                criteria: Vec::new(),
                tickets: Vec::new(),
            }),
            handle: consumer.clone(),
        });
        (self.next_open, consumer)
    }

    /// The request that reached the left side.
    pub(crate) fn asked(&mut self) -> (Label, OpenRequest) {
        let mut asked = None;
        self.run_until(Duration::from_secs(5), |rig| {
            let picked = rig.left.pick(|event| match event {
                Event::ChannelRequested { label, request, .. } => Some((*label, (**request).clone())),
                _ => None,
            });
            asked = picked.map(|(asked, _)| asked);
            asked.is_some()
        });
        asked.expect("just set")
    }
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig")
            .field("left", &self.left.counters.snapshot())
            .field("left_heard", &self.left.heard)
            .field("right", &self.right.counters.snapshot())
            .field("right_heard", &self.right.heard)
            .field("world", &self.world.stats())
            .finish()
    }
}

/// What a consumer wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) reliability: Reliability,
    pub(crate) window_bytes: u64,
    pub(crate) window_datums: u64,
    pub(crate) max_datum: u32,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            reliability: Reliability::Reliable,
            window_bytes: 65_536,
            window_datums: 0,
            max_datum: 1 << 20,
        }
    }
}

/// A channel with both its ends.
pub(crate) struct Leg {
    pub(crate) slot: u32,
    pub(crate) left_label: Label,
    pub(crate) right_label: Label,
    pub(crate) inbox: Option<Inbox>,
    pub(crate) producer: Arc<ChannelShared>,
    pub(crate) consumer: Arc<ChannelShared>,
    next: Option<u64>,
}

impl Leg {
    /// Takes at most `most` datums; each must be in order and hold its number. Returns how many, and how many
    /// were skipped.
    pub(crate) fn take(&mut self, most: usize) -> (usize, u64) {
        let mut seen = (0, 0);
        let Some(inbox) = &mut self.inbox else { return seen };
        while seen.0 < most {
            let Ok(Some(taken)) = inbox.try_recv() else { break };
            let number = u64::from_le_bytes(taken.bytes()[..8].try_into().expect("eight bytes"));
            assert_eq!(number, taken.seq(), "a datum in another's place");
            assert!(taken.bytes()[8..].iter().all(|&byte| byte == number as u8), "a datum was mangled");
            if let Some(next) = self.next {
                assert_eq!(taken.seq(), next + taken.skipped(), "a silent gap");
            }
            self.next = Some(taken.seq() + 1);
            seen.0 += 1;
            seen.1 += taken.skipped();
        }
        seen
    }

    /// Whether the inbox is closed and empty.
    pub(crate) fn is_over(&mut self) -> bool {
        self.inbox.as_mut().is_none_or(|inbox| inbox.is_finished())
    }

    pub(crate) fn left_index(&self) -> ReceiverIndex {
        index(self.slot, 0x1000 + self.slot)
    }

    pub(crate) fn right_index(&self) -> ReceiverIndex {
        index(self.slot, 0x2000 + self.slot)
    }
}

pub(crate) fn ring(datums: usize, bytes: usize) -> Ring {
    Ring::new(RingConfig { datums, bytes, max_record: bytes.min(1 << 16), readers: 8, scatter_small: false })
        .expect("a small ring")
}

/// Publishes up to `count` datums of `len` bytes that hold their sequence, or until the ring is full. Returns
/// how many.
pub(crate) fn publish(ring: &Ring, count: usize, len: usize) -> usize {
    let writer = ring.writer();
    for done in 0..count {
        let Ok(mut claim) = writer.try_claim(len) else { return done };
        let seq = claim.seq();
        claim.fill(seq as u8);
        claim[..8].copy_from_slice(&seq.to_le_bytes());
        claim.commit();
    }
    count
}

pub(crate) fn closed(event: &Event) -> Option<CloseCode> {
    match event {
        Event::ChannelClosed { code, .. } => Some(*code),
        _ => None,
    }
}
