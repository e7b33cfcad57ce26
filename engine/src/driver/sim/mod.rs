//! The simulated driver.

use std::{io, net::SocketAddr, task::Waker};

use corewire_proto::time::Instant;

use super::{Driver, DriverCounters, DriverKind, Features, Lease, Received, Socket, SocketId};

/// The simulated driver.
#[derive(Debug)]
pub struct SimDriver {}

impl Driver for SimDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sim
    }
    fn features(&self) -> &Features {
        todo!()
    }
    fn now(&self) -> Instant {
        todo!()
    }
    fn entropy(&mut self, _out: &mut [u8]) {
        todo!()
    }
    fn add_socket(&mut self, _socket: Socket) -> io::Result<SocketId> {
        todo!()
    }
    fn remove_socket(&mut self, _id: SocketId) {
        todo!()
    }
    fn receive(&mut self, _budget: usize, _on: impl FnMut(Received<'_>)) -> usize {
        todo!()
    }
    fn lease(&mut self) -> Option<Lease> {
        todo!()
    }
    fn send(&mut self, _socket: SocketId, _to: SocketAddr, _lease: Lease, _len: usize, _segment: usize) {
        todo!()
    }
    fn submit(&mut self) -> io::Result<()> {
        todo!()
    }
    fn park(&mut self, _until: Option<Instant>) {
        todo!()
    }
    fn waker(&self) -> Waker {
        todo!()
    }
    fn counters(&self) -> DriverCounters {
        todo!()
    }
}

/// A virtual network.
#[derive(Clone, Debug)]
pub struct World {}

/// A host of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub(crate) u32);

/// How a link behaves.
#[derive(Clone, Debug, Default)]
pub struct Link {}

impl World {
    /// A new world.
    pub fn new(_seed: u64) -> Self {
        todo!()
    }
    /// Adds a host.
    pub fn host(&self) -> HostId {
        todo!()
    }
    /// A driver for a shard of `host`.
    pub fn driver(&self, _host: HostId) -> SimDriver {
        todo!()
    }
    /// Binds `shards` sockets on `host`.
    pub fn bind(&self, _host: HostId, _address: SocketAddr, _shards: usize) -> io::Result<Vec<SimSocket>> {
        todo!()
    }
    /// The clock.
    pub fn now(&self) -> Instant {
        todo!()
    }
    /// Moves the clock to the next event.
    pub fn advance_to_next_event(&self) -> Option<Instant> {
        todo!()
    }
    /// What happened so far, in one number.
    pub fn trace_hash(&self) -> u64 {
        todo!()
    }
}

/// A virtual socket.
#[derive(Debug)]
pub struct SimSocket {}

impl SimSocket {
    /// Its address.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }
}
