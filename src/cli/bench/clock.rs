//! The clock of the bench, which all processes of a machine share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How long it is until `at`; zero once it has passed.
pub(crate) fn left(at: u64) -> Duration {
    Duration::from_nanos(at.saturating_sub(now()))
}
