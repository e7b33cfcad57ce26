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

/// What happened to datums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeliveryCount {
    /// Written into inboxes.
    pub(crate) delivered: u64,
    /// Missing before those that were delivered.
    pub(crate) missed: u64,
    /// Found no room.
    pub(crate) refused: u64,
}

impl DeliveryCount {
    fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.missed += other.missed;
        self.refused += other.refused;
    }
}

impl InboxSink<'_> {
    fn find(&mut self, label: Label) -> Option<&mut ConsumerEnd> {
        let slot = self.labels.get(label)?;
        let channel = self.channels.get_mut(slot)?;
        self.touched.push(slot);
        match &mut channel.role {
            ChannelRole::Consumer(consumer) => Some(consumer),
            _ => None,
        }
    }
}

impl DatumSink for InboxSink<'_> {
    fn deliver(&mut self, label: Label, seq: u64, skipped_before: u64, datum: &[u8]) -> bool {
        self.deliver_run(label, seq, skipped_before, datum.len(), 1, datum) == 1
    }

    fn deliver_run(
        &mut self,
        label: Label,
        first_seq: u64,
        skipped_before: u64,
        len: usize,
        count: u32,
        bytes: &[u8],
    ) -> u32 {
        let mut total = DeliveryCount::default();
        let Some(consumer) = self.find(label) else { return 0 };
        let (mut taken, mut skipped) = (0, skipped_before);
        while taken < count {
            let run = DatumRun { first: first_seq + u64::from(taken), len, count: count - taken };
            let rest = &bytes[taken as usize * len..];
            let written = run.write(consumer, std::mem::take(&mut skipped), rest, &mut total);
            if written == 0 {
                break;
            }
            taken += written;
        }
        self.count.add(&total);
        taken
    }
}

/// Datums of one length with consecutive sequences.
#[derive(Clone, Copy)]
struct DatumRun {
    first: u64,
    /// Bytes of each.
    len: usize,
    count: u32,
}

impl DatumRun {
    /// Writes the first of them, as many as fit, and says how many; `skipped` are missing before them. None
    /// when there is no room, which ends the channel: the peer sent more than its credit, or the consumer of
    /// a channel without a window was too slow.
    fn write(self, consumer: &mut ConsumerEnd, skipped: u64, bytes: &[u8], total: &mut DeliveryCount) -> u32 {
        let Self { first, len, count } = self;
        debug_assert!(
            consumer.lossy || consumer.missed == 0,
            "a channel that may not lose lost {}",
            consumer.missed
        );
        debug_assert!(consumer.delivered.next <= first, "datum {first} after {}", consumer.delivered.next);
        let skipped = skipped.saturating_add(consumer.missed);
        let refused = match consumer.inbox.try_claim_many(HEADER_BYTES + len, count as usize) {
            Ok(mut claim) => {
                let written = claim.len();
                for index in 0..written {
                    let record = claim.record(index);
                    write_header(record, first + index as u64, if index == 0 { skipped } else { 0 });
                    record[HEADER_BYTES..].copy_from_slice(&bytes[index * len..][..len]);
                }
                claim.commit();
                consumer.missed = 0;
                consumer.delivered.pass_run(first, written as u64, len);
                total.delivered += written as u64;
                total.missed += skipped;
                return written as u32;
            }
            Err(refused) => refused,
        };
        let full = matches!(refused, ClaimError::Full | ClaimError::TooManyWaiters);
        if full && consumer.lossy {
            consumer.missed = skipped.saturating_add(u64::from(count));
            total.refused += u64::from(count);
            return count;
        }
        consumer.overrun = consumer.unlimited && full;
        total.refused += 1;
        0
    }
}
