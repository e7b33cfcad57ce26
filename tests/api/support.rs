//! Shared by these tests.

use corewire::streams::State;
use corewire::streams::producer::{Error, UnsendableCause};
use corewire::{Consumer, Datum, Engine, EngineConfig, Network, NetworkId, Producer};
pub(crate) use corewire_testkit::{LIMIT, poll_once, within};
use serde::{Deserialize, Serialize};

/// An ordinary datum.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct Data1(pub(crate) u64);

/// A node of its own network.
pub(crate) async fn alone() -> Network {
    Network::new(NetworkId::random()).await.expect("a node on the loopback interface")
}

/// Two nodes of one network.
pub(crate) async fn two() -> (Network, Network) {
    let id = NetworkId::random();
    (Network::new(id).await.expect("the first node"), Network::new(id).await.expect("the second node"))
}

/// An engine with one shard, apart from that of the process.
pub(crate) fn engine() -> Engine {
    Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).expect("an engine with one shard")
}

/// `n` nodes of one network on as many engines: nothing but datagrams between them.
pub(crate) async fn apart(n: usize) -> Vec<Network> {
    let id = NetworkId::random();
    let mut networks = Vec::new();
    for _ in 0..n {
        networks.push(
            Network::builder(id).with_engine(engine()).build().await.expect("a node on its own engine"),
        );
    }
    networks
}

/// A producer and a connected consumer of the same node, with room for `datums`.
pub(crate) async fn connected<D: Datum>(network: &Network, datums: usize) -> (Producer<D>, Consumer<D>) {
    let consumer = network.streams().consume::<D>();
    let producer = network.streams().producer::<D>().with_buffer_size(datums).build().expect("a producer");
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}

/// The datum that could not be encoded, and whether its codec panicked.
#[track_caller]
pub(crate) fn unencodable<D>(result: Result<(), Error<D>>) -> (D, bool) {
    let Err(Error::Closed(refused)) = result else { panic!("not refused for good: {result:?}") };
    let panics = match refused.cause() {
        UnsendableCause::Encoding(error) => error.is_panic(),
        other => panic!("refused for another cause: {other:?}"),
    };
    (refused.into_inner(), panics)
}

/// Waits until every channel of `producer` is over or gone.
pub(crate) async fn alone_again<D, C>(producer: &Producer<D, C>) {
    within(producer.when().unsubscribed()).await;
    for info in producer.consumers() {
        assert_ne!(info.state(), State::Connected);
    }
}
