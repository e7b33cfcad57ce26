//! Types of other crates that public signatures and fields of `corewire` mention can be named through it. For
//! types of its own the lint `unnameable_types` does that.

use corewire::engine::{
    BindError, CounterSnapshot, DriverConfig, DriverKind, DriverOpenError, Engine, EngineConfig, EngineError,
    EngineInfo, Idle, IoChoice, JoinError, Limits, NodeStats, RingConfigError, ShardInfo, ShardLimits,
    ShardState, Times, UnknownIdle, WeakSecret,
};
use corewire::network::{EngineSource, NetworkError};
use corewire::streams::{CloseCode, State};
use corewire::{Network, NetworkId, PeerId, StreamId, Tag, UniqueId};

#[test]
fn every_field_of_the_engine_configuration_can_be_set_and_named() {
    let EngineConfig { shards, io, idle, pin, driver, shard_limits, limits, times, .. } =
        EngineConfig::default();
    let _: (usize, IoChoice, Idle, bool) = (shards, io, idle, pin);
    let _: (DriverConfig, ShardLimits, Limits, Times) = (driver, shard_limits, limits, times);
    let unknown: UnknownIdle = "slowly".parse::<Idle>().unwrap_err();
    assert!(unknown.to_string().contains("slowly"));
}

#[test]
fn errors_are_named_down_to_their_cause() {
    fn cause(error: NetworkError) -> &'static str {
        match error {
            NetworkError::Engine(EngineError::Driver { source, .. }) => {
                let _: DriverOpenError = source;
                "driver"
            }
            NetworkError::Join(JoinError::Bind(BindError::InUse { .. })) => "address",
            NetworkError::Join(JoinError::WeakSecret(reason)) => {
                let _: WeakSecret = reason;
                "secret"
            }
            _ => "other",
        }
    }
    let weak = Network::builder(NetworkId::random()).with_network_secret([0; 32]).build_blocking();
    assert_eq!(cause(weak.unwrap_err()), "secret");
    let network = Network::new_blocking(NetworkId::random()).unwrap();
    let taken = network.local().addresses()[0];
    let again = Network::builder(NetworkId::random()).with_addresses([taken]).build_blocking();
    assert_eq!(cause(again.unwrap_err()), "address");
    let _: fn(RingConfigError) -> corewire::streams::producer::TryBuildError<()> = Into::into;
}

#[test]
fn what_handles_report_is_named() {
    let network = Network::new_blocking(NetworkId::random()).unwrap();
    let _: NodeStats = network.stats();
    let engine: &Engine = network.engine();
    let info: EngineInfo = engine.info();
    let shard: &ShardInfo = &info.shards[0];
    let _: (DriverKind, &ShardState) = (shard.driver, &shard.state);
    let _: Vec<CounterSnapshot> = engine.counters();
    let _: EngineSource = engine.into();
    let _: (State, CloseCode) = (State::Connecting, CloseCode::TOO_SLOW);
}

#[test]
fn id_types_meet_only_through_bytes_or_a_unique_id() {
    let id = UniqueId::from("one name");
    let (network, peer, stream, tag) =
        (NetworkId::from(id), PeerId::from(id), StreamId::from(id), Tag::from(id));
    assert_eq!(network.to_bytes(), peer.to_bytes());
    assert_eq!(StreamId::from(peer.to_bytes()), stream);
    assert_eq!(Tag::from(stream.to_string()), tag);
}
