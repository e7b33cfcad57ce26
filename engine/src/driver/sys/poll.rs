//! Sleeping until one of several descriptors is readable. Not inside: what they are.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use super::check;

/// Sleeps until one of `fds` is readable, or `limit` (`None` = for ever) has passed. Gives the index of the
/// first that is, or has ended.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<Option<usize>> {
    let mut asked: Vec<_> =
        fds.iter().map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let pointer = limit.as_ref().map_or(std::ptr::null(), |limit| &raw const *limit);
    // SAFETY: `asked` is readable and writable for its length, `limit` readable if there is one; no signal
    // mask is passed.
    let count =
        unsafe { libc::ppoll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, pointer, std::ptr::null()) };
    check(count)?;
    Ok(asked.iter().position(|fd| fd.revents != 0))
}
