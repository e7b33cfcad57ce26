//! What gives a shard its datagrams, its clock and its sleep.
//!
//! A driver belongs to the thread that opened it and is used from there only; the one thing that crosses
//! threads is its [`Waker`]. It reads no datagram, knows no session, and has no timer but the one that ends a
//! sleep.
//!
//! # Who owns what, when
//!
//! * **Received bytes** belong to the driver. [`Driver::receive`] lends each datagram to its callback as
//!   `&mut [u8]`, so that it can be opened in place; when the callback returns, the memory goes back to the
//!   kernel. The callback copies what must live longer.
//! * **Transmit memory** is taken with [`Driver::lease`], filled, and passed to [`Driver::send`]. From then
//!   on it belongs to the kernel until the send has completed and the driver takes it back. A lease that is
//!   dropped instead of sent returns at once.
//! * **Sockets** are passed to [`Driver::add_socket`] and given up by [`Driver::remove_socket`] or when the
//!   driver is dropped. That closes them, unless another owner holds them too.
//!
//! # A turn, as the driver sees it
//!
//! `now` → `receive` → (`lease` → `send`)* → `submit`, and `park` when the shard has nothing to do. `send`
//! only stages: nothing leaves before `submit`, which makes at most one system call where the kernel allows
//! it. None of these blocks except `park`.
//!
//! `park` is three steps, for hosts that sleep by their own means: [`Driver::prepare_sleep`] arms everything
//! that ends a sleep, [`Driver::sleep`] sleeps, [`Driver::end_sleep`] disarms. A host replaces the middle one
//! by waiting until [`Driver::readiness`] is readable or the time has come; a hosted engine's descriptor is
//! both in one.
//!
//! # Losses
//!
//! UDP may lose datagrams, so no call reports the fate of one. Every loss that the kernel reports is counted
//! in [`DriverCounters`]: a full receive queue, a refused port, a datagram larger than the path takes.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::BorrowedFd,
    sync::Arc,
    task::Waker,
};

use corewire_proto::time::Instant;

pub use self::sys::clock::now;
pub use self::{
    any::AnyDriver,
    counters::DriverCounters,
    fault::{PathError, PathFault},
    features::{Feature, Features, Found},
    open::{DriverOpenError, OpenedDriver, Unavailable, open},
};
pub(crate) use self::{
    group::GroupSocket,
    host_descriptor::HostDescriptor,
    sys::{
        address::canonical,
        affinity::{mask_of, set_mask},
        eventfd::EventFd,
        exit::at_exit,
        interfaces::{InterfaceAddress, InterfaceChanges, interface_addresses},
        poll::wait_readable,
    },
};
pub use crate::buffer::{LEASE_BYTES, Lease, leaked_bytes};

mod any;
pub mod bind;
mod counters;
pub mod epoll;
mod fault;
mod features;
mod group;
mod host_descriptor;
mod open;
mod outgoing;
mod probe;
pub mod sim;
mod steer;
mod sys;
mod table;
mod train;
pub mod uring;
mod wake;

/// The longest `len` that [`Driver::send`] takes, in bytes: the largest UDP payload that IPv4 can carry. A
/// train has the same bound, because the kernel builds it as one datagram before it cuts it.
pub const MAX_SEND_BYTES: usize = 65_507;

/// Most shards that can share an address, and so most shards of an engine. A packet's header has one byte for
/// the shard, and two of its values are reserved.
pub const MAX_SHARDS: usize = 254;

/// A socket is backed up when more than this part of all transmit memory waits in it. The kernel's buffer of
/// the socket has its own memory beside that, so the socket does not run dry.
const SOCKET_SHARE: usize = 4;

const _: () = assert!(MAX_SEND_BYTES <= LEASE_BYTES, "a lease holds the longest send");
const _: () =
    assert!(MAX_SHARDS <= 256 - 2, "the header names a shard with one byte; two values are reserved");

/// One datagram, lent for the length of a callback.
#[derive(Debug)]
pub struct Received<'a> {
    /// The socket it came in on.
    pub socket: SocketId,
    /// Who sent it, as the kernel saw it.
    pub from: SocketAddr,
    /// The address that it was sent to, on a socket that is bound to the unspecified address; `None` on
    /// others, which have one address only.
    pub at: Option<IpAddr>,
    /// Its payload; may be empty.
    pub bytes: &'a mut [u8],
}

/// How a datagram leaves and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The socket that it leaves by.
    pub socket: SocketId,
    /// The address that it leaves from, for a socket that is bound to the unspecified address. `None`: the
    /// kernel chooses. An answer leaves from the address that was called ([`Received::at`]), since its
    /// receiver knows no other.
    pub source: Option<IpAddr>,
    /// The receiver.
    pub to: SocketAddr,
}

impl Route {
    /// The way to `to` by `socket`, from the address that the kernel chooses.
    pub const fn new(socket: SocketId, to: SocketAddr) -> Self {
        Self { socket, source: None, to }
    }
}

/// Names a socket inside one driver. Never used again for another socket of the same driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    /// The index in the driver's table.
    pub(crate) slot: u16,
    /// How often the slot was used before.
    pub(crate) generation: u32,
}

impl SocketId {
    /// The id in one word, for the kernel to hand back.
    fn token(self) -> u64 {
        u64::from(self.generation) << 16 | u64::from(self.slot)
    }

    /// The id of which [`token`](Self::token) made this word.
    fn from_token(token: u64) -> Self {
        Self { slot: token as u16, generation: (token >> 16) as u32 }
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}.{}", self.slot, self.generation)
    }
}

/// What [`Driver::add_socket`] takes.
#[derive(Debug)]
pub enum Socket {
    /// A bound UDP socket of the operating system, for [`DriverKind::Uring`] and [`DriverKind::Epoll`].
    Udp(Arc<UdpSocket>),
    /// A socket of a [`sim::World`], for [`DriverKind::Sim`].
    Sim(sim::SimSocket),
}

impl Socket {
    /// The address that it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Sim(socket) => Ok(socket.local_addr()),
        }
    }

    /// The same socket for another owner: it closes with the last one. `None`: it is a simulated one.
    pub(crate) fn hold(&self) -> Option<Self> {
        match self {
            Self::Udp(socket) => Some(Self::Udp(socket.clone())),
            Self::Sim(_) => None,
        }
    }
}

impl From<UdpSocket> for Socket {
    fn from(socket: UdpSocket) -> Self {
        Self::Udp(Arc::new(socket))
    }
}

impl From<sim::SimSocket> for Socket {
    fn from(socket: sim::SimSocket) -> Self {
        Self::Sim(socket)
    }
}

/// Which driver a shard runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// io_uring.
    Uring,
    /// epoll, `recvmmsg` and `sendmmsg`.
    Epoll,
    /// A virtual clock and network, for tests.
    Sim,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Sim => "sim",
        })
    }
}

/// Which driver to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IoChoice {
    /// For a shard with a thread of its own io_uring where it is allowed; elsewhere epoll, with one line of
    /// explanation. For a hosted shard epoll: its direct calls are the faster way to the one socket of a node
    /// that is awake, as measured on the loopback interface.
    #[default]
    Auto,
    /// io_uring, or an error with the reason.
    Uring,
    /// epoll.
    Epoll,
}

impl IoChoice {
    /// The choice for a hosted shard.
    pub(crate) fn hosted(self) -> Self {
        if self == Self::Auto { Self::Epoll } else { self }
    }
}

/// The memory that a driver may use. Every field is a bound, allocated when the driver is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverConfig {
    /// Transmit buffers of 64 KiB; 1 to 1,024, 64 by default (4 MiB): twice what one turn can fill,
    /// so that the kernel sends one turn's while the next fills the others.
    pub leases: u16,
    /// Receive buffers of a little more than 64 KiB (one whole train each); a power of two, 1 to 1,024, 64 by
    /// default. The kernel's socket queue holds what does not fit, so this bounds the batch of one turn, not
    /// a burst.
    pub receive_buffers: u16,
    /// Sockets at one time; 1 to 1,024, 256 by default.
    pub sockets: u16,
}

impl DriverConfig {
    /// Whether every bound is in its range.
    fn check(&self) -> Result<(), DriverOpenError> {
        let in_range = |value| (1..=1024).contains(&value);
        if !in_range(self.leases) {
            return Err(DriverOpenError::Config("leases must be 1 to 1,024"));
        }
        if !in_range(self.receive_buffers) || !self.receive_buffers.is_power_of_two() {
            return Err(DriverOpenError::Config("receive_buffers must be a power of two, 1 to 1,024"));
        }
        if !in_range(self.sockets) {
            return Err(DriverOpenError::Config("sockets must be 1 to 1,024"));
        }
        Ok(())
    }
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self { leases: 64, receive_buffers: 64, sockets: 256 }
    }
}

/// Whether a driver may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// There is work already: take a turn instead.
    Ready,
    /// Sleep, at most until then (`None`: without an end).
    Until(Option<Instant>),
}

/// The contract between a shard and its datagrams. See the module's page for who owns what.
///
/// A driver is `!Send`: it is opened, used and dropped on one thread.
pub trait Driver {
    /// Which driver this is.
    fn kind(&self) -> DriverKind;

    /// What the probes found when the driver was opened.
    fn features(&self) -> &Features;

    /// The monotonic clock. All drivers of a process (all hosts of a simulated world) share one.
    fn now(&self) -> Instant;

    /// Fills `out` with unpredictable bytes (in a simulated world: with bytes drawn from its seed).
    fn entropy(&mut self, out: &mut [u8]);

    /// Takes over a bound socket and receives from it, beginning with the next `submit` or `park`.
    ///
    /// # Errors
    ///
    /// When the table is full ([`DriverConfig::sockets`]), when the socket is of the wrong kind for this
    /// driver, or when the kernel refuses to make it ready.
    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId>;

    /// Gives up a socket. Datagrams of it that were not yet received are lost, staged sends as well. An
    /// unknown id is ignored.
    fn remove_socket(&mut self, id: SocketId);

    /// Lends received datagrams to `on`, one call per datagram (trains are already cut), and returns how
    /// many. Stops after `budget` datagrams; the last train may overshoot it by its own length. 0 means that
    /// there is none; otherwise another call may find more. Never blocks. A datagram that can't be lent
    /// (truncated by the kernel, or without a sender) counts against the budget too.
    fn receive(&mut self, budget: usize, on: impl FnMut(Received<'_>)) -> usize;

    /// Transmit memory of [`LEASE_BYTES`], with arbitrary contents; `None` when all of it is in flight
    /// (counted). It comes back during `receive`, `submit` or `park`.
    fn lease(&mut self) -> Option<Lease>;

    /// Whether sends of this socket wait in the kernel with more than a quarter of all transmit memory,
    /// because its buffer is full. What is sent from it then takes the memory that other sockets need.
    fn is_backed_up(&mut self, socket: SocketId) -> bool;

    /// Stages the first `len` bytes of `lease` as datagrams of `segment` bytes each (the last one may be
    /// shorter) for `route`. `segment == len` is a single datagram. They arrive in order or not at all.
    ///
    /// What cannot be sent (unknown socket, `len` above [`MAX_SEND_BYTES`] or zero with several segments) is
    /// counted as refused.
    fn send(&mut self, route: Route, lease: Lease, len: usize, segment: usize);

    /// Takes the oldest error that came back for a datagram. Of each socket at most 64 wait to be taken.
    fn path_error(&mut self) -> Option<PathError>;

    /// Hands all staged work to the kernel.
    ///
    /// # Errors
    ///
    /// Only when the driver itself is broken and can't go on (the kernel refuses it a call that it needs);
    /// then every later call fails too. The fate of a datagram is counted, never returned.
    fn submit(&mut self) -> io::Result<()>;

    /// Submits staged work and arms everything that ends a sleep: datagrams, the [waker](Self::waker), and a
    /// lease that was refused. A wake-up since the last sleep makes it answer [`Sleep::Ready`].
    ///
    /// After [`Sleep::Until`] the caller sleeps until then at most, by [`sleep`](Self::sleep) or by waiting
    /// for [`readiness`](Self::readiness), and then calls [`end_sleep`](Self::end_sleep). Nothing else may be
    /// called in between. A simulated world is told when this driver wants to run again.
    fn prepare_sleep(&mut self, until: Option<Instant>) -> Sleep;

    /// Sleeps until one of the armed things happens or `until` has passed. May return early. In a simulated
    /// world it returns at once.
    fn sleep(&mut self, until: Option<Instant>);

    /// The driver is awake again. Only after [`Sleep::Until`].
    fn end_sleep(&mut self);

    /// A descriptor that becomes readable when something happens that ends a prepared sleep. The first call
    /// makes it; a driver that was never asked for it has no cost from it.
    ///
    /// # Errors
    ///
    /// When the system refuses a descriptor, or the driver is a simulated one, which has none.
    fn readiness(&mut self) -> io::Result<BorrowedFd<'_>>;

    /// Sleeps until a datagram is there, a [waker](Self::waker) was called, a lease that was refused came
    /// back, or `until` has passed. May return early.
    fn park(&mut self, until: Option<Instant>) {
        if let Sleep::Until(until) = self.prepare_sleep(until) {
            self.sleep(until);
            self.end_sleep();
        }
    }

    /// Ends the current or next sleep. May be called from any thread, also after the driver's
    /// end; costs a system call only if the driver sleeps.
    fn waker(&self) -> Waker;

    /// What was done and lost so far.
    fn counters(&self) -> DriverCounters;
}
