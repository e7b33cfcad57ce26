//! Why a node did not join, or did not leave in order.

use crate::engine::{BindError, EngineError, JoinError};
use crate::session_settings::SessionSettingsError;
use crate::streams::Undelivered;
use crate::streams::undelivered::summary;

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
        /// The consumers that did not get everything, and how much. Empty when that is not known, because the
        /// engine has stopped.
        undelivered: Vec<Undelivered>,
    },
}
