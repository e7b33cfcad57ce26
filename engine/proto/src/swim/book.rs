//! Where the membership protocol reads records.

use crate::{
    ids::PeerId,
    membership::{Catalog, SignedRecord},
};

/// Where a node's records are.
pub trait RecordBook {
    /// The record of this peer that has this mark (see [`mark_of`]), and its age in seconds.
    fn record(&self, peer: &PeerId, mark: u64) -> Option<(&SignedRecord, u32)>;
}

/// A catalogue as it is at this second of its clock, and the own record, which is not in it.
#[derive(Debug)]
pub struct CatalogBook<'a> {
    /// The records of others.
    pub records: &'a Catalog,
    /// The own record.
    pub own: Option<&'a SignedRecord>,
    /// The time by the clock of [`Catalog::insert`].
    pub now_s: u64,
}

impl RecordBook for CatalogBook<'_> {
    fn record(&self, peer: &PeerId, mark: u64) -> Option<(&SignedRecord, u32)> {
        let own = self.own.filter(|own| own.record().peer_id == *peer).map(|own| (own, 0));
        let (record, age_s) = own.or_else(|| {
            let age_s = self.records.age_s(peer, self.now_s)?;
            Some((self.records.get(peer)?, u32::try_from(age_s).unwrap_or(u32::MAX)))
        })?;
        (mark_of(record) == mark).then_some((record, age_s))
    }
}

/// The mark of a record: the first eight bytes of its hash.
pub fn mark_of(record: &SignedRecord) -> u64 {
    record.mark()
}
