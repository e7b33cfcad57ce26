//! What a stream promises when it is full, and about loss.

pub use crate::policy::{BackpressurePolicy, UnknownPolicy};

/// Whether what the network loses is sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// In order, without a hole and without a duplicate, or the channel is closed with a reason.
    #[default]
    Reliable,
    /// Sent once. What is lost is counted, and the consumer sees how much is missing and where.
    FireAndForget,
}
