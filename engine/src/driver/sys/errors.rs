//! What the kernel's answers mean for a datagram, and the queue in which it keeps the late ones.

use std::{io, mem, net::SocketAddr, os::fd::RawFd};

use super::{
    address::{ADDRESS_BYTES, RawAddress},
    clock, control, options,
};
use crate::driver::{DriverCounters, PathError, PathFault, SocketId, fault::PathErrors};

/// Why a send did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum SendFailure {
    /// The socket's buffer is full: later.
    Wait,
    /// The path is at fault, or (the kernel tells at the next call) was at fault for an earlier datagram.
    Unreachable,
    /// Larger than the path or the device takes.
    TooLarge,
    /// The local queue is full; dropped.
    NoRoom,
    /// The kernel does not like the train; its datagrams may pass one by one.
    Train,
    /// Anything else.
    Other,
}

impl SendFailure {
    /// The meaning of `error` for a send that was a train or not.
    pub(in crate::driver) fn of(error: &io::Error, train: bool) -> Self {
        match error.raw_os_error().unwrap_or(0) {
            libc::EAGAIN | libc::EINTR => Self::Wait,
            // A device without checksum offload answers EIO to a train, an old kernel EINVAL to a segment
            // larger than the path takes, a newer one EMSGSIZE.
            libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOPROTOOPT | libc::EMSGSIZE if train => {
                Self::Train
            }
            libc::EMSGSIZE => Self::TooLarge,
            libc::ENOBUFS | libc::ENOMEM => Self::NoRoom,
            libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENETDOWN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EACCES
            | libc::EPERM => Self::Unreachable,
            _ => Self::Other,
        }
    }

    /// What it says about the way to the receiver of a datagram of `bytes`; `None`: nothing.
    pub(in crate::driver) fn fault(self, bytes: usize) -> Option<PathFault> {
        match self {
            // A source address that the host has lost makes the network unreachable for it, and an address of
            // the loopback interface, which can't send elsewhere, is called invalid.
            Self::Unreachable | Self::Other => Some(PathFault::NotSent),
            Self::TooLarge => Some(PathFault::TooLarge { bytes }),
            Self::Wait | Self::NoRoom | Self::Train => None,
        }
    }

    /// Counts `datagrams` that were not sent for this reason.
    pub(in crate::driver) fn count(self, datagrams: u64, counters: &mut DriverCounters) {
        let counter = match self {
            Self::Unreachable => &mut counters.send_unreachable,
            Self::TooLarge => &mut counters.send_too_large,
            Self::NoRoom | Self::Wait => &mut counters.send_no_room,
            Self::Train | Self::Other => &mut counters.send_errors,
        };
        *counter += datagrams;
    }
}

/// Headers of IP and UDP in front of a payload.
const IPV4_HEADERS: usize = 20 + 8;
const IPV6_HEADERS: usize = 40 + 8;

/// Takes the errors that the kernel has queued for a socket (`IP_RECVERR`) and counts them. A queue that is
/// not taken makes every later call on the socket fail for an earlier datagram. Returns how many there were.
///
/// A socket with too many of them in a short time rests: the kernel forgets them and keeps no more, until
/// [`restore`].
pub(in crate::driver) fn drain(
    (id, socket): (SocketId, RawFd),
    counters: &mut DriverCounters,
    errors: &mut PathErrors,
) -> u64 {
    let now = clock::now();
    let mut taken = 0;
    loop {
        counters.system_calls += 1;
        if !errors.may_read(id, now) {
            let _ = options::keep_errors(socket, false);
            errors.rest((id, socket), now);
            counters.error_rests += 1;
            return taken;
        }
        let Some(answer) = next(socket) else { return taken };
        taken += 1;
        errors.count_read(id);
        counters.queued_errors += 1;
        // The send itself has reported what the local stack refuses.
        if let Some(Late { errno, too_large, remote: true, to }) = answer {
            let (counter, fault) = match errno as libc::c_int {
                libc::EMSGSIZE => {
                    (&mut counters.send_too_large, too_large.map(|bytes| PathFault::TooLarge { bytes }))
                }
                libc::ECONNREFUSED => (&mut counters.send_unreachable, Some(PathFault::Refused)),
                _ => (&mut counters.send_unreachable, Some(PathFault::Unreachable)),
            };
            *counter += 1;
            if let Some((to, fault)) = to.zip(fault) {
                errors.note(PathError { socket: id, to, fault });
            }
        }
    }
}

/// Lets the kernel keep errors again for sockets that have rested.
pub(in crate::driver) fn restore(counters: &mut DriverCounters, errors: &mut PathErrors) {
    while let Some(socket) = errors.rested(clock::now) {
        counters.system_calls += 1;
        let _ = options::keep_errors(socket.fd, true);
    }
}

/// An error that came back after its datagram had left.
struct Late {
    errno: u32,
    /// With `EMSGSIZE`: payloads from this length on do not pass; `None` when the router has not told.
    too_large: Option<usize>,
    remote: bool,
    /// The receiver of that datagram.
    to: Option<SocketAddr>,
}

/// The next queued error; the inner `None` is one without a readable cause.
fn next(socket: RawFd) -> Option<Option<Late>> {
    #[repr(C, align(8))]
    struct Aligned([u8; 256]);
    let mut control = Aligned([0; 256]);
    let mut name = RawAddress::NONE;
    // SAFETY: all-zero is a valid `msghdr`: no name, no data, no control.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = ADDRESS_BYTES as libc::socklen_t;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: the header names no data, and an address and a control buffer that live, with their lengths.
    let answer = unsafe { libc::recvmsg(socket, &mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    if answer < 0 {
        return None;
    }
    let to = if header.msg_namelen > 0 { name.get() } else { None };
    let written = header.msg_controllen.min(control.0.len());
    let late = control::messages(&control.0[..written]).find_map(|(level, kind, data)| {
        let ours = [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)];
        // `struct sock_extended_err`: { u32 errno; u8 origin, type, code, pad; u32 info, data; }.
        let errno = u32::from_ne_bytes(*data.first_chunk()?);
        let origin = *data.get(4)?;
        let info = u32::from_ne_bytes(*data.get(8..)?.first_chunk()?) as usize;
        let headers = match origin {
            libc::SO_EE_ORIGIN_ICMP => Some(IPV4_HEADERS),
            libc::SO_EE_ORIGIN_ICMP6 => Some(IPV6_HEADERS),
            _ => None,
        };
        // The packet size that passes is in `info`; old routers leave it at zero.
        let too_large = headers.and_then(|headers| info.checked_sub(headers)).map(|passes| passes + 1);
        ours.contains(&(level, kind)).then_some(Late { errno, too_large, remote: headers.is_some(), to })
    });
    Some(late)
}
