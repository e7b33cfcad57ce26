//! The handle of an engine: it starts shards and clerk, keeps them running, and stops them in order.

use std::{
    fmt,
    rc::Rc,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use corewire_rings::{
    mailbox::mailbox,
    sync::{AtomicFlag, Lock},
};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    beacon::Beacons,
    clerk::{Calendar, Clerk, ClerkParts, Entropy, ShardLink},
    config::{EngineConfig, EngineError, EngineInfo, MAX_SHARDS},
    counters::CounterSnapshot,
    exit,
    hosting::HostedShard,
    shard::command::ShardEnds,
    shared::{
        limits::{Limits, Times},
        port::{ClerkRequest, RequestPort},
    },
    threads::{self, DriverClock, StartedShards, Threads},
};

/// What all handles of an engine share. Its drop stops the engine.
pub(crate) struct EngineInner {
    port: Arc<RequestPort>,
    shards: usize,
    limits: Limits,
    times: Times,
    /// `None` when the caller of [`Engine::inline`] runs the turns.
    threads: Option<Arc<Threads>>,
    stopping: AtomicFlag,
}

impl EngineInner {
    /// Begins the shutdown, once.
    fn begin_stop(&self, drain: Duration) {
        if !self.stopping.set(true) {
            self.port.send(ClerkRequest::Shutdown { drain });
        }
    }
}

impl Drop for EngineInner {
    fn drop(&mut self) {
        self.begin_stop(self.times.drain);
    }
}

/// A running engine. Clones are handles of the same one; nodes hold one too. When the last is dropped,
/// everything is ended in order: nodes leave, what was published drains (at most [`Times::drain`]), sessions
/// are closed, the threads stop. That goes on in the background, and the exit of the process waits for it,
/// except for the engine of a [`HostedEngine`](crate::HostedEngine); [`Engine::stop`] waits at once.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

/// See [`Engine::downgrade`].
pub(crate) struct WeakEngine(Weak<EngineInner>);

impl WeakEngine {
    pub(crate) fn is_running(&self) -> bool {
        self.0.upgrade().is_some_and(|inner| !inner.stopping.get())
    }

    pub(crate) fn upgrade(&self) -> Option<Engine> {
        self.0.upgrade().map(Engine)
    }
}

/// The engine that [`Engine::global`] gives, while a handle of it exists.
static GLOBAL: Lock<Weak<EngineInner>> = Lock::new(Weak::new());

impl Engine {
    /// Starts the shards and the clerk.
    ///
    /// # Errors
    ///
    /// [`EngineError`]; each text has the cure.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let shards = config.shards_or_chosen();
        if shards > MAX_SHARDS {
            return Err(EngineError::Shards(shards));
        }
        let (links, ends) = links(shards, &config.limits);
        let (started, clock) = threads::start_shards(&config, ends)?;
        Self::with_clerk(&config, links, started, clock)
    }

    /// As [`Engine::start`], with one shard that the caller's thread has to turn.
    pub(crate) fn start_hosted(config: EngineConfig) -> Result<(Self, Rc<HostedShard>), EngineError> {
        if config.shards > 1 {
            return Err(EngineError::HostedShards(config.shards));
        }
        let config = EngineConfig { io: config.io.hosted(), ..config };
        let (links, mut ends) = links(1, &config.limits);
        let ends = ends.pop().expect("ends for the one shard");
        let (started, shard, clock) = threads::host_shard(&config, ends)?;
        match Self::with_clerk(&config, links, started, clock) {
            Ok(engine) => Ok((engine, shard)),
            Err(error) => {
                shard.leave();
                Err(error)
            }
        }
    }

    /// Starts the clerk of shards that run.
    fn with_clerk(
        config: &EngineConfig,
        links: Vec<ShardLink>,
        started: StartedShards,
        clock: DriverClock,
    ) -> Result<Self, EngineError> {
        let system = SystemRandom::new();
        system.fill(&mut [0; 1]).map_err(|_| EngineError::NoEntropy)?;
        let port = RequestPort::new();
        let shards = links.len();
        let parts = ClerkParts {
            limits: config.limits,
            times: config.times,
            entropy: Box::new(move |out| {
                // It worked above. If it stops working, the panic ends the clerk: there must be no key
                // without it.
                system.fill(out).expect("the system gives random bytes");
            }),
            calendar: Box::new(|_| {
                // A clock before 1970 makes every record look too far ahead, and each is then refused.
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
            }),
            port: port.clone(),
            shards: links,
            beacons: Beacons::on_demand(),
        };
        let threads = Arc::new(threads::start_clerk(started, Clerk::new(parts), clock)?);
        // A hosted shard is turned by a thread of the application, which is gone when the process exits.
        if !threads.info().shards.iter().any(|shard| shard.hosted) {
            exit::watch(&port, &threads, config.times.drain);
        }
        Ok(Self(Arc::new(EngineInner {
            port,
            shards,
            limits: config.limits,
            times: config.times,
            threads: Some(threads),
            stopping: AtomicFlag::default(),
        })))
    }

    /// The engine of this process: started with the defaults by the first call, shared by all who hold it,
    /// stopped when the last handle is dropped.
    ///
    /// # Errors
    ///
    /// As [`Engine::start`].
    pub fn global() -> Result<Self, EngineError> {
        let mut global = GLOBAL.lock();
        if let Some(inner) = global.upgrade() {
            return Ok(Self(inner));
        }
        let engine = Self::start(EngineConfig::default())?;
        *global = Arc::downgrade(&engine.0);
        Ok(engine)
    }

    /// An engine without threads, for [`internals::inline_engine`](crate::internals::inline_engine).
    pub(crate) fn inline(
        shards: usize,
        limits: Limits,
        times: Times,
        entropy: Entropy,
        calendar: Calendar,
    ) -> (Self, Clerk, Vec<ShardEnds>) {
        let port = RequestPort::new();
        let (links, ends) = links(shards, &limits);
        let clerk = Clerk::new(ClerkParts {
            limits,
            times,
            entropy,
            calendar,
            port: port.clone(),
            shards: links,
            beacons: Beacons::none(),
        });
        let inner =
            EngineInner { port, shards, limits, times, threads: None, stopping: AtomicFlag::default() };
        (Self(Arc::new(inner)), clerk, ends)
    }

    /// What the engine runs on: for each shard its driver, its CPU and whether it runs now.
    pub fn info(&self) -> EngineInfo {
        self.0.threads.as_ref().map_or_else(EngineInfo::default, |threads| threads.info())
    }

    /// What each shard has counted so far, in the order of their numbers. A reading costs a load per counter
    /// and disturbs no shard; values of one shard are read one after the other, not at one moment. They stay
    /// readable after a shard's end.
    ///
    /// ```
    /// # use corewire_engine::{Engine, EngineConfig};
    /// let engine = Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() })?;
    /// for (shard, counters) in engine.counters().iter().enumerate() {
    ///     for (counter, value) in counters.iter() {
    ///         println!("shard {shard}: {} = {value} {}", counter.label, counter.unit);
    ///     }
    /// }
    /// # Ok::<(), corewire_engine::EngineError>(())
    /// ```
    pub fn counters(&self) -> Vec<CounterSnapshot> {
        self.0.threads.as_ref().map_or_else(Vec::new, |threads| threads.counters())
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.0.shards
    }

    /// Stops everything: nodes leave, streams drain for at most `drain`, threads end. Waits for that; `false`
    /// when it was not done in time, and at once on a thread of the engine itself, which can't wait for its
    /// own end.
    pub fn stop(&self, drain: Duration) -> bool {
        self.0.begin_stop(drain);
        self.0.threads.as_ref().is_none_or(|threads| threads.wait(drain))
    }

    /// As [`Engine::stop`] with the configured time, on the thread that hosts `shard`, which it turns
    /// meanwhile.
    pub(crate) fn stop_hosted(&self, shard: &Rc<HostedShard>) {
        let drain = self.0.times.drain;
        self.0.begin_stop(drain);
        if let Some(threads) = &self.0.threads {
            threads.wait_hosted(shard, drain);
        }
    }

    /// A handle that does not keep the engine running.
    pub(crate) fn downgrade(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.0))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn times(&self) -> &Times {
        &self.0.times
    }

    pub(crate) fn port(&self) -> &Arc<RequestPort> {
        &self.0.port
    }
}

/// Mailboxes for `shards` shards: the clerk's ends and theirs.
fn links(shards: usize, limits: &Limits) -> (Vec<ShardLink>, Vec<ShardEnds>) {
    (0..shards)
        .map(|_| {
            let (commands, commanded) = mailbox(limits.mailbox);
            let (events, heard) = mailbox(limits.mailbox);
            (ShardLink { commands, events: heard }, ShardEnds { commands: commanded, events })
        })
        .unzip()
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shards", &self.0.shards).finish_non_exhaustive()
    }
}
