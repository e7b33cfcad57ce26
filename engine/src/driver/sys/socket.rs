//! Sockets that `std` can't make: those that share an address, and those of both families whatever the
//! system's default is. Not inside: when to share.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, RawFd},
};

use super::{address::RawAddress, check, options};
use crate::driver::steer::Instruction;

/// Binds a socket. One on `[::]` also takes IPv4, where the kernel allows it. `shared`: the address has a
/// socket that was opened for sharing.
pub(in crate::driver) fn bind(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = open(address)?;
    let fd = socket.as_raw_fd();
    if shared {
        options::set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Without effect only where `net.ipv6.bindv6only` could not be overridden: then IPv6 alone.
        let _ = options::set(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 0);
    }
    bind_to(&socket, address)?;
    Ok(socket)
}

/// Binds a socket to a multicast group, which any number of sockets may be bound to. Each of them receives
/// what comes to the group.
pub(in crate::driver) fn bind_group(group: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(group)?;
    options::set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    bind_to(&socket, group)?;
    Ok(socket)
}

/// A socket of the family of `address`.
fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor was just made and has no other owner; it is a UDP socket.
    Ok(unsafe { UdpSocket::from_raw_fd(fd) })
}

fn bind_to(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    let (raw, len) = RawAddress::new(address);
    // SAFETY: `raw` is readable for `len` bytes, which are an address of the socket's family.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const raw).cast(), len) }).map(drop)
}

/// Gives the sockets that share an address a program that chooses among them (`SO_ATTACH_REUSEPORT_CBPF`,
/// Linux 4.5).
pub(in crate::driver) fn steer(socket: RawFd, program: &[Instruction]) -> io::Result<()> {
    let mut filter: Vec<_> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    let len = size_of_val(&program) as libc::socklen_t;
    // SAFETY: `program` is readable for `len` bytes and points to `filter.len()` instructions, which live
    // until the call has copied them.
    check(unsafe { libc::setsockopt(socket, level, name, (&raw const program).cast(), len) }).map(drop)
}
