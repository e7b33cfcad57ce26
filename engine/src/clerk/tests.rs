use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use corewire_proto::session::SessionConfig;

use super::*;
use crate::{
    beacon::Beacons,
    shard::NodeId,
    shared::{
        node::{JoinRequest, Presence},
        publication::{OnChange, PublishSpec},
        subscription::SubscribeSpec,
    },
};

#[test]
fn requests_that_a_broken_clerk_never_saw_are_answered() {
    let port = RequestPort::new();
    let mut clerk = Clerk::new(ClerkParts {
        limits: Limits::default(),
        times: Times::default(),
        entropy: Box::new(|bytes| bytes.fill(7)),
        calendar: Box::new(|_| Duration::ZERO),
        port: port.clone(),
        shards: Vec::new(),
        beacons: Beacons::none(),
    });
    let node = testing::node(2);
    let calls = Arc::new(AtomicU64::new(0));
    let seen = calls.clone();
    let on_change: Option<OnChange> = Some(Arc::new(move || {
        seen.fetch_add(1, Ordering::Relaxed);
    }));
    let spec = PublishSpec { on_change: on_change.clone(), ..PublishSpec::new(testing::STREAM) };
    let publication = testing::publication(node.id, 2, spec);
    let spec = SubscribeSpec { on_change, ..SubscribeSpec::new(testing::STREAM) };
    let subscription = testing::subscription(node.id, 3, spec);
    let join = JoinRequest {
        shared: node.clone(),
        identity: testing::identity(2),
        secret: None,
        sockets: Vec::new(),
        bootstrap: Vec::new(),
        beacon: None,
        session: SessionConfig::default(),
    };
    port.send(ClerkRequest::Join(Box::new(join)));
    port.send(ClerkRequest::Publish(publication.clone()));
    port.send(ClerkRequest::Subscribe(subscription.clone()));
    clerk.abandon();
    assert_eq!(*node.presence.borrow(), Presence::Left(Err(Arc::default())));
    assert!(publication.ring.is_closed());
    assert!(subscription.is_closed());
    assert_eq!(calls.load(Ordering::Relaxed), 1, "one notice for one closure");
    assert!(!port.send(ClerkRequest::Changed(NodeId(2))), "no request is taken any more");
}
