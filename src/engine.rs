//! The engine that runs nodes: its threads, drivers, limits and counters.
//!
//! Most programs need nothing of this: nodes share one engine with the default configuration. Pass an
//! [`EngineConfig`] to [`with_engine`](crate::network::Builder::with_engine) to change that for one node, or
//! start an [`Engine`] and pass it to several. A [`HostedEngine`] has no threads for datums at all.
//!
//! The words of these pages:
//!
//! | word | meaning |
//! |---|---|
//! | engine | the threads and sockets that run nodes; by default all nodes of a process share one |
//! | shard | a thread with its sessions, sockets and ring readers: the engine's, or the program's (hosted) |
//! | clerk, control thread | the thread that does handshakes, subscriptions and predicates, and no datums |
//! | ring | the bounded memory of one stream at its producer |
//! | inbox | the ring between a channel and its consumer; its free room is the channel's credit |
//! | channel | what one consumer gets of one producer; at the consumer also called a leg |
//! | turn | one bounded pass of a shard's loop |
//! | lease, train | a transmit buffer of 64 KiB; packets of equal length in one of them, sent by one call |
//!
//! ```
//! use corewire::engine::{Engine, EngineConfig, Idle, IoChoice, Limits, Times};
//! use corewire::{Network, NetworkId};
//! use std::time::Duration;
//!
//! let engine = Engine::start(EngineConfig {
//!     shards: 1,
//!     io: IoChoice::Auto,
//!     idle: Idle::Park,
//!     limits: Limits { peers: 100, ..Limits::default() },
//!     times: Times { drain: Duration::from_millis(100), ..Times::default() },
//!     ..EngineConfig::default()
//! })?;
//! let id = NetworkId::random();
//! let first = Network::builder(id).with_engine(&engine).build_blocking()?;
//! let second = Network::builder(id).with_engine(&engine).build_blocking()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// Sending and receiving without a thread of the engine on a datum's way:
///
/// ```
/// use corewire::{EngineConfig, HostedEngine, Network, NetworkId};
/// use std::time::Duration;
///
/// let id = NetworkId::random();
/// let trader = std::thread::spawn(move || {
///     // This thread hosts nothing, so the node gets threads of the engine.
///     let network = Network::new_blocking(id).unwrap();
///     network.streams().consume::<u64>().recv_blocking()
/// });
///
/// // Started before the network, on the same thread, whose blocking calls do the engine's work from then on.
/// let host = HostedEngine::start(EngineConfig::default())?;
/// let network = Network::new_blocking(id)?;
/// network.streams().produce::<u64>().send_blocking(7)?;
/// network.shutdown_blocking(Duration::from_secs(5))?;
/// assert_eq!(trader.join().unwrap(), Some(7));
/// drop(host);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
pub use corewire_engine::HostedEngine;
pub use corewire_engine::WeakSecret;
pub use corewire_engine::driver::bind::BindError;
pub use corewire_engine::driver::{DriverOpenError, Unavailable};
pub use corewire_engine::idle::UnknownIdle;
pub use corewire_engine::node::JoinError;
pub use corewire_engine::shared::counters::NodeStats;
pub use corewire_engine::{
    Counter, CounterInfo, CounterKind, CounterSnapshot, DriverConfig, DriverKind, Engine, EngineConfig,
    EngineError, EngineInfo, HostedRun, Idle, IoChoice, Limits, MAX_SHARDS, NextTurn, PollThread, Reactor,
    ShardInfo, ShardLimits, ShardState, Times,
};
pub use corewire_rings::RingConfigError;

/// Where the threads of a node come from.
pub(crate) enum EngineChoice {
    /// The engine that this thread hosts, or else the one that the nodes of the process share.
    Shared,
    /// One that exists.
    Given(Engine),
    /// One to be started for the node alone.
    Own(Box<EngineConfig>),
}

/// An engine to run a node on: one that exists, or the configuration of one to start.
pub struct EngineSource(pub(crate) EngineChoice);

impl From<Engine> for EngineSource {
    fn from(engine: Engine) -> Self {
        Self(EngineChoice::Given(engine))
    }
}

impl From<&Engine> for EngineSource {
    fn from(engine: &Engine) -> Self {
        Self(EngineChoice::Given(engine.clone()))
    }
}

impl From<EngineConfig> for EngineSource {
    fn from(config: EngineConfig) -> Self {
        Self(EngineChoice::Own(Box::new(config)))
    }
}
