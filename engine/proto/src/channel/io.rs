//! What a channel reads from and delivers to.

use super::Label;
use crate::time::Instant;

/// What a producer's ring answers for one sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fetched<'a> {
    /// The datum.
    Datum(&'a [u8]),
    /// The sequences from the one asked for to `until` will never be sent: overwritten or abandoned.
    Skip {
        /// One past the last sequence to skip. A value at or below the sequence asked for skips that one.
        until: u64,
    },
    /// As `Skip`, for datums that the consumer did not ask for: to it nothing is missing. The answer for a
    /// sequence is always this one, unless the sequence has been overwritten.
    Filtered {
        /// As in `Skip`.
        until: u64,
    },
    /// Not published yet. The channel rests until `publish` is called again.
    NotYet,
}

/// Where datums come from: the producers' rings.
pub trait DatumSource {
    /// The datum of channel `label` with sequence `seq`. The same sequence is asked for again when a packet
    /// was lost, and once per fragment of a large datum; a sequence below `released` is never asked for.
    fn datum(&mut self, label: Label, seq: u64) -> Fetched<'_>;

    /// Copies the datums from `seq` on into `out`, one after the other, as long as they have `len` bytes each
    /// and fit; returns how many. `len` is above 0. The others are asked for with `datum`, as all are without
    /// an implementation.
    #[inline]
    fn copy_run(&mut self, label: Label, seq: u64, len: usize, out: &mut [u8]) -> u32 {
        let _ = (label, seq, len, out);
        0
    }

    /// Books `bytes` for a channel that [`Session::limit`](crate::session::Session::limit) was called for,
    /// and returns when they may leave, as a time at or before `now` at once. Bookings are served in the
    /// order in which they are made. Without an implementation nothing is limited.
    fn book(&mut self, label: Label, now: Instant, bytes: u64) -> Instant {
        let _ = (label, bytes);
        now
    }

    /// Of `booked` bytes `sent` were sent, more or less than that. No more will be sent of them.
    fn settle(&mut self, label: Label, now: Instant, booked: u64, sent: u64) {
        let _ = (label, now, booked, sent);
    }
}

/// Where datums go: the consumers' inboxes.
pub trait DatumSink {
    /// Takes a datum. `skipped_before` is the number of sequences between the datum delivered before and this
    /// one, which were lost or skipped by the producer. Returning `false` (no room, which credit should
    /// prevent) resets the channel with `NO_CAPACITY`.
    fn deliver(&mut self, label: Label, seq: u64, skipped_before: u64, datum: &[u8]) -> bool;

    /// Takes `count` datums of `len` bytes each, which follow each other in `bytes`, with consecutive
    /// sequences from `first_seq`. Returns how many were taken, from the first; fewer reset the channel.
    /// Without an implementation each is passed to `deliver`.
    #[inline]
    fn deliver_run(
        &mut self,
        label: Label,
        first_seq: u64,
        skipped_before: u64,
        len: usize,
        count: u32,
        bytes: &[u8],
    ) -> u32 {
        let mut passed = skipped_before;
        for index in 0..count {
            let at = index as usize * len;
            let Some(datum) = bytes.get(at..at + len) else { return index };
            if !self.deliver(label, first_seq + u64::from(index), core::mem::take(&mut passed), datum) {
                return index;
            }
        }
        count
    }
}
