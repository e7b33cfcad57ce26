//! What a peer says about itself, and how much of that is kept.
//!
//! A [`PeerRecord`] is signed by the peer, versioned, and has a date of expiry. It travels as a [`SignedRecord`],
//! through whoever passes it on; only its signer can make a newer one. A [`Catalog`] keeps the newest record of
//! each peer within a bound.
//!
//! Not inside: how records spread, and which address is tried. An address in a record is a hint; the handshake
//! proves who lives there.

mod catalog;
mod record;

pub use catalog::{Catalog, CatalogConfig, Insert};
pub use record::{
    MAX_ADDRESSES, MAX_LIFETIME_S, MAX_RECORD_BYTES, MAX_STREAMS, MAX_TAGS, MAX_TRANSPORT_KEYS, PeerRecord,
    RecordError, RecordVersion, SignedRecord, TransportKeyEntry, can_be_announced,
};
