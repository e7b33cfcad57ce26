//! The thread of a shard: turn after turn, and rest in between.
//!
//! Not inside: which CPU it runs on and how patient it is; both are given. A shard that lives inside another
//! executor does not need this file: it calls [`Shard::turn`] as often as it says [`Turn::Again`] and
//! [`Shard::park`], or a sleep of its own, when it does not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Shard, Turn};
use crate::driver::Driver;

/// What to do after a turn that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Take the next turn at once: lowest latency, a whole core.
    Spin,
    /// Let another thread have the core first.
    Yield,
    /// Sleep until something comes.
    Park,
}

/// Why [`run`] came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The shard was told to shut down, and did.
    InOrder,
    /// A turn panicked with this. Whoever used the shard was told.
    Panicked(String),
}

/// Runs a shard on this thread until it has stopped.
///
/// `rest` is asked after each turn without work, with the number of such turns in a row.
///
/// A panic in a turn ends the shard: channels terminate, rings and inboxes are let go of, and the clerk hears
/// [`super::Event::ShardStopped`] with the panic's text.
pub fn run<D: Driver>(mut shard: Shard<D>, mut rest: impl FnMut(u32) -> Rest) -> Ended {
    let looped = catch_unwind(AssertUnwindSafe(|| turn_until_stopped(&mut shard, &mut rest)));
    let Err(payload) = looped else { return Ended::InOrder };
    let text = panic_text(payload.as_ref());
    let abandoned = catch_unwind(AssertUnwindSafe(|| shard.abandon(text.clone())));
    if abandoned.is_err() {
        // The tables are beyond use. Dropping the mailboxes still tells the clerk.
        return Ended::Panicked(format!("{text}, and again while ending"));
    }
    Ended::Panicked(text)
}

fn turn_until_stopped<D: Driver>(shard: &mut Shard<D>, rest: &mut impl FnMut(u32) -> Rest) {
    let mut quiet = 0u32;
    while !shard.is_stopped() {
        let until = match shard.turn() {
            Turn::Again => {
                quiet = 0;
                continue;
            }
            Turn::Until(at) => Some(at),
            Turn::Idle => None,
        };
        quiet = quiet.saturating_add(1);
        match rest(quiet) {
            Rest::Spin => std::hint::spin_loop(),
            Rest::Yield => std::thread::yield_now(),
            Rest::Park => shard.park(until),
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
