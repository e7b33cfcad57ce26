//! What a shard reports of a session's peer: that it is silent, and that it is back.

mod shard_rig;

use std::time::Duration;

use corewire_engine::shard::Event;
use corewire_proto::{session::SessionConfig, time::Instant};
use shard_rig::{Rig, Setup, Side, Wish, publish, ring};

const SLOT: u32 = 1;

/// Since when the side's peer is silent, if that was reported.
fn suspect(side: &mut Side) -> Option<Instant> {
    let picked = side.pick(|event| match event {
        Event::Suspect { since, .. } => Some(*since),
        _ => None,
    });
    picked.map(|(since, _)| since)
}

#[test]
fn silent_peer_is_reported_with_the_start_of_its_silence_and_its_end() {
    let mut rig = Rig::new(Setup::default());
    rig.connect(SLOT, &SessionConfig::default());
    let ring = ring(64, 1 << 16);
    let mut leg = rig.subscribe(SLOT, &ring, Wish::default());
    let hosts = ([rig.left.host], [rig.right.host]);
    rig.world.set_partition(&hosts.0, &hosts.1, true);
    let cut = rig.now();
    publish(&ring, 1, 100);
    let mut since = None;
    rig.run_until(Duration::from_secs(3), |rig| {
        since = suspect(&mut rig.left);
        since.is_some()
    });
    let since = since.expect("just set");
    assert_eq!(rig.now() - since, Duration::from_secs(1));
    assert!(since >= cut && since - cut < Duration::from_millis(10), "{since:?}, cut at {cut:?}");
    rig.run_for(Duration::from_secs(3));
    assert_eq!(suspect(&mut rig.left), None, "once");
    let recovered = |event: &Event| matches!(event, Event::Recovered { .. }).then_some(());
    assert!(rig.left.pick(recovered).is_none());

    rig.world.set_partition(&hosts.0, &hosts.1, false);
    rig.run_until(Duration::from_secs(5), |rig| rig.left.pick(recovered).is_some());
    // The session has gone on.
    rig.run_until(Duration::from_secs(5), |_| leg.take(9) == (1, 0));
}
