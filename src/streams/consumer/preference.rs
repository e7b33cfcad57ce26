//! Taking a stream from one producer at a time.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use corewire_engine::subscription::{PreferSpec, RankProducer, RankedProducer};

use crate::discovery::PeerEntry;

/// How long another producer has to be better.
const DEFAULT_HOLD: Duration = Duration::from_secs(2);

/// Which of several producers of a stream a consumer takes from; see
/// [`Builder::prefer`](super::Builder::prefer).
#[derive(Clone)]
pub struct Preference {
    rank: RankProducer,
    hold: Duration,
}

impl Preference {
    /// The producer with the shortest round trip, as the sessions measure it. One in the same process comes
    /// first.
    pub fn latency() -> Self {
        Self::by(|candidate| match candidate.hops() {
            0 => Some(0),
            _ => candidate.round_trip().map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        })
    }

    /// The nearest producer: in the same process, on the same host, or elsewhere. Among equally near ones the
    /// first that is connected. There are no routes over several nodes, so that nothing is farther.
    pub fn fewest_hops() -> Self {
        Self::by(|candidate| Some(u64::from(candidate.hops())))
    }

    /// The producer with the lowest rank. `None`: it cannot be ranked yet, and is not changed for another
    /// one. The function runs twice a second for each producer, on the engine's control thread; a panic
    /// counts as `None`.
    ///
    /// ```
    /// use corewire::streams::consumer::Preference;
    ///
    /// // Any main producer before any spare one, and among each the nearest.
    /// let preference = Preference::by(|candidate| {
    ///     let spare = u64::from(candidate.peer().has_tag("spare"));
    ///     Some(10 * spare + u64::from(candidate.hops()))
    /// });
    /// ```
    pub fn by(rank: impl Fn(&ProducerCandidate<'_>) -> Option<u64> + Send + Sync + 'static) -> Self {
        let rank = move |producer: &RankedProducer<'_>| {
            rank(&ProducerCandidate { producer, peer: PeerEntry::new(producer.peer) })
        };
        Self { rank: Arc::new(rank), hold: DEFAULT_HOLD }
    }

    /// How long another producer has to be better, by a fourth of its own rank, before the consumer changes
    /// to it; exact to half a second. Default: 2 seconds. A producer that is gone is replaced within half a
    /// second.
    #[must_use]
    pub fn with_hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    pub(crate) fn into_spec(self) -> PreferSpec {
        PreferSpec { rank: self.rank, hold: self.hold }
    }
}

impl fmt::Debug for Preference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preference").field("hold", &self.hold).finish_non_exhaustive()
    }
}

/// A producer that a consumer may prefer.
#[derive(Debug)]
pub struct ProducerCandidate<'a> {
    producer: &'a RankedProducer<'a>,
    peer: PeerEntry,
}

impl ProducerCandidate<'_> {
    /// Its entry, with its tags.
    pub fn peer(&self) -> &PeerEntry {
        &self.peer
    }

    /// 0 in this process' engine, 1 on this host, 2 elsewhere.
    pub fn hops(&self) -> u8 {
        self.producer.hops
    }

    /// The smoothed round trip of the session with it; `None` before the first measurement, and within an
    /// engine.
    pub fn round_trip(&self) -> Option<Duration> {
        self.producer.path.round_trip
    }

    /// The part of the packets to it that were lost, from 0 to 1, over the life of the session.
    pub fn loss(&self) -> f64 {
        let (sent, lost) = (self.producer.path.sent, self.producer.path.lost);
        if sent == 0 { 0.0 } else { lost as f64 / sent as f64 }
    }
}
