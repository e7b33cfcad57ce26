//! epoll. Not inside: what is done about an event.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use super::check;

/// Events that one wait can bring; the next wait brings the rest.
const EVENTS: usize = 64;

/// Something to read (or an error to take).
pub(in crate::driver) const READABLE: u32 = libc::EPOLLIN as u32;
/// Room to write.
pub(in crate::driver) const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// An error to take; always reported.
pub(in crate::driver) const FAILED: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// An epoll instance.
pub(in crate::driver) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// Whether `epoll_pwait2` (Linux 5.11) is there, which sleeps to the nanosecond instead of the
    /// millisecond.
    precise: bool,
}

impl Epoll {
    pub(in crate::driver) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just made and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut epoll =
            Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS], precise: true };
        // Asking once, for nothing, shows whether the precise wait is there.
        epoll.precise = epoll.wait_precisely(Some(Duration::ZERO)).is_ok();
        Ok(epoll)
    }

    pub(in crate::driver) fn is_precise(&self) -> bool {
        self.precise
    }

    /// Watches `fd` for `interest`; `token` names it in [`wait`](Self::wait).
    pub(in crate::driver) fn add(&self, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    /// Changes what `fd` is watched for.
    pub(in crate::driver) fn modify(&self, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Stops watching `fd`.
    pub(in crate::driver) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: `event` is readable during the call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) }).map(drop)
    }

    /// Sleeps until something is ready or `timeout` (`None` = for ever) has passed. Gives `(token, events)`.
    pub(in crate::driver) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = (u64, u32)> + '_> {
        let count = self.count(timeout)?;
        Ok(self.events[..count].iter().map(|event| (event.u64, event.events)))
    }

    /// How many events a wait has brought.
    fn count(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        if self.precise {
            match self.wait_precisely(timeout) {
                // A sandbox that was entered since the start may know the older call only.
                Err(error) if error.kind() != io::ErrorKind::Interrupted => self.precise = false,
                waited => return waited,
            }
        }
        self.wait_roughly(timeout)
    }

    fn wait_precisely(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let pointer = timeout.as_ref().map_or(std::ptr::null(), |timeout| &raw const *timeout);
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the kernel writes at most `len` events into `events`, reads `timeout` if there is one, and
        // takes no signal mask. The arguments have the widths that the system call documents.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                pointer,
                no_mask,
                0usize,
            )
        };
        check(count as libc::c_int).map(|count| count as usize)
    }

    fn wait_roughly(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // Rounded up: a sleep that ends too early would be a spin.
        let millis = timeout.map_or(-1, |timeout| {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        let len = self.events.len() as libc::c_int;
        // SAFETY: the kernel writes at most `len` events into `events`.
        check(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), len, millis) })
            .map(|count| count as usize)
    }
}

/// Readable while an event waits to be taken.
impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll").field("fd", &self.fd).field("precise", &self.precise).finish_non_exhaustive()
    }
}
