//! An engine whose shard lives on a thread of the application.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    os::fd::{AsFd, BorrowedFd},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    config::{EngineConfig, EngineError},
    engine::{Engine, WeakEngine},
    hosting::{self, HostSleep, HostedShard},
    shared::Next,
};

/// Turns that [`HostedRun`] takes in one poll before it lets other tasks run.
const TURNS_PER_POLL: usize = 16;

thread_local! {
    /// The engines hosted by this thread, the newest last.
    static ENGINES: RefCell<Vec<WeakEngine>> = const { RefCell::new(Vec::new()) };
}

/// When a hosted engine needs its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTurn {
    /// At once: there is more to do.
    Now,
    /// After this time, or earlier when the descriptor is readable. For a prepared sleep it is readable by
    /// then.
    Within(Duration),
    /// When the descriptor is readable.
    OnNews,
}

/// An engine whose shard is driven by the thread that started it: no shard thread, no hop between threads on
/// a datum's way. The clerk (the control thread), which does handshakes and calls predicates, has a thread of
/// its own; it sleeps while topology does not change.
///
/// # Driving it
///
/// Whatever the thread does, it has to give the shard its turns:
///
/// * **Blocking calls do it.** While the thread waits in a blocking form of the API (`recv_blocking`,
///   `recv_timeout`, `send_blocking`, `wait_blocking`, `block_on`, …) it turns the shard, and sleeps in the
///   shard's driver once there is nothing to do.
/// * [`block_on`](Self::block_on) runs a future and turns the shard between its polls.
/// * [`turn`](Self::turn) is for a loop that exists already; [`sleep`](Self::sleep), or
///   [`prepare_sleep`](Self::prepare_sleep) and the descriptor ([`AsFd`]), let that loop sleep.
/// * [`run`](Self::run) is a future for a single-threaded executor.
///
/// A send on this thread flushes the shard itself: the first datum after a turn of the thread's own
/// leaves before the send returns. What follows it before the next turn is packed together: after each
/// 256 datums (a quarter of a larger ring, up to 1,024) the send takes a turn, and so does one that finds
/// no room. So a loop that only sends keeps its streams going. Handles may be used from any other thread
/// too; then the datum waits for the shard's next turn.
///
/// # The contract
///
/// Between two turns nothing is received, acknowledged, resent or kept alive. A thread that does not turn for
/// the dead-peer time of its nodes (`with_dead_after`), 10 seconds by default, is dead for its peers: its
/// sessions end, and streams lose their place unless they resume. Long before that its peers wait, and repeat
/// what is not acknowledged. So do not block this thread by other means (joins, locks, file reads).
///
/// # Which mode
///
/// | | hosted | threads ([`Engine::start`]) |
/// |---|---|---|
/// | threads that run while datums flow | the application's own | one for each shard besides |
/// | hops of a datum between threads | none | one on each side |
/// | a thread that is busy elsewhere | stops its peers | does no harm |
/// | more than one core for one node | no | yes |
///
/// Host where latency counts, cores are few, or the application is one loop per core already. Take threads
/// for everything else. A process may do both, and have an engine on each of several threads.
///
/// A node that is built on this thread without an engine of its own runs on this engine. Dropping the handle
/// stops the engine as [`Engine::stop`] does, with [`Times::drain`](crate::Times::drain): nodes leave, what
/// was published drains, sessions are closed in order. The exit of the process does not wait for this engine,
/// because its thread is the application's: `std::process::exit` delivers nothing, so leave the network or
/// drop the handle before.
///
/// ```
/// # use corewire_engine::{EngineConfig, HostedEngine};
/// # use std::time::Duration;
/// let hosted = HostedEngine::start(EngineConfig::default())?;
/// assert_eq!(hosted.block_on(async { 7 }), 7);
/// hosted.turn();
/// hosted.sleep(Some(Duration::from_millis(1)));
/// assert!(hosted.engine().info().shards[0].hosted);
/// # Ok::<(), corewire_engine::EngineError>(())
/// ```
pub struct HostedEngine {
    engine: Engine,
    shard: Rc<HostedShard>,
}

impl HostedEngine {
    /// Starts an engine with one shard on this thread. `config.shards` is 0 or 1; `config.pin` does not
    /// count: the thread is the caller's. `config.idle` says how the blocking forms and the futures wait.
    ///
    /// # Errors
    ///
    /// [`EngineError`]; each text has the cure.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let (engine, shard) = Engine::start_hosted(config)?;
        let _ = ENGINES.try_with(|engines| {
            let mut engines = engines.borrow_mut();
            engines.retain(WeakEngine::is_running);
            engines.push(engine.downgrade());
        });
        Ok(Self { engine, shard })
    }

    /// The newest engine that this thread hosts and that was not stopped.
    pub fn here() -> Option<Engine> {
        let newest = |engines: &RefCell<Vec<WeakEngine>>| {
            let mut engines = engines.borrow_mut();
            engines.retain(WeakEngine::is_running);
            engines.last().and_then(WeakEngine::upgrade)
        };
        ENGINES.try_with(newest).ok().flatten()
    }

    /// The engine, to be passed to nodes. Its clones may go to other threads.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Does what there is to do, each kind of work up to a bound, and says when the next turn is due. Never
    /// sleeps. An idle turn takes about 0.2 µs.
    ///
    /// A loop may turn once per frame and ignore [`NextTurn::Now`]. Then each bound holds for a frame, and
    /// deadlines fire a frame late, or some 60 while each frame brings more datagrams than one turn takes.
    pub fn turn(&self) -> NextTurn {
        match self.shard.turn() {
            Next::Again => NextTurn::Now,
            Next::Until(at) => NextTurn::Within(at.saturating_since(self.shard.last_turn())),
            Next::Idle => NextTurn::OnNews,
        }
    }

    /// Sleeps until there is work for [`turn`](Self::turn), at most for `limit`. Returns at once if there is
    /// some already or the engine [is over](Self::is_over), and may return early.
    pub fn sleep(&self, limit: Option<Duration>) {
        self.shard.park(limit.map(|limit| self.shard.now() + limit));
    }

    /// For a loop that sleeps on several descriptors: arms everything that makes this one ([`AsFd`])
    /// readable, the time of the next turn included. Unless the answer is [`NextTurn::Now`], wait for it to
    /// become readable, which needs no timer; then take a turn. The example `host_own_loop` has such a loop.
    ///
    /// Once the engine [is over](Self::is_over) the answer stays `Now` and the descriptor tells nothing:
    /// leave it out of the wait.
    ///
    /// Anything else that turns the engine before that (a blocking call in a callback, another
    /// [`turn`](Self::turn)) ends this sleep and leaves the descriptor readable, so the loop comes round to
    /// its turn and prepares the next sleep.
    pub fn prepare_sleep(&self) -> NextTurn {
        match self.shard.prepare_sleep(None, None) {
            None => NextTurn::Now,
            Some(HostSleep { until: None, .. }) => NextTurn::OnNews,
            Some(HostSleep { until: Some(at), .. }) => {
                NextTurn::Within(at.saturating_since(self.shard.now()))
            }
        }
    }

    /// Runs `future` on this thread, and turns the shard between its polls. Sleeps in the shard's driver
    /// while both have nothing to do.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        hosting::wait(|cx| future.as_mut().poll(cx))
    }

    /// Whether the engine has stopped, or its shard has panicked or lost its driver: see
    /// [`Engine::info`]. Turns do nothing from then on.
    pub fn is_over(&self) -> bool {
        self.shard.is_over()
    }

    /// A future that turns the shard inside a single-threaded executor, until the engine has stopped.
    /// `reactor` tells how that executor waits for a descriptor; its choice decides what a sleep and a
    /// wake-up cost.
    ///
    /// Spawn it as a local task, or poll it beside the program's own future. The contract holds: a task that
    /// keeps the executor busy keeps the shard from its peers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no engine and loses nothing: from then on the shard takes no turns until it
    /// is given them another way, by a blocking call or another `run`.
    ///
    /// Two of them may exist at one time: they share each sleep, and the one that is woken takes the turn.
    /// Drop one that you no longer poll: what wakes it may be meant for both.
    pub fn run<R: Reactor>(&self, reactor: R) -> HostedRun<R> {
        HostedRun { shard: self.shard.clone(), reactor, task: self.shard.task(), sleep: 0 }
    }
}

/// How an executor waits for a hosted engine's descriptor.
pub trait Reactor {
    /// What was reported before belongs to the past: the shard takes a turn now. Called before each turn.
    fn clear(&mut self);

    /// Waits until the descriptor is readable. Pending registers the task; readiness that came since the last
    /// [`clear`](Self::clear) counts.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The engine's task yields: it is woken soon, after other tasks. At once by default, which is right
    /// where the executor gets to its own I/O although a task is ready.
    fn yield_now(&mut self, cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }
}

/// Turns a hosted engine; made by [`HostedEngine::run`].
#[must_use = "the engine is not driven unless the future is polled"]
pub struct HostedRun<R> {
    shard: Rc<HostedShard>,
    reactor: R,
    /// Its number among those of the shard.
    task: u64,
    /// The sleep that it has prepared or joined last; 0 before the first.
    sleep: u64,
}

impl<R: Reactor + Unpin> Future for HostedRun<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shard, reactor, task, sleep } = &mut *self;
        if !shard.end_sleep(*sleep, *task)
            && let Some(number) = shard.join_sleep(*task, cx.waker())
        {
            // A turn would end the other one's sleep, which would end this one's in the same way.
            *sleep = number;
            if reactor.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
            shard.end_sleep(*sleep, *task);
        }
        for _ in 0..TURNS_PER_POLL {
            reactor.clear();
            let next = shard.turn();
            if shard.is_over() {
                shard.rest();
                return Poll::Ready(());
            }
            if next == Next::Again {
                shard.worked();
                continue;
            }
            if shard.idle(shard.last_turn()).stays_awake() {
                break;
            }
            let Some(prepared) = shard.prepare_sleep(None, Some((*task, cx.waker()))) else { continue };
            *sleep = prepared.number;
            if reactor.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
            shard.end_sleep(*sleep, *task);
        }
        reactor.yield_now(cx);
        Poll::Pending
    }
}

impl<R> Drop for HostedRun<R> {
    fn drop(&mut self) {
        // The waker of a task that is gone stays armed nowhere, and others may spin.
        if self.sleep > 0 {
            self.shard.give_up_sleep(self.sleep, self.task);
        }
        self.shard.rest();
    }
}

impl AsFd for HostedEngine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shard.as_fd()
    }
}

impl Drop for HostedEngine {
    fn drop(&mut self) {
        self.engine.stop_hosted(&self.shard);
        self.shard.leave();
    }
}

impl fmt::Debug for HostedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedEngine")
            .field("engine", &self.engine)
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::idle::{Idle, tests::YIELDS};

    struct Unready;

    impl Reactor for Unready {
        fn clear(&mut self) {}

        fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    #[test]
    fn a_run_that_waits_without_a_permit_lets_other_threads_run() {
        let yields = Idle::Adaptive { spin: Duration::ZERO, yielding: Duration::MAX };
        let hosted = HostedEngine::start(EngineConfig { idle: yields, ..EngineConfig::default() });
        let hosted = hosted.expect("an engine");
        let mut run = hosted.run(Unready);
        // The first turns have work.
        let before = YIELDS.get();
        for _ in 0..100 {
            assert!(pin!(&mut run).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(YIELDS.get() >= before + 50, "{} yields of 100 polls", YIELDS.get() - before);
    }

    #[test]
    fn a_thread_keeps_no_engine_that_has_ended_and_at_most_one_trace_of_them() {
        for _ in 0..3 {
            drop(HostedEngine::start(EngineConfig::default()).expect("an engine"));
        }
        assert!(ENGINES.with_borrow(Vec::len) <= 1);
    }

    #[test]
    fn a_run_that_is_over_or_dropped_lets_others_spin() {
        for stops in [true, false] {
            let config = EngineConfig { idle: Idle::Spin, ..EngineConfig::default() };
            let hosted = HostedEngine::start(config).expect("an engine");
            let mut run = hosted.run(Unready);
            let mut poll = || pin!(&mut run).poll(&mut Context::from_waker(Waker::noop()));
            // Other tests may have the permits; there is none on a host with one CPU.
            for _ in 0..1_000 {
                if hosted.shard.may_spin() {
                    break;
                }
                assert!(poll().is_pending());
            }
            if stops {
                assert!(hosted.engine().stop(Duration::ZERO));
                assert!(poll().is_ready());
            } else {
                drop(run);
            }
            assert!(!hosted.shard.may_spin());
        }
    }
}
