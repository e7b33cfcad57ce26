//! The counters under their earlier names.

pub(crate) use crate::counters::{AtomicFlag as Flag, Counter as Tally};
