//! Sends: headers that stay in place while the kernel may read them, and `sendmmsg`.
//!
//! Not inside: who waits for what; see the drivers.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
};

use super::{
    address::{RawAddress, canonical},
    check,
    control::Control,
    errors::{self, SendFailure},
};
use crate::driver::{DriverCounters, PathError, Route, fault::PathErrors};

/// Segments in one train that every kernel with `UDP_SEGMENT` takes (`UDP_MAX_SEGMENTS`; 128 since Linux
/// 6.9).
pub(in crate::driver) const SAFE_SEGMENTS: usize = 64;

/// Headers that [`send_pieces`] builds at one time.
const PIECES: usize = 32;

/// One send as the kernel reads it: a header and all that it points to, at one address for life.
#[repr(C)]
pub(in crate::driver) struct SendSlot {
    header: libc::msghdr,
    vector: libc::iovec,
    name: RawAddress,
    control: Control,
}

impl SendSlot {
    fn new() -> Box<Self> {
        // SAFETY: all-zero is a valid `msghdr`: no name, no data, no control.
        let header = unsafe { mem::zeroed() };
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Box::new(Self { header, vector, name: RawAddress::NONE, control: Control::EMPTY })
    }

    /// Describes `len` bytes at `bytes` for `route`, cut into datagrams of `segment` when that is less. The
    /// receiver's address must be of the socket's family; see [`fit_family`].
    fn fill(&mut self, Route { source, to, .. }: Route, bytes: *const u8, len: usize, segment: usize) {
        let (name, name_len) = RawAddress::new(to);
        self.name = name;
        self.vector = libc::iovec { iov_base: bytes.cast_mut().cast(), iov_len: len };
        self.header.msg_name = (&raw mut self.name).cast();
        self.header.msg_namelen = name_len;
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        if segment < len || source.is_some() {
            let source = source.and_then(|source| fit_source(source, to));
            let len = self.control.set((segment < len).then_some(segment as u16), source);
            self.header.msg_control = self.control.0.as_mut_ptr().cast();
            self.header.msg_controllen = len;
        } else {
            self.header.msg_control = std::ptr::null_mut();
            self.header.msg_controllen = 0;
        }
    }
}

/// One [`SendSlot`] for every transmit buffer.
pub(in crate::driver) struct SendSlots {
    // Boxed one by one: the kernel holds their addresses.
    slots: Box<[Box<SendSlot>]>,
}

impl SendSlots {
    pub(in crate::driver) fn new(count: u16) -> Self {
        Self { slots: (0..count).map(|_| SendSlot::new()).collect() }
    }

    /// Describes a send in slot `index`, and gives the header for the kernel. The slot must not be filled
    /// again while the kernel may read it.
    pub(in crate::driver) fn fill(
        &mut self,
        index: u16,
        route: Route,
        bytes: *const u8,
        len: usize,
        segment: usize,
    ) -> *const libc::msghdr {
        let slot = &mut self.slots[usize::from(index)];
        slot.fill(route, bytes, len, segment);
        &raw const slot.header
    }

    /// The header of slot `index`.
    pub(in crate::driver) fn header(&self, index: u16) -> *const libc::msghdr {
        &raw const self.slots[usize::from(index)].header
    }
}

impl std::fmt::Debug for SendSlots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendSlots({})", self.slots.len())
    }
}

/// A `sendmmsg` array that refers to slots.
pub(in crate::driver) struct SendBatch {
    headers: Vec<libc::mmsghdr>,
}

impl SendBatch {
    pub(in crate::driver) fn new(capacity: u16) -> Self {
        Self { headers: Vec::with_capacity(usize::from(capacity)) }
    }

    /// Sends the slots `which` on `socket`; says how many the kernel took. An error is the first one's; never
    /// waits.
    pub(in crate::driver) fn send(
        &mut self,
        socket: RawFd,
        slots: &SendSlots,
        which: impl Iterator<Item = u16>,
    ) -> io::Result<usize> {
        self.headers.clear();
        self.headers.extend(which.map(|index| {
            // SAFETY: the slot is owned by `slots`, which is borrowed; a `msghdr` is plain data to copy.
            let msg_hdr = unsafe { slots.header(index).read() };
            libc::mmsghdr { msg_hdr, msg_len: 0 }
        }));
        send_headers(socket, &mut self.headers)
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendBatch({})", self.headers.len())
    }
}

/// Hands filled headers to the kernel, without waiting.
fn send_headers(socket: RawFd, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let (first, count) = (headers.as_mut_ptr(), headers.len() as libc::c_uint);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: each header points to a name, an iovec, bytes and a control buffer that their owners keep in
    // place during the call; the kernel only reads them.
    check(unsafe { libc::sendmmsg(socket, first, count, flags as _) }).map(|sent| sent as usize)
}

/// Sends `bytes` as datagrams of `segment` bytes, in trains of `per_train` (1 = one by one), right now and in
/// order. For what the usual way can't do: trains that the kernel refused or that are too long for it. What
/// the kernel does not take at once is dropped and counted, as a full queue would.
pub(in crate::driver) fn send_pieces(
    socket: RawFd,
    route: Route,
    bytes: &[u8],
    segment: usize,
    per_train: usize,
    (counters, faults): (&mut DriverCounters, &mut PathErrors),
) {
    assert!(segment > 0 && per_train > 0);
    let mut slots: [_; PIECES] = std::array::from_fn(|_| SendSlot::new());
    let mut pieces = bytes.chunks(segment * per_train).peekable();
    while pieces.peek().is_some() {
        let mut headers = Vec::with_capacity(PIECES);
        let mut lengths = Vec::with_capacity(PIECES);
        for (slot, piece) in slots.iter_mut().zip(pieces.by_ref().take(PIECES)) {
            slot.fill(route, piece.as_ptr(), piece.len(), segment);
            lengths.push(piece.len());
            headers.push(libc::mmsghdr { msg_hdr: slot.header, msg_len: 0 });
        }
        let mut next = 0;
        let mut tries = 0;
        while next < headers.len() {
            counters.system_calls += 1;
            match send_headers(socket, &mut headers[next..]) {
                Ok(sent) => {
                    for &len in &lengths[next..next + sent] {
                        counters.sent_datagrams += len.div_ceil(segment) as u64;
                        counters.sent_bytes += len as u64;
                        counters.sent_trains += u64::from(len > segment);
                    }
                    next += sent;
                    tries = 0;
                }
                Err(error) => {
                    let failure = SendFailure::of(&error, false);
                    errors::drain((route.socket, socket), counters, faults);
                    tries += 1;
                    // The first answer may have been meant for an earlier datagram.
                    if failure != SendFailure::Unreachable || tries > 1 {
                        failure.count(lengths[next].div_ceil(segment) as u64, counters);
                        if let Some(fault) = failure.fault(segment.min(lengths[next])) {
                            let Route { socket, to, .. } = route;
                            faults.note(PathError { socket, to: canonical(to), fault });
                        }
                        next += 1;
                        tries = 0;
                    }
                }
            }
        }
    }
}

/// The address as a socket of the given family writes it: an IPv6 socket reaches IPv4 peers under mapped
/// addresses. `None` when it can't reach it.
pub(in crate::driver) fn fit_family(to: SocketAddr, socket_is_ipv4: bool) -> Option<SocketAddr> {
    match (to, socket_is_ipv4) {
        (SocketAddr::V4(_), true) | (SocketAddr::V6(_), false) => Some(to),
        (SocketAddr::V4(v4), false) => Some(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())),
        (SocketAddr::V6(v6), true) => {
            v6.ip().to_ipv4_mapped().map(|ip| SocketAddr::new(ip.into(), v6.port()))
        }
    }
}

/// The sender's address as the socket writes it whose form of the receiver's is `to`; `None` when it is of
/// the other family.
fn fit_source(source: IpAddr, to: SocketAddr) -> Option<IpAddr> {
    match (source, to) {
        (IpAddr::V4(_), SocketAddr::V4(_)) | (IpAddr::V6(_), SocketAddr::V6(_)) => Some(source),
        (IpAddr::V4(v4), SocketAddr::V6(_)) => Some(v4.to_ipv6_mapped().into()),
        (IpAddr::V6(_), SocketAddr::V4(_)) => None,
    }
}
