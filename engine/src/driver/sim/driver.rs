//! The driver contract on a world. Not inside: the network; see [`super::world`].

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use corewire_proto::time::Instant;

use super::{HostId, World, rng::Dice};
use crate::{
    buffer::TransmitSlab,
    driver::{
        Driver, DriverConfig, DriverCounters, DriverKind, Features, Lease, PathError, Received, Route, Sleep,
        Socket, SocketId, outgoing, table::SocketTable,
    },
};

/// A bound virtual socket. Dropping it frees its address.
#[derive(Debug)]
pub struct SimSocket {
    world: World,
    host: HostId,
    index: usize,
    address: SocketAddr,
}

impl SimSocket {
    pub(super) fn new(world: World, host: HostId, index: usize, address: SocketAddr) -> Self {
        Self { world, host, index, address }
    }

    /// Its address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.world.close(self.index);
    }
}

/// The part of a driver that its wakers and the world share with it.
#[derive(Debug, Default)]
pub(super) struct SimWaker {
    rung: AtomicBool,
}

impl SimWaker {
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }
}

impl Wake for SimWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
    }
}

/// A send that waits for `submit`.
#[derive(Debug)]
struct Staged {
    route: Route,
    buffer: u16,
    len: usize,
    segment: usize,
}

/// One shard's driver on a host of a world.
#[derive(Debug)]
pub struct SimDriver {
    world: World,
    host: HostId,
    /// The world's number for this driver.
    index: usize,
    bell: Arc<SimWaker>,
    dice: Dice,
    slab: TransmitSlab,
    receive_limit: usize,
    sockets: SocketTable<SimSocket>,
    staged: VecDeque<Staged>,
    counters: DriverCounters,
    features: Features,
    /// Which socket `receive` asks first, so that a busy one can't starve the others.
    first: usize,
}

impl SimDriver {
    pub(super) fn new(
        world: World,
        host: HostId,
        index: usize,
        bell: Arc<SimWaker>,
        dice: Dice,
        config: &DriverConfig,
    ) -> io::Result<Self> {
        Ok(Self {
            world,
            host,
            index,
            bell,
            dice,
            slab: TransmitSlab::new(config.leases, false)?,
            receive_limit: usize::from(config.receive_buffers),
            sockets: SocketTable::new(config.sockets),
            staged: VecDeque::with_capacity(usize::from(config.leases)),
            counters: DriverCounters::default(),
            features: Features::default(),
            first: 0,
        })
    }

    /// The host that this driver belongs to.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Whether there is a reason to run this driver's shard: it was woken, its deadline has passed, a
    /// datagram waits for it, or it has not parked since it last ran.
    pub fn is_due(&self) -> bool {
        self.bell.is_rung() || self.world.is_due(self.index)
    }
}

impl Driver for SimDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sim
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn now(&self) -> Instant {
        self.world.now()
    }

    fn entropy(&mut self, out: &mut [u8]) {
        self.dice.fill(out);
    }

    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        let Socket::Sim(socket) = socket else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated driver takes simulated sockets",
            ));
        };
        if !socket.world.is(&self.world) || socket.host != self.host {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is another host's"));
        }
        let index = socket.index;
        let id =
            self.sockets.insert(|_| socket).ok_or_else(|| io::Error::other("the socket table is full"))?;
        self.world.own(index, self.index);
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) {
        self.sockets.remove(id);
    }

    fn receive(&mut self, budget: usize, mut on: impl FnMut(Received<'_>)) -> usize {
        let slots = self.sockets.high_water();
        let (mut taken, mut empty) = (0, 0);
        self.first = if slots == 0 { 0 } else { (self.first + 1) % slots };
        let mut slot = self.first;
        while empty < slots && taken < budget {
            if taken == self.receive_limit {
                self.counters.receive_starved += 1;
                break;
            }
            let found =
                self.sockets.at(slot).and_then(|(id, socket)| Some((id, self.world.take(socket.index)?)));
            match found {
                Some((id, mut datagram)) => {
                    self.counters.received_datagrams += 1;
                    self.counters.received_bytes += datagram.bytes.len() as u64;
                    taken += 1;
                    on(Received {
                        socket: id,
                        from: datagram.from,
                        at: datagram.at,
                        bytes: &mut datagram.bytes,
                    });
                }
                None => {
                    empty += 1;
                    slot = (slot + 1) % slots;
                }
            }
        }
        taken
    }

    fn lease(&mut self) -> Option<Lease> {
        let lease = self.slab.lease();
        self.counters.leases_exhausted += u64::from(lease.is_none());
        lease
    }

    fn is_backed_up(&mut self, _: SocketId) -> bool {
        false
    }

    fn send(&mut self, route: Route, lease: Lease, len: usize, segment: usize) {
        if !outgoing::is_sound(len, segment)
            || self.sockets.get(route.socket).is_none()
            || !self.slab.owns(&lease)
        {
            self.counters.send_refused += 1;
            return;
        }
        let buffer = self.slab.fly(lease);
        self.staged.push_back(Staged { route, buffer, len, segment });
    }

    fn path_error(&mut self) -> Option<PathError> {
        while let Some((index, to, fault)) = self.world.take_fault(self.index) {
            let mut sockets = self.sockets.iter_mut();
            if let Some((socket, _)) = sockets.find(|(_, socket)| socket.index == index) {
                return Some(PathError { socket, to, fault });
            }
        }
        None
    }

    fn submit(&mut self) -> io::Result<()> {
        while let Some(Staged { route, buffer, len, segment }) = self.staged.pop_front() {
            match self.sockets.get(route.socket) {
                None => self.counters.send_refused += 1,
                Some(socket) => {
                    let bytes = self.slab.in_flight_bytes(buffer, len);
                    self.counters.sent_trains += u64::from(segment < len);
                    self.counters.sent_bytes += len as u64;
                    // An empty datagram has no chunks and is sent all the same.
                    let empty: &[u8] = &[];
                    let single = (len == 0).then_some(empty);
                    for datagram in bytes.chunks(segment.max(1)).chain(single) {
                        self.counters.sent_datagrams += 1;
                        let sent = self.world.send(socket.index, route, datagram);
                        self.counters.send_errors += u64::from(!sent);
                    }
                }
            }
            self.slab.land(buffer);
        }
        Ok(())
    }

    fn prepare_sleep(&mut self, until: Option<Instant>) -> Sleep {
        // Nothing can be broken in a virtual submit.
        let _ = self.submit();
        if self.bell.rung.swap(false, Ordering::AcqRel) {
            self.counters.wakes += 1;
            self.world.park(self.index, Some(Instant::ZERO));
            Sleep::Ready
        } else {
            self.counters.parks += 1;
            self.world.park(self.index, until);
            Sleep::Until(until)
        }
    }

    fn sleep(&mut self, _until: Option<Instant>) {}

    fn end_sleep(&mut self) {}

    fn readiness(&mut self) -> io::Result<BorrowedFd<'_>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a simulated driver has no descriptor"))
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    fn counters(&self) -> DriverCounters {
        let mut counters = self.counters;
        let losses = self.world.driver_losses(self.index);
        counters.kernel_receive_drops += losses.overflowed;
        counters.send_unreachable += losses.refused;
        counters.send_too_large += losses.too_large;
        counters.queued_errors += losses.refused + losses.too_large;
        counters
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        while let Some(staged) = self.staged.pop_front() {
            self.slab.land(staged.buffer);
        }
        self.world.leave(self.index);
    }
}
