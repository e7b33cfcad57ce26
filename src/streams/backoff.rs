//! Delays between a consumer's attempts to connect.

use core::time::Duration;

use corewire_engine::subscription::Backoff;

/// Exponential delays between attempts to connect, each randomized. They begin anew once a channel has stayed
/// connected for 20 seconds, so a consumer that is cut off again and again comes back at ever longer delays.
/// The setters of [`ExponentialBackoffBuilder`] give the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialBackoff(pub(crate) Backoff);

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
        self.0.0.initial = interval;
        self
    }

    /// The factor from one delay to the next; values below 1 count as 1. Default: 1.5.
    #[must_use]
    pub fn with_multiplier(mut self, multiplier: f64) -> Self {
        self.0.0.multiplier = multiplier;
        self
    }

    /// The part of each delay, from 0 to 1, by which it varies at random in either direction. Default: 0.5.
    #[must_use]
    pub fn with_randomization_factor(mut self, factor: f64) -> Self {
        self.0.0.jitter = factor;
        self
    }

    /// The longest delay. Default: 60 s.
    #[must_use]
    pub fn with_max_interval(mut self, interval: Duration) -> Self {
        self.0.0.max = interval;
        self
    }

    /// How long to try before a producer is given up, which [`ConsumerEvent::GaveUp`] tells; `None`: without
    /// limit. One that is given up is tried again when it is in touch by itself. Default: 5 minutes.
    ///
    /// [`ConsumerEvent::GaveUp`]: crate::streams::ConsumerEvent::GaveUp
    #[must_use]
    pub fn with_max_elapsed_time(mut self, time: Option<Duration>) -> Self {
        self.0.0.max_elapsed = time;
        self
    }

    /// The finished backoff.
    pub fn build(self) -> ExponentialBackoff {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setter_sets_its_own_field() {
        let set = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(3))
            .with_multiplier(4.0)
            .with_randomization_factor(0.25)
            .with_max_interval(Duration::from_secs(5))
            .with_max_elapsed_time(Some(Duration::from_secs(6)))
            .build();
        let expected = Backoff {
            initial: Duration::from_millis(3),
            multiplier: 4.0,
            jitter: 0.25,
            max: Duration::from_secs(5),
            max_elapsed: Some(Duration::from_secs(6)),
        };
        assert_eq!(set.0, expected);
    }
}
