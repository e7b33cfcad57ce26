//! Shared by the tests of all crates. Depends on the standard library only, so that each crate can use it.
//!
//! | item | for |
//! |---|---|
//! | [`CountingWaker`], [`Task`] | futures that a test polls by hand |
//! | [`within`], [`wait`], [`wait_at_most`], [`in_time`] | tests that fail at [`LIMIT`] instead of hanging |
//! | [`SplitMix64`], [`seeds`], [`replay`] | randomized tests that one seed reproduces |

mod random;
mod time_limit;
mod waker;

pub use random::{SplitMix64, env_number, replay, seeds, seeds_of};
pub use time_limit::{LIMIT, Within, in_time, wait, wait_at_most, within};
pub use waker::{CancelledTask, CountingWaker, Task, poll_once};
