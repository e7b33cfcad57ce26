//! How the sessions of a node behave: times, packet size, congestion control and limits.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

pub use corewire_engine::Congestion;
use corewire_engine::SessionConfig;

const DEAD_AFTER: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const SUSPECT_AFTER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3_600);
const GIVE_UP_AFTER: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
const ACK_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(25);
const MAX_PACKET_BYTES: RangeInclusive<usize> = 1_232..=65_507;
const MAX_CHANNELS: RangeInclusive<usize> = 1..=16_384;
const MAX_HELD_BYTES: RangeInclusive<usize> = 1 << 20..=1 << 40;

/// How the sessions between a node and its peers behave; for
/// [`with_session`](crate::network::Builder::with_session). The two ends of a session may differ in every
/// setting. A value outside its range is refused when the network is built.
///
/// ```
/// use corewire::network::{Congestion, SessionSettings};
/// use corewire::{Network, NetworkId};
/// use std::time::Duration;
///
/// let settings = SessionSettings::new()
///     .with_dead_after(Duration::from_secs(30))
///     .with_keepalive(Duration::from_secs(3))
///     .with_congestion(Congestion::Fixed { bytes_per_second: 100_000_000 });
/// let network = Network::builder(NetworkId::random()).with_session(settings).build_blocking()?;
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "settings do nothing until they are given to a builder"]
pub struct SessionSettings(SessionConfig);

impl SessionSettings {
    /// Every setting at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// A session ends with [`CloseCode::PEER_LOST`](crate::streams::CloseCode::PEER_LOST) when packets in
    /// flight are answered by no packet of the peer for this long, and a notice of it has had time to arrive,
    /// which the peer may hear although it is not heard: three probe timeouts, at least 50 milliseconds and
    /// at most this time once more. From 100 milliseconds to 1 hour. Default: 10 seconds, so that a process
    /// that is stopped for some seconds keeps its sessions.
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let patient = SessionSettings::new().with_dead_after(std::time::Duration::from_secs(60));
    /// ```
    pub fn with_dead_after(mut self, time: Duration) -> Self {
        self.0.dead_after = time;
        self
    }

    /// How long a session is silent before it asks its peer for a sign of life; at least 1 millisecond, and
    /// less than the dead-peer time. Default: a fifth of the [dead-peer time](Self::with_dead_after).
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let quick = SessionSettings::new().with_keepalive(std::time::Duration::from_millis(500));
    /// ```
    pub fn with_keepalive(mut self, time: Duration) -> Self {
        self.0.keepalive = Some(time);
        self
    }

    /// A session without channels ends after this time. From 1 second to 7 days. Default: 5 minutes, so that
    /// a consumer that returns within it needs no handshake.
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let brief = SessionSettings::new().with_idle_timeout(std::time::Duration::from_secs(10));
    /// ```
    pub fn with_idle_timeout(mut self, time: Duration) -> Self {
        self.0.idle_timeout = time;
        self
    }

    /// How long a peer is silent, while something waits for its answer, until its channels are
    /// [suspect](crate::streams::ChannelInfo::is_suspect). From 1 millisecond to 1 hour. Default: 1 second.
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let attentive = SessionSettings::new().with_suspect_after(std::time::Duration::from_millis(200));
    /// ```
    pub fn with_suspect_after(mut self, time: Duration) -> Self {
        self.0.suspect_after = time;
        self
    }

    /// How long a datum is sent again and again to a peer that answers other packets, until its channel ends
    /// with [`CloseCode::GAVE_UP`](crate::streams::CloseCode::GAVE_UP); the consumer then connects again and
    /// goes on. From 100 milliseconds to 1 hour. Default: the [dead-peer time](Self::with_dead_after).
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let stubborn = SessionSettings::new().with_give_up_after(std::time::Duration::from_secs(60));
    /// ```
    pub fn with_give_up_after(mut self, time: Duration) -> Self {
        self.0.give_up_after = Some(time);
        self
    }

    /// How long an acknowledgement may wait for a packet to ride on. From 0 to 25 milliseconds. Default: 250
    /// microseconds. Longer saves packets; shorter frees the places of a small ring sooner.
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let sparing = SessionSettings::new().with_ack_delay(std::time::Duration::from_millis(5));
    /// ```
    pub fn with_ack_delay(mut self, time: Duration) -> Self {
        self.0.ack_delay = time;
        self
    }

    /// The largest packet to send, in bytes of UDP payload. From 1,232 to 65,507. Default: 65,507. Packets
    /// begin at 1,232 bytes, which every IPv6 path carries, and grow as far as the path is found to carry
    /// them. A path that carries less (a tunnel over IPv4, a radio link) is used down to 288 bytes, which a
    /// handshake takes too. Where a path shrinks below that, channels end with
    /// [`CloseCode::GAVE_UP`](crate::streams::CloseCode::GAVE_UP). Packets of any size are received.
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let ethernet = SessionSettings::new().with_max_packet_bytes(1_452);
    /// ```
    pub fn with_max_packet_bytes(mut self, bytes: usize) -> Self {
        self.0.max_packet_bytes = bytes;
        self
    }

    /// What limits the bytes in flight. Default: [`Congestion::Cubic`]. A fixed rate is in bytes per second,
    /// at least 1.
    ///
    /// ```
    /// # use corewire::network::{Congestion, SessionSettings};
    /// let cautious = SessionSettings::new().with_congestion(Congestion::NewReno);
    /// ```
    pub fn with_congestion(mut self, congestion: Congestion) -> Self {
        self.0.congestion = congestion;
        self
    }

    /// Channels that a session may have in each direction. From 1 to 16,384; the engine's limit holds as
    /// well. Default: 16,384.
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let few = SessionSettings::new().with_max_channels(16);
    /// ```
    pub fn with_max_channels(mut self, channels: usize) -> Self {
        self.0.limits.max_channels = channels;
        self
    }

    /// Memory for datums that have arrived in part, or before an earlier one, of all channels of a session,
    /// in bytes. From 1 MiB to 1 TiB. Default: 256 MiB. A consumer takes no
    /// datum longer than half of this less 384 bytes.
    ///
    /// ```
    /// # use corewire::network::SessionSettings;
    /// let small = SessionSettings::new().with_max_held_bytes(16 << 20);
    /// ```
    pub fn with_max_held_bytes(mut self, bytes: usize) -> Self {
        self.0.limits.max_held_bytes = bytes;
        self
    }

    /// The settings for the engine, if all are in their ranges.
    pub(crate) fn checked(self) -> Result<SessionConfig, SessionSettingsError> {
        let config = self.0;
        within("dead_after", config.dead_after, &DEAD_AFTER)?;
        if let Some(keepalive) = config.keepalive {
            let longest = config.dead_after.saturating_sub(Duration::from_nanos(1));
            within("keepalive", keepalive, &(Duration::from_millis(1)..=longest))?;
        }
        within("suspect_after", config.suspect_after, &SUSPECT_AFTER)?;
        if let Some(give_up_after) = config.give_up_after {
            within("give_up_after", give_up_after, &GIVE_UP_AFTER)?;
        }
        within("idle_timeout", config.idle_timeout, &IDLE_TIMEOUT)?;
        within("ack_delay", config.ack_delay, &ACK_DELAY)?;
        within("max_packet_bytes", config.max_packet_bytes, &MAX_PACKET_BYTES)?;
        if let Congestion::Fixed { bytes_per_second: rate } = config.congestion {
            within("bytes_per_second", rate, &(1..=u64::MAX))?;
        }
        within("max_channels", config.limits.max_channels, &MAX_CHANNELS)?;
        within("max_held_bytes", config.limits.max_held_bytes, &MAX_HELD_BYTES)?;
        Ok(config)
    }
}

fn within<T: PartialOrd + fmt::Debug>(
    setting: &'static str,
    given: T,
    range: &RangeInclusive<T>,
) -> Result<(), SessionSettingsError> {
    if range.contains(&given) {
        return Ok(());
    }
    let (least, most) = (format!("{:?}", range.start()), format!("{:?}", range.end()));
    Err(SessionSettingsError { setting, given: format!("{given:?}"), least, most })
}

/// A setting of [`SessionSettings`] is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session setting {setting} is {given}, outside of its range from {least} to {most}")]
#[non_exhaustive]
pub struct SessionSettingsError {
    /// Which setting.
    pub setting: &'static str,
    /// What was asked for.
    pub given: String,
    /// The least value.
    pub least: String,
    /// The greatest value.
    pub most: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn each_setter_sets_its_own_field() {
        let set = SessionSettings::new()
            .with_dead_after(seconds(7))
            .with_keepalive(seconds(2))
            .with_suspect_after(seconds(3))
            .with_give_up_after(seconds(40))
            .with_idle_timeout(seconds(30))
            .with_ack_delay(Duration::from_millis(3))
            .with_max_packet_bytes(1_400)
            .with_congestion(Congestion::Fixed { bytes_per_second: 1_000 })
            .with_max_channels(5)
            .with_max_held_bytes(2 << 20)
            .checked()
            .unwrap();
        let mut expected = SessionConfig {
            dead_after: seconds(7),
            keepalive: Some(seconds(2)),
            suspect_after: seconds(3),
            give_up_after: Some(seconds(40)),
            idle_timeout: seconds(30),
            ack_delay: Duration::from_millis(3),
            max_packet_bytes: 1_400,
            congestion: Congestion::Fixed { bytes_per_second: 1_000 },
            ..SessionConfig::default()
        };
        expected.limits.max_channels = 5;
        expected.limits.max_held_bytes = 2 << 20;
        assert_eq!(set, expected);
    }

    #[test]
    fn a_value_outside_its_range_is_refused_by_name() {
        let new = SessionSettings::new;
        let cases = [
            ("dead_after", new().with_dead_after(Duration::ZERO)),
            ("keepalive", new().with_keepalive(seconds(10))),
            ("suspect_after", new().with_suspect_after(Duration::ZERO)),
            ("give_up_after", new().with_give_up_after(Duration::ZERO)),
            ("idle_timeout", new().with_idle_timeout(Duration::ZERO)),
            ("ack_delay", new().with_ack_delay(seconds(1))),
            ("max_packet_bytes", new().with_max_packet_bytes(100)),
            ("bytes_per_second", new().with_congestion(Congestion::Fixed { bytes_per_second: 0 })),
            ("max_channels", new().with_max_channels(0)),
            ("max_held_bytes", new().with_max_held_bytes(0)),
        ];
        for (setting, settings) in cases {
            let error = settings.checked().unwrap_err();
            assert_eq!(error.setting, setting);
            assert!(error.to_string().contains(&error.least), "{error}");
        }
    }
}
