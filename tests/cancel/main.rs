//! Every public future, dropped after every poll.
//!
//! Within one engine a datum goes through shared memory and nothing happens between two calls, so a test can
//! run *every* sequence of steps (poll, send, take, poll another waiter, …) up to a length and drop the
//! future after each. Where the engine's threads take part, the steps are fewer and each is waited for.
//!
//! Afterwards: no datum is lost, doubled, left queued or leaked; the counters add up; and every other future
//! completes although it is polled only after a wake.

mod conditions;
mod consumer;
mod local;
mod network;
mod producer;
mod raw;
mod steps;
