//! The thread of a shard: turn after turn, and rest in between.
//!
//! Not inside: which CPU it runs on and how patient it is; both are given. A shard that lives inside another
//! executor does not need this file: it calls [`Shard::turn`] as often as it says [`Next::Again`] and
//! [`Shard::park`] when it does not, or sleeps in its own way between [`Shard::fall_asleep`] and
//! [`Shard::wake_up`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Shard;
use crate::{
    driver::Driver,
    idle::{Idler, Wait},
    shared::Next,
};

/// Why [`run`] came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The shard was told to shut down, and did.
    InOrder,
    /// A turn panicked with this. Whoever used the shard was told.
    Panicked(String),
}

/// Runs a shard on this thread until it has stopped. `idler` decides how it waits.
///
/// A panic in a turn ends the shard: channels terminate, rings and inboxes are let go of, and the clerk hears
/// [`super::Event::ShardStopped`] with the panic's text.
pub fn run<D: Driver>(mut shard: Shard<D>, mut idler: Idler) -> Ended {
    let looped = catch_unwind(AssertUnwindSafe(|| turn_until_stopped(&mut shard, &mut idler)));
    let Err(payload) = looped else { return Ended::InOrder };
    let text = panic_text(payload.as_ref());
    let abandoned = catch_unwind(AssertUnwindSafe(|| shard.abandon(text.clone())));
    if abandoned.is_err() {
        // The tables are beyond use. Dropping the mailboxes still tells the clerk.
        return Ended::Panicked(format!("{text}, and again while ending"));
    }
    Ended::Panicked(text)
}

fn turn_until_stopped<D: Driver>(shard: &mut Shard<D>, idler: &mut Idler) {
    while !shard.is_stopped() {
        let until = match shard.turn() {
            Next::Again => {
                idler.worked();
                continue;
            }
            Next::Until(at) => Some(at),
            Next::Idle => None,
        };
        match idler.wait(shard.now()) {
            Wait::Spin => std::hint::spin_loop(),
            Wait::Yield => std::thread::yield_now(),
            Wait::Park => shard.park(until),
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
