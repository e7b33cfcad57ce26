#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod affinity;
mod beacon;
mod buffer;
pub mod clerk;
mod config;
pub mod counters;
mod cpu_claim;
pub mod criteria;
pub mod driver;
mod engine;
mod exit;
mod hosted;
pub mod hosting;
pub mod idle;
#[doc(hidden)]
pub mod internals;
mod join;
pub mod node;
pub mod peer;
mod poll_thread;
pub mod publication;
mod registry;
pub mod shard;
pub mod shared;
pub mod subscription;
mod threads;
mod topology;

pub use self::{
    config::{EngineConfig, EngineError, EngineInfo, MAX_SHARDS, ShardInfo, ShardState},
    counters::{Counter, CounterInfo, CounterKind, CounterSnapshot},
    driver::{DriverConfig, DriverKind, IoChoice},
    engine::Engine,
    hosted::{HostedEngine, HostedRun, NextTurn, Reactor},
    idle::Idle,
    poll_thread::PollThread,
    shard::ShardLimits,
    shared::limits::{Limits, Times},
};

pub use corewire_proto::{
    channel::Reliability,
    congestion::Congestion,
    handshake::WeakSecret,
    session::{CloseCode, SessionConfig},
};
