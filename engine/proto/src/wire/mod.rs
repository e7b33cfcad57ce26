//! The bytes of packets, frames and control messages, and the values that they carry.
//!
//! This module turns bytes into views and back, and checks that they are well-formed. Whether a packet is
//! accepted is decided by [`crate::seal`], [`crate::handshake`] and [`crate::session`].

mod close_code;
mod form;
pub mod frames;
pub mod header;
mod open;

pub use close_code::CloseCode;
pub use form::{DatumForm, MAX_TYPE_NAME_BYTES, TypeName};
pub use open::{Accept, MAX_TICKETS, OpenRequest, PublicationId, Reliability, Resume, datum_cost};
