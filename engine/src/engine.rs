//! The engine: its shards, its clerk, and the handle that keeps them running.
//!
//! Not inside: what shards and clerk do. Here they are started, described, and stopped in order.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use corewire_proto::{handshake::NetworkSecret, identity::Identity};
use corewire_rings::mailbox::{self, mailbox};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

use crate::{
    affinity,
    clerk::{Calendar, Clerk, ClerkParts, Entropy, ShardLink},
    driver::{DriverConfig, DriverKind, IoChoice, OpenError, Socket, bind::bind_shards},
    idle::Idle,
    node::{self, JoinError, Node, NodeConfig, NodeSocket},
    registry,
    shard::{Command, Event, NodeId, ShardLimits},
    shared::{
        limits::{Limits, Times},
        node::{JoinRequest, NodeParts, NodeSettings, NodeShared},
        port::{ClerkRequest, RequestPort},
    },
    threads::{self, Threads},
};

/// Most shards of an engine: their number is one byte of each packet's header, and two values are kept free.
pub const MAX_SHARDS: usize = 254;

/// What an engine is made of.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Shards, each a thread; 0 lets the engine choose by the CPUs that the process may use (see
    /// [`default_shards`](affinity::default_shards)).
    pub shards: usize,
    /// Which driver to use.
    pub io: IoChoice,
    /// What a shard does when it has nothing to do.
    pub idle: Idle,
    /// Whether each shard is pinned to a CPU of its own, as far as there are enough.
    pub pin: bool,
    /// Packet memory of each shard.
    pub driver: DriverConfig,
    /// What each shard may hold.
    pub shard_limits: ShardLimits,
    /// What the clerk may hold.
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
    fn shards_or_chosen(&self) -> usize {
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
    /// A shard could not open its driver.
    #[error("shard {shard}: {source}")]
    Driver {
        /// Which shard.
        shard: u8,
        /// Why.
        source: OpenError,
    },
    /// A thread could not be started.
    #[error(
        "cannot start a thread for {what}: {source}; raise the limit of threads (`ulimit -u`, cgroup `pids.max`)"
    )]
    Thread {
        /// For whom.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The system has no random bytes.
    #[error("the system gave no random bytes; without them no key is safe")]
    NoEntropy,
}

/// One shard, as it was started.
#[derive(Clone, Debug)]
pub struct ShardInfo {
    /// Its number.
    pub shard: u8,
    /// Its driver.
    pub driver: DriverKind,
    /// When the driver is not the one that was preferred: one line that says why, and what to change.
    pub fallback: Option<String>,
    /// The CPU that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Why it is not pinned although that was asked for.
    pub unpinned: Option<String>,
}

/// What is running.
#[derive(Clone, Debug, Default)]
pub struct EngineInfo {
    /// The shards, in order.
    pub shards: Vec<ShardInfo>,
}

impl EngineInfo {
    /// Why the shards do not use the preferred driver, if they do not: one line.
    pub fn fallback(&self) -> Option<&str> {
        self.shards.iter().find_map(|shard| shard.fallback.as_deref())
    }
}

/// What all handles of an engine share. Its drop stops the engine.
pub(crate) struct EngineInner {
    port: Arc<RequestPort>,
    shards: usize,
    limits: Limits,
    times: Times,
    info: EngineInfo,
    /// `None` when the turns are run by somebody else.
    threads: Option<Threads>,
    stopping: AtomicBool,
}

impl EngineInner {
    /// Begins the end, once.
    fn begin_stop(&self, drain: Duration) {
        if !self.stopping.swap(true, Ordering::AcqRel) {
            self.port.send(ClerkRequest::Shutdown { drain });
        }
    }
}

impl Drop for EngineInner {
    fn drop(&mut self) {
        self.begin_stop(self.times.drain);
        if let Some(threads) = &mut self.threads {
            threads.wait(self.times.drain);
        }
    }
}

/// A running engine. Clones are handles of the same one; nodes hold one too. When the last is dropped, everything
/// is ended in order: nodes leave, what was published drains (at most [`Times::drain`]), sessions are closed, the
/// threads stop. That drop waits for the end, except on a thread of the engine itself.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

/// The engine that [`Engine::global`] gives, while anybody holds it.
static GLOBAL: Mutex<Weak<EngineInner>> = Mutex::new(Weak::new());

/// The two mailboxes of a shard, from the shard's side.
pub type ShardEnds = (mailbox::Receiver<Command>, mailbox::Sender<Event>);

impl Engine {
    /// Starts the shards and the clerk.
    ///
    /// # Errors
    ///
    /// [`EngineError`]: each says what to do about it.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let shards = config.shards_or_chosen();
        if shards > MAX_SHARDS {
            return Err(EngineError::Shards(shards));
        }
        let system = SystemRandom::new();
        system.fill(&mut [0; 1]).map_err(|_| EngineError::NoEntropy)?;
        let port = RequestPort::new();
        let (links, ends) = links(shards, &config.limits);
        let (started, info, clock) = threads::start_shards(&config, ends)?;
        let parts = ClerkParts {
            limits: config.limits,
            times: config.times,
            entropy: Box::new(move |out| {
                // It worked above. Should it stop working, a panic ends the clerk: there must be no key without it.
                system.fill(out).expect("the system gives random bytes");
            }),
            calendar: Box::new(|_| {
                // A clock before 1970 makes every record look too far ahead, and each is then refused.
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
            }),
            port: port.clone(),
            shards: links,
        };
        let threads = threads::start_clerk(started, Clerk::new(parts), clock)?;
        Ok(Self(Arc::new(EngineInner {
            port,
            shards,
            limits: config.limits,
            times: config.times,
            info,
            threads: Some(threads),
            stopping: AtomicBool::new(false),
        })))
    }

    /// The engine of this process: started with the defaults by the first who asks, shared by all who hold it,
    /// stopped when nobody does.
    ///
    /// # Errors
    ///
    /// As [`Engine::start`].
    pub fn global() -> Result<Self, EngineError> {
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = global.upgrade() {
            return Ok(Self(inner));
        }
        let engine = Self::start(EngineConfig::default())?;
        *global = Arc::downgrade(&engine.0);
        Ok(engine)
    }

    /// An engine without threads: whoever calls this runs the turns of the clerk, and of `shards` shards made with
    /// the mailbox ends that come back. This is how the simulator runs everything on one thread.
    pub fn inline(
        shards: usize,
        limits: Limits,
        times: Times,
        entropy: Entropy,
        calendar: Calendar,
    ) -> (Self, Clerk, Vec<ShardEnds>) {
        let port = RequestPort::new();
        let (links, ends) = links(shards, &limits);
        let clerk =
            Clerk::new(ClerkParts { limits, times, entropy, calendar, port: port.clone(), shards: links });
        let inner = EngineInner {
            port,
            shards,
            limits,
            times,
            info: EngineInfo::default(),
            threads: None,
            stopping: AtomicBool::new(false),
        };
        (Self(Arc::new(inner)), clerk, ends)
    }

    /// What is running.
    pub fn info(&self) -> &EngineInfo {
        &self.0.info
    }

    /// How many shards there are; a node needs a socket for each.
    pub fn shards(&self) -> usize {
        self.0.shards
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// How long dropped handles let their streams drain.
    pub(crate) fn drain(&self) -> Duration {
        self.0.times.drain
    }

    /// Joins a network: binds the node's addresses and begins to look for peers.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; an address that is in use is named.
    pub fn join(&self, config: NodeConfig) -> Result<Node, JoinError> {
        let mut sockets = Vec::new();
        for address in config.bind_or_default() {
            let bound = bind_shards(address, self.0.shards)?;
            sockets.push(NodeSocket {
                address: bound.address,
                sockets: bound.sockets.into_iter().map(Socket::from).collect(),
                receive_buffer_bytes: bound.receive_buffer_bytes,
                send_buffer_bytes: bound.send_buffer_bytes,
            });
        }
        self.join_on(config, sockets)
    }

    /// As [`Engine::join`], on sockets that the caller has bound. `config.bind` is not looked at.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub fn join_on(&self, config: NodeConfig, sockets: Vec<NodeSocket>) -> Result<Node, JoinError> {
        use corewire_proto::membership::{MAX_ADDRESSES, MAX_TAGS, can_be_announced};
        let shards = self.0.shards;
        if let Some(odd) = sockets.iter().find(|socket| socket.sockets.len() != shards) {
            let given = odd.sockets.len();
            return Err(JoinError::Sockets { address: odd.address, given, shards });
        }
        let announced = node::announced(&config, &sockets);
        if let Some(&address) = announced.iter().find(|address| !can_be_announced(address)) {
            // No record with it could be signed: the node would be silent for ever.
            return Err(JoinError::Announce { address });
        }
        for (what, given, limit) in [
            ("addresses", announced.len(), MAX_ADDRESSES),
            ("tags", config.tags.len(), MAX_TAGS),
            ("bootstrap addresses", config.bootstrap.len(), self.0.limits.peers),
        ] {
            if given > limit {
                return Err(JoinError::TooMany { what, given, limit });
            }
        }
        let secret =
            config.network_secret.map(NetworkSecret::new).transpose().map_err(JoinError::WeakSecret)?;
        let seed = match config.identity_seed {
            Some(seed) => seed,
            None => {
                let mut seed = [0; 32];
                SystemRandom::new().fill(&mut seed).map_err(|_| JoinError::NoEntropy)?;
                seed
            }
        };
        let limit = self.0.limits.nodes;
        if !self.0.port.reserve_node(limit) {
            return Err(JoinError::TooMany { what: "engine's nodes", given: limit + 1, limit });
        }
        let identity = Identity::from_seed(&seed);
        let registry_key =
            config.use_registry.then(|| registry::key(&config.network_id, config.network_secret.as_ref()));
        let parts = NodeParts {
            id: NodeId(self.0.port.next_key()),
            peer_id: identity.peer_id(),
            port: self.0.port.clone(),
            limits: self.0.limits,
            registry_key,
            network_id: config.network_id,
            announced,
            settings: NodeSettings { tags: config.tags, tickets: config.tickets },
        };
        let shared = NodeShared::new(parts, &sockets);
        let request = JoinRequest {
            shared: shared.clone(),
            identity,
            secret,
            sockets,
            bootstrap: config.bootstrap,
            session: config.session,
        };
        if !self.0.port.send(ClerkRequest::Join(Box::new(request))) {
            return Err(JoinError::Stopped);
        }
        Ok(Node::new(shared, self.clone()))
    }

    /// Stops everything: nodes leave, streams drain for at most `drain`, threads end. Waits for that, and says
    /// whether it was done in time. Not from a thread of the engine.
    pub fn stop(&self, drain: Duration) -> bool {
        self.0.begin_stop(drain);
        self.0.threads.as_ref().is_none_or(|threads| threads.wait(drain))
    }
}

/// Mailboxes for `shards` shards: the clerk's ends and theirs.
fn links(shards: usize, limits: &Limits) -> (Vec<ShardLink>, Vec<ShardEnds>) {
    (0..shards)
        .map(|_| {
            let (commands, commanded) = mailbox(limits.mailbox);
            let (events, heard) = mailbox(limits.mailbox);
            (ShardLink { commands, events: heard }, (commanded, events))
        })
        .unzip()
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shards", &self.0.shards).finish_non_exhaustive()
    }
}
