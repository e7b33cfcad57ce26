//! The threads of an engine: one for each shard, one for the clerk.
//!
//! Not inside: what happens in a turn. Here is who runs the turns, when a thread sleeps, and how all of them end.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    task::{Context, Wake, Waker},
    thread::{self, JoinHandle, Thread, ThreadId},
    time::{Duration, Instant as StdInstant},
};

use corewire_proto::time::Instant;

use crate::{
    affinity::{self, Cpus},
    clerk::Clerk,
    driver::{self, Driver},
    engine::{EngineConfig, EngineError, EngineInfo, ShardEnds, ShardInfo},
    idle::Idler,
    shard::{Shard, ShardConfig, host},
    shared::Next,
};

/// How much longer than the drain time the last handle waits for the threads. Closing the sessions takes a
/// moment; a thread that takes longer is stuck in a closure of the user's and is left behind.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The drivers' clock, as the clerk's thread reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    driver: Instant,
    here: StdInstant,
}

impl Clock {
    fn now(&self) -> Instant {
        self.driver + self.here.elapsed()
    }
}

/// Counts threads that have not ended, and wakes who waits for that.
#[derive(Debug, Default)]
struct Alive {
    count: Mutex<usize>,
    changed: Condvar,
}

struct Living(Arc<Alive>);

impl Living {
    fn new(alive: &Arc<Alive>) -> Self {
        *alive.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(alive.clone())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.changed.notify_all();
    }
}

/// The CPUs that shards of this process are pinned to.
static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// A CPU that no other shard of this process is pinned to. Free again when dropped.
struct OwnCpu(usize);

impl OwnCpu {
    fn take(cpu: usize) -> Option<Self> {
        // Made only if it is ours, and without the lock: dropping one takes the lock, and frees the CPU.
        let free = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(cpu);
        free.then(|| Self(cpu))
    }
}

impl Drop for OwnCpu {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A CPU for each of `shards`, as long as there are some that no other engine of this process has.
fn own_cpus(cpus: &Cpus, shards: usize) -> Vec<Option<OwnCpu>> {
    let pins = cpus.placement(shards).iter().all(Option::is_some);
    // Beyond those that are wanted come the others that are allowed, the last ones first as well.
    let mut free = cpus.allowed.iter().rev().filter(|_| pins).filter_map(|cpu| OwnCpu::take(*cpu));
    (0..shards).map(|_| free.next()).collect()
}

/// The threads of one engine.
#[derive(Debug)]
pub(crate) struct Threads {
    ids: Vec<ThreadId>,
    /// Detached when dropped: whoever wants to be sure has waited before.
    _handles: Vec<JoinHandle<()>>,
    alive: Arc<Alive>,
}

impl Threads {
    /// Waits until all threads have ended, a little longer than `drain`. On a thread of the engine itself, where
    /// that would never happen, it returns at once.
    pub(crate) fn wait(&self, drain: Duration) -> bool {
        if self.ids.contains(&thread::current().id()) {
            return false;
        }
        let count = self.alive.count.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = drain.saturating_add(STOP_GRACE);
        let waited = self.alive.changed.wait_timeout_while(count, limit, |count| *count > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// Shard threads that run, before their clerk does.
pub(crate) struct Started {
    handles: Vec<JoinHandle<()>>,
    alive: Arc<Alive>,
}

type Ready = Result<(ShardInfo, Clock), EngineError>;

/// Starts a thread for each shard and waits until every driver is open. When one fails, the others end by
/// themselves, because nobody holds the other ends of their mailboxes any more.
pub(crate) fn start_shards(
    config: &EngineConfig,
    ends: Vec<ShardEnds>,
) -> Result<(Started, EngineInfo, Clock), EngineError> {
    let alive = Arc::new(Alive::default());
    let mut handles = Vec::new();
    let cpus = Cpus::detect();
    let usable = cpus.usable();
    let mut places = if config.pin { own_cpus(&cpus, ends.len()) } else { Vec::new() }.into_iter();
    let (ready, readies) = mpsc::channel::<Ready>();
    for (shard, ends) in ends.into_iter().enumerate() {
        let shard = u8::try_from(shard).map_err(|_| EngineError::Shards(shard))?;
        let cpu = places.next().flatten();
        let (config, ready, living) = (*config, ready.clone(), Living::new(&alive));
        let handle = thread::Builder::new()
            .name(format!("corewire-{shard}"))
            .spawn(move || {
                let _living = living;
                run_shard(shard, &config, (cpu, usable), ends, &ready);
            })
            .map_err(|source| EngineError::Thread { what: format!("shard {shard}"), source })?;
        handles.push(handle);
    }
    drop(ready);
    let mut info = EngineInfo::default();
    let mut clock = Clock { driver: Instant::ZERO, here: StdInstant::now() };
    for outcome in readies.iter().take(handles.len()) {
        let (shard, its_clock) = outcome?;
        info.shards.push(shard);
        clock = its_clock;
    }
    if info.shards.len() < handles.len() {
        let source = std::io::Error::other("a shard's thread ended before its driver was open");
        return Err(EngineError::Thread { what: "a shard".into(), source });
    }
    info.shards.sort_by_key(|shard| shard.shard);
    Ok((Started { handles, alive }, info, clock))
}

/// Where a shard runs: on which CPU, and how many the process has.
type Place = (Option<OwnCpu>, usize);

fn run_shard(
    id: u8,
    config: &EngineConfig,
    (own, cpus): Place,
    ends: ShardEnds,
    ready: &mpsc::Sender<Ready>,
) {
    let (cpu, unpinned) = match &own {
        None if config.pin => {
            (None, Some("no CPU of its own is free for this shard; it runs unpinned".into()))
        }
        None => (None, None),
        Some(own) => match affinity::pin(own.0) {
            Ok(()) => (Some(own.0), None),
            Err(why) => (None, Some(why.to_string())),
        },
    };
    let opened = match driver::open(config.io, &config.driver) {
        Ok(opened) => opened,
        Err(source) => {
            let _ = ready.send(Err(EngineError::Driver { shard: id, source }));
            return;
        }
    };
    let info =
        ShardInfo { shard: id, driver: opened.driver.kind(), fallback: opened.fallback, cpu, unpinned };
    let clock = Clock { driver: opened.driver.now(), here: StdInstant::now() };
    if ready.send(Ok((info, clock))).is_err() {
        return;
    }
    let shard_config = ShardConfig { id, limits: config.shard_limits };
    let shard = Shard::new(opened.driver, shard_config, ends.0, ends.1);
    // A panic in a turn has been reported to the clerk.
    let _ended = host::run(shard, Idler::new(config.idle, cpus));
}

/// Starts the clerk's thread.
pub(crate) fn start_clerk(started: Started, clerk: Clerk, clock: Clock) -> Result<Threads, EngineError> {
    let Started { mut handles, alive } = started;
    let living = Living::new(&alive);
    let handle = thread::Builder::new()
        .name("corewire-clerk".into())
        .spawn(move || {
            let _living = living;
            run_clerk(clerk, clock);
        })
        .map_err(|source| EngineError::Thread { what: "the clerk".into(), source })?;
    handles.push(handle);
    let ids = handles.iter().map(|handle| handle.thread().id()).collect();
    Ok(Threads { ids, _handles: handles, alive })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

fn run_clerk(mut clerk: Clerk, clock: Clock) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        while !clerk.is_stopped() {
            let until = match clerk.turn(clock.now()) {
                Next::Again => continue,
                Next::Until(until) => Some(until),
                Next::Idle => None,
            };
            if clerk.is_stopped() || !clerk.arm(&mut Context::from_waker(&waker)) {
                continue;
            }
            match until {
                Some(until) => thread::park_timeout(until.saturating_since(clock.now())),
                None => thread::park(),
            }
        }
    }));
    if outcome.is_err() {
        // A defect of ours. Everybody who waits for the clerk learns that it is gone; the shards end by themselves
        // when their mailboxes are.
        clerk.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::OwnCpu;

    #[test]
    fn a_cpu_that_is_taken_is_neither_given_twice_nor_freed_by_asking() {
        const NOWHERE: usize = usize::MAX;
        let first = OwnCpu::take(NOWHERE);
        assert!(first.is_some());
        assert!(OwnCpu::take(NOWHERE).is_none());
        assert!(OwnCpu::take(NOWHERE).is_none(), "it was not freed by asking");
        drop(first);
        assert!(OwnCpu::take(NOWHERE).is_some());
    }
}
