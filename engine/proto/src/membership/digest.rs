//! Digests of a catalogue, by which two nodes find what one of them lacks without sending everything.
//!
//! Peers fall into [`BUCKETS`] buckets by their ids. A [`CatalogDigest`] has a number for each bucket, which
//! is equal at two nodes that have the same records in it. Of a bucket that differs, a node lists what it
//! has, a [`RecordSummary`] each, and the other one sends what is newer or absent there.
//!
//! Not inside: when digests are sent.

use alloc::vec::Vec;

use super::record::{RecordVersion, SignedRecord};
use crate::{ids::PeerId, ordered::OrderedMap};

/// Buckets of a digest. With 4,096 records each holds 64.
pub const BUCKETS: usize = 64;

/// Bytes of a digest in a message.
pub const DIGEST_BYTES: usize = BUCKETS * 8;

/// Bytes of a summary in a message.
pub const SUMMARY_BYTES: usize = 16 + 16 + 8;

/// The bucket of a peer, as a set of one.
pub fn bucket_of(peer: &PeerId) -> u64 {
    1 << (usize::from(peer.0[0]) % BUCKETS)
}

/// A number for each bucket of a catalogue; 0 for an empty one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatalogDigest([u64; BUCKETS]);

impl CatalogDigest {
    /// The digest of these records.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a SignedRecord>) -> Self {
        let mut sums = [0u64; BUCKETS];
        for record in records {
            let [a, b, c, d, e, f, g, h, ..] = *record.hash();
            let sum = &mut sums[bucket_of(&record.record().peer_id).trailing_zeros() as usize];
            *sum = sum.wrapping_add(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        }
        Self(sums)
    }

    /// The buckets that are not equal in both, as a set.
    pub fn differing(&self, other: &Self) -> u64 {
        self.set(|bucket, sum| *sum != other.0[bucket])
    }

    /// The empty buckets, as a set.
    pub fn empty(&self) -> u64 {
        self.set(|_, sum| *sum == 0)
    }

    fn set(&self, wanted: impl Fn(usize, &u64) -> bool) -> u64 {
        let bits = self.0.iter().enumerate().filter(|(bucket, sum)| wanted(*bucket, sum));
        bits.map(|(bucket, _)| 1 << bucket).sum()
    }

    /// Appends it to a message.
    pub fn write(&self, message: &mut Vec<u8>) {
        self.0.iter().for_each(|sum| message.extend_from_slice(&sum.to_le_bytes()));
    }

    /// Reads it from a message; `None` when the length is another one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (sums, rest) = bytes.as_chunks::<8>();
        let sums: [[u8; 8]; BUCKETS] = sums.try_into().ok().filter(|_| rest.is_empty())?;
        Some(Self(sums.map(u64::from_le_bytes)))
    }
}

/// Which record of a peer a node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordSummary {
    /// The first half of the peer's id.
    peer: [u8; 16],
    version: RecordVersion,
    /// The first bytes of the record's hash.
    hash: [u8; 8],
}

impl RecordSummary {
    /// The summary of a record.
    pub fn of(record: &SignedRecord) -> Self {
        let (mut peer, mut hash) = ([0; 16], [0; 8]);
        peer.copy_from_slice(&record.record().peer_id.0[..16]);
        hash.copy_from_slice(&record.hash()[..8]);
        Self { peer, version: record.record().version, hash }
    }

    /// Whether this record takes the place of the one that is summarized: it is newer, or the peer signed two
    /// of one version and this one has the smaller hash.
    fn is_superseded_by(&self, other: &Self) -> bool {
        other.version > self.version || (other.version == self.version && other.hash < self.hash)
    }

    /// Appends it to a message.
    pub fn write(&self, message: &mut Vec<u8>) {
        message.extend_from_slice(&self.peer);
        message.extend_from_slice(&self.version.incarnation.to_le_bytes());
        message.extend_from_slice(&self.version.sequence.to_le_bytes());
        message.extend_from_slice(&self.hash);
    }

    fn read(bytes: &[u8; SUMMARY_BYTES]) -> Self {
        let (mut peer, mut hash) = ([0; 16], [0; 8]);
        peer.copy_from_slice(&bytes[..16]);
        hash.copy_from_slice(&bytes[32..]);
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        Self { peer, version: RecordVersion { incarnation: number(16), sequence: number(24) }, hash }
    }
}

/// What another node has of some buckets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SummaryList(OrderedMap<[u8; 16], RecordSummary>);

impl SummaryList {
    /// Reads the summaries in a message; `None` when it does not consist of them.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (summaries, rest) = bytes.as_chunks::<SUMMARY_BYTES>();
        let summaries = summaries.iter().map(RecordSummary::read).map(|summary| (summary.peer, summary));
        rest.is_empty().then(|| Self(summaries.collect()))
    }

    /// Whether the other node lacks this record.
    pub fn lacks(&self, record: &SignedRecord) -> bool {
        let ours = RecordSummary::of(record);
        self.0.get(&ours.peer).is_none_or(|theirs| theirs.is_superseded_by(&ours))
    }
}
