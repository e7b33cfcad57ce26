#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod beacon;
#[doc(hidden)]
pub mod bugs;
pub mod channel;
pub mod congestion;
pub mod handshake;
pub mod identity;
pub mod ids;
pub mod membership;
pub mod ordered;
mod schedule;
pub mod seal;
pub mod session;
pub mod swim;
pub mod time;
pub mod wire;
mod x25519;

pub use ids::{NetworkId, PeerId, StreamId, TagId};
