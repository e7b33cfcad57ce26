//! Shards that a thread of the application owns, and how that thread waits.
//!
//! A thread with hosted shards turns them whenever it would park ([`wait`], [`wait_until`]), and sleeps in
//! their drivers once nothing is to be done. A thread without one parks. Every blocking form of the typed
//! layer waits here.
//!
//! Not inside: the engine's handle, which is `hosted`'s, and executors that turn a shard in a task. The tasks
//! that sleep are in `tasks`, the waker of a blocking form is in `parker`.

use std::{
    cell::{Cell, RefCell},
    ops::RangeInclusive,
    os::fd::{AsFd, BorrowedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant as StdInstant},
};

use corewire_proto::time::Instant;
use corewire_rings::{drop_contained, park};

use self::{
    parker::{HostParker, HostParkerLoan},
    tasks::HostTasks,
};
use crate::{
    affinity,
    driver::{AnyDriver, Driver, HostDescriptor, Sleep, wait_readable},
    idle::{self, Idler, SpinPermit, Wait},
    shard::{
        Shard,
        host::{self, HostEnd},
    },
    shared::Next,
};

mod parker;
mod tasks;

/// The shards of one thread.
type ShardsHere = Rc<[Rc<HostedShard>]>;

thread_local! {
    /// How many there are in `HERE`.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Datums until shards flush: the check that each send makes. 0 on a thread that has no shards.
    static DATUMS_LEFT: Cell<usize> = const { Cell::new(0) };
    /// Shards have flushed since the thread's last turn.
    static IN_BURST: Cell<bool> = const { Cell::new(false) };
    /// How often `HERE` has changed.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    static HERE: RefCell<Option<ShardsHere>> = const { RefCell::new(None) };
}

/// What is armed to end a shard's sleep.
enum Sleeper {
    /// The shard is awake.
    Awake,
    /// The driver's own waker, which shows in the descriptor.
    Descriptor,
    /// The waker of a task that turns the shard.
    Task,
}

/// A sleep that a caller has prepared.
pub(crate) struct HostSleep {
    /// Names it to [`HostedShard::end_sleep`].
    pub(crate) number: u64,
    /// When the shard has to take its next turn.
    pub(crate) until: Option<Instant>,
}

/// A shard on the thread that made it.
pub(crate) struct HostedShard {
    /// Readable until the first sleep outside of the driver, when something has happened or come due that
    /// ends such a sleep, and after a sleep of [`Sleeper::Descriptor`] has ended. A task that sleeps is
    /// called for the rest.
    descriptor: HostDescriptor,
    /// Borrowed during a turn only.
    shard: RefCell<Shard<AnyDriver>>,
    idler: RefCell<Idler>,
    /// Ends any sleep of the driver.
    alarm: Waker,
    /// Set when the shard has stopped or panicked, or its driver has failed.
    end: Arc<OnceLock<HostEnd>>,
    sleeper: RefCell<Sleeper>,
    /// Those that sleep with the shard. Another caller's turn wakes them.
    tasks: HostTasks,
    /// Sleeps that were prepared: the number of the last one.
    sleeps: Cell<u64>,
    /// The waker of this thread's blocking forms. Kept between them, so that waiting does not allocate; empty
    /// while in use.
    parker: Cell<Option<HostParker>>,
}

impl HostedShard {
    /// Takes the shard over for this thread, until [`HostedShard::leave`].
    pub(crate) fn enter(
        mut shard: Shard<AnyDriver>,
        idler: Idler,
        end: Arc<OnceLock<HostEnd>>,
    ) -> std::io::Result<Rc<Self>> {
        let descriptor = HostDescriptor::new(shard.readiness()?)?;
        let hosted = Rc::new(Self {
            descriptor,
            alarm: shard.driver().waker(),
            shard: RefCell::new(shard),
            idler: RefCell::new(idler),
            end,
            sleeper: RefCell::new(Sleeper::Awake),
            tasks: HostTasks::default(),
            sleeps: Cell::new(0),
            parker: Cell::new(None),
        });
        let entered = hosted.clone();
        change_here(|here| here.push(entered));
        Ok(hosted)
    }

    /// From now on the thread's waits do not turn this shard.
    pub(crate) fn leave(&self) {
        change_here(|here| here.retain(|one| !std::ptr::eq(&raw const **one, self)));
    }

    /// One turn. `Idle` when the shard is over, or in a turn already (a waker that it called got here).
    pub(crate) fn turn(&self) -> Next {
        let Ok(mut shard) = self.shard.try_borrow_mut() else { return Next::Idle };
        if self.is_over() {
            return Next::Idle;
        }
        self.wake_up(&mut shard);
        let next = self.contained(&mut shard, Shard::turn).unwrap_or(Next::Idle);
        DATUMS_LEFT.set(1);
        IN_BURST.set(false);
        next
    }

    /// Sends what rings got since the last turn; in a burst by a turn. Returns the datums of the largest of
    /// these rings.
    fn flush(&self, in_burst: bool) -> usize {
        if self.is_over() {
            return 0;
        }
        if !in_burst && matches!(&*self.sleeper.borrow(), Sleeper::Descriptor) {
            // The commit has made the descriptor readable, so that a turn follows.
            return 0;
        }
        if in_burst {
            self.turn();
        }
        let Ok(mut shard) = self.shard.try_borrow_mut() else { return 0 };
        if !in_burst {
            self.wake_up(&mut shard);
            self.contained(&mut shard, Shard::flush);
        }
        shard.largest_ring()
    }

    /// Arms everything that ends a sleep: it calls `task` (see [`task`](Self::task)), or makes the descriptor
    /// readable, as do a datagram and the time in any case. `None`: there is work, or the shard is over.
    pub(crate) fn prepare_sleep(
        &self,
        until: Option<Instant>,
        task: Option<(u64, &Waker)>,
    ) -> Option<HostSleep> {
        let mut shard = self.shard.try_borrow_mut().ok()?;
        self.wake_up(&mut shard);
        if self.is_over() {
            return None;
        }
        let waker = task.map_or(&self.alarm, |(_, waker)| waker);
        let prepared = self.contained(&mut shard, |shard| shard.prepare_sleep(until, waker))?;
        let Sleep::Until(until) = prepared else { return None };
        if let Err(error) = self.descriptor.wake_at(until) {
            self.contained(&mut shard, Shard::end_sleep);
            self.contained(&mut shard, |shard| shard.fail(&error));
            return None;
        }
        if let Some((task, waker)) = task {
            self.tasks.add(task, waker);
        }
        *self.sleeper.borrow_mut() = if task.is_some() { Sleeper::Task } else { Sleeper::Descriptor };
        self.sleeps.set(self.sleeps.get() + 1);
        Some(HostSleep { number: self.sleeps.get(), until })
    }

    /// A number for a task that will turn this shard.
    pub(crate) fn task(&self) -> u64 {
        self.tasks.number()
    }

    /// `task` sleeps too, if another caller's sleep is armed, whose number is given. It hears of the
    /// descriptor by its own means, and is woken when the other one takes a turn.
    pub(crate) fn join_sleep(&self, task: u64, waker: &Waker) -> Option<u64> {
        if self.is_over() || matches!(*self.sleeper.borrow(), Sleeper::Awake) {
            return None;
        }
        self.tasks.add(task, waker);
        Some(self.sleeps.get())
    }

    /// Sleeps in the driver, unless there is work or the shard is over.
    pub(crate) fn park(&self, until: Option<Instant>) {
        let Ok(mut shard) = self.shard.try_borrow_mut() else { return };
        self.wake_up(&mut shard);
        if self.is_over() {
            return;
        }
        self.contained(&mut shard, |shard| shard.park(until));
    }

    /// A sleeper (`task`, or 0) ends the sleep with this number; `false` if it has ended already.
    pub(crate) fn end_sleep(&self, number: u64, task: u64) -> bool {
        let Ok(mut shard) = self.shard.try_borrow_mut() else { return false };
        if self.sleeps.get() != number || matches!(*self.sleeper.borrow(), Sleeper::Awake) {
            return false;
        }
        self.end_any_sleep(&mut shard, task);
        true
    }

    /// As [`end_sleep`](Self::end_sleep) for a task that will take no turn: the descriptor tells the host.
    pub(crate) fn give_up_sleep(&self, number: u64, task: u64) {
        self.end_sleep(number, task);
        // A refusal ends the shard when it comes again.
        let _ = self.descriptor.wake_now();
    }

    /// Ends a sleep that may be another caller's: that one comes round to its turn, and arms again what ends
    /// its sleep.
    fn wake_up(&self, shard: &mut Shard<AnyDriver>) {
        self.end_any_sleep(shard, 0);
    }

    /// Ends a sleep, if one was prepared, and wakes the tasks in it but `ending`. A host that waits for the
    /// descriptor finds it readable.
    fn end_any_sleep(&self, shard: &mut Shard<AnyDriver>, ending: u64) {
        let sleeper = self.sleeper.replace(Sleeper::Awake);
        if !matches!(sleeper, Sleeper::Awake) {
            self.contained(shard, Shard::end_sleep);
        }
        if matches!(sleeper, Sleeper::Descriptor)
            && let Err(error) = self.descriptor.wake_now()
        {
            self.contained(shard, |shard| shard.fail(&error));
        }
        self.tasks.wake_all_but(ending);
    }

    /// Runs a part of a turn, and notes when the shard has stopped. A panic ends it, as it does on a thread
    /// of the engine's.
    fn contained<T>(
        &self,
        shard: &mut Shard<AnyDriver>,
        act: impl FnOnce(&mut Shard<AnyDriver>) -> T,
    ) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| act(shard))) {
            Ok(done) => {
                if let Some(end) = shard.end() {
                    let _first = self.end.set(end);
                    shard.close_events();
                }
                Some(done)
            }
            Err(payload) => {
                let _first = self.end.set(host::end_after_panic(shard, payload.as_ref()));
                shard.close_events();
                drop_contained(payload);
                None
            }
        }
    }

    /// Whether the shard is over: see `end`. Then its turns do nothing.
    pub(crate) fn is_over(&self) -> bool {
        self.end.get().is_some()
    }

    /// The driver's clock at the start of the last turn.
    pub(crate) fn last_turn(&self) -> Instant {
        self.shard.try_borrow().map_or(Instant::ZERO, |shard| shard.now())
    }

    /// The driver's clock.
    pub(crate) fn now(&self) -> Instant {
        self.shard.try_borrow().map_or(Instant::ZERO, |shard| shard.driver().now())
    }

    /// What a turn without work at `now` is followed by.
    pub(crate) fn idle(&self, now: Instant) -> Wait {
        self.idler.borrow_mut().wait(now)
    }

    /// There was work: waiting begins anew. Lets other threads run now and then.
    pub(crate) fn worked(&self) {
        let yields = self.idler.borrow_mut().worked(self.last_turn());
        if yields {
            idle::yield_now();
        }
    }

    /// The thread turns to something else.
    pub(crate) fn rest(&self) {
        self.idler.borrow_mut().rest();
    }

    /// Whether the shard holds a permit to spin.
    #[cfg(test)]
    pub(crate) fn may_spin(&self) -> bool {
        self.idler.borrow().may_spin()
    }

    fn in_turn(&self) -> bool {
        self.shard.try_borrow_mut().is_err()
    }
}

/// See [`HostedShard::prepare_sleep`].
impl AsFd for HostedShard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn change_here(change: impl FnOnce(&mut Vec<Rc<HostedShard>>)) {
    // At the thread's end there is no storage any more, and no wait that would need it.
    let _ = HERE.try_with(|here| {
        let mut list = here.borrow().as_deref().map_or_else(Vec::new, <[_]>::to_vec);
        change(&mut list);
        COUNT.set(list.len());
        DATUMS_LEFT.set(usize::from(!list.is_empty()));
        CHANGES.set(CHANGES.get() + 1);
        // Dropped without the borrow, although no shard is: its handle has another reference.
        let before = here.replace((!list.is_empty()).then(|| list.into()));
        drop(before);
    });
}

fn here() -> Option<ShardsHere> {
    if COUNT.get() == 0 {
        return None;
    }
    HERE.try_with(|here| here.borrow().clone()).ok().flatten()
}

/// Least and most datums between two flushes of a thread that takes no turns. A burst is packed instead of
/// being sent datum by datum, and still its first part is under way while the rest is written. In between it
/// is a quarter of the largest ring.
const BURST_DATUMS: RangeInclusive<usize> = 256..=1_024;

/// Datums were put into a ring. The first after a turn outside of a send lets this thread's shards send it.
/// Each `BURST_DATUMS` after that are sent by a turn, which also takes the acknowledgements of those before,
/// so that the ring does not fill. The rest leaves with the thread's next turn.
#[inline(always)]
pub fn flush(datums: usize) {
    let left = DATUMS_LEFT.get();
    if left > datums {
        DATUMS_LEFT.set(left - datums);
    } else if left > 0 {
        flush_here();
    }
}

/// A send found no room. Lets this thread's shards take a turn, which may bring the acknowledgements that
/// make room: no other thread can receive them. `false`: it has no shards.
#[cold]
pub fn make_room() -> bool {
    let hosts = DATUMS_LEFT.get() > 0;
    if hosts {
        IN_BURST.set(true);
        flush_here();
    }
    hosts
}

#[cold]
#[inline(never)]
fn flush_here() {
    let in_burst = IN_BURST.get();
    // For the sends of wakers that the shards call.
    DATUMS_LEFT.set(*BURST_DATUMS.start());
    let here = here();
    let largest = here.iter().flat_map(|here| here.iter()).map(|shard| shard.flush(in_burst)).max();
    DATUMS_LEFT.set((largest.unwrap_or(0) / 4).clamp(*BURST_DATUMS.start(), *BURST_DATUMS.end()));
    IN_BURST.set(true);
}

/// Polls `poll` until it is ready. In between the thread turns its shards, or parks when it has none.
pub fn wait<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    drive_or_park(None, here, poll).expect("only a deadline ends the wait early")
}

/// As [`wait`], but gives `None` at `deadline`, also to a poll that keeps waking itself. Polls at least once,
/// and once more after a wake that it sees before the deadline.
pub fn wait_until<T>(deadline: StdInstant, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    drive_or_park(Some(deadline), here, poll)
}

/// As [`wait_until`], and turns `shard` too, also at the thread's end, where its shards are not known any
/// more.
pub(crate) fn drive_until<T>(
    shard: &Rc<HostedShard>,
    deadline: StdInstant,
    poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let with_it = || here().or_else(|| Some([shard.clone()].into()));
    drive_or_park(Some(deadline), with_it, poll)
}

/// Turns the shards that `shards` gives, or parks while there are none to turn. They are asked for again when
/// the thread's shards have changed: a poll may start an engine or end one.
fn drive_or_park<T>(
    deadline: Option<StdInstant>,
    shards: impl Fn() -> Option<ShardsHere>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    loop {
        let changes = CHANGES.get();
        if let Some(shards) = shards() {
            match drive(&shards, deadline, &mut poll) {
                Driven::Ready(value) => return Some(value),
                Driven::Late => return None,
                Driven::Changed => continue,
                Driven::Over => {}
            }
        }
        let parked = park::wait_with(deadline, Spinner::default().into_before_park(), |cx| match poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if CHANGES.get() != changes => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match parked {
            Some(Some(value)) => return Some(value),
            Some(None) => {}
            None => return None,
        }
    }
}

/// How long a thread without shards looks again before it parks: twice a wake-up and some round trips of a
/// local network.
const SPIN_BEFORE_PARK: Duration = Duration::from_micros(50);

/// Looks again before the park of one wait, while it has a permit. Other threads run in between: the one
/// that is waited for may need this CPU.
#[derive(Default)]
struct Spinner {
    permit: Option<SpinPermit>,
    until: Option<StdInstant>,
}

impl Spinner {
    /// `true`: look again instead of parking.
    fn spins(&mut self) -> bool {
        let until = match self.until {
            Some(until) => until,
            None => {
                self.permit = SpinPermit::take(affinity::usable());
                *self.until.insert(StdInstant::now() + SPIN_BEFORE_PARK)
            }
        };
        if self.permit.is_none() {
            return false;
        }
        if StdInstant::now() >= until {
            // The next park of this wait comes at once.
            self.permit = None;
            return false;
        }
        idle::yield_now();
        true
    }

    fn into_before_park(mut self) -> impl FnMut() -> bool {
        move || self.spins()
    }
}

/// How [`drive`] ended.
enum Driven<T> {
    /// The poll was ready.
    Ready(T),
    /// The deadline has come.
    Late,
    /// The poll has changed which shards the thread has.
    Changed,
    /// No shard is left to turn: the caller waits by other means.
    Over,
}

/// Polls after each wake, and turns `shards` in between.
fn drive<T>(
    shards: &[Rc<HostedShard>],
    deadline: Option<StdInstant>,
    poll: &mut impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Driven<T> {
    let is_live = |shard: &&Rc<HostedShard>| !shard.is_over();
    // A wait inside a turn (in a waker that it called) can't turn that shard.
    let Some(first) = shards.iter().find(is_live) else { return Driven::Over };
    if shards.iter().any(|shard| shard.in_turn()) {
        return Driven::Over;
    }
    let changes = CHANGES.get();
    let loan = HostParkerLoan::of(first);
    let until = deadline.map(|deadline| first.now() + deadline.saturating_duration_since(StdInstant::now()));
    let is_late = |now: Instant| until.is_some_and(|until| until <= now);
    let mut is_last = false;
    loop {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(loan.waker())) {
            return Driven::Ready(value);
        }
        if is_last {
            return Driven::Late;
        }
        if CHANGES.get() != changes {
            return Driven::Changed;
        }
        // At least one turn for each poll: a future that wakes itself does not keep the shard from its peers.
        loop {
            let next = shards.iter().fold(Next::Idle, |next, shard| next.sooner(shard.turn()));
            if loan.take_woken() {
                first.worked();
                // The last poll begins after the deadline, as in `park::wait_with`.
                is_last = is_late(first.last_turn());
                break;
            }
            if first.is_over() {
                drop(loan);
                return drive(shards, deadline, poll);
            }
            let now = first.last_turn();
            if is_late(now) {
                return Driven::Late;
            }
            let due = match next {
                Next::Again => {
                    first.worked();
                    continue;
                }
                Next::Until(at) => Some(at),
                Next::Idle => None,
            };
            if !first.idle(now).stays_awake() {
                sleep(shards, due.into_iter().chain(until).min());
            }
        }
    }
}

/// Sleeps until one of `shards` has work.
fn sleep(shards: &[Rc<HostedShard>], until: Option<Instant>) {
    if let [shard] = shards {
        return shard.park(until);
    }
    let live = || shards.iter().filter(|shard| !shard.is_over());
    let mut sleeps = Vec::with_capacity(shards.len());
    for shard in live() {
        let Some(sleep) = shard.prepare_sleep(until, None) else { break };
        sleeps.push((shard, sleep.number));
    }
    if !sleeps.is_empty() && sleeps.len() == live().count() {
        let descriptors: Vec<_> = sleeps.iter().map(|(shard, _)| shard.as_fd()).collect();
        // A refusal (a signal came) is an early wake-up.
        let _ = wait_readable(&descriptors, None);
    }
    sleeps.iter().for_each(|(shard, number)| {
        shard.end_sleep(*number, 0);
    });
}
