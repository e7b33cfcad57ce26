//! Packet memory: what the kernel reads from and writes to.
//!
//! Invariant: memory that the kernel may still touch is neither reused nor unmapped. A driver reports when a
//! buffer goes to the kernel and when it has come back; this module records that and holds the memory until
//! then. What has not come back at the driver's end is leaked and counted in [`leaked_bytes`].
#![allow(unsafe_code)]

mod mapping;
mod receive;
mod transmit;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::transmit::Lease;
pub(crate) use self::{mapping::Mapping, receive::ReceiveBuffers, transmit::TransmitSlab};

/// Bytes of one [`Lease`]: the largest UDP payload, rounded up to whole pages.
pub const LEASE_BYTES: usize = 64 * 1024;

/// Memory that was given up because the kernel still held it when its driver ended. Zero in a healthy
/// process.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Bytes of packet memory that this process gave up because the kernel still held them when their driver
/// ended. Zero in a healthy process.
pub fn leaked_bytes() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// Never unmaps `memory`, and counts it.
pub(crate) fn leak<T>(memory: T, bytes: usize) {
    LEAKED.fetch_add(bytes as u64, Ordering::Relaxed);
    std::mem::forget(memory);
}
