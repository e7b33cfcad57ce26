//! What the unit tests of the components share.

use std::{sync::Arc, time::Duration};

use corewire_proto::{
    NetworkId, StreamId,
    handshake::{
        AttemptParams, Credentials, HandshakeLoad, HandshakeOutcome, Initiator, InitiatorProgress, Responder,
        ResponderConfig, ResponderEvent, Target,
    },
    identity::Identity,
    membership::SignedRecord,
    session::SessionConfig,
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::{Ring, mailbox::mailbox};

use super::{ShardLink, effect::Effect, env::Env, nodes::NodeTable, shards::Shards};
use crate::{
    shard::{Command, Event, NodeId},
    shared::{
        beacon::BeaconInfo,
        keys::{PublicationKey, SubscriptionKey},
        limits::{Limits, Times},
        node::{NodeParts, NodeSettings, NodeShared},
        port::RequestPort,
        publication::{PublicationShared, PublishSpec},
        subscription::{SubscribeSpec, SubscriptionShared},
    },
};

pub(super) const STREAM: StreamId = StreamId([3; 32]);

pub(super) fn env() -> Env {
    let mut next = 0u8;
    let entropy = Box::new(move |bytes: &mut [u8]| {
        next = next.wrapping_add(1);
        bytes.fill(next);
    });
    Env::new(Limits::default(), Times::default(), entropy, Box::new(|_| Duration::from_secs(1_000)))
}

pub(super) fn identity(number: u8) -> Identity {
    Identity::from_seed(&[number; 32])
}

/// What the clerk and the handles share of a node without sockets.
pub(super) fn node(number: u8) -> Arc<NodeShared> {
    let parts = NodeParts {
        id: NodeId(u64::from(number)),
        peer_id: identity(number).peer_id(),
        port: RequestPort::new(),
        limits: Limits::default(),
        dead_after: SessionConfig::default().dead_after,
        egress: None,
        registry_key: None,
        network_id: NetworkId([1; 32]),
        announced: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 7_000 + u16::from(number)))],
        beacon: BeaconInfo::default(),
        settings: NodeSettings { tags: Vec::new(), tickets: Vec::new() },
    };
    NodeShared::new(parts, &[])
}

pub(super) fn publication(node: NodeId, number: u64, spec: PublishSpec) -> Arc<PublicationShared> {
    let ring = Ring::new(spec.ring_config()).expect("a ring");
    PublicationShared::new(PublicationKey::new(node, number), spec, ring)
}

pub(super) fn subscription(node: NodeId, number: u64, spec: SubscribeSpec) -> Arc<SubscriptionShared> {
    Arc::new(SubscriptionShared::new(SubscriptionKey::new(node, number), spec))
}

/// The shard's ends of its mailboxes.
pub(super) type ShardMailboxes =
    (corewire_rings::mailbox::Receiver<Command>, corewire_rings::mailbox::Sender<Event>);

/// `count` shards, and their ends of the mailboxes.
pub(super) fn shards(count: usize, limits: &Limits) -> (Shards, Vec<ShardMailboxes>) {
    let (links, ends) = links(count, limits);
    (Shards::new(links, limits), ends)
}

/// The clerk's ends of the mailboxes of `count` shards, and theirs.
pub(super) fn links(count: usize, limits: &Limits) -> (Vec<ShardLink>, Vec<ShardMailboxes>) {
    (0..count)
        .map(|_| {
            let (commands, commanded) = mailbox(limits.mailbox);
            let (events, heard) = mailbox(limits.mailbox);
            (ShardLink { commands, events: heard }, (commanded, events))
        })
        .unzip()
}

pub(super) fn index(slot: u32) -> ReceiverIndex {
    ReceiverIndex::new(0, slot, 1).expect("a valid index")
}

/// What the handshakes of a node need.
pub(super) fn local(env: &mut Env, node: &Arc<NodeShared>, number: u8) -> Arc<Credentials> {
    NodeTable::default().add(env, node, Arc::new(identity(number)), None, SessionConfig::default())
}

/// A record of a node that publishes [`STREAM`].
pub(super) fn record(env: &mut Env, node: &Arc<NodeShared>, number: u8) -> SignedRecord {
    let mut nodes = NodeTable::default();
    nodes.add(env, node, Arc::new(identity(number)), None, SessionConfig::default());
    nodes.renew_record(env, node.id, vec![STREAM], (false, 0));
    let signed = env.effects.drain().into_iter().find_map(|effect| match effect {
        Effect::RecordRenewed(_, record) => Some(*record),
        _ => None,
    });
    signed.expect("a new node announces itself")
}

/// The keys of a session that `one` has begun with `other`, as `one` has them.
pub(super) fn outcome(
    env: &mut Env,
    one: &Arc<Credentials>,
    other: &Arc<Credentials>,
    at: ReceiverIndex,
) -> HandshakeOutcome {
    let now = Instant::ZERO;
    let target = Target::Known { peer: other.peer_id(), key: *other.transport_key() };
    let numbers = AttemptParams { index: at, generation: 0, number: 1 };
    let (mut initiator, init) =
        Initiator::start(now, env.random(), one.clone(), target, numbers).expect("a known peer");
    let mut responder = Responder::new(other.clone(), ResponderConfig::default(), env.random());
    let from = std::net::SocketAddr::from(([127, 0, 0, 1], 9_000));
    let heard = responder.handle_packet(now, from, &init, HandshakeLoad::Calm, env.entropy());
    let Ok(ResponderEvent::Request(request)) = heard else { panic!("the responder asks for nothing more") };
    let (_, reply) = responder.accept(now, *request, index(99)).expect("a valid request");
    match initiator.handle_packet(now, &reply) {
        Ok(InitiatorProgress::Done { outcome, .. }) => *outcome,
        _ => panic!("the handshake is over"),
    }
}
