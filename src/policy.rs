//! What a stream does when it is full. Streams of a network and streams inside a process share these
//! policies.

mod annotation;

use core::fmt;
use core::str::FromStr;

pub(crate) use self::annotation::MAX_BUFFER_SIZE;
pub use self::annotation::{AnnotationError, BackpressureAnnotation, parse_backpressure_annotation};

/// What happens to a datum when its stream is full: the ring of a [`Producer`](crate::Producer), or the
/// buffer of a [`local::Stream`](crate::local::Stream).
///
/// Whether a consumer that keeps a producer's ring full loses its channel is decided apart from this, by
/// [`disconnect_lagging`](crate::streams::producer::Builder::disconnect_lagging).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackpressurePolicy {
    /// The oldest datums are dropped and counted. In a network only consumers that lag lose them, and each
    /// sees how many and where; consumers that keep up lose nothing.
    DropOldest,
    /// The degrader makes the incoming datum cheaper, then room is made as with
    /// [`DropOldest`](Self::DropOldest). If the degrader panics, the datum is sent unchanged and the panic is
    /// counted.
    DegradeQuality,
    /// The forms that wait wait for room, in order of arrival; the `try_` forms give the datum back.
    #[default]
    PauseUpstream,
    /// Every form of sending gives the datum back at once.
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

/// Parses a [`slug`](BackpressurePolicy::slug), exactly.
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

/// A text that is not the slug of a policy.
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
