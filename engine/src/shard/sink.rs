//! From a session into the inboxes of its channels.
//!
//! Not inside: order, gaps and duplicates; what arrives here is in its place already.

use corewire_proto::{channel::Label, session::DatumSink};
use corewire_rings::ClaimError;

use super::{
    channel::{Channel, Consumer, Role},
    inbox::{HEADER_BYTES, write_header},
    table::{Labels, Slab},
};

/// The inboxes of one session, while it handles one packet.
pub(crate) struct InboxSink<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) channels: &'a mut Slab<Channel>,
    pub(crate) touched: &'a mut Vec<u32>,
    /// What happened, for the counters.
    pub(crate) tally: Tally,
}

/// What happened to datums while one packet was handled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) missed: u64,
    pub(crate) refused: u64,
}

impl DatumSink for InboxSink<'_> {
    fn deliver(&mut self, label: Label, seq: u64, skipped_before: u64, datum: &[u8]) -> bool {
        let Some(slot) = self.labels.get(label) else { return false };
        let Some(channel) = self.channels.get_mut(slot) else { return false };
        channel.note(slot, self.touched);
        let Role::Consumer(consumer) = &mut channel.role else { return false };
        write(consumer, seq, skipped_before, datum, &mut self.tally)
    }
}

/// Writes one datum; `false` when there is no room that credit should have kept.
fn write(consumer: &mut Consumer, seq: u64, skipped: u64, datum: &[u8], tally: &mut Tally) -> bool {
    let skipped = skipped.saturating_add(consumer.missed);
    match consumer.inbox.try_claim(HEADER_BYTES + datum.len()) {
        Ok(mut record) => {
            write_header(&mut record, seq, skipped);
            record[HEADER_BYTES..].copy_from_slice(datum);
            record.commit();
            consumer.missed = 0;
            consumer.delivered.pass(seq, datum.len());
            tally.delivered += 1;
            tally.missed += skipped;
            true
        }
        Err(ClaimError::Full | ClaimError::TooManyWaiters) if consumer.lossy => {
            consumer.missed = skipped.saturating_add(1);
            tally.refused += 1;
            true
        }
        Err(refused) => {
            consumer.overrun =
                consumer.unlimited && matches!(refused, ClaimError::Full | ClaimError::TooManyWaiters);
            tally.refused += 1;
            false
        }
    }
}
