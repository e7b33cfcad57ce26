//! From a session into the inboxes of its channels.
//!
//! The session has put the datums in order and counted gaps and duplicates.

use corewire_proto::{channel::Label, session::DatumSink};
use corewire_rings::ClaimError;

use super::{
    channel::{ChannelEntry, ChannelRole, ConsumerEnd},
    inbox::{HEADER_BYTES, write_header},
    table::{ChannelSlot, Labels, Slab, SlotQueue},
};

/// The inboxes of one session, while it handles one packet.
pub(crate) struct InboxSink<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) channels: &'a mut Slab<ChannelSlot, ChannelEntry>,
    /// Channels whose counters changed.
    pub(crate) touched: &'a mut SlotQueue<ChannelSlot>,
    /// What happened, for the shard's counters.
    pub(crate) count: DeliveryCount,
}

/// What happened to the datums of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeliveryCount {
    /// Written into inboxes.
    pub(crate) delivered: u64,
    /// Missing before those that were delivered.
    pub(crate) missed: u64,
    /// Found no room.
    pub(crate) refused: u64,
}

impl DatumSink for InboxSink<'_> {
    fn deliver(&mut self, label: Label, seq: u64, skipped_before: u64, datum: &[u8]) -> bool {
        let Some(slot) = self.labels.get(label) else { return false };
        let Some(channel) = self.channels.get_mut(slot) else { return false };
        self.touched.push(slot);
        let ChannelRole::Consumer(consumer) = &mut channel.role else { return false };
        write(consumer, seq, skipped_before, datum, &mut self.count)
    }
}

/// Writes one datum; `false` when there is no room, which ends the channel: the peer sent more than its
/// credit, or the consumer of a channel without a window was too slow.
fn write(
    consumer: &mut ConsumerEnd,
    seq: u64,
    skipped: u64,
    datum: &[u8],
    count: &mut DeliveryCount,
) -> bool {
    debug_assert!(
        consumer.lossy || consumer.missed == 0,
        "a channel that may not lose lost {}",
        consumer.missed
    );
    debug_assert!(consumer.delivered.next <= seq, "datum {seq} after {}", consumer.delivered.next);
    let skipped = skipped.saturating_add(consumer.missed);
    match consumer.inbox.try_claim(HEADER_BYTES + datum.len()) {
        Ok(mut record) => {
            write_header(&mut record, seq, skipped);
            record[HEADER_BYTES..].copy_from_slice(datum);
            record.commit();
            consumer.missed = 0;
            consumer.delivered.pass(seq, datum.len());
            count.delivered += 1;
            count.missed += skipped;
            true
        }
        Err(ClaimError::Full | ClaimError::TooManyWaiters) if consumer.lossy => {
            consumer.missed = skipped.saturating_add(1);
            count.refused += 1;
            true
        }
        Err(refused) => {
            consumer.overrun =
                consumer.unlimited && matches!(refused, ClaimError::Full | ClaimError::TooManyWaiters);
            count.refused += 1;
            false
        }
    }
}
