//! One consumer's leg of a stream: its sequence, its reliability, its credit.
//!
//! Not inside: packets, loss detection and the order in which channels may send; those belong to the session,
//! the scheduler and the congestion controller. A channel does not store what it sends either: a datum that has
//! to be sent again is fetched from its ring again.
//!
//! Two halves that never meet in one process: the producer's end and the consumer's. The consumer opens, the
//! producer accepts, data flows from producer to consumer.
//!
//! ```text
//! sequence      first_seq ...... released ........ next_seq ........ published
//!                         acknowledged   in flight         waiting in the ring
//! offset space  every datum costs max(16, its length rounded up to 16) bytes; skipped ones cost nothing
//! credit        a datum may start while its sequence < limit_seq and its start offset < limit_bytes
//! ```
//!
//! A skipped sequence costs nothing there either: at the producer it moves `limit_seq` along by itself. Else a stream
//! that drops, faster than its window in a round trip, would spend all its credit on telling what it dropped. The
//! consumer, which may hear of a skip after what was sent behind it, allows for that.
//!
//! Both limits are absolute and only grow. The consumer's session moves them by what the application took *and*
//! by what was skipped or lost, so loss cannot strand credit:
//! `limit_bytes = offset of the in-order position + window - bytes delivered and not taken`.

mod assembler;
mod held;
mod intervals;
mod io;
mod label;
mod rx;
mod stats;
mod tx;
mod tx_pack;

pub(crate) use assembler::{Assembler, Budget, HELD_OVERHEAD_BYTES, PARTIAL_OVERHEAD_BYTES};
use held::EarlyRun;
pub(crate) use intervals::Intervals;
pub use io::{DatumSink, DatumSource, Fetched};
pub use label::Label;
pub(crate) use rx::RxChannel;
pub use stats::ChannelStats;
pub(crate) use tx::{SentFrame, TxChannel, TxStage};
pub(crate) use tx_pack::{Packing, SentLog, Stop};

pub use crate::wire::{Accept, OpenRequest, Reliability, datum_cost};

use crate::wire::CloseCode;

/// What a frame can lead to other than success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A bound was reached: the packet is not acknowledged, so its content will come again.
    Refuse,
    /// The channel cannot go on.
    Reset(CloseCode),
    /// The peer broke a rule.
    Close(CloseCode),
}

/// The window in bytes of a channel that was opened with `window_bytes` 0: it moves with what is delivered, not
/// with what the application takes, and bounds what waits for something missing.
pub const UNLIMITED_WINDOW_BYTES: u64 = 16 << 20;
/// The same for `window_datums` 0.
pub const UNLIMITED_WINDOW_DATUMS: u64 = 1 << 18;
/// Larger windows are taken as this: far beyond any memory, and sums of it cannot overflow.
pub const MAX_WINDOW: u64 = 1 << 40;
/// Sequences and offsets that reach this end their channel: 2^62 datums take centuries, a peer that names more
/// wants an overflow.
pub(crate) const POSITION_LIMIT: u64 = 1 << 62;

const _: () = assert!(UNLIMITED_WINDOW_BYTES <= MAX_WINDOW && UNLIMITED_WINDOW_DATUMS <= MAX_WINDOW);

pub(crate) const fn effective_window(asked: u64, unlimited: u64) -> u64 {
    if asked == 0 {
        unlimited
    } else if asked > MAX_WINDOW {
        MAX_WINDOW
    } else {
        asked
    }
}
