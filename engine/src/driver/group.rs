//! A socket in a multicast group: what beacons are sent and received on. Not inside: what a beacon is.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use super::sys::{interfaces::InterfaceAddress, options, socket};

/// Interfaces that one socket joins a group on. The kernel allows 20 (`net.ipv4.igmp_max_memberships`).
const INTERFACES_MAX: usize = 16;

/// `IPV6_MULTICAST_ALL` of `linux/in6.h`, which `libc` lacks.
const IPV6_MULTICAST_ALL: libc::c_int = 29;

/// A socket that is bound to a multicast group, beside any number of others.
///
/// It receives only what came to the group through an interface that it has joined it on, whatever other
/// sockets of the host have joined: one that joined on the loopback interface hears no other host. What it
/// sends stays on the link.
#[derive(Debug)]
pub(crate) struct GroupSocket {
    socket: UdpSocket,
    group: SocketAddr,
    /// The numbers of the interfaces.
    joined: Vec<u32>,
    /// As the kernel counted when it was asked last.
    dropped: u32,
}

impl GroupSocket {
    pub(crate) fn open(group: SocketAddr) -> io::Result<Self> {
        let socket = socket::bind_group(group)?;
        socket.set_nonblocking(true)?;
        let fd = socket.as_raw_fd();
        if group.is_ipv4() {
            options::set(fd, libc::SOL_IP, libc::IP_MULTICAST_ALL, 0)?;
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(true)?;
        } else {
            // Before Linux 4.20 there is no such option. The group is bound, so only its datagrams come.
            let _ = options::set(fd, libc::SOL_IPV6, IPV6_MULTICAST_ALL, 0);
            options::set(fd, libc::SOL_IPV6, libc::IPV6_MULTICAST_HOPS, 1)?;
            socket.set_multicast_loop_v6(true)?;
        }
        Ok(Self { socket, group, joined: Vec::new(), dropped: 0 })
    }

    /// Whether datagrams of the group can pass through an address of this kind.
    fn fits(&self, interface: &InterfaceAddress) -> bool {
        // The kernel has no multicast route for IPv6 on the loopback interface.
        let able = self.group.is_ipv4() || !interface.is_loopback;
        able && interface.has_multicast && interface.ip.is_ipv4() == self.group.is_ipv4()
    }

    /// Joins the group on these interfaces. Through others nothing is sent.
    pub(crate) fn join(&mut self, interfaces: &[InterfaceAddress]) {
        let wanted: Vec<_> = interfaces.iter().filter(|interface| self.fits(interface)).collect();
        self.joined.retain(|index| wanted.iter().any(|interface| interface.index == *index));
        for interface in wanted {
            if self.joined.len() >= INTERFACES_MAX || self.joined.contains(&interface.index) {
                continue;
            }
            let joined = match (self.group.ip(), interface.ip) {
                (IpAddr::V4(group), IpAddr::V4(ip)) => self.socket.join_multicast_v4(&group, &ip),
                (IpAddr::V6(group), _) => self.socket.join_multicast_v6(&group, interface.index),
                (IpAddr::V4(_), IpAddr::V6(_)) => continue,
            };
            // On an interface that has lost its addresses for a while the group is joined still.
            if joined.map_or_else(|error| error.kind() == io::ErrorKind::AddrInUse, |()| true) {
                self.joined.push(interface.index);
            }
        }
    }

    /// Sends to the group through each interface that was joined. Returns how many took it.
    pub(crate) fn send(&self, interfaces: &[InterfaceAddress], datagram: &[u8]) -> usize {
        let mut through = Vec::new();
        for interface in interfaces.iter().filter(|interface| self.passes(interface)) {
            if !through.contains(&interface.index) {
                let sent = self.choose(interface).and_then(|()| self.socket.send_to(datagram, self.group));
                if sent.is_ok() {
                    through.push(interface.index);
                }
            }
        }
        through.len()
    }

    /// Makes the next datagram leave through `interface`, from its address.
    fn choose(&self, interface: &InterfaceAddress) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        match interface.ip {
            // The option takes an address, four bytes in the order of the network.
            IpAddr::V4(ip) => {
                let raw = i32::from_ne_bytes(ip.octets());
                options::set(fd, libc::SOL_IP, libc::IP_MULTICAST_IF, raw)
            }
            IpAddr::V6(_) => {
                options::set(fd, libc::SOL_IPV6, libc::IPV6_MULTICAST_IF, interface.index.cast_signed())
            }
        }
    }

    /// Receives a datagram, if one is there.
    pub(crate) fn receive(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(bytes)
    }

    /// Datagrams that the kernel has dropped since the last call, because the queue was full.
    pub(crate) fn newly_dropped(&mut self) -> u32 {
        let before = self.dropped;
        self.dropped = options::dropped(self.socket.as_raw_fd()).unwrap_or(before);
        self.dropped.wrapping_sub(before)
    }

    /// Whether datagrams pass through this interface.
    pub(crate) fn passes(&self, interface: &InterfaceAddress) -> bool {
        self.fits(interface) && self.joined.contains(&interface.index)
    }

    /// How many interfaces were joined.
    pub(crate) fn joined(&self) -> usize {
        self.joined.len()
    }
}

impl AsFd for GroupSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
