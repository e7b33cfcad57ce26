//! Bound UDP sockets for the shards of one node. Not inside: receiving from them.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use thiserror::Error;

/// One socket per shard, all on one address.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port that was chosen if 0 was asked for.
    pub address: SocketAddr,
    /// The sockets in the order of the shards.
    pub sockets: Vec<UdpSocket>,
    /// Bytes that the kernel granted for the receive queue of each (as `getsockopt` tells, which counts the
    /// kernel's own overhead too).
    pub receive_buffer_bytes: usize,
    /// Bytes that the kernel granted for the send queue of each.
    pub send_buffer_bytes: usize,
}

/// Why an address could not be bound.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody else has it.
    #[error("{address} is in use; stop the program that holds it or choose another port (0 = any free one)")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Another refusal.
    #[error("cannot {what} {address}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
}

/// Binds `shards` sockets to `address`.
pub fn bind_shards(_address: SocketAddr, _shards: usize) -> Result<Bound, BindError> {
    todo!()
}
