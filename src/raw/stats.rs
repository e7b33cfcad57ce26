//! The counters of a raw channel.

use core::sync::atomic::{AtomicU64, Ordering};

use super::shared::unix_ns;

/// A snapshot of a raw channel's counters, since it was opened here. Reading it costs some loads and a short
/// lock, and disturbs no shard. The names are net-mesh's; the last three fields are not in net-mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// The sequence of the next payload that is sent: how many were accepted so far.
    pub tx_seq: u64,
    /// The highest sequence that has arrived in order since the peer opened the channel; 0 before the first,
    /// and again once its closing was received.
    pub rx_seq: u64,
    /// Payloads that have arrived and were not received by the application.
    pub inbound_pending: u64,
    /// When a payload was last accepted or received, or when the channel was opened, in nanoseconds since
    /// 1970.
    pub last_activity_ns: u64,
    /// Whether the channel is open at this side.
    pub active: bool,
    /// Sends that were refused with `Backpressure`.
    pub backpressure_events: u64,
    /// Bytes that can be sent before the next send is refused with `Backpressure`; at 0 any send is. They
    /// come back when the peer has the payloads, for which it needs room of its own.
    pub tx_credit_remaining: u32,
    /// [`window_bytes`](super::StreamConfig::window_bytes), as configured.
    pub tx_window: u32,
    /// Grants of credit that came from the peer. None within one engine, whose channels read the sender's
    /// memory.
    pub credit_grants_received: u64,
    /// Grants of credit that were sent to the peer.
    pub credit_grants_sent: u64,
    /// Whether the peer has opened the channel too, so that payloads can be sent. False while this side waits
    /// for the other one.
    pub connected: bool,
    /// Payloads of the peer that are missing before those that were received.
    pub lost: u64,
    /// Payloads that were accepted here, were not acknowledged by the peer (`FireAndForget`: not sent), and
    /// will not be: dropped by closing, or left when the peer closed or did not come back.
    pub undelivered: u64,
}

/// When something last went in or out.
pub(super) struct Activity(AtomicU64);

impl Activity {
    pub(super) fn now() -> Self {
        Self(AtomicU64::new(unix_ns()))
    }

    pub(super) fn touch(&self) {
        self.0.store(unix_ns(), Ordering::Relaxed);
    }

    /// In nanoseconds since 1970.
    pub(super) fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
