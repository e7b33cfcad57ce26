//! The ring of receive buffers that the kernel chooses from, in memory of ours.
//!
//! Not inside: when a buffer is lent on. The books are kept here: a buffer is either the kernel's or ours,
//! and giving or taking it twice is a bug that stops the driver at once.
//!
//! The memory is ours, not mapped from the kernel (`IOU_PBUF_RING_MMAP` was the way into CVE-2024-0582), and
//! each buffer takes one receive (incremental use and multishot `recvmsg` don't go together, liburing#1433).

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types::BufRingEntry;

use crate::{
    buffer::{Mapping, ReceiveBuffers, leak},
    driver::sys::{
        address::{ADDRESS_BYTES, RawAddress},
        control::{self, Notes},
    },
};

/// The one group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

/// `struct io_uring_recvmsg_out`: { u32 namelen, controllen, payloadlen, flags; }.
const HEADER_BYTES: usize = 16;

/// Room for the sender's address.
const NAME_BYTES: usize = 32;

/// Room for control messages; 144 makes the payload begin on a cache line.
const CONTROL_BYTES: usize = 144;

/// Where the payload begins.
const PAYLOAD_AT: usize = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;

/// The longest payload: a whole train.
const PAYLOAD_BYTES: usize = 65_536;

const _: () = assert!(CONTROL_BYTES >= control::CONTROL_BYTES);
const _: () = assert!(NAME_BYTES >= ADDRESS_BYTES && PAYLOAD_AT.is_multiple_of(64));

/// The buffers and the ring through which they go to the kernel.
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: Mapping,
    buffers: ReceiveBuffers,
    tail: u16,
    mask: u16,
    is_kernels: Box<[bool]>,
    given: u16,
}

/// A datagram or train as it lies in its buffer.
#[derive(Debug)]
pub(super) struct BufferMessage<'a> {
    pub(super) from: Option<SocketAddr>,
    pub(super) bytes: &'a mut [u8],
    pub(super) notes: Notes,
    pub(super) truncated: bool,
}

impl BufferRing {
    /// Maps `count` (a power of two) buffers; the kernel has none of them yet.
    pub(super) fn new(count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        Ok(Self {
            entries: Mapping::new(usize::from(count) * size_of::<BufRingEntry>(), false)?,
            buffers: ReceiveBuffers::new(count, PAYLOAD_AT + PAYLOAD_BYTES, true)?,
            tail: 0,
            mask: count - 1,
            is_kernels: vec![false; usize::from(count)].into(),
            given: 0,
        })
    }

    /// Tells the kernel of the ring and gives it every buffer. From here on the memory must outlive `io`.
    pub(super) fn register(&mut self, io: &io_uring::IoUring) -> io::Result<()> {
        let address = self.entries.base().as_ptr() as u64;
        // SAFETY: the mapping holds `mask + 1` entries, and the driver keeps it until the ring is closed (see
        // `teardown`).
        unsafe { io.submitter().register_buf_ring_with_flags(address, self.mask + 1, GROUP, 0) }?;
        for index in 0..=self.mask {
            self.give(index);
        }
        Ok(())
    }

    /// The header with which receives are armed: how much room each buffer has for what.
    pub(super) fn template() -> libc::msghdr {
        // SAFETY: all-zero is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = NAME_BYTES as libc::socklen_t;
        header.msg_controllen = CONTROL_BYTES;
        header
    }

    /// How many buffers the kernel has.
    pub(super) fn given(&self) -> u16 {
        self.given
    }

    /// Gives a buffer (back) to the kernel.
    pub(super) fn give(&mut self, index: u16) {
        let is_kernels = &mut self.is_kernels[usize::from(index)];
        assert!(!*is_kernels, "receive buffer {index} is given twice");
        *is_kernels = true;
        self.given += 1;
        let base = self.entries.base().cast::<BufRingEntry>();
        let address = self.buffers.pointer(index).as_ptr() as u64;
        // SAFETY: the masked tail is below the number of entries, and the kernel only reads entries below the
        // tail that it was told, which this one is not yet. The setters write address, length and id; in the
        // first entry the fourth field is the shared tail, which they leave alone.
        unsafe {
            let entry = &mut *base.add(usize::from(self.tail & self.mask)).as_ptr();
            entry.set_addr(address);
            entry.set_len(self.buffers.stride() as u32);
            entry.set_bid(index);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the first entry of a registered ring, whose fourth field is the tail; it is
        // aligned, and shared with the kernel as an atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base.as_ptr()).cast_mut()) };
        // Release: the entry is written before the kernel may see it.
        tail.store(self.tail, Ordering::Release);
    }

    /// Notes that a completion has brought this buffer back.
    pub(super) fn take(&mut self, index: u16) {
        let is_kernels = &mut self.is_kernels[usize::from(index)];
        assert!(*is_kernels, "receive buffer {index} comes back twice");
        *is_kernels = false;
        self.given -= 1;
    }

    /// What a completion of `len` bytes has left in a buffer that was [taken](Self::take); `None` when it
    /// does not even hold its own header.
    pub(super) fn message(&mut self, index: u16, len: usize) -> Option<BufferMessage<'_>> {
        assert!(!self.is_kernels[usize::from(index)], "receive buffer {index} is the kernel's");
        // SAFETY: the books say that the kernel has given the buffer back, and it gets it again only through
        // `give`, which needs `&mut self`.
        let buffer = unsafe { self.buffers.slice(index) };
        let (room, bytes) = buffer.get_mut(..len)?.split_at_mut_checked(PAYLOAD_AT)?;
        let word =
            |at: usize| room[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes) as usize);
        let (name_len, control_len, flags) = (word(0), word(4), word(12));
        let (name, control) = room[HEADER_BYTES..].split_at(NAME_BYTES);
        let from = RawAddress::from_bytes(&name[..name_len.min(NAME_BYTES)]).get();
        let notes = control::notes(&control[..control_len.min(CONTROL_BYTES)]);
        let truncated = flags & libc::MSG_TRUNC as usize != 0;
        Some(BufferMessage { from, bytes, notes, truncated })
    }

    /// Gives up the memory, because the kernel may still write to it.
    pub(super) fn leak(self) {
        let bytes = self.entries.bytes() + self.buffers.bytes();
        leak(self, bytes);
    }
}
