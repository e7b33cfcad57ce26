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
//! // Waits until a consumer is connected, then puts the datum into the stream's ring.
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
//! * **A datum** is any serde type ([`Datum`]). Types of plain memory can travel without encoding ([`Plain`])
//!   and be borrowed in place.
//! * **A stream** is named by its type, or by a [`StreamId`] that you choose:
//!   [`with_stream_id`](streams::producer::Builder::with_stream_id).
//! * **A producer** writes into a ring, and every consumer reads that ring at its own pace. The stream's
//!   [policy](streams::BackpressurePolicy) decides what happens when the ring is full.
//! * **An engine** is the set of threads and sockets that runs nodes. By default all nodes of a process share
//!   one, so "another engine" in these pages means another process or host; see [`engine`].
//! * **Consumers** on the same engine read the producer's ring in place. Consumers elsewhere get the datums
//!   through encrypted sessions and grant credit for those that they took, so memory is bounded and every
//!   loss is counted.
//! * **Declared once**, a stream's id, type and configuration are shared by name:
//!   [`declare::stream!`](macro@declare::stream).
//! * **Topology** can be waited for: [`when`](Producer::when) and
//!   [`online_when`](streams::producer::Builder::online_when).
//! * **Admission** by a predicate over what is known about a peer (its id is proven, its tags are its own
//!   words), or by [`tickets`] that it shows.
//! * **Bytes to one peer**, without a type, go through [`raw`] channels.
//! * **Inside one process** there is also a [`local`] stream without a network: bounded, with the same
//!   policies, and with consumers that compete for the datums.
//! * **Threads, or none of its own.** By default an engine has threads of its own; with a [`HostedEngine`]
//!   the application's thread drives it, which saves two hops between threads for each datum.
//! * **Any runtime, or none.** Futures here need no particular executor, and each has a blocking form.
//!
//! ```
//! # use corewire::{Network, NetworkId};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // No runtime at all.
//! let network = Network::new_blocking(NetworkId::random())?;
//! let producer = network.streams().produce::<u64>();
//! let mut consumer = network.streams().consume::<u64>();
//! let taker = std::thread::spawn(move || consumer.recv_blocking());
//! producer.send_blocking(7)?;
//! assert_eq!(taker.join().unwrap(), Some(7));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `jwt` | [`tickets`] that are JSON Web Tokens |
//! | `tokio`, `tokio-uring`, `glommio` | a reactor for hosted engines inside that executor ([`hosts`]) |
//!
//! None is on by default, and no async runtime is needed. Types for [`Plain`] derive [`PlainLayout`] and
//! traits of `zerocopy` 0.8 (its feature `derive`); the combinators of `Stream` and `Sink` are in `futures`.
//!
//! Sockets, sessions and threads are in `corewire-engine`, protocol rules in `corewire-proto`, memory that
//! threads share in `corewire-rings`. There is no `unsafe` in this crate.

#![forbid(unsafe_code)]
#![deny(missing_docs, unnameable_types)]

extern crate self as corewire;

mod blocking;
pub mod compat;
mod contain;
mod datum;
pub mod declare;
mod discovery;
pub mod engine;
pub mod hosts;
mod id;
pub mod local;
pub mod network;
mod policy;
pub mod raw;
mod scratch;
mod session_settings;
pub mod streams;
pub mod tickets;

pub use blocking::{block_on, block_on_timeout};
pub use corewire_macros::PlainLayout;
pub use datum::{
    Codec, Datum, DatumOutput, DecodeError, EncodeError, Fingerprint, InPlace, InPlaceMut, Plain, PlainField,
    PlainLayout, Postcard,
};
pub use declare::{ConsumerOf, ProducerOf, StreamConsumer, StreamProducer};
pub use discovery::{
    Bootstrap, DialFailure, DialProblem, Discovery, FeedError, IntoTags, PeerCatalog, PeerConditions,
    PeerEntry, PeerEvent, PeerEvents, PeerWhen, RecordError,
};
pub use engine::{Engine, EngineConfig, EngineInfo, HostedEngine, IoChoice};
pub use id::{NetworkId, PeerId, ShortId, StreamId, Tag, UniqueId};
pub use network::{Network, SecretKey};
pub use streams::{BackpressurePolicy, Consumer, ConsumerDef, Producer, ProducerDef, Reliability};

/// What the macros of this crate expand to. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::datum::derived_stream_id;
    pub use crate::id::{FromIdText, IdText};
    pub use corewire_macros::{digest, stream};
}

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
