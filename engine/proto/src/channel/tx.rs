//! The producer's end of a channel: what was sent, what is acknowledged, what must be sent again.
//!
//! Not inside: filling packets (see the sibling `tx_pack`), and the datums: they stay in their ring.

use alloc::{collections::VecDeque, vec::Vec};

use super::{
    Accept, ChannelStats, Intervals, Label, OpenRequest, POSITION_LIMIT, Reliability, UNLIMITED_WINDOW_BYTES,
    UNLIMITED_WINDOW_DATUMS, effective_window,
};

/// Something in a packet that matters when the packet is acknowledged or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentFrame {
    /// Datums or skipped sequences, on a Reliable channel.
    Data { label: Label, first: u64, count: u32, offset: u64, attempt: u8 },
    /// A piece of a large datum, on a Reliable channel.
    Fragment { label: Label, seq: u64, offset: u64, position: u32, len: u32, total: u32, attempt: u8 },
    /// A CREDIT frame.
    Credit { label: Label },
    /// A BLOCKED frame.
    Blocked { label: Label },
    /// A piece of the control stream.
    Control { offset: u64, len: u32 },
}

/// How far the opening of a channel has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TxStage {
    /// The owner has not answered.
    Requested,
    /// ACCEPT is on its way; no datum may overtake it.
    Accepting,
    /// Datums may flow.
    Open,
}

/// Sequences to send again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) seq: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) attempt: u8,
}

/// Part of a large datum to send again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) offset: u64,
    pub(super) position: u32,
    pub(super) end: u32,
    pub(super) total: u32,
    pub(super) attempt: u8,
}

/// The large datum at `next_seq`, sent as far as `position`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Large {
    pub(super) offset: u64,
    pub(super) total: u32,
    pub(super) position: u32,
}

/// Which parts of a large datum are acknowledged.
#[derive(Debug)]
struct LargeAcks {
    seq: u64,
    total: u32,
    acked: Intervals,
}

/// The producer's end.
#[derive(Debug)]
pub(crate) struct TxChannel {
    pub(super) label: Label,
    stage: TxStage,
    pub(super) reliable: bool,
    weight: u8,
    pub(super) max_datum: u32,
    window_bytes: u64,
    window_datums: u64,
    pub(super) next_seq: u64,
    pub(super) next_offset: u64,
    pub(super) published: u64,
    released: u64,
    pub(super) limit_seq: u64,
    pub(super) limit_bytes: u64,
    acked: Intervals,
    pub(super) spans: VecDeque<Span>,
    pub(super) pieces: VecDeque<Piece>,
    pub(super) large: Option<Large>,
    large_acks: Vec<LargeAcks>,
    end: Option<u64>,
    /// The source said `NotYet`: rest until `published` is called.
    pub(super) resting: bool,
    /// Has data and no credit.
    pub(crate) blocked: bool,
    /// In the session's list of channels that wait for credit.
    pub(crate) listed_blocked: bool,
    /// A BLOCKED frame is due; `Some(true)` asks for an answer in any case.
    pub(crate) blocked_due: Option<bool>,
    /// In the session's queue of channels with a BLOCKED frame to send.
    pub(crate) queued: bool,
    /// FIN was handed to the control stream.
    pub(crate) fin_sent: bool,
    /// Number of the last packet that carried data of this channel.
    pub(crate) last_packet: u64,
    /// In the session's queue of `SessionEvent::Released`.
    pub(crate) released_event: bool,
    pub(super) stats: ChannelStats,
}

impl TxChannel {
    pub(crate) fn new(label: Label, request: &OpenRequest) -> Self {
        Self {
            label,
            stage: TxStage::Requested,
            reliable: request.reliability == Reliability::Reliable,
            weight: 1,
            max_datum: request.max_datum_bytes,
            window_bytes: request.window_bytes,
            window_datums: request.window_datums,
            next_seq: 0,
            next_offset: 0,
            published: 0,
            released: 0,
            limit_seq: 0,
            limit_bytes: 0,
            acked: Intervals::default(),
            spans: VecDeque::new(),
            pieces: VecDeque::new(),
            large: None,
            large_acks: Vec::new(),
            end: None,
            resting: false,
            blocked: false,
            listed_blocked: false,
            blocked_due: None,
            queued: false,
            fin_sent: false,
            last_packet: 0,
            released_event: false,
            stats: ChannelStats { tx_window: request.window_bytes, ..ChannelStats::default() },
        }
    }

    pub(crate) const fn label(&self) -> Label {
        self.label
    }

    pub(crate) const fn stage(&self) -> TxStage {
        self.stage
    }

    pub(crate) const fn is_reliable(&self) -> bool {
        self.reliable
    }

    pub(crate) const fn weight(&self) -> u8 {
        self.weight
    }

    /// The owner lets the consumer in. Returns what to tell it.
    pub(crate) fn accept(&mut self, accept: Accept) -> Option<Accept> {
        if self.stage != TxStage::Requested || accept.first_seq >= POSITION_LIMIT {
            return None;
        }
        self.stage = TxStage::Accepting;
        self.reliable &= accept.reliability == Reliability::Reliable;
        self.weight = accept.weight.max(1);
        self.max_datum = self.max_datum.min(accept.max_datum_bytes);
        self.next_seq = accept.first_seq;
        self.published = accept.first_seq;
        self.released = accept.first_seq;
        self.limit_seq = accept.first_seq + effective_window(self.window_datums, UNLIMITED_WINDOW_DATUMS);
        self.limit_bytes = effective_window(self.window_bytes, UNLIMITED_WINDOW_BYTES);
        let reliability = if self.reliable { Reliability::Reliable } else { Reliability::FireAndForget };
        Some(Accept { max_datum_bytes: self.max_datum, reliability, ..accept })
    }

    /// The consumer knows that it was accepted.
    pub(crate) fn handle_accept_acked(&mut self) {
        if self.stage == TxStage::Accepting {
            self.stage = TxStage::Open;
        }
    }

    /// Datums below `end_seq` are there.
    pub(crate) fn publish(&mut self, end_seq: u64) {
        let end_seq = self.end.map_or(end_seq, |end| end_seq.min(end)).min(POSITION_LIMIT);
        self.published = self.published.max(end_seq);
        self.resting = false;
    }

    /// The stream ends before `end_seq`, or before what was begun already.
    pub(crate) fn finish(&mut self, end_seq: u64) -> u64 {
        let begun = self.next_seq + u64::from(self.large.is_some());
        let end = *self.end.get_or_insert(end_seq.max(begun).min(POSITION_LIMIT - 1));
        self.published = self.published.min(end);
        end
    }

    pub(crate) const fn end(&self) -> Option<u64> {
        self.end
    }

    /// Everything up to the end was sent at least once.
    pub(crate) fn is_all_sent(&self) -> bool {
        self.end.is_some_and(|end| self.next_seq >= end) && self.large.is_none()
    }

    /// Everything up to the end was sent and nothing has to be sent again.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin_sent && self.is_all_sent() && self.released() >= self.next_seq
    }

    pub(super) const fn has_credit(&self) -> bool {
        self.next_seq < self.limit_seq && self.next_offset < self.limit_bytes
    }

    /// Whether the scheduler should give it a turn.
    pub(crate) fn wants_turn(&self) -> bool {
        if self.stage != TxStage::Open || self.resting {
            return false;
        }
        !self.spans.is_empty()
            || !self.pieces.is_empty()
            || self.large.is_some()
            || (self.next_seq < self.published && self.has_credit())
    }

    /// Whether it has new data that only credit keeps back.
    pub(crate) fn lacks_credit(&self) -> bool {
        self.stage == TxStage::Open
            && self.large.is_none()
            && self.next_seq < self.published
            && !self.has_credit()
    }

    /// Notes that it lacks credit; `true` when that is news.
    pub(crate) fn block(&mut self) -> bool {
        let news = !self.blocked;
        if news {
            self.blocked = true;
            self.stats.backpressure_events += 1;
        }
        news
    }

    /// The position that a BLOCKED frame names: where `next_seq` starts.
    pub(crate) const fn position(&self) -> (u64, u64) {
        match self.large {
            Some(large) => (self.next_seq, large.offset),
            None => (self.next_seq, self.next_offset),
        }
    }

    /// Absolute limits from a CREDIT frame. Lower ones are older ones.
    pub(crate) fn handle_credit(&mut self, limit_seq: u64, limit_bytes: u64) {
        if limit_seq > self.limit_seq || limit_bytes > self.limit_bytes {
            self.stats.credit_grants_received += 1;
        }
        self.limit_seq = self.limit_seq.max(limit_seq);
        self.limit_bytes = self.limit_bytes.max(limit_bytes);
        if self.has_credit() {
            self.blocked = false;
            self.blocked_due = None;
        }
    }

    /// Sequences were skipped that had never been sent: they use up no credit.
    pub(super) fn skip_is_free(&mut self, count: u64) {
        self.limit_seq = self.limit_seq.saturating_add(count).min(POSITION_LIMIT);
    }

    /// Everything below is acknowledged (Reliable) or sent (FireAndForget).
    pub(crate) const fn released(&self) -> u64 {
        if self.reliable { self.released } else { self.next_seq }
    }

    pub(super) fn begin_large(&mut self, seq: u64, total: u32) {
        if !self.reliable {
            return;
        }
        let at = self.large_acks.partition_point(|large| large.seq < seq);
        if self.large_acks.get(at).is_none_or(|large| large.seq != seq) {
            self.large_acks.insert(at, LargeAcks { seq, total, acked: Intervals::default() });
        }
    }

    /// The datum `seq` will never be sent whole: forget its parts.
    pub(super) fn forget_large(&mut self, seq: u64) {
        self.large_acks.retain(|large| large.seq != seq);
        self.pieces.retain(|piece| piece.seq != seq);
    }

    /// A DATA or SKIP frame arrived. Returns whether `released` moved.
    pub(crate) fn handle_data_acked(&mut self, first: u64, count: u32) -> bool {
        let before = self.released;
        let end = first + u64::from(count);
        if first <= self.released {
            self.released = self.released.max(end);
            if !self.acked.is_empty() {
                self.released = self.acked.absorb(self.released);
            }
        } else {
            self.acked.insert(first, end);
        }
        if !self.spans.is_empty() {
            self.forget_spans(first, end);
        }
        if !self.large_acks.is_empty() {
            // Sent whole after all, or skipped.
            self.large_acks.retain(|large| !(first..end).contains(&large.seq));
            self.pieces.retain(|piece| !(first..end).contains(&piece.seq));
        }
        self.released > before
    }

    /// Late acknowledgement of what was taken for lost: it need not be sent again.
    fn forget_spans(&mut self, first: u64, end: u64) {
        let touched = self.spans.iter().any(|span| span.seq < end && first < span.end);
        if !touched {
            return;
        }
        for span in core::mem::take(&mut self.spans) {
            let before = Span { end: span.end.min(first), ..span };
            // Its offset is then too low by what was cut off, which a receiver takes for the lower bound it is.
            let after = Span { seq: span.seq.max(end), ..span };
            self.spans.extend([before, after].into_iter().filter(|part| part.seq < part.end));
        }
    }

    /// A FRAGMENT frame arrived. Returns whether `released` moved.
    pub(crate) fn handle_fragment_acked(&mut self, seq: u64, position: u32, len: u32) -> bool {
        let Ok(at) = self.large_acks.binary_search_by_key(&seq, |large| large.seq) else { return false };
        let large = &mut self.large_acks[at];
        large.acked.insert(u64::from(position), u64::from(position) + u64::from(len));
        let whole = large.acked.covers(0, u64::from(large.total));
        if !self.pieces.is_empty() {
            let large = &self.large_acks[at];
            self.pieces.retain(|piece| {
                piece.seq != seq || !large.acked.covers(u64::from(piece.position), u64::from(piece.end))
            });
        }
        whole && self.handle_data_acked(seq, 1)
    }

    /// A DATA or SKIP frame was lost. `false`: it was sent too often.
    pub(crate) fn handle_data_lost(
        &mut self,
        first: u64,
        count: u32,
        offset: u64,
        attempt: u8,
        max: u8,
    ) -> bool {
        let end = first + u64::from(count);
        let start = first.max(self.released);
        if start >= end {
            return true;
        }
        let lost: Vec<(u64, u64)> = self.acked.gaps(start, end).collect();
        for (seq, end) in lost {
            if attempt >= max {
                return false;
            }
            // Behind a part that arrived the offset is only a lower bound; the consumer counts for itself.
            self.insert_span(Span { seq, end, offset, attempt: attempt + 1 });
        }
        true
    }

    /// Keeps the spans sorted and disjoint, and joins neighbours.
    fn insert_span(&mut self, mut span: Span) {
        while span.seq < span.end {
            let at = self.spans.partition_point(|other| other.end <= span.seq);
            let mut part = span;
            if let Some(other) = self.spans.get_mut(at) {
                if other.seq <= span.seq {
                    other.attempt = other.attempt.max(span.attempt);
                    span.seq = other.end;
                    continue;
                }
                part.end = part.end.min(other.seq);
            }
            span.seq = part.end;
            if let Some(before) = at.checked_sub(1).and_then(|index| self.spans.get_mut(index))
                && before.end == part.seq
            {
                before.end = part.end;
                before.attempt = before.attempt.max(part.attempt);
            } else {
                self.spans.insert(at, part);
            }
        }
    }

    /// A FRAGMENT frame was lost. `false`: it was sent too often.
    pub(crate) fn handle_fragment_lost(&mut self, record: SentFrame, max: u8) -> bool {
        let SentFrame::Fragment { seq, offset, position, len, total, attempt, .. } = record else {
            return true;
        };
        let Ok(at) = self.large_acks.binary_search_by_key(&seq, |large| large.seq) else { return true };
        let lost: Vec<(u64, u64)> = self.large_acks[at]
            .acked
            .gaps(u64::from(position), u64::from(position) + u64::from(len))
            .collect();
        for (start, end) in lost {
            if attempt >= max {
                return false;
            }
            self.pieces.push_back(Piece {
                seq,
                offset,
                position: start as u32,
                end: end as u32,
                total,
                attempt: attempt + 1,
            });
        }
        true
    }

    pub(crate) fn stats(&self) -> ChannelStats {
        ChannelStats {
            tx_seq: self.next_seq,
            published: self.published,
            released: self.released(),
            tx_credit_remaining: if self.window_bytes == 0 {
                u64::MAX
            } else {
                self.limit_bytes.saturating_sub(self.next_offset)
            },
            blocked: self.blocked,
            ..self.stats
        }
    }

    /// Entries of lists that grow with loss; the session bounds what is in flight by it.
    pub(crate) fn resend_entries(&self) -> usize {
        self.spans.len() + self.pieces.len()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::ids::StreamId;

    fn reliable() -> TxChannel {
        let request = OpenRequest {
            stream_id: StreamId([7; 32]),
            reliability: Reliability::Reliable,
            window_bytes: 0,
            window_datums: 0,
            max_datum_bytes: 64,
            weight: 1,
            criteria: vec![],
            tickets: vec![],
        };
        TxChannel::new(Label::new(0, 0, false), &request)
    }

    fn to_send_again(channel: &TxChannel) -> Vec<(u64, u64)> {
        channel.spans.iter().map(|span| (span.seq, span.end)).collect()
    }

    #[test]
    fn a_late_acknowledgement_forgets_what_it_covers_and_nothing_else() {
        let mut channel = reliable();
        for first in [10, 30, 50, 70] {
            assert!(channel.handle_data_lost(first, 10, 0, 0, 16));
        }
        channel.handle_data_acked(35, 30);
        // Whole spans on both sides stay; of one that is cut, the part outside stays.
        assert_eq!(to_send_again(&channel), [(10, 20), (30, 35), (70, 80)]);
        channel.handle_data_acked(12, 3);
        assert_eq!(to_send_again(&channel), [(10, 12), (15, 20), (30, 35), (70, 80)]);
        channel.handle_data_acked(100, 5);
        assert_eq!(to_send_again(&channel), [(10, 12), (15, 20), (30, 35), (70, 80)]);
    }
}
