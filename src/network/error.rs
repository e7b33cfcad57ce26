//! Why a node did not join, or did not leave in order.

use corewire_engine::node::LeaveError;

use crate::engine::{BindError, EngineError, JoinError};
use crate::session_settings::SessionSettingsError;
use crate::streams::Undelivered;
use crate::streams::undelivered::{summary, undelivered};

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The engine could not start.
    #[error("the engine did not start: {0}")]
    Engine(#[from] EngineError),
    /// The node could not be made: an address, a secret or a limit.
    #[error("the node could not join: {0}")]
    Join(#[from] JoinError),
    /// A session setting is out of range.
    #[error(transparent)]
    Session(#[from] SessionSettingsError),
    /// The bandwidth is limited to 0.
    #[error("a bandwidth of 0 lets nothing leave: give at least 1 byte per second, or no limit")]
    NoBandwidth,
}

impl NetworkError {
    /// Whether an address that was asked for is in use by another program or node.
    pub fn is_address_in_use(&self) -> bool {
        matches!(self, Self::Join(JoinError::Bind(BindError::InUse { .. })))
    }
}

/// Why a node did not leave in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Not everything was delivered in time.
    #[error(
        "the deadline passed before everything was delivered: give it more time, or look for slow consumers \
         ({})",
        summary(undelivered)
    )]
    Deadline {
        /// The consumers that did not get everything, and how much, as far as that is known.
        undelivered: Vec<Undelivered>,
    },
    /// The engine had stopped, or broke, before the node had left. What was not delivered is not known.
    #[error("the engine stopped before the network was left: shut networks down before their engine")]
    EngineStopped,
}

impl From<LeaveError> for ShutdownError {
    fn from(error: LeaveError) -> Self {
        match error {
            LeaveError::Deadline { missing } => Self::Deadline { undelivered: undelivered(missing) },
            LeaveError::EngineStopped => Self::EngineStopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_stopped_is_not_called_a_deadline() {
        let error = ShutdownError::from(LeaveError::EngineStopped);
        assert_eq!(error, ShutdownError::EngineStopped);
        assert!(!error.to_string().contains("deadline"), "{error}");
        let error = ShutdownError::from(LeaveError::Deadline { missing: Vec::new() });
        assert_eq!(error, ShutdownError::Deadline { undelivered: Vec::new() });
    }
}
