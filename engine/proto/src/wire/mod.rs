//! What a packet looks like, byte by byte.
//!
//! Not inside: any decision. This module turns bytes into views and back; whether a packet is welcome is
//! decided by [`crate::seal`], [`crate::handshake`] and [`crate::session`].

mod close_code;
pub mod frames;
pub mod header;
mod open;

pub use close_code::CloseCode;
pub use open::{Accept, OpenRequest, Reliability, datum_cost};
