//! The thread of a shard: turn after turn, and sleep in between.
