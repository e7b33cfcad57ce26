//! The descriptor on which a host sleeps: the driver's readiness and a time in one.

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use corewire_proto::time::Instant;

use super::sys::{
    epoll::{Epoll, READABLE},
    timer::TimerFd,
};

/// Readable once the driver's [readiness](super::Driver::readiness) is, or the time has come.
///
/// A host needs no timer of its own: those of event loops and of tokio count milliseconds.
#[derive(Debug)]
pub(crate) struct HostDescriptor {
    /// Watches the driver's descriptor and `timer`; its events are never taken.
    both: Epoll,
    timer: TimerFd,
    /// What `timer` is set to.
    time: Cell<Option<Instant>>,
}

impl HostDescriptor {
    /// For the driver with this readiness. Readable until the first [`wake_at`](Self::wake_at).
    pub(crate) fn new(readiness: BorrowedFd<'_>) -> io::Result<Self> {
        let (both, timer) = (Epoll::new()?, TimerFd::new()?);
        both.add(readiness.as_raw_fd(), READABLE, 0)?;
        both.add(timer.as_fd().as_raw_fd(), READABLE, 1)?;
        let descriptor = Self { both, timer, time: Cell::new(None) };
        descriptor.wake_now()?;
        Ok(descriptor)
    }

    /// From `at` on it is readable, whatever the driver has; `None`: there is no such time.
    ///
    /// # Errors
    ///
    /// When a sandbox that the process has entered since forbids to set the timer. The time is as before.
    pub(crate) fn wake_at(&self, at: Option<Instant>) -> io::Result<()> {
        // Each change is a system call.
        if self.time.get() != at {
            self.timer.set(at)?;
            self.time.set(at);
        }
        Ok(())
    }

    /// It is readable, until the next [`wake_at`](Self::wake_at); errors as there.
    pub(crate) fn wake_now(&self) -> io::Result<()> {
        self.wake_at(Some(Instant::ZERO))
    }
}

impl AsFd for HostDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::{EventFd, now, wait_readable};

    #[test]
    fn descriptor_is_readable_by_the_time_or_the_readiness() {
        let readiness = EventFd::new().unwrap();
        let descriptor = HostDescriptor::new(readiness.as_fd()).unwrap();
        let within = |limit| wait_readable(&[descriptor.as_fd()], limit).unwrap().is_some();
        let is_readable = || within(Some(Duration::ZERO));
        assert!(is_readable(), "it begins awake");
        descriptor.wake_at(None).unwrap();
        assert!(!is_readable());
        readiness.ring();
        assert!(is_readable());
        readiness.clear();
        assert!(!is_readable());
        let soon = now() + Duration::from_micros(300);
        descriptor.wake_at(Some(soon)).unwrap();
        assert!(within(None) && now() >= soon);
        descriptor.wake_at(Some(now() + Duration::from_secs(3_600))).unwrap();
        assert!(!is_readable());
        descriptor.wake_at(Some(Instant::FAR_FUTURE)).unwrap();
        assert!(!is_readable());
        descriptor.wake_now().unwrap();
        assert!(is_readable() && is_readable());
    }
}
