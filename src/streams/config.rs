//! Settings that all streams of one network share.

use super::backoff::ExponentialBackoff;

/// Settings that all streams of one network share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub(crate) backoff: ExponentialBackoff,
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The backoff of consumers that do not set their own.
    pub fn backoff(&self) -> &ExponentialBackoff {
        &self.backoff
    }
}

/// Makes a [`Config`].
///
/// ```
/// use corewire::streams::{Config, ExponentialBackoffBuilder};
///
/// let backoff = ExponentialBackoffBuilder::new().with_max_elapsed_time(None).build();
/// let config = Config::builder().with_backoff(backoff.clone()).build()?;
/// assert_eq!(config.backoff(), &backoff);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ConfigBuilder(Config);

impl ConfigBuilder {
    /// The backoff of consumers that do not set their own. A producer waits for consumers and has no backoff.
    /// Default: [`ExponentialBackoff::default`], with pauses from 500 ms to 60 s, given up after 5 minutes.
    #[must_use]
    pub fn with_backoff(mut self, backoff: ExponentialBackoff) -> Self {
        self.0.backoff = backoff;
        self
    }

    /// The finished configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is out of its range.
    pub fn build(self) -> Result<Config, ConfigError> {
        let backoff = &self.0.backoff.0;
        if !(0.0..=1.0).contains(&backoff.jitter) {
            return Err(ConfigError::RandomizationFactor(backoff.jitter));
        }
        if !backoff.multiplier.is_finite() {
            return Err(ConfigError::Multiplier(backoff.multiplier));
        }
        Ok(self.0)
    }
}

/// Why a [`Config`] was not built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The randomization factor is not from 0 to 1.
    #[error("the randomization factor of the backoff is {0}; give a number from 0 (none) to 1")]
    RandomizationFactor(f64),
    /// The multiplier is not a finite number.
    #[error("the multiplier of the backoff is {0}; give a finite number, 1.5 is usual")]
    Multiplier(f64),
}
