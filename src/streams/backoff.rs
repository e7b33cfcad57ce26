//! Delays between a consumer's attempts to connect.

use core::time::Duration;

/// Exponential delays between attempts to connect, each randomized, reset once connected.
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialBackoff {
    pub(crate) initial_interval: Duration,
    pub(crate) multiplier: f64,
    pub(crate) randomization_factor: f64,
    pub(crate) max_interval: Duration,
    pub(crate) max_elapsed_time: Option<Duration>,
}

impl Default for ExponentialBackoff {
    /// 500 ms, growing by 1.5 up to 60 s, each delay randomized by up to half, given up after 5 minutes.
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_millis(500),
            multiplier: 1.5,
            randomization_factor: 0.5,
            max_interval: Duration::from_secs(60),
            max_elapsed_time: Some(Duration::from_secs(300)),
        }
    }
}

/// Makes an [`ExponentialBackoff`].
///
/// ```
/// use corewire::streams::ExponentialBackoffBuilder;
/// use std::time::Duration;
///
/// let patient = ExponentialBackoffBuilder::new()
///     .with_initial_interval(Duration::from_millis(50))
///     .with_max_interval(Duration::from_secs(5))
///     .with_max_elapsed_time(None)
///     .build();
/// assert_ne!(patient, Default::default());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ExponentialBackoffBuilder(ExponentialBackoff);

impl ExponentialBackoffBuilder {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The delay before the second attempt; at least 1 ms. Default: 500 ms.
    #[must_use]
    pub fn with_initial_interval(mut self, interval: Duration) -> Self {
        self.0.initial_interval = interval;
        self
    }

    /// The factor from one delay to the next; values below 1 count as 1. Default: 1.5.
    #[must_use]
    pub fn with_multiplier(mut self, multiplier: f64) -> Self {
        self.0.multiplier = multiplier;
        self
    }

    /// The part of each delay, from 0 to 1, by which it varies at random in either direction. Default: 0.5.
    #[must_use]
    pub fn with_randomization_factor(mut self, factor: f64) -> Self {
        self.0.randomization_factor = factor;
        self
    }

    /// The longest delay. Default: 60 s.
    #[must_use]
    pub fn with_max_interval(mut self, interval: Duration) -> Self {
        self.0.max_interval = interval;
        self
    }

    /// How long to try before a producer is given up; `None`: without limit. Default: 5 minutes.
    #[must_use]
    pub fn with_max_elapsed_time(mut self, time: Option<Duration>) -> Self {
        self.0.max_elapsed_time = time;
        self
    }

    /// The finished backoff.
    pub fn build(self) -> ExponentialBackoff {
        self.0
    }
}
