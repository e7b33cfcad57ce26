//! What a node knows about a peer, as a snapshot that can be handed to a predicate.
//!
//! The clerk's catalogue makes it from the peer's record and the tickets that the peer has shown.

use std::{fmt, net::SocketAddr, sync::Arc};

use corewire_proto::{NetworkId, PeerId, StreamId, TagId};

/// A credential that a peer shows to be admitted: opaque bytes of a class.
///
/// Tickets are not part of gossiped records. A node shows them inside its sessions only.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownTicket {
    /// What kind of ticket it is.
    pub class: [u8; 32],
    /// The ticket itself.
    pub bytes: Arc<[u8]>,
}

impl ShownTicket {
    /// What it takes in the message that shows it: class, length and bytes.
    pub(crate) fn message_bytes(&self) -> usize {
        36 + self.bytes.len()
    }

    /// What all of these take.
    pub(crate) fn all_bytes(tickets: &[Self]) -> usize {
        tickets.iter().map(Self::message_bytes).sum()
    }
}

impl fmt::Debug for ShownTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes are a credential and stay out of logs.
        write!(f, "Ticket({} bytes)", self.bytes.len())
    }
}

/// What is known about a peer. Cheap to clone; never changes (a newer one replaces it).
#[derive(Clone, PartialEq, Eq)]
pub struct PeerInfo(Arc<PeerFacts>);

/// The fields of a [`PeerInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PeerFacts {
    /// Who it is.
    pub peer_id: PeerId,
    /// The network in which it is known.
    pub network_id: NetworkId,
    /// Where it announces that it receives datagrams.
    pub addresses: Vec<SocketAddr>,
    /// Its tags, sorted.
    pub tags: Vec<TagId>,
    /// The streams that it produces, sorted.
    pub streams: Vec<StreamId>,
    /// The tickets that it has shown to this node.
    pub tickets: Vec<ShownTicket>,
    /// Grows with each record of the peer: `(incarnation, version)`. Zero when no record is known.
    pub version: (u64, u64),
}

impl PeerInfo {
    /// A snapshot of these facts.
    pub fn new(mut facts: PeerFacts) -> Self {
        facts.tags.sort_unstable();
        facts.tags.dedup();
        facts.streams.sort_unstable();
        facts.streams.dedup();
        Self(Arc::new(facts))
    }

    /// Who it is.
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// The network in which it is known.
    pub fn network_id(&self) -> NetworkId {
        self.0.network_id
    }

    /// Where it announces that it receives datagrams. Empty while it is known only by a handshake.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0.addresses
    }

    /// Its tags, sorted.
    pub fn tags(&self) -> &[TagId] {
        &self.0.tags
    }

    /// Whether it has this tag.
    pub fn has_tag(&self, tag: &TagId) -> bool {
        self.0.tags.binary_search(tag).is_ok()
    }

    /// The streams that it produces, sorted.
    pub fn streams(&self) -> &[StreamId] {
        &self.0.streams
    }

    /// Whether it produces this stream.
    pub fn produces(&self, stream: &StreamId) -> bool {
        self.0.streams.binary_search(stream).is_ok()
    }

    /// The tickets that it has shown to this node.
    pub fn tickets(&self) -> &[ShownTicket] {
        &self.0.tickets
    }

    /// Grows with each record of the peer: `(incarnation, version)`. Zero when no record is known.
    pub fn version(&self) -> (u64, u64) {
        self.0.version
    }

    /// The fields, to make another snapshot from.
    pub fn facts(&self) -> &PeerFacts {
        &self.0
    }
}

impl fmt::Debug for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_finds_tags_and_streams_in_any_order() {
        let tag = |n| TagId([n; 32]);
        let info = PeerInfo::new(PeerFacts { tags: vec![tag(3), tag(1), tag(3)], ..PeerFacts::default() });
        assert_eq!(info.tags(), [tag(1), tag(3)]);
        assert!(info.has_tag(&tag(3)));
        assert!(!info.has_tag(&tag(2)));
    }

    #[test]
    fn a_ticket_is_not_printed() {
        let ticket = ShownTicket { class: [7; 32], bytes: Arc::from(*b"secret") };
        assert_eq!(format!("{ticket:?}"), "Ticket(6 bytes)");
    }
}
