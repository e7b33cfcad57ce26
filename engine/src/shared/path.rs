//! What the session with a peer has measured about the path to it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use corewire_proto::session::SessionStats;

/// Measurements of one session. Its shard writes them every few milliseconds while the session is active.
#[derive(Debug, Default)]
pub struct PathShared {
    /// Smoothed; 0 before the first measurement.
    rtt_ns: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
}

/// What was measured about the path to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathStats {
    /// The smoothed round trip (RFC 9002, 5.3); `None` before the first measurement.
    pub round_trip: Option<Duration>,
    /// Packets sent.
    pub sent: u64,
    /// Packets of those that were lost.
    pub lost: u64,
}

impl PathShared {
    /// For the one writer.
    pub(crate) fn write(&self, stats: &SessionStats) {
        self.rtt_ns.store(stats.rtt_ns, Ordering::Relaxed);
        self.sent.store(stats.packets_sent, Ordering::Relaxed);
        self.lost.store(stats.packets_lost, Ordering::Relaxed);
    }

    /// The measurements of a few milliseconds ago, or of when the session was last active.
    pub fn read(&self) -> PathStats {
        let rtt = Some(self.rtt_ns.load(Ordering::Relaxed)).filter(|rtt| *rtt > 0);
        PathStats {
            round_trip: rtt.map(Duration::from_nanos),
            sent: self.sent.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}
