//! The membership protocol of each node: which peers without a session are there.
//!
//! A session shows that its peer is there, and carries its records. For all others this component runs the
//! protocol's state machine (`corewire_proto::swim`): it hands it packets and deadlines, and passes on what
//! comes of them.
//!
//! Not inside: records (`catalogue`), and to which address a packet for a peer goes (`lifecycle`).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use corewire_proto::{
    PeerId,
    identity::Identity,
    membership::{LongRecord, SignedRecord},
    ordered::OrderedMap,
    seal::KeyBytes,
    swim::{CatalogBook, Swim, SwimConfig, SwimError},
    time::Instant,
};

use super::{effect::Effect, env::Env, timers::Timer};
use crate::{
    shard::NodeId,
    shared::{counters::count, node::NodeShared},
};

/// The least pause between two questions of a node, whatever is configured.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// The membership of all nodes.
#[derive(Default)]
pub(crate) struct Members {
    /// Inputs for a node that is not here were on their way when it was forgotten, and are ignored.
    nodes: OrderedMap<NodeId, NodeMembers>,
}

struct NodeMembers {
    shared: Arc<NodeShared>,
    swim: Swim,
}

impl Members {
    /// `key` is shared by the members of the network.
    pub(crate) fn add_node(
        &mut self,
        env: &mut Env,
        shared: &Arc<NodeShared>,
        identity: Arc<Identity>,
        key: KeyBytes,
    ) {
        let config = SwimConfig {
            identity,
            key,
            seed: env.random(),
            // Itself as well.
            max_members: env.limits.peers.saturating_add(1),
            period: env.times.probe_period.max(PERIOD_MIN),
        };
        let swim = Swim::new(env.now, config);
        self.nodes.insert(shared.id, NodeMembers { shared: shared.clone(), swim });
    }

    pub(crate) fn forget_node(&mut self, env: &mut Env, node: NodeId) {
        if self.nodes.remove(&node).is_some() {
            env.effects.cancel_timer(Timer::Members(node));
        }
    }

    /// A membership packet came.
    pub(crate) fn handle_packet(
        &mut self,
        env: &mut Env,
        node: NodeId,
        (from, bytes): (SocketAddr, &[u8]),
        book: &CatalogBook<'_>,
    ) {
        let Some(members) = self.nodes.get_mut(&node) else { return };
        let counters = &members.shared.counters;
        count(match members.swim.handle_packet(env.now, from, bytes, book) {
            Ok(()) => &counters.members_heard,
            Err(SwimError::Foreign) => &counters.members_foreign,
            Err(SwimError::Replayed) => &counters.members_replayed,
            Err(SwimError::Malformed | SwimError::Invented) => &counters.members_refused,
            Err(SwimError::Flood) => &counters.members_flooded,
        });
        members.apply_outputs(env);
    }

    /// A beacon told of a record that is too long for it, and where its peer can be reached.
    pub(crate) fn fetch(&mut self, env: &mut Env, node: NodeId, long: &LongRecord, at: &[SocketAddr]) {
        let Some(members) = self.nodes.get_mut(&node) else { return };
        members.swim.fetch(env.now, long, at);
        members.apply_outputs(env);
    }

    /// Something else shows that a peer may be there.
    pub(crate) fn ask(&mut self, env: &mut Env, node: NodeId, peer: PeerId) {
        let Some(members) = self.nodes.get_mut(&node) else { return };
        members.swim.ask(env.now, &peer);
        members.apply_outputs(env);
    }

    /// Something is due.
    pub(crate) fn due(&mut self, env: &mut Env, node: NodeId, book: &CatalogBook<'_>) {
        let Some(members) = self.nodes.get_mut(&node) else { return };
        members.swim.handle_timeout(env.now, book);
        members.apply_outputs(env);
    }

    /// The node has a new record of its own.
    pub(crate) fn announce(
        &mut self,
        env: &mut Env,
        node: NodeId,
        record: &SignedRecord,
        book: &CatalogBook<'_>,
    ) {
        let Some(members) = self.nodes.get_mut(&node) else { return };
        members.swim.announce(env.now, record, book);
        members.apply_outputs(env);
    }

    /// What is known of a peer is different: its record and the age of that, or none is known.
    pub(crate) fn changed(
        &mut self,
        env: &mut Env,
        node: NodeId,
        peer: PeerId,
        (record, connected): (Option<(&SignedRecord, u64)>, bool),
    ) {
        let Some(members) = self.nodes.get_mut(&node) else { return };
        match record {
            Some((record, age_s)) => {
                members.swim.set_connected(env.now, &peer, connected);
                members.swim.learned(env.now, record, age_s, connected);
            }
            None => members.swim.forget(&peer),
        }
        members.apply_outputs(env);
    }
}

impl NodeMembers {
    /// Passes on what the state machine wants done.
    fn apply_outputs(&mut self, env: &mut Env) {
        let node = self.shared.id;
        while let Some((to, bytes)) = self.swim.poll_transmit() {
            count(&self.shared.counters.members_sent);
            env.effects.push(Effect::SendToMember(node, to, bytes));
        }
        let next = Some(self.swim.poll_timeout()).filter(|next| *next != Instant::FAR_FUTURE);
        env.effects.set_or_cancel(Timer::Members(node), next);
        while let Some(event) = self.swim.poll_event() {
            env.effects.push(Effect::MemberEvent(node, Box::new(event)));
        }
    }
}
