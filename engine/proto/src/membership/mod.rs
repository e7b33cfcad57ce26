//! Signed records of peers, and a bounded catalogue of them.
//!
//! A [`PeerRecord`] is signed by its peer, versioned, and believed for a limited time. It travels as a
//! [`SignedRecord`], which other peers pass on; only the signer can make a newer one. A [`Catalog`] keeps the
//! newest record of each peer within a bound; by a [`CatalogDigest`] two nodes find what one of them lacks.
//!
//! Not inside: how records spread, and which address is tried. An address in a record is a hint; the
//! handshake proves who is there.

mod catalog;
mod digest;
mod long;
mod record;
pub(crate) mod sealed;

pub use catalog::{Catalog, CatalogConfig, Insert};
pub use digest::{
    BUCKETS, CatalogDigest, DIGEST_BYTES, RecordSummary, SUMMARY_BYTES, SummaryList, bucket_of,
};
pub use long::LongRecord;
pub use record::{
    MAX_ADDRESSES, MAX_LIFETIME_S, MAX_RECORD_BYTES, MAX_STREAMS, MAX_TAGS, MAX_TRANSPORT_KEYS, PeerRecord,
    RecordError, RecordVersion, SignedRecord, TransportKeyEntry, can_be_announced,
};
