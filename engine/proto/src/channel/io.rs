//! What a channel reads from and delivers to.

use super::Label;

/// What a producer's ring answers for one sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fetched<'a> {
    /// The datum.
    Datum(&'a [u8]),
    /// Everything from the sequence asked for up to, not including, `until` will never be sent: overwritten,
    /// abandoned or not selected. Taken as at least the one sequence asked for.
    Skip {
        /// One past the last sequence to skip.
        until: u64,
    },
    /// Not there yet; the channel rests until `published` is called again.
    NotYet,
}

/// Where datums come from: the producers' rings.
pub trait DatumSource {
    /// The datum of channel `label` with sequence `seq`. Asked again for the same sequence when a packet was
    /// lost; below `released` it is never asked.
    fn datum(&mut self, label: Label, seq: u64) -> Fetched<'_>;
}

/// Where datums go: the consumers' inboxes.
pub trait DatumSink {
    /// Takes a datum. `skipped_before` sequences between the datum delivered before and this one were lost or
    /// skipped by the producer. `false`: there is no room, which credit should have made impossible; the channel
    /// is reset.
    fn deliver(&mut self, label: Label, seq: u64, skipped_before: u64, datum: &[u8]) -> bool;
}
