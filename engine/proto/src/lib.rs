//! corewire's protocol as pure state machines: bytes and `now` go in, bytes and events come out.
//!
//! Not inside, on purpose: sockets, clocks, threads, randomness and `unsafe`. Whoever drives this crate hands
//! in the time ([`time::Instant`]), the entropy and the datagrams, and carries out what the machines ask for.
//! That is why one and the same code runs under every driver and in a simulator that replays a fault from a
//! seed. Also not inside: the engine's rings (the two crates do not know each other) and anything typed; a
//! datum is a byte string here.
//!
//! | module | answers |
//! |---|---|
//! | [`wire`] | what a packet looks like, byte by byte |
//! | [`seal`] | how a packet is sealed and opened, and when a key is used up |
//! | [`handshake`] | how two peers that share a network secret come to have keys |
//! | [`identity`] | who a peer is |
//! | [`membership`] | what a peer says about itself, and how much of that is kept |
//! | [`session`] | what two peers that have keys say to each other |
//! | [`channel`] | one consumer's leg of a stream: order, reliability, credit |
//! | [`schedule`] | which channel may send next |
//! | [`congestion`] | how much may be in flight |
//!
//! Method grammar of every state machine in this crate: `handle_*` takes what arrived, plain verbs are what the
//! user wants, `poll_*` tells what must be done next, everything else is a getter.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod channel;
pub mod congestion;
pub mod handshake;
pub mod identity;
pub mod ids;
pub mod membership;
pub mod schedule;
pub mod seal;
pub mod session;
pub mod time;
pub mod wire;
mod x25519;

pub use ids::{NetworkId, PeerId, StreamId, TagId};
