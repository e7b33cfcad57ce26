//! From the rings into the packets of a session.
//!
//! The session decides which channel is next and how much it may send.

use corewire_proto::{
    channel::Label,
    session::{DatumSource, Fetched},
};
use corewire_rings::RecordState;

use super::{
    channel::{ChannelEntry, ChannelRole},
    stream::StreamEntry,
    table::{ChannelSlot, Labels, Slab, SlotQueue, StreamSlot},
};

/// The rings behind one session's channels, while it writes packets.
pub(crate) struct RingSource<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) channels: &'a mut Slab<ChannelSlot, ChannelEntry>,
    pub(crate) streams: &'a mut Slab<StreamSlot, StreamEntry>,
    /// Streams to unpin at the end of the turn.
    pub(crate) pinned: &'a mut SlotQueue<StreamSlot>,
    /// Channels whose counters changed.
    pub(crate) touched: &'a mut SlotQueue<ChannelSlot>,
    /// Streams whose ring detached the cursor.
    pub(crate) cut: &'a mut SlotQueue<StreamSlot>,
    /// Datums read.
    pub(crate) read: u64,
    /// Datums that the ring no longer had.
    pub(crate) skipped: u64,
}

impl DatumSource for RingSource<'_> {
    fn datum(&mut self, label: Label, seq: u64) -> Fetched<'_> {
        let Some(slot) = self.labels.get(label) else { return Fetched::NotYet };
        let Some(channel) = self.channels.get_mut(slot) else { return Fetched::NotYet };
        self.touched.push(slot);
        let ChannelRole::Producer(producer) = &mut channel.role else { return Fetched::NotYet };
        let Some(stream) = self.streams.get_mut(producer.stream) else { return Fetched::NotYet };
        match stream.pin() {
            Ok(true) => self.pinned.push(producer.stream),
            Ok(false) => {}
            Err(_) => {
                stream.detached = true;
                self.cut.push(producer.stream);
                return Fetched::NotYet;
            }
        }
        debug_assert!(producer.released <= seq, "datum {seq} was released before {}", producer.released);
        match stream.get(seq) {
            RecordState::Published(datum) => {
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
}
