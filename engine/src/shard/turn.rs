//! One pass over everything that a shard owns.
//!
//! Not inside: what the phases do (each has its file) and sleeping, except for the last look before a sleep.

use std::task::Context;

use corewire_proto::time::Instant;

use super::{
    Core, Event, Shard,
    limits::{CLERK_RETRY, LEASE_RETRY, TIMERS_PER_TURN},
};
use crate::{counters::Counter, driver::Driver, shared::Next};

/// What a turn came across.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Something was done. The next turn may find what this one caused.
    pub(crate) did: bool,
    /// Something can be sent but all transmit memory is in flight.
    pub(crate) no_lease: bool,
}

impl<D: Driver> Shard<D> {
    /// Does what there is to do, each phase up to its bound, and says when it wants to be called again.
    ///
    /// Clock, completions and datagrams, commands and marks, timers, rings, transmit, submit, counters. Never
    /// sleeps and never waits for another thread.
    pub fn turn(&mut self) -> Next {
        let Self { driver, core } = self;
        core.now = driver.now();
        core.work = Work::default();
        core.receive(driver);
        core.take_commands(driver);
        core.take_marks();
        core.fire_timers();
        core.look_at_rings();
        core.step_ending();
        core.transmit(driver);
        core.settle();
        if driver.submit().is_err() {
            core.counters.bump(Counter::SubmitErrors);
        }
        for socket in core.closing.drain(..) {
            driver.remove_socket(socket);
        }
        core.publish_numbers();
        if core.counters.get(Counter::Turns).is_multiple_of(DRIVER_NUMBERS_EVERY) {
            core.publish_driver(driver);
        }
        core.verdict()
    }

    /// Sleeps until a datagram, a ring, the clerk or the time comes, unless one of them has come already.
    ///
    /// Everything that could wake the shard is armed first and looked at once more after that; so nothing
    /// that happens between the last turn and the sleep is missed.
    pub fn park(&mut self, until: Option<Instant>) {
        if self.fall_asleep() {
            self.driver.park(until);
        }
        self.wake_up();
    }

    /// For a host that sleeps by other means than [`Shard::park`]: arms everything that calls the driver's waker
    /// and looks once more. `true`: sleep until the waker is called, then say [`Shard::wake_up`]. `false`: there
    /// is work, take a turn.
    pub fn fall_asleep(&mut self) -> bool {
        let sleeps = self.core.may_sleep();
        if sleeps {
            self.core.publish_driver(&self.driver);
            self.core.counters.bump(Counter::Parks);
        } else {
            self.core.notifier.disarm();
            self.core.counters.bump(Counter::ParksCalledOff);
        }
        sleeps
    }

    /// The sleep after [`Shard::fall_asleep`] is over.
    pub fn wake_up(&mut self) {
        self.core.notifier.disarm();
    }

    /// Whether the shard has stopped after [`super::Command::Shutdown`]. Another turn would do nothing.
    pub fn is_stopped(&self) -> bool {
        self.core.is_stopped()
    }
}

/// Turns between two copies of the driver's numbers into the shard's cells. They are also copied before a sleep, so
/// what is read is old only while the shard is busy, and then by less than a millisecond or so.
const DRIVER_NUMBERS_EVERY: u64 = 1_024;

impl Core {
    /// Lets everybody see what the driver did and lost.
    fn publish_driver(&self, driver: &impl Driver) {
        let its = driver.counters();
        let cells = [
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
            (Counter::TrainsReceived, its.received_trains),
            (Counter::TrainsSplit, its.sent_split),
            (Counter::SystemCalls, its.system_calls),
            (Counter::Wakes, its.wakes),
            (Counter::CompletionOverflows, its.completion_overflows),
        ];
        for (counter, value) in cells {
            self.counters.set(counter, value);
        }
    }

    /// Announces a sleep and arms everything that ends it. `false`: there is something to do.
    fn may_sleep(&mut self) -> bool {
        if !self.notifier.arm() {
            return false;
        }
        let mut cx = Context::from_waker(&self.mailbox_waker);
        // A mailbox whose senders are gone is always ready. The first time that is news: it begins the end. After that
        // it can't bring anything.
        // While the backlog is full none is taken (unless the shard has stopped), so one that waits is no reason to
        // stay awake: the deadline at which the clerk is tried again ends this sleep.
        let takes = self.has_stopped() || !self.backlog.is_full();
        let command = takes
            && self.commands.poll_ready(&mut cx).is_ready()
            && (self.ending.is_none() || !self.commands.is_finished());
        !command && self.arm_all() && !self.notifier.any()
    }

    /// Fires the deadlines that have come, up to the bound of a turn.
    fn fire_timers(&mut self) {
        let mut looked = 0;
        while looked < TIMERS_PER_TURN {
            let Some(slot) = self.timers.pop_due(self.now) else { return };
            looked += 1;
            let Some(seat) = self.sessions.get_mut(slot) else { continue };
            match seat.session.poll_timeout() {
                Some(at) if at <= self.now => {
                    seat.session.handle_timeout(self.now);
                    self.work.did = true;
                    self.counters.bump(Counter::TimersFired);
                    self.touch(slot);
                }
                later => {
                    self.counters.bump(Counter::TimersPutOff);
                    if let Some(at) = later {
                        self.timers.want(slot, at);
                    }
                }
            }
        }
        self.counters.bump(Counter::TimerBound);
    }

    /// The end of a turn for what moved in it: events are heard, deadlines noted, rings let go.
    fn settle(&mut self) {
        let mut place = 0;
        while let Some(&slot) = self.dirty.get(place) {
            place += 1;
            let Some(seat) = self.sessions.get_mut(slot) else { continue };
            seat.dirty = false;
            self.hear(slot);
            self.wind(slot);
        }
        self.dirty.clear();
        self.settle_rings();
        self.flush_events();
    }

    /// Notes when a session wants to be looked at again, or sees it off.
    fn wind(&mut self, slot: u32) {
        let Some(seat) = self.sessions.get_mut(slot) else { return };
        if let Some(at) = seat.session.poll_timeout() {
            self.timers.want(slot, at);
        }
        if let Some(code) = seat.over
            && seat.held.is_none()
        {
            let event = Event::SessionClosed { index: seat.index, code };
            match self.backlog.push(event) {
                Ok(()) => self.vacate(slot),
                Err(event) => {
                    seat.held = Some(event);
                    self.held_up.push(slot);
                }
            }
        }
    }

    /// Lets everybody see the numbers of what moved.
    fn publish_numbers(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            let Some(channel) = self.channels.get_mut(slot) else { continue };
            channel.touched = false;
            let stats = self.sessions.get(channel.session).and_then(|seat| seat.session.stats(channel.label));
            if let Some(stats) = stats {
                channel.write_numbers(&stats);
            }
        }
        self.touched = touched;
        let counters = &self.counters;
        counters.bump(Counter::Turns);
        if self.work.did {
            counters.bump(Counter::BusyTurns);
        }
        counters.add(Counter::Events, self.backlog.take_handed());
        if !self.backlog.is_empty() {
            counters.bump(Counter::EventStalls);
        }
        counters.set(Counter::Sessions, self.sessions.len() as u64);
        counters.set(Counter::Channels, self.channels.len() as u64);
        counters.set(Counter::Streams, self.streams.len() as u64);
    }

    fn verdict(&self) -> Next {
        let sendable = (!self.ready.is_empty() || self.has_aside()) && !self.work.no_lease;
        let due = self.timers.next().is_some_and(|at| at <= self.now);
        if self.work.did || sendable || due {
            return Next::Again;
        }
        let wishes = [
            self.timers.next(),
            self.work.no_lease.then(|| self.now + LEASE_RETRY),
            (!self.backlog.is_empty()).then(|| self.now + CLERK_RETRY),
            self.ending_wish(),
        ];
        wishes.into_iter().flatten().min().map_or(Next::Idle, Next::Until)
    }
}
