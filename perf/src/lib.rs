//! corewire's load programs and its comparison with peers.
//!
//! Nothing in the product depends on this crate, and it is not a default workspace member: the peers it
//! compares with are heavy to build. Every figure it prints is a ratio inside one run, with what was lost
//! beside it.

pub mod machine;
pub mod rings;
pub mod stats;
pub mod table;
