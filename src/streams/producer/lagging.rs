//! When a consumer that keeps the ring full is disconnected.

use core::time::Duration;

use corewire_engine::publication::STANDSTILL_GRACE_DEFAULT;

/// How long in total a consumer may keep the ring full for others: above the hiccups of a busy
/// machine.
const DEFAULT_LAGGING_GRACE: Duration = Duration::from_secs(1);

/// What [`disconnect_lagging`](super::Builder::disconnect_lagging) takes: `true` for the defaults, `false`
/// for never, a `Duration` for the grace, or both times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagging {
    pub(crate) grace: Option<Duration>,
    pub(crate) standstill: Duration,
}

impl Lagging {
    /// Both times: `grace` is how long in total a consumer may keep the ring full while another one waits for
    /// it, `standstill` is how long it may keep the ring full without taking a datum although no other one
    /// waits. Any durations; each is exact to about 1/30 of the grace.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use corewire::streams::producer::Lagging;
    /// use std::time::Duration;
    ///
    /// let producer = network.streams()
    ///     .producer::<u64>()
    ///     .disconnect_lagging(Lagging::after(Duration::from_millis(200), Duration::from_secs(2)))
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub const fn after(grace: Duration, standstill: Duration) -> Self {
        Self { grace: Some(grace), standstill }
    }
}

impl From<bool> for Lagging {
    fn from(disconnect: bool) -> Self {
        let grace = disconnect.then_some(DEFAULT_LAGGING_GRACE);
        Self { grace, standstill: STANDSTILL_GRACE_DEFAULT }
    }
}

impl From<Duration> for Lagging {
    fn from(grace: Duration) -> Self {
        Self::after(grace, STANDSTILL_GRACE_DEFAULT.max(grace))
    }
}
