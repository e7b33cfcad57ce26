//! What a session counts.

/// Counters of a session. They start at zero and only grow, unless the text says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionStats {
    /// Packets sealed.
    pub packets_sent: u64,
    /// Their bytes, header and tag included.
    pub bytes_sent: u64,
    /// Packets opened.
    pub packets_received: u64,
    /// Their bytes, header and tag included.
    pub bytes_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Probes because no acknowledgement came in time.
    pub probes: u64,
    /// Acknowledgement frames sent.
    pub acks_sent: u64,
    /// Acknowledgement frames received.
    pub acks_received: u64,
    /// Pings sent.
    pub pings_sent: u64,
    /// Packets that were not packets of this session.
    pub dropped_malformed: u64,
    /// Packets seen before, or too old to tell.
    pub dropped_replay: u64,
    /// Packets that did not authenticate.
    pub dropped_auth: u64,
    /// Packets under a key that was replaced and is gone, or that is not here yet.
    pub dropped_other_key: u64,
    /// Times that a new key took the place of the one before.
    pub keys_changed: u64,
    /// Packets that came after the session had closed.
    pub dropped_closed: u64,
    /// Packets that authenticated and broke a rule.
    pub dropped_violation: u64,
    /// Packets not acknowledged because holding their content would have exceeded a bound.
    pub refused_packets: u64,
    /// Frames for channels that are gone; normal after a channel closed.
    pub stale_frames: u64,
    /// Channels that the peer wanted to open faster than allowed.
    pub opens_refused: u64,
    /// Channels open now, both directions (a level).
    pub channels: u64,
    /// Bytes in flight (a level).
    pub bytes_in_flight: u64,
    /// Congestion window in bytes (a level); `u64::MAX` when unlimited.
    pub congestion_window: u64,
    /// Smoothed round trip in nanoseconds (a level); zero before the first measurement.
    pub rtt_ns: u64,
    /// Smallest round trip seen in nanoseconds (a level); zero before the first measurement.
    pub min_rtt_ns: u64,
    /// Bytes of early datums and parts of datums held (a level).
    pub held_bytes: u64,
}
