//! What a stream promises when it is full, and about loss.

/// What happens to a datum when the ring of its stream is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// `send` and `push` wait, in the order in which they came; `try_send` answers `Full`.
    #[default]
    PauseUpstream,
    /// Every form of sending answers `Full` at once.
    Fail,
}

impl OnFull {
    /// The name of the policy in configuration files and counters.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::PauseUpstream => "pause_upstream",
            Self::Fail => "fail",
        }
    }
}

impl core::fmt::Display for OnFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.slug())
    }
}

/// Whether what the network loses is sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// In order, without a hole and without a duplicate, or the channel is closed with a reason.
    #[default]
    Reliable,
    /// Sent once. What is lost is counted, and the consumer sees how much is missing and where.
    FireAndForget,
}
