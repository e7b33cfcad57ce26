//! Filling packets with a channel's datums.
//!
//! Not inside: which channel's turn it is, and when a packet leaves.

use alloc::collections::VecDeque;

use super::{
    DatumSource, Fetched, datum_cost,
    tx::{Large, Piece, SentFrame, Span, TxChannel},
};
use crate::wire::{
    CloseCode,
    frames::{DataHeader, FragmentHeader, Out, Run, SkipFrame},
};

/// A fragment at the end of a packet carries at least this much (or the rest of its datum).
const MIN_FRAGMENT_BYTES: usize = 256;

/// Where the records of a packet in the making go. Bounded: when full, nothing more is packed.
#[derive(Debug)]
pub(crate) struct SentLog<'a> {
    pub(crate) records: &'a mut VecDeque<SentFrame>,
    /// Most entries that `records` may have.
    pub(crate) max: usize,
    /// Records may also not exceed this when something new is sent: the rest is for resends.
    pub(crate) max_new: usize,
}

impl SentLog<'_> {
    fn is_full(&self, new: bool) -> bool {
        self.records.len() >= if new { self.max_new } else { self.max }
    }
}

/// Why a channel stopped filling a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The packet is full.
    Full,
    /// The channel's turn is over.
    Turn,
    /// The channel has nothing to send now.
    Idle,
    /// Too much is unacknowledged to keep account of more.
    Records,
    /// The channel cannot go on.
    Broken(CloseCode),
}

/// What filling a packet needs to know.
pub(crate) struct Packing<'a, 'b, S> {
    pub(crate) out: &'a mut Out<'b>,
    pub(crate) source: &'a mut S,
    pub(crate) ledger: SentLog<'a>,
    /// Bytes for frames in an empty packet.
    pub(crate) fresh_room: usize,
    /// Bytes that the channel may still use in its turn; below zero its turn is over.
    pub(crate) deficit: &'a mut i64,
}

impl<S: DatumSource> Packing<'_, '_, S> {
    fn charge(&mut self, bytes: usize) {
        *self.deficit -= bytes as i64;
    }
}

/// The DATA frame that is being filled.
struct OpenRun {
    run: Run,
    first: u64,
    offset: u64,
}

impl TxChannel {
    /// Packs as much as there is: first what was lost, then what is new.
    pub(crate) fn pack<S: DatumSource>(&mut self, p: &mut Packing<'_, '_, S>) -> Stop {
        if let Some(stop) = self.pack_pieces(p) {
            return stop;
        }
        while let Some(mut span) = self.spans.front().copied() {
            let stop = self.pack_span(&mut span, false, p);
            if span.seq >= span.end {
                self.spans.pop_front();
            } else if let Some(front) = self.spans.front_mut() {
                *front = span;
            }
            match stop {
                None if span.seq >= span.end => {}
                // A datum of the span became pieces: they go first.
                None => {
                    if let Some(stop) = self.pack_pieces(p) {
                        return stop;
                    }
                }
                Some(stop) => return stop,
            }
        }
        loop {
            if let Some(stop) = self.pack_large(p) {
                return stop;
            }
            let mut span =
                Span { seq: self.next_seq, end: self.published, offset: self.next_offset, attempt: 0 };
            let stop = self.pack_span(&mut span, true, p);
            self.next_seq = span.seq;
            if self.large.is_none() {
                self.next_offset = span.offset;
            }
            match stop {
                Some(stop) => return stop,
                None if self.large.is_some() => {}
                None => return Stop::Idle,
            }
        }
    }

    /// Packs from a span. `None`: it is done, or its next datum has to go in pieces.
    fn pack_span<S: DatumSource>(
        &mut self,
        span: &mut Span,
        new: bool,
        p: &mut Packing<'_, '_, S>,
    ) -> Option<Stop> {
        let mut open: Option<OpenRun> = None;
        let label = self.label;
        let (first_seq, mut bytes, mut skipped) = (span.seq, 0u64, 0u64);
        let stop = loop {
            if span.seq >= span.end {
                break None;
            }
            if *p.deficit <= 0 {
                break Some(Stop::Turn);
            }
            if new && (span.seq >= self.limit_seq || span.offset >= self.limit_bytes) {
                break Some(Stop::Idle);
            }
            match p.source.datum(label, span.seq) {
                Fetched::Datum(datum) => {
                    if datum.len() > self.max_datum as usize {
                        break Some(Stop::Broken(CloseCode::TOO_LARGE));
                    }
                    if let Some(open_run) = &mut open {
                        match p.out.extend_run(&mut open_run.run, datum) {
                            Ok(()) => {}
                            Err(true) => {
                                self.close_run(&mut open, span.attempt, p);
                                continue;
                            }
                            Err(false) => break Some(Stop::Full),
                        }
                    } else {
                        if p.ledger.is_full(new) {
                            break Some(Stop::Records);
                        }
                        match p.out.begin_run(label.wire(), span.seq, span.offset, datum) {
                            Some(run) => open = Some(OpenRun { run, first: span.seq, offset: span.offset }),
                            None if size_of::<DataHeader>() + datum.len() > p.fresh_room => {
                                let total = datum.len() as u32;
                                self.split(span, new, total);
                                break None;
                            }
                            None => break Some(Stop::Full),
                        }
                        *p.deficit -= size_of::<DataHeader>() as i64;
                    }
                    *p.deficit -= datum.len() as i64 + 2;
                    bytes += datum.len() as u64;
                    span.seq += 1;
                    span.offset += datum_cost(datum.len());
                }
                Fetched::Skip { until } => {
                    self.close_run(&mut open, span.attempt, p);
                    match self.pack_skip(span, until, new, p) {
                        Ok(count) => skipped += count,
                        Err(stop) => break Some(stop),
                    }
                }
                Fetched::NotYet => {
                    self.resting = true;
                    break Some(Stop::Idle);
                }
            }
        };
        self.close_run(&mut open, span.attempt, p);
        let datums = span.seq - first_seq - skipped;
        if new {
            self.stats.tx_datums += datums;
            self.stats.tx_bytes += bytes;
            self.stats.tx_skipped += skipped;
        } else {
            self.stats.resends += datums;
        }
        stop
    }

    /// Completes the DATA frame that is being filled, if there is one.
    fn close_run<S: DatumSource>(&self, open: &mut Option<OpenRun>, attempt: u8, p: &mut Packing<'_, '_, S>) {
        if let Some(OpenRun { run, first, offset }) = open.take() {
            let count = u32::from(p.out.end_run(&run));
            if self.reliable {
                p.ledger.records.push_back(SentFrame::Data {
                    label: self.label,
                    first,
                    count,
                    offset,
                    attempt,
                });
            }
        }
    }

    /// Tells that the start of the span up to `until` will never come; returns how many sequences that are.
    fn pack_skip<S: DatumSource>(
        &mut self,
        span: &mut Span,
        until: u64,
        new: bool,
        p: &mut Packing<'_, '_, S>,
    ) -> Result<u64, Stop> {
        if p.ledger.is_full(new) {
            return Err(Stop::Records);
        }
        // A record counts 32 bits; the rest of a longer row follows.
        let until = until.clamp(span.seq + 1, span.end.min(span.seq + u64::from(u32::MAX)));
        let (edge, edge_offset) = self.position();
        let after = if until == edge { edge_offset } else { span.offset };
        if !p.out.put_skip(self.label.wire(), span.seq, until, after) {
            return Err(Stop::Full);
        }
        p.charge(size_of::<SkipFrame>());
        let count = until - span.seq;
        if new {
            self.skip_is_free(count);
        }
        if self.reliable {
            let Span { seq: first, offset, attempt, .. } = *span;
            let count = count as u32;
            p.ledger.records.push_back(SentFrame::Data { label: self.label, first, count, offset, attempt });
        }
        span.seq = until;
        Ok(count)
    }

    /// The datum at the start of the span is larger than a packet.
    fn split(&mut self, span: &mut Span, new: bool, total: u32) {
        let cost = datum_cost(total as usize);
        self.begin_large(span.seq, total);
        if new {
            self.large = Some(Large { offset: span.offset, total, position: 0 });
            self.next_offset = span.offset + cost;
        } else {
            let (seq, offset, attempt) = (span.seq, span.offset, span.attempt);
            self.pieces.push_back(Piece { seq, offset, position: 0, end: total, total, attempt });
            span.seq += 1;
            span.offset += cost;
        }
    }

    /// Goes on with the large datum at `next_seq`. `None`: there is none (any more).
    fn pack_large<S: DatumSource>(&mut self, p: &mut Packing<'_, '_, S>) -> Option<Stop> {
        let large = self.large?;
        let seq = self.next_seq;
        let piece = Piece {
            seq,
            offset: large.offset,
            position: large.position,
            end: large.total,
            total: large.total,
            attempt: 0,
        };
        match self.pack_piece(piece, true, p) {
            Ok(position) if position == large.total => {
                self.large = None;
                self.next_seq = seq + 1;
                self.stats.tx_datums += 1;
                self.stats.tx_bytes += u64::from(large.total);
                None
            }
            Ok(position) => {
                self.large = Some(Large { position, ..large });
                // The packet or the turn is full: which of them, the next call will tell.
                Some(if *p.deficit <= 0 { Stop::Turn } else { Stop::Full })
            }
            Err(Some(stop)) => Some(stop),
            Err(None) => {
                self.large = None;
                self.next_seq = seq + 1;
                self.stats.tx_skipped += 1;
                self.skip_is_free(1);
                None
            }
        }
    }

    /// Sends lost pieces again. `None`: none is left.
    fn pack_pieces<S: DatumSource>(&mut self, p: &mut Packing<'_, '_, S>) -> Option<Stop> {
        while let Some(piece) = self.pieces.front().copied() {
            match self.pack_piece(piece, false, p) {
                Ok(position) => {
                    if piece.position == 0 && position > 0 {
                        self.stats.resends += 1;
                    }
                    if position == piece.end {
                        self.pieces.pop_front();
                        continue;
                    }
                    if let Some(front) = self.pieces.front_mut() {
                        front.position = position;
                    }
                    return Some(if *p.deficit <= 0 { Stop::Turn } else { Stop::Full });
                }
                Err(Some(stop)) => return Some(stop),
                // Skipped: all its pieces are gone.
                Err(None) => {
                    if piece.seq == self.next_seq && self.large.take().is_some() {
                        self.next_seq += 1;
                        self.stats.tx_skipped += 1;
                    }
                }
            }
        }
        None
    }

    /// Packs one piece; at most one frame per call, as a packet is the largest there is. Returns how far it came;
    /// `Err(None)`: the source no longer has the datum, and a SKIP went instead.
    fn pack_piece<S: DatumSource>(
        &mut self,
        piece: Piece,
        new: bool,
        p: &mut Packing<'_, '_, S>,
    ) -> Result<u32, Option<Stop>> {
        if *p.deficit <= 0 {
            return Err(Some(Stop::Turn));
        }
        if p.ledger.is_full(new) {
            return Err(Some(Stop::Records));
        }
        let Piece { seq, offset, total, attempt, .. } = piece;
        let (label, reliable) = (self.label, self.reliable);
        match p.source.datum(label, seq) {
            Fetched::Datum(datum) if datum.len() == total as usize => {
                let want = (piece.end - piece.position) as usize;
                let room = p.out.room().saturating_sub(size_of::<FragmentHeader>());
                if room < want.min(MIN_FRAGMENT_BYTES) {
                    return Err(Some(Stop::Full));
                }
                let len = want.min(room);
                let start = piece.position as usize;
                if !p.out.put_fragment(
                    label.wire(),
                    seq,
                    offset,
                    piece.position,
                    total,
                    &datum[start..start + len],
                ) {
                    return Err(Some(Stop::Full));
                }
                p.charge(len + size_of::<FragmentHeader>());
                let (position, len) = (piece.position, len as u32);
                if reliable {
                    let record = SentFrame::Fragment { label, seq, offset, position, len, total, attempt };
                    p.ledger.records.push_back(record);
                }
                Ok(position + len)
            }
            Fetched::NotYet => {
                self.resting = true;
                Err(Some(Stop::Idle))
            }
            Fetched::Datum(_) | Fetched::Skip { .. } => {
                let after = offset + datum_cost(total as usize);
                if !p.out.put_skip(label.wire(), seq, seq + 1, after) {
                    return Err(Some(Stop::Full));
                }
                p.charge(size_of::<SkipFrame>());
                self.forget_large(seq);
                if reliable {
                    p.ledger.records.push_back(SentFrame::Data {
                        label,
                        first: seq,
                        count: 1,
                        offset,
                        attempt,
                    });
                }
                Err(None)
            }
        }
    }
}
