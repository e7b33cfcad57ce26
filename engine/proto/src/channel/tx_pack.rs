//! Filling packets with a channel's datums: first what was lost, then what is new.
//!
//! Not inside: which channel sends next, and when a packet leaves.

use alloc::collections::VecDeque;

use super::{
    DatumSource, Fetched, TxChannel, datum_cost,
    resend::{Piece, SentData, SentFragment, SentFrame, Span, large_charge},
    tx::Large,
};
use crate::{
    mutate,
    time::Instant,
    wire::{
        CloseCode,
        frames::{DataHeader, FragmentHeader, Out, Run, RunOutcome, SkipFrame},
    },
};

/// A fragment at the end of a packet carries at least this much, or the rest of its datum: a few times its
/// header, and less than an empty packet of the smallest size has room for.
const MIN_FRAGMENT_BYTES: usize = 128;

/// Where the frames of the packet being filled are recorded. When it is full, nothing more is packed.
#[derive(Debug)]
pub(crate) struct SentLog<'a> {
    pub(crate) frames: &'a mut VecDeque<SentFrame>,
    /// Most entries that `frames` may have.
    pub(crate) max: usize,
    /// Most entries when something new is sent; at most `max`. The rest is for resends.
    pub(crate) max_new: usize,
}

impl SentLog<'_> {
    fn is_full(&self, new: bool) -> bool {
        self.frames.len() >= if new { self.max_new } else { self.max }
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
    /// The log is full: too much is unacknowledged.
    LogFull,
    /// The next datum is large, and the consumer has no room for it.
    Crowded,
    /// The channel cannot go on.
    Broken(CloseCode),
}

/// The packet being filled, and what the channel may use of it.
pub(crate) struct Packing<'a, 'b, S> {
    pub(crate) out: &'a mut Out<'b>,
    pub(crate) source: &'a mut S,
    pub(crate) log: SentLog<'a>,
    pub(crate) now: Instant,
    /// Bytes for frames in an empty packet. A datum that does not fit into it is sent in fragments.
    pub(crate) fresh_room: usize,
    /// Bytes that the consumer has room for, of large Reliable datums that are begun now.
    pub(crate) large_room: usize,
    /// Bytes that the channel may still use in its turn; at or below zero the turn is over.
    pub(crate) deficit: &'a mut i64,
}

impl<S: DatumSource> Packing<'_, '_, S> {
    fn charge(&mut self, bytes: usize) {
        *self.deficit -= bytes as i64;
    }

    /// Why sending stopped in the middle of a datum.
    fn stop(&self) -> Stop {
        if *self.deficit <= 0 { Stop::Turn } else { Stop::Full }
    }
}

/// The DATA frame that is being filled.
struct OpenRun {
    run: Run,
    first: u64,
    offset: u64,
}

/// What became of a span.
enum SpanOutcome {
    /// All of it was packed.
    Packed,
    /// Its first datum is larger than a packet and is sent in fragments.
    Split { total: u32 },
    /// Packing stopped at `span.seq`.
    Stopped(Stop),
}

/// What became of a piece of a large datum.
enum PieceOutcome {
    /// It was packed up to this position.
    Sent(u32),
    /// The source no longer has the datum: a SKIP was packed instead, and all its pieces are gone.
    Skipped,
    /// Nothing was packed.
    Stopped(Stop),
}

impl TxChannel {
    /// Packs as much as the packet, the turn and the credit allow.
    pub(crate) fn pack<S: DatumSource>(&mut self, p: &mut Packing<'_, '_, S>) -> Stop {
        if let Some(stop) = self.pack_resends(p) {
            return stop;
        }
        loop {
            if let Some(stop) = self.pack_large(p) {
                return stop;
            }
            let positions = self.positions;
            let (seq, end, offset) = (positions.next(), positions.published(), positions.next_offset());
            let mut span = Span { seq, end, offset, since: p.now };
            let outcome = self.pack_span(&mut span, true, p);
            match outcome {
                SpanOutcome::Split { total } if self.has_room(total, p) => self.split_new(&span, total),
                SpanOutcome::Split { .. } => {
                    self.positions.advance(span.seq, span.offset);
                    self.crowded = true;
                    return Stop::Crowded;
                }
                _ => self.positions.advance(span.seq, span.offset),
            }
            match outcome {
                SpanOutcome::Packed => return Stop::Idle,
                SpanOutcome::Split { .. } => {}
                SpanOutcome::Stopped(stop) => return stop,
            }
        }
    }

    /// Packs what was lost; pieces go first. `None`: nothing is left to send again.
    fn pack_resends<S: DatumSource>(&mut self, p: &mut Packing<'_, '_, S>) -> Option<Stop> {
        if let Some(stop) = self.pack_pieces(p) {
            return Some(stop);
        }
        while let Some(mut span) = self.resend.front_span() {
            let outcome = self.pack_span(&mut span, false, p);
            if let SpanOutcome::Split { total } = outcome {
                self.split_lost(&mut span, total);
            }
            self.resend.advance_span(span);
            match outcome {
                SpanOutcome::Packed => {}
                SpanOutcome::Split { .. } => {
                    if let Some(stop) = self.pack_pieces(p) {
                        return Some(stop);
                    }
                }
                SpanOutcome::Stopped(stop) => return Some(stop),
            }
        }
        None
    }

    /// Packs the datums of a span from its front.
    fn pack_span<S: DatumSource>(
        &mut self,
        span: &mut Span,
        new: bool,
        p: &mut Packing<'_, '_, S>,
    ) -> SpanOutcome {
        let mut open: Option<OpenRun> = None;
        let label = self.label;
        let (first_seq, mut bytes, mut skipped, mut filtered) = (span.seq, 0u64, 0u64, 0u64);
        let outcome = loop {
            if span.is_empty() {
                break SpanOutcome::Packed;
            }
            if *p.deficit <= 0 {
                break SpanOutcome::Stopped(Stop::Turn);
            }
            if new && !self.credit.covers(span.seq, span.offset) {
                break SpanOutcome::Stopped(Stop::Idle);
            }
            match p.source.datum(label, span.seq) {
                Fetched::Datum(datum) => {
                    if datum.len() > self.max_datum as usize {
                        break SpanOutcome::Stopped(Stop::Broken(CloseCode::TOO_LARGE));
                    }
                    if let Some(open_run) = &mut open {
                        match p.out.extend_run(&mut open_run.run, datum) {
                            RunOutcome::Added => {}
                            RunOutcome::NeedsNewRun => {
                                self.close_run(&mut open, span.since, p);
                                continue;
                            }
                            RunOutcome::NoRoom => break SpanOutcome::Stopped(Stop::Full),
                        }
                    } else {
                        if p.log.is_full(new) {
                            break SpanOutcome::Stopped(Stop::LogFull);
                        }
                        match p.out.begin_run(label.wire(), span.seq, span.offset, datum) {
                            Some(run) => open = Some(OpenRun { run, first: span.seq, offset: span.offset }),
                            None if size_of::<DataHeader>() + datum.len() > p.fresh_room => {
                                break SpanOutcome::Split { total: datum.len() as u32 };
                            }
                            None => break SpanOutcome::Stopped(Stop::Full),
                        }
                        *p.deficit -= size_of::<DataHeader>() as i64;
                    }
                    *p.deficit -= datum.len() as i64 + 2;
                    bytes += datum.len() as u64;
                    span.seq += 1;
                    span.offset += datum_cost(datum.len());
                    if let Some(open_run) = &mut open {
                        bytes += self.extend_run(span, new, &mut open_run.run, p);
                    }
                }
                Fetched::Skip { until } => {
                    self.close_run(&mut open, span.since, p);
                    match self.pack_skip(span, (until, false), new, p) {
                        Ok(count) => skipped += count,
                        Err(stop) => break SpanOutcome::Stopped(stop),
                    }
                }
                Fetched::Filtered { until } => {
                    self.close_run(&mut open, span.since, p);
                    match self.pack_skip(span, (until, true), new, p) {
                        Ok(count) => filtered += count,
                        Err(stop) => break SpanOutcome::Stopped(stop),
                    }
                }
                Fetched::NotYet => {
                    self.resting = true;
                    break SpanOutcome::Stopped(Stop::Idle);
                }
            }
        };
        self.close_run(&mut open, span.since, p);
        let datums = span.seq - first_seq - skipped - filtered;
        if new {
            self.stats.tx_datums += datums;
            self.stats.tx_bytes += bytes;
            self.stats.tx_skipped += skipped;
            self.stats.tx_filtered += filtered;
        } else {
            self.stats.resends += datums;
        }
        outcome
    }

    /// Adds to a run what the source has in one piece; returns how many bytes.
    fn extend_run<S: DatumSource>(
        &self,
        span: &mut Span,
        new: bool,
        run: &mut Run,
        p: &mut Packing<'_, '_, S>,
    ) -> u64 {
        let Some(len) = run.uniform_len() else { return 0 };
        let (cost, charge) = (datum_cost(len), len as i64 + 2);
        let turn = (*p.deficit).max(0).unsigned_abs().div_ceil(charge as u64);
        let mut max = (span.end - span.seq).min(turn);
        if new {
            max = max.min(self.credit.covered(span.seq, span.offset, cost));
        }
        let copy = |len, out: &mut [u8]| p.source.copy_run(self.label, span.seq, len, out);
        let added = p.out.extend_uniform(run, max, copy);
        *p.deficit -= charge * i64::from(added);
        span.seq += u64::from(added);
        span.offset += cost * u64::from(added);
        u64::from(added) * len as u64
    }

    /// Completes the DATA frame that is being filled, if there is one.
    fn close_run<S: DatumSource>(
        &self,
        open: &mut Option<OpenRun>,
        since: Instant,
        p: &mut Packing<'_, '_, S>,
    ) {
        if let Some(OpenRun { run, first, offset }) = open.take() {
            let count = u32::from(p.out.end_run(&run));
            self.log_data(first, count, offset, since, p);
        }
    }

    fn log_data<S>(&self, first: u64, count: u32, offset: u64, since: Instant, p: &mut Packing<'_, '_, S>) {
        if self.reliable {
            let data = SentData { label: self.label, first, count, offset, since };
            p.log.frames.push_back(SentFrame::Data(data));
        }
    }

    /// Packs a SKIP for the start of the span, up to `until`, of datums that the consumer did not ask for if
    /// `filtered`; returns how many sequences it skips.
    fn pack_skip<S: DatumSource>(
        &mut self,
        span: &mut Span,
        (until, filtered): (u64, bool),
        new: bool,
        p: &mut Packing<'_, '_, S>,
    ) -> Result<u64, Stop> {
        if p.log.is_full(new) {
            return Err(Stop::LogFull);
        }
        // The log counts sequences in 32 bits; the rest of a longer skip follows in the next frame.
        let until = until.clamp(span.seq + 1, span.end.min(span.seq + u64::from(u32::MAX)));
        let (next, next_offset) = self.position();
        let after = if until == next { next_offset } else { span.offset };
        if !p.out.put_skip(self.label.wire(), (span.seq, until), after, filtered) {
            return Err(Stop::Full);
        }
        p.charge(size_of::<SkipFrame>());
        let count = until - span.seq;
        if new {
            self.credit.skip(count);
        }
        self.log_data(span.seq, count as u32, span.offset, span.since, p);
        span.seq = until;
        Ok(count)
    }

    /// Whether the consumer can hold a large datum beside those that were begun. What does not fit into the
    /// room of a FireAndForget channel is lost.
    fn has_room<S>(&self, total: u32, p: &Packing<'_, '_, S>) -> bool {
        !self.reliable || mutate!(large_charge(total) <= p.large_room, "room-promised-twice" => true)
    }

    /// The new datum at the front of the span is sent in fragments. `next` stays at it until it is sent
    /// whole.
    fn split_new(&mut self, span: &Span, total: u32) {
        self.begin_large(span.seq, total);
        self.large = Some(Large { offset: span.offset, total, position: 0 });
        self.positions.advance(span.seq, span.offset + datum_cost(total as usize));
    }

    /// The lost datum at the front of the span is sent again in fragments.
    fn split_lost(&mut self, span: &mut Span, total: u32) {
        self.begin_large(span.seq, total);
        let (seq, offset, since) = (span.seq, span.offset, span.since);
        self.resend.push_piece(Piece { seq, offset, position: 0, end: total, total, since });
        span.seq += 1;
        span.offset += datum_cost(total as usize);
    }

    fn begin_large(&mut self, seq: u64, total: u32) {
        if self.reliable {
            self.resend.begin_large(seq, total);
        }
    }

    /// Ends the large datum at `next`; the position behind it was set when it began.
    fn end_large(&mut self) {
        self.large = None;
        self.positions.advance(self.positions.next() + 1, self.positions.next_offset());
    }

    /// Goes on with the large datum at `next`. `None`: there is none, or none any more.
    fn pack_large<S: DatumSource>(&mut self, p: &mut Packing<'_, '_, S>) -> Option<Stop> {
        let Large { offset, total, position } = self.large?;
        let piece = Piece { seq: self.positions.next(), offset, position, end: total, total, since: p.now };
        match self.pack_piece(piece, true, p) {
            PieceOutcome::Sent(position) if position == total => {
                self.end_large();
                self.stats.tx_datums += 1;
                self.stats.tx_bytes += u64::from(total);
                None
            }
            PieceOutcome::Sent(position) => {
                self.large = Some(Large { offset, total, position });
                Some(p.stop())
            }
            PieceOutcome::Skipped => {
                self.end_large();
                self.stats.tx_skipped += 1;
                self.credit.skip(1);
                None
            }
            PieceOutcome::Stopped(stop) => Some(stop),
        }
    }

    /// Packs lost pieces. `None`: none is left.
    fn pack_pieces<S: DatumSource>(&mut self, p: &mut Packing<'_, '_, S>) -> Option<Stop> {
        while let Some(piece) = self.resend.front_piece() {
            match self.pack_piece(piece, false, p) {
                PieceOutcome::Sent(position) => {
                    if piece.position == 0 && position > 0 {
                        self.stats.resends += 1;
                    }
                    if !self.resend.advance_piece(position) {
                        return Some(p.stop());
                    }
                }
                PieceOutcome::Skipped => {
                    if piece.seq == self.positions.next() && self.large.is_some() {
                        self.end_large();
                        self.stats.tx_skipped += 1;
                    }
                }
                PieceOutcome::Stopped(stop) => return Some(stop),
            }
        }
        None
    }

    /// Packs one fragment of a piece: as much of it as the packet holds.
    fn pack_piece<S: DatumSource>(
        &mut self,
        piece: Piece,
        new: bool,
        p: &mut Packing<'_, '_, S>,
    ) -> PieceOutcome {
        if *p.deficit <= 0 {
            return PieceOutcome::Stopped(Stop::Turn);
        }
        if p.log.is_full(new) {
            return PieceOutcome::Stopped(Stop::LogFull);
        }
        let Piece { seq, offset, position, end, total, since } = piece;
        let label = self.label;
        match p.source.datum(label, seq) {
            Fetched::Datum(datum) if datum.len() == total as usize => {
                let want = (end - position) as usize;
                let room = p.out.room().saturating_sub(size_of::<FragmentHeader>());
                if room < want.min(MIN_FRAGMENT_BYTES) {
                    return PieceOutcome::Stopped(Stop::Full);
                }
                let len = want.min(room);
                let body = &datum[position as usize..][..len];
                if !p.out.put_fragment(label.wire(), seq, offset, position, total, body) {
                    return PieceOutcome::Stopped(Stop::Full);
                }
                p.charge(len + size_of::<FragmentHeader>());
                let len = len as u32;
                if self.reliable {
                    let fragment = SentFragment { label, seq, offset, position, len, total, since };
                    p.log.frames.push_back(SentFrame::Fragment(fragment));
                }
                PieceOutcome::Sent(position + len)
            }
            Fetched::NotYet => {
                self.resting = true;
                PieceOutcome::Stopped(Stop::Idle)
            }
            // A source that gives another datum for the sequence has lost the one that was begun.
            Fetched::Datum(_) | Fetched::Skip { .. } | Fetched::Filtered { .. } => {
                let after = offset + datum_cost(total as usize);
                if !p.out.put_skip(label.wire(), (seq, seq + 1), after, false) {
                    return PieceOutcome::Stopped(Stop::Full);
                }
                p.charge(size_of::<SkipFrame>());
                self.resend.end_large(seq);
                self.log_data(seq, 1, offset, since, p);
                PieceOutcome::Skipped
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use std::vec;

    use super::*;
    use crate::{
        channel::{Accept, Label, OpenRequest, PublicationId, Reliability},
        ids::StreamId,
        wire::frames::{Frame, Frames},
    };

    const MAX: i64 = 1 << 20;

    struct Constant(Vec<u8>);

    impl DatumSource for Constant {
        fn datum(&mut self, _: Label, _: u64) -> Fetched<'_> {
            Fetched::Datum(&self.0)
        }
    }

    fn open_channel() -> TxChannel {
        let request = OpenRequest {
            stream_id: StreamId([7; 32]),
            subscription: [0; 8],
            resume: None,
            reliability: Reliability::Reliable,
            window_bytes: 0,
            window_datums: 0,
            max_datum_bytes: 4_096,
            weight: 1,
            form: Default::default(),
            criteria: vec![],
            tickets: vec![],
        };
        let mut channel = TxChannel::new(Label::new(0, 0, true), &request);
        let accept = Accept {
            publication: PublicationId([5; 16]),
            first_seq: 0,
            max_datum_bytes: 4_096,
            reliability: Reliability::Reliable,
            weight: 1,
        };
        channel.accept(accept).unwrap();
        channel.handle_accept_acked();
        channel
    }

    fn pack(
        channel: &mut TxChannel,
        buf: &mut [u8],
        len: usize,
        frames: &mut VecDeque<SentFrame>,
    ) -> (Stop, usize) {
        let fresh_room = buf.len();
        let mut out = Out::new(buf);
        let log = SentLog { frames, max: 64, max_new: 64 };
        let mut source = Constant(vec![9; len]);
        let mut deficit = MAX;
        let stop = channel.pack(&mut Packing {
            out: &mut out,
            source: &mut source,
            log,
            now: Instant::ZERO,
            fresh_room,
            large_room: usize::MAX,
            deficit: &mut deficit,
        });
        (stop, out.written())
    }

    #[test]
    fn lost_datum_that_outgrows_the_packet_is_resent_in_fragments_at_once() {
        let (mut channel, mut frames) = (open_channel(), VecDeque::new());
        channel.publish(1);
        let mut buf = [0; 2_000];
        assert_eq!(pack(&mut channel, &mut buf, 1_500, &mut frames).0, Stop::Idle);
        let Some(SentFrame::Data(data)) = frames.pop_front() else { panic!("no DATA") };
        assert_eq!(channel.handle_data_lost(&data, Instant::ZERO), super::super::LossOutcome::Queued);
        let (stop, written) = pack(&mut channel, &mut buf[..1_000], 1_500, &mut frames);
        assert_eq!(stop, Stop::Full);
        assert!(matches!(Frames::new(&buf[..written]).next(), Some(Ok(Frame::Fragment(..)))));
        let (stop, _) = pack(&mut channel, &mut buf[..1_000], 1_500, &mut frames);
        assert_eq!(stop, Stop::Idle);
        let acked = frames.iter().any(|frame| match frame {
            SentFrame::Fragment(fragment) => channel.handle_fragment_acked(fragment),
            _ => false,
        });
        assert!(acked && channel.released() == 1 && channel.resend_entries() == 0);
    }
}
