//! Writing frames into a packet. Not inside: what is worth writing.

use zerocopy::{
    Immutable, IntoBytes,
    little_endian::{U16, U32, U64},
};

use super::{
    AckHeader, AckRange, BLOCKED_PROBE, CloseFrame, ControlHeader, DATA_UNIFORM, DataHeader, FragmentHeader,
    FrameKind, MAX_ACK_RANGES, MAX_EMPTY_RUN, PingFrame, PositionFrame, SkipFrame,
};
use crate::wire::CloseCode;

/// Room for frames in a packet. Every `put_*` writes a whole frame or nothing.
#[derive(Debug)]
pub(crate) struct Out<'a> {
    buf: &'a mut [u8],
    at: usize,
    /// Set by everything that the receiver has to acknowledge.
    eliciting: bool,
}

/// A DATA frame being filled.
#[derive(Debug)]
pub(crate) struct Run {
    header_at: usize,
    label: u32,
    first_seq: u64,
    offset: u64,
    count: u16,
    uniform: Option<usize>,
}

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

    /// Whether something in it has to be acknowledged.
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

    /// Ranges inclusive, highest first; as many as fit and as [`MAX_ACK_RANGES`] allows.
    pub(crate) fn put_ack(
        &mut self,
        epoch: u8,
        delay_ns: u32,
        ranges: impl Iterator<Item = (u64, u64)>,
    ) -> bool {
        let start = self.at;
        if self.room() < size_of::<AckHeader>() + size_of::<AckRange>() {
            return false;
        }
        self.at += size_of::<AckHeader>();
        let mut largest = None;
        let mut above = 0u64;
        let mut count = 0u16;
        for (low, high) in ranges.take(MAX_ACK_RANGES) {
            // What lies further down than 32 bits was acknowledged long ago.
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
        let Some(largest) = largest else { return false };
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
        true
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

    pub(crate) fn put_skip(&mut self, label: u32, first: u64, until: u64, offset: u64) -> bool {
        self.put_eliciting(
            &SkipFrame {
                kind: FrameKind::Skip as u8,
                flags: 0,
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

    /// Writes a piece of the control stream; `body` in two parts, as a ring buffer gives it.
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

    pub(crate) fn put_close(&mut self, code: CloseCode) -> bool {
        let code = U32::new(code.number());
        self.put(&CloseFrame { kind: FrameKind::Close as u8, zero: [0; 3], code }, &[])
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

    /// Adds the next datum to a run. `Err(true)`: it fits only into a new run; `Err(false)`: no room left.
    #[inline]
    pub(crate) fn extend_run(&mut self, run: &mut Run, datum: &[u8]) -> Result<(), bool> {
        if run.count == u16::MAX || (run.uniform == Some(0) && run.count >= MAX_EMPTY_RUN) {
            return Err(true);
        }
        match run.uniform {
            Some(len) if len == datum.len() => {
                if self.room() < len {
                    return Err(false);
                }
            }
            Some(first) if run.count == 1 => {
                if self.room() < 2 * LENGTH_BYTES + datum.len() {
                    return Err(false);
                }
                // Two lengths differ already at the second datum: move the first one aside for its length.
                let body = run.header_at + size_of::<DataHeader>();
                self.buf.copy_within(body..body + first, body + LENGTH_BYTES);
                self.buf[body..body + LENGTH_BYTES].copy_from_slice(&(first as u16).to_le_bytes());
                self.at += LENGTH_BYTES;
                run.uniform = None;
                self.raw(&(datum.len() as u16).to_le_bytes());
            }
            Some(_) => return Err(true),
            None => {
                if self.room() < LENGTH_BYTES + datum.len() {
                    return Err(false);
                }
                self.raw(&(datum.len() as u16).to_le_bytes());
            }
        }
        self.raw(datum);
        run.count += 1;
        Ok(())
    }

    /// Completes a DATA frame; returns how many datums it has.
    pub(crate) fn end_run(&mut self, run: &Run) -> u16 {
        let body = self.at - run.header_at - size_of::<DataHeader>();
        let header = DataHeader {
            kind: FrameKind::Data as u8,
            flags: if run.uniform.is_some() { DATA_UNIFORM } else { 0 },
            count: U16::new(run.count),
            // A packet is at most 65,507 bytes, so its parts fit into 16 bits.
            bytes: U16::new(body as u16),
            label: U32::new(run.label),
            first_seq: U64::new(run.first_seq),
            offset: U64::new(run.offset),
        };
        self.buf[run.header_at..run.header_at + size_of::<DataHeader>()].copy_from_slice(header.as_bytes());
        run.count
    }
}
