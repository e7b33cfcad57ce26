//! The threads of an engine: one for each shard unless it is hosted, one for the clerk. Who runs the turns,
//! when a thread sleeps, and how all of them end.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, OnceLock, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread, ThreadId},
    time::{Duration, Instant as StdInstant},
};

use corewire_proto::time::Instant;
use corewire_rings::{contain, sync::Lock};

use crate::{
    affinity::{self, Cpus, UNPINNED_CPUS},
    clerk::Clerk,
    config::{EngineConfig, EngineError, EngineInfo, ShardInfo, ShardState},
    counters::{CounterSnapshot, ShardCounters},
    cpu_claim::{CpuClaim, claim_cpus},
    driver::{self, AnyDriver, Driver},
    hosting::{self, HostedShard},
    idle::Idler,
    shard::{
        Shard, ShardConfig,
        command::ShardEnds,
        host::{self, HostEnd},
    },
    shared::Next,
};

/// How much longer than the drain time the last handle waits for the threads. Closing the sessions takes
/// milliseconds; a thread that takes longer is stuck in a closure of the user's and is left running.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The drivers' clock, as the clerk's thread reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DriverClock {
    /// A reading of the drivers' clock, and one of the standard library's at the same moment.
    driver: Instant,
    here: StdInstant,
}

impl DriverClock {
    fn now(&self) -> Instant {
        self.driver + self.here.elapsed()
    }
}

/// Counts the threads that have not ended.
#[derive(Debug, Default)]
struct AliveCount(Lock<AliveThreads>);

/// See [`AliveCount`].
#[derive(Debug, Default)]
struct AliveThreads {
    count: usize,
    /// Called when the last one ends.
    waiting: Vec<Waker>,
}

impl AliveCount {
    /// Ready once all threads have ended.
    fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        let mut alive = self.0.lock();
        if alive.count == 0 {
            return Poll::Ready(());
        }
        alive.waiting.retain(|waker| !waker.will_wake(cx.waker()));
        alive.waiting.push(cx.waker().clone());
        Poll::Pending
    }
}

/// Counts one thread until it is dropped.
struct AliveGuard(Arc<AliveCount>);

impl AliveGuard {
    fn new(alive: &Arc<AliveCount>) -> Self {
        alive.0.lock().count += 1;
        Self(alive.clone())
    }
}

impl Drop for AliveGuard {
    fn drop(&mut self) {
        let mut alive = self.0.0.lock();
        alive.count -= 1;
        let waiting = if alive.count == 0 { mem::take(&mut alive.waiting) } else { Vec::new() };
        drop(alive);
        waiting.into_iter().for_each(|waker| _ = contain(|| waker.wake()));
    }
}

/// A shard on its thread, as other threads see it.
#[derive(Debug)]
struct RunningShard {
    /// As it was started; the state in it is replaced by what `end` says.
    info: ShardInfo,
    counters: Arc<ShardCounters>,
    /// Set by the shard's thread when its loop returns.
    end: Arc<OnceLock<HostEnd>>,
}

impl RunningShard {
    fn info(&self) -> ShardInfo {
        let state = match self.end.get() {
            None => ShardState::Running,
            Some(HostEnd::InOrder) => ShardState::Stopped,
            Some(HostEnd::Panicked(message)) => ShardState::Panicked { message: message.clone() },
            Some(HostEnd::DriverFailed(message)) => ShardState::DriverFailed { message: message.clone() },
        };
        ShardInfo { state, ..self.info.clone() }
    }
}

/// The threads of one engine.
#[derive(Debug)]
pub(crate) struct Threads {
    /// In the order of the shards' numbers.
    shards: Vec<RunningShard>,
    /// See [`EngineInfo::warnings`].
    warnings: Vec<String>,
    /// Of all threads, the clerk's too.
    ids: Vec<ThreadId>,
    /// Detached when dropped: [`Threads::wait`] waits for their end.
    _handles: Vec<JoinHandle<()>>,
    alive: Arc<AliveCount>,
}

impl Threads {
    /// The shards with their state now.
    pub(crate) fn info(&self) -> EngineInfo {
        EngineInfo {
            shards: self.shards.iter().map(RunningShard::info).collect(),
            warnings: self.warnings.clone(),
        }
    }

    /// The counters of each shard.
    pub(crate) fn counters(&self) -> Vec<CounterSnapshot> {
        self.shards.iter().map(|shard| shard.counters.snapshot()).collect()
    }

    /// Whether all threads have ended.
    pub(crate) fn have_ended(&self) -> bool {
        self.alive.0.lock().count == 0
    }

    /// Waits until all threads have ended, at most [`STOP_GRACE`] longer than `drain`; `false` when they have
    /// not. On a thread of the engine itself, whose end would be waited for, it returns at once.
    pub(crate) fn wait(&self, drain: Duration) -> bool {
        if self.ids.contains(&thread::current().id()) {
            return false;
        }
        hosting::wait_until(stop_deadline(drain), |cx| self.alive.poll_ended(cx)).is_some()
    }

    /// As [`Threads::wait`], for the thread that turns `shard`.
    pub(crate) fn wait_hosted(&self, shard: &Rc<HostedShard>, drain: Duration) -> bool {
        hosting::drive_until(shard, stop_deadline(drain), |cx| self.alive.poll_ended(cx)).is_some()
    }
}

/// Until when the last handle waits; a drain time beyond the clock's range is taken as a year.
fn stop_deadline(drain: Duration) -> StdInstant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    StdInstant::now() + drain.min(YEAR) + STOP_GRACE
}

/// Shards that run, before their clerk does.
pub(crate) struct StartedShards {
    shards: Vec<RunningShard>,
    handles: Vec<JoinHandle<()>>,
    alive: Arc<AliveCount>,
    /// The CPUs of the process that no shard of this engine is pinned to: the clerk's.
    floating: Vec<usize>,
    warnings: Vec<String>,
}

/// What a shard's thread reports once its driver is open, or could not be opened.
type StartReport = Result<(RunningShard, DriverClock), EngineError>;

/// Starts a thread for each shard and waits until every driver is open. When one fails, the others end too,
/// because the clerk's ends of their mailboxes are dropped.
pub(crate) fn start_shards(
    config: &EngineConfig,
    ends: Vec<ShardEnds>,
) -> Result<(StartedShards, DriverClock), EngineError> {
    let alive = Arc::new(AliveCount::default());
    let mut handles = Vec::new();
    let cpus = Cpus::detect();
    let count = ends.len();
    let can_pin = config.pin && cpus.can_pin(count);
    let mut claims = if can_pin { claim_cpus(&cpus, count) } else { Vec::new() }.into_iter();
    let cpus = Arc::new(cpus);
    let mut floating = cpus.allowed.clone();
    let (report, reports) = mpsc::channel::<StartReport>();
    for (shard, ends) in ends.into_iter().enumerate() {
        let shard = u8::try_from(shard).map_err(|_| EngineError::Shards(shard))?;
        let claim = claims.next();
        floating.retain(|cpu| claim.as_ref().is_none_or(|claim| claim.cpu != *cpu));
        let unpinned = if claim.is_none() { why_unpinned(config, &cpus, count) } else { None };
        let place = ShardPlace { claim, unpinned, cpus: cpus.clone() };
        let (config, report, alive) = (*config, report.clone(), AliveGuard::new(&alive));
        let handle = thread::Builder::new()
            .name(format!("corewire-{shard}"))
            .spawn(move || {
                let _alive = alive;
                run_shard(shard, &config, place, ends, &report);
            })
            .map_err(|source| EngineError::Thread { what: format!("shard {shard}"), source })?;
        handles.push(handle);
    }
    drop(report);
    let mut shards = Vec::new();
    let mut clock = DriverClock { driver: Instant::ZERO, here: StdInstant::now() };
    for outcome in reports.iter().take(handles.len()) {
        let (shard, its_clock) = outcome?;
        shards.push(shard);
        clock = its_clock;
    }
    if shards.len() < handles.len() {
        let source = std::io::Error::other("a shard's thread ended before its driver was open");
        return Err(EngineError::Thread { what: "a shard".into(), source });
    }
    shards.sort_by_key(|shard| shard.info.shard);
    Ok((StartedShards { shards, handles, alive, floating, warnings: cpus.warnings() }, clock))
}

/// Where a shard's thread is to run.
struct ShardPlace {
    /// The CPU to be pinned to.
    claim: Option<CpuClaim>,
    /// Why there is none although that was asked for.
    unpinned: Option<String>,
    /// What the process may use.
    cpus: Arc<Cpus>,
}

/// Why a shard of an engine with `count` gets no CPU of its own, if it was to have one.
fn why_unpinned(config: &EngineConfig, cpus: &Cpus, count: usize) -> Option<String> {
    let why = if !config.pin {
        return None;
    } else if cpus.allowed.len() <= UNPINNED_CPUS {
        "this process may use no more than two CPUs, which its other threads need".into()
    } else if !cpus.can_pin(count) {
        format!("{count} shards are more than the {} CPUs that this process may use at a time", cpus.usable())
    } else {
        "no CPU is free for this shard alone, here or in other processes; two stay for other threads".into()
    };
    Some(format!("{why}; it runs unpinned"))
}

fn run_shard(
    id: u8,
    config: &EngineConfig,
    place: ShardPlace,
    ends: ShardEnds,
    report: &mpsc::Sender<StartReport>,
) {
    let ShardPlace { claim, unpinned, cpus } = place;
    // Not the mask of the thread that has started the engine.
    affinity::spread(&cpus.allowed);
    // A shard that runs unpinned claims nothing: another may use that CPU.
    let (claim, unpinned) = match claim.map(|claim| affinity::pin(claim.cpu).map(|()| claim)) {
        Some(Ok(claim)) => (Some(claim), None),
        Some(Err(why)) => (None, Some(why.to_string())),
        None => (None, unpinned),
    };
    let cpu = claim.as_ref().map(|claim| claim.cpu);
    let opened = match open_shard(id, config, ends) {
        Ok(opened) => opened,
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
    let OpenedShard { shard, mut running, clock } = opened;
    running.info = ShardInfo { cpu, unpinned, ..running.info };
    let end = running.end.clone();
    if report.send(Ok((running, clock))).is_err() {
        return;
    }
    let _first = end.set(host::run(shard, Idler::new(config.idle, cpus.usable())));
}

/// A shard whose driver is open, on the thread that will turn it.
struct OpenedShard {
    shard: Shard<AnyDriver>,
    running: RunningShard,
    clock: DriverClock,
}

fn open_shard(id: u8, config: &EngineConfig, ends: ShardEnds) -> Result<OpenedShard, EngineError> {
    let opened = driver::open(config.io, &config.driver)
        .map_err(|source| EngineError::Driver { shard: id, source })?;
    let info = ShardInfo {
        shard: id,
        hosted: false,
        driver: opened.driver.kind(),
        fallback: opened.fallback,
        cpu: None,
        unpinned: None,
        state: ShardState::Running,
    };
    let clock = DriverClock { driver: opened.driver.now(), here: StdInstant::now() };
    let shard_config = ShardConfig { id, limits: config.shard_limits };
    let shard = Shard::new(opened.driver, shard_config, ends.commands, ends.events);
    let running = RunningShard { info, counters: shard.counters(), end: Arc::new(OnceLock::new()) };
    Ok(OpenedShard { shard, running, clock })
}

/// Opens the shard of a hosted engine on this thread.
pub(crate) fn host_shard(
    config: &EngineConfig,
    ends: ShardEnds,
) -> Result<(StartedShards, Rc<HostedShard>, DriverClock), EngineError> {
    let OpenedShard { shard, mut running, clock } = open_shard(0, config, ends)?;
    running.info.hosted = true;
    let cpus = Cpus::detect();
    let idler = Idler::new(config.idle, cpus.usable());
    let hosted = HostedShard::enter(shard, idler, running.end.clone())
        .map_err(|source| EngineError::Thread { what: "a hosted shard".into(), source })?;
    let started = StartedShards {
        shards: vec![running],
        handles: Vec::new(),
        alive: Arc::default(),
        // The hosting thread's one CPU is warm for it, so a single CPU is no defect of a hosted engine.
        warnings: Vec::new(),
        floating: cpus.allowed,
    };
    Ok((started, hosted, clock))
}

/// Starts the clerk's thread.
pub(crate) fn start_clerk(
    started: StartedShards,
    clerk: Clerk,
    clock: DriverClock,
) -> Result<Threads, EngineError> {
    let StartedShards { shards, mut handles, alive, floating, warnings } = started;
    let guard = AliveGuard::new(&alive);
    let handle = thread::Builder::new()
        .name("corewire-clerk".into())
        .spawn(move || {
            let _alive = guard;
            affinity::spread(&floating);
            run_clerk(clerk, clock);
        })
        .map_err(|source| EngineError::Thread { what: "the clerk".into(), source })?;
    handles.push(handle);
    let ids = handles.iter().map(|handle| handle.thread().id()).collect();
    Ok(Threads { shards, warnings, ids, _handles: handles, alive })
}

/// Unparks a thread.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

fn run_clerk(mut clerk: Clerk, clock: DriverClock) {
    let waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
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
        // A defect of the engine. All handles learn that the clerk is gone; the shards end with their
        // mailboxes.
        clerk.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::DriverKind;

    #[test]
    fn a_shard_that_is_not_pinned_has_the_reason() {
        let cpus = |allowed: usize, quota| Cpus { allowed: (0..allowed).collect(), quota };
        let why = |pin, cpus: Cpus, count| {
            why_unpinned(&EngineConfig { pin, ..EngineConfig::default() }, &cpus, count)
        };
        assert_eq!(why(false, cpus(1, None), 1), None);
        for (cpus, count, words) in [
            (cpus(2, None), 1, "two CPUs, which"),
            (cpus(3, None), 4, "4 shards are more than the 3 CPUs"),
            (cpus(8, Some(1.5)), 2, "2 shards are more than the 1 CPUs"),
            (cpus(3, None), 3, "other processes"),
        ] {
            assert!(why(true, cpus, count).is_some_and(|why| why.contains(words)), "{words}");
        }
    }

    #[test]
    fn the_end_of_a_shards_loop_is_its_state() {
        let info = ShardInfo {
            shard: 3,
            hosted: false,
            driver: DriverKind::Epoll,
            fallback: None,
            cpu: None,
            unpinned: None,
            state: ShardState::Running,
        };
        for (end, state) in [
            (None, ShardState::Running),
            (Some(HostEnd::InOrder), ShardState::Stopped),
            (Some(HostEnd::Panicked("why".into())), ShardState::Panicked { message: "why".into() }),
            (Some(HostEnd::DriverFailed("why".into())), ShardState::DriverFailed { message: "why".into() }),
        ] {
            let end = Arc::new(end.map_or_else(OnceLock::new, OnceLock::from));
            let shard = RunningShard { info: info.clone(), counters: Arc::default(), end };
            assert_eq!(shard.info().state, state);
        }
    }
}
