//! The control thread: never on a datum's way.
//!
//! Not inside: a socket, a clock, a thread, randomness. The clerk is a state machine that somebody turns.

pub mod counters;
pub mod limits;
pub(crate) mod port;

use std::{sync::Arc, task::Context};

use corewire_proto::time::Instant;
use corewire_rings::mailbox;

use self::{
    limits::{Limits, Times},
    port::Port,
};
use crate::shard::{Command, Event};

/// Fills what it is given with random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// The clerk's ends of the mailboxes of one shard.
pub(crate) struct ShardLink {
    pub(crate) commands: mailbox::Sender<Command>,
    pub(crate) events: mailbox::Receiver<Event>,
}

/// What a clerk is made of.
pub(crate) struct ClerkParts {
    pub(crate) limits: Limits,
    pub(crate) times: Times,
    pub(crate) entropy: Entropy,
    pub(crate) port: Arc<Port>,
    pub(crate) shards: Vec<ShardLink>,
}

/// What the clerk wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Another turn now.
    Again,
    /// Nothing to do before this moment, unless a handle or a shard calls.
    Until(Instant),
    /// Nothing to do, unless a handle or a shard calls.
    Idle,
}

/// The clerk.
pub struct Clerk {
    parts: ClerkParts,
}

impl Clerk {
    pub(crate) fn new(parts: ClerkParts) -> Self {
        Self { parts }
    }

    /// Does what there is to do.
    pub fn turn(&mut self, now: Instant) -> Turn {
        let _ = (now, &self.parts.limits, &self.parts.times);
        while self.parts.port.take().is_some() {}
        Turn::Idle
    }

    /// Announces a sleep. `false`: there is something to do.
    pub fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = cx;
        true
    }

    /// Whether everything has ended.
    pub fn is_stopped(&self) -> bool {
        false
    }

    pub(crate) fn abandon(&mut self) {
        self.parts.port.close();
    }
}
