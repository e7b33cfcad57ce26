//! A driver over another one, in whose work a test intervenes.

use std::{io, os::fd::BorrowedFd, task::Waker};

use corewire_engine::driver::{
    Driver, DriverCounters, DriverKind, Features, Lease, PathError, Received, Route, Sleep, Socket, SocketId,
};
use corewire_proto::time::Instant;

/// Where a test intervenes. What is not given is left to the driver below.
pub(crate) trait DriverHook {
    /// Before each send.
    fn before_send(&self, _route: Route) {}

    /// What a submit fails with.
    fn submit_error(&self) -> Option<io::Error> {
        None
    }

    /// `true`: each socket counts as backed up.
    fn is_backed_up(&self) -> bool {
        false
    }

    /// An error to be reported before those of the driver below.
    fn path_error(&self) -> Option<PathError> {
        None
    }

    /// What is shown of the counters of the driver below.
    fn counters(&self, counters: DriverCounters) -> DriverCounters {
        counters
    }
}

/// See the module.
pub(crate) struct HookedDriver<D, H> {
    pub(crate) driver: D,
    pub(crate) hook: H,
}

impl<D: Driver, H: DriverHook> Driver for HookedDriver<D, H> {
    fn kind(&self) -> DriverKind {
        self.driver.kind()
    }
    fn features(&self) -> &Features {
        self.driver.features()
    }
    fn now(&self) -> Instant {
        self.driver.now()
    }
    fn entropy(&mut self, out: &mut [u8]) {
        self.driver.entropy(out);
    }
    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        self.driver.add_socket(socket)
    }
    fn remove_socket(&mut self, id: SocketId) {
        self.driver.remove_socket(id);
    }
    fn receive(&mut self, budget: usize, on: impl FnMut(Received<'_>)) -> usize {
        self.driver.receive(budget, on)
    }
    fn lease(&mut self) -> Option<Lease> {
        self.driver.lease()
    }
    fn is_backed_up(&mut self, socket: SocketId) -> bool {
        self.hook.is_backed_up() || self.driver.is_backed_up(socket)
    }
    fn path_error(&mut self) -> Option<PathError> {
        self.hook.path_error().or_else(|| self.driver.path_error())
    }
    fn send(&mut self, route: Route, lease: Lease, len: usize, segment: usize) {
        self.hook.before_send(route);
        self.driver.send(route, lease, len, segment);
    }
    fn submit(&mut self) -> io::Result<()> {
        self.hook.submit_error().map_or_else(|| self.driver.submit(), Err)
    }
    fn prepare_sleep(&mut self, until: Option<Instant>) -> Sleep {
        self.driver.prepare_sleep(until)
    }
    fn sleep(&mut self, until: Option<Instant>) {
        self.driver.sleep(until);
    }
    fn end_sleep(&mut self) {
        self.driver.end_sleep();
    }
    fn readiness(&mut self) -> io::Result<BorrowedFd<'_>> {
        self.driver.readiness()
    }
    fn waker(&self) -> Waker {
        self.driver.waker()
    }
    fn counters(&self) -> DriverCounters {
        self.hook.counters(self.driver.counters())
    }
}
