//! corewire: a typed publish/subscribe dataplane for latency-critical services on Linux.

extern crate self as corewire;

pub mod datum;
pub mod discovery;
pub mod id;
pub mod network;
pub mod streams;

pub use datum::{Codec, Datum, InPlace, Plain, Postcard};
pub use id::{GroupId, NetworkId, PeerId, StoreId, StreamId, Tag, UniqueId};
pub use network::{Network, SecretKey};
pub use streams::{Consumer, Producer};

/// What the macros of this crate expand to. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use corewire_macros::digest;
}
