//! Packet memory: what the kernel reads from and writes to.
//!
//! Not inside: sockets, rings, system calls other than the mapping itself. A driver says when a buffer goes to
//! the kernel and when it has come back; this module keeps the books and holds the memory until then.
//!
//! The one law: memory that the kernel may still touch is neither reused nor unmapped. At a driver's end,
//! what did not come back is leaked and counted in [`leaked_bytes`].

mod mapping;
mod receive;
mod transmit;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::transmit::Lease;
pub(crate) use self::{mapping::Mapping, receive::ReceiveBuffers, transmit::TransmitSlab};

/// Memory that was given up because the kernel still held it when its driver ended. Zero in a healthy process.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Bytes of packet memory that this process gave up, because the kernel still held them when their driver
/// ended. Zero in a healthy process.
pub fn leaked_bytes() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// Keeps `memory` mapped for ever and counts it.
pub(crate) fn leak<T>(memory: T, bytes: usize) {
    LEAKED.fetch_add(bytes as u64, Ordering::Relaxed);
    std::mem::forget(memory);
}
