//! Bounded streams inside one process, as users meet them.
//!
//! Nothing here sleeps to let something happen: every wait is for a condition, and every wait has a limit that is
//! only reached when the test fails.

mod annotation;
mod cancelling;
mod construction;
mod executors;
mod model;
mod seed;
mod support;
mod threads;
mod user_code;
