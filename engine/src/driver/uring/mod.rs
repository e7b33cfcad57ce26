//! The uring driver.

use std::{io, net::SocketAddr, task::Waker};

use corewire_proto::time::Instant;

use super::{Driver, DriverCounters, DriverKind, Features, Lease, Received, Socket, SocketId};

/// The uring driver.
#[derive(Debug)]
pub struct UringDriver {}

impl Driver for UringDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Uring
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
