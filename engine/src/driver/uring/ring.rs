//! The submission and completion queues: push, enter, reap. What the operations mean is `super`'s.

use std::{io, os::fd::RawFd, time::Duration};

use io_uring::{
    EnterFlags, cqueue, squeue,
    types::{SubmitArgs, Timespec},
};

use crate::driver::DriverCounters;

/// An operation, as the word that comes back with its completion: 8 bits of kind, 56 bits of index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A multishot receive; the socket's token.
    Receive(u64),
    /// A send; the transmit buffer's index.
    Send(u16),
    /// The multishot poll of the eventfd.
    Alarm,
    /// A cancellation. Its result is ignored: an operation is over when its own completion was reaped.
    Cancel,
    /// An operation of the self-test.
    Probe,
}

impl Operation {
    pub(super) fn word(self) -> u64 {
        match self {
            Self::Receive(token) => 1 << 56 | token,
            Self::Send(buffer) => 2 << 56 | u64::from(buffer),
            Self::Alarm => 3 << 56,
            Self::Cancel => 4 << 56,
            Self::Probe => 5 << 56,
        }
    }

    pub(super) fn from_word(word: u64) -> Self {
        let which = word & ((1 << 56) - 1);
        match word >> 56 {
            1 => Self::Receive(which),
            2 => Self::Send(which as u16),
            3 => Self::Alarm,
            5 => Self::Probe,
            _ => Self::Cancel,
        }
    }
}

/// The queues, and when their completions become visible.
pub(super) struct IoUring {
    io: io_uring::IoUring,
    /// Completions are made only inside `enter` with `GETEVENTS` (`DEFER_TASKRUN`).
    deferred: bool,
    /// Completions that wait for an `enter` show in a flag (`TASKRUN_FLAG`).
    flagged: bool,
    /// The error of the first `enter` whose refusal is final.
    broken: Option<i32>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Something may have completed.
    Something,
    /// The time is over.
    TimedOut,
}

impl IoUring {
    pub(super) fn new(io: io_uring::IoUring, deferred: bool, flagged: bool) -> Self {
        Self { io, deferred, flagged, broken: None }
    }

    pub(super) fn io(&self) -> &io_uring::IoUring {
        &self.io
    }

    /// Fails once the refusal of an `enter` is final: no other one will pass.
    pub(super) fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Puts an operation into the submission queue; false when it is full.
    ///
    /// # Safety
    ///
    /// All that the operation points to must stay valid and in place until its terminal completion was
    /// reaped, and what the kernel writes must not be read, what it reads not be written, before that.
    #[must_use]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller vouches for the operation.
        unsafe { self.io.submission().push(entry) }.is_ok()
    }

    /// Operations that were pushed and that the kernel has not seen.
    pub(super) fn pushed(&mut self) -> usize {
        self.io.submission().len()
    }

    /// Whether completions wait for an `enter` to become visible. Always false where the kernel makes them
    /// visible by itself.
    pub(super) fn wants_enter(&mut self) -> bool {
        let flags = self.io.submission();
        (self.flagged && flags.taskrun()) || flags.cq_overflow()
    }

    /// Completions that the queue had no room for and that the kernel keeps until there is.
    pub(super) fn overflowed(&mut self) -> bool {
        self.io.submission().cq_overflow()
    }

    /// Lets `event` be written whenever completions become visible or wait for an `enter`, while
    /// [`notices`](Self::notices) is on.
    pub(super) fn register_event(&mut self, event: RawFd) -> io::Result<()> {
        self.notices(false);
        self.io.submitter().register_eventfd(event)
    }

    /// Whether the registered event is written.
    pub(super) fn notices(&mut self, on: bool) {
        let queue = self.io.completion();
        if on { queue.enable_eventfd() } else { queue.disable_eventfd() }
    }

    /// Whether completions are visible.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.io.completion().is_empty()
    }

    /// Moves every visible completion to `into`.
    pub(super) fn reap(&mut self, into: &mut Vec<cqueue::Entry>) {
        into.extend(self.io.completion());
    }

    /// Makes waiting completions visible, without submitting anything.
    pub(super) fn run_completions(&mut self, counters: &mut DriverCounters) -> io::Result<()> {
        self.enter(0, EnterFlags::GETEVENTS, counters)
    }

    /// Submits all that was pushed and makes waiting completions visible, in one call.
    pub(super) fn submit(&mut self, counters: &mut DriverCounters) -> io::Result<()> {
        let pushed = self.pushed() as u32;
        let wants_events = self.deferred || self.wants_enter();
        let flags = if wants_events { EnterFlags::GETEVENTS } else { EnterFlags::empty() };
        self.enter(pushed, flags, counters)
    }

    fn enter(&mut self, submit: u32, flags: EnterFlags, counters: &mut DriverCounters) -> io::Result<()> {
        counters.system_calls += 1;
        // SAFETY: no argument is passed, and what the submitted operations point to was vouched for in
        // `push`.
        let entered = unsafe { self.io.submitter().enter::<libc::sigset_t>(submit, 0, flags.bits(), None) };
        self.forgive(entered.map(drop))
    }

    /// Submits all that was pushed and sleeps until a completion is visible or `timeout` (`None` = for ever)
    /// is over. One call.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        counters: &mut DriverCounters,
    ) -> io::Result<Waited> {
        counters.system_calls += 1;
        let time = timeout.map(|timeout| Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        let args = SubmitArgs::new();
        let entered = match &time {
            Some(time) => self.io.submitter().submit_with_args(1, &args.timespec(time)),
            None => self.io.submitter().submit_and_wait(1),
        };
        match entered {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(Waited::TimedOut),
            other => self.forgive(other.map(drop)).map(|()| Waited::Something),
        }
    }

    /// Takes refusals of `io_uring_enter` that pass by themselves for success: a signal came, the completion
    /// queue has to be reaped first, or the kernel is short of memory for the moment. What was pushed stays
    /// pushed.
    fn forgive(&mut self, entered: io::Result<()>) -> io::Result<()> {
        let Err(error) = entered else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => Ok(()),
            errno => {
                self.broken = self.broken.or(errno);
                Err(error)
            }
        }
    }
}

impl std::fmt::Debug for IoUring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IoUring").field("deferred", &self.deferred).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_the_way_through_the_kernel() {
        let token = (1 << 48) - 1;
        for operation in [
            Operation::Receive(token),
            Operation::Send(u16::MAX),
            Operation::Alarm,
            Operation::Cancel,
            Operation::Probe,
        ] {
            assert_eq!(Operation::from_word(operation.word()), operation);
        }
    }
}
