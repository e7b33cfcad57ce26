//! What a driver counts. Not inside: where the numbers are shown.

use super::outgoing::Outgoing;

/// Totals since the driver was opened. Plain numbers: the driver's thread is their only writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Datagrams lent to the shard.
    pub received_datagrams: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Receives that brought several datagrams at once (GRO).
    pub received_trains: u64,
    /// Datagrams that were cut by the kernel because they did not fit a receive buffer; dropped.
    pub received_truncated: u64,
    /// Datagrams that the kernel dropped before a full receive queue (`SO_RXQ_OVFL`).
    pub kernel_receive_drops: u64,
    /// Times that receiving paused because every receive buffer was full. Nothing is lost by this alone.
    pub receive_starved: u64,
    /// Receives that ended in another error.
    pub receive_errors: u64,
    /// Times that a socket rested because its receives only failed. io_uring only.
    pub receive_rests: u64,
    /// Datagrams that the kernel accepted.
    pub sent_datagrams: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Sends that carried several datagrams at once (GSO).
    pub sent_trains: u64,
    /// Trains that had to be cut in user space, because the kernel refused them as one.
    pub sent_split: u64,
    /// Sends that met an error of the path: port closed, host or network unreachable.
    pub send_unreachable: u64,
    /// Sends that were larger than the path or the device takes (`EMSGSIZE`).
    pub send_too_large: u64,
    /// Sends that the local queue had no room for (`ENOBUFS`, `ENOMEM`).
    pub send_no_room: u64,
    /// Times that a send waited because the socket's buffer was full (`EAGAIN`). Nothing is lost by this.
    pub send_waited: u64,
    /// Sends that ended in another error.
    pub send_errors: u64,
    /// Sends that broke the contract (unknown socket, bad length) or belonged to a socket that was removed.
    pub send_refused: u64,
    /// Errors that the kernel had queued for a socket (`IP_RECVERR`) and that were taken from it.
    pub queued_errors: u64,
    /// Times that the kernel was told to keep no errors for a socket for a second, because there were too
    /// many: hosts that are gone are noticed later meanwhile.
    pub error_rests: u64,
    /// Times that [`lease`](super::Driver::lease) had nothing left to give.
    pub leases_exhausted: u64,
    /// System calls made.
    pub system_calls: u64,
    /// Times that the driver really went to sleep.
    pub parks: u64,
    /// Wake-ups that found the driver asleep.
    pub wakes: u64,
    /// Times that the completion queue overflowed and had to be flushed.
    pub completion_overflows: u64,
}

impl DriverCounters {
    /// The kernel took a staged send.
    pub(super) fn count_sent(&mut self, outgoing: &Outgoing) {
        self.sent_datagrams += outgoing.datagrams();
        self.sent_bytes += outgoing.len as u64;
        self.sent_trains += u64::from(outgoing.is_train());
    }
}
