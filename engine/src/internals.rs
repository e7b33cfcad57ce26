//! For tests and the simulator: an engine whose turns the caller runs. Not part of the API.

pub use crate::{
    clerk::{Calendar, Clerk, Entropy, Load},
    shard::command::ShardEnds,
};
use crate::{
    engine::Engine,
    shared::limits::{Limits, Times},
};

/// An engine without threads: the caller runs the turns of the clerk, and of `shards` shards made with the
/// mailbox ends that are returned. This is how the simulator runs everything on one thread. Such an engine
/// has no [`Engine::counters`] and no [`Engine::info`]; its shards have theirs.
pub fn inline_engine(
    shards: usize,
    limits: Limits,
    times: Times,
    entropy: Entropy,
    calendar: Calendar,
) -> (Engine, Clerk, Vec<ShardEnds>) {
    Engine::inline(shards, limits, times, entropy, calendar)
}
