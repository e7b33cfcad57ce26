//! The newest record of each peer, within a bound.
//!
//! A flood of invented peers must not displace real ones. Each record is charged to the source that first
//! brought it. When the catalogue is full, the record that expires first of the source with the most records
//! makes room. A source that already has the most gets no more room. Pinned records (the own one, and those
//! of peers with a session) are not displaced.
//!
//! Not inside: the use of records, and how they spread.

use super::record::{PeerRecord, RecordError, SignedRecord};
use crate::{ids::PeerId, ordered::OrderedMap};

/// How much a [`Catalog`] keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatalogConfig {
    /// Records. Default 4,096.
    pub max_records: usize,
    /// Bytes of all encoded records. Default 16 MiB: 4 KiB per record.
    pub max_bytes: usize,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self { max_records: 4_096, max_bytes: 16 * 1_024 * 1_024 }
    }
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Insert {
    /// The first record of its peer was added.
    New {
        /// The peer whose record made room; the last one if there were several.
        evicted: Option<PeerId>,
    },
    /// It replaced an older record of its peer.
    Newer {
        /// The peer whose record made room; the last one if there were several.
        evicted: Option<PeerId>,
    },
    /// The same record is kept already.
    Equal,
    /// It is older than the one that is kept.
    Stale,
    /// The peer signed two different records of one version. Every node keeps the one with the smaller hash.
    Equivocation {
        /// Whether the new one replaced the one kept before.
        replaced: bool,
    },
    /// There is no room: its source has the most records already, or all others are pinned. Nothing changed.
    Full,
    /// It is older than its lifetime, or has one that is too long.
    Refused(RecordError),
}

/// No record can make room.
struct CatalogFull;

#[derive(Debug)]
struct CatalogEntry {
    record: SignedRecord,
    /// The source that first brought a record of this peer.
    source: PeerId,
    /// When its lifetime ends, by the catalogue's clock.
    until_s: u64,
    /// It is not displaced, and not charged.
    pinned: bool,
}

/// The newest record of each peer. The module documentation says which record makes room when it is full.
#[derive(Debug)]
pub struct Catalog {
    config: CatalogConfig,
    kept: OrderedMap<PeerId, CatalogEntry>,
    /// The sum of the encoded lengths; at most `config.max_bytes`.
    bytes: usize,
    /// The number of records charged to each source; pinned ones are not. No count is 0.
    charged: OrderedMap<PeerId, usize>,
}

impl Catalog {
    /// An empty catalogue.
    pub const fn new(config: CatalogConfig) -> Self {
        Self { config, kept: OrderedMap::new(), bytes: 0, charged: OrderedMap::new() }
    }

    /// Adds a record of this age that `source` brought (its peer, or one that passed it on). `now_s` is a
    /// clock that only goes forward, in seconds.
    pub fn insert(&mut self, record: SignedRecord, source: PeerId, now_s: u64, age_s: u64) -> Insert {
        let until_s = match record.record().check_age(age_s) {
            Ok(left) => now_s.saturating_add(left),
            Err(error) => return Insert::Refused(error),
        };
        let peer = record.record().peer_id;
        let Some(kept) = self.kept.get(&peer) else {
            let entry = CatalogEntry { record, source, until_s, pinned: false };
            return self.insert_new(peer, entry, now_s);
        };
        let (old, new) = (kept.record.record().version, record.record().version);
        if kept.record.hash() == record.hash() {
            return Insert::Equal;
        }
        if new < old {
            return Insert::Stale;
        }
        let equivocation = new == old;
        if equivocation && record.hash() > kept.record.hash() {
            return Insert::Equivocation { replaced: false };
        }
        match self.replace(peer, record, until_s) {
            Err(CatalogFull) => Insert::Full,
            Ok(_) if equivocation => Insert::Equivocation { replaced: true },
            Ok(evicted) => Insert::Newer { evicted },
        }
    }

    /// The newest record of a peer.
    pub fn get(&self, peer: &PeerId) -> Option<&SignedRecord> {
        self.kept.get(peer).map(|kept| &kept.record)
    }

    /// How old the record of a peer is, in seconds, rounded up.
    pub fn age_s(&self, peer: &PeerId, now_s: u64) -> Option<u64> {
        let kept = self.kept.get(peer)?;
        let left = kept.until_s.saturating_sub(now_s.saturating_add(1));
        Some(kept.record.record().lifetime_s.saturating_sub(left))
    }

    /// All records, by peer.
    pub fn iter(&self) -> impl Iterator<Item = &SignedRecord> + Clone {
        self.kept.values().map(|kept| &kept.record)
    }

    /// The records of all peers for which `wanted` holds.
    pub fn matching<'a>(
        &'a self,
        wanted: impl Fn(&PeerRecord) -> bool + 'a,
    ) -> impl Iterator<Item = &'a SignedRecord> {
        self.iter().filter(move |record| wanted(record.record()))
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes of all encoded records.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Protects a peer's record from being displaced, or ends the protection. `false` when there is no
    /// record.
    pub fn pin(&mut self, peer: &PeerId, pinned: bool) -> bool {
        let Some(kept) = self.kept.get_mut(peer) else { return false };
        if kept.pinned != pinned {
            kept.pinned = pinned;
            let source = kept.source;
            self.charge(source, !pinned);
        }
        true
    }

    /// Removes a peer's record.
    pub fn remove(&mut self, peer: &PeerId) -> Option<SignedRecord> {
        let kept = self.kept.remove(peer)?;
        self.bytes -= kept.record.bytes().len();
        if !kept.pinned {
            self.charge(kept.source, false);
        }
        Some(kept.record)
    }

    /// Removes a record whose lifetime is over at `now_s`; call until `None`.
    pub fn expire(&mut self, now_s: u64) -> Option<SignedRecord> {
        let expired = self.kept.iter().find(|(_, kept)| kept.until_s <= now_s).map(|(peer, _)| *peer)?;
        self.remove(&expired)
    }

    fn insert_new(&mut self, peer: PeerId, entry: CatalogEntry, now_s: u64) -> Insert {
        let (bytes, source) = (entry.record.bytes().len(), entry.source);
        if bytes > self.config.max_bytes || self.config.max_records == 0 {
            return Insert::Full;
        }
        let mut evicted = None;
        while self.kept.len() >= self.config.max_records || self.bytes + bytes > self.config.max_bytes {
            if let Some(expired) = self.expire(now_s) {
                evicted = Some(expired.record().peer_id);
                continue;
            }
            let Some(victim) = self.victim(Some(&source), None) else { return Insert::Full };
            self.remove(&victim);
            evicted = Some(victim);
        }
        self.bytes += bytes;
        self.charge(source, true);
        self.kept.insert(peer, entry);
        Insert::New { evicted }
    }

    /// Replaces a peer's record. A longer one may displace others, as a new record does. Returns the
    /// displaced peer.
    fn replace(
        &mut self,
        peer: PeerId,
        record: SignedRecord,
        until_s: u64,
    ) -> Result<Option<PeerId>, CatalogFull> {
        let former = self.kept.get(&peer).map_or(0, |kept| kept.record.bytes().len());
        let bytes = record.bytes().len();
        if bytes > self.config.max_bytes {
            return Err(CatalogFull);
        }
        let mut evicted = None;
        while self.bytes - former + bytes > self.config.max_bytes {
            let victim = self.victim(None, Some(&peer)).ok_or(CatalogFull)?;
            self.remove(&victim);
            evicted = Some(victim);
        }
        self.bytes = self.bytes - former + bytes;
        if let Some(kept) = self.kept.get_mut(&peer) {
            (kept.record, kept.until_s) = (record, until_s);
        }
        Ok(evicted)
    }

    /// The record to displace: of the source with the most records, the one that expires first. `None` when
    /// the source `newcomer` asks for room and no other source has at least two records more.
    fn victim(&self, newcomer: Option<&PeerId>, spared: Option<&PeerId>) -> Option<PeerId> {
        let (source, most) =
            self.charged.iter().max_by_key(|(_, count)| **count).map(|(source, count)| (*source, *count))?;
        if let Some(newcomer) = newcomer {
            let own = self.charged.get(newcomer).copied().unwrap_or(0);
            // The source that loses must keep at least as many as the one that gains, or two sources could
            // displace each other without end.
            if own + 2 > most {
                return None;
            }
        }
        let cheapest = |of: &dyn Fn(&CatalogEntry) -> bool| {
            self.kept
                .iter()
                .filter(|(peer, kept)| !kept.pinned && Some(*peer) != spared && of(kept))
                .min_by_key(|(_, kept)| kept.until_s)
                .map(|(peer, _)| *peer)
        };
        // The spared record may be the only one of that source; then one of another source makes room.
        cheapest(&|kept| kept.source == source).or_else(|| cheapest(&|_| true))
    }

    /// Counts a record of `source`, or one less.
    fn charge(&mut self, source: PeerId, more: bool) {
        let count = self.charged.get_or_insert_with(source, || 0);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.charged.remove(&source);
        }
    }
}
