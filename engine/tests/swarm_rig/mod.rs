//! A small internet in one thread: hosts with real shards, clerks, nodes and rings on a simulated network.
//!
//! Not inside: what the hosts do, and what must hold.

pub(crate) mod laws;
pub(crate) mod play;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use corewire_engine::{
    Engine,
    clerk::{Clerk, Load},
    driver::{
        Driver as _, DriverConfig, Socket,
        sim::{HostId, SimDriver, World},
    },
    internals::{ShardEnds, inline_engine},
    node::{Node, NodeConfig, NodeSocket},
    shard::{Shard, ShardConfig, ShardLimits},
    shared::{
        Next,
        limits::{Limits, Times},
    },
};
use corewire_proto::{NetworkId, time::Instant};
use corewire_testkit::SplitMix64;

/// The port of every host.
const PORT: u16 = 4_000;

/// The date when the world begins, in seconds since 1970.
const DATE: u64 = 1_700_000_000;

/// Turns in a row that may ask for another one. More than these is a busy loop.
const RESTLESS: usize = 200_000;

/// The choices of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(SplitMix64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Spread, so that the first choices of neighbouring seeds differ.
        Self(SplitMix64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// True `percent` times out of a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// From 0 to `most`.
    pub(crate) fn part(&mut self, most: f64) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20) * most
    }
}

/// What the hosts are made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) times: Times,
    pub(crate) limits: Limits,
    pub(crate) shard: ShardLimits,
    pub(crate) driver: DriverConfig,
    /// The limit of each node's bandwidth.
    pub(crate) max_bandwidth: Option<NonZeroU64>,
}

impl Setup {
    /// Short times and small tables, so that bounds take effect.
    pub(crate) fn small() -> Self {
        Self {
            times: Times {
                redial: Duration::from_millis(50),
                redial_max: Duration::from_millis(500),
                record_life: Duration::from_secs(60),
                drain: Duration::from_millis(200),
                ..Times::default()
            },
            limits: Limits { mailbox: 64, ..Limits::default() },
            shard: ShardLimits { sessions: 256, channels: 1_024, streams: 64, ..ShardLimits::default() },
            driver: DriverConfig { leases: 8, receive_buffers: 16, ..DriverConfig::default() },
            max_bandwidth: None,
        }
    }

    /// What a user gets.
    pub(crate) fn defaults() -> Self {
        Self {
            times: Times::default(),
            limits: Limits::default(),
            shard: ShardLimits::default(),
            driver: DriverConfig::default(),
            max_bandwidth: None,
        }
    }
}

/// One host that runs.
pub(crate) struct Host {
    /// Declared first, because the clerk below has to handle its drop.
    pub(crate) node: Option<Node>,
    pub(crate) engine: Option<Engine>,
    pub(crate) clerk: Clerk,
    pub(crate) shards: Vec<Shard<SimDriver>>,
    /// Ends the world's leap when the clerk wants its turn.
    alarm: SimDriver,
    /// The process is stopped: it runs no turn until it goes on.
    pub(crate) frozen: bool,
    /// Times that it was run until it had nothing to do.
    pub(crate) settled: u64,
}

impl Host {
    /// Whether there is a reason to run it.
    fn is_due(&self) -> bool {
        self.alarm.is_due() || self.shards.iter().any(|shard| shard.driver().is_due())
    }

    /// Runs clerk and shards until neither has anything to do now.
    fn settle(&mut self, now: Instant) {
        if self.frozen {
            return;
        }
        self.settled += 1;
        // A simulated shard does not sleep, so it is not woken: it runs until a whole round finds nothing.
        let mut quiet = 0;
        for _ in 0..RESTLESS {
            let mut again = false;
            let wish = match self.clerk.turn(now) {
                Next::Again => {
                    again = !self.clerk.is_stopped();
                    None
                }
                Next::Until(at) => Some(at),
                Next::Idle => None,
            };
            for shard in self.shards.iter_mut().filter(|shard| !shard.is_stopped()) {
                match shard.turn() {
                    Next::Again => again = true,
                    Next::Until(at) => shard.park(Some(at)),
                    Next::Idle => shard.park(None),
                }
            }
            quiet = if again { 0 } else { quiet + 1 };
            if quiet == 2 {
                return self.alarm.park(wish);
            }
        }
        panic!("a host never rests: {:?}", self.clerk);
    }

    pub(crate) fn load(&self) -> Load {
        self.clerk.load()
    }
}

/// All hosts and the network between them.
pub(crate) struct Internet {
    pub(crate) world: World,
    pub(crate) seed: u64,
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) places: Vec<HostId>,
    pub(crate) setup: Setup,
    /// How many identities each place has had before the present one.
    pub(crate) identities: Vec<u8>,
    /// The wall clock of each place, in seconds since 1970 when the world began.
    pub(crate) dates: Vec<Arc<AtomicU64>>,
    /// The place through which all others meet the network; `None`: each through the one before it.
    pub(crate) meeting: Option<usize>,
    network: NetworkId,
    shards: usize,
    lives: u64,
    /// Ends a leap of the world's clock where the test wants to look.
    horizon: SimDriver,
}

impl Internet {
    pub(crate) fn new(seed: u64, hosts: usize, shards: usize) -> Self {
        Self::with(seed, hosts, shards, Setup::small())
    }

    pub(crate) fn with(seed: u64, hosts: usize, shards: usize, setup: Setup) -> Self {
        let world = World::new(seed);
        let small = DriverConfig { leases: 1, receive_buffers: 1, ..DriverConfig::default() };
        let horizon = world.driver_with(world.host(), &small).expect("memory");
        let places = (0..hosts).map(|_| world.host()).collect();
        Self {
            world,
            seed,
            hosts: BTreeMap::new(),
            places,
            setup,
            identities: vec![0; hosts],
            dates: (0..hosts).map(|_| Arc::new(AtomicU64::new(DATE))).collect(),
            meeting: None,
            network: NetworkId([5; 32]),
            shards,
            lives: 0,
            horizon,
        }
    }

    pub(crate) fn address(&self, place: usize) -> SocketAddr {
        SocketAddr::new(self.world.ip(self.places[place]), PORT)
    }

    /// Starts a host. It meets the network through the one before it, the first through the last, unless
    /// there is a meeting place.
    pub(crate) fn start(&mut self, place: usize) {
        self.lives += 1;
        let id = self.places[place];
        let mut dice = Dice::new(self.seed.wrapping_mul(1_000).wrapping_add(self.lives));
        let entropy = Box::new(move |out: &mut [u8]| out.fill_with(|| dice.next() as u8));
        let date = self.dates[place].clone();
        let calendar = Box::new(move |now: Instant| {
            Duration::from_secs(date.load(Ordering::Relaxed)) + now.saturating_since(Instant::ZERO)
        });
        let Setup { times, limits, shard: shard_limits, driver, .. } = self.setup.clone();
        let (engine, clerk, ends) = inline_engine(self.shards, limits, times, entropy, calendar);
        let shards = (0..)
            .zip(ends)
            .map(|(number, ShardEnds { commands, events })| {
                let driver = self.world.driver_with(id, &driver).expect("memory");
                Shard::new(driver, ShardConfig { id: number, limits: shard_limits }, commands, events)
            })
            .collect();
        let alarm = DriverConfig { leases: 1, receive_buffers: 1, ..DriverConfig::default() };
        let alarm = self.world.driver_with(id, &alarm).expect("memory");
        let engine = Some(engine);
        let host = Host { node: None, engine, clerk, shards, alarm, frozen: false, settled: 0 };
        self.hosts.insert(id, host);
        self.join(place);
    }

    /// Makes the node of a host that has none.
    pub(crate) fn join(&mut self, place: usize) {
        let id = self.places[place];
        let address = self.address(place);
        let before = (place + self.places.len() - 1) % self.places.len();
        let bootstrap = vec![self.address(self.meeting.unwrap_or(before))];
        let Ok(sockets) = self.world.bind(id, address, self.shards) else { return };
        let socket = NodeSocket { address, sockets: sockets.into_iter().map(Socket::from).collect() };
        let config = NodeConfig {
            identity_seed: Some(self.identity(place)),
            use_registry: false,
            bootstrap,
            max_bandwidth: self.setup.max_bandwidth,
            ..NodeConfig::new(self.network)
        };
        let host = self.hosts.get_mut(&id).expect("a host that runs");
        let engine = host.engine.as_ref().expect("an engine");
        host.node = Some(Node::join_on(engine, config, vec![socket]).expect("a node"));
    }

    /// The host loses power: nothing is ended in order.
    pub(crate) fn crash(&mut self, place: usize) {
        let id = self.places[place];
        self.world.crash(id);
        self.hosts.remove(&id);
    }

    fn identity(&self, place: usize) -> [u8; 32] {
        let mut seed = [place as u8 + 1; 32];
        seed[0] = seed[0].wrapping_add(16 * self.identities[place]);
        seed
    }

    /// Stops the process at `place`, or lets it go on. What it was doing is finished first.
    pub(crate) fn freeze(&mut self, place: usize, frozen: bool) {
        let now = self.world.now();
        if let Some(host) = self.hosts.get_mut(&self.places[place]) {
            host.settle(now);
            host.frozen = frozen;
        }
    }

    pub(crate) fn node(&self, place: usize) -> Option<&Node> {
        self.hosts.get(&self.places[place])?.node.as_ref()
    }

    /// Runs every host until it has nothing to do now.
    pub(crate) fn settle(&mut self) {
        let now = self.world.now();
        for host in self.hosts.values_mut() {
            host.settle(now);
        }
    }

    /// Runs every host that has a reason to run.
    fn settle_due(&mut self) {
        let now = self.world.now();
        for host in self.hosts.values_mut().filter(|host| host.is_due()) {
            host.settle(now);
        }
    }

    /// Lets the world's time pass, and everything that happens in it.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.world.now() + time;
        self.horizon.park(Some(end));
        self.settle();
        while self.world.now() < end {
            self.world.advance_to_next_event();
            self.settle_due();
        }
    }
}
