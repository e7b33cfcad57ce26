//! The engine that runs nodes: its threads, drivers, limits and counters.
//!
//! Most programs need nothing of this: nodes share one engine with the default configuration. Pass an
//! [`EngineConfig`] to [`with_engine`](crate::network::Builder::with_engine) to change that for one node, or
//! start an [`Engine`] and pass it to several.
//!
//! ```
//! use corewire::engine::{Engine, EngineConfig, Idle, IoChoice, Times};
//! use corewire::{Network, NetworkId};
//! use std::time::Duration;
//!
//! let engine = Engine::start(EngineConfig {
//!     shards: 1,
//!     io: IoChoice::Auto,
//!     idle: Idle::Park,
//!     times: Times { drain: Duration::from_millis(100), ..Times::default() },
//!     ..EngineConfig::default()
//! })?;
//! let id = NetworkId::random();
//! let first = Network::builder(id).with_engine(&engine).build_blocking()?;
//! let second = Network::builder(id).with_engine(&engine).build_blocking()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use corewire_engine::WeakSecret;
pub use corewire_engine::driver::bind::BindError;
pub use corewire_engine::driver::{DriverOpenError, Unavailable};
pub use corewire_engine::idle::UnknownIdle;
pub use corewire_engine::node::JoinError;
pub use corewire_engine::shared::counters::NodeStats;
pub use corewire_engine::{
    Counter, CounterInfo, CounterKind, CounterSnapshot, DriverConfig, DriverKind, Engine, EngineConfig,
    EngineError, EngineInfo, HostedEngine, HostedRun, Idle, IoChoice, Limits, MAX_SHARDS, NextTurn,
    PollThread, Reactor, ShardInfo, ShardLimits, ShardState, Times,
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
