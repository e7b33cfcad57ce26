//! When a loop wants its next turn.

use corewire_proto::time::Instant;

/// What the clerk or a shard wants after a turn. Whatever it says, a call from another thread is a reason for
/// an earlier turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to do: another turn now.
    Again,
    /// Nothing to do before this moment of the driver's clock.
    Until(Instant),
    /// Nothing to do until another thread calls.
    Idle,
}

impl Next {
    /// What two owners want together.
    pub(crate) fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::Again, _) | (_, Self::Again) => Self::Again,
            (Self::Until(one), Self::Until(two)) => Self::Until(one.min(two)),
            (Self::Idle, other) => other,
            (this, Self::Idle) => this,
        }
    }
}
