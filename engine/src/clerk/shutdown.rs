//! How nodes leave and how the engine ends: in order, and in time.
//!
//! Not inside: the shards' own ending. The steps of a node:
//!
//! 1. Its rings are closed and its record says that it produces nothing; channels drain.
//! 2. When all have, or the time is up, its subscriptions end, its sessions are closed, its sockets too.
//! 3. When the last session is gone, whoever waits is told whether everything was delivered.
//!
//! The engine's end is the end of all its nodes, then of the shards.

use std::time::Duration;

use corewire_proto::{session::CloseCode, time::Instant, wire::header::ReceiverIndex};

use super::{
    Clerk,
    notice::drop_contained,
    state::{HandshakePurpose, Leaving, NodeState, OutboundEnd},
    timers::Timer,
};
use crate::{
    registry,
    shard::{Command, NodeId},
    shared::{node::Presence, port::Request},
};

/// How often a node that drains is looked at: consumers in this engine read without telling anybody.
const DRAIN_LOOK: Duration = Duration::from_millis(2);

/// How long the sessions of a node may take to close before the node is forgotten without them.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// How long the shards may take to stop, and how much longer they are waited for.
const STOP_TIME: Duration = Duration::from_millis(500);

/// How far the engine's end is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shutdown {
    /// Nodes leave until then.
    Leaving(Instant),
    /// Shards stop.
    Stopping,
}

impl Clerk {
    /// A node is to leave. Asked again, the earlier end holds.
    pub(super) fn leave(&mut self, node: NodeId, drain: Duration) {
        let until = self.now + drain;
        let Some(member) = self.members.get_mut(&node) else { return };
        if let Some(leaving) = &mut member.leaving {
            leaving.until = leaving.until.min(until);
            let until = leaving.until;
            if leaving.closing.is_none() {
                self.timers.set(Timer::Leave(node), until.min(self.now + DRAIN_LOOK));
            }
            return;
        }
        member.leaving = Some(Leaving { until, closing: None, lossy: false });
        member.shared.leaving.store(true, std::sync::atomic::Ordering::Release);
        member.record_stale = true;
        let shared = member.shared.clone();
        let publications: Vec<_> = member.publications.values().map(|p| p.shared.clone()).collect();
        // Sessions that drain still get new keys.
        let useless = member.attempts.iter().filter(|(_, a)| !matches!(a.goal, HandshakePurpose::Rekey(_)));
        let attempts: Vec<ReceiverIndex> = useless.map(|(index, _)| *index).collect();
        for index in attempts {
            self.drop_attempt(node, index);
        }
        for publication in publications {
            publication.ring.close();
            shared.forget_publication(&publication);
            self.unpublish(&publication);
            drop_contained(publication);
        }
        // The last word goes out before the sessions are closed.
        self.renew_record(node);
        self.timers.set(Timer::Leave(node), self.now);
    }

    /// Whether everything that the node has published was delivered.
    fn has_drained(&self, member: &NodeState) -> bool {
        member.publications.values().all(|publishing| {
            let drained = publishing.shared.ring.is_empty()
                || publishing.draining.iter().all(|leg| {
                    // A consumer of the same node goes when the node does.
                    self.legs.get(leg).is_none_or(|leg| leg.consumer.0 == leg.producer.0)
                });
            publishing.servings.is_empty() && drained
        })
    }

    /// Looks at a node that leaves, because something may have drained.
    pub(super) fn look_at_leaving(&mut self, node: NodeId) {
        if self.members.get(&node).is_some_and(|member| member.leaving.is_some()) {
            self.timers.set(Timer::Leave(node), self.now);
        }
    }

    pub(super) fn leave_due(&mut self, node: NodeId) {
        let Some(member) = self.members.get(&node) else { return };
        let Some(leaving) = member.leaving else { return };
        if leaving.closing.is_none() {
            let drained = self.has_drained(member);
            if !drained && self.now < leaving.until {
                let look = (self.now + DRAIN_LOOK).min(leaving.until);
                return self.timers.set(Timer::Leave(node), look);
            }
            self.close_node(node, drained);
        }
        let any = self.sessions.values().any(|session| session.node == node);
        let late = self.now >= leaving.until + CLOSE_GRACE;
        if any && !late {
            let until = leaving.until + CLOSE_GRACE;
            return self.timers.set(Timer::Leave(node), until);
        }
        self.forget_node(node);
    }

    /// Ends what the node still has.
    fn close_node(&mut self, node: NodeId, drained: bool) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let broken = member.publications.values().any(|publishing| publishing.broken);
        let now = self.now;
        if let Some(leaving) = &mut member.leaving {
            leaving.closing = Some(drained && !broken && !leaving.lossy);
            leaving.until = leaving.until.min(now);
        }
        let subscriptions: Vec<u64> = member.subscriptions.keys().copied().collect();
        let publications: Vec<u64> = member.publications.keys().copied().collect();
        for key in subscriptions {
            self.end_subscription(node, key);
        }
        for key in publications {
            for (number, end) in self.consumers(node, key) {
                // Not in good order: the consumer must not believe that it has everything. The whole session ends
                // with this code, because a close in good order would overtake the channel's.
                self.cut_serving(node, key, number, CloseCode::GAVE_UP);
                if let OutboundEnd::Remote((index, _)) = end {
                    self.close_session(index, CloseCode::GAVE_UP);
                }
            }
        }
        let shards = u8::try_from(self.shards.len()).unwrap_or(u8::MAX);
        for shard in 0..shards {
            self.shards.send(shard, Command::RemoveNode { node });
        }
    }

    /// Nothing of the node is left on any shard, or is waited for.
    fn forget_node(&mut self, node: NodeId) {
        let gone: Vec<ReceiverIndex> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.node == node)
            .map(|(index, _)| *index)
            .collect();
        for index in gone {
            // Not waited for any longer. The index stays taken until the shard gives it back.
            self.abandon_session(index);
        }
        let Some(mut member) = self.members.remove(&node) else { return };
        self.responder_gone(&mut member);
        self.forget_timers(node, &member);
        let closing = member.leaving.and_then(|leaving| leaving.closing);
        member.shared.presence.send_replace(Presence::Left(closing == Some(true)));
        registry::leave(&member.shared);
        self.port.release_node();
        drop_contained(member);
        self.legs_left(node);
        self.shutdown_step();
    }

    fn responder_gone(&mut self, member: &mut NodeState) {
        // Indices that half-finished handshakes of others hold.
        member.responder.handle_timeout(Instant::FAR_FUTURE);
        while let Some(index) = member.responder.poll_freed() {
            self.shards.free_index(index);
        }
    }

    fn forget_timers(&mut self, node: NodeId, member: &NodeState) {
        for timer in [Timer::Responder(node), Timer::Records(node), Timer::Leave(node)] {
            self.timers.cancel(timer);
        }
        for peer in member.peers.keys() {
            self.timers.cancel(Timer::Dial(node, *peer));
            self.timers.cancel(Timer::Slots(node, *peer));
            self.timers.cancel(Timer::Review(node, *peer));
        }
        for place in 0..member.bootstrap.len() {
            self.timers.cancel(Timer::Bootstrap(node, place));
        }
    }

    /// The engine is to end. Asked again, the earlier end holds.
    pub(super) fn shutdown(&mut self, drain: Duration) {
        let until = self.now + drain;
        let until = match self.ending {
            Some(Shutdown::Leaving(before)) => before.min(until),
            Some(Shutdown::Stopping) => return,
            None => until,
        };
        self.ending = Some(Shutdown::Leaving(until));
        let nodes: Vec<NodeId> = self.members.keys().copied().collect();
        for node in nodes {
            self.leave(node, drain);
        }
        // A node forgets its sessions a little after its time is up; nothing may hold the end up longer.
        self.timers.set(Timer::Shutdown, until + CLOSE_GRACE * 2);
        self.shutdown_step();
    }

    /// Goes on with the end once nothing more has to be waited for.
    pub(super) fn shutdown_step(&mut self) {
        match self.ending {
            Some(Shutdown::Leaving(_)) if self.members.is_empty() => self.stop_shards(),
            Some(Shutdown::Stopping) if self.shards.all_stopped() => self.finish(),
            _ => {}
        }
    }

    pub(super) fn shutdown_due(&mut self) {
        match self.ending {
            Some(Shutdown::Leaving(_)) => {
                let nodes: Vec<NodeId> = self.members.keys().copied().collect();
                for node in nodes {
                    self.close_node(node, false);
                    self.forget_node(node);
                }
                // The last of them has gone on already.
                if matches!(self.ending, Some(Shutdown::Leaving(_))) {
                    self.stop_shards();
                }
            }
            Some(Shutdown::Stopping) => self.finish(),
            None => {}
        }
    }

    fn stop_shards(&mut self) {
        let deadline = self.now + STOP_TIME;
        self.ending = Some(Shutdown::Stopping);
        let shards = u8::try_from(self.shards.len()).unwrap_or(u8::MAX);
        for shard in 0..shards {
            self.shards.send(shard, Command::Shutdown { deadline });
        }
        self.timers.set(Timer::Shutdown, deadline + STOP_TIME);
        self.shutdown_step();
    }

    /// The end. Requests that come now find nobody.
    fn finish(&mut self) {
        self.stopped = true;
        self.timers.cancel(Timer::Shutdown);
        let late = self.port.close();
        for request in late {
            // Streams and nodes of the last moment: whoever made them is told as well.
            self.handle_request(request);
        }
        self.notices.send(&self.panics);
    }

    /// The clerk itself is broken: whoever waits for it is told, and the shards end by themselves, because nobody
    /// holds the other ends of their mailboxes any more.
    pub(crate) fn abandon(&mut self) {
        self.stopped = true;
        for request in self.port.close() {
            self.turn_away(request);
        }
        for member in std::mem::take(&mut self.members).into_values() {
            for publishing in member.publications.values() {
                publishing.shared.ring.close();
                for serving in publishing.servings.values() {
                    serving.channel.shared.terminate(CloseCode::PEER_LOST);
                }
                self.notices.add(publishing.shared.spec.on_change.as_ref());
            }
            for subscription in member.subscriptions.values() {
                subscription.shared.close();
                for pursuit in subscription.pursuits.values() {
                    if let Some(channel) = &pursuit.channel {
                        channel.shared.terminate(CloseCode::PEER_LOST);
                    }
                }
                self.notices.add(subscription.shared.spec.on_change.as_ref());
            }
            registry::leave(&member.shared);
            member.shared.presence.send_replace(Presence::Left(false));
            drop_contained(member);
        }
        self.notices.send(&self.panics);
    }

    /// Answers a request that nobody will deal with any more.
    fn turn_away(&mut self, request: Request) {
        match &request {
            Request::Join(join) => {
                join.shared.presence.send_replace(Presence::Left(false));
            }
            Request::Publish(publication) => {
                publication.ring.close();
                self.notices.add(publication.spec.on_change.as_ref());
            }
            Request::Subscribe(subscription) => {
                subscription.close();
                self.notices.add(subscription.spec.on_change.as_ref());
            }
            // What these are about ends by itself, or has been told above or below.
            Request::Changed(_)
            | Request::Leave { .. }
            | Request::Unpublish(_)
            | Request::Full(_)
            | Request::Unsubscribe(_)
            | Request::LegDropped(_)
            | Request::Shutdown { .. } => {}
        }
        drop_contained(request);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use corewire_proto::{NetworkId, StreamId, identity::Identity, session::SessionConfig};
    use corewire_rings::Ring;

    use super::*;
    use crate::{
        clerk::ClerkParts,
        shared::{
            limits::{Limits, Times},
            node::{JoinRequest, NodeParts, NodeSettings, NodeShared},
            port::Port,
            publication::{OnChange, PublicationShared, PublishSpec},
            subscription::{SubscribeSpec, SubscriptionShared},
        },
    };

    fn clerk(port: &Arc<Port>) -> Clerk {
        Clerk::new(ClerkParts {
            limits: Limits::default(),
            times: Times::default(),
            entropy: Box::new(|bytes| bytes.fill(7)),
            calendar: Box::new(|_| Duration::ZERO),
            port: port.clone(),
            shards: Vec::new(),
        })
    }

    #[test]
    fn requests_that_a_broken_clerk_never_saw_are_answered() {
        let port = Port::new();
        let mut clerk = clerk(&port);
        let identity = Identity::from_seed(&[2; 32]);
        let id = NodeId(1);
        let parts = NodeParts {
            id,
            peer_id: identity.peer_id(),
            port: port.clone(),
            limits: Limits::default(),
            registry_key: None,
            network_id: NetworkId([1; 32]),
            announced: Vec::new(),
            settings: NodeSettings { tags: Vec::new(), tickets: Vec::new() },
        };
        let node = NodeShared::new(parts, &[]);
        let calls = Arc::new(AtomicU64::new(0));
        let seen = calls.clone();
        let on_change: Option<OnChange> = Some(Arc::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        }));
        let stream = StreamId([3; 32]);
        let spec = PublishSpec { on_change: on_change.clone(), ..PublishSpec::new(stream) };
        let ring = Ring::new(spec.ring_config()).expect("a ring");
        let publication = PublicationShared::new(2, id, spec, ring);
        let spec = SubscribeSpec { on_change, ..SubscribeSpec::new(stream) };
        let subscription = Arc::new(SubscriptionShared::new(3, id, spec));
        let join = JoinRequest {
            shared: node.clone(),
            identity,
            secret: None,
            sockets: Vec::new(),
            bootstrap: Vec::new(),
            session: SessionConfig::default(),
        };
        port.send(Request::Join(Box::new(join)));
        port.send(Request::Publish(publication.clone()));
        port.send(Request::Subscribe(subscription.clone()));
        clerk.abandon();
        assert_eq!(*node.presence.borrow(), Presence::Left(false));
        assert!(publication.ring.is_closed());
        assert!(subscription.is_closed());
        assert_eq!(calls.load(Ordering::Relaxed), 1, "one notice for one closure");
        assert!(!port.send(Request::Changed(id)), "nobody takes requests any more");
    }
}
