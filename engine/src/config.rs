//! How an engine is configured, what it reports of itself, and why it may not start.

use std::io;

use thiserror::Error;

pub use crate::driver::MAX_SHARDS;
use crate::{
    affinity,
    driver::{DriverConfig, DriverKind, DriverOpenError, IoChoice},
    idle::Idle,
    shard::ShardLimits,
    shared::limits::{Limits, Times},
};

/// What an engine is made of.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Shards, each a thread: 0 to 254 ([`MAX_SHARDS`]). 0, the default, starts half as many as the CPUs that
    /// the process may use, 1 to 8.
    pub shards: usize,
    /// Which driver to use. [`IoChoice::Auto`] by default.
    pub io: IoChoice,
    /// What a shard does when it has nothing to do. [`Idle::ADAPTIVE`] by default.
    pub idle: Idle,
    /// Whether each shard is pinned to a CPU of its own, as far as shards of this and other processes leave
    /// some free; two of the CPUs that this process may use stay without one, so on two CPUs none is pinned.
    /// Processes see each other's pinned shards if they share a network namespace. Cores whose other CPU has
    /// no pinned shard come first, then CPUs of one memory node. Packet memory and inboxes are first
    /// written by the shard's thread, so that the kernel puts them into that node; a producer's ring goes to
    /// the node of the thread that builds the producer. `true` by default.
    pub pin: bool,
    /// Packet memory of each shard.
    pub driver: DriverConfig,
    /// What each shard may hold.
    pub shard_limits: ShardLimits,
    /// What the clerk (the control thread) may hold.
    pub limits: Limits,
    /// How long things may take.
    pub times: Times,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            shards: 0,
            io: IoChoice::Auto,
            idle: Idle::default(),
            pin: true,
            driver: DriverConfig::default(),
            shard_limits: ShardLimits::default(),
            limits: Limits::default(),
            times: Times::default(),
        }
    }
}

impl EngineConfig {
    /// How many shards to start.
    pub(crate) fn shards_or_chosen(&self) -> usize {
        if self.shards > 0 { self.shards } else { affinity::default_shards() }
    }
}

/// Why an engine could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// More shards than can be numbered.
    #[error(
        "an engine has 1 to {MAX_SHARDS} shards, not {0}; ask for fewer, or for 0 to let the engine choose"
    )]
    Shards(usize),
    /// More than one shard for a single thread.
    #[error(
        "a hosted engine has one shard, not {0}; ask for 1, or host one engine on each of several threads"
    )]
    HostedShards(usize),
    /// A shard could not open its driver.
    #[error("shard {shard}: {source}")]
    Driver {
        /// Which shard.
        shard: u8,
        /// Why.
        source: DriverOpenError,
    },
    /// A thread could not be started.
    #[error(
        "cannot start a thread for {what}: {source}; raise the limit of threads (`ulimit -u`, cgroup `pids.max`)"
    )]
    Thread {
        /// The part of the engine that the thread is for.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the system gave no random bytes; without them no key is safe")]
    NoEntropy,
}

/// Whether a shard runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ShardState {
    /// Its thread takes turns, or sleeps until there is work. Whether the application drives a hosted shard
    /// can't be seen here.
    #[default]
    Running,
    /// It was shut down with its engine.
    Stopped,
    /// A turn panicked. Its channels have terminated; the engine's other shards go on.
    Panicked {
        /// The panic's text.
        message: String,
    },
    /// The kernel refuses its driver a call that it needs, for the most part because a sandbox that the
    /// process entered after the engine's start forbids it. Its channels have terminated. Enter the sandbox
    /// before; then the engine takes the driver that it allows.
    DriverFailed {
        /// The driver and the system's answer.
        message: String,
    },
}

/// One shard of a running engine.
#[derive(Clone, Debug)]
pub struct ShardInfo {
    /// Its number, from 0.
    pub shard: u8,
    /// Whether it lives on a thread of the application: see [`HostedEngine`](crate::HostedEngine).
    pub hosted: bool,
    /// Its driver.
    pub driver: DriverKind,
    /// When the driver is not the one that was preferred: one line with the reason, and what to change.
    pub fallback: Option<String>,
    /// The CPU that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Why it is not pinned although that was asked for.
    pub unpinned: Option<String>,
    /// Whether it ran when this was read.
    pub state: ShardState,
}

/// What an engine runs on.
#[derive(Clone, Debug, Default)]
pub struct EngineInfo {
    /// The shards, in the order of their numbers.
    pub shards: Vec<ShardInfo>,
    /// What makes the engine slow here and what to change, one line each: a process that may use a single
    /// CPU.
    pub warnings: Vec<String>,
}

impl EngineInfo {
    /// Why the shards do not use the preferred driver, if they do not: one line.
    pub fn fallback(&self) -> Option<&str> {
        self.shards.iter().find_map(|shard| shard.fallback.as_deref())
    }
}
