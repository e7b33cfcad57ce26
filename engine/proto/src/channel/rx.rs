//! The consumer's end of a channel. Not inside: the inbox (it is behind [`DatumSink`]) and when a CREDIT frame leaves.

use alloc::collections::BTreeMap;

use super::{
    Assembler, Budget, ChannelStats, DatumSink, EarlyRun, Fault, HELD_OVERHEAD_BYTES, Label, OpenRequest,
    PARTIAL_OVERHEAD_BYTES, POSITION_LIMIT, Reliability, UNLIMITED_WINDOW_BYTES, UNLIMITED_WINDOW_DATUMS,
    datum_cost, effective_window,
};
use crate::wire::{
    CloseCode,
    frames::{DataRun, Datums, FragmentHeader, PositionFrame, SkipFrame},
};

/// Large FireAndForget datums of which parts may wait at once; reordering rarely touches more than two.
const LOOSE_PARTIALS: usize = 4;
/// An early SKIP that passes over more pieces than this is refused. An honest one meets hardly any, as what is held
/// was sent and so is not skipped; a hostile one could make each of its few bytes walk through all that is held.
const MAX_SKIP_STEPS: usize = 1_024;

/// Part of a large datum.
#[derive(Debug)]
struct Partial {
    total: u32,
    offset: u64,
    pieces: Assembler,
}

/// How eager the channel is to send CREDIT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Eagerness {
    /// When nearly half of the window has opened.
    Normal,
    /// The producer waits: an eighth is enough. Less would make a packet per datum of a slow application.
    Blocked,
    /// The producer has waited for long: answer with whatever there is.
    Probed,
}

/// The consumer's end.
#[derive(Debug)]
pub(crate) struct RxChannel {
    label: Label,
    /// The producer accepted.
    open: bool,
    reliable: bool,
    max_datum: u32,
    window_bytes: u64,
    window_datums: u64,
    next_seq: u64,
    next_offset: u64,
    highest: u64,
    /// Sequences passed over since the last delivery.
    passed: u64,
    limit_seq: u64,
    limit_bytes: u64,
    /// What the producer may have made of `limit_seq`: each sequence that was skipped moved it along.
    allowed_seq: u64,
    taken_seq: u64,
    taken_bytes: u64,
    delivered_bytes: u64,
    end: Option<u64>,
    held: BTreeMap<u64, EarlyRun>,
    partials: BTreeMap<u64, Partial>,
    charged: usize,
    eagerness: Eagerness,
    /// In the session's queue of channels that have a CREDIT to send.
    pub(crate) queued: bool,
    /// `SessionEvent::Blocked` waits to be polled.
    pub(crate) blocked_event: bool,
    stats: ChannelStats,
}

impl RxChannel {
    pub(crate) fn new(label: Label, request: &OpenRequest) -> Self {
        Self {
            label,
            open: false,
            reliable: request.reliability == Reliability::Reliable,
            max_datum: request.max_datum_bytes,
            window_bytes: request.window_bytes,
            window_datums: request.window_datums,
            next_seq: 0,
            next_offset: 0,
            highest: 0,
            passed: 0,
            limit_seq: 0,
            limit_bytes: 0,
            allowed_seq: 0,
            taken_seq: 0,
            taken_bytes: 0,
            delivered_bytes: 0,
            end: None,
            held: BTreeMap::new(),
            partials: BTreeMap::new(),
            charged: 0,
            eagerness: Eagerness::Normal,
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

    const fn full_window(&self) -> (u64, u64) {
        (
            effective_window(self.window_datums, UNLIMITED_WINDOW_DATUMS),
            effective_window(self.window_bytes, UNLIMITED_WINDOW_BYTES),
        )
    }

    /// The producer accepted; `max_datum` is what it will send at most.
    pub(crate) fn handle_accept(
        &mut self,
        first_seq: u64,
        max_datum: u32,
        reliability: Reliability,
    ) -> Result<(), Fault> {
        let stricter = reliability == Reliability::Reliable && !self.reliable;
        if self.open || stricter || first_seq >= POSITION_LIMIT {
            return Err(Fault::Close(CloseCode::PROTOCOL_VIOLATION));
        }
        self.open = true;
        self.reliable = reliability == Reliability::Reliable;
        self.max_datum = self.max_datum.min(max_datum);
        (self.next_seq, self.highest, self.taken_seq) = (first_seq, first_seq, first_seq);
        let (datums, bytes) = self.full_window();
        (self.limit_seq, self.limit_bytes) = (first_seq + datums, bytes);
        self.allowed_seq = self.limit_seq;
        Ok(())
    }

    pub(crate) const fn max_datum(&self) -> u32 {
        self.max_datum
    }

    /// Whole datums. The fast path, in order and nothing held, only walks and delivers.
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
            return self.hold(run, budget);
        }
        self.take_run(run.first_seq, run.offset, run.datums, sink)?;
        if self.held.is_empty() && self.partials.is_empty() {
            return Ok(());
        }
        self.drain(budget, sink)
    }

    fn check_credit(&self, first_seq: u64, end_seq: u64, offset: u64) -> Result<(), Fault> {
        // Whatever is missing before an early datum may turn out to have been skipped. What of it was not will find
        // the limit when it is delivered.
        let early = first_seq.saturating_sub(self.next_seq);
        let limit_seq = self.allowed_seq.saturating_add(early).min(POSITION_LIMIT);
        if end_seq > limit_seq || offset >= self.limit_bytes {
            return Err(Fault::Close(CloseCode::CREDIT_VIOLATION));
        }
        if self.end.is_some_and(|end| end_seq > end) {
            return Err(Fault::Close(CloseCode::PROTOCOL_VIOLATION));
        }
        Ok(())
    }

    /// Delivers the part of a run that is new. On Reliable the run starts at or before the position, on
    /// FireAndForget anywhere.
    fn take_run(
        &mut self,
        first_seq: u64,
        mut offset: u64,
        mut datums: Datums<'_>,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        const BROKEN: Fault = Fault::Close(CloseCode::PROTOCOL_VIOLATION);
        if first_seq < self.next_seq {
            let known = (self.next_seq - first_seq).min(u64::from(datums.len())) as u32;
            offset = offset.saturating_add(datums.advance(known).ok_or(BROKEN)?);
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
        for datum in datums.by_ref() {
            self.deliver(datum, sink)?;
        }
        if datums.is_empty() && datums.body().is_empty() { Ok(()) } else { Err(BROKEN) }
    }

    /// FireAndForget: everything from the position to `seq` is gone. On Reliable `seq` is the position.
    fn lose_until(&mut self, seq: u64) {
        let gap = seq.saturating_sub(self.next_seq);
        if gap > 0 {
            debug_assert!(!self.reliable);
            self.stats.lost += gap;
            self.stats.gaps += 1;
            self.pass(gap);
        }
    }

    /// Passes over sequences that will not be delivered.
    fn pass(&mut self, count: u64) {
        self.passed += count;
        self.next_seq += count;
        self.allowed_seq = self.allowed_seq.saturating_add(count).min(POSITION_LIMIT);
    }

    /// Delivers the datum at the position.
    #[inline]
    fn deliver(&mut self, datum: &[u8], sink: &mut impl DatumSink) -> Result<(), Fault> {
        if datum.len() > self.max_datum as usize {
            return Err(Fault::Close(CloseCode::TOO_LARGE));
        }
        if self.next_offset >= self.limit_bytes || self.next_seq >= self.allowed_seq {
            return Err(Fault::Close(CloseCode::CREDIT_VIOLATION));
        }
        let passed = core::mem::take(&mut self.passed);
        if !sink.deliver(self.label, self.next_seq, passed, datum) {
            return Err(Fault::Reset(CloseCode::NO_CAPACITY));
        }
        let cost = datum_cost(datum.len());
        self.next_seq += 1;
        self.next_offset += cost;
        self.delivered_bytes += cost;
        self.stats.rx_datums += 1;
        self.stats.rx_bytes += datum.len() as u64;
        Ok(())
    }

    /// Keeps the parts of an early run that are not held yet.
    fn hold(&mut self, run: DataRun<'_>, budget: &mut Budget) -> Result<(), Fault> {
        const BROKEN: Fault = Fault::Close(CloseCode::PROTOCOL_VIOLATION);
        if !run.datums.is_whole() {
            return Err(BROKEN);
        }
        let (mut seq, mut offset, mut datums) = (run.first_seq, run.offset, run.datums);
        let end = seq + u64::from(datums.len());
        while seq < end {
            let (until, covered) = self.cover(seq, end);
            let count = (until - seq) as u32;
            let (before, start) = (datums.body(), offset);
            let uniform = datums.is_uniform();
            offset = offset.saturating_add(datums.advance(count).ok_or(BROKEN)?);
            if covered {
                self.stats.dropped_duplicate += u64::from(count);
            } else {
                let bytes = &before[..before.len() - datums.body().len()];
                let charge = bytes.len() + HELD_OVERHEAD_BYTES;
                budget.take(charge)?;
                self.charged += charge;
                self.held
                    .insert(seq, EarlyRun::Data { count, uniform, offset: start, bytes: bytes.to_vec() });
            }
            seq = until;
        }
        Ok(())
    }

    /// How far from `seq` the answer to "is it held?" stays the same, at most to `end`.
    fn cover(&self, seq: u64, end: u64) -> (u64, bool) {
        if let Some((first, held)) = self.held.range(..=seq).next_back()
            && held.end(*first) > seq
        {
            return (held.end(*first).min(end), true);
        }
        (self.held.range(seq..).next().map_or(end, |(first, _)| end.min(*first)), false)
    }

    /// Delivers what was held and has its turn now.
    fn drain(&mut self, budget: &mut Budget, sink: &mut impl DatumSink) -> Result<(), Fault> {
        loop {
            if let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= self.next_seq) {
                let (first, held) = entry.remove_entry();
                let charge = held.charge();
                self.charged -= charge;
                budget.give(charge);
                match held {
                    EarlyRun::Skip { until, offset } => self.skip_to(until, offset),
                    EarlyRun::Data { count, uniform, offset, bytes } => {
                        if let Some(datums) = Datums::new(count, uniform, &bytes) {
                            self.take_run(first, offset, datums, sink)?;
                        }
                    }
                }
                continue;
            }
            let Some(entry) = self.partials.first_entry().filter(|entry| *entry.key() <= self.next_seq)
            else {
                return Ok(());
            };
            let whole = entry.get().pieces.end() == u64::from(entry.get().total);
            if *entry.key() == self.next_seq && !whole {
                return Ok(());
            }
            let (seq, partial) = entry.remove_entry();
            self.settle(seq, partial, budget, sink)?;
        }
    }

    /// A partial leaves the table: delivered when it is the datum at the position and whole, else dropped.
    fn settle(
        &mut self,
        seq: u64,
        partial: Partial,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let mut result = Ok(());
        if seq == self.next_seq && partial.pieces.end() == u64::from(partial.total) {
            self.next_offset = self.next_offset.max(partial.offset);
            result = self.deliver(partial.pieces.whole(), sink);
        }
        self.charged -= PARTIAL_OVERHEAD_BYTES + partial.pieces.charged();
        budget.give(PARTIAL_OVERHEAD_BYTES);
        partial.pieces.dissolve(budget);
        result
    }

    /// A piece of a large datum.
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
            self.begin_partial(seq, total, offset, budget, sink)?;
        }
        let Some(partial) = self.partials.get_mut(&seq) else { return Ok(()) };
        if partial.total != total {
            return Err(Fault::Close(CloseCode::PROTOCOL_VIOLATION));
        }
        let before = partial.pieces.charged();
        let inserted = partial.pieces.insert(u64::from(header.position.get()), body, budget);
        self.charged = self.charged + partial.pieces.charged() - before;
        if !inserted? {
            self.stats.dropped_duplicate += 1;
            return Ok(());
        }
        if partial.pieces.end() == u64::from(total) {
            if !self.reliable {
                self.lose_until(seq);
            }
            self.drain(budget, sink)?;
        }
        Ok(())
    }

    fn begin_partial(
        &mut self,
        seq: u64,
        total: u32,
        offset: u64,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        if !self.reliable && self.partials.len() >= LOOSE_PARTIALS {
            // The oldest has waited longest for a piece that is most likely lost.
            if self.partials.first_key_value().is_some_and(|(oldest, _)| *oldest > seq) {
                self.stats.dropped_late += 1;
                return Ok(());
            }
            if let Some((_, partial)) = self.partials.pop_first() {
                self.settle(POSITION_LIMIT, partial, budget, sink)?;
            }
        }
        budget.take(PARTIAL_OVERHEAD_BYTES)?;
        self.charged += PARTIAL_OVERHEAD_BYTES;
        self.partials.insert(seq, Partial { total, offset, pieces: Assembler::new(budget) });
        Ok(())
    }

    /// Sequences that will never come.
    pub(crate) fn handle_skip(
        &mut self,
        skip: &SkipFrame,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let (first, until, offset) = (skip.first.get(), skip.until.get(), skip.offset.get());
        // A skip costs no credit, so it may pass the limit in sequences; in bytes the producer can stand at most
        // one datum beyond it.
        if until >= POSITION_LIMIT || self.end.is_some_and(|end| until > end) {
            return Err(Fault::Close(CloseCode::PROTOCOL_VIOLATION));
        }
        self.check_offset(offset)?;
        self.highest = self.highest.max(until);
        if !self.reliable {
            if until > self.next_seq {
                self.lose_until(first);
                self.skip_to(until, offset);
            }
        } else if first > self.next_seq {
            let (mut seq, mut steps) = (first, 0);
            while seq < until {
                let (to, covered) = self.cover(seq, until);
                steps += 1;
                if steps > MAX_SKIP_STEPS {
                    return Err(Fault::Refuse);
                }
                if !covered {
                    budget.take(HELD_OVERHEAD_BYTES)?;
                    self.charged += HELD_OVERHEAD_BYTES;
                    let offset = if to == until { offset } else { 0 };
                    self.held.insert(seq, EarlyRun::Skip { until: to, offset });
                }
                seq = to;
            }
            return Ok(());
        } else {
            // What is held beyond the position was not skipped when it was sent: it is delivered.
            let mut seq = self.next_seq;
            while seq < until {
                let (to, covered) = self.cover(seq, until);
                if !covered {
                    self.skip_to(to, if to == until { offset } else { 0 });
                }
                self.drain(budget, sink)?;
                seq = self.next_seq.max(to);
            }
        }
        self.drain(budget, sink)
    }

    fn check_offset(&self, offset: u64) -> Result<(), Fault> {
        if offset > self.limit_bytes.saturating_add(datum_cost(self.max_datum as usize)) {
            return Err(Fault::Close(CloseCode::CREDIT_VIOLATION));
        }
        Ok(())
    }

    fn skip_to(&mut self, until: u64, offset: u64) {
        if until > self.next_seq {
            let count = until - self.next_seq;
            self.stats.rx_skipped += count;
            self.pass(count);
            self.next_offset = self.next_offset.max(offset);
        }
    }

    /// The producer waits for credit.
    pub(crate) fn handle_blocked(
        &mut self,
        blocked: &PositionFrame,
        probe: bool,
        budget: &mut Budget,
        sink: &mut impl DatumSink,
    ) -> Result<(), Fault> {
        let (seq, offset) = (blocked.seq.get(), blocked.offset.get());
        if seq >= POSITION_LIMIT || self.end.is_some_and(|end| seq > end) {
            return Err(Fault::Close(CloseCode::PROTOCOL_VIOLATION));
        }
        self.check_offset(offset)?;
        if !self.reliable && seq >= self.next_seq {
            self.highest = self.highest.max(seq);
            self.lose_until(seq);
            self.next_offset = self.next_offset.max(offset);
            self.drain(budget, sink)?;
        } else if seq == self.next_seq {
            // Datums that were skipped on a resend had a cost that only the producer knows.
            self.next_offset = self.next_offset.max(offset);
        }
        self.eagerness = self.eagerness.max(if probe { Eagerness::Probed } else { Eagerness::Blocked });
        Ok(())
    }

    /// The stream ends before `end_seq`.
    pub(crate) fn handle_fin(&mut self, end_seq: u64) -> Result<(), Fault> {
        let contradicts = self.end.is_some_and(|end| end != end_seq) || end_seq < self.highest;
        if contradicts || end_seq >= POSITION_LIMIT || !self.open {
            return Err(Fault::Close(CloseCode::PROTOCOL_VIOLATION));
        }
        self.end = Some(end_seq);
        if !self.reliable {
            self.lose_until(end_seq);
        }
        Ok(())
    }

    /// Everything before the end was delivered.
    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.next_seq >= end)
    }

    /// What the application took, absolute.
    pub(crate) fn grant(&mut self, taken_seq: u64, taken_bytes: u64) {
        self.taken_seq = self.taken_seq.max(taken_seq.min(self.next_seq));
        self.taken_bytes = self.taken_bytes.max(taken_bytes.min(self.delivered_bytes));
    }

    /// The limits that could be granted now.
    fn open_limits(&self) -> (u64, u64) {
        let waiting = self.delivered_bytes - self.taken_bytes;
        let (datums, bytes) = self.full_window();
        let bytes = if self.window_bytes == 0 { bytes } else { bytes.saturating_sub(waiting) };
        // Each datum that waits costs at least 16 bytes, so at most `waiting / 16` wait.
        let by_count = if self.window_datums == 0 {
            self.next_seq + datums
        } else {
            let taken = if waiting == 0 { self.next_seq } else { self.taken_seq };
            (taken + datums).max(self.next_seq + datums.saturating_sub(waiting / 16))
        };
        // No credit beyond the end of all positions: so no sum of one and a cost can overflow.
        (by_count, self.next_offset.saturating_add(bytes).min(POSITION_LIMIT))
    }

    /// Whether a CREDIT frame should leave now.
    pub(crate) fn wants_credit(&self) -> bool {
        if !self.open || self.is_finished() {
            return false;
        }
        let share = |window: u64| match self.eagerness {
            // Three eighths, not a half: an owner that calls `grant` when about half of its inbox is free must
            // find the channel willing.
            Eagerness::Normal => (window / 8 * 3).max(1),
            Eagerness::Blocked => (window / 8).max(1),
            Eagerness::Probed => 0,
        };
        let (seq, bytes) = self.open_limits();
        let (datum_window, byte_window) = self.full_window();
        seq.saturating_sub(self.limit_seq) >= share(datum_window)
            || bytes.saturating_sub(self.limit_bytes) >= share(byte_window)
    }

    /// Raises the limits to what can be granted and returns them.
    pub(crate) fn raise_credit(&mut self) -> (u64, u64) {
        let (seq, bytes) = self.open_limits();
        self.limit_seq = self.limit_seq.max(seq);
        self.limit_bytes = self.limit_bytes.max(bytes);
        self.allowed_seq = self.allowed_seq.max(self.limit_seq);
        self.eagerness = Eagerness::Normal;
        self.stats.credit_grants_sent += 1;
        (self.limit_seq, self.limit_bytes)
    }

    pub(crate) fn stats(&self) -> ChannelStats {
        ChannelStats {
            rx_seq: self.highest,
            in_order: self.next_seq,
            held_bytes: self.charged as u64,
            ..self.stats
        }
    }

    /// Gives everything held back to the budget.
    pub(crate) fn dissolve(self, budget: &mut Budget) {
        budget.give(self.charged);
    }
}
