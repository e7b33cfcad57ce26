//! Two drivers of one kind with a way for datagrams between them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use corewire_engine::driver::{
    AnyDriver, Driver, DriverConfig, DriverKind, IoChoice, Received, Route, Socket, SocketId, open,
    sim::{HostId, World},
};

/// Which driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    Sim,
    Epoll,
    Uring,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A socket of one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) id: SocketId,
    pub(crate) address: SocketAddr,
}

/// A received datagram, copied.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) socket: SocketId,
    pub(crate) from: SocketAddr,
    pub(crate) at: Option<IpAddr>,
    pub(crate) bytes: Vec<u8>,
}

/// How long a real datagram may take over loopback before a test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Rig {
    drivers: [AnyDriver; 2],
    world: Option<(World, [HostId; 2])>,
    held: Vec<Arc<UdpSocket>>,
}

/// Bytes that tell by themselves where they were cut or swapped.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(31) ^ (index >> 8) ^ seed.wrapping_mul(101)) as u8).collect()
}

impl Rig {
    pub(crate) fn new(arm: Arm) -> Self {
        Self::with(arm, DriverConfig::default())
    }

    pub(crate) fn with(arm: Arm, config: DriverConfig) -> Self {
        let (choice, expected) = match arm {
            Arm::Sim => {
                let world = World::new(1);
                let hosts = [world.host(), world.host()];
                let drivers = hosts.map(|host| world.driver_with(host, &config).unwrap().into());
                return Self { drivers, world: Some((world, hosts)), held: Vec::new() };
            }
            Arm::Epoll => (IoChoice::Epoll, DriverKind::Epoll),
            Arm::Uring => (IoChoice::Auto, DriverKind::Uring),
        };
        let open_one = || {
            let opened = open(choice, &config).unwrap();
            if opened.driver.kind() != expected {
                eprintln!("io_uring is not available, this ran on epoll: {}", opened.fallback.unwrap());
            }
            opened.driver
        };
        Self { drivers: [open_one(), open_one()], world: None, held: Vec::new() }
    }

    pub(crate) fn driver(&mut self, side: Side) -> &mut AnyDriver {
        &mut self.drivers[side as usize]
    }

    /// A bound socket that is not yet the driver's.
    pub(crate) fn socket(&mut self, side: Side, address: Option<SocketAddr>) -> Socket {
        match &self.world {
            Some((world, hosts)) => {
                let host = hosts[side as usize];
                let address = address.unwrap_or((world.ip(host), 0).into());
                world.bind(host, address, 1).unwrap().remove(0).into()
            }
            None => UdpSocket::bind(address.unwrap_or(([127, 0, 0, 1], 0).into())).unwrap().into(),
        }
    }

    pub(crate) fn add(&mut self, side: Side) -> End {
        let socket = self.socket(side, None);
        self.take(side, socket)
    }

    pub(crate) fn add_at(&mut self, side: Side, address: SocketAddr) -> End {
        let socket = self.socket(side, Some(address));
        self.take(side, socket)
    }

    pub(crate) fn add_ipv6(&mut self, side: Side) -> Option<End> {
        let socket = match &self.world {
            Some((world, hosts)) => {
                let ip = world.ipv6(hosts[side as usize]);
                return Some(self.add_at(side, (ip, 0).into()));
            }
            None => UdpSocket::bind("[::1]:0").ok()?,
        };
        Some(self.take(side, socket.into()))
    }

    pub(crate) fn add_with_small_queue(&mut self, side: Side) -> End {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let bytes = 1i32;
        let size = size_of::<i32>() as libc::socklen_t;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVBUF);
        // SAFETY: `bytes` is readable for its size.
        let answer =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const bytes).cast(), size) };
        assert_eq!(answer, 0);
        self.take(side, socket.into())
    }

    fn take(&mut self, side: Side, socket: Socket) -> End {
        let address = socket.local_addr().unwrap();
        let id = self.driver(side).add_socket(socket).unwrap();
        End { id, address }
    }

    /// An address of side B without a listener.
    pub(crate) fn closed_port(&mut self) -> SocketAddr {
        let socket = self.socket(Side::B, None);
        let address = socket.local_addr().unwrap();
        if let Socket::Udp(socket) = socket {
            // Connected to another port: it refuses every other sender, and no other test can get its port.
            socket.connect("127.0.0.1:9").unwrap();
            self.held.push(socket);
        }
        address
    }

    pub(crate) fn send(&mut self, side: Side, from: SocketId, to: SocketAddr, bytes: &[u8], segment: usize) {
        self.send_by(side, Route::new(from, to), bytes, segment);
    }

    pub(crate) fn send_by(&mut self, side: Side, route: Route, bytes: &[u8], segment: usize) {
        self.until(side, |driver| {
            let Some(mut lease) = driver.lease() else { return false };
            lease[..bytes.len()].copy_from_slice(bytes);
            driver.send(route, lease, bytes.len(), segment);
            true
        });
        self.driver(side).submit().unwrap();
    }

    pub(crate) fn receive_once(&mut self, side: Side, budget: usize) -> Vec<Got> {
        let mut got = Vec::new();
        let count = self.driver(side).receive(budget, |datagram| {
            let Received { socket, from, at, bytes } = datagram;
            got.push(Got { socket, from, at, bytes: bytes.to_vec() });
        });
        assert_eq!(count, got.len());
        got
    }

    /// Receives until `count` datagrams are there.
    pub(crate) fn collect(&mut self, side: Side, count: usize) -> Vec<Got> {
        let mut got = Vec::new();
        let start = self.driver(side).now();
        while got.len() < count {
            let some = self.receive_once(side, 64);
            if some.is_empty() {
                assert!(
                    self.driver(side).now() - start < PATIENCE,
                    "{} of {count} datagrams came",
                    got.len()
                );
                self.pass(side);
            }
            got.extend(some);
        }
        got
    }

    /// Receives until nothing comes any more; says how many.
    pub(crate) fn collect_what_comes(&mut self, side: Side) -> usize {
        let mut count = 0;
        loop {
            let some = self.receive_once(side, 64).len();
            if some == 0 {
                self.pass(side);
                let late = self.receive_once(side, 64).len();
                if late == 0 {
                    return count;
                }
                count += late;
            }
            count += some;
        }
    }

    /// Lets `side` run until `done`.
    pub(crate) fn until(&mut self, side: Side, mut done: impl FnMut(&mut AnyDriver) -> bool) {
        let start = self.driver(side).now();
        while !done(self.driver(side)) {
            assert!(self.driver(side).now() - start < PATIENCE, "it never came");
            self.pass(side);
        }
    }

    /// Lets time pass for `side`: until something happens or a short while has gone by.
    pub(crate) fn pass(&mut self, side: Side) {
        let until = self.driver(side).now() + Duration::from_millis(20);
        self.driver(side).park(Some(until));
        if let Some((world, _)) = &self.world {
            world.advance_to_next_event();
        }
    }
}
