//! To be filled.

/// The secret of a network.
pub struct NetworkSecret;
