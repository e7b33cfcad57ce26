//! A time that makes a descriptor readable. Not inside: what it is for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use corewire_proto::time::Instant;

use super::check;

/// A timerfd on the drivers' clock. Never read: it is set anew instead.
#[derive(Debug)]
pub(in crate::driver) struct TimerFd(OwnedFd);

impl TimerFd {
    pub(in crate::driver) fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the descriptor was just made and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Readable from `at` on (at once if that is over), or never.
    pub(in crate::driver) fn set(&self, at: Option<Instant>) -> io::Result<()> {
        const SECOND: u64 = 1_000_000_000;
        // Zero would stop the timer.
        let nanos = at.map_or(0, |at| at.as_nanos().max(1));
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(nanos / SECOND).unwrap_or(libc::time_t::MAX),
            tv_nsec: (nanos % SECOND) as libc::c_long,
        };
        let time =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let (fd, absolute) = (self.0.as_raw_fd(), libc::TFD_TIMER_ABSTIME);
        // SAFETY: `time` is readable; no place for the old time is passed.
        check(unsafe { libc::timerfd_settime(fd, absolute, &raw const time, std::ptr::null_mut()) }).map(drop)
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
