//! One channel as the shard sees it: its session and label, and what it is connected to.
//!
//! Sequence, credit and loss are the session's.

use std::sync::Arc;

use corewire_proto::{
    channel::{ChannelStats, Label, Reliability},
    mutate,
};
use corewire_rings::{ConsumerProgress, Writer};

use super::{
    marks::ChannelMarks,
    table::{SessionSlot, StreamSlot},
};
use crate::shared::{ChannelShared, ChannelSnapshot};

/// A channel.
#[derive(Debug)]
pub(crate) struct ChannelEntry {
    /// Its session. A channel never outlives its session's entry.
    pub(crate) session: SessionSlot,
    /// Its label in that session.
    pub(crate) label: Label,
    /// State and counters that other threads read.
    pub(crate) shared: Arc<ChannelShared>,
    /// What it is connected to.
    pub(crate) role: ChannelRole,
}

/// What a channel is connected to.
#[derive(Debug)]
pub(crate) enum ChannelRole {
    /// Nothing yet: we asked for the channel, and the producer has not answered.
    Opening(PendingOpen),
    /// A ring: we produce.
    Producer(ProducerEnd),
    /// An inbox: we consume.
    Consumer(ConsumerEnd),
}

/// What was asked for; 0 means no window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingOpen {
    pub(crate) open_id: u64,
    pub(crate) window_bytes: u64,
    pub(crate) window_datums: u64,
    pub(crate) max_datum_bytes: u32,
}

/// What has passed an end of a channel. The session counts it too, but forgets its numbers with the channel,
/// and the last datum and the end often come together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PassedCount {
    pub(crate) datums: u64,
    pub(crate) bytes: u64,
    /// Sequence after the last one.
    pub(crate) next: u64,
}

impl PassedCount {
    /// Counts a datum, unless one with its sequence or a later one has passed.
    #[inline]
    pub(crate) fn pass(&mut self, seq: u64, bytes: usize) {
        self.pass_run(seq, 1, bytes);
    }

    /// Counts the new ones among `count` datums of `len` bytes from `first` on.
    #[inline]
    pub(crate) fn pass_run(&mut self, first: u64, count: u64, len: usize) {
        let end = first + count;
        let new = end.saturating_sub(self.next.max(first));
        self.next = self.next.max(end);
        self.datums += new;
        self.bytes += new * len as u64;
    }
}

/// The producer's end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProducerEnd {
    /// The stream that it reads.
    pub(crate) stream: StreamSlot,
    /// The channel's index among the stream's channels.
    pub(crate) place: u32,
    /// The session needs no record below. At or above the stream's floor.
    pub(crate) released: u64,
    /// The session knows the end of the ring.
    pub(crate) finishing: bool,
    /// Its selection is not trivial.
    pub(crate) selects: bool,
    /// What the session has read so far, resends not counted.
    pub(crate) read: PassedCount,
    /// What is to happen when it has released records up to a sequence.
    pub(crate) marks: ChannelMarks,
}

/// The consumer's end.
#[derive(Debug)]
pub(crate) struct ConsumerEnd {
    /// Closed when the channel ends; what it holds stays readable.
    pub(crate) inbox: Writer,
    /// What the consumer has taken.
    pub(crate) progress: Arc<ConsumerProgress>,
    /// No window was set, so a full inbox means a slow consumer and not a peer that overran its credit.
    pub(crate) unlimited: bool,
    /// A full inbox loses the datum instead of ending the channel: no window was set and the channel may
    /// lose.
    pub(crate) lossy: bool,
    /// Datums lost at the inbox since the last one that was delivered.
    pub(crate) missed: u64,
    /// The inbox was full, no window was set and nothing may be lost: the channel ends with `TOO_SLOW`.
    pub(crate) overrun: bool,
    /// What was delivered so far.
    pub(crate) delivered: PassedCount,
    /// Sequence and bytes of the last grant.
    pub(crate) granted: (u64, u64),
}

impl ConsumerEnd {
    /// The end of the channel that `opening` asked for, from `first_seq` on.
    pub(crate) fn new(
        inbox: Writer,
        progress: Arc<ConsumerProgress>,
        opening: &PendingOpen,
        reliability: Reliability,
        first_seq: u64,
    ) -> Self {
        let unlimited = opening.window_bytes == 0 || opening.window_datums == 0;
        Self {
            inbox,
            progress,
            unlimited,
            lossy: unlimited && reliability == Reliability::FireAndForget,
            missed: 0,
            delivered: PassedCount { next: first_seq, ..PassedCount::default() },
            overrun: false,
            granted: (first_seq, 0),
        }
    }
}

impl ChannelEntry {
    /// Writes what is left to say of a channel that ended in good order, with its session's last numbers.
    pub(crate) fn end_in_order(&self, stats: &ChannelStats) {
        self.write_counters(stats);
        if let ChannelRole::Consumer(consumer) = &self.role {
            let behind = stats.in_order.saturating_sub(consumer.delivered.next);
            consumer.progress.end_after(behind.saturating_sub(stats.filtered_at_end));
        }
    }

    /// Notes where a channel stops that does not end in good order, so that another one can go on there.
    pub(crate) fn stop(&self) {
        if let ChannelRole::Consumer(consumer) = &self.role {
            let taken = consumer.progress.peek().0;
            self.shared.stop_at(mutate!(consumer.delivered.next, "resumes-at-taken" => taken));
        }
    }

    /// Writes what the inbox of a channel got, of which its session may have forgotten the last.
    pub(crate) fn write_last_counters(&self) {
        let ChannelRole::Consumer(consumer) = &self.role else { return };
        let mut numbers = self.shared.snapshot();
        numbers.datums = numbers.datums.max(consumer.delivered.datums);
        numbers.bytes = numbers.bytes.max(consumer.delivered.bytes);
        numbers.position = numbers.position.max(consumer.delivered.next);
        numbers.released = consumer.progress.peek().0;
        self.shared.counters().write(&numbers);
    }

    /// Writes what the session counted to the channel's counters.
    pub(crate) fn write_counters(&self, stats: &ChannelStats) {
        let mut numbers = ChannelSnapshot { window_bytes: stats.tx_window, ..ChannelSnapshot::default() };
        match &self.role {
            ChannelRole::Opening(_) => return,
            ChannelRole::Producer(_) => {
                debug_assert!(
                    stats.released <= stats.tx_seq,
                    "released {} of {}",
                    stats.released,
                    stats.tx_seq
                );
                debug_assert!(
                    stats.tx_seq <= stats.published,
                    "sent {} of {}",
                    stats.tx_seq,
                    stats.published
                );
                numbers.datums = stats.tx_datums;
                numbers.bytes = stats.tx_bytes;
                numbers.resent = stats.resends;
                numbers.skipped = stats.tx_skipped;
                numbers.filtered = stats.tx_filtered;
                numbers.position = stats.tx_seq;
                numbers.released = stats.released;
                numbers.published = stats.published;
                numbers.credit_bytes = stats.tx_credit_remaining;
                numbers.backpressure = stats.backpressure_events;
                numbers.grants = stats.credit_grants_received;
                numbers.paced = stats.paced;
                numbers.paced_ns = stats.paced_ns;
                numbers.paced_since = stats.paced_since.map_or(0, |since| since.as_nanos());
            }
            ChannelRole::Consumer(consumer) => {
                numbers.datums = stats.rx_datums;
                numbers.bytes = stats.rx_bytes;
                numbers.skipped = stats.rx_skipped;
                numbers.filtered = stats.rx_filtered;
                numbers.lost = stats.lost;
                numbers.gaps = stats.gaps;
                numbers.duplicates = stats.dropped_duplicate;
                numbers.late = stats.dropped_late;
                numbers.position = stats.in_order;
                numbers.released = consumer.progress.peek().0;
                numbers.grants = stats.credit_grants_sent;
            }
        }
        self.shared.counters().write(&numbers);
    }
}
