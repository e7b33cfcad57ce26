//! How streams share a link that is too slow for them, and how they fare on paths that carry little: whole
//! hosts on the simulated network.

#[path = "swarm_rig/pair.rs"]
#[allow(dead_code, reason = "shared with the scenarios of broken sessions")]
mod pair;
#[allow(dead_code, reason = "shared with the swarm, which uses the rest")]
mod swarm_rig;

use std::time::Duration;

use corewire_engine::{driver::sim::Link, publication::PublishSpec, subscription::SubscribeSpec};
use corewire_proto::{StreamId, channel::Reliability};
use pair::Pair;
use swarm_rig::{
    Internet, Setup,
    laws::{Consumer, HEAD, Life},
};

/// What an IPv4 path of 1,500 and of 1,280 bytes carries of a datagram's payload.
const ETHERNET: usize = 1_472;
const NARROW: usize = 1_252;

/// Bytes that two streams of these weights and datum lengths bring over one slow link in some seconds, once
/// their rates have settled.
fn shares(weights: [u8; 2], lengths: [usize; 2]) -> [f64; 2] {
    let mut internet = Internet::with(11, 2, 1, Setup::defaults());
    internet.start(0);
    internet.start(1);
    let slow = Link {
        delay: Duration::from_millis(2),
        bytes_per_second: Some(1_000_000),
        queue_bytes: 32 << 10,
        mtu_bytes: ETHERNET,
        ..Link::CLEAN
    };
    internet.world.set_link(internet.places[0], internet.places[1], slow);
    let streams = [StreamId([1; 32]), StreamId([2; 32])];
    let publish = |at: usize| {
        let spec = PublishSpec { weight: weights[at], ..PublishSpec::new(streams[at]) };
        let publication = internet.node(0).expect("it runs").publish(spec).expect("a node has room");
        let (number, ring) = (at as u64, publication.ring().clone());
        let publication = Some(publication);
        Life { number, place: 0, stream: streams[at], publication, ring, accepted: 0, evicts: false }
    };
    let mut lives = vec![publish(0), publish(1)];
    let subscribe = |at: usize| {
        // The link is to be what limits both, and not a window.
        let spec =
            SubscribeSpec { window_bytes: 1 << 20, window_datums: 0, ..SubscribeSpec::new(streams[at]) };
        let subscription = internet.node(1).expect("it runs").subscribe(spec).expect("a node has room");
        Consumer::new(1, streams[at], Reliability::Reliable, subscription)
    };
    let mut consumers = [subscribe(0), subscribe(1)];
    let mut taken = [0; 2];
    let mut flow = |time: Duration| {
        let end = internet.world.now() + time;
        while internet.world.now() < end {
            for (life, len) in lives.iter_mut().zip(lengths) {
                // Without a reader a ring is never full.
                for _ in 0..64 {
                    life.push(len);
                }
            }
            internet.run_for(Duration::from_millis(5));
            for (consumer, taken) in consumers.iter_mut().zip(&mut taken) {
                consumer.gather();
                *taken += consumer.take(usize::MAX, &lives);
            }
        }
        [0, 1].map(|at| (taken[at] * lengths[at].max(HEAD)) as f64)
    };
    let before = flow(Duration::from_secs(3));
    let after = flow(Duration::from_secs(6));
    [after[0] - before[0], after[1] - before[1]]
}

#[track_caller]
fn assert_ratio(weights: [u8; 2], lengths: [usize; 2]) {
    let bytes = shares(weights, lengths);
    let (ratio, wanted) = (bytes[1] / bytes[0], f64::from(weights[1]) / f64::from(weights[0]));
    assert!((ratio / wanted - 1.0).abs() < 0.05, "{ratio} for {wanted} with lengths {lengths:?}: {bytes:?}");
    assert!(bytes[0] + bytes[1] > 0.7 * 6_000_000.0, "the link is used: {bytes:?}");
}

#[test]
fn weights_of_1_and_4_share_a_slow_link_1_to_4() {
    assert_ratio([1, 4], [512, 512]);
}

#[test]
fn weights_hold_for_datums_of_unequal_size() {
    assert_ratio([1, 4], [4_000, 256]);
    assert_ratio([1, 4], [256, 4_000]);
}

/// Both directions carry datagrams of at most this payload.
fn set_path(pair: &mut Pair, mtu_bytes: usize) {
    let link = Link { delay: Duration::from_micros(200), mtu_bytes, ..Link::CLEAN };
    pair.internet.world.set_default_link(link);
}

/// The consumer takes everything while `datums` are sent, none is missing, and no session was lost.
fn stream(pair: &mut Pair, datums: u64) {
    let wanted = pair.accepted() + datums;
    pair.run_until("the datums are sent", |pair| {
        while pair.accepted() < wanted && pair.life().push(3_000) {}
        pair.take();
        pair.accepted() >= wanted
    });
    pair.drain();
    assert_eq!((pair.account().taken, pair.account().missing), (wanted, 0));
    for place in [0, 1] {
        let stats = pair.internet.node(place).expect("it runs").stats();
        assert_eq!(stats.sessions_lost, 0, "{stats:?}");
    }
}

#[test]
fn a_path_of_1280_bytes_delivers_everything() {
    let mut pair = Pair::connected_on(Internet::with(7, 2, 1, Setup::defaults()), |spec| spec);
    set_path(&mut pair, NARROW);
    stream(&mut pair, 2_000);
}

#[test]
fn a_path_that_shrinks_under_load_delivers_everything() {
    let mut pair = Pair::connected(|spec| spec);
    set_path(&mut pair, ETHERNET);
    stream(&mut pair, 2_000);
    set_path(&mut pair, NARROW);
    stream(&mut pair, 2_000);
    assert!(pair.internet.world.stats().too_large > 0, "larger packets were in use before");
}
