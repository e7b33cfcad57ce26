//! The virtual clock and network. The driver on it is in [`super::driver`].

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use corewire_proto::{ordered::OrderedMap, time::Instant};
use corewire_rings::sync::Lock;

use super::{
    HostId, Link, SimDriver, SimSocket,
    driver::SimWaker,
    host::{ipv4, ipv6, owns},
    link::{Arrival, LinkDirection, LinkFate},
    rng::Dice,
    stats::WorldStats,
    translator::Translator,
};
use crate::driver::{DriverConfig, PathFault, Route, bind::BindError, steer};

/// What a socket's receive queue holds unless [`World::limit_receive_queues`] says otherwise: what 4 MiB of
/// kernel memory hold of 1,400-byte datagrams.
const RECEIVE_QUEUE_DATAGRAMS: usize = 3_640;

/// The first port that a bind to port 0 gets.
const FIRST_FREE_PORT: u16 = 40_000;

/// Errors that wait for their driver at one time.
const FAULTS_MAX: usize = 64;

/// A datagram in a socket's queue.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    /// As in [`Received`](crate::driver::Received).
    pub(super) at: Option<IpAddr>,
    pub(super) bytes: Vec<u8>,
}

/// Datagrams that a driver lost outside its own calls: dropped by full queues, refused by closed ports or as
/// too large.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DriverLosses {
    pub(super) overflowed: u64,
    pub(super) refused: u64,
    pub(super) too_large: u64,
}

/// A driver, as the world sees it.
#[derive(Debug)]
struct SimDriverState {
    bell: Arc<SimWaker>,
    parked: bool,
    deadline: Option<Instant>,
    losses: DriverLosses,
    /// Errors that came back: the socket that had sent, where to, and what is wrong.
    faults: VecDeque<(usize, SocketAddr, PathFault)>,
    gone: bool,
}

/// A socket, as the world sees it.
#[derive(Debug)]
struct SimPort {
    host: HostId,
    address: SocketAddr,
    open: bool,
    /// The driver that receives from it, once it was added to one.
    driver: Option<usize>,
    queue: VecDeque<Datagram>,
}

#[derive(Debug)]
enum NetworkEvent {
    Arrival { from_port: usize, from: SocketAddr, at_host: HostId, to: SocketAddr, bytes: Vec<u8> },
    Fault { port: usize, to: SocketAddr, fault: PathFault },
}

/// An address as it is bound: for loopback together with the only host that can reach it.
type BindScope = (Option<HostId>, SocketAddr);

#[derive(Debug)]
struct Inner {
    now: Instant,
    seed: u64,
    hosts: u32,
    drivers: Vec<SimDriverState>,
    ports: Vec<SimPort>,
    bound: OrderedMap<BindScope, Vec<usize>>,
    next_port: OrderedMap<HostId, u16>,
    translator: Translator,
    default_link: Link,
    directions: OrderedMap<(HostId, HostId), LinkDirection>,
    events: OrderedMap<(Instant, u64), NetworkEvent>,
    event_number: u64,
    queue_limit: usize,
    stats: WorldStats,
    trace: u64,
}

/// A virtual network with its clock. Cheap to clone; all clones are the same world.
#[derive(Clone, Debug)]
pub struct World {
    /// No panic under the lock leaves the tables half-changed, so a test that failed elsewhere may read it.
    inner: Arc<Lock<Inner>>,
}

impl World {
    /// An empty world at time zero, whose chances are all drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            now: Instant::ZERO,
            seed,
            hosts: 0,
            drivers: Vec::new(),
            ports: Vec::new(),
            bound: OrderedMap::new(),
            next_port: OrderedMap::new(),
            translator: Translator::default(),
            default_link: Link::CLEAN,
            directions: OrderedMap::new(),
            events: OrderedMap::new(),
            event_number: 0,
            queue_limit: RECEIVE_QUEUE_DATAGRAMS,
            stats: WorldStats::default(),
            trace: 0xcbf2_9ce4_8422_2325,
        };
        Self { inner: Arc::new(Lock::new(inner)) }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Adds a host with an IPv4 and an IPv6 address and its own loopback.
    pub fn host(&self) -> HostId {
        let mut inner = self.inner.lock();
        let host = HostId(inner.hosts);
        inner.hosts += 1;
        host
    }

    /// The IPv4 address of `host`.
    pub fn ip(&self, host: HostId) -> IpAddr {
        ipv4(host)
    }

    /// The IPv6 address of `host`.
    pub fn ipv6(&self, host: HostId) -> IpAddr {
        ipv6(host)
    }

    /// A driver for a shard of `host`, with the default bounds.
    ///
    /// # Panics
    ///
    /// When the operating system has no memory left for the driver's transmit buffers.
    pub fn driver(&self, host: HostId) -> SimDriver {
        self.driver_with(host, &DriverConfig::default()).expect("memory for the transmit buffers")
    }

    /// A driver for a shard of `host`, with bounds of the caller's choice. Few leases or receive buffers are
    /// how a test makes memory short.
    ///
    /// # Errors
    ///
    /// When the operating system refuses the memory.
    pub fn driver_with(&self, host: HostId, config: &DriverConfig) -> io::Result<SimDriver> {
        let (driver_index, bell, dice) = {
            let mut inner = self.inner.lock();
            let driver_index = inner.drivers.len();
            let bell = Arc::new(SimWaker::default());
            let losses = DriverLosses::default();
            inner.drivers.push(SimDriverState {
                bell: Arc::clone(&bell),
                parked: false,
                deadline: None,
                losses,
                faults: VecDeque::new(),
                gone: false,
            });
            (driver_index, bell, Dice::new(inner.seed, 1 << 63 | driver_index as u64))
        };
        SimDriver::new(self.clone(), host, driver_index, bell, dice, config)
    }

    /// Binds one socket for each of `shards` on one address of `host`; port 0 picks a free one. Datagrams are
    /// steered among them as the kernel steers them (see [`bind_shards`](crate::driver::bind::bind_shards)).
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] when the address is taken, [`BindError::NotHere`] when it is not the host's.
    pub fn bind(
        &self,
        host: HostId,
        address: SocketAddr,
        shards: usize,
    ) -> Result<Vec<SimSocket>, BindError> {
        let ip = address.ip();
        if !(ip.is_loopback() || ip.is_unspecified() || owns(host, ip)) {
            return Err(BindError::NotHere { address });
        }
        let mut inner = self.inner.lock();
        let address = match address.port() {
            0 => inner.free_port(host, ip),
            _ => address,
        };
        if inner.is_bound(host, address) {
            return Err(BindError::InUse { address });
        }
        let first = inner.ports.len();
        let ports = first..first + shards.max(1);
        for _ in ports.clone() {
            inner.ports.push(SimPort { host, address, open: true, driver: None, queue: VecDeque::new() });
        }
        inner.bound.insert(place(host, address), ports.clone().collect());
        drop(inner);
        Ok(ports.map(|index| SimSocket::new(self.clone(), host, index, address)).collect())
    }

    /// The clock.
    pub fn now(&self) -> Instant {
        self.inner.lock().now
    }

    /// The properties of every link that was not set by itself, from now on and for both directions.
    pub fn set_default_link(&self, link: Link) {
        let mut inner = self.inner.lock();
        for direction in inner.directions.iter_mut().filter(|((from, to), _)| from != to) {
            direction.1.link = link.clone();
        }
        inner.default_link = link;
    }

    /// The properties of the direction from `from` to `to`. With `from == to`, of the host's loopback, which
    /// is otherwise always clean.
    pub fn set_link(&self, from: HostId, to: HostId, link: Link) {
        self.inner.lock().direction(from, to).link = link;
    }

    /// The properties of the direction from `from` to `to`.
    pub fn link(&self, from: HostId, to: HostId) -> Link {
        self.inner.lock().direction(from, to).link.clone()
    }

    /// Cuts (or mends) the direction from `from` to `to`. What is on its way still arrives.
    pub fn set_cut(&self, from: HostId, to: HostId, cut: bool) {
        self.inner.lock().direction(from, to).cut = cut;
    }

    /// Cuts (or mends) every link between a host of `left` and a host of `right`, in both directions.
    pub fn set_partition(&self, left: &[HostId], right: &[HostId], cut: bool) {
        for (&one, &other) in left.iter().flat_map(|one| right.iter().map(move |other| (one, other))) {
            self.set_cut(one, other, cut);
            self.set_cut(other, one, cut);
        }
    }

    /// From now on a translator (NAT) shows the socket that is bound to `address` as `shown`. What is sent to
    /// where it was seen before vanishes.
    pub fn translate(&self, address: SocketAddr, shown: SocketAddr) {
        self.inner.lock().translator.set(address, shown);
    }

    /// The host loses its power: its sockets close at once. What it sent before still arrives. The caller
    /// drops its drivers; after that it can bind and open drivers again.
    pub fn crash(&self, host: HostId) {
        let mut inner = self.inner.lock();
        for index in 0..inner.ports.len() {
            if inner.ports[index].host == host {
                inner.close(index);
            }
        }
    }

    /// How many datagrams the receive queue of each socket holds, from now on.
    pub fn limit_receive_queues(&self, datagrams: usize) {
        self.inner.lock().queue_limit = datagrams;
    }

    /// Moves the clock to the next arrival or deadline and lets everything that is due then happen. Stays
    /// where it is when a parked driver was woken. Returns the time, or `None` when no event is left.
    pub fn advance_to_next_event(&self) -> Option<Instant> {
        let mut inner = self.inner.lock();
        if inner.drivers.iter().any(|driver| driver.parked && !driver.gone && driver.bell.is_rung()) {
            return Some(inner.now);
        }
        let arrival = inner.events.first().map(|(&(at, _), _)| at);
        let deadline = inner
            .drivers
            .iter()
            .filter(|driver| driver.parked && !driver.gone)
            .filter_map(|driver| driver.deadline)
            .min();
        let next = [arrival, deadline].into_iter().flatten().min()?.max(inner.now);
        inner.advance_to(next);
        Some(next)
    }

    /// Moves the clock to `to`, through everything that is due until then. A time in the past does nothing.
    pub fn advance_to(&self, to: Instant) {
        self.inner.lock().advance_to(to);
    }

    /// Whether anything is on its way.
    pub fn is_quiet(&self) -> bool {
        self.inner.lock().events.is_empty()
    }

    /// What the network did so far.
    pub fn stats(&self) -> WorldStats {
        self.inner.lock().stats
    }

    /// Everything that happened on the network so far (who, when, what bytes, what fate), in one number.
    pub fn trace_hash(&self) -> u64 {
        self.inner.lock().trace
    }

    pub(super) fn own(&self, port: usize, driver_index: usize) {
        self.inner.lock().ports[port].driver = Some(driver_index);
    }

    pub(super) fn take(&self, port: usize) -> Option<Datagram> {
        self.inner.lock().ports[port].queue.pop_front()
    }

    /// False when the address can't be reached from this socket at all.
    pub(super) fn send(&self, port: usize, route: Route, bytes: &[u8]) -> bool {
        self.inner.lock().send(port, route, bytes)
    }

    pub(super) fn park(&self, driver_index: usize, until: Option<Instant>) {
        let mut inner = self.inner.lock();
        inner.drivers[driver_index].parked = true;
        inner.drivers[driver_index].deadline = until;
    }

    pub(super) fn is_due(&self, driver_index: usize) -> bool {
        let inner = self.inner.lock();
        let it = &inner.drivers[driver_index];
        let waiting =
            || inner.ports.iter().any(|port| port.driver == Some(driver_index) && !port.queue.is_empty());
        !it.parked || it.deadline.is_some_and(|deadline| deadline <= inner.now) || waiting()
    }

    pub(super) fn driver_losses(&self, driver_index: usize) -> DriverLosses {
        self.inner.lock().drivers[driver_index].losses
    }

    pub(super) fn take_fault(&self, driver_index: usize) -> Option<(usize, SocketAddr, PathFault)> {
        self.inner.lock().drivers[driver_index].faults.pop_front()
    }

    pub(super) fn leave(&self, driver_index: usize) {
        self.inner.lock().drivers[driver_index].gone = true;
    }

    pub(super) fn close(&self, port: usize) {
        self.inner.lock().close(port);
    }
}

impl Inner {
    fn direction(&mut self, from: HostId, to: HostId) -> &mut LinkDirection {
        let link = if from == to { Link::CLEAN } else { self.default_link.clone() };
        let dice = Dice::new(self.seed, u64::from(from.0) << 32 | u64::from(to.0));
        self.directions.get_or_insert_with((from, to), || LinkDirection::new(link, dice))
    }

    /// Mixes `words` and `bytes` into the trace (FNV-1a).
    fn note(&mut self, words: [u64; 3], bytes: &[u8]) {
        let now = self.now.as_nanos();
        for word in words.into_iter().chain([now]) {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        for &byte in bytes {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn free_port(&mut self, host: HostId, ip: IpAddr) -> SocketAddr {
        loop {
            let next = self.next_port.get_or_insert_with(host, || FIRST_FREE_PORT);
            let address = SocketAddr::new(ip, *next);
            *next = next.checked_add(1).unwrap_or(FIRST_FREE_PORT);
            if !self.is_bound(host, address) {
                return address;
            }
        }
    }

    /// Whether `address` of `host` collides with a bound one: the same, or one of the two means "any
    /// address".
    fn is_bound(&self, host: HostId, address: SocketAddr) -> bool {
        self.bound.values().flatten().any(|&index| {
            let port = &self.ports[index];
            let either_any = port.address.ip().is_unspecified() || address.ip().is_unspecified();
            port.host == host
                && port.address.port() == address.port()
                && port.address.is_ipv4() == address.is_ipv4()
                && (either_any || port.address.ip() == address.ip())
        })
    }

    fn close(&mut self, index: usize) {
        let port = &mut self.ports[index];
        if !std::mem::replace(&mut port.open, false) {
            return;
        }
        port.queue.clear();
        let at = place(port.host, port.address);
        let group = self.bound.get(&at).into_iter().flatten();
        if group.clone().all(|&other| !self.ports[other].open) {
            self.bound.remove(&at);
        }
    }

    fn send(&mut self, from_port: usize, Route { source, to: called, .. }: Route, bytes: &[u8]) -> bool {
        let SimPort { host: from_host, address, open, .. } = self.ports[from_port];
        let inside = self.translator.inside(called);
        let to = inside.unwrap_or(called);
        let at_host = match to.ip() {
            ip if ip.is_loopback() => Some(from_host),
            ip => (0..self.hosts).map(HostId).find(|&host| owns(host, ip)),
        };
        let Some(at_host) = at_host.filter(|_| open && address.is_ipv4() == to.is_ipv4()) else {
            return false;
        };
        if source.is_some_and(|ip| !ip.is_loopback() && !owns(from_host, ip)) {
            let fault = PathFault::NotSent;
            self.schedule(self.now, NetworkEvent::Fault { port: from_port, to: called, fault });
            return false;
        }
        self.stats.sent += 1;
        let from = match address.ip() {
            ip if !ip.is_unspecified() => address,
            _ if let Some(source) = source => SocketAddr::new(source, address.port()),
            _ if to.ip().is_loopback() => SocketAddr::new(to.ip(), address.port()),
            ip if ip.is_ipv4() => SocketAddr::new(ipv4(from_host), address.port()),
            _ => SocketAddr::new(ipv6(from_host), address.port()),
        };
        let (from, now) = (self.translator.outside(from), self.now);
        let direction = self.direction(from_host, at_host);
        let cut = direction.cut || inside.is_none();
        let fate = if cut { None } else { Some(direction.carry(now, bytes.len())) };
        if let Some(LinkFate::TooLarge) = fate
            && direction.link.reports_mtu
        {
            let (at, bytes) = (now + direction.link.delay, direction.link.mtu_bytes + 1);
            let fault = PathFault::TooLarge { bytes };
            self.schedule(at, NetworkEvent::Fault { port: from_port, to: called, fault });
        }
        let mark = match fate {
            None => &mut self.stats.cut,
            Some(LinkFate::Lost) => &mut self.stats.lost,
            Some(LinkFate::TooLarge) => &mut self.stats.too_large,
            Some(LinkFate::QueueFull) => &mut self.stats.queue_full,
            Some(LinkFate::Arrives { first, second }) => {
                self.stats.duplicated += u64::from(second.is_some());
                for arrival in [Some(first), second].into_iter().flatten() {
                    self.fly(from_port, from, at_host, to, bytes, arrival);
                }
                return true;
            }
        };
        *mark += 1;
        self.note([u64::from(from_host.0), u64::from(at_host.0), 1], bytes);
        true
    }

    fn fly(
        &mut self,
        from_port: usize,
        from: SocketAddr,
        at_host: HostId,
        to: SocketAddr,
        bytes: &[u8],
        arrival: Arrival,
    ) {
        let mut bytes = bytes.to_vec();
        let from_host = self.ports[from_port].host;
        self.stats.reordered += u64::from(arrival.reordered);
        let dice = &mut self.direction(from_host, at_host).dice;
        let (mut corrupted, mut truncated) = (0, 0);
        if arrival.corrupt && !bytes.is_empty() {
            for _ in 0..=dice.below(3) {
                let bit = dice.below(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            corrupted = 1;
        }
        if arrival.truncate && !bytes.is_empty() {
            bytes.truncate(dice.below(bytes.len() as u64) as usize);
            truncated = 1;
        }
        self.stats.corrupted += corrupted;
        self.stats.truncated += truncated;
        self.schedule(arrival.at, NetworkEvent::Arrival { from_port, from, at_host, to, bytes });
    }

    fn schedule(&mut self, at: Instant, event: NetworkEvent) {
        self.event_number += 1;
        self.events.insert((at, self.event_number), event);
    }

    fn advance_to(&mut self, to: Instant) {
        while let Some(((at, _), event)) = self.events.pop_first_if(|&(at, _), _| at <= to) {
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = self.now.max(to);
        for driver in &mut self.drivers {
            // A deadline that has passed is reported once: the caller parks the driver again.
            if driver.parked && driver.deadline.is_some_and(|deadline| deadline <= self.now) {
                driver.parked = false;
                driver.deadline = None;
            }
        }
    }

    fn happen(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Arrival { from_port, from, at_host, to, bytes } => {
                let Some(index) = self.listener(at_host, from, to, &bytes) else {
                    return self.refuse(from_port, at_host, to);
                };
                let limit = self.queue_limit;
                self.note([index as u64, u64::from(from.port()), 2], &bytes);
                let port = &mut self.ports[index];
                if port.queue.len() < limit {
                    let at = port.address.ip().is_unspecified().then_some(to.ip());
                    port.queue.push_back(Datagram { from, at, bytes });
                    self.stats.delivered += 1;
                } else {
                    self.stats.overflowed += 1;
                    if let Some(driver) = port.driver {
                        self.drivers[driver].losses.overflowed += 1;
                    }
                }
            }
            NetworkEvent::Fault { port, to, fault } => {
                self.note([port as u64, 0, 3], &[]);
                if let Some(driver) = self.ports[port].driver.filter(|_| self.ports[port].open) {
                    let driver = &mut self.drivers[driver];
                    driver.losses.refused += u64::from(fault == PathFault::Refused);
                    driver.losses.too_large += u64::from(matches!(fault, PathFault::TooLarge { .. }));
                    driver.faults.push_back((port, to, fault));
                    driver.faults.truncate(FAULTS_MAX);
                }
            }
        }
    }

    /// The socket that gets a datagram for `to`.
    fn listener(&self, host: HostId, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Option<usize> {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let exact = self.bound.get(&place(host, to));
        let group = exact.or_else(|| self.bound.get(&place(host, SocketAddr::new(any, to.port()))))?;
        let by_hash = usize::from(from.port()) % group.len();
        let index = *group.get(steer::shard_of(bytes)).unwrap_or(&group[by_hash]);
        self.ports[index].open.then_some(index)
    }

    /// No socket is bound at `at_host`: the sender gets an error, if the way back is open.
    fn refuse(&mut self, from_port: usize, at_host: HostId, to: SocketAddr) {
        self.stats.refused += 1;
        let (now, back_to) = (self.now, self.ports[from_port].host);
        let way_back = self.direction(at_host, back_to);
        if !way_back.cut {
            let at = now + way_back.link.delay;
            let (to, fault) = (self.translator.outside(to), PathFault::Refused);
            self.schedule(at, NetworkEvent::Fault { port: from_port, to, fault });
        }
    }
}

/// Loopback and "any address" mean another place on each host.
fn place(host: HostId, address: SocketAddr) -> BindScope {
    let private = address.ip().is_loopback() || address.ip().is_unspecified();
    (private.then_some(host), address)
}
