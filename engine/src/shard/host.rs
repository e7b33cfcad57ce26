//! The loop of a shard's thread: turn after turn, with waiting in between.
//!
//! Its caller chooses the CPU and the way of waiting. A shard inside another executor does not need this
//! file: the executor calls [`Shard::turn`] while it returns [`Next::Again`] and [`Shard::park`] when it does
//! not, or sleeps in its own way between [`Shard::prepare_sleep`] and [`Shard::end_sleep`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use corewire_rings::drop_contained;

use super::Shard;
use crate::{
    driver::Driver,
    idle::{self, Idler},
    shared::Next,
};

/// Why [`run`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEnd {
    /// The shard was shut down.
    InOrder,
    /// A turn panicked with this text. The clerk and the handles of the shard's channels were told.
    Panicked(String),
    /// The driver can't go on, for this reason. The clerk and the handles of the shard's channels were told.
    DriverFailed(String),
}

/// Runs a shard on this thread until it has stopped. `idler` decides how it waits.
///
/// A panic in a turn, or a driver that can't go on, ends the shard: channels terminate, rings and inboxes are
/// released, and the clerk gets [`super::Event::ShardStopped`] with the reason.
pub fn run<D: Driver>(mut shard: Shard<D>, mut idler: Idler) -> HostEnd {
    let looped = catch_unwind(AssertUnwindSafe(|| turn_until_stopped(&mut shard, &mut idler)));
    let end = match looped {
        Ok(()) => shard.end().unwrap_or(HostEnd::InOrder),
        Err(payload) => {
            let end = end_after_panic(&mut shard, payload.as_ref());
            drop_contained(payload);
            end
        }
    };
    match (catch_unwind(AssertUnwindSafe(|| drop(shard))), end) {
        (Err(payload), HostEnd::InOrder | HostEnd::DriverFailed(_)) => {
            let text = panic_text(payload.as_ref());
            drop_contained(payload);
            HostEnd::Panicked(text)
        }
        (_, end) => end,
    }
}

/// Tells the clerk and the handles of the shard's channels that a turn has panicked.
pub(crate) fn end_after_panic<D: Driver>(
    shard: &mut Shard<D>,
    payload: &(dyn std::any::Any + Send),
) -> HostEnd {
    let text = panic_text(payload);
    let abandoned = catch_unwind(AssertUnwindSafe(|| shard.abandon(text.clone())));
    if abandoned.is_err() {
        // The tables are unusable. Dropping the mailboxes still tells the clerk.
        return HostEnd::Panicked(format!("{text}, and again while ending"));
    }
    HostEnd::Panicked(text)
}

fn turn_until_stopped<D: Driver>(shard: &mut Shard<D>, idler: &mut Idler) {
    while !shard.is_stopped() {
        let until = match shard.turn() {
            Next::Again => {
                if idler.worked(shard.now()) {
                    idle::yield_now();
                }
                continue;
            }
            Next::Until(at) => Some(at),
            Next::Idle => None,
        };
        if !idler.wait(shard.now()).stays_awake() {
            shard.park(until);
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
