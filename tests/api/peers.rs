//! What `discovery()` tells of peers: events, conditions, snapshots, and entries as text.

use std::time::Duration;

use corewire::network::BeaconReach;
use corewire::{Engine, EngineConfig, FeedError, Network, NetworkId, PeerEvent, PeerId, RecordError};
use corewire_testkit::poll_once;

fn node(id: NetworkId, tags: &[&str]) -> Network {
    Network::builder(id).with_tags(tags).build_blocking().unwrap()
}

#[test]
fn each_peer_is_told_once_until_it_changes_or_leaves() {
    let id = NetworkId::random();
    let here = node(id, &[]);
    let mut events = here.discovery().events();
    assert_eq!(events.recv_timeout(Duration::from_millis(1)), None);
    let there = node(id, &["a"]);
    let peer = *there.local().id();
    assert!(
        matches!(events.recv_blocking(), Some(PeerEvent::Joined { peer: joined }) if *joined.id() == peer)
    );
    there.discovery().add_tags("b");
    match events.recv_blocking() {
        Some(PeerEvent::Changed { before, now }) => {
            assert!(before.has_tag("a") && !before.has_tag("b") && now.has_tag("a") && now.has_tag("b"));
        }
        other => panic!("{other:?}"),
    }
    there.discovery().remove_tags(["a", "never there"]);
    let changed = events.recv_blocking().unwrap();
    assert!(!changed.peer().has_tag("a") && changed.peer().has_tag("b"));
    there.shutdown_blocking(Duration::from_secs(5)).unwrap();
    assert!(matches!(events.recv_blocking(), Some(PeerEvent::Left { peer: left }) if *left.id() == peer));
    assert!(here.discovery().peer(&peer).is_none() && here.discovery().catalog().is_empty());
    here.shutdown_blocking(Duration::from_secs(5)).unwrap();
    assert_eq!(events.recv_blocking(), None);
    assert_eq!((events.try_recv(), events.dropped()), (None, 0));
}

#[test]
fn conditions_on_peers_count_those_that_qualify() {
    let id = NetworkId::random();
    let here = node(id, &[]);
    let others = [node(id, &["x"]), node(id, &["x", "y"]), node(id, &["y"])];
    let when = here.discovery().when();
    when.peers().minimum_of(3).wait_blocking();
    let met =
        |minimum: usize, tags: &[&str]| when.peers().minimum_of(minimum).with_tags(tags).is_condition_met();
    assert!(met(2, &["x"]) && !met(3, &["x"]) && met(1, &["x", "y"]) && !met(2, &["x", "y"]));
    assert!(met(0, &["z"]) && !met(1, &["z"]));
    let last = *others[2].local().id();
    assert!(when.peer(last).with_tags("y").is_condition_met());
    assert!(!when.peer(last).with_tags("x").is_condition_met());
    assert!(!when.peer(PeerId::random()).wait_timeout(Duration::from_millis(1)));
    let named = when.peers().with_predicate(move |peer| *peer.id() == last);
    assert!(named.is_condition_met() && !named.clone().unmet().is_condition_met());
    assert!(!named.clone().minimum_of(2).is_condition_met());
    assert!(!when.peers().with_streams(["s"]).is_condition_met());
    let producer = others[2].streams().producer::<u8>().with_stream_id("s").build().unwrap();
    corewire::block_on(async { when.peers().with_streams(["s"]).with_tags("y").await });
    drop(producer);
    when.peers().with_streams(["s"]).unmet().wait_blocking();
    drop(others);
    when.peers().unmet().wait_blocking();
}

#[test]
fn a_snapshot_finds_by_tags_and_streams_and_stays_as_it_is() {
    let id = NetworkId::random();
    let (here, there) = (node(id, &[]), node(id, &["exchange", "eu"]));
    let _producer = there.streams().producer::<u8>().with_stream_id("prices").build().unwrap();
    here.discovery().when().peers().with_streams(["prices"]).wait_blocking();
    let catalog = here.discovery().catalog();
    let peer = *there.local().id();
    let ids = |found: Vec<corewire::PeerEntry>| found.iter().map(|peer| *peer.id()).collect::<Vec<_>>();
    assert_eq!(ids(catalog.find(["exchange", "eu"], ["prices"])), [peer]);
    assert_eq!(ids(catalog.find((), ["prices"])), [peer]);
    assert_eq!(ids(here.discovery().find("eu", [] as [&str; 0])), [peer]);
    assert!(catalog.find("us", [] as [&str; 0]).is_empty() && catalog.find((), ["news"]).is_empty());
    drop(there);
    here.discovery().when().peer(peer).unmet().wait_blocking();
    assert!(here.discovery().catalog().get(&peer).is_none());
    assert_eq!(catalog.get(&peer).unwrap().id(), &peer);
    assert_eq!((catalog.len(), catalog.iter().count(), catalog.is_empty()), (1, 1, false));
}

#[test]
fn an_exported_entry_is_text_that_only_its_network_takes() {
    let id = NetworkId::random();
    let builder = || Network::builder(id).with_beacon(BeaconReach::Off);
    let (here, there) = (builder().build_blocking().unwrap(), builder().build_blocking().unwrap());
    let text = there.discovery().export_blocking().unwrap();
    assert!(text.bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert_eq!(here.discovery().feed(&format!("  {}\n", text.to_uppercase())), Ok(*there.local().id()));
    here.discovery().when().peer(*there.local().id()).wait_blocking();
    let malformed = Err(FeedError::Record(RecordError::Malformed));
    for bad in [&text[1..], "zz", "+1", "é", &format!("{text}0")] {
        assert_eq!(here.discovery().feed(bad), malformed, "{bad}");
    }
    let foreign = node(NetworkId::random(), &[]);
    assert_eq!(foreign.discovery().feed(&text), Err(FeedError::Record(RecordError::Signature)));
}

#[test]
fn a_peer_can_be_added_at_run_time() {
    let id = NetworkId::random();
    let (here, there) = (node(id, &[]), node(id, &[]));
    here.discovery().add_peer(there.local().addresses()[0]).unwrap();
    let error = here.discovery().add_peer("nowhere").unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    here.discovery().add_peer("192.0.2.1:9").unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while here.discovery().dial_failures().is_empty() {
        assert!(std::time::Instant::now() < until, "the failure is not told");
        std::thread::yield_now();
    }
}

#[test]
fn a_wait_for_a_peer_ends_when_the_engine_stops() {
    let engine = Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).unwrap();
    let here = Network::builder(NetworkId::random()).with_engine(&engine).build_blocking().unwrap();
    let mut waits = Box::pin(here.discovery().wait_for(|_| false));
    assert!(poll_once(&mut waits).0.is_pending());
    engine.stop(Duration::ZERO);
    assert_eq!(corewire_testkit::wait("the end", waits), None);
}
