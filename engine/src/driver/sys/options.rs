//! Socket options. Not inside: which socket gets which; see [`prepare`] for those that every socket of a
//! driver gets, and [`bind`](crate::driver::bind) for those of a new one.

use std::{io, net::UdpSocket, os::fd::AsRawFd, os::fd::RawFd};

use super::check;

/// Sets an option of type `int`.
pub(in crate::driver) fn set(
    socket: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: i32,
) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes during the call.
    check(unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), len) }).map(drop)
}

/// Reads an option of type `int`.
pub(in crate::driver) fn get(socket: RawFd, level: libc::c_int, name: libc::c_int) -> io::Result<i32> {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes during the call.
    check(unsafe { libc::getsockopt(socket, level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

/// Datagrams that a socket has dropped because its queue was full (`SO_MEMINFO`, Linux 4.12). The kernel
/// counts modulo 2³².
pub(in crate::driver) fn dropped(socket: RawFd) -> io::Result<u32> {
    /// `SK_MEMINFO_VARS` of `linux/sock_diag.h`, and the place of `SK_MEMINFO_DROPS`.
    const VARS: usize = 9;
    const DROPS: usize = 8;
    let mut values = [0u32; VARS];
    let mut len = size_of_val(&values) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
    // SAFETY: `values` is writable for `len` bytes during the call.
    check(unsafe { libc::getsockopt(socket, level, name, (&raw mut values).cast(), &mut len) })?;
    Ok(values[DROPS])
}

/// Whether the kernel keeps the errors that come back for the socket's datagrams, and fails a later call for
/// them. Setting it to `false` also removes those that are queued.
pub(in crate::driver) fn keep_errors(socket: RawFd, keep: bool) -> io::Result<()> {
    let ipv4 = set(socket, libc::SOL_IP, libc::IP_RECVERR, keep.into());
    // Refused by a socket of the other family.
    let ipv6 = set(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, keep.into());
    ipv4.or(ipv6)
}

/// What a socket can do that the driver asked of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct PreparedSocket {
    /// It takes trains to send (`UDP_SEGMENT`, Linux 4.18).
    pub(in crate::driver) segmentation: bool,
}

/// Makes a bound socket ready for a driver:
///
/// * blocking or not: io_uring waits for room by itself only on a blocking socket, and answers `EAGAIN` on
///   another;
/// * `IP_RECVERR`: without it a send into a full local queue reports success;
/// * `SO_RXQ_OVFL`: tells how many datagrams a full receive queue has dropped;
/// * `UDP_GRO` where there is one: trains arrive in one receive;
/// * `IP_PKTINFO` on the unspecified address: tells which address of this host was called;
/// * never fragmented on the way (`IP_PMTUDISC_PROBE`), and the kernel's estimate of the path is ignored.
///   There is no search for the path's size: a session's packets have their configured size, and one that is
///   larger than the path is lost (and counted, where this host can tell).
///
/// Only the first can fail; the others are worth having where the kernel gives them.
pub(in crate::driver) fn prepare(socket: &UdpSocket, blocking: bool) -> io::Result<PreparedSocket> {
    socket.set_nonblocking(!blocking)?;
    let fd = socket.as_raw_fd();
    let _ = set(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    let _ = set(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
    let _ = keep_errors(fd, true);
    let _ = set(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
    let local = socket.local_addr()?;
    if local.ip().is_unspecified() {
        let (level, name) = match local.is_ipv4() {
            true => (libc::SOL_IP, libc::IP_PKTINFO),
            false => (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
        };
        let _ = set(fd, level, name, 1);
    }
    if local.is_ipv6() {
        let _ = set(fd, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE);
    }
    // Reading the option succeeds exactly where sends may carry it.
    Ok(PreparedSocket { segmentation: get(fd, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok() })
}
