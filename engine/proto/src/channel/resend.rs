//! What a Reliable channel has to send again, and which acknowledgements arrived out of order.
//!
//! Not inside: the datums, which stay in their ring; a FireAndForget channel leaves this empty.

use alloc::{collections::VecDeque, vec::Vec};

use super::{Intervals, Label, PARTIAL_OVERHEAD_BYTES};
use crate::{mutate, time::Instant};

/// A frame in a packet that has an effect when the packet is acknowledged or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentFrame {
    /// A DATA or SKIP frame of a Reliable channel.
    Data(SentData),
    /// A FRAGMENT frame of a Reliable channel.
    Fragment(SentFragment),
    /// A CREDIT frame.
    Credit { label: Label },
    /// A BLOCKED frame.
    Blocked { label: Label },
    /// A CONTROL frame.
    Control { offset: u64, len: u32 },
}

/// Datums or skipped sequences that were sent in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentData {
    pub(crate) label: Label,
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Start of `first` in the offset space, or a lower bound of it.
    pub(crate) offset: u64,
    /// When the oldest of them was first sent.
    pub(crate) since: Instant,
}

impl SentData {
    /// One past its last sequence.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// A piece of a large datum that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentFragment {
    pub(crate) label: Label,
    pub(crate) seq: u64,
    /// Start of the datum in the offset space.
    pub(crate) offset: u64,
    /// Where in the datum the piece starts.
    pub(crate) position: u32,
    pub(crate) len: u32,
    /// Length of the datum.
    pub(crate) total: u32,
    /// When the piece was first sent.
    pub(crate) since: Instant,
}

/// Sequences to send, `seq..end`; `seq` starts at `offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) seq: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    /// When the oldest of them was first sent.
    pub(super) since: Instant,
}

impl Span {
    pub(super) const fn is_empty(&self) -> bool {
        self.seq >= self.end
    }
}

/// Bytes `position..end` of a large datum to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) offset: u64,
    pub(super) position: u32,
    pub(super) end: u32,
    /// Length of the datum.
    pub(super) total: u32,
    /// When it was first sent.
    pub(super) since: Instant,
}

/// The size of the larger kind of entry of [`Resend::entries`].
pub(crate) const RESEND_ENTRY_BYTES: usize =
    if size_of::<Span>() > size_of::<Piece>() { size_of::<Span>() } else { size_of::<Piece>() };

/// What a channel does about a lost frame.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LossOutcome {
    /// What is still missing is sent again.
    Queued,
    /// It was first sent too long ago.
    GaveUp,
}

/// Which parts of a large datum are acknowledged.
#[derive(Debug)]
struct LargeAcks {
    seq: u64,
    total: u32,
    acked: Intervals,
}

/// What is known of a large datum that was begun: its entry, and room for four acknowledged parts.
pub(crate) const LARGE_ACKS_BYTES: usize = 2 * size_of::<LargeAcks>() + 4 * size_of::<(u64, u64)>();

/// Lists of acknowledged parts that are kept for the next large datums.
const SPARE_LISTS: usize = 4;

/// What the consumer reserves for a large datum.
pub(super) const fn large_charge(total: u32) -> usize {
    total as usize + PARTIAL_OVERHEAD_BYTES
}

/// The retransmission state of one channel. It grows with what is lost, which the session bounds by the
/// frames in flight (see [`Resend::entries`]).
#[derive(Debug, Default)]
pub(super) struct Resend {
    /// Acknowledged sequences above `released`.
    acked: Intervals,
    /// Sequences to send again: ascending, disjoint, none empty, none acknowledged.
    spans: VecDeque<Span>,
    /// Parts of large datums to send again, in the order in which they were lost. Those that arrived
    /// meanwhile are passed over when they come to the front.
    pieces: VecDeque<Piece>,
    /// Large datums that were begun and not released, ascending: the consumer may hold them.
    large: VecDeque<LargeAcks>,
    /// What the consumer reserves for them.
    large_bytes: usize,
    /// Empty lists for reuse.
    spare: Vec<Intervals>,
}

impl Resend {
    /// Whether nothing has to be sent again.
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.pieces.is_empty()
    }

    /// Spans and pieces that wait.
    pub(super) fn entries(&self) -> usize {
        self.spans.len() + self.pieces.len()
    }

    pub(super) fn front_span(&self) -> Option<Span> {
        self.spans.front().copied()
    }

    /// The front span was sent up to `span.seq`.
    pub(super) fn advance_span(&mut self, span: Span) {
        if span.is_empty() {
            self.spans.pop_front();
        } else if let Some(front) = self.spans.front_mut() {
            *front = span;
        }
    }

    /// The first piece that has not arrived.
    pub(super) fn front_piece(&mut self) -> Option<Piece> {
        while let Some(piece) = self.pieces.front() {
            if let Ok(at) = self.large.binary_search_by_key(&piece.seq, |large| large.seq) {
                let large = &self.large[at];
                let arrived = large.acked.covers(u64::from(piece.position), u64::from(piece.end));
                if large.total == piece.total && !arrived {
                    return Some(*piece);
                }
            }
            self.pieces.pop_front();
        }
        None
    }

    /// The front piece was sent up to `position`; `true` when that was its end.
    pub(super) fn advance_piece(&mut self, position: u32) -> bool {
        let Some(front) = self.pieces.front_mut() else { return true };
        front.position = position;
        let done = position == front.end;
        if done {
            self.pieces.pop_front();
        }
        done
    }

    pub(super) fn push_piece(&mut self, piece: Piece) {
        self.pieces.push_back(piece);
        self.check();
    }

    /// The datum `seq` is sent in fragments from now on.
    pub(super) fn begin_large(&mut self, seq: u64, total: u32) {
        let at = self.large.partition_point(|large| large.seq < seq);
        if self.large.get(at).is_none_or(|large| large.seq != seq) {
            let acked = self.spare.pop().unwrap_or_default();
            self.large.insert(at, LargeAcks { seq, total, acked });
            self.large_bytes += large_charge(total);
        }
    }

    /// What the consumer may hold of large datums.
    pub(super) fn large_bytes(&self) -> usize {
        self.large_bytes
    }

    /// The datum `seq` will not be sent in fragments any more.
    pub(super) fn end_large(&mut self, seq: u64) {
        self.end_larges(seq, seq + 1);
    }

    /// The sequences `first..end` arrived, where everything below `released` had. Returns the new `released`.
    pub(super) fn handle_data_acked(&mut self, mut released: u64, first: u64, end: u64) -> u64 {
        if first <= released {
            released = released.max(end);
            if !self.acked.is_empty() {
                released = self.acked.absorb(released);
            }
        } else {
            self.acked.insert(first, end);
        }
        if mutate!(!self.spans.is_empty(), "late-ack-ignored" => false) {
            self.forget_spans(first, end);
        }
        if !self.large.is_empty() {
            // A large datum may be acknowledged by a DATA frame (sent before it was split) or by a SKIP.
            self.end_larges(first, end);
            self.release_larges(released);
        }
        self.check();
        released
    }

    /// A fragment arrived; `true` when its datum is acknowledged whole by that. One that has ended is
    /// acknowledged by the frame that ended it.
    pub(super) fn handle_fragment_acked(&mut self, fragment: &SentFragment) -> bool {
        let Ok(at) = self.large.binary_search_by_key(&fragment.seq, |large| large.seq) else { return false };
        let large = &mut self.large[at];
        if large.acked.covers(0, u64::from(large.total)) {
            return false;
        }
        let position = u64::from(fragment.position);
        large.acked.insert(position, position + u64::from(fragment.len));
        large.acked.covers(0, u64::from(large.total))
    }

    /// A DATA or SKIP frame was lost, where everything below `released` had arrived. What was first sent
    /// before `horizon` is given up.
    pub(super) fn handle_data_lost(
        &mut self,
        released: u64,
        data: &SentData,
        horizon: Instant,
    ) -> LossOutcome {
        let (start, end) = (data.first.max(released), data.end());
        if start >= end {
            return LossOutcome::Queued;
        }
        for (seq, end) in self.acked.gaps(start, end) {
            if data.since < horizon {
                return LossOutcome::GaveUp;
            }
            // Behind a part that arrived the offset is only a lower bound; the consumer counts for itself.
            insert_span(&mut self.spans, Span { seq, end, offset: data.offset, since: data.since });
        }
        self.check();
        LossOutcome::Queued
    }

    /// A FRAGMENT frame was lost.
    pub(super) fn handle_fragment_lost(&mut self, fragment: &SentFragment, horizon: Instant) -> LossOutcome {
        let SentFragment { seq, offset, total, since, .. } = *fragment;
        let Ok(at) = self.large.binary_search_by_key(&seq, |large| large.seq) else {
            return LossOutcome::Queued;
        };
        let (start, len) = (u64::from(fragment.position), u64::from(fragment.len));
        for (start, end) in self.large[at].acked.gaps(start, start + len) {
            if since < horizon {
                return LossOutcome::GaveUp;
            }
            let (position, end) = (start as u32, end as u32);
            self.pieces.push_back(Piece { seq, offset, position, end, total, since });
        }
        self.check();
        LossOutcome::Queued
    }

    /// Cuts `first..end` out of the spans: a late acknowledgement of what was declared lost.
    fn forget_spans(&mut self, first: u64, end: u64) {
        let from = self.spans.partition_point(|span| span.end <= first);
        let to = self.spans.partition_point(|span| span.seq < end);
        if from >= to {
            return;
        }
        let before = Span { end: first, ..self.spans[from] };
        // Its offset is too low by what was cut off; the receiver takes it for a lower bound.
        let after = Span { seq: end, ..self.spans[to - 1] };
        self.spans.drain(from..to);
        for part in [after, before].into_iter().filter(|part| !part.is_empty()) {
            self.spans.insert(from, part);
        }
    }

    /// The large datums among `first..end` are not sent in fragments any more.
    fn end_larges(&mut self, first: u64, end: u64) {
        let from = self.large.partition_point(|large| large.seq < first);
        for large in self.large.range_mut(from..).take_while(|large| large.seq < end) {
            large.acked.insert(0, u64::from(large.total));
        }
    }

    /// Every sequence below `released` arrived: the consumer holds none of them.
    fn release_larges(&mut self, released: u64) {
        while self.large.front().is_some_and(|large| large.seq < released)
            && let Some(LargeAcks { total, mut acked, .. }) = self.large.pop_front()
        {
            self.large_bytes -= large_charge(total);
            if self.spare.len() < SPARE_LISTS {
                acked.clear();
                self.spare.push(acked);
            }
        }
    }

    fn check(&self) {
        debug_assert!(self.spans.iter().all(|span| !span.is_empty()), "no span is empty");
        debug_assert!(
            self.spans.iter().zip(self.spans.iter().skip(1)).all(|(a, b)| a.end <= b.seq),
            "spans ascend and are disjoint"
        );
        debug_assert!(
            self.large.iter().zip(self.large.iter().skip(1)).all(|(a, b)| a.seq < b.seq),
            "large datums ascend"
        );
    }
}

/// Adds what of `span` is not in the list, and joins neighbours.
fn insert_span(spans: &mut VecDeque<Span>, mut span: Span) {
    while !span.is_empty() {
        let at = spans.partition_point(|other| other.end <= span.seq);
        let mut part = span;
        if let Some(other) = spans.get_mut(at) {
            if other.seq <= span.seq {
                other.since = other.since.min(span.since);
                span.seq = other.end;
                continue;
            }
            part.end = part.end.min(other.seq);
        }
        span.seq = part.end;
        if let Some(before) = at.checked_sub(1).and_then(|index| spans.get_mut(index))
            && before.end == part.seq
        {
            before.end = part.end;
            before.since = mutate!(before.since.min(part.since), "age-forgotten" => part.since);
        } else {
            spans.insert(at, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    fn to_send_again(resend: &Resend) -> Vec<(u64, u64)> {
        resend.spans.iter().map(|span| (span.seq, span.end)).collect()
    }

    fn data(first: u64, count: u32) -> SentData {
        SentData { label: Label::new(0, 0, false), first, count, offset: 0, since: at(1) }
    }

    #[test]
    fn late_acknowledgement_removes_exactly_what_it_covers() {
        let mut resend = Resend::default();
        for first in [10, 30, 50, 70] {
            assert_eq!(resend.handle_data_lost(0, &data(first, 10), at(1)), LossOutcome::Queued);
        }
        assert_eq!(resend.handle_data_acked(0, 35, 65), 0);
        // Spans outside stay; of a span that is cut, the part outside stays.
        assert_eq!(to_send_again(&resend), [(10, 20), (30, 35), (70, 80)]);
        resend.handle_data_acked(0, 12, 15);
        assert_eq!(to_send_again(&resend), [(10, 12), (15, 20), (30, 35), (70, 80)]);
        resend.handle_data_acked(0, 100, 105);
        assert_eq!(to_send_again(&resend), [(10, 12), (15, 20), (30, 35), (70, 80)]);
    }

    #[test]
    fn loss_of_a_datum_sent_before_the_horizon_gives_it_up() {
        let mut resend = Resend::default();
        let old = data(5, 2);
        assert_eq!(resend.handle_data_lost(0, &old, at(2)), LossOutcome::GaveUp);
        assert_eq!(resend.handle_data_acked(0, 5, 7), 0);
        assert_eq!(resend.handle_data_lost(0, &old, at(2)), LossOutcome::Queued);
        assert!(resend.is_empty());
    }

    /// Quadratic work would take minutes.
    #[test]
    fn burst_loss_of_a_large_datum_takes_linear_time() {
        const PIECES: u32 = 60_000;
        let mut resend = Resend::default();
        resend.begin_large(9, PIECES * 10);
        let fragment = |index: u32| SentFragment {
            label: Label::new(0, 0, false),
            seq: 9,
            offset: 0,
            position: index * 10,
            len: 10,
            total: PIECES * 10,
            since: at(1),
        };
        for index in 0..PIECES {
            assert_eq!(resend.handle_fragment_lost(&fragment(index), at(1)), LossOutcome::Queued);
        }
        for index in 0..PIECES {
            assert_eq!(resend.handle_fragment_acked(&fragment(index)), index == PIECES - 1);
        }
        assert!(resend.front_piece().is_none() && resend.entries() == 0);
    }

    /// The SKIP may still be lost; then it has to be sent again.
    #[test]
    fn late_fragment_does_not_acknowledge_a_datum_that_was_skipped() {
        let mut resend = Resend::default();
        resend.begin_large(9, 20);
        let first = SentFragment {
            label: Label::new(0, 0, false),
            seq: 9,
            offset: 0,
            position: 0,
            len: 10,
            total: 20,
            since: at(1),
        };
        resend.end_large(9);
        assert!(!resend.handle_fragment_acked(&first));
    }

    #[test]
    fn joined_spans_keep_the_older_time() {
        let mut resend = Resend::default();
        for (first, since) in [(10, 7), (20, 3), (12, 5), (30, 9)] {
            let lost = SentData { since: at(since), ..data(first, 10) };
            assert_eq!(resend.handle_data_lost(0, &lost, at(1)), LossOutcome::Queued);
        }
        let since: Vec<Instant> = resend.spans.iter().map(|span| span.since).collect();
        assert_eq!((to_send_again(&resend), since), (alloc::vec![(10, 40)], alloc::vec![at(3)]));
    }
}
