//! Counters of a session.

/// Counters of a session. They start at 0 and only grow, except those marked as levels.
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
    /// Times that acknowledgements showed the loss of everything over several probe timeouts.
    pub persistent_losses: u64,
    /// Probes sent because no acknowledgement arrived in time.
    pub probes: u64,
    /// Acknowledgement frames sent.
    pub acks_sent: u64,
    /// Acknowledgement frames received.
    pub acks_received: u64,
    /// Pings sent.
    pub pings_sent: u64,
    /// Packets dropped as malformed, or not data packets.
    pub dropped_malformed: u64,
    /// Packets dropped because their number was seen, or is behind the replay window.
    pub dropped_replay: u64,
    /// Packets dropped because they did not authenticate.
    pub dropped_auth: u64,
    /// Packets dropped because their key was dropped, has stopped or has not been established.
    pub dropped_other_key: u64,
    /// Key replacements.
    pub keys_changed: u64,
    /// Packets that arrived while the session was closing or closed.
    pub dropped_closed: u64,
    /// Packets that authenticated and broke a rule; each closes the session.
    pub dropped_violation: u64,
    /// Packets not acknowledged because their content would have exceeded a bound.
    pub refused_packets: u64,
    /// Frames for channels that are gone; normal after a channel has ended.
    pub stale_frames: u64,
    /// Channels refused because the peer opened them faster than allowed.
    pub opens_refused: u64,
    /// Channels open now, both directions (a level).
    pub channels: u64,
    /// Bytes in flight (a level).
    pub bytes_in_flight: u64,
    /// Congestion window in bytes (a level); `u64::MAX` when unlimited.
    pub congestion_window: u64,
    /// Largest packet that the path is known to carry, in bytes (a level).
    pub packet_bytes: u64,
    /// Smoothed round trip in nanoseconds (a level); 0 before the first measurement.
    pub rtt_ns: u64,
    /// Smallest round trip in nanoseconds (a level); 0 before the first measurement.
    pub min_rtt_ns: u64,
    /// Bytes of early datums and incomplete large datums (a level).
    pub held_bytes: u64,
}
