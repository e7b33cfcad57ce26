//! corewire's engine: shards, drivers, the clerk and the counters.
//!
//! The engine knows bytes, not types. It holds no protocol rule (those are `corewire-proto`'s, pure) and no
//! shared-memory algorithm (those are `corewire-rings`'). What is here is threads, sockets, clocks and the
//! tables that join rings to sessions.

pub mod affinity;
mod buffer;
pub mod clerk;
pub mod counters;
pub mod driver;
pub mod engine;
pub mod idle;
pub mod node;
pub mod peer;
pub mod publication;
pub mod registry;
pub mod shard;
pub mod shared;
pub mod subscription;
mod threads;

pub use corewire_proto as proto;
pub use corewire_rings as rings;
