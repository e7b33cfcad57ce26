//! From the rings into the packets of a session.
//!
//! The session decides which channel is next and how much it may send.

use corewire_proto::{
    channel::Label,
    session::{DatumSource, Fetched},
    time::Instant,
};
use corewire_rings::RecordState;

use super::{
    channel::{ChannelEntry, ChannelRole, ProducerEnd},
    stream::StreamEntry,
    table::{ChannelSlot, Labels, Slab, SlotQueue, StreamSlot},
};
use crate::{criteria::Selection, shared::egress::Egress};

/// Most records that one look-up passes over because a channel does not want them.
const MAX_UNWANTED: u64 = 1_024;

/// The tables that lead from a session's channels to their rings.
pub(crate) struct RingTables<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) channels: &'a mut Slab<ChannelSlot, ChannelEntry>,
    pub(crate) streams: &'a mut Slab<StreamSlot, StreamEntry>,
    /// Streams to unpin at the end of the turn.
    pub(crate) pinned: &'a mut SlotQueue<StreamSlot>,
    /// Channels whose counters changed.
    pub(crate) touched: &'a mut SlotQueue<ChannelSlot>,
    /// Streams whose ring detached the cursor.
    pub(crate) cut: &'a mut SlotQueue<StreamSlot>,
}

/// The rings behind one session's channels, while it writes packets.
pub(crate) struct RingSource<'a> {
    pub(crate) tables: RingTables<'a>,
    /// Datums read.
    pub(crate) read: u64,
    /// Datums that the ring no longer had.
    pub(crate) skipped: u64,
}

impl RingTables<'_> {
    /// The limits under which a channel sends. Its counters are about to change.
    fn egress(&mut self, label: Label) -> Option<&Egress> {
        let slot = self.labels.get(label)?;
        self.touched.push(slot);
        Some(self.channels.get(slot)?.shared.egress())
    }

    /// The channel's end and its ring, pinned. `None` when it has none, or when the ring has detached the
    /// cursor.
    fn find(&mut self, label: Label) -> Option<(&mut ProducerEnd, &StreamEntry, &Selection)> {
        let slot = self.labels.get(label)?;
        let channel = self.channels.get_mut(slot)?;
        self.touched.push(slot);
        let (role, selection) = (&mut channel.role, channel.shared.selection());
        let ChannelRole::Producer(producer) = role else { return None };
        let stream = self.streams.get_mut(producer.stream)?;
        match stream.pin() {
            Ok(true) => self.pinned.push(producer.stream),
            Ok(false) => {}
            Err(_) => {
                stream.detached = true;
                self.cut.push(producer.stream);
                return None;
            }
        }
        Some((producer, stream, selection))
    }
}

/// One past the records from `seq` on that a channel does not want.
fn unwanted(stream: &StreamEntry, selection: &Selection, seq: u64) -> u64 {
    let last = stream.published.min(seq + MAX_UNWANTED);
    let wanted = |seq: &u64| match stream.get(*seq) {
        RecordState::Published(record) => selection.choose(*seq, record).is_some(),
        _ => true,
    };
    (seq + 1..last).find(wanted).unwrap_or(last.max(seq + 1))
}

impl DatumSource for RingSource<'_> {
    fn datum(&mut self, label: Label, seq: u64) -> Fetched<'_> {
        let Some((producer, stream, selection)) = self.tables.find(label) else { return Fetched::NotYet };
        debug_assert!(producer.released <= seq, "datum {seq} was released before {}", producer.released);
        match stream.get(seq) {
            RecordState::Published(record) => {
                let mut datum = record;
                if producer.selects {
                    match selection.choose(seq, record) {
                        Some(chosen) => datum = chosen,
                        None => return Fetched::Filtered { until: unwanted(stream, selection, seq) },
                    }
                }
                self.read += 1;
                producer.read.pass(seq, datum.len());
                Fetched::Datum(datum)
            }
            RecordState::Abandoned => {
                self.skipped += 1;
                Fetched::Skip { until: seq + 1 }
            }
            RecordState::Pending => Fetched::NotYet,
            RecordState::Passed => {
                let until = stream.oldest().max(seq + 1);
                self.skipped += until - seq;
                Fetched::Skip { until }
            }
        }
    }

    fn copy_run(&mut self, label: Label, seq: u64, len: usize, out: &mut [u8]) -> u32 {
        let Some((producer, stream, _)) = self.tables.find(label) else { return 0 };
        if producer.selects {
            return 0;
        }
        let mut count = 0;
        for (seq, out) in (seq..).zip(out.chunks_exact_mut(len)) {
            let RecordState::Published(datum) = stream.get(seq) else { break };
            if datum.len() != len {
                break;
            }
            out.copy_from_slice(datum);
            count += 1;
        }
        producer.read.pass_run(seq, count, len);
        self.read += count;
        count as u32
    }

    fn book(&mut self, label: Label, now: Instant, bytes: u64) -> Instant {
        self.tables.egress(label).map_or(now, |egress| egress.book(now, bytes))
    }

    fn settle(&mut self, label: Label, now: Instant, booked: u64, sent: u64) {
        if let Some(egress) = self.tables.egress(label) {
            egress.settle(now, booked, sent);
        }
    }
}
