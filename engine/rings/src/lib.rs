//! corewire's shared-memory rings: the fanout ring, the mailbox and the doorbell.
#![allow(clippy::todo)]

pub mod config;
mod doorbell;
pub mod mailbox;
pub mod park;
mod reader;
mod ring;
mod writer;

pub use config::{ConfigError, RingConfig};
pub use doorbell::Doorbell;
pub use mailbox::mailbox;
pub use reader::{Detached, Ended, Hold, Reader, Record, Slot};
pub use ring::{DetachError, Mark, NoReaderSlot, ReaderId, ReaderStatus, Ring, RingStats};
pub use writer::{Claim, ClaimMany, Refused, Room, Turn, Writer};
