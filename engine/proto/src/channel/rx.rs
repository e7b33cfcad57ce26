//! The consumer's end of a channel: reassembly, order, delivery.
//!
//! Not inside: the inbox, which is behind [`DatumSink`], and when a CREDIT frame leaves.

use alloc::collections::BTreeMap;

use super::{
    Budget, ChannelStats, DatumSink, EarlyRun, EarlyRuns, Fault, Label, OpenRequest, POSITION_LIMIT, Partial,
    Reliability, datum_cost, rx_credit::RxCredit,
};
use crate::{
    mutate,
    wire::{
        CloseCode,
        frames::{DataRun, Datums, FragmentHeader, PositionFrame, SkipFrame},
    },
};

/// A frame that contradicts itself or what came before.
const VIOLATION: Fault = Fault::Close(CloseCode::PROTOCOL_VIOLATION);
/// Large FireAndForget datums of which fragments may wait at once; reordering rarely touches more than two.
const MAX_LOOSE_PARTIALS: usize = 4;
/// An early SKIP that would be cut into more parts than this by held runs is refused. An honest one meets
/// hardly any: what is held was sent, so it is not skipped. The bound keeps a small hostile frame, which can
/// be repeated, from walking all that is held.
const MAX_SKIP_STEPS: usize = 128;

/// The consumer's end.
#[derive(Debug)]
pub(crate) struct RxChannel {
    label: Label,
    /// The producer accepted. Before that no datum is taken.
    open: bool,
    /// Fixed once open.
    reliable: bool,
    /// Largest datum that both sides allow, in bytes.
    max_datum: u32,
    /// The in-order position: every sequence below was delivered, skipped or lost. At most `end`.
    next_seq: u64,
    /// Where `next_seq` starts in the offset space, or a lower bound of it. Never lowered.
    next_offset: u64,
    /// One past the highest sequence that a frame named.
    highest: u64,
    /// Sequences passed over since the last delivery; reported with the next one.
    passed: u64,
    /// Sequences since the last delivery that the consumer did not ask for.
    filtered: u64,
    /// One past the last sequence, once FIN named it.
    end: Option<u64>,
    /// Reliable: what arrived early.
    held: EarlyRuns,
    /// Large datums in reassembly, by sequence. FireAndForget: at most [`MAX_LOOSE_PARTIALS`].
    partials: BTreeMap<u64, Partial>,
    /// Bytes charged to the session's budget: the sum over `held` and `partials`.
    charged: usize,
    credit: RxCredit,
    /// In the session's queue of channels that have a CREDIT to send.
    pub(crate) queued: bool,
    /// `SessionEvent::Blocked` waits to be polled.
    pub(crate) blocked_event: bool,
    /// Counters; the fields that mirror a position are filled in by [`RxChannel::stats`].
    stats: ChannelStats,
}

impl RxChannel {
    pub(crate) fn new(label: Label, request: &OpenRequest) -> Self {
        Self {
            label,
            open: false,
            reliable: request.reliability == Reliability::Reliable,
            max_datum: request.max_datum_bytes,
            next_seq: 0,
            next_offset: 0,
            highest: 0,
            passed: 0,
            filtered: 0,
            end: None,
            held: EarlyRuns::default(),
            partials: BTreeMap::new(),
            charged: 0,
            credit: RxCredit::new(request),
            queued: false,
            blocked_event: false,
            stats: ChannelStats { tx_window: request.window_bytes, ..ChannelStats::default() },
        }
    }

    pub(crate) const fn label(&self) -> Label {
        self.label
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    #[cfg(test)]
    pub(crate) const fn end(&self) -> Option<u64> {
        self.end
    }

    /// ACCEPT arrived; `max_datum` is the largest datum that the producer will send.
    pub(crate) fn handle_accept(
        &mut self,
        first_seq: u64,
        max_datum: u32,
        reliability: Reliability,
    ) -> Result<(), Fault> {
        let stricter = reliability == Reliability::Reliable && !self.reliable;
        if self.open || stricter || first_seq >= POSITION_LIMIT {
            return Err(VIOLATION);
        }
        self.open = true;
        self.reliable = reliability == Reliability::Reliable;
        self.max_datum = self.max_datum.min(max_datum);
        (self.next_seq, self.highest) = (first_seq, first_seq);
        self.credit.start(first_seq);
        Ok(())
    }

    pub(crate) const fn max_datum(&self) -> u32 {
        self.max_datum
    }

    /// A DATA frame arrived. In order and with nothing held, its datums go straight to the sink.
    pub(crate) fn handle_data(
        &mut self,
        run: DataRun<'_>,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let end = run.first_seq + u64::from(run.datums.len());
        self.check_credit(run.first_seq, end, run.offset)?;
        self.highest = self.highest.max(end);
        if self.reliable && run.first_seq > self.next_seq {
            return self.hold_early(run, budget);
        }
        self.deliver_run(run.first_seq, run.offset, run.datums, sink)?;
        if self.held.is_empty() && self.partials.is_empty() {
            return Ok(());
        }
        self.drain(budget, sink)
    }

    fn check_credit(&self, first_seq: u64, end_seq: u64, offset: u64) -> Result<(), Fault> {
        self.credit.check(self.next_seq, first_seq, end_seq, offset)?;
        if self.end.is_some_and(|end| end_seq > end) {
            return Err(VIOLATION);
        }
        Ok(())
    }

    /// Delivers the part of a run that is new. On Reliable the run starts at or before the position, on
    /// FireAndForget anywhere.
    fn deliver_run(
        &mut self,
        first_seq: u64,
        mut offset: u64,
        mut datums: Datums<'_>,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        if first_seq < self.next_seq {
            let known = (self.next_seq - first_seq).min(u64::from(datums.len())) as u32;
            offset = offset.saturating_add(datums.advance(known).ok_or(VIOLATION)?);
            if self.reliable {
                self.stats.dropped_duplicate += u64::from(known);
            } else {
                self.stats.dropped_late += u64::from(known);
            }
        } else {
            self.lose_until(first_seq);
        }
        if datums.is_empty() {
            return Ok(());
        }
        self.next_offset = self.next_offset.max(offset);
        if let Some(len) = datums.uniform_len() {
            return self.deliver_uniform(len, datums, sink);
        }
        for datum in datums.by_ref() {
            self.deliver(datum, sink)?;
        }
        if datums.is_empty() && datums.body().is_empty() { Ok(()) } else { Err(VIOLATION) }
    }

    /// Delivers datums of one length from the position on, in one piece.
    fn deliver_uniform(
        &mut self,
        len: usize,
        datums: Datums<'_>,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let (count, bytes) = (datums.len(), datums.body());
        if bytes.len() != len * count as usize {
            return Err(VIOLATION);
        }
        if len > self.max_datum as usize {
            return Err(Fault::Close(CloseCode::TOO_LARGE));
        }
        let cost = datum_cost(len);
        let covered = self.credit.covered(self.next_seq, self.next_offset, cost).min(u64::from(count)) as u32;
        if covered > 0 {
            let passed = core::mem::take(&mut self.passed);
            let bytes = &bytes[..len * covered as usize];
            let taken = sink.deliver_run(self.label, self.next_seq, passed, len, covered, bytes).min(covered);
            let total = cost * u64::from(taken);
            self.next_seq += u64::from(taken);
            self.next_offset += total;
            self.credit.deliver(total);
            self.filtered = 0;
            self.stats.rx_datums += u64::from(taken);
            self.stats.rx_bytes += len as u64 * u64::from(taken);
            if taken < covered {
                return Err(Fault::Reset(CloseCode::NO_CAPACITY));
            }
        }
        if covered < count { Err(Fault::Close(CloseCode::CREDIT_VIOLATION)) } else { Ok(()) }
    }

    /// FireAndForget: the sequences from the position to `seq` are lost. On Reliable, `seq` is the position.
    fn lose_until(&mut self, seq: u64) {
        let gap = seq.saturating_sub(self.next_seq);
        if gap > 0 {
            debug_assert!(!self.reliable);
            self.stats.lost += gap;
            self.stats.gaps += 1;
            self.pass_over(gap);
        }
    }

    /// Moves the position past sequences that will not be delivered.
    fn pass_over(&mut self, count: u64) {
        self.passed += count;
        self.move_past(count);
    }

    /// Moves the position past sequences, of which the next delivery reports nothing.
    fn move_past(&mut self, count: u64) {
        self.next_seq += count;
        self.credit.pass(count);
        debug_assert!(self.end.is_none_or(|end| self.next_seq <= end), "the position stays before the end");
    }

    /// Delivers the datum at the position.
    #[inline]
    fn deliver(&mut self, datum: &[u8], sink: &mut impl DatumSink) -> Result<(), Fault> {
        if datum.len() > self.max_datum as usize {
            return Err(Fault::Close(CloseCode::TOO_LARGE));
        }
        if !self.credit.covers(self.next_seq, self.next_offset) {
            return Err(Fault::Close(CloseCode::CREDIT_VIOLATION));
        }
        let passed = core::mem::take(&mut self.passed);
        if !sink.deliver(self.label, self.next_seq, passed, datum) {
            return Err(Fault::Reset(CloseCode::NO_CAPACITY));
        }
        let cost = datum_cost(datum.len());
        self.next_seq += 1;
        self.next_offset += cost;
        self.credit.deliver(cost);
        self.filtered = 0;
        self.stats.rx_datums += 1;
        self.stats.rx_bytes += datum.len() as u64;
        Ok(())
    }

    /// Holds the parts of an early run that are not held yet.
    fn hold_early(&mut self, run: DataRun<'_>, budget: &mut Budget) -> Result<(), Fault> {
        if !run.datums.is_whole() {
            return Err(VIOLATION);
        }
        let (mut seq, mut offset, mut datums) = (run.first_seq, run.offset, run.datums);
        let end = seq + u64::from(datums.len());
        while seq < end {
            let (until, covered) = self.held.coverage(seq, end);
            let count = (until - seq) as u32;
            let (before, start) = (datums.body(), offset);
            offset = offset.saturating_add(datums.advance(count).ok_or(VIOLATION)?);
            if covered {
                self.stats.dropped_duplicate += u64::from(count);
            } else {
                let bytes = &before[..before.len() - datums.body().len()];
                self.charged += self.held.hold(seq, (start, offset), datums, count, bytes, budget)?;
            }
            seq = until;
        }
        Ok(())
    }

    /// Delivers what is held at the position, and drops what is held below it.
    fn drain(&mut self, budget: &mut Budget, sink: &mut impl DatumSink) -> Result<(), Fault> {
        loop {
            if let Some((first, held, charge)) = self.held.take_first(self.next_seq) {
                self.charged -= charge;
                let result = self.deliver_held(first, &held, sink);
                held.release(budget);
                result?;
                continue;
            }
            let Some(entry) = self.partials.first_entry().filter(|entry| *entry.key() <= self.next_seq)
            else {
                return Ok(());
            };
            if *entry.key() == self.next_seq && !entry.get().is_whole() {
                return Ok(());
            }
            let (seq, partial) = entry.remove_entry();
            self.finish_partial(seq, partial, budget, sink)?;
        }
    }

    /// Delivers a run that was held and starts at the position or below.
    fn deliver_held(&mut self, first: u64, held: &EarlyRun, sink: &mut impl DatumSink) -> Result<(), Fault> {
        match held {
            EarlyRun::Skip { until, offset, filtered } => self.skip_to(*until, *offset, *filtered),
            EarlyRun::Data { count, uniform, offset, bytes, .. } => {
                if let Some(datums) = Datums::new(*count, *uniform, bytes) {
                    self.deliver_run(first, *offset, datums, sink)?;
                }
            }
        }
        Ok(())
    }

    /// Delivers a partial taken from the table if it is whole and at the position; gives its charge back.
    fn finish_partial(
        &mut self,
        seq: u64,
        partial: Partial,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let mut result = Ok(());
        if seq == self.next_seq && partial.is_whole() {
            self.next_offset = self.next_offset.max(partial.offset());
            result = self.deliver(partial.bytes(), sink);
        }
        self.drop_partial(partial, budget);
        result
    }

    fn drop_partial(&mut self, partial: Partial, budget: &mut Budget) {
        self.charged -= partial.charge();
        partial.release(budget);
    }

    /// A FRAGMENT frame arrived.
    pub(crate) fn handle_fragment(
        &mut self,
        header: &FragmentHeader,
        body: &[u8],
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let (seq, total) = (header.seq.get(), header.total.get());
        let offset = header.offset.get();
        self.check_credit(seq, seq.saturating_add(1), offset)?;
        if total > self.max_datum {
            return Err(Fault::Close(CloseCode::TOO_LARGE));
        }
        self.highest = self.highest.max(seq + 1);
        if seq < self.next_seq {
            if self.reliable {
                self.stats.dropped_duplicate += 1;
            } else {
                self.stats.dropped_late += 1;
            }
            return Ok(());
        }
        if !self.partials.contains_key(&seq) {
            self.begin_partial(seq, total, offset, budget)?;
        }
        let Some(partial) = self.partials.get_mut(&seq) else { return Ok(()) };
        if partial.total() != total {
            return Err(VIOLATION);
        }
        if !partial.insert(header.position.get(), body, budget)? {
            self.stats.dropped_duplicate += 1;
            return Ok(());
        }
        if partial.is_whole() {
            if !self.reliable {
                self.lose_until(seq);
            }
            self.drain(budget, sink)?;
        }
        Ok(())
    }

    /// Makes room for a large datum. A FireAndForget datum for which there is none is lost.
    fn begin_partial(&mut self, seq: u64, total: u32, offset: u64, budget: &mut Budget) -> Result<(), Fault> {
        loop {
            let in_order = seq == self.next_seq;
            if self.reliable || self.partials.len() < MAX_LOOSE_PARTIALS {
                match Partial::begin(total, offset, self.reliable, in_order, budget) {
                    Ok(partial) => {
                        self.charged += partial.charge();
                        self.partials.insert(seq, partial);
                        return Ok(());
                    }
                    Err(fault) if self.reliable => return Err(fault),
                    Err(_) => {}
                }
            }
            // The oldest has waited longest, so its missing fragment is most likely lost.
            match self.partials.first_entry().filter(|oldest| *oldest.key() < seq) {
                Some(oldest) => {
                    let partial = oldest.remove();
                    self.drop_partial(partial, budget);
                }
                None => {
                    self.stats.dropped_late += 1;
                    return Ok(());
                }
            }
        }
    }

    /// A SKIP frame arrived.
    pub(crate) fn handle_skip(
        &mut self,
        skip: &SkipFrame,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let (first, until, offset) = (skip.first.get(), skip.until.get(), skip.offset.get());
        let filtered = skip.flags == 1;
        // A skip costs no credit, so it may pass the limit in sequences.
        if until >= POSITION_LIMIT || self.end.is_some_and(|end| until > end) {
            return Err(VIOLATION);
        }
        self.credit.check_offset(offset, datum_cost(self.max_datum as usize))?;
        self.highest = self.highest.max(until);
        if !self.reliable {
            if until > self.next_seq {
                self.lose_until(first);
                self.skip_to(until, offset, filtered);
            }
        } else if first > self.next_seq {
            let (mut seq, start) = (first, self.held.index(first));
            let mut at = start;
            while seq < until {
                if at - start >= MAX_SKIP_STEPS {
                    return Err(Fault::Refuse);
                }
                let (to, covered) = self.held.coverage_at(at, seq, until);
                if !covered {
                    let offset = if to == until { offset } else { 0 };
                    self.charged += self.held.hold_skip((seq, to), offset, filtered, budget)?;
                }
                (seq, at) = (to, at + 1);
            }
            return Ok(());
        } else {
            // A held sequence in the range was sent before it was skipped: it is delivered.
            let mut seq = self.next_seq;
            while seq < until {
                let (to, covered) = self.held.coverage(seq, until);
                if !covered {
                    self.skip_to(to, if to == until { offset } else { 0 }, filtered);
                }
                self.drain(budget, sink)?;
                seq = self.next_seq.max(to);
            }
        }
        self.drain(budget, sink)
    }

    /// Moves the position to `until`, which starts at `offset` or behind.
    fn skip_to(&mut self, until: u64, offset: u64, filtered: bool) {
        if until > self.next_seq {
            let count = until - self.next_seq;
            if filtered {
                self.stats.rx_filtered += count;
                self.filtered += count;
                self.move_past(count);
            } else {
                self.stats.rx_skipped += count;
                self.pass_over(count);
            }
            self.next_offset = self.next_offset.max(offset);
        }
    }

    /// A BLOCKED frame arrived.
    pub(crate) fn handle_blocked(
        &mut self,
        blocked: &PositionFrame,
        probe: bool,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let (seq, offset) = (blocked.seq.get(), blocked.offset.get());
        if seq >= POSITION_LIMIT || self.end.is_some_and(|end| seq > end) {
            return Err(VIOLATION);
        }
        self.credit.check_offset(offset, datum_cost(self.max_datum as usize))?;
        if !self.reliable && seq >= self.next_seq {
            self.highest = self.highest.max(seq);
            self.lose_until(seq);
            self.next_offset = self.next_offset.max(offset);
            self.drain(budget, sink)?;
        } else if seq == self.next_seq {
            // Only the producer knows the cost of datums that were skipped on a resend.
            self.next_offset = self.next_offset.max(offset);
        }
        self.credit.handle_blocked(probe);
        Ok(())
    }

    /// FIN arrived: the stream ends before `end_seq`.
    pub(crate) fn handle_fin(&mut self, end_seq: u64) -> Result<(), Fault> {
        let contradicts = self.end.is_some_and(|end| end != end_seq) || end_seq < self.highest;
        if contradicts || end_seq >= POSITION_LIMIT || !self.open {
            return Err(VIOLATION);
        }
        self.end = Some(end_seq);
        if !self.reliable {
            self.lose_until(end_seq);
        }
        Ok(())
    }

    /// The producer dropped what it has not delivered of the stream, which ended before this sequence.
    pub(crate) fn handle_discard(&self, end_seq: u64) -> Result<(), Fault> {
        let contradicts = self.end.is_some_and(|end| end != end_seq) || end_seq < self.highest;
        if contradicts || end_seq >= POSITION_LIMIT || !self.open { Err(VIOLATION) } else { Ok(()) }
    }

    /// Whether every sequence before the end was delivered, skipped or lost.
    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.next_seq >= end)
    }

    /// What the application took, absolute: one past its last sequence, and the sum of the costs.
    pub(crate) fn grant(&mut self, taken_seq: u64, taken_bytes: u64) {
        self.credit.grant(self.next_seq, taken_seq, taken_bytes);
    }

    /// Whether a CREDIT frame should leave now.
    pub(crate) fn wants_credit(&self) -> bool {
        self.open && !self.is_finished() && self.credit.wants_credit(self.next_seq, self.next_offset)
    }

    /// Raises the limits to what can be granted, and returns them for a CREDIT frame.
    pub(crate) fn raise_credit(&mut self) -> (u64, u64) {
        self.stats.credit_grants_sent += 1;
        self.credit.raise(self.next_seq, self.next_offset)
    }

    pub(crate) fn stats(&self) -> ChannelStats {
        ChannelStats {
            rx_seq: self.highest,
            in_order: mutate!(self.next_seq, "resumes-behind-held" => self.highest),
            held_bytes: self.charged as u64,
            filtered_at_end: self.filtered,
            ..self.stats
        }
    }

    /// Drops what is held and gives its charge back to the budget.
    pub(crate) fn release(self, budget: &mut Budget) {
        debug_assert_eq!(
            self.charged,
            self.held.charge() + self.partials.values().map(Partial::charge).sum::<usize>(),
            "the charge is the sum over what is held"
        );
        self.held.release(budget);
        self.partials.into_values().for_each(|partial| partial.release(budget));
    }
}
