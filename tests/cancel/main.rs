//! Every public future, dropped after every poll.
//!
//! Between two nodes of one engine a datum goes through shared memory and nothing happens by itself, so a
//! test there can run *every* sequence of steps up to a length (poll, send, take, poll another one that
//! waits, …) and drop the future after each. Where the engine's threads take part, the steps are fewer and
//! each is waited for. Afterwards nothing may be lost, doubled, left queued or leaked, the counters must
//! close, and the others must get on by their own wakes: nobody is polled who was not woken.

mod conditions;
mod consumer;
mod local;
mod network;
mod producer;
mod steps;
