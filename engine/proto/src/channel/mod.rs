//! One consumer's leg of a stream: its sequence, its reliability, its credit.
//!
//! Not inside: packets, loss detection and the order in which channels may send; those belong to the session,
//! the scheduler and the congestion controller. A channel does not store what it sends either: a datum that has
//! to be sent again is fetched from its ring again.
//!
//! Two halves that never meet in one process: [`tx`] is the producer's end, [`rx`] the consumer's. The consumer
//! opens, the producer accepts, data flows from producer to consumer.
//!
//! ```text
//! sequence      first_seq ...... released ........ next_seq ........ published
//!                         acknowledged   in flight         waiting in the ring
//! offset space  every datum costs max(16, its length rounded up to 16) bytes; skipped ones cost nothing
//! credit        a datum may start while its sequence < limit_seq and its start offset < limit_bytes
//! ```

mod label;
mod types;

pub use label::Label;
pub use types::{Accept, ChannelStats, OpenRequest, Reliability, datum_cost};
