//! The order of a turn's phases, the sleep between turns, and when the next turn is due.

use std::{
    io,
    task::{Context, Waker},
    time::Duration,
};

use corewire_proto::time::Instant;

use super::{
    Event, Shard, ShardCore,
    host::HostEnd,
    limits::{CLERK_RETRY, LEASE_RETRY, TIMERS_PER_TURN},
    table::SessionSlot,
};
use crate::{
    counters::Counter,
    driver::{Driver, Sleep},
    shared::Next,
};

/// What a turn did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TurnWork {
    /// Something was done. The next turn may find what this one caused.
    pub(crate) did: bool,
    /// Something can be sent, but all transmit memory, or its socket's share of it, is in flight.
    pub(crate) no_lease: bool,
    /// Datums were delivered, and what there is to send answers them: it leaves with the next turn.
    pub(crate) puts_off: bool,
    /// The datums that the largest ring with news holds.
    pub(crate) largest_ring: usize,
}

impl<D: Driver> Shard<D> {
    /// Does what there is to do, each phase up to its bound, and returns when the next turn is due.
    ///
    /// The phases: clock, datagrams, commands, notifications, timers, rings, transmit, submit, counters.
    /// Never sleeps and never waits for another thread.
    pub fn turn(&mut self) -> Next {
        let Self { driver, core } = self;
        core.now = driver.now();
        let put_off = core.work.puts_off;
        core.work = TurnWork::default();
        // A send takes longer than all else that a turn does. The application, which may wait for the end of
        // this turn, gets its datums before they are acknowledged.
        let had_nothing = !put_off && core.ready.is_empty() && !core.has_deferred();
        let before = [Counter::DatumsDelivered, Counter::RingNews].map(|counter| core.counters.get(counter));
        core.receive(driver);
        core.take_path_errors(driver);
        core.apply_commands(driver);
        core.take_notifications();
        core.fire_timers();
        core.poll_rings();
        core.step_shutdown();
        let [delivered, published] = before;
        core.work.puts_off = had_nothing
            && core.counters.get(Counter::DatumsDelivered) > delivered
            && core.counters.get(Counter::RingNews) == published;
        self.send_ready();
        let Self { driver, core } = self;
        for socket in core.closing.drain(..) {
            driver.remove_socket(socket);
        }
        core.counters.bump(Counter::Turns);
        core.publish_counters();
        if core.work.did {
            core.publish_duty(driver.now());
        }
        if core.now >= core.driver_shown + DRIVER_COUNTERS_PAUSE || core.is_stopped() {
            core.driver_shown = core.now;
            core.publish_driver(driver);
        }
        core.next_turn()
    }

    /// Sends what rings have got since the last turn: a turn without its other phases, for the thread that
    /// has put a datum into a ring and hosts the shard. The next turn does the rest.
    pub(crate) fn flush(&mut self) {
        let Self { driver, core } = self;
        core.now = driver.now();
        // What the last turn did may still be a reason for the next one.
        core.work = TurnWork { did: core.work.did, ..TurnWork::default() };
        core.take_notifications();
        core.poll_rings();
        self.send_ready();
        self.core.counters.bump(Counter::Flushes);
        self.core.publish_counters();
    }

    /// The datums that the largest ring holds of those that had news in the last turn or flush.
    pub(crate) fn largest_ring(&self) -> usize {
        self.core.work.largest_ring
    }

    /// Serves the sessions that have something to send, and submits it.
    fn send_ready(&mut self) {
        let Self { driver, core } = self;
        if !core.work.puts_off {
            core.transmit(driver);
        }
        core.end_turn();
        if let Err(error) = driver.submit() {
            core.counters.bump(Counter::SubmitErrors);
            self.fail(&error);
        }
    }

    /// The shard can't go on: the system refuses a call that its driver needs. Ends it, unless it has
    /// stopped.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
                "; enter a sandbox before the engine starts, which then takes the driver that is allowed"
            }
            _ => "",
        };
        self.core.fail(format!("the {} driver can't go on: {error}{advice}", self.driver.kind()));
    }

    /// The clerk gets nothing more. For a shard that is over and is not dropped yet: what found no room in
    /// the clerk's mailbox is given up, and the clerk learns the end all the same.
    pub(crate) fn close_events(&mut self) {
        self.core.backlog.close();
    }

    /// Sleeps until a datagram, a ring, the clerk or the time comes, unless one of them has come already.
    ///
    /// Everything that could wake the shard is armed first and looked at once more after that; so nothing
    /// that happens between the last turn and the sleep is missed.
    pub fn park(&mut self, until: Option<Instant>) {
        let sleeper = self.driver.waker();
        if let Sleep::Until(until) = self.prepare_sleep(until, &sleeper) {
            self.driver.sleep(until);
            self.end_sleep();
        }
    }

    /// For a host that sleeps by other means than [`Shard::park`]: arms everything that ends the sleep and
    /// looks for work once more. After [`Sleep::Until`] the host sleeps until then, until `sleeper` is
    /// called, or until [`Driver::readiness`] is readable; then it calls [`Shard::end_sleep`]. After
    /// [`Sleep::Ready`] there is work: take a turn.
    ///
    /// The sleep ends at the shard's own deadline if that is before `until`. So a host need not know what the
    /// last turn answered, or what was sent since.
    ///
    /// `sleeper` is called for the clerk, rings and inboxes, from any thread. The driver's own waker makes
    /// these show in the driver's readiness too.
    pub fn prepare_sleep(&mut self, until: Option<Instant>, sleeper: &Waker) -> Sleep {
        let until = match self.core.next_turn().sooner(until.map_or(Next::Idle, Next::Until)) {
            Next::Again => None,
            Next::Until(at) => Some(Some(at)),
            Next::Idle => Some(None),
        };
        if let Some(until) = until.filter(|_| self.core.may_sleep(sleeper)) {
            self.core.publish_driver(&self.driver);
            if let Sleep::Until(until) = self.driver.prepare_sleep(until) {
                self.core.counters.bump(Counter::Parks);
                return Sleep::Until(until);
            }
        }
        self.core.notifier.disarm();
        self.core.counters.bump(Counter::ParksCalledOff);
        Sleep::Ready
    }

    /// Ends the sleep that [`Shard::prepare_sleep`] began.
    pub fn end_sleep(&mut self) {
        self.driver.end_sleep();
        self.core.notifier.disarm();
    }

    /// Whether the shard has stopped, after [`super::Command::Shutdown`] or because its driver can't go on.
    /// Another turn would do nothing.
    pub fn is_stopped(&self) -> bool {
        self.core.is_stopped()
    }

    /// Why it [has stopped](Self::is_stopped), if it has.
    pub(crate) fn end(&self) -> Option<HostEnd> {
        let failure = self.core.failure.clone();
        self.is_stopped().then(|| failure.map_or(HostEnd::InOrder, HostEnd::DriverFailed))
    }
}

/// The time between two copies of the driver's counters into the shard's. They are also copied before a sleep
/// and at the end, so a reader sees old values only while the shard is busy.
const DRIVER_COUNTERS_PAUSE: Duration = Duration::from_millis(1);

impl ShardCore {
    /// Copies the driver's counters into the shard's.
    pub(crate) fn publish_driver(&self, driver: &impl Driver) {
        let its = driver.counters();
        let values = [
            (Counter::KernelReceiveDrops, its.kernel_receive_drops),
            (Counter::ReceiveTruncated, its.received_truncated),
            (Counter::ReceiveStarved, its.receive_starved),
            (Counter::ReceiveErrors, its.receive_errors),
            (Counter::ReceiveRests, its.receive_rests),
            (Counter::SendUnreachable, its.send_unreachable),
            (Counter::SendTooLarge, its.send_too_large),
            (Counter::SendNoRoom, its.send_no_room),
            (Counter::SendErrors, its.send_errors),
            (Counter::SendRefused, its.send_refused),
            (Counter::QueuedErrors, its.queued_errors),
            (Counter::ErrorRests, its.error_rests),
            (Counter::TrainsReceived, its.received_trains),
            (Counter::TrainsSplit, its.sent_split),
            (Counter::SystemCalls, its.system_calls),
            (Counter::Wakes, its.wakes),
            (Counter::CompletionOverflows, its.completion_overflows),
        ];
        for (counter, value) in values {
            self.counters.set(counter, value);
        }
    }

    /// Announces a sleep and arms everything that calls `sleeper`. `false`: there is something to do.
    fn may_sleep(&mut self, sleeper: &Waker) -> bool {
        if self.work.puts_off || !self.notifier.arm(sleeper) {
            return false;
        }
        let mut cx = Context::from_waker(&self.mailbox_waker);
        // While the backlog is full no command is taken (unless the shard has stopped), so a waiting one is
        // no reason to stay awake: the deadline at which the clerk is tried again ends this sleep.
        let takes = self.has_stopped() || !self.backlog.is_full();
        // A mailbox without senders is always ready. That is news once: it begins the shutdown.
        let command = takes
            && self.commands.poll_ready(&mut cx).is_ready()
            && (self.shutdown.is_none() || !self.commands.is_finished());
        !command && self.arm_all() && !self.notifier.any()
    }

    /// Fires the deadlines that have come, up to the bound of a turn; none while what came during a stall has
    /// not been read, for [`CATCH_UP_TURNS`](super::limits::CATCH_UP_TURNS) at most.
    fn fire_timers(&mut self) {
        if self.catching_up > 0 {
            return;
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some(slot) = self.timers.pop_due(self.now) else { return };
            let Some(entry) = self.sessions.get_mut(slot) else { continue };
            match entry.session.poll_timeout() {
                Some(at) if at <= self.now => {
                    entry.session.handle_timeout(self.now);
                    self.work.did = true;
                    self.counters.bump(Counter::TimersFired);
                    self.mark_dirty(slot);
                }
                later => {
                    self.counters.bump(Counter::TimersPutOff);
                    if let Some(at) = later {
                        self.timers.set(slot, at);
                    }
                }
            }
        }
        self.counters.bump(Counter::TimerBound);
    }

    /// Reads the events and deadlines of dirty sessions, releases what rings no longer have to keep, and
    /// offers the clerk what waits.
    fn end_turn(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            self.drain_session_events(slot);
            self.rearm_timer(slot);
            self.remove_if_over(slot);
        }
        self.release_rings();
        self.flush_events();
    }

    /// Queues the session's next deadline.
    fn rearm_timer(&mut self, slot: SessionSlot) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        entry.show_path(self.now);
        if let Some(at) = entry.session.poll_timeout() {
            self.timers.set(slot, at);
        }
    }

    /// Removes a session that is over, once the event that tells the clerk is queued.
    fn remove_if_over(&mut self, slot: SessionSlot) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let Some((code, by_peer)) = entry.over.filter(|_| entry.held.is_none()) else { return };
        match self.backlog.push(Event::SessionClosed { index: entry.index, code, by_peer }) {
            Ok(()) => self.remove_session(slot),
            Err(event) => self.hold_event(slot, event),
        }
    }

    /// Writes the counters of the channels that moved, and the shard's own.
    fn publish_counters(&mut self) {
        while let Some(slot) = self.touched.pop() {
            let Some(channel) = self.channels.get(slot) else { continue };
            let entry = self.sessions.get(channel.session);
            if let Some(stats) = entry.and_then(|entry| entry.session.stats(channel.label)) {
                channel.write_counters(&stats);
            }
        }
        let counters = &self.counters;
        counters.add(Counter::Events, self.backlog.take_handed());
        if !self.backlog.is_empty() {
            counters.bump(Counter::EventStalls);
        }
        counters.set(Counter::Sessions, self.sessions.len() as u64);
        counters.set(Counter::Channels, self.channels.len() as u64);
        counters.set(Counter::Streams, self.streams.len() as u64);
    }

    /// Counts a busy turn that ends now. Idle turns are not timed: that would cost each a reading of the
    /// clock.
    fn publish_duty(&self, end: Instant) {
        let took = u64::try_from(end.saturating_since(self.now).as_nanos()).unwrap_or(u64::MAX);
        self.counters.bump(Counter::BusyTurns);
        self.counters.add(Counter::BusyNs, took);
        if took > self.counters.get(Counter::LongestTurnNs) {
            self.counters.set(Counter::LongestTurnNs, took);
        }
    }

    /// When the next turn is due.
    fn next_turn(&self) -> Next {
        let sendable = (!self.ready.is_empty() || self.has_deferred()) && !self.work.no_lease;
        let due = self.timers.next().is_some_and(|at| at <= self.now);
        if self.work.did || sendable || due {
            return Next::Again;
        }
        let deadlines = [
            self.timers.next(),
            self.work.no_lease.then(|| self.now + LEASE_RETRY),
            (!self.backlog.is_empty()).then(|| self.now + CLERK_RETRY),
            self.shutdown_deadline(),
        ];
        deadlines.into_iter().flatten().min().map_or(Next::Idle, Next::Until)
    }
}
