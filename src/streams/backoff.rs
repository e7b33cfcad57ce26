//! When a consumer tries again.

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
    /// 500 ms, growing by 1.5 up to 60 s, each delay changed by up to half of itself, given up after 5 minutes.
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
#[derive(Clone, Debug, Default)]
pub struct ExponentialBackoffBuilder(ExponentialBackoff);

impl ExponentialBackoffBuilder {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The delay before the second attempt. At least one millisecond is used.
    #[must_use]
    pub fn with_initial_interval(mut self, interval: Duration) -> Self {
        self.0.initial_interval = interval;
        self
    }

    /// What each delay is multiplied by to give the next. Values below 1 count as 1.
    #[must_use]
    pub fn with_multiplier(mut self, multiplier: f64) -> Self {
        self.0.multiplier = multiplier;
        self
    }

    /// The part of each delay, from 0 to 1, by which chance may change it in either direction.
    #[must_use]
    pub fn with_randomization_factor(mut self, factor: f64) -> Self {
        self.0.randomization_factor = factor;
        self
    }

    /// The longest delay.
    #[must_use]
    pub fn with_max_interval(mut self, interval: Duration) -> Self {
        self.0.max_interval = interval;
        self
    }

    /// How long to keep trying before a producer is given up; `None` is for ever.
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
