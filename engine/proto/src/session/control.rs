//! The control stream: messages, reliable, in order, bounded at both ends.
//!
//! Not inside: what a message means (`messages`).

use alloc::collections::VecDeque;

use zerocopy::FromBytes;

use super::assembler::Assembler;
use crate::{
    channel::{Fault, HELD_OVERHEAD_BYTES, Intervals},
    wire::{
        CloseCode,
        frames::{
            ControlHeader, Out,
            message::{MESSAGE_HEADER_BYTES, MessageHeader, SessionMessage},
        },
    },
};

/// Bytes of the stream that may be in flight: part of the protocol, so more is a violation. It holds any
/// message of the default largest size.
pub(super) const CONTROL_WINDOW_BYTES: u64 = 64 << 10;
/// A piece at the end of a packet carries at least this much, or the rest: five times its header.
const MIN_PIECE_BYTES: usize = 64;
/// What pieces may cost that wait for an earlier one: a whole window, in pieces of 64 bytes.
const EARLY_BUDGET_BYTES: usize = CONTROL_WINDOW_BYTES as usize + 1_024 * HELD_OVERHEAD_BYTES;

/// The sending end.
#[derive(Debug)]
pub(super) struct ControlTx {
    /// Goes before the first message.
    preface: Option<SessionMessage>,
    /// The bytes from `base` on, sent or not.
    queue: VecDeque<u8>,
    /// Every byte below is acknowledged. `base <= next <= base + queue.len()`.
    base: u64,
    /// Every byte below was sent.
    next: u64,
    /// Acknowledged ranges above `base`.
    acked: Intervals,
    /// Ranges to send again; parts below `base` are passed over.
    lost: VecDeque<(u64, u64)>,
}

impl ControlTx {
    /// A stream whose first message is `preface`, which is sent only together with another.
    pub(super) fn new(preface: SessionMessage) -> Self {
        Self {
            preface: Some(preface),
            queue: VecDeque::new(),
            base: 0,
            next: 0,
            acked: Intervals::default(),
            lost: VecDeque::new(),
        }
    }

    /// Appends a message and returns where it ends in the stream.
    pub(super) fn push(&mut self, message: &SessionMessage) -> u64 {
        if let Some(preface) = self.preface.take() {
            preface.encode(&mut self.queue);
        }
        message.encode(&mut self.queue);
        self.base + self.queue.len() as u64
    }

    /// Bytes that are not acknowledged.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Every byte below is acknowledged.
    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    /// Whether something can be sent.
    pub(super) fn is_pending(&self) -> bool {
        !self.lost.is_empty() || self.next < self.sendable()
    }

    /// One past the last byte that may be sent.
    fn sendable(&self) -> u64 {
        (self.base + self.queue.len() as u64).min(self.base + CONTROL_WINDOW_BYTES)
    }

    /// Writes one piece, a lost one first; returns its offset and length.
    pub(super) fn pack(&mut self, out: &mut Out<'_>) -> Option<(u64, u32)> {
        while let Some(&(start, end)) = self.lost.front() {
            if end <= self.base {
                self.lost.pop_front();
                continue;
            }
            let start = start.max(self.base);
            let len = self.put(out, start, end)?;
            if start + u64::from(len) == end {
                self.lost.pop_front();
            } else if let Some(front) = self.lost.front_mut() {
                front.0 = start + u64::from(len);
            }
            return Some((start, len));
        }
        let (start, end) = (self.next, self.sendable());
        if start >= end {
            return None;
        }
        let len = self.put(out, start, end)?;
        self.next = start + u64::from(len);
        Some((start, len))
    }

    fn put(&self, out: &mut Out<'_>, start: u64, end: u64) -> Option<u32> {
        let want = (end - start) as usize;
        let room = out.room().saturating_sub(size_of::<ControlHeader>());
        if room < want.min(MIN_PIECE_BYTES) {
            return None;
        }
        let len = want.min(room);
        let at = (start - self.base) as usize;
        let (front, back) = self.queue.as_slices();
        let body = if at >= front.len() {
            (&back[at - front.len()..at - front.len() + len], &[][..])
        } else if at + len <= front.len() {
            (&front[at..at + len], &[][..])
        } else {
            (&front[at..], &back[..at + len - front.len()])
        };
        out.put_control(start, body).then_some(len as u32)
    }

    /// A piece arrived. Returns whether `base` moved.
    pub(super) fn handle_acked(&mut self, offset: u64, len: u32) -> bool {
        let end = offset + u64::from(len);
        if end <= self.base {
            return false;
        }
        self.acked.insert(offset.max(self.base), end);
        let base = self.acked.absorb(self.base);
        let moved = base - self.base;
        self.queue.drain(..moved as usize);
        self.base = base;
        debug_assert!(self.base <= self.next, "only what was sent is acknowledged");
        moved > 0
    }

    /// A piece was lost.
    pub(super) fn handle_lost(&mut self, offset: u64, len: u32) {
        let (start, end) = (offset.max(self.base), offset + u64::from(len));
        self.lost.extend(self.acked.gaps(start, end.max(start)));
    }
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct ControlRx {
    /// The bytes behind the last message read.
    stream: Assembler,
    /// Longest message that is accepted, in bytes of its body.
    max_message: usize,
}

impl ControlRx {
    pub(super) fn new(max_message: usize) -> Self {
        // The part without gaps holds at most one incomplete message and a window behind it.
        let bytes = EARLY_BUDGET_BYTES + max_message + MESSAGE_HEADER_BYTES + CONTROL_WINDOW_BYTES as usize;
        Self { stream: Assembler::new(bytes), max_message }
    }

    /// A CONTROL frame arrived.
    pub(super) fn handle_piece(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let window_end = self.stream.end().saturating_add(CONTROL_WINDOW_BYTES);
        if offset.saturating_add(bytes.len() as u64) > window_end {
            return Err(Fault::Close(CloseCode::CREDIT_VIOLATION));
        }
        // Early pieces may not use up the room of the missing one, or it would be refused each time.
        let early = self.stream.charged() - self.stream.whole().len();
        if offset > self.stream.end() && early + bytes.len() + HELD_OVERHEAD_BYTES > EARLY_BUDGET_BYTES {
            return Err(Fault::Refuse);
        }
        self.stream.insert(offset, bytes).map(|_| ())
    }

    /// The next message that has arrived whole; `Err`: the stream cannot be read on.
    pub(super) fn poll_message(&mut self) -> Option<Result<SessionMessage, CloseCode>> {
        let (header, rest) = MessageHeader::ref_from_prefix(self.stream.whole()).ok()?;
        let (kind, len) = (header.kind, header.len.get() as usize);
        if len > self.max_message {
            return Some(Err(CloseCode::TOO_LARGE));
        }
        let body = rest.get(..len)?;
        let message = SessionMessage::decode(kind, body).map_err(|_| CloseCode::PROTOCOL_VIOLATION);
        self.stream.consume(MESSAGE_HEADER_BYTES + len);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;

    #[test]
    fn settings_go_before_the_first_message_and_not_alone() {
        let max_ack_delay = core::time::Duration::from_millis(3);
        let settings = SessionMessage::Settings { max_ack_delay, large_bytes: 7 };
        let mut control = ControlTx::new(settings.clone());
        assert!(!control.is_pending());
        let mut expected = Vec::new();
        for message in [settings, SessionMessage::Fin(1, 2), SessionMessage::Fin(3, 4)] {
            message.encode(&mut expected);
        }
        control.push(&SessionMessage::Fin(1, 2));
        assert_eq!(control.push(&SessionMessage::Fin(3, 4)), expected.len() as u64);
        assert_eq!(control.queue, expected);
    }

    #[test]
    fn early_pieces_leave_room_for_the_missing_one() {
        let mut control = ControlRx::new(1_000);
        let message = {
            let mut bytes = Vec::new();
            SessionMessage::Record(vec![7; 900]).encode(&mut bytes);
            bytes
        };
        let missing = message.len() as u64;
        let refused = (missing..CONTROL_WINDOW_BYTES).find(|at| control.handle_piece(*at, &[0]).is_err());
        assert!(refused.is_some(), "the pieces are bounded");
        assert_eq!(control.handle_piece(0, &message), Ok(()));
        assert_eq!(control.poll_message(), Some(Ok(SessionMessage::Record(vec![7; 900]))));
    }
}
