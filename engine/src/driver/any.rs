//! One type for whichever driver was opened, so that a shard can be chosen at run time and still be compiled
//! against concrete calls. Not inside: a choice; see [`open`](super::open).

use std::{io, os::fd::BorrowedFd, task::Waker};

use corewire_proto::time::Instant;

use super::{
    Driver, DriverCounters, DriverKind, Features, Lease, PathError, Received, Route, Sleep, Socket, SocketId,
    epoll::EpollDriver, sim::SimDriver, uring::UringDriver,
};

/// Any of the drivers.
#[derive(Debug)]
pub enum AnyDriver {
    /// io_uring. Boxed, like the others, so that a shard does not grow with its largest driver.
    Uring(Box<UringDriver>),
    /// epoll.
    Epoll(Box<EpollDriver>),
    /// A host of a simulated world.
    Sim(Box<SimDriver>),
}

/// Calls the same method on whichever driver it is: one predictable branch per call, and none per datagram.
macro_rules! each {
    ($self:expr, $driver:ident => $call:expr) => {
        match $self {
            AnyDriver::Uring($driver) => $call,
            AnyDriver::Epoll($driver) => $call,
            AnyDriver::Sim($driver) => $call,
        }
    };
}

impl Driver for AnyDriver {
    fn kind(&self) -> DriverKind {
        each!(self, driver => driver.kind())
    }

    fn features(&self) -> &Features {
        each!(self, driver => driver.features())
    }

    fn now(&self) -> Instant {
        each!(self, driver => driver.now())
    }

    fn entropy(&mut self, out: &mut [u8]) {
        each!(self, driver => driver.entropy(out));
    }

    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        each!(self, driver => driver.add_socket(socket))
    }

    fn remove_socket(&mut self, id: SocketId) {
        each!(self, driver => driver.remove_socket(id));
    }

    fn receive(&mut self, budget: usize, on: impl FnMut(Received<'_>)) -> usize {
        each!(self, driver => driver.receive(budget, on))
    }

    fn lease(&mut self) -> Option<Lease> {
        each!(self, driver => driver.lease())
    }

    fn is_backed_up(&mut self, socket: SocketId) -> bool {
        each!(self, driver => driver.is_backed_up(socket))
    }

    fn send(&mut self, route: Route, lease: Lease, len: usize, segment: usize) {
        each!(self, driver => driver.send(route, lease, len, segment));
    }

    fn path_error(&mut self) -> Option<PathError> {
        each!(self, driver => driver.path_error())
    }

    fn submit(&mut self) -> io::Result<()> {
        each!(self, driver => driver.submit())
    }

    fn prepare_sleep(&mut self, until: Option<Instant>) -> Sleep {
        each!(self, driver => driver.prepare_sleep(until))
    }

    fn sleep(&mut self, until: Option<Instant>) {
        each!(self, driver => driver.sleep(until));
    }

    fn end_sleep(&mut self) {
        each!(self, driver => driver.end_sleep());
    }

    fn readiness(&mut self) -> io::Result<BorrowedFd<'_>> {
        each!(self, driver => driver.readiness())
    }

    fn waker(&self) -> Waker {
        each!(self, driver => driver.waker())
    }

    fn counters(&self) -> DriverCounters {
        each!(self, driver => driver.counters())
    }
}

impl From<UringDriver> for AnyDriver {
    fn from(driver: UringDriver) -> Self {
        Self::Uring(Box::new(driver))
    }
}

impl From<EpollDriver> for AnyDriver {
    fn from(driver: EpollDriver) -> Self {
        Self::Epoll(Box::new(driver))
    }
}

impl From<SimDriver> for AnyDriver {
    fn from(driver: SimDriver) -> Self {
        Self::Sim(Box::new(driver))
    }
}
