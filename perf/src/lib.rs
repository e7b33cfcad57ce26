//! corewire's load programs and its comparison with peers.
//!
//! No other crate depends on this one, and it is not a default workspace member: the peers are heavy to
//! build. Every figure is a ratio within one run, with the share of lost messages beside it.

pub mod machine;
pub mod rings;
pub mod stats;
pub mod table;
