//! Errors that came back for datagrams, with the address that each was for.

use std::{collections::VecDeque, net::SocketAddr, os::fd::RawFd, time::Duration};

use corewire_proto::time::Instant;

use super::SocketId;

/// Errors that wait for the shard at one time. More are only counted.
const WAITING_MAX: usize = 64;

/// Errors that are read within [`READ_SPAN`] at most: twice what the probes of 250 peers that are gone cause.
pub(super) const READ_MAX: u32 = 256;
const READ_SPAN: Duration = Duration::from_millis(100);

/// How long the kernel keeps no errors for a socket that had more than [`READ_MAX`]: some probes of a peer
/// that is gone, so that it is noticed a little later.
const REST: Duration = Duration::from_secs(1);

/// What a host on the way, or this one, said about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// The port is closed.
    Refused,
    /// There is no way to the host or its network.
    Unreachable,
    /// This host does not send there: it knows no way, or none from the address that the datagram was to
    /// leave from, which it may have lost.
    NotSent,
    /// The datagram is larger than the path takes.
    TooLarge {
        /// Payloads of this many bytes do not pass, nor do longer ones.
        bytes: usize,
    },
}

/// An error that came back for a datagram. Anyone on the way can forge one: it is a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError {
    /// The socket that the datagram left by.
    pub socket: SocketId,
    /// Where it was to go.
    pub to: SocketAddr,
    /// What is wrong.
    pub fault: PathFault,
}

/// A socket for which the kernel keeps no errors for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestingSocket {
    id: SocketId,
    pub(super) fd: RawFd,
    until: Instant,
}

/// The errors that the shard has not taken yet, oldest first; bounded. And how many may be read from the
/// kernel: each costs a system call, ends a receive and fails a send, and anyone on the way can cause them.
#[derive(Debug, Default)]
pub(super) struct PathErrors {
    waiting: VecDeque<PathError>,
    /// Since when errors are counted in `read`.
    since: Instant,
    /// Errors read since then.
    read: u32,
    /// At most one entry for each socket. Sockets leave it before they are closed.
    resting: Vec<RestingSocket>,
}

impl PathErrors {
    /// Whether one more error may be read at `now`. After [`READ_MAX`] in a short time `false`: the socket is
    /// to be set to rest.
    pub(super) fn may_read(&mut self, now: Instant) -> bool {
        if now.saturating_since(self.since) >= READ_SPAN {
            (self.since, self.read) = (now, 0);
        }
        self.read < READ_MAX
    }

    /// An error was read.
    pub(super) fn count_read(&mut self) {
        self.read += 1;
    }

    /// The kernel keeps no errors for this socket from `now` on.
    pub(super) fn rest(&mut self, (id, fd): (SocketId, RawFd), now: Instant) {
        self.resting.retain(|resting| resting.id != id);
        self.resting.push(RestingSocket { id, fd, until: now + REST });
    }

    /// A socket for which the kernel is to keep errors again. Cheap while none rests.
    pub(super) fn rested(&mut self, now: impl FnOnce() -> Instant) -> Option<RestingSocket> {
        let first = self.resting.first()?;
        (first.until <= now()).then(|| self.resting.remove(0))
    }

    /// The socket is about to be closed.
    pub(super) fn forget(&mut self, id: SocketId) {
        self.resting.retain(|resting| resting.id != id);
    }

    pub(super) fn note(&mut self, error: PathError) {
        if self.waiting.len() < WAITING_MAX && self.waiting.back() != Some(&error) {
            self.waiting.push_back(error);
        }
    }

    pub(super) fn take(&mut self) -> Option<PathError> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(1_000 + ms)
    }

    #[test]
    fn errors_beyond_the_bound_are_not_read_until_time_has_passed() {
        let mut errors = PathErrors::default();
        for _ in 0..READ_MAX {
            assert!(errors.may_read(at(0)));
            errors.count_read();
        }
        assert!(!errors.may_read(at(99)));
        assert!(errors.may_read(at(100)));
    }

    #[test]
    fn socket_rests_for_its_time_or_until_it_is_closed() {
        let mut errors = PathErrors::default();
        let [one, other] = [7, 8].map(SocketId::from_token);
        errors.rest((one, 3), at(0));
        errors.rest((other, 4), at(1));
        assert!(errors.rested(|| at(999)).is_none());
        assert_eq!(errors.rested(|| at(1_000)).map(|socket| socket.fd), Some(3));
        errors.forget(other);
        assert!(errors.rested(|| at(5_000)).is_none());
    }
}
