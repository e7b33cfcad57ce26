//! Rings, mailboxes and wake-ups between the threads of an engine. The rest of this page is the crate's
//! README.
#![doc = include_str!("../README.md")]

pub mod limits;
pub mod mailbox;
pub mod park;
pub mod sync;

mod ahead;
mod arena;
mod bugs;
mod capacity;
mod claim;
mod claim_future;
mod config;
mod contain;
mod counters;
mod descriptors;
mod doorbell;
mod error;
mod evict;
mod fence;
mod gate;
mod guard;
mod notify_bits;
mod pin;
mod progress;
mod queued;
mod read;
mod reader;
mod reader_slots;
mod reserve;
mod ring;
mod shared;
mod signals;
mod tail;
#[cfg(all(test, not(any(loom, shuttle))))]
mod transitions;
mod units;
mod wait_queue;
mod word;
#[cfg(all(test, not(any(loom, shuttle))))]
mod wraps;
mod writer;

pub use claim::{BatchClaim, RecordClaim};
pub use claim_future::{ClaimFuture, WaitTicket};
pub use config::RingConfig;
pub use contain::{contain, drop_contained};
pub use doorbell::Doorbell;
pub use error::{ClaimError, DetachError, Detached, ForkError, NoReaderSlot, RecvError, RingConfigError};
pub use guard::PinGuard;
pub use mailbox::mailbox;
pub use notify_bits::{NotifyBits, WakeLatch};
pub use progress::ConsumerProgress;
pub use queued::QueuedSend;
pub use read::{Record, RecordState};
pub use reader::Reader;
pub use reader_slots::ReaderId;
pub use ring::{Mark, ReaderStatus, Ring, RingStats};
pub use wait_queue::{CancelledWaiter, QueueTicket, WaitQueue};
pub use writer::Writer;
