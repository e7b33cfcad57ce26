//! Errors that came back for datagrams, with the address that each was for.

use std::{collections::VecDeque, net::SocketAddr, os::fd::RawFd, time::Duration};

use corewire_proto::time::Instant;

use super::SocketId;

/// Errors of one socket that wait for the shard at one time. More are only counted.
const WAITING_MAX: u32 = 64;

/// Errors of one socket that are read within [`READ_SPAN`] at most: twice what the probes of 250 peers that
/// are gone cause.
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

/// What a socket with errors may still cost.
#[derive(Clone, Copy, Debug)]
struct ErrorBudget {
    id: SocketId,
    /// Since when errors are counted in `read`.
    since: Instant,
    /// Errors read since then.
    read: u32,
    /// Errors that wait for the shard.
    waiting: u32,
}

/// The errors that the shard has not taken yet, oldest first; bounded. And how many may be read from the
/// kernel: each costs a system call, ends a receive and fails a send, and anyone on the way can cause them.
/// Each socket has a budget of its own, so that a flood at one node's does not deafen another's.
#[derive(Debug, Default)]
pub(super) struct PathErrors {
    waiting: VecDeque<PathError>,
    /// Of the sockets that had errors lately. At most one entry for each socket. Sockets leave it before they
    /// are closed.
    budgets: Vec<ErrorBudget>,
    /// At most one entry for each socket. Sockets leave it before they are closed.
    resting: Vec<RestingSocket>,
}

impl PathErrors {
    /// Whether one more error of the socket may be read at `now`. After [`READ_MAX`] in a short time `false`:
    /// it is to be set to rest.
    pub(super) fn may_read(&mut self, id: SocketId, now: Instant) -> bool {
        let is_over = |budget: &ErrorBudget| now.saturating_since(budget.since) >= READ_SPAN;
        self.budgets.retain(|budget| budget.waiting > 0 || !is_over(budget));
        match self.budget(id) {
            Some(budget) => {
                if is_over(budget) {
                    (budget.since, budget.read) = (now, 0);
                }
                budget.read < READ_MAX
            }
            None => {
                self.budgets.push(ErrorBudget { id, since: now, read: 0, waiting: 0 });
                true
            }
        }
    }

    /// An error of the socket was read.
    pub(super) fn count_read(&mut self, id: SocketId) {
        if let Some(budget) = self.budget(id) {
            budget.read += 1;
        }
    }

    fn budget(&mut self, id: SocketId) -> Option<&mut ErrorBudget> {
        self.budgets.iter_mut().find(|budget| budget.id == id)
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
        self.budgets.retain(|budget| budget.id != id);
        self.waiting.retain(|error| error.socket != id);
    }

    pub(super) fn note(&mut self, error: PathError) {
        if self.waiting.back() == Some(&error) {
            return;
        }
        match self.budget(error.socket) {
            Some(budget) if budget.waiting >= WAITING_MAX => return,
            Some(budget) => budget.waiting += 1,
            // Of a send that the kernel refused at once.
            None => {
                let (id, since) = (error.socket, Instant::ZERO);
                self.budgets.push(ErrorBudget { id, since, read: 0, waiting: 1 });
            }
        }
        self.waiting.push_back(error);
    }

    pub(super) fn take(&mut self) -> Option<PathError> {
        let error = self.waiting.pop_front()?;
        if let Some(budget) = self.budget(error.socket) {
            budget.waiting -= 1;
        }
        Some(error)
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
        let [flooded, other] = [7, 8].map(SocketId::from_token);
        for _ in 0..READ_MAX {
            assert!(errors.may_read(flooded, at(0)));
            errors.count_read(flooded);
        }
        assert!(!errors.may_read(flooded, at(99)));
        assert!(errors.may_read(other, at(99)), "each socket has its own bound");
        assert!(errors.may_read(flooded, at(100)));
        assert!(errors.may_read(other, at(1_000)));
        assert_eq!(errors.budgets.len(), 1, "sockets without errors cost nothing");
        errors.forget(other);
        assert!(errors.budgets.is_empty());
    }

    #[test]
    fn errors_that_wait_are_bounded_for_each_socket() {
        let mut errors = PathErrors::default();
        let [flooded, other] = [7, 8].map(SocketId::from_token);
        let error = |socket, port| PathError {
            socket,
            to: SocketAddr::from(([127, 0, 0, 1], port)),
            fault: PathFault::Refused,
        };
        for port in 1..=1_000 {
            errors.note(error(flooded, port));
        }
        errors.note(error(other, 1));
        let taken: Vec<_> = std::iter::from_fn(|| errors.take()).collect();
        assert_eq!(taken.len(), WAITING_MAX as usize + 1);
        assert_eq!(taken.last(), Some(&error(other, 1)));
        errors.note(error(flooded, 1));
        errors.note(error(flooded, 1));
        assert_eq!(errors.take(), Some(error(flooded, 1)));
        assert_eq!(errors.take(), None, "the same error waits once");
        errors.note(error(flooded, 2));
        errors.forget(flooded);
        assert_eq!(errors.take(), None);
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
