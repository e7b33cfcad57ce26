//! Writing frames into a packet.

use zerocopy::{
    Immutable, IntoBytes,
    little_endian::{U16, U32, U64},
};

use super::{
    AckHeader, AckRange, BLOCKED_PROBE, CloseFrame, ControlHeader, DATA_UNIFORM, DataHeader, FragmentHeader,
    FrameKind, MAX_ACK_RANGES, MAX_EMPTY_RUN, PingFrame, PositionFrame, SkipFrame,
};
use crate::wire::CloseCode;

/// Room for frames in a packet. Every `put_*` writes a whole frame, or nothing and returns `false`.
#[derive(Debug)]
pub(crate) struct Out<'a> {
    buf: &'a mut [u8],
    /// Bytes written; at most `buf.len()`.
    at: usize,
    /// Whether a frame is in it that the receiver has to acknowledge.
    eliciting: bool,
}

/// A DATA frame being filled. It is the last frame in its [`Out`] until [`Out::end_run`].
#[derive(Debug)]
pub(crate) struct Run {
    /// Where its header goes, which is written last.
    header_at: usize,
    label: u32,
    first_seq: u64,
    offset: u64,
    /// Datums in it; at least 1.
    count: u16,
    /// The length that all datums share; `None` once two differ.
    uniform: Option<usize>,
}

impl Run {
    /// The length that all its datums have.
    pub(crate) const fn uniform_len(&self) -> Option<usize> {
        self.uniform
    }
}

/// What became of a datum that was offered to a run.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RunOutcome {
    /// It is in the run.
    Added,
    /// It fits only into a new run.
    NeedsNewRun,
    /// The packet has no room for it.
    NoRoom,
}

/// Bytes of a datum's length in a run that is not uniform.
const LENGTH_BYTES: usize = 2;

impl<'a> Out<'a> {
    pub(crate) fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, at: 0, eliciting: false }
    }

    /// Bytes written.
    pub(crate) const fn written(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(crate) const fn room(&self) -> usize {
        self.buf.len() - self.at
    }

    /// Whether the receiver has to acknowledge the packet.
    pub(crate) const fn is_eliciting(&self) -> bool {
        self.eliciting
    }

    fn put(&mut self, fixed: &(impl IntoBytes + Immutable), body: &[u8]) -> bool {
        let fixed = fixed.as_bytes();
        if self.room() < fixed.len() + body.len() {
            return false;
        }
        self.raw(fixed);
        self.raw(body);
        true
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.buf[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn put_eliciting(&mut self, fixed: &(impl IntoBytes + Immutable), body: &[u8]) -> bool {
        let put = self.put(fixed, body);
        self.eliciting |= put;
        put
    }

    /// Takes inclusive ranges, highest first, and writes as many as fit and [`MAX_ACK_RANGES`] allows.
    pub(crate) fn put_ack(
        &mut self,
        epoch: u8,
        delay_ns: u32,
        ranges: impl Iterator<Item = (u64, u64)>,
    ) -> usize {
        let start = self.at;
        if self.room() < size_of::<AckHeader>() + size_of::<AckRange>() {
            return 0;
        }
        self.at += size_of::<AckHeader>();
        let mut largest = None;
        let mut above = 0u64;
        let mut count = 0u16;
        for (low, high) in ranges.take(MAX_ACK_RANGES) {
            // A gap beyond 32 bits: what lies below it was acknowledged long ago.
            let gap = if largest.is_some() { above - 1 - high } else { 0 };
            let Ok(gap) = u32::try_from(gap) else { break };
            let length = u32::try_from(high - low + 1).unwrap_or(u32::MAX);
            if !self.put(&AckRange { gap: U32::new(gap), length: U32::new(length) }, &[]) {
                break;
            }
            largest.get_or_insert(high);
            above = high - (u64::from(length) - 1);
            count += 1;
        }
        let end = self.at;
        self.at = start;
        let Some(largest) = largest else { return 0 };
        self.raw(
            AckHeader {
                kind: FrameKind::Ack as u8,
                epoch,
                count: U16::new(count),
                delay: U32::new(delay_ns),
                largest: U64::new(largest),
            }
            .as_bytes(),
        );
        self.at = end;
        usize::from(count)
    }

    pub(crate) fn put_credit(&mut self, label: u32, seq: u64, offset: u64) -> bool {
        self.put_position(FrameKind::Credit, 0, label, seq, offset)
    }

    pub(crate) fn put_blocked(&mut self, label: u32, seq: u64, offset: u64, probe: bool) -> bool {
        self.put_position(FrameKind::Blocked, if probe { BLOCKED_PROBE } else { 0 }, label, seq, offset)
    }

    fn put_position(&mut self, kind: FrameKind, flags: u8, label: u32, seq: u64, offset: u64) -> bool {
        self.put_eliciting(
            &PositionFrame {
                kind: kind as u8,
                flags,
                zero: U16::ZERO,
                label: U32::new(label),
                seq: U64::new(seq),
                offset: U64::new(offset),
            },
            &[],
        )
    }

    /// Sequences that will not be sent; `filtered`: because the consumer did not ask for them.
    pub(crate) fn put_skip(
        &mut self,
        label: u32,
        (first, until): (u64, u64),
        offset: u64,
        filtered: bool,
    ) -> bool {
        self.put_eliciting(
            &SkipFrame {
                kind: FrameKind::Skip as u8,
                flags: u8::from(filtered),
                zero: U16::ZERO,
                label: U32::new(label),
                first: U64::new(first),
                until: U64::new(until),
                offset: U64::new(offset),
            },
            &[],
        )
    }

    pub(crate) fn put_fragment(
        &mut self,
        label: u32,
        seq: u64,
        offset: u64,
        position: u32,
        total: u32,
        body: &[u8],
    ) -> bool {
        let Ok(len) = u16::try_from(body.len()) else { return false };
        self.put_eliciting(
            &FragmentHeader {
                kind: FrameKind::Fragment as u8,
                flags: 0,
                len: U16::new(len),
                label: U32::new(label),
                seq: U64::new(seq),
                offset: U64::new(offset),
                position: U32::new(position),
                total: U32::new(total),
            },
            body,
        )
    }

    /// Writes a piece of the control stream, from the two slices of a ring buffer.
    pub(crate) fn put_control(&mut self, offset: u64, body: (&[u8], &[u8])) -> bool {
        let len = body.0.len() + body.1.len();
        let Ok(len16) = u16::try_from(len) else { return false };
        if self.room() < size_of::<ControlHeader>() + len {
            return false;
        }
        let header = ControlHeader {
            kind: FrameKind::Control as u8,
            flags: 0,
            len: U16::new(len16),
            offset: U64::new(offset),
        };
        self.put_eliciting(&header, body.0);
        self.raw(body.1);
        true
    }

    pub(crate) fn put_ping(&mut self, token: u64) -> bool {
        self.put_eliciting(&PingFrame { kind: FrameKind::Ping as u8, token: U64::new(token) }, &[])
    }

    pub(crate) fn put_pong(&mut self, token: u64) -> bool {
        self.put(&PingFrame { kind: FrameKind::Pong as u8, token: U64::new(token) }, &[])
    }

    pub(crate) fn put_path_challenge(&mut self, token: u64) -> bool {
        self.put(&PingFrame { kind: FrameKind::PathChallenge as u8, token: U64::new(token) }, &[])
    }

    pub(crate) fn put_path_response(&mut self, token: u64) -> bool {
        self.put(&PingFrame { kind: FrameKind::PathResponse as u8, token: U64::new(token) }, &[])
    }

    pub(crate) fn put_close(&mut self, code: CloseCode) -> bool {
        let code = U32::new(code.number());
        self.put(&CloseFrame { kind: FrameKind::Close as u8, zero: [0; 3], code }, &[])
    }

    /// Fills the room that is left.
    pub(crate) fn put_padding(&mut self) {
        if let Some((kind, rest)) = self.buf[self.at..].split_first_mut() {
            *kind = FrameKind::Padding as u8;
            rest.fill(0);
            self.at = self.buf.len();
        }
    }

    /// Starts a DATA frame with its first datum; `None` when it does not fit.
    pub(crate) fn begin_run(&mut self, label: u32, first_seq: u64, offset: u64, datum: &[u8]) -> Option<Run> {
        if self.room() < size_of::<DataHeader>() + datum.len() {
            return None;
        }
        let header_at = self.at;
        self.at += size_of::<DataHeader>();
        self.raw(datum);
        self.eliciting = true;
        Some(Run { header_at, label, first_seq, offset, count: 1, uniform: Some(datum.len()) })
    }

    /// Adds the next datum to a run.
    #[inline]
    pub(crate) fn extend_run(&mut self, run: &mut Run, datum: &[u8]) -> RunOutcome {
        if run.count == u16::MAX || (run.uniform == Some(0) && run.count >= MAX_EMPTY_RUN) {
            return RunOutcome::NeedsNewRun;
        }
        match run.uniform {
            Some(len) if len == datum.len() => {
                if self.room() < len {
                    return RunOutcome::NoRoom;
                }
            }
            Some(first) if run.count == 1 => {
                if self.room() < 2 * LENGTH_BYTES + datum.len() {
                    return RunOutcome::NoRoom;
                }
                // The second datum differs in length: move the first one to make room for its length.
                let body = run.header_at + size_of::<DataHeader>();
                self.buf.copy_within(body..body + first, body + LENGTH_BYTES);
                self.buf[body..body + LENGTH_BYTES].copy_from_slice(&(first as u16).to_le_bytes());
                self.at += LENGTH_BYTES;
                run.uniform = None;
                self.raw(&(datum.len() as u16).to_le_bytes());
            }
            Some(_) => return RunOutcome::NeedsNewRun,
            None => {
                if self.room() < LENGTH_BYTES + datum.len() {
                    return RunOutcome::NoRoom;
                }
                self.raw(&(datum.len() as u16).to_le_bytes());
            }
        }
        self.raw(datum);
        run.count += 1;
        RunOutcome::Added
    }

    /// Adds up to `max` datums of the length that all datums of the run have, above 0; returns how many.
    /// `copy` writes as many as it has to the room that it gets and says how many.
    pub(crate) fn extend_uniform(
        &mut self,
        run: &mut Run,
        max: u64,
        copy: impl FnOnce(usize, &mut [u8]) -> u32,
    ) -> u32 {
        let Some(len) = run.uniform.filter(|len| *len > 0) else { return 0 };
        let left = u64::from(u16::MAX - run.count).min((self.room() / len) as u64).min(max) as usize;
        if left == 0 {
            return 0;
        }
        let room = &mut self.buf[self.at..self.at + left * len];
        let added = copy(len, room).min(left as u32);
        self.at += added as usize * len;
        run.count += added as u16;
        added
    }

    /// Completes a DATA frame; returns how many datums it has.
    pub(crate) fn end_run(&mut self, run: &Run) -> u16 {
        let body = self.at - run.header_at - size_of::<DataHeader>();
        let header = DataHeader {
            kind: FrameKind::Data as u8,
            flags: if run.uniform.is_some() { DATA_UNIFORM } else { 0 },
            count: U16::new(run.count),
            // A packet has at most 65,507 bytes, so the length fits into 16 bits.
            bytes: U16::new(body as u16),
            label: U32::new(run.label),
            first_seq: U64::new(run.first_seq),
            offset: U64::new(run.offset),
        };
        self.buf[run.header_at..run.header_at + size_of::<DataHeader>()].copy_from_slice(header.as_bytes());
        run.count
    }
}
