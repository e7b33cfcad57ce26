//! What a stream promises when it is full, and about loss.

use core::fmt;
use core::str::FromStr;

/// What happens to a datum when the ring of its stream is full.
///
/// The policy decides about the datum. Whether a consumer that keeps the ring full loses its channel is another
/// question: [`disconnect_lagging`](crate::streams::producer::Builder::disconnect_lagging).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackpressurePolicy {
    /// Consumers that lag lose the oldest datums that they have not taken; each sees how many, and where. Consumers
    /// that keep up lose nothing.
    DropOldest,
    /// The producer's degrader makes the incoming datum cheaper, and then room is made as with
    /// [`DropOldest`](Self::DropOldest).
    DegradeQuality,
    /// `send` and `push` wait, in the order in which they came; `try_send` answers `Full`.
    #[default]
    PauseUpstream,
    /// Every form of sending answers `Full` at once.
    Fail,
}

impl BackpressurePolicy {
    /// All policies, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::DropOldest, Self::DegradeQuality, Self::PauseUpstream, Self::Fail];

    /// The name of the policy in configuration files and counters.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::DegradeQuality => "degrade_quality",
            Self::PauseUpstream => "pause_upstream",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for BackpressurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// From the slug, exactly as [`slug`](BackpressurePolicy::slug) gives it.
///
/// ```
/// use corewire::BackpressurePolicy;
///
/// assert_eq!("drop_oldest".parse(), Ok(BackpressurePolicy::DropOldest));
/// let error = "DropOldest".parse::<BackpressurePolicy>().unwrap_err();
/// assert!(error.to_string().contains("drop_oldest"));
/// ```
impl FromStr for BackpressurePolicy {
    type Err = UnknownPolicy;

    fn from_str(slug: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL.into_iter().find(|policy| policy.slug() == slug).ok_or_else(|| UnknownPolicy(slug.into()))
    }
}

/// A text that is no policy's slug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no policy {0:?}: use one of {drop}, {degrade}, {pause}, {fail}",
    drop = BackpressurePolicy::DropOldest,
    degrade = BackpressurePolicy::DegradeQuality,
    pause = BackpressurePolicy::PauseUpstream,
    fail = BackpressurePolicy::Fail
)]
pub struct UnknownPolicy(String);

impl UnknownPolicy {
    /// The text.
    pub fn found(&self) -> &str {
        &self.0
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
