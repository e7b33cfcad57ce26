//! corewire's shared-memory rings: the fanout ring, the mailbox and the doorbell.

pub mod config;
pub mod mailbox;
pub mod park;

mod claim;
mod counters;
mod cursor;
mod doorbell;
mod evict;
mod fence;
mod gate;
mod hold;
mod reader;
mod ring;
mod room;
mod signals;
mod storage;
mod sync;
mod units;
mod word;
mod writer;

pub use claim::{Claim, ClaimMany};
pub use config::{ConfigError, RingConfig};
pub use doorbell::Doorbell;
pub use hold::{Hold, Record, Slot};
pub use mailbox::mailbox;
pub use reader::{Detached, Ended, Reader};
pub use ring::{DetachError, Mark, NoReaderSlot, ReaderId, ReaderStatus, Ring, RingStats};
pub use room::{Room, Turn};
pub use writer::{Refused, Writer};
