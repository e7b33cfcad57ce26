//! Two nodes and the channels between them.

use std::thread;
use std::time::Instant;

use bytes::Bytes;
use corewire::engine::Idle;
use corewire::network::SessionSettings;
use corewire::raw::{RawStream, Reliability, StreamConfig, StreamError};
use corewire::{Engine, EngineConfig, Network, NetworkId, PeerId};
use corewire_testkit::LIMIT;
pub(crate) use corewire_testkit::wait;

/// An engine with one shard of its own.
pub(crate) fn engine() -> Engine {
    let config = EngineConfig { shards: 1, pin: false, idle: Idle::Park, ..EngineConfig::default() };
    Engine::start(config).expect("an engine with one shard")
}

/// A node with an engine of its own.
pub(crate) fn node(id: NetworkId, session: SessionSettings) -> Network {
    let builder = Network::builder(id).with_engine(engine()).with_session(session);
    builder.build_blocking().expect("a node on the loopback interface")
}

/// Two nodes of one network, each with an engine of its own.
pub(crate) fn two() -> (Network, Network) {
    let id = NetworkId::random();
    (node(id, SessionSettings::new()), node(id, SessionSettings::new()))
}

pub(crate) fn id_of(network: &Network) -> PeerId {
    *network.local().id()
}

pub(crate) fn reliable() -> StreamConfig {
    StreamConfig::new().with_reliability(Reliability::Reliable)
}

/// Both ends of channel `number`, connected in both directions.
pub(crate) fn both(
    (here, there): (&Network, &Network),
    number: u64,
    (ours, theirs): (StreamConfig, StreamConfig),
) -> (RawStream, RawStream) {
    let one = here.open_stream(id_of(there), number, ours).expect("it opens");
    let other = there.open_stream(id_of(here), number, theirs).expect("it opens");
    connected(&one);
    connected(&other);
    (one, other)
}

/// Waits until a channel can send.
pub(crate) fn connected(stream: &RawStream) {
    wait("the channel connects", stream.connected()).expect("it is open");
}

/// The next payload, or the end.
pub(crate) fn receive(stream: &RawStream) -> Result<Bytes, StreamError> {
    wait("a payload, or the end", stream.recv())
}

/// Waits until `holds`, of something that has no waker.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} until {what}");
        thread::yield_now();
    }
}

/// A payload of `len` bytes that begins with a number.
pub(crate) fn numbered(number: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

/// The number of such a payload.
pub(crate) fn number_of(payload: &Bytes) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"))
}
