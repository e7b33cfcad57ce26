//! One channel as the shard sees it: which session and label, and what it is joined to.
//!
//! Not inside: sequence, credit and loss; those are the session's.

use std::sync::Arc;

use corewire_proto::{
    channel::{ChannelStats, Label, Reliability},
    session::CloseCode,
};
use corewire_rings::Writer;

use super::inbox::Progress;
use crate::shared::{ChannelShared, ChannelSnapshot};

/// A channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// The slot of its session. A channel never outlives its session's seat.
    pub(crate) session: u32,
    pub(crate) label: Label,
    pub(crate) shared: Arc<ChannelShared>,
    pub(crate) role: Role,
    /// Queued for its numbers to be written at the end of the turn.
    pub(crate) touched: bool,
}

/// What a channel is joined to.
#[derive(Debug)]
pub(crate) enum Role {
    /// We asked for it; the producer has not answered yet.
    Opening(Opening),
    /// We produce.
    Producer(Producer),
    /// We consume.
    Consumer(Consumer),
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) open_id: u64,
    pub(crate) window_bytes: u64,
    pub(crate) window_datums: u64,
    pub(crate) max_datum_bytes: u32,
}

/// What has passed an end of a channel. The session counts it too, but forgets its numbers with the channel, and
/// the last datum and the end often come together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Read {
    pub(crate) datums: u64,
    pub(crate) bytes: u64,
    /// Sequence after the last one.
    pub(crate) next: u64,
}

impl Read {
    /// A datum passed; one that passed before does not count.
    pub(crate) fn pass(&mut self, seq: u64, bytes: usize) {
        if seq >= self.next {
            self.next = seq + 1;
            self.datums += 1;
            self.bytes += bytes as u64;
        }
    }
}

/// The producer's end: a leg of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producer {
    /// The slot of the stream.
    pub(crate) stream: u32,
    /// Where the channel stands among the stream's legs.
    pub(crate) leg: u32,
    /// What the session said last that it needs no more.
    pub(crate) released: u64,
    /// The end of the ring was announced.
    pub(crate) finishing: bool,
    /// What the session has read so far, resends not counted.
    pub(crate) read: Read,
}

/// The consumer's end: an inbox.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) inbox: Writer,
    pub(crate) progress: Arc<Progress>,
    /// No window was set, so a full inbox is the consumer's slowness and not a breach by the peer.
    pub(crate) unlimited: bool,
    /// A full inbox loses the datum instead of ending the channel: no window was set and the channel may lose.
    pub(crate) lossy: bool,
    /// Datums lost at the inbox since the last one that was delivered.
    pub(crate) missed: u64,
    /// The inbox had no room, no window was set and nothing may be lost: the consumer was too slow.
    pub(crate) overrun: bool,
    /// What was delivered so far.
    pub(crate) delivered: Read,
    /// What was granted last.
    pub(crate) granted: (u64, u64),
}

impl Consumer {
    pub(crate) fn new(
        inbox: Writer,
        progress: Arc<Progress>,
        window_bytes: u64,
        window_datums: u64,
        reliability: Reliability,
        first_seq: u64,
    ) -> Self {
        let unlimited = window_bytes == 0 || window_datums == 0;
        Self {
            inbox,
            progress,
            unlimited,
            lossy: unlimited && reliability == Reliability::FireAndForget,
            missed: 0,
            delivered: Read { next: first_seq, ..Read::default() },
            overrun: false,
            granted: (first_seq, 0),
        }
    }
}

impl Channel {
    /// Sees to it that the numbers of this channel, which is in `slot`, are written at the end of the turn.
    pub(crate) fn note(&mut self, slot: u32, touched: &mut Vec<u32>) {
        if !self.touched {
            self.touched = true;
            touched.push(slot);
        }
    }

    /// The channel ended in good order with these numbers.
    pub(crate) fn end_in_order(&self, stats: &ChannelStats) {
        self.write_numbers(stats);
        if let Role::Consumer(consumer) = &self.role {
            consumer.progress.end_after(stats.in_order.saturating_sub(consumer.delivered.next));
        }
    }

    /// Writes the numbers of a channel that its session has forgotten already.
    pub(crate) fn write_last_numbers(&self, code: CloseCode) {
        let mut numbers = self.shared.snapshot();
        match &self.role {
            Role::Opening(_) => return,
            Role::Producer(producer) => {
                // Only after the end in good order is it certain that what was read was sent as well.
                if !producer.finishing || code != CloseCode::GRACEFUL {
                    return;
                }
                numbers.datums = numbers.datums.max(producer.read.datums);
                numbers.bytes = numbers.bytes.max(producer.read.bytes);
                numbers.position = numbers.position.max(producer.read.next);
                numbers.published = numbers.published.max(numbers.position);
                numbers.released = numbers.published;
            }
            Role::Consumer(consumer) => {
                numbers.datums = numbers.datums.max(consumer.delivered.datums);
                numbers.bytes = numbers.bytes.max(consumer.delivered.bytes);
                numbers.position = numbers.position.max(consumer.delivered.next);
                numbers.released = consumer.progress.peek().0;
            }
        }
        self.shared.counters().write(&numbers);
    }

    /// Writes what the session counted to the cells that everybody reads.
    pub(crate) fn write_numbers(&self, stats: &ChannelStats) {
        let mut numbers = ChannelSnapshot { window_bytes: stats.tx_window, ..ChannelSnapshot::default() };
        match &self.role {
            Role::Opening(_) => return,
            Role::Producer(_) => {
                numbers.datums = stats.tx_datums;
                numbers.bytes = stats.tx_bytes;
                numbers.resent = stats.resends;
                numbers.skipped = stats.tx_skipped;
                numbers.position = stats.tx_seq;
                numbers.released = stats.released;
                numbers.published = stats.published;
                numbers.credit_bytes = stats.tx_credit_remaining;
                numbers.backpressure = stats.backpressure_events;
                numbers.grants = stats.credit_grants_received;
            }
            Role::Consumer(consumer) => {
                numbers.datums = stats.rx_datums;
                numbers.bytes = stats.rx_bytes;
                numbers.skipped = stats.rx_skipped;
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
