//! The public API as users meet it, over the engine that ships.
//!
//! Nothing here sleeps to let something happen: every wait is for a condition, and every wait has a limit
//! that is only reached when the test fails.

mod bandwidth;
mod batches;
mod blocking;
mod closing;
mod conditions;
mod criteria;
mod discarding;
mod events;
mod executors;
mod flush;
mod identity;
mod inspection;
mod knobs;
mod lagging;
mod many;
mod mutual;
mod nameable;
mod order;
mod own_codec;
mod peers;
mod plain;
mod policies;
mod preferences;
mod refusals;
mod remote;
mod sink_states;
mod sinks;
mod support;
mod tickets;
mod types;
mod wakeups;
