//! What a shard counts: one table of (id, label, unit), and the cells behind it.
//!
//! Not inside: what the numbers mean to a user, and anything that is kept per channel (those cells are in
//! [`crate::shard::ChannelShared`]). A cell has one writer, its shard, and any number of readers, so that it is
//! written with a plain load and store; a reader sees a number that was true a moment ago.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

/// What kind of number a counter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Total,
    /// A level that rises and falls.
    Level,
}

/// One row of the table of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The counter.
    pub counter: Counter,
    /// Its name in every output.
    pub label: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Total or level.
    pub kind: Kind,
}

macro_rules! table {
    ($($kind:ident $name:ident $label:ident in $unit:literal: $doc:literal;)*) => {
        /// The id of a counter: its place in [`TABLE`] and in every block of cells.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Counter {
            $(#[doc = $doc] $name,)*
        }

        /// Every counter of a shard, in the order of the ids.
        pub const TABLE: &[Description] = &[
            $(Description {
                counter: Counter::$name,
                label: stringify!($label),
                unit: $unit,
                kind: Kind::$kind,
            },)*
        ];
    };
}

table! {
    Total Turns turns in "turns": "Turns that the shard ran.";
    Total BusyTurns busy_turns in "turns": "Turns that found something to do.";
    Total Parks parks in "sleeps": "Times that the shard went to sleep.";
    Total ParksCalledOff parks_called_off in "sleeps": "Times that work came while the shard was about to sleep.";

    Total DatagramsReceived datagrams_received in "datagrams": "Datagrams that the driver handed in.";
    Total BytesReceived bytes_received in "bytes": "Bytes of those datagrams.";
    Total PacketsAccepted packets_accepted in "packets": "Packets that their session opened and understood.";
    Total DropMalformed drop_malformed in "datagrams": "Dropped: no packet header of ours.";
    Total DropWrongShard drop_wrong_shard in "packets": "Dropped: the session lives on another shard.";
    Total DropNoSession drop_no_session in "packets": "Dropped: no session at that index, or an older one.";
    Total DropForeignSource drop_foreign_source in "packets": "Dropped: not from the address of the session.";
    Total DropBySession drop_by_session in "packets": "Dropped by the session: replayed, forged or malformed.";
    Total DropHeldUp drop_held_up in "packets": "Dropped: the clerk has no room for what their session said.";
    Total DropNoNode drop_no_node in "datagrams": "Dropped: the socket belongs to no node any more.";
    Total Handshakes handshakes in "datagrams": "Handshake datagrams handed to the clerk.";
    Total DropHandshake drop_handshake in "datagrams": "Handshake datagrams dropped: the clerk's mailbox was full.";

    Total PacketsSent packets_sent in "packets": "Sealed packets handed to the driver.";
    Total BytesSent bytes_sent in "bytes": "Bytes of those packets.";
    Total TrainsSent trains_sent in "sends": "Sends handed to the driver; one may carry several packets.";
    Total PacketsSetAside packets_set_aside in "packets": "Packets that did not fit the size of their train.";
    Total DatagramsSent datagrams_sent in "datagrams": "Datagrams sent for the clerk: handshakes.";
    Total DropDatagram drop_datagram in "datagrams": "Datagrams of the clerk that could not be sent.";
    Total LeasesExhausted leases_exhausted in "times": "Times that all transmit memory was in flight.";
    Total SubmitErrors submit_errors in "errors": "Errors of the driver's submission.";

    Total DatumsRead datums_read in "datums": "Datums that sessions read out of rings, resends included.";
    Total DatumsSkipped datums_skipped in "datums": "Datums that a ring no longer had when their channel came to them.";
    Total DatumsDelivered datums_delivered in "datums": "Datums written into inboxes.";
    Total DatumsMissed datums_missed in "datums": "Gaps before delivered datums.";
    Total InboxRefusals inbox_refusals in "datums": "Datums that found no room in their inbox: the peer broke its credit.";
    Total Grants grants in "grants": "Times that a consumer's progress was told to its session.";
    Total RingNews ring_news in "times": "Times that a poll found new records in a ring.";
    Total RingPolls ring_polls in "polls": "Polls of awake rings, one load each.";
    Total RingsArmed rings_armed in "times": "Times that a quiet ring was left to wake the shard.";
    Total RingsWoken rings_woken in "times": "Times that a ring woke or marked the shard.";
    Total RecordsLost records_lost in "records": "Records that a ring's policy took from the shard's cursor.";
    Total RingsDetached rings_detached in "rings": "Rings that cut the shard's cursor off.";

    Total Commands commands in "commands": "Commands taken from the clerk.";
    Total StaleCommands stale_commands in "commands": "Commands for a session or channel that is gone.";
    Total RefusedCommands refused_commands in "commands": "Commands that a limit refused.";
    Total Events events in "events": "Events handed to the clerk.";
    Total EventStalls event_stalls in "turns": "Turns in which events had to wait for room at the clerk.";
    Total TimersFired timers_fired in "timers": "Deadlines of sessions that were due.";
    Total TimersPutOff timers_put_off in "timers": "Deadlines that had moved on before they came up.";

    Total SessionsOpened sessions_opened in "sessions": "Sessions installed.";
    Total KeysChanged keys_changed in "sessions": "Times that a session went on under a new key.";
    Total SessionsClosed sessions_closed in "sessions": "Sessions ended, by either side.";
    Level Sessions sessions in "sessions": "Sessions alive.";
    Total ChannelsOpened channels_opened in "channels": "Channels that came to carry datums.";
    Total ChannelsClosed channels_closed in "channels": "Channels ended, by either side.";
    Total ChannelsRejected channels_rejected in "channels": "Channels that were refused, by either side.";
    Level Channels channels in "channels": "Channels alive.";
    Level Streams streams in "rings": "Rings that the shard reads.";

    Total ReceiveBound receive_bound in "turns": "Turns that ended receiving at its bound.";
    Total CommandBound command_bound in "turns": "Turns that ended taking commands at its bound.";
    Total TimerBound timer_bound in "turns": "Turns that ended firing timers at its bound.";
    Total RingBound ring_bound in "turns": "Turns that ended looking at a ring at its bound.";
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
    Total TrainsReceived trains_received in "receives": "Receives that brought several datagrams at once.";
    Total TrainsSplit trains_split in "sends": "Trains that had to be cut in user space.";
    Total SystemCalls system_calls in "calls": "System calls of the driver.";
    Total Wakes wakes in "wakes": "Wake-ups that found the driver asleep.";
    Total CompletionOverflows completion_overflows in "times": "Times that the completion queue overflowed.";

    Total Panics panics in "panics": "Panics caught in the shard's loop; the shard ended.";
}

/// How many counters there are.
pub const COUNTERS: usize = TABLE.len();

/// The cells of one shard.
///
/// One writer, the shard. Readers on other threads see each cell whole, but not all cells of one moment.
#[derive(Debug)]
pub struct ShardCounters {
    cells: CachePadded<[AtomicU64; COUNTERS]>,
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl ShardCounters {
    /// A block of cells, all zero.
    pub fn new() -> Self {
        Self { cells: CachePadded::new([const { AtomicU64::new(0) }; COUNTERS]) }
    }

    /// Adds `n`. Only the shard's thread may call this; a second writer would lose counts, nothing worse.
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        let cell = &self.cells[counter as usize];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one.
    pub(crate) fn bump(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Sets a level.
    pub(crate) fn set(&self, counter: Counter, value: u64) {
        self.cells[counter as usize].store(value, Ordering::Relaxed);
    }

    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.cells[counter as usize].load(Ordering::Relaxed)
    }

    /// All values, read one after the other.
    pub fn snapshot(&self) -> Snapshot {
        let mut values = [0; COUNTERS];
        for (value, cell) in values.iter_mut().zip(self.cells.iter()) {
            *value = cell.load(Ordering::Relaxed);
        }
        Snapshot { values }
    }
}

/// The values of a shard's counters, read at about one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    values: [u64; COUNTERS],
}

impl Snapshot {
    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Every row of the table with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Description, u64)> + '_ {
        TABLE.iter().zip(self.values.iter().copied())
    }

    /// What was added since `earlier`; levels stay as they are.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut values = self.values;
        for (row, value) in TABLE.iter().zip(values.iter_mut()) {
            if row.kind == Kind::Total {
                *value = value.wrapping_sub(earlier.get(row.counter));
            }
        }
        Self { values }
    }

    /// Adds the values of another shard to these.
    pub fn merge(&mut self, other: &Self) {
        for (value, other) in self.values.iter_mut().zip(other.values) {
            *value = value.wrapping_add(other);
        }
    }
}

/// Prints what is not zero.
impl fmt::Debug for Snapshot {
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
    fn every_row_stands_at_the_place_of_its_id_and_has_its_own_label() {
        let mut labels = BTreeSet::new();
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.counter as usize, place);
            assert!(labels.insert(row.label), "{} twice", row.label);
        }
    }

    #[test]
    fn a_difference_keeps_levels_and_subtracts_totals() {
        let cells = ShardCounters::new();
        cells.add(Counter::Turns, 5);
        cells.set(Counter::Sessions, 3);
        let before = cells.snapshot();
        cells.bump(Counter::Turns);
        cells.set(Counter::Sessions, 2);
        let between = cells.snapshot().since(&before);
        assert_eq!((between.get(Counter::Turns), between.get(Counter::Sessions)), (1, 2));
    }
}
