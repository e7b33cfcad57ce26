//! The credit that a consumer gives: how far the producer may send, and when to raise it.

use super::{CreditLimit, Fault, OpenRequest, POSITION_LIMIT, effective_windows};
use crate::{mutate, wire::CloseCode};

/// How eager the channel is to send CREDIT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Eagerness {
    /// At three eighths of the window. Not at a half: an owner that calls `grant` when about half of its
    /// inbox is free must find the channel willing.
    Normal,
    /// The producer waits: at an eighth. Less would make a packet per datum of a slow application.
    Blocked,
    /// The producer has waited for long: at once.
    Probed,
}

/// Credit state of a consumer's channel.
#[derive(Debug)]
pub(super) struct RxCredit {
    /// The windows of the request; 0 means no limit by the application.
    window_bytes: u64,
    window_datums: u64,
    /// The limit last sent.
    limit: CreditLimit,
    /// What the producer may have made of `limit.seq`, which each skipped sequence moves along.
    allowed_seq: u64,
    /// One past the last sequence that the application took.
    taken_seq: u64,
    /// Cost of what the application took; at most `delivered_bytes`.
    taken_bytes: u64,
    /// Cost of what was delivered to the sink.
    delivered_bytes: u64,
    eagerness: Eagerness,
}

impl RxCredit {
    pub(super) fn new(request: &OpenRequest) -> Self {
        Self {
            window_bytes: request.window_bytes,
            window_datums: request.window_datums,
            limit: CreditLimit::default(),
            allowed_seq: 0,
            taken_seq: 0,
            taken_bytes: 0,
            delivered_bytes: 0,
            eagerness: Eagerness::Normal,
        }
    }

    const fn full_windows(&self) -> (u64, u64) {
        effective_windows(self.window_datums, self.window_bytes)
    }

    /// The producer starts at `first_seq`; both ends derive the first limit from the windows.
    pub(super) fn start(&mut self, first_seq: u64) {
        let (datums, bytes) = self.full_windows();
        self.limit = CreditLimit { seq: first_seq + datums, bytes };
        self.allowed_seq = self.limit.seq;
        self.taken_seq = first_seq;
    }

    /// Checks sequences up to `end_seq` and an offset against the credit given; the channel stands at
    /// `next_seq` and the sequences start at `first_seq`.
    pub(super) fn check(
        &self,
        next_seq: u64,
        first_seq: u64,
        end_seq: u64,
        offset: u64,
    ) -> Result<(), Fault> {
        // Anything missing before an early datum may turn out to have been skipped, which is free. If it was
        // not, delivery runs into the limit.
        let early = first_seq.saturating_sub(next_seq);
        let limit_seq = self.allowed_seq.saturating_add(early).min(POSITION_LIMIT);
        if end_seq > limit_seq || offset >= self.limit.bytes {
            return Err(Fault::Close(CloseCode::CREDIT_VIOLATION));
        }
        Ok(())
    }

    /// Checks the offset of a frame without datums: the producer can stand one datum of `max_cost` beyond the
    /// limit.
    pub(super) fn check_offset(&self, offset: u64, max_cost: u64) -> Result<(), Fault> {
        if offset > self.limit.bytes.saturating_add(max_cost) {
            return Err(Fault::Close(CloseCode::CREDIT_VIOLATION));
        }
        Ok(())
    }

    /// Whether the datum at this position may be delivered.
    pub(super) const fn covers(&self, seq: u64, offset: u64) -> bool {
        offset < self.limit.bytes && seq < self.allowed_seq
    }

    /// How many datums of `cost` each may be delivered in a row from this position.
    pub(super) fn covered(&self, seq: u64, offset: u64, cost: u64) -> u64 {
        CreditLimit { seq: self.allowed_seq, ..self.limit }.covered(seq, offset, cost)
    }

    /// `count` sequences will not be delivered.
    pub(super) fn pass(&mut self, count: u64) {
        let count = mutate!(count, "skip-spends-credit" => 0);
        self.allowed_seq = self.allowed_seq.saturating_add(count).min(POSITION_LIMIT);
    }

    /// Datums of this cost in total were delivered.
    pub(super) fn deliver(&mut self, cost: u64) {
        self.delivered_bytes += cost;
    }

    /// What the application took, absolute; clamped to what was delivered before `next_seq`.
    pub(super) fn grant(&mut self, next_seq: u64, taken_seq: u64, taken_bytes: u64) {
        self.taken_seq = self.taken_seq.max(taken_seq.min(next_seq));
        self.taken_bytes = self.taken_bytes.max(taken_bytes.min(self.delivered_bytes));
    }

    /// The producer waits for credit.
    pub(super) fn handle_blocked(&mut self, probe: bool) {
        self.eagerness = self.eagerness.max(if probe { Eagerness::Probed } else { Eagerness::Blocked });
    }

    /// The limits that could be granted at this position.
    fn open_limits(&self, next_seq: u64, next_offset: u64) -> (u64, u64) {
        debug_assert!(self.taken_bytes <= self.delivered_bytes);
        let waiting = self.delivered_bytes - self.taken_bytes;
        let (datums, bytes) = self.full_windows();
        let bytes = if self.window_bytes == 0 { bytes } else { bytes.saturating_sub(waiting) };
        // Each datum that waits costs at least 16 bytes, so at most `waiting / 16` wait.
        let by_count = if self.window_datums == 0 {
            next_seq + datums
        } else {
            let taken = if waiting == 0 { next_seq } else { self.taken_seq };
            (taken + datums).max(next_seq + datums.saturating_sub(waiting / 16))
        };
        // Bounded by the end of all positions, so no sum of a limit and a cost can overflow.
        (by_count, next_offset.saturating_add(bytes).min(POSITION_LIMIT))
    }

    /// Whether a CREDIT frame should leave now.
    pub(super) fn wants_credit(&self, next_seq: u64, next_offset: u64) -> bool {
        let share = |window: u64| match self.eagerness {
            Eagerness::Normal => (window / 8 * 3).max(1),
            Eagerness::Blocked => (window / 8).max(1),
            Eagerness::Probed => 0,
        };
        let (seq, bytes) = self.open_limits(next_seq, next_offset);
        let (datum_window, byte_window) = self.full_windows();
        seq.saturating_sub(self.limit.seq) >= share(datum_window)
            || bytes.saturating_sub(self.limit.bytes) >= share(byte_window)
    }

    /// Raises the limits to what can be granted, and returns them.
    pub(super) fn raise(&mut self, next_seq: u64, next_offset: u64) -> (u64, u64) {
        let (seq, bytes) = self.open_limits(next_seq, next_offset);
        self.limit.raise(seq, bytes);
        self.allowed_seq = self.allowed_seq.max(self.limit.seq);
        self.eagerness = Eagerness::Normal;
        (self.limit.seq, self.limit.bytes)
    }
}
