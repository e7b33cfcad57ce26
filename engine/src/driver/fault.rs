//! Errors that came back for datagrams, with the address that each was for.

use std::{collections::VecDeque, net::SocketAddr};

use super::SocketId;

/// Errors that wait for the shard at one time. More are only counted.
const WAITING_MAX: usize = 64;

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

/// The errors that the shard has not taken yet, oldest first; bounded.
#[derive(Debug, Default)]
pub(super) struct PathErrors {
    waiting: VecDeque<PathError>,
}

impl PathErrors {
    pub(super) fn note(&mut self, error: PathError) {
        if self.waiting.len() < WAITING_MAX && self.waiting.back() != Some(&error) {
            self.waiting.push_back(error);
        }
    }

    pub(super) fn take(&mut self) -> Option<PathError> {
        self.waiting.pop_front()
    }
}
