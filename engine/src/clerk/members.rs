//! How a node joins, and what it says about itself.
//!
//! Not inside: how it leaves (`shutdown`), and what others say about themselves (`peers`).

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use corewire_proto::{
    PeerId,
    handshake::{Local, LocalConfig, PeerLimits, Responder, ResponderConfig},
    membership::{
        Catalog, CatalogConfig, MAX_LIFETIME_S, MAX_STREAMS, MAX_TAGS, PeerRecord, RecordVersion,
        SignedRecord, TransportKeyEntry,
    },
    seal::Suites,
    session::SessionConfig,
};

use super::{
    Clerk,
    state::{Bootstrap, Bucket, NodeState},
    timers::Timer,
};
use crate::{
    peer::{PeerFacts, PeerInfo},
    registry,
    shard::{Command, NodeId},
    shared::{
        counters::count,
        limits::Limits,
        lock,
        node::{JoinRequest, NodeShared, Presence},
    },
};

/// Bytes of records that one node remembers for each peer that it may remember, on average.
const RECORD_BYTES_EACH: usize = 4_096;

/// Seconds for which the record of a node that leaves is remembered: long enough to reach everybody, so that no
/// older one takes its place.
const LAST_WORD_S: u64 = 30;

/// The pause before a record that outlives another one of the same node.
const OUTLIVE_PAUSE: Duration = Duration::from_millis(100);

/// Whether the CPU has instructions for AES, so that AES-256-GCM is the faster cipher.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// The session settings of a node under the bounds of the engine.
fn bounded(mut session: SessionConfig, limits: &Limits) -> SessionConfig {
    session.limits.max_channels = session.limits.max_channels.min(limits.channels);
    session.limits.opens_per_second = session.limits.opens_per_second.min(limits.opens_per_second);
    session
}

impl Clerk {
    pub(super) fn join(&mut self, join: JoinRequest) {
        let JoinRequest { shared, identity, secret, sockets, bootstrap, session } = join;
        if self.ending.is_some() {
            self.port.release_node();
            shared.presence.send_replace(Presence::Left(false));
            return;
        }
        let session = bounded(session, &self.limits);
        let config = LocalConfig {
            network: shared.network_id,
            secret,
            validity: 0,
            suites: Suites::for_cpu(has_aes()),
            boot: u64::from_le_bytes(self.random()),
            limits: PeerLimits {
                max_packet_bytes: u32::try_from(corewire_proto::seal::MAX_SEALED_BYTES).unwrap_or(u32::MAX),
                max_channels: u32::try_from(session.limits.max_channels).unwrap_or(u32::MAX),
                idle_timeout_ms: u32::try_from(session.idle_timeout.as_millis()).unwrap_or(u32::MAX),
            },
        };
        let local = Arc::new(Local::new(&identity, config));
        let responding =
            ResponderConfig { max_pending: self.limits.handshakes, ..ResponderConfig::default() };
        let responder = Responder::new(local.clone(), responding, self.random());
        let millis = (self.calendar)(self.now).as_millis();
        let catalog = CatalogConfig {
            max_records: self.limits.peers,
            max_bytes: self.limits.peers.saturating_mul(RECORD_BYTES_EACH).max(1 << 20),
        };
        let node = shared.id;
        for bound in sockets {
            for (shard, socket) in (0..).zip(bound.sockets) {
                self.shards.send(shard, Command::AddSocket { node, socket });
            }
        }
        let pause = self.times.redial;
        let (tags, tickets) = {
            let settings = lock(&shared.settings);
            (settings.tags.clone(), settings.tickets.clone())
        };
        let bootstrap: Vec<Bootstrap> = bootstrap
            .into_iter()
            .map(|address| {
                let own = shared.addresses.contains(&address);
                Bootstrap { address, attempt: None, session: None, pause, own }
            })
            .collect();
        let places = bootstrap.len();
        let member = NodeState {
            identity,
            local,
            responder,
            session,
            attempts: BTreeMap::new(),
            bootstrap,
            catalog: Catalog::new(catalog),
            peers: BTreeMap::new(),
            publications: BTreeMap::new(),
            streams: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            version: RecordVersion { incarnation: u64::try_from(millis).unwrap_or(u64::MAX), sequence: 0 },
            record: None,
            record_stale: true,
            peers_stale: false,
            answers: Bucket::new(self.limits.handshakes_per_second, self.now),
            leaving: None,
            tags,
            tickets,
            attempts_made: 0,
            shared: shared.clone(),
        };
        self.members.insert(node, member);
        registry::enter(&shared);
        self.meet_neighbours(node);
        for place in 0..places {
            self.bootstrap(node, place);
        }
    }

    /// Something about the node or its neighbours in the process is different.
    pub(super) fn node_changed(&mut self, node: NodeId) {
        let Some(member) = self.members.get_mut(&node) else { return };
        // First the flag: what changes from here on is told again.
        member.shared.changed.store(false, Ordering::Release);
        let (tags, tickets) = {
            let settings = lock(&member.shared.settings);
            (settings.tags.clone(), settings.tickets.clone())
        };
        let tags_changed = member.tags != tags;
        let tickets_changed = member.tickets != tickets;
        member.tags = tags;
        member.tickets = tickets;
        // A neighbour's new record is no reason for a new one of ours: two would then never stop.
        member.record_stale |= tags_changed;
        if tickets_changed {
            self.show_tickets(node);
        }
        if tags_changed || tickets_changed {
            self.local_peer_changed(node);
        }
        self.meet_neighbours(node);
    }

    /// Reads the records of the other nodes of this network in the process.
    fn meet_neighbours(&mut self, node: NodeId) {
        let Some(member) = self.members.get(&node) else { return };
        if member.leaving.is_some() {
            return;
        }
        let own = member.shared.clone();
        let found: Vec<Arc<[u8]>> =
            registry::others(&own).iter().filter_map(|other| registry::record(other)).collect();
        for bytes in found {
            self.read_record(node, &bytes, None);
        }
    }

    /// Signs anew what the node says about itself, if it is no longer so, and tells everybody.
    pub(super) fn renew_record(&mut self, node: NodeId) {
        let now_s = self.calendar_s();
        let life_s = self.times.record_life.as_secs().clamp(1, MAX_LIFETIME_S - 60);
        let Some(member) = self.members.get_mut(&node) else { return };
        if !std::mem::take(&mut member.record_stale) {
            return;
        }
        // The last word of a node that leaves is soon forgotten.
        let expires_s = now_s + if member.leaving.is_some() { life_s.min(LAST_WORD_S) } else { life_s };
        member.version.sequence += 1;
        let streams = if member.leaving.is_some() {
            Vec::new()
        } else {
            member.streams.keys().take(MAX_STREAMS).copied().collect()
        };
        let record = PeerRecord {
            peer_id: member.identity.peer_id(),
            identity_key: *member.identity.public_key(),
            transport_keys: vec![TransportKeyEntry { key: *member.local.transport_key(), validity: 0 }],
            addresses: member.shared.announced.clone(),
            tags: member.tags.iter().take(MAX_TAGS).copied().collect(),
            streams,
            version: member.version,
            expires_s,
        };
        let Ok(signed) = SignedRecord::sign(&member.identity, &member.shared.network_id, record) else {
            // Joining refuses what leads here. Should something else do so, the node lives on with its last record,
            // and tries again when that one is to be renewed.
            count(&member.shared.counters.records_unsigned);
            return self.timers.set(Timer::Records(node), self.now + self.records_pause());
        };
        let own = member.shared.peer_id;
        let shared = member.shared.clone();
        let bytes: Arc<[u8]> = Arc::from(signed.bytes());
        member.record = Some(signed);
        self.timers.set(Timer::Records(node), self.now + self.records_pause());
        registry::announce(&shared, Some(bytes));
        self.spread(node, own, None);
    }

    /// How often records are made anew and old ones are dropped.
    fn records_pause(&self) -> Duration {
        (self.times.record_life / 3).max(Duration::from_millis(100))
    }

    /// Makes the node's record anew before others forget it, and forgets those that were not made anew.
    pub(super) fn records_due(&mut self, node: NodeId) {
        let now_s = self.calendar_s();
        let Some(member) = self.members.get_mut(&node) else { return };
        member.record_stale = true;
        let mut expired: Vec<PeerId> = Vec::new();
        while let Some(record) = member.catalog.expire(now_s) {
            expired.push(record.record().peer_id);
        }
        for peer in expired {
            self.forget_record(node, peer);
        }
    }

    /// A sequence above `seen`, because somebody holds a later record of this node than the node has made: a
    /// record from before its restart, by a clock that went back.
    pub(super) fn outlive(&mut self, node: NodeId, seen: RecordVersion) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if seen >= member.version {
            member.version = RecordVersion { incarnation: seen.incarnation.saturating_add(1), sequence: 0 };
            // Not at once: two nodes under one identity would outlive each other without a pause.
            self.timers.set(Timer::Records(node), self.now + OUTLIVE_PAUSE);
        }
    }

    /// What a node of this engine is to another one.
    pub(super) fn local_info(&self, node: NodeId) -> Option<PeerInfo> {
        let member = self.members.get(&node)?;
        let shared: &NodeShared = &member.shared;
        Some(PeerInfo::new(PeerFacts {
            peer_id: shared.peer_id,
            network_id: shared.network_id,
            addresses: shared.announced.clone(),
            tags: member.tags.clone(),
            streams: member.streams.keys().copied().collect(),
            tickets: member.tickets.clone(),
            version: (member.version.incarnation, member.version.sequence),
        }))
    }
}
