//! One consumer's channel of a stream: sequence, reliability, credit.
//!
//! The two ends live in different processes. The consumer opens, the producer accepts, datums flow from
//! producer to consumer. A channel stores nothing that it sends: a datum that has to be sent again is fetched
//! from its ring again ([`DatumSource`]).
//!
//! ```text
//! sequence      first_seq ...... released ........ next ............ published
//!                         acknowledged   in flight     waiting in the ring
//! offset space  a datum costs its length rounded up to 16 bytes, at least 16; a skipped one costs nothing
//! credit        a datum may start while its sequence < limit_seq and its start offset < limit_bytes
//! ```
//!
//! Both limits are absolute and only grow. The consumer raises them by what the application took *and* by
//! what was skipped or lost, so loss cannot strand credit: `limit_bytes = offset of the in-order position +
//! window - bytes delivered and not taken`.
//!
//! Skipping a sequence that was never sent moves `limit_seq` along at the producer; otherwise a stream that
//! drops more than a window per round trip would spend all its credit on SKIP frames. The consumer may
//! receive a datum before the SKIP in front of it, so it allows that much more (`RxChannel::check_credit`).
//!
//! Not inside: packets and loss detection (`session`), the order in which channels send (`schedule`).

mod budget;
mod credit;
mod early_run;
mod egress;
mod intervals;
mod io;
mod label;
mod partial;
mod positions;
mod resend;
mod rx;
mod rx_credit;
mod stats;
mod tx;
mod tx_pack;

pub(crate) use budget::{Budget, HELD_OVERHEAD_BYTES, PARTIAL_OVERHEAD_BYTES, large_share, longest_held};
pub(crate) use credit::POSITION_LIMIT;
use credit::{CreditLimit, effective_windows};
pub use credit::{MAX_WINDOW, UNLIMITED_WINDOW_BYTES, UNLIMITED_WINDOW_DATUMS};
use early_run::{EarlyRun, EarlyRuns};
use egress::EgressBooking;
pub(crate) use intervals::Intervals;
pub use io::{DatumSink, DatumSource, Fetched};
pub use label::Label;
use partial::Partial;
use positions::Positions;
pub(crate) use resend::{
    LARGE_ACKS_BYTES, LossOutcome, RESEND_ENTRY_BYTES, SentData, SentFragment, SentFrame,
};
pub(crate) use rx::RxChannel;
pub use stats::ChannelStats;
pub(crate) use tx::{BlockedFrame, TxChannel, TxStage};
pub(crate) use tx_pack::{Packing, SentLog, Stop};

pub use crate::wire::{
    Accept, DatumForm, MAX_TICKETS, OpenRequest, PublicationId, Reliability, Resume, TypeName, datum_cost,
};

use crate::wire::CloseCode;

/// Why a frame or message was not acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A memory bound is reached. The packet is not acknowledged, so the peer sends its content again.
    Refuse,
    /// The channel cannot go on and is reset.
    Reset(CloseCode),
    /// The peer broke a rule; the session closes.
    Close(CloseCode),
}
