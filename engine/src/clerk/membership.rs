//! Membership as far as it concerns several components: packets, and what they tell of peers.
//!
//! Each function asks some components and tells others; none keeps anything of its own.

use std::net::SocketAddr;

use corewire_proto::{
    PeerId,
    membership::LongRecord,
    swim::{SwimEvent, SwimTarget},
};

use super::{Clerk, catalogue::RecordWay, handshakes::addresses_to_call};
use crate::{
    registry,
    shard::{Command, NodeId},
    shared::{counters::count, dialling::reachable},
};

impl Clerk {
    pub(super) fn member_packet(&mut self, node: NodeId, from: SocketAddr, bytes: &[u8]) {
        if let Some(book) = self.catalogue.book(node, self.env.seconds()) {
            self.members.handle_packet(&mut self.env, node, (from, bytes), &book);
        }
    }

    pub(super) fn members_due(&mut self, node: NodeId) {
        if let Some(book) = self.catalogue.book(node, self.env.seconds()) {
            self.members.due(&mut self.env, node, &book);
        }
    }

    /// What is known of a peer is different.
    pub(super) fn record_changed(&mut self, node: NodeId, peer: PeerId) {
        let Some(shared) = self.nodes.shared(node) else { return };
        // A node of this process is known without packets.
        let connected = self.sessions.current(node, peer).is_some() || registry::has(shared, &peer);
        let record = self.catalogue.aged_record(node, peer, self.env.seconds());
        self.members.changed(&mut self.env, node, peer, (record, connected));
    }

    pub(super) fn send_to_member(&mut self, node: NodeId, to: SwimTarget, bytes: Vec<u8>) {
        let Some(shared) = self.nodes.shared(node) else { return };
        let (source, to) = match to {
            SwimTarget::Address(to) => (self.env.called_at, Some(to)),
            SwimTarget::Peer { peer, again } => match self.sessions.route(node, peer) {
                Some((source, to)) => (source, Some(to)),
                None => {
                    let fits = |to: &SocketAddr| reachable(&shared.addresses, *to).is_ok();
                    (None, self.catalogue.member_address(node, peer, again, fits))
                }
            },
        };
        // Any shard has a socket of the node. What is lost is made up for by the protocol.
        let shard = self.shards.numbers().find(|shard| self.shards.has_room(*shard));
        if let (Some(shard), Some(to)) = (shard, to) {
            self.shards.send_datagram(shard, Command::SendDatagram { node, source, to, bytes });
        }
    }

    /// Where a record that a beacon from this address told of can be fetched.
    pub(super) fn ways_to(&self, node: NodeId, long: &LongRecord, from: SocketAddr) -> Vec<SocketAddr> {
        let Some(shared) = self.nodes.shared(node) else { return Vec::new() };
        let mut ways = addresses_to_call(&long.addresses, Some(from));
        ways.retain(|to| reachable(&shared.addresses, *to).is_ok());
        ways
    }

    pub(super) fn member_event(&mut self, node: NodeId, event: SwimEvent) {
        let env = &mut self.env;
        match event {
            _ if self.shutdown.is_leaving(node) => {}
            SwimEvent::Record { bytes, age_s } => {
                self.catalogue.read_record(env, node, (&bytes, u64::from(age_s)), RecordWay::Member);
            }
            SwimEvent::Answered(peer, from) => self.catalogue.answered(node, peer, from),
            SwimEvent::Claimed(peer, from) => {
                if self.catalogue.claimed(node, peer, from) {
                    self.members.ask(env, node, peer);
                }
            }
            SwimEvent::Unfetched(peer) => {
                self.beacons.forget_told(node, peer);
                if let Some(shared) = self.nodes.shared(node) {
                    count(&shared.counters.members_unfetched);
                }
            }
            SwimEvent::Suspected => self.nodes.record_stale(node),
            SwimEvent::Failed(peer) => self.catalogue.failed(node, peer),
            SwimEvent::Forgotten(peer) => self.catalogue.forget_failed(env, node, peer),
        }
    }
}
