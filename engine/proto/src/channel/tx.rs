//! The producer's end of a channel: what was sent, what is acknowledged, what credit allows.
//!
//! Not inside: filling packets (`tx_pack`), and the datums, which stay in their ring.

use super::{
    Accept, ChannelStats, CreditLimit, EgressBooking, Label, LossOutcome, OpenRequest, POSITION_LIMIT,
    Positions, Reliability, effective_windows,
    resend::{Resend, SentData, SentFragment},
};
use crate::time::Instant;

/// How far the opening of a channel has come at the producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TxStage {
    /// The owner has not answered.
    Requested,
    /// ACCEPT is sent and not acknowledged; no datum may overtake it.
    Accepting,
    /// Datums may flow.
    Open,
}

/// Which BLOCKED frame a channel owes its consumer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum BlockedFrame {
    /// The channel ran out of credit.
    Notice,
    /// It has waited for a while: the consumer answers in any case.
    Probe,
}

/// The large datum at `next`, sent as far as `position`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Large {
    /// Start of the datum in the offset space.
    pub(super) offset: u64,
    pub(super) total: u32,
    pub(super) position: u32,
}

/// The producer's end.
#[derive(Debug)]
pub(crate) struct TxChannel {
    pub(super) label: Label,
    stage: TxStage,
    /// Both the request and the producer's answer ask for it. Fixed once accepted.
    pub(super) reliable: bool,
    /// Share in the scheduler, at least 1.
    weight: u8,
    /// Largest datum that both sides allow, in bytes.
    pub(super) max_datum: u32,
    /// The windows of the request; 0 means no limit.
    window_bytes: u64,
    window_datums: u64,
    pub(super) positions: Positions,
    /// How far the consumer lets it send.
    pub(super) credit: CreditLimit,
    /// Set while the datum at `next` is being sent in fragments; then `next < published`.
    pub(super) large: Option<Large>,
    pub(super) resend: Resend,
    /// What it has booked; `None`: it is not limited.
    pub(super) egress: Option<EgressBooking>,
    /// The source answered `NotYet`; cleared by `publish`.
    pub(super) resting: bool,
    /// The next datum is large, and the consumer has no room for it; cleared by the session.
    pub(crate) crowded: bool,
    /// In the session's queue of channels that wait for room for a large datum.
    pub(crate) listed_crowded: bool,
    /// It has data and no credit; cleared when credit covers `next`.
    pub(crate) blocked: bool,
    /// When it asks for credit if it is still blocked then; the session has an entry with this time.
    pub(crate) probe_at: Option<Instant>,
    /// The time until the probe after that, in units of the configured one; 0 before the first probe.
    pub(crate) probe_backoff: u32,
    /// The BLOCKED frame to send. Set only while `blocked`.
    pub(crate) blocked_due: Option<BlockedFrame>,
    /// In the session's queue of channels with a BLOCKED frame to send.
    pub(crate) queued: bool,
    /// FIN was handed to the control stream. Set only when the end is known.
    pub(crate) fin_sent: bool,
    /// The peer has received FIN.
    pub(crate) fin_acked: bool,
    /// Number of the last packet that carried data of this channel.
    pub(crate) last_packet: u64,
    /// In the session's queue of `SessionEvent::Released`.
    pub(crate) released_event: bool,
    /// Counters; the fields that mirror a position are filled in by [`TxChannel::stats`].
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
            positions: Positions::default(),
            credit: CreditLimit::default(),
            large: None,
            resend: Resend::default(),
            egress: None,
            resting: false,
            crowded: false,
            listed_crowded: false,
            blocked: false,
            probe_at: None,
            probe_backoff: 0,
            blocked_due: None,
            queued: false,
            fin_sent: false,
            fin_acked: false,
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

    /// Accepts the consumer; returns the terms to send. `None` when it was answered before, or when
    /// `first_seq` is out of range.
    pub(crate) fn accept(&mut self, accept: Accept) -> Option<Accept> {
        if self.stage != TxStage::Requested || accept.first_seq >= POSITION_LIMIT {
            return None;
        }
        self.stage = TxStage::Accepting;
        self.reliable &= accept.reliability == Reliability::Reliable;
        self.weight = accept.weight.max(1);
        self.max_datum = self.max_datum.min(accept.max_datum_bytes);
        self.positions = Positions::starting_at(accept.first_seq);
        let (datums, bytes) = effective_windows(self.window_datums, self.window_bytes);
        self.credit = CreditLimit { seq: accept.first_seq + datums, bytes };
        let reliability = if self.reliable { Reliability::Reliable } else { Reliability::FireAndForget };
        Some(Accept { max_datum_bytes: self.max_datum, reliability, ..accept })
    }

    /// ACCEPT arrived at the consumer.
    pub(crate) fn handle_accept_acked(&mut self) {
        if self.stage == TxStage::Accepting {
            self.stage = TxStage::Open;
        }
    }

    /// Datums below `end_seq` can be fetched.
    pub(crate) fn publish(&mut self, end_seq: u64) {
        self.positions.publish(end_seq);
        self.resting = false;
    }

    /// The stream ends before `end_seq`, or behind the last datum that was begun if that is later.
    pub(crate) fn finish(&mut self, end_seq: u64) -> u64 {
        let begun = self.positions.next() + u64::from(self.large.is_some());
        self.positions.finish(end_seq, begun)
    }

    pub(crate) const fn end(&self) -> Option<u64> {
        self.positions.end()
    }

    /// Whether everything up to the end was sent at least once.
    pub(crate) fn is_all_sent(&self) -> bool {
        self.positions.reached_end() && self.large.is_none()
    }

    /// Whether the peer has FIN, everything up to the end was sent, and nothing has to be sent again.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin_acked && self.is_all_sent() && self.released() >= self.positions.next()
    }

    const fn has_credit(&self) -> bool {
        self.credit.covers(self.positions.next(), self.positions.next_offset())
    }

    /// Whether the scheduler should give it a turn.
    pub(crate) fn wants_turn(&self) -> bool {
        if self.stage != TxStage::Open || self.resting || self.held_until().is_some() {
            return false;
        }
        let new = !self.crowded && self.positions.has_unsent() && self.has_credit();
        !self.resend.is_empty() || self.large.is_some() || new
    }

    /// Whether it has new data that only missing credit keeps back.
    pub(crate) fn lacks_credit(&self) -> bool {
        self.stage == TxStage::Open
            && self.large.is_none()
            && self.positions.has_unsent()
            && !self.has_credit()
    }

    /// Marks it as blocked; `true` when it was not.
    pub(crate) fn block(&mut self) -> bool {
        let newly = !self.blocked;
        if newly {
            self.blocked = true;
            self.stats.backpressure_events += 1;
        }
        newly
    }

    /// The sequence and offset that a BLOCKED frame names: where `next` starts.
    pub(crate) const fn position(&self) -> (u64, u64) {
        match self.large {
            Some(large) => (self.positions.next(), large.offset),
            None => (self.positions.next(), self.positions.next_offset()),
        }
    }

    /// A CREDIT frame arrived. Its limits are absolute, so lower ones are older ones.
    pub(crate) fn handle_credit(&mut self, limit_seq: u64, limit_bytes: u64) {
        if self.credit.raise(limit_seq, limit_bytes) {
            self.stats.credit_grants_received += 1;
        }
        if self.has_credit() {
            self.blocked = false;
            self.blocked_due = None;
        }
    }

    /// Every sequence below is acknowledged (Reliable) or sent (FireAndForget).
    pub(crate) const fn released(&self) -> u64 {
        if self.reliable { self.positions.released() } else { self.positions.next() }
    }

    /// A DATA or SKIP frame arrived. Returns whether `released` moved.
    pub(crate) fn handle_data_acked(&mut self, data: &SentData) -> bool {
        self.release(data.first, data.end())
    }

    /// The sequences `first..end` arrived. Returns whether `released` moved.
    fn release(&mut self, first: u64, end: u64) -> bool {
        let released = self.resend.handle_data_acked(self.positions.released(), first, end);
        self.positions.release(released)
    }

    /// A FRAGMENT frame arrived. Returns whether `released` moved.
    pub(crate) fn handle_fragment_acked(&mut self, fragment: &SentFragment) -> bool {
        self.resend.handle_fragment_acked(fragment) && self.release(fragment.seq, fragment.seq + 1)
    }

    /// A DATA or SKIP frame was lost. What was first sent before `horizon` is given up.
    pub(crate) fn handle_data_lost(&mut self, data: &SentData, horizon: Instant) -> LossOutcome {
        self.resend.handle_data_lost(self.positions.released(), data, horizon)
    }

    /// A FRAGMENT frame was lost.
    pub(crate) fn handle_fragment_lost(&mut self, fragment: &SentFragment, horizon: Instant) -> LossOutcome {
        self.resend.handle_fragment_lost(fragment, horizon)
    }

    pub(crate) fn stats(&self) -> ChannelStats {
        ChannelStats {
            tx_seq: self.positions.next(),
            published: self.positions.published(),
            released: self.released(),
            tx_credit_remaining: if self.window_bytes == 0 {
                u64::MAX
            } else {
                self.credit.bytes.saturating_sub(self.positions.next_offset())
            },
            blocked: self.blocked,
            paced_since: self.held_since(),
            ..self.stats
        }
    }

    /// A large datum is being sent.
    pub(crate) const fn is_in_large(&self) -> bool {
        self.large.is_some()
    }

    /// What the consumer may hold of large datums; the session bounds their sum.
    pub(crate) fn large_bytes(&self) -> usize {
        self.resend.large_bytes()
    }

    /// Entries of its lists of what to send again; the session bounds what is in flight by their sum.
    pub(crate) fn resend_entries(&self) -> usize {
        self.resend.entries()
    }
}
