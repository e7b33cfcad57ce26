//! The Rust blocks of the stream documents of the project that this API takes after, in the order of the
//! documents. Each test is one block: what it uses of the world around it stands above or below, what it
//! prints goes to a list that is compared, and inside only `mosaik` became `corewire`.
//!
//! | document | module | blocks left out |
//! |---|---|---|
//! | streams | `streams`, `tickets` | none |
//! | producers | `producers`, `tickets`, and `tests/jwt.rs` | none |
//! | README, "Streams" | `readme` | "Groups" (not built) |

// The documents import `SinkExt` for a method that the handle itself has, and end loops by `break`.
#![allow(
    unreachable_pub,
    unused_qualifications,
    unused_variables,
    unused_imports,
    unused_mut,
    dead_code,
    clippy::needless_return,
    clippy::never_loop
)]

mod declared;
mod producers;
mod readme;
#[rustfmt::skip] // as the document has it
mod streams;
#[rustfmt::skip] // as the documents have it
mod tickets;

use std::error::Error;

use corewire::{Engine, EngineConfig, Network, NetworkId, UniqueId};
use corewire_testkit::within;
use serde::{Deserialize, Serialize};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The datum of the document "Producers".
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct MyDatum(u8);

/// A node of its own network.
async fn alone() -> Network {
    Network::new(NetworkId::random()).await.expect("a node on the loopback interface")
}

/// An engine with one shard, apart from that of the process: nothing but datagrams between them.
fn engine() -> Engine {
    Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).expect("an engine with one shard")
}

/// A node of its own network, with this tag.
async fn tagged(tag: &str) -> Network {
    let builder = Network::builder(NetworkId::random()).with_tags(tag);
    builder.build().await.expect("a node on the loopback interface")
}

/// Waits until the engine has dealt with what was asked of it before: it works in order, so once a later
/// subscription is served the earlier ones were judged.
async fn settled(network: &Network) {
    let producer =
        network.streams().producer::<u8>().with_stream_id(UniqueId::random()).build().expect("new");
    let witness = network.streams().consumer::<u8>().with_stream_id(*producer.stream_id()).build();
    within(witness.when().online()).await;
    within(producer.when().online()).await;
}
