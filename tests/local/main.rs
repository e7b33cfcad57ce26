//! Bounded streams inside one process, as users meet them.
//!
//! No test sleeps: each wait is for a condition, with a limit that is reached only when the test fails.

mod annotation;
mod cancelling;
mod construction;
mod executors;
mod model;
mod seed;
mod support;
mod threads;
mod user_code;
