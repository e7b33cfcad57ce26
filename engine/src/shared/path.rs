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
    probes: AtomicU64,
    congestion_window: AtomicU64,
    bytes_in_flight: AtomicU64,
    packet_bytes: AtomicU64,
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
    /// Packets of those that were sent because no acknowledgement came in time.
    pub probes: u64,
    /// Bytes that congestion control allows in flight.
    pub congestion_window: u64,
    /// Bytes sent that are neither acknowledged nor declared lost.
    pub bytes_in_flight: u64,
    /// The longest packet that the path is known to carry, in bytes.
    pub packet_bytes: u64,
}

impl PathShared {
    /// For the one writer.
    pub(crate) fn write(&self, stats: &SessionStats) {
        self.rtt_ns.store(stats.rtt_ns, Ordering::Relaxed);
        self.sent.store(stats.packets_sent, Ordering::Relaxed);
        self.lost.store(stats.packets_lost, Ordering::Relaxed);
        self.probes.store(stats.probes, Ordering::Relaxed);
        self.congestion_window.store(stats.congestion_window, Ordering::Relaxed);
        self.bytes_in_flight.store(stats.bytes_in_flight, Ordering::Relaxed);
        self.packet_bytes.store(stats.packet_bytes, Ordering::Relaxed);
    }

    /// The measurements of a few milliseconds ago, or of when the session was last active.
    pub fn read(&self) -> PathStats {
        let rtt = Some(self.rtt_ns.load(Ordering::Relaxed)).filter(|rtt| *rtt > 0);
        PathStats {
            round_trip: rtt.map(Duration::from_nanos),
            sent: self.sent.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            probes: self.probes.load(Ordering::Relaxed),
            congestion_window: self.congestion_window.load(Ordering::Relaxed),
            bytes_in_flight: self.bytes_in_flight.load(Ordering::Relaxed),
            packet_bytes: self.packet_bytes.load(Ordering::Relaxed),
        }
    }
}
