//! What a node knows about a peer, as a snapshot that can be handed to a predicate.
//!
//! The clerk's catalogue makes it from the peer's record and the tickets that the peer has shown.

use std::{cmp::Ordering, fmt, iter, net::SocketAddr, sync::Arc};

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

/// A change of what a node knows about its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// A peer is known that was not.
    Joined(PeerInfo),
    /// The entry of a peer is another one.
    Changed {
        /// As it was.
        before: PeerInfo,
        /// As it is.
        now: PeerInfo,
    },
    /// A peer has said that it leaves.
    Left(PeerInfo),
    /// A peer is not heard any more: its session broke, it does not answer, or it did not renew its
    /// record.
    Failed(PeerInfo),
}

/// What has changed from one list of peers to another, both sorted by id. `left`: whether a peer has said
/// that it leaves.
pub(crate) fn changes<'a>(
    before: &'a [PeerInfo],
    now: &'a [PeerInfo],
    left: impl Fn(&PeerId) -> bool + 'a,
) -> impl Iterator<Item = PeerChange> + 'a {
    let mut rest = (before.iter().peekable(), now.iter().peekable());
    iter::from_fn(move || {
        loop {
            let order = match (rest.0.peek(), rest.1.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.peer_id().cmp(&new.peer_id()),
            };
            let old = if order == Ordering::Greater { None } else { rest.0.next() };
            let new = if order == Ordering::Less { None } else { rest.1.next() };
            return Some(match (old, new) {
                (Some(old), Some(new)) if old.shows_the_same(new) => continue,
                (Some(old), Some(new)) => PeerChange::Changed { before: old.clone(), now: new.clone() },
                (Some(old), None) if left(&old.peer_id()) => PeerChange::Left(old.clone()),
                (Some(old), None) => PeerChange::Failed(old.clone()),
                (None, Some(new)) => PeerChange::Joined(new.clone()),
                (None, None) => return None,
            });
        }
    })
}

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

    /// Whether both tell the same of a peer. A record that the peer has renewed only has another version.
    fn shows_the_same(&self, other: &Self) -> bool {
        fn shown(info: &PeerInfo) -> impl PartialEq + '_ {
            let PeerFacts { peer_id, network_id, addresses, tags, streams, tickets, version: _ } = &*info.0;
            (peer_id, network_id, addresses, tags, streams, tickets)
        }
        shown(self) == shown(other)
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
    fn changes_tell_what_came_went_and_is_different() {
        let info = |n: u8, tag: u8| {
            let tags = vec![TagId([tag; 32])];
            PeerInfo::new(PeerFacts { peer_id: PeerId([n; 32]), tags, ..PeerFacts::default() })
        };
        let before = [info(1, 0), info(2, 0), info(3, 0), info(5, 0)];
        let now = [info(2, 0), info(3, 1), info(4, 0)];
        let told: Vec<_> = changes(&before, &now, |peer| *peer == PeerId([5; 32])).collect();
        let expected = [
            PeerChange::Failed(info(1, 0)),
            PeerChange::Changed { before: info(3, 0), now: info(3, 1) },
            PeerChange::Joined(info(4, 0)),
            PeerChange::Left(info(5, 0)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn record_that_was_only_renewed_is_no_change() {
        let info = |version| PeerInfo::new(PeerFacts { version, ..PeerFacts::default() });
        assert_eq!(changes(&[info((1, 1))], &[info((1, 2))], |_| false).next(), None);
    }

    #[test]
    fn a_ticket_is_not_printed() {
        let ticket = ShownTicket { class: [7; 32], bytes: Arc::from(*b"secret") };
        assert_eq!(format!("{ticket:?}"), "Ticket(6 bytes)");
    }
}
