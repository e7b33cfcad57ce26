//! How the driver sleeps: in its ring, or by a host that waits for a descriptor.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use corewire_proto::time::Instant;

use super::{UringDriver, ring::Waited};
use crate::driver::{
    Sleep,
    sys::{clock, eventfd::EventFd},
};

/// Most rounds of submitting what completions made necessary (receives and the alarm to arm, refused sends to
/// repeat) before a sleep. One is the rule; what is left after the last is submitted by a sleep in the ring,
/// and prevents one outside of it.
const SETTLE_ROUNDS: usize = 4;

impl UringDriver {
    /// See [`Driver::prepare_sleep`](crate::driver::Driver::prepare_sleep).
    pub(super) fn arm_sleep(&mut self, until: Option<Instant>) -> Sleep {
        self.submit_and_reap();
        if self.has_news() || !self.alarm.fall_asleep() {
            return Sleep::Ready;
        }
        if self.alarm.notice().is_some() {
            self.noticing = true;
            self.ring.notices(true);
            if !self.may_sleep_outside() {
                self.disarm_sleep();
                return Sleep::Ready;
            }
        }
        Sleep::Until(self.sleep_ends(until))
    }

    /// One `io_uring_enter`, unless something happens that ends no sleep.
    pub(super) fn sleep_in_ring(&mut self, until: Option<Instant>) {
        if std::mem::take(&mut self.noticing) {
            self.ring.notices(false);
        }
        let mut slept = false;
        loop {
            let until = self.sleep_ends(until);
            let timeout = until.map(|until| until.saturating_since(clock::now()));
            if timeout == Some(Duration::ZERO) {
                return;
            }
            self.counters.parks += u64::from(!slept);
            slept = true;
            let waited = self.ring.wait(timeout, &mut self.counters);
            self.reap();
            if !matches!(waited, Ok(Waited::Something)) || self.has_news() || self.alarm.is_rung() {
                return;
            }
            // Only sends completed, or a receive or the alarm has to be armed again. The next wait submits
            // that.
            self.upkeep();
        }
    }

    /// See [`Driver::end_sleep`](crate::driver::Driver::end_sleep).
    pub(super) fn disarm_sleep(&mut self) {
        if std::mem::take(&mut self.noticing) {
            self.ring.notices(false);
            self.alarm.notice().into_iter().for_each(EventFd::clear);
        }
        self.counters.wakes += u64::from(self.alarm.wake_up());
    }

    /// See [`Driver::readiness`](crate::driver::Driver::readiness).
    pub(super) fn make_readiness(&mut self) -> io::Result<BorrowedFd<'_>> {
        let notice = match self.alarm.notice() {
            Some(notice) => notice,
            None => {
                let notice = EventFd::new()?;
                // A ring that does not write it leaves the alarm without one.
                self.ring.register_event(notice.as_raw_fd())?;
                self.alarm.keep_notice(notice)
            }
        };
        Ok(notice.as_fd())
    }

    /// Submits everything that is staged, and what its completions made necessary.
    fn submit_and_reap(&mut self) {
        // The next `submit` reports a broken ring.
        let _ = self.flush();
        for _ in 0..SETTLE_ROUNDS {
            self.reap();
            self.upkeep();
            if self.ring.pushed() == 0 || self.ring.submit(&mut self.counters).is_err() {
                break;
            }
        }
    }

    /// When a sleep ends: at `until`, or when a resting socket is armed again.
    fn sleep_ends(&self, until: Option<Instant>) -> Option<Instant> {
        until.into_iter().chain(self.rest_ends()).min()
    }

    /// When the first of the resting sockets is armed again.
    pub(super) fn rest_ends(&self) -> Option<Instant> {
        self.to_arm.iter().filter_map(|&id| self.sockets.get(id)?.rests_until).min()
    }

    /// Whether there is something that a sleep would delay. A lease that has come back is news once: whether
    /// one is still wanted shows the next turn.
    fn has_news(&mut self) -> bool {
        let landed = self.wants_lease && self.slab.has_free();
        self.wants_lease &= !landed;
        !self.arrivals.is_empty() || landed
    }

    /// Whether a host may sleep on the notice. What came before the ring wrote it is not in it, and what was
    /// not submitted (a receive, after [`SETTLE_ROUNDS`]) would not be during that sleep.
    pub(super) fn may_sleep_outside(&mut self) -> bool {
        !self.ring.has_completions() && !self.ring.wants_enter() && self.ring.pushed() == 0
    }
}
