//! `recvmmsg`: several datagrams (or trains) per call. Not inside: the cutting of trains.

use std::{io, mem, net::SocketAddr, os::fd::RawFd};

use super::{
    address::{ADDRESS_BYTES, RawAddress},
    check,
    control::{self, CONTROL_BYTES, Control, Notes},
};
use crate::buffer::ReceiveBuffers;

/// The longest payload: a whole train.
const PAYLOAD_BYTES: usize = 65_536;

/// Everything that a batch of receives needs, laid out once.
pub(in crate::driver) struct ReceiveBatch {
    buffers: ReceiveBuffers,
    /// These three are pointed to by `headers`, so they are never resized.
    names: Box<[RawAddress]>,
    controls: Box<[Control]>,
    #[expect(dead_code, reason = "pointed to by the headers")]
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// How many headers the last call wrote to; they are set back before the next.
    written: usize,
}

/// One received datagram or train.
#[derive(Debug)]
pub(in crate::driver) struct BatchMessage<'a> {
    /// `None` when the kernel named no sender of IP.
    pub(in crate::driver) from: Option<SocketAddr>,
    pub(in crate::driver) bytes: &'a mut [u8],
    pub(in crate::driver) notes: Notes,
    pub(in crate::driver) truncated: bool,
}

impl ReceiveBatch {
    /// Room for `count` datagrams at one time.
    pub(in crate::driver) fn new(count: u16) -> io::Result<Self> {
        let buffers = ReceiveBuffers::new(count, PAYLOAD_BYTES, true)?;
        let mut names: Box<[_]> = vec![RawAddress::NONE; usize::from(count)].into();
        let mut controls: Box<[_]> = vec![Control::EMPTY; usize::from(count)].into();
        let mut vectors: Box<[_]> = (0..count)
            .map(|index| libc::iovec {
                iov_base: buffers.pointer(index).as_ptr().cast(),
                iov_len: buffers.stride(),
            })
            .collect();
        let headers = (0..usize::from(count))
            .map(|index| {
                // SAFETY: all-zero is a valid `mmsghdr`.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_name = (&raw mut names[index]).cast();
                header.msg_hdr.msg_namelen = ADDRESS_BYTES as libc::socklen_t;
                header.msg_hdr.msg_iov = &raw mut vectors[index];
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = controls[index].0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = CONTROL_BYTES;
                header
            })
            .collect();
        Ok(Self { buffers, names, controls, vectors, headers, written: 0 })
    }

    /// How many datagrams or trains one call can bring.
    pub(in crate::driver) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Receives what is there, up to `limit`; never waits.
    pub(in crate::driver) fn receive(&mut self, socket: RawFd, limit: usize) -> io::Result<usize> {
        for header in &mut self.headers[..self.written] {
            header.msg_hdr.msg_namelen = ADDRESS_BYTES as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
            header.msg_hdr.msg_flags = 0;
        }
        self.written = 0;
        let count = limit.min(self.headers.len()) as libc::c_uint;
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: each of the first `count` headers points to a name, an iovec with its buffer and a control
        // buffer, all owned by `self`, which nothing else writes during the call.
        let received = check(unsafe {
            libc::recvmmsg(socket, self.headers.as_mut_ptr(), count, flags as _, std::ptr::null_mut())
        })?;
        self.written = received as usize;
        Ok(self.written)
    }

    /// The message number `index` of the last call.
    pub(in crate::driver) fn message(&mut self, index: usize) -> BatchMessage<'_> {
        assert!(index < self.written);
        let header = &self.headers[index];
        let len = header.msg_len as usize;
        let named = header.msg_hdr.msg_namelen > 0;
        let control = (header.msg_hdr.msg_controllen).min(CONTROL_BYTES);
        let from = if named { self.names[index].get() } else { None };
        let notes = control::notes(&self.controls[index].0[..control]);
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        // SAFETY: the call that filled the buffer has ended, and the next one needs `&mut self`.
        let buffer = unsafe { self.buffers.slice(index as u16) };
        let len = len.min(buffer.len());
        BatchMessage { from, bytes: &mut buffer[..len], notes, truncated }
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBatch").field("buffers", &self.buffers).finish_non_exhaustive()
    }
}
