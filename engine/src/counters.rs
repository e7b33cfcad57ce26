//! What a shard counts: one table of (id, label, unit), and the counters behind it.
//!
//! A counter has one writer, its shard, and any number of readers, so that it is written with a plain load
//! and store. A reader sees a value that was true a moment ago. What is counted per channel is in
//! [`ChannelShared`](crate::shared::ChannelShared).

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

/// How a counter changes, and how several shards' values combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// Only grows.
    Total,
    /// Rises and falls.
    Level,
    /// The largest value so far.
    Maximum,
}

/// One row of the table of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterInfo {
    /// The counter.
    pub counter: Counter,
    /// Its name in every output: lower case, words joined by `_`.
    pub label: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Total, level or maximum.
    pub kind: CounterKind,
}

macro_rules! table {
    ($($kind:ident $name:ident $label:ident in $unit:literal: $doc:literal;)*) => {
        /// The id of a counter: its place in [`TABLE`] and in every [`ShardCounters`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Counter {
            $(#[doc = $doc] $name,)*
        }

        /// Every counter of a shard, in the order of the ids.
        pub const TABLE: &[CounterInfo] = &[
            $(CounterInfo {
                counter: Counter::$name,
                label: stringify!($label),
                unit: $unit,
                kind: CounterKind::$kind,
            },)*
        ];
    };
}

table! {
    Total Turns turns in "turns": "Turns that the shard ran.";
    Total Flushes flushes in "flushes": "Times that a send on the shard's own thread had what is new sent, without a turn.";
    Total BusyTurns busy_turns in "turns": "Turns that found something to do.";
    Total BusyNs busy_ns in "ns": "Time in those turns. Beside the time that passed, it is the duty of the shard's core.";
    Maximum LongestTurnNs longest_turn_ns in "ns": "The longest of those turns.";
    Total Parks parks in "sleeps": "Times that the shard went to sleep.";
    Total ParksCalledOff parks_called_off in "sleeps": "Times that work came while the shard was about to sleep.";

    Total DatagramsReceived datagrams_received in "datagrams": "Datagrams that the driver handed in.";
    Total BytesReceived bytes_received in "bytes": "Bytes of those datagrams.";
    Total PacketsAccepted packets_accepted in "packets": "Packets that their session opened and understood.";
    Total PacketsFromElsewhere packets_from_elsewhere in "packets": "Of those, from another address than the session's.";
    Total DropMalformed drop_malformed in "datagrams": "Dropped: no packet header of ours.";
    Total DropWrongShard drop_wrong_shard in "packets": "Dropped: the session lives on another shard.";
    Total DropNoSession drop_no_session in "packets": "Dropped: no session at that index, or an older one.";
    Total DropBySession drop_by_session in "packets": "Dropped by the session: replayed, forged or malformed.";
    Total DropHeldUp drop_held_up in "packets": "Dropped: the clerk has no room for an event of their session.";
    Total DropNoNode drop_no_node in "datagrams": "Dropped: the socket belongs to no node any more.";
    Total Handshakes handshakes in "datagrams": "Handshake and membership datagrams handed to the clerk.";
    Total DropHandshake drop_handshake in "datagrams": "Handshake and membership datagrams dropped: the clerk's mailbox was full.";

    Total PacketsSent packets_sent in "packets": "Sealed packets handed to the driver.";
    Total BytesSent bytes_sent in "bytes": "Bytes of those packets.";
    Total TrainsSent trains_sent in "sends": "Sends handed to the driver; one may carry several packets.";
    Total PacketsDeferred packets_deferred in "packets": "Packets that did not fit the size of their train.";
    Total DatagramsSent datagrams_sent in "datagrams": "Datagrams sent for the clerk: handshakes.";
    Total DropDatagram drop_datagram in "datagrams": "Datagrams of the clerk that could not be sent.";
    Total LeasesExhausted leases_exhausted in "times": "Times that all transmit memory was in flight.";
    Total SocketsBackedUp sockets_backed_up in "times": "Times that a session waited because its socket's buffer was full.";
    Total SubmitErrors submit_errors in "errors": "Errors of the driver's submission.";

    Total DatumsRead datums_read in "datums": "Datums that sessions read out of rings, resends included.";
    Total DatumsSkipped datums_skipped in "datums": "Datums that a ring no longer had when their channel came to them.";
    Total DatumsDelivered datums_delivered in "datums": "Datums written into inboxes.";
    Total DatumsMissed datums_missed in "datums": "Gaps before delivered datums.";
    Total InboxRefusals inbox_refusals in "datums": "Datums that found no room in their inbox: the peer broke its credit.";
    Total Grants grants in "grants": "Times that a session was given its consumer's progress.";
    Total RingNews ring_news in "times": "Times that a poll found new records in a ring.";
    Total RingPolls ring_polls in "polls": "Polls of active rings, one load each.";
    Total RingsArmed rings_armed in "times": "Times that an idle ring was left to notify the shard.";
    Total RingsWoken rings_woken in "times": "Times that an armed ring notified the shard.";
    Total RecordsLost records_lost in "records": "Records that eviction took from the shard's cursors.";
    Total RingsDetached rings_detached in "rings": "Rings that detached the shard's cursor.";

    Total Commands commands in "commands": "Commands taken from the clerk.";
    Total StaleCommands stale_commands in "commands": "Commands for a session or channel that is gone.";
    Total RefusedCommands refused_commands in "commands": "Commands that a limit refused.";
    Total Events events in "events": "Events handed to the clerk.";
    Total EventStalls event_stalls in "turns": "Turns in which events had to wait for room at the clerk.";
    Total TimersFired timers_fired in "timers": "Deadlines of sessions that were due.";
    Total TimersPutOff timers_put_off in "timers": "Deadlines that had moved on before they came up.";

    Total SessionsOpened sessions_opened in "sessions": "Sessions installed.";
    Total KeysChanged keys_changed in "sessions": "Times that a session went on under a new key.";
    Total PeersMoved peers_moved in "sessions": "Times that a session followed its peer to another address.";
    Total SessionsClosed sessions_closed in "sessions": "Sessions ended, by either side.";
    Level Sessions sessions in "sessions": "Sessions alive.";
    Total ChannelsOpened channels_opened in "channels": "Channels connected.";
    Total ChannelsClosed channels_closed in "channels": "Channels ended, by either side.";
    Total ChannelsRejected channels_rejected in "channels": "Channels that were refused, by either side.";
    Level Channels channels in "channels": "Channels alive.";
    Level Streams streams in "rings": "Rings that the shard reads.";

    Total ReceiveBound receive_bound in "turns": "Turns that ended receiving at its bound.";
    Total CommandBound command_bound in "turns": "Turns that ended taking commands at its bound.";
    Total TimerBound timer_bound in "turns": "Turns that ended firing timers at its bound.";
    Total RingBound ring_bound in "turns": "Turns that ended polling a ring at its bound.";
    Total TransmitBound transmit_bound in "turns": "Turns that ended transmitting at its bound.";
    Total KernelReceiveDrops kernel_receive_drops in "datagrams": "Dropped by the kernel before a full receive queue.";
    Total ReceiveTruncated receive_truncated in "datagrams": "Dropped by the driver: cut by the kernel.";
    Total ReceiveStarved receive_starved in "times": "Times that receiving paused because every receive buffer was full.";
    Total ReceiveErrors receive_errors in "errors": "Receives that ended in another error.";
    Total ReceiveRests receive_rests in "times": "Times that a socket rested because its receives only failed.";
    Total SendUnreachable send_unreachable in "sends": "Sends that met a closed port or an unreachable host.";
    Total SendTooLarge send_too_large in "sends": "Sends that were larger than the path or the device takes.";
    Total SendNoRoom send_no_room in "sends": "Sends that the local queue had no room for.";
    Total SendErrors send_errors in "sends": "Sends that ended in another error.";
    Total SendRefused send_refused in "sends": "Sends for a socket that is gone.";
    Total QueuedErrors queued_errors in "errors": "Errors that the kernel had queued for a socket.";
    Total ErrorRests error_rests in "times": "Times that a socket's errors were ignored for a second: too many.";
    Total TrainsReceived trains_received in "receives": "Receives that brought several datagrams at once.";
    Total TrainsSplit trains_split in "sends": "Trains that had to be cut in user space.";
    Total SystemCalls system_calls in "calls": "System calls of the driver.";
    Total Wakes wakes in "wakes": "Wake-ups that found the driver asleep.";
    Total CompletionOverflows completion_overflows in "times": "Times that the completion queue overflowed.";

    Total Panics panics in "panics": "Panics caught in the shard's loop; the shard ended.";
}

/// How many counters there are.
pub const COUNTERS: usize = TABLE.len();

/// The counters of one shard.
///
/// One writer, the shard. Readers on other threads see each value whole, but not all values of one moment.
#[derive(Debug)]
pub struct ShardCounters {
    values: CachePadded<[AtomicU64; COUNTERS]>,
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl ShardCounters {
    /// All zero.
    pub fn new() -> Self {
        Self { values: CachePadded::new([const { AtomicU64::new(0) }; COUNTERS]) }
    }

    /// Adds `n`. Only the shard's thread may call this; a second writer would only lose counts.
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        let value = &self.values[counter as usize];
        value.store(value.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one.
    pub(crate) fn bump(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Sets a level or a maximum.
    pub(crate) fn set(&self, counter: Counter, value: u64) {
        self.values[counter as usize].store(value, Ordering::Relaxed);
    }

    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Ordering::Relaxed)
    }

    /// All values, read one after the other.
    pub fn snapshot(&self) -> CounterSnapshot {
        let mut values = [0; COUNTERS];
        for (value, counter) in values.iter_mut().zip(self.values.iter()) {
            *value = counter.load(Ordering::Relaxed);
        }
        CounterSnapshot { values }
    }
}

/// The values of a shard's counters, read at about one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct CounterSnapshot {
    values: [u64; COUNTERS],
}

impl CounterSnapshot {
    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Every row of the table with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static CounterInfo, u64)> + '_ {
        TABLE.iter().zip(self.values.iter().copied())
    }

    /// What was added to the totals since `earlier`; levels and maxima stay as they are.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut values = self.values;
        for (row, value) in TABLE.iter().zip(values.iter_mut()) {
            if row.kind == CounterKind::Total {
                *value = value.wrapping_sub(earlier.get(row.counter));
            }
        }
        Self { values }
    }

    /// Joins the values of another shard to these: totals and levels are added, of maxima the larger one
    /// stays.
    pub fn merge(&mut self, other: &Self) {
        for ((row, value), other) in TABLE.iter().zip(&mut self.values).zip(other.values) {
            *value = match row.kind {
                CounterKind::Total | CounterKind::Level => value.wrapping_add(other),
                CounterKind::Maximum => other.max(*value),
            };
        }
    }
}

/// Prints what is not zero.
impl fmt::Debug for CounterSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().filter(|(_, v)| *v != 0).map(|(row, value)| (row.label, value)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_is_at_the_place_of_its_id_with_a_unique_label() {
        let mut labels = BTreeSet::new();
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.counter as usize, place);
            assert!(labels.insert(row.label), "{} twice", row.label);
        }
    }

    #[test]
    fn merging_adds_totals_and_keeps_the_larger_maximum() {
        let [mut left, right] = [(2, 30), (3, 20)].map(|(turns, longest)| {
            let counters = ShardCounters::new();
            counters.add(Counter::Turns, turns);
            counters.set(Counter::LongestTurnNs, longest);
            counters.snapshot()
        });
        left.merge(&right);
        assert_eq!((left.get(Counter::Turns), left.get(Counter::LongestTurnNs)), (5, 30));
    }

    #[test]
    fn a_difference_keeps_levels_and_subtracts_totals() {
        let values = ShardCounters::new();
        values.add(Counter::Turns, 5);
        values.set(Counter::Sessions, 3);
        let before = values.snapshot();
        values.bump(Counter::Turns);
        values.set(Counter::Sessions, 2);
        let between = values.snapshot().since(&before);
        assert_eq!((between.get(Counter::Turns), between.get(Counter::Sessions)), (1, 2));
    }
}
