//! How a shard waits: a decision, not a wait. Not inside: sleeping, which is the driver's.
