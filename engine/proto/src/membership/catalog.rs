//! The newest record of each peer, within a bound.
//!
//! Whoever invents thousands of peers must not drive out the real ones. Every record is charged to the source that
//! first brought it, and when the catalogue is full, the source with the most records pays: its record that
//! expires first makes room. A source that already has the most gets no more room. Records that are pinned (own
//! ones, and those of peers with a session) are never driven out.
//!
//! Not inside: what is done with records, and how they spread.

use alloc::collections::BTreeMap;

use super::record::{PeerRecord, RecordError, SignedRecord};
use crate::ids::PeerId;

/// How much a [`Catalog`] keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatalogConfig {
    /// Records (default 4,096).
    pub max_records: usize,
    /// Bytes of all records together, as they travel (default 16 MiB).
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
    /// The first of its peer. `evicted` had to make room.
    New {
        /// Whose record is gone, if one had to go (the last of them, if several had to).
        evicted: Option<PeerId>,
    },
    /// It replaced an older one of its peer.
    Newer {
        /// Whose record is gone, if one had to go (the last of them, if several had to).
        evicted: Option<PeerId>,
    },
    /// Known already, byte for byte.
    Equal,
    /// Older than the one that is kept.
    Stale,
    /// The peer signed two different records of one version. The one with the smaller hash is kept, everywhere.
    Equivocation {
        /// Whether the new one took the place of the one before.
        replaced: bool,
    },
    /// No room: its source has the most records already, or all others are pinned. What was there stays.
    Full,
    /// Expired, or dated too far ahead.
    Refused(RecordError),
}

#[derive(Debug)]
struct CatalogEntry {
    record: SignedRecord,
    source: PeerId,
    pinned: bool,
}

/// The newest record of each peer. See the module documentation for who is driven out when it is full.
#[derive(Debug)]
pub struct Catalog {
    config: CatalogConfig,
    kept: BTreeMap<PeerId, CatalogEntry>,
    bytes: usize,
    /// Records charged to each source, pinned ones left out.
    charged: BTreeMap<PeerId, usize>,
}

impl Catalog {
    /// An empty catalogue.
    pub const fn new(config: CatalogConfig) -> Self {
        Self { config, kept: BTreeMap::new(), bytes: 0, charged: BTreeMap::new() }
    }

    /// Takes a record that `source` brought (the peer itself, or one that passed it on). `now_s` is the time in
    /// seconds since 1970.
    pub fn insert(&mut self, record: SignedRecord, source: PeerId, now_s: u64) -> Insert {
        if let Err(error) = record.record().check_expiry(now_s) {
            return Insert::Refused(error);
        }
        let peer = record.record().peer_id;
        let Some(kept) = self.kept.get(&peer) else {
            return self.insert_new(peer, record, source, now_s);
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
        match self.replace(peer, record) {
            None => Insert::Full,
            Some(_) if equivocation => Insert::Equivocation { replaced: true },
            Some(evicted) => Insert::Newer { evicted },
        }
    }

    /// The newest record of a peer.
    pub fn get(&self, peer: &PeerId) -> Option<&SignedRecord> {
        self.kept.get(peer).map(|kept| &kept.record)
    }

    /// All records, by peer.
    pub fn iter(&self) -> impl Iterator<Item = &SignedRecord> {
        self.kept.values().map(|kept| &kept.record)
    }

    /// The records of all peers for which `wanted` holds.
    pub fn matching<'a>(
        &'a self,
        wanted: impl Fn(&PeerRecord) -> bool + 'a,
    ) -> impl Iterator<Item = &'a SignedRecord> {
        self.iter().filter(move |record| wanted(record.record()))
    }

    /// How many peers have a record here.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no peer has a record here.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes of all records together, as they travel.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Protects a peer's record from being driven out, or ends the protection. `false` when there is none.
    pub fn pin(&mut self, peer: &PeerId, pinned: bool) -> bool {
        let Some(kept) = self.kept.get_mut(peer) else { return false };
        if kept.pinned != pinned {
            kept.pinned = pinned;
            let source = kept.source;
            self.charge(source, !pinned);
        }
        true
    }

    /// Drops a peer's record.
    pub fn remove(&mut self, peer: &PeerId) -> Option<SignedRecord> {
        let kept = self.kept.remove(peer)?;
        self.bytes -= kept.record.bytes().len();
        if !kept.pinned {
            self.charge(kept.source, false);
        }
        Some(kept.record)
    }

    /// Drops a record that has expired by `now_s`, if there is one; call until `None`.
    pub fn expire(&mut self, now_s: u64) -> Option<SignedRecord> {
        let expired = self
            .kept
            .iter()
            .find(|(_, kept)| kept.record.record().expires_s <= now_s)
            .map(|(peer, _)| *peer)?;
        self.remove(&expired)
    }

    /// The earliest expiry in the catalogue, in seconds since 1970.
    pub fn next_expiry_s(&self) -> Option<u64> {
        self.iter().map(|record| record.record().expires_s).min()
    }

    fn insert_new(&mut self, peer: PeerId, record: SignedRecord, source: PeerId, now_s: u64) -> Insert {
        let bytes = record.bytes().len();
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
        self.kept.insert(peer, CatalogEntry { record, source, pinned: false });
        Insert::New { evicted }
    }

    /// Puts a record in the place of its peer's former one. A longer one may need room, for which others pay as for
    /// a new record. `None` when there is no room; else who had to go.
    fn replace(&mut self, peer: PeerId, record: SignedRecord) -> Option<Option<PeerId>> {
        let former = self.kept.get(&peer)?.record.bytes().len();
        let bytes = record.bytes().len();
        if bytes > self.config.max_bytes {
            return None;
        }
        let mut evicted = None;
        while self.bytes - former + bytes > self.config.max_bytes {
            let victim = self.victim(None, Some(&peer))?;
            self.remove(&victim);
            evicted = Some(victim);
        }
        self.bytes = self.bytes - former + bytes;
        self.kept.get_mut(&peer)?.record = record;
        Some(evicted)
    }

    /// Whose record goes: of the source with the most records, the one that expires first. `None` when a record of
    /// `newcomer` asks for room and no source has enough more than it.
    fn victim(&self, newcomer: Option<&PeerId>, spared: Option<&PeerId>) -> Option<PeerId> {
        let (source, most) =
            self.charged.iter().max_by_key(|(_, count)| **count).map(|(source, count)| (*source, *count))?;
        if let Some(newcomer) = newcomer {
            let own = self.charged.get(newcomer).copied().unwrap_or(0);
            // The one that pays must still have at least as many as the one that gains; else two sources could
            // drive each other out for ever.
            if own + 2 > most {
                return None;
            }
        }
        let cheapest = |of: &dyn Fn(&CatalogEntry) -> bool| {
            self.kept
                .iter()
                .filter(|(peer, kept)| !kept.pinned && Some(*peer) != spared && of(kept))
                .min_by_key(|(_, kept)| kept.record.record().expires_s)
                .map(|(peer, _)| *peer)
        };
        // The spared record may be the only one of that source: then any other source's has to do.
        cheapest(&|kept| kept.source == source).or_else(|| cheapest(&|_| true))
    }

    fn charge(&mut self, source: PeerId, more: bool) {
        let count = self.charged.entry(source).or_insert(0);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.charged.remove(&source);
        }
    }
}
