//! corewire: a typed publish/subscribe dataplane for latency-critical services on Linux.
//!
//! Make a [`Network`], make a [`Producer`] on one node and [`Consumer`]s on others, and send:
//!
//! ```
//! use corewire::{Network, NetworkId};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Debug, PartialEq)]
//! struct PriceUpdate {
//!     symbol: String,
//!     price: f64,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let id = NetworkId::random();
//! let exchange = Network::new(id).await?;
//! let trader = Network::new(id).await?;
//!
//! let producer = exchange.streams().produce::<PriceUpdate>();
//! let mut consumer = trader.streams().consume::<PriceUpdate>();
//!
//! // Waits until somebody listens, then puts the datum into the stream's ring.
//! producer.send(PriceUpdate { symbol: "ETH".into(), price: 3200.0 }).await?;
//!
//! let update = consumer.recv().await;
//! assert_eq!(update, Some(PriceUpdate { symbol: "ETH".into(), price: 3200.0 }));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # The tour
//!
//! * **A datum** is any serde type ([`Datum`]). Types of plain memory can travel without encoding ([`Plain`]) and be
//!   borrowed where they lie.
//! * **A stream** is named by its type, or by a [`StreamId`] of your choice:
//!   [`with_stream_id`](streams::producer::Builder::with_stream_id).
//! * **A producer** writes into a ring; every consumer reads that ring at its own pace. What happens when the ring is
//!   full is the stream's [policy](streams::BackpressurePolicy): the producer waits, or is told.
//! * **Consumers** in the same process read the producer's ring in place. Consumers elsewhere get the datums through
//!   encrypted sessions, and give credit for what they took: nobody's memory is unbounded, and nothing is lost in
//!   silence.
//! * **Topology** is something to wait for: [`when`](Producer::when) and
//!   [`online_when`](streams::producer::Builder::online_when).
//! * **Inside one process** there is also a [`local`] stream without any network: bounded, with the same policies, and
//!   with consumers that compete for the datums.
//! * **Any runtime, or none.** Futures here need no particular executor; each has a blocking form.
//!
//! ```
//! # use corewire::{Network, NetworkId};
//! // No runtime at all: `futures::executor::block_on` or a thread will do.
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = futures::executor::block_on(Network::new(NetworkId::random()))?;
//! let producer = network.streams().produce::<u64>();
//! let mut consumer = network.streams().consume::<u64>();
//! let taker = std::thread::spawn(move || consumer.recv_blocking());
//! producer.send_blocking(7)?;
//! assert_eq!(taker.join().unwrap(), Some(7));
//! # Ok(())
//! # }
//! ```
//!
//! What is not here: sockets, sessions and threads (`corewire-engine`), protocol rules (`corewire-proto`), and memory
//! that threads share (`corewire-rings`). There is no `unsafe` in this crate.

#![forbid(unsafe_code)]

extern crate self as corewire;

mod contain;
mod counters;
pub mod datum;
pub mod discovery;
pub mod id;
pub mod local;
pub mod network;
mod policy;
mod scratch;
pub mod streams;

pub use corewire_engine::driver::IoChoice;
pub use corewire_engine::engine::{Engine, EngineConfig, EngineInfo};

pub use datum::{Codec, Datum, InPlace, InPlaceMut, Plain, Postcard};
pub use discovery::PeerEntry;
pub use id::{GroupId, NetworkId, PeerId, StoreId, StreamId, Tag, UniqueId};
pub use network::{Network, SecretKey};
pub use streams::{BackpressurePolicy, Consumer, ConsumerDef, Producer, ProducerDef, Reliability};

/// What the macros of this crate expand to. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use corewire_macros::digest;
}

/// The examples of the front page are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
