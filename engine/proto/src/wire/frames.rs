//! The plaintext of a sealed packet: a sequence of frames until it ends.
//!
//! Every frame starts with its kind. Numbers are little-endian, nothing is aligned, and each length is
//! checked against the bytes that are present before anything is read. An unknown kind cannot be skipped,
//! because its length is unknown, so it ends the session.
//!
//! ```text
//!          0      1      2      4        6        8            16           24          32
//! ACK      | 1    | epoch| count| delay (ns, u32) | largest    | count x { gap, length } u32, newest first
//! CREDIT   | 2    | flags| 0    | label           | limit_seq  | limit_bytes|
//! BLOCKED  | 3    | flags| 0    | label           | seq        | offset     |
//! DATA     | 4    | flags| count| bytes  | label (6..10) | first_seq (10..18) | offset (18..26) | body
//! FRAGMENT | 5    | flags| len  | label           | seq        | offset     | position, total | body
//! SKIP     | 6    | flags| 0    | label           | first      | until      | offset  |
//! CONTROL  | 7    | flags| len  | offset (4..12)  | body: a piece of the control stream
//! PING     | 8    | token (1..9) |
//! PONG     | 9    | token (1..9) |
//! CLOSE    | 10   | 0 0 0        | code            |
//! PATH_CHALLENGE | 12 | token (1..9) |
//! PATH_RESPONSE  | 13 | token (1..9) |
//! PADDING  | 11   | anything up to the end of the packet |
//! ```
//!
//! - DATA carries `count` whole datums with consecutive sequences. Flag 1 ([`DATA_UNIFORM`]): all have the
//!   same length, `bytes / count`, and follow each other directly; at most [`MAX_EMPTY_RUN`] empty ones.
//!   Without the flag each is preceded by its length as u16.
//! - FRAGMENT carries a piece of a datum that is larger than a packet.
//! - SKIP: the sequences `first..until` will not be sent; `until` starts at `offset` in the offset space.
//!   With flags 1 the consumer did not ask for them.
//! - BLOCKED: the producer is at (`seq`, `offset`) and waits for credit. Flag 1 ([`BLOCKED_PROBE`]): it has
//!   waited for a while, and the consumer answers in any case.
//! - CONTROL carries a piece of a reliable, ordered byte stream of messages; see [`message`].
//!
//! Not inside: whether a label exists and credit covers a frame, which the session checks.

mod datums;
pub mod message;
mod write;

pub use datums::Datums;
pub(crate) use write::{Out, Run, RunOutcome};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use super::CloseCode;

/// Flag of [`DataHeader`]: the datums have one length and follow each other directly.
pub const DATA_UNIFORM: u8 = 1;
/// Flag of a BLOCKED frame: the consumer answers with the current limit even if that did not change.
pub const BLOCKED_PROBE: u8 = 1;
/// Most ranges in one ACK frame: at 8 bytes each they leave half of the smallest packet free.
pub const MAX_ACK_RANGES: usize = 32;
/// Most empty datums in one uniform DATA frame. They take no bytes, but each costs the receiver a delivery;
/// without a bound one packet could demand millions.
pub const MAX_EMPTY_RUN: u16 = 64;

/// The first byte of each frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// Which packets arrived.
    Ack = 1,
    /// How far the producer may send.
    Credit = 2,
    /// The producer waits for credit.
    Blocked = 3,
    /// Whole datums.
    Data = 4,
    /// A piece of a large datum.
    Fragment = 5,
    /// Sequences that will not be sent.
    Skip = 6,
    /// A piece of the control stream.
    Control = 7,
    /// Asks for a PONG.
    Ping = 8,
    /// Answers a PING.
    Pong = 9,
    /// The session is over.
    Close = 10,
    /// Fills the packet.
    Padding = 11,
    /// Asks whether the peer receives at this address.
    PathChallenge = 12,
    /// Answers a PATH_CHALLENGE.
    PathResponse = 13,
}

macro_rules! header {
    ($(#[$doc:meta])* $name:ident, $size:literal { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }
        const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() == 1);
    };
}
pub(crate) use header;

header! {
    /// The fixed part of an ACK frame.
    AckHeader, 16 {
        /// [`FrameKind::Ack`].
        kind: u8,
        /// 0: there is one space of packet numbers, which go on from key to key.
        epoch: u8,
        /// How many ranges follow.
        count: U16,
        /// Nanoseconds between the arrival of `largest` and this frame, at most `u32::MAX`.
        delay: U32,
        /// The highest packet number that arrived.
        largest: U64,
    }
}
header! {
    /// One range of an ACK frame.
    AckRange, 8 {
        /// Missing packets between the range above and this one; 0 in the first range.
        gap: U32,
        /// Packets that arrived in a row; at least 1.
        length: U32,
    }
}
header! {
    /// A CREDIT or BLOCKED frame.
    PositionFrame, 24 {
        /// [`FrameKind::Credit`] or [`FrameKind::Blocked`].
        kind: u8,
        /// See [`BLOCKED_PROBE`].
        flags: u8,
        /// Zero.
        zero: U16,
        /// The channel.
        label: U32,
        /// A sequence.
        seq: U64,
        /// A position in the offset space.
        offset: U64,
    }
}
header! {
    /// The fixed part of a DATA frame.
    DataHeader, 26 {
        /// [`FrameKind::Data`].
        kind: u8,
        /// See [`DATA_UNIFORM`].
        flags: u8,
        /// Datums in the body; at least 1.
        count: U16,
        /// Bytes of the body.
        bytes: U16,
        /// The channel.
        label: U32,
        /// Sequence of the first datum.
        first_seq: U64,
        /// Start of the first datum in the offset space.
        offset: U64,
    }
}
header! {
    /// The fixed part of a FRAGMENT frame.
    FragmentHeader, 32 {
        /// [`FrameKind::Fragment`].
        kind: u8,
        /// Zero.
        flags: u8,
        /// Bytes of the body; at least 1.
        len: U16,
        /// The channel.
        label: U32,
        /// Sequence of the datum.
        seq: U64,
        /// Start of the datum in the offset space.
        offset: U64,
        /// Where in the datum the body starts.
        position: U32,
        /// Length of the whole datum.
        total: U32,
    }
}
header! {
    /// A SKIP frame.
    SkipFrame, 32 {
        /// [`FrameKind::Skip`].
        kind: u8,
        /// 1 when the consumer did not ask for the datums, else 0.
        flags: u8,
        /// Zero.
        zero: U16,
        /// The channel.
        label: U32,
        /// First sequence that will not be sent.
        first: U64,
        /// One past the last.
        until: U64,
        /// Start of `until` in the offset space.
        offset: U64,
    }
}
header! {
    /// The fixed part of a CONTROL frame.
    ControlHeader, 12 {
        /// [`FrameKind::Control`].
        kind: u8,
        /// Zero.
        flags: u8,
        /// Bytes of the body; at least 1.
        len: U16,
        /// Where in the control stream the body starts.
        offset: U64,
    }
}
header! {
    /// A PING, PONG, PATH_CHALLENGE or PATH_RESPONSE frame.
    PingFrame, 9 {
        /// Its [`FrameKind`].
        kind: u8,
        /// Returned unchanged.
        token: U64,
    }
}
header! {
    /// A CLOSE frame.
    CloseFrame, 8 {
        /// [`FrameKind::Close`].
        kind: u8,
        /// Zero.
        zero: [u8; 3],
        /// A [`CloseCode`]; not zero.
        code: U32,
    }
}

/// An ACK frame.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// The space of packet numbers; 0 is the only one.
    pub epoch: u8,
    /// Nanoseconds between the arrival of `largest` and the frame.
    pub delay_ns: u32,
    /// The highest number.
    pub largest: u64,
    ranges: &'a [AckRange],
}

impl Ack<'_> {
    /// The ranges as inclusive `(low, high)`, highest first. The decoder checked that they descend and stay
    /// at or above zero.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut next_high = self.largest;
        self.ranges.iter().map(move |range| {
            let high = next_high.saturating_sub(u64::from(range.gap.get()));
            let low = high.saturating_sub(u64::from(range.length.get()) - 1);
            next_high = low.saturating_sub(1);
            (low, high)
        })
    }
}

/// A run of whole datums.
#[derive(Clone, Copy, Debug)]
pub struct DataRun<'a> {
    /// The channel, as on the wire.
    pub label: u32,
    /// Sequence of the first datum.
    pub first_seq: u64,
    /// Start of the first datum in the offset space.
    pub offset: u64,
    /// The datums.
    pub datums: Datums<'a>,
}

/// A decoded frame; borrows from the packet.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// Which packets arrived.
    Ack(Ack<'a>),
    /// How far the producer may send.
    Credit(&'a PositionFrame),
    /// The producer waits for credit.
    Blocked(&'a PositionFrame),
    /// Whole datums.
    Data(DataRun<'a>),
    /// A piece of a large datum.
    Fragment(&'a FragmentHeader, &'a [u8]),
    /// Sequences that will not be sent.
    Skip(&'a SkipFrame),
    /// Offset and bytes of a piece of the control stream.
    Control(u64, &'a [u8]),
    /// Asks for a PONG with the same token.
    Ping(u64),
    /// Answers a PING.
    Pong(u64),
    /// The session is over.
    Close(CloseCode),
    /// The rest of the packet has no meaning.
    Padding,
    /// Asks for a PATH_RESPONSE with the same token.
    PathChallenge(u64),
    /// Answers a PATH_CHALLENGE.
    PathResponse(u64),
}

impl Frame<'_> {
    /// Whether the receiver has to acknowledge it. What is asked and answered by frames of its own is not
    /// acknowledged.
    pub(crate) const fn is_eliciting(&self) -> bool {
        !matches!(
            self,
            Self::Ack(_)
                | Self::Pong(_)
                | Self::Close(_)
                | Self::Padding
                | Self::PathChallenge(_)
                | Self::PathResponse(_)
        )
    }
}

/// Why a plaintext cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The kind is not one of [`FrameKind`].
    #[error("unknown frame kind {0}")]
    Unknown(u8),
    /// A frame announces more bytes than are present.
    #[error("a frame is cut short")]
    Short,
    /// A field has a value that it cannot have.
    #[error("a frame contradicts itself")]
    Invalid,
}

/// Iterates over the frames of a plaintext. After an error it ends.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// The frames of an opened packet.
    pub const fn new(plaintext: &'a [u8]) -> Self {
        Self { rest: plaintext }
    }

    fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> Result<&'a T, FrameError> {
        let (fixed, rest) = T::ref_from_prefix(self.rest).map_err(|_| FrameError::Short)?;
        self.rest = rest;
        Ok(fixed)
    }

    fn body(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (body, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(body)
    }

    fn decode(&mut self, kind: u8) -> Result<Frame<'a>, FrameError> {
        const ACK: u8 = FrameKind::Ack as u8;
        const CREDIT: u8 = FrameKind::Credit as u8;
        const BLOCKED: u8 = FrameKind::Blocked as u8;
        const DATA: u8 = FrameKind::Data as u8;
        const FRAGMENT: u8 = FrameKind::Fragment as u8;
        const SKIP: u8 = FrameKind::Skip as u8;
        const CONTROL: u8 = FrameKind::Control as u8;
        const PING: u8 = FrameKind::Ping as u8;
        const PONG: u8 = FrameKind::Pong as u8;
        const CLOSE: u8 = FrameKind::Close as u8;
        const PADDING: u8 = FrameKind::Padding as u8;
        const PATH_CHALLENGE: u8 = FrameKind::PathChallenge as u8;
        const PATH_RESPONSE: u8 = FrameKind::PathResponse as u8;
        Ok(match kind {
            DATA => Frame::Data(self.data()?),
            ACK => Frame::Ack(self.ack()?),
            CREDIT => Frame::Credit(self.fixed()?),
            BLOCKED => Frame::Blocked(self.fixed()?),
            FRAGMENT => {
                let header: &FragmentHeader = self.fixed()?;
                let body = self.body(usize::from(header.len.get()))?;
                let end = u64::from(header.position.get()) + body.len() as u64;
                if body.is_empty() || end > u64::from(header.total.get()) {
                    return Err(FrameError::Invalid);
                }
                Frame::Fragment(header, body)
            }
            SKIP => {
                let skip: &SkipFrame = self.fixed()?;
                if skip.until.get() <= skip.first.get() || skip.flags > 1 {
                    return Err(FrameError::Invalid);
                }
                Frame::Skip(skip)
            }
            CONTROL => {
                let header: &ControlHeader = self.fixed()?;
                let body = self.body(usize::from(header.len.get()))?;
                if body.is_empty() || header.offset.get().checked_add(body.len() as u64).is_none() {
                    return Err(FrameError::Invalid);
                }
                Frame::Control(header.offset.get(), body)
            }
            PING => Frame::Ping(self.fixed::<PingFrame>()?.token.get()),
            PONG => Frame::Pong(self.fixed::<PingFrame>()?.token.get()),
            PATH_CHALLENGE => Frame::PathChallenge(self.fixed::<PingFrame>()?.token.get()),
            PATH_RESPONSE => Frame::PathResponse(self.fixed::<PingFrame>()?.token.get()),
            PADDING => {
                self.rest = &[];
                Frame::Padding
            }
            CLOSE => {
                let code = self.fixed::<CloseFrame>()?.code.get();
                Frame::Close(CloseCode::from_number(code).ok_or(FrameError::Invalid)?)
            }
            unknown => return Err(FrameError::Unknown(unknown)),
        })
    }

    fn data(&mut self) -> Result<DataRun<'a>, FrameError> {
        let header: &DataHeader = self.fixed()?;
        let body = self.body(usize::from(header.bytes.get()))?;
        let count = u32::from(header.count.get());
        if count == 0 || header.first_seq.get().checked_add(u64::from(count)).is_none() {
            return Err(FrameError::Invalid);
        }
        let uniform = header.flags & DATA_UNIFORM != 0;
        if uniform && body.is_empty() && count > u32::from(MAX_EMPTY_RUN) {
            return Err(FrameError::Invalid);
        }
        let datums = Datums::new(count, uniform, body).ok_or(FrameError::Invalid)?;
        Ok(DataRun {
            label: header.label.get(),
            first_seq: header.first_seq.get(),
            offset: header.offset.get(),
            datums,
        })
    }

    fn ack(&mut self) -> Result<Ack<'a>, FrameError> {
        let header: &AckHeader = self.fixed()?;
        let count = usize::from(header.count.get());
        if count == 0 || count > MAX_ACK_RANGES {
            return Err(FrameError::Invalid);
        }
        let body = self.body(count * size_of::<AckRange>())?;
        let ranges = <[AckRange]>::ref_from_bytes(body).map_err(|_| FrameError::Short)?;
        // No range may be empty, touch its neighbour or pass below packet 0.
        let mut left = Some(header.largest.get());
        for (index, range) in ranges.iter().enumerate() {
            let (gap, length) = (u64::from(range.gap.get()), u64::from(range.length.get()));
            if length == 0 || (index == 0) != (gap == 0) {
                return Err(FrameError::Invalid);
            }
            let low = left
                .and_then(|high| high.checked_sub(gap))
                .and_then(|high| high.checked_sub(length - 1))
                .ok_or(FrameError::Invalid)?;
            left = low.checked_sub(1);
        }
        Ok(Ack { epoch: header.epoch, delay_ns: header.delay.get(), largest: header.largest.get(), ranges })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = *self.rest.first()?;
        let frame = self.decode(kind);
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}

/// Decodes every frame of a plaintext and reads each byte of it; for fuzzing. Returns the number of
/// well-formed frames.
pub fn decode_all(plaintext: &[u8]) -> usize {
    let mut decoded = 0;
    for frame in Frames::new(plaintext) {
        match frame {
            Ok(Frame::Data(run)) => {
                let whole = run.datums.is_whole();
                let bytes: usize = run.datums.map(<[u8]>::len).sum();
                decoded += usize::from(whole && bytes <= plaintext.len());
            }
            Ok(Frame::Ack(ack)) => {
                let mut below = None;
                for (low, high) in ack.ranges() {
                    assert!(low <= high && below.is_none_or(|below| high < below));
                    below = Some(low);
                }
                decoded += 1;
            }
            Ok(Frame::Control(_, bytes)) => {
                decoded += 1 + message::decode_all(bytes);
            }
            Ok(_) => decoded += 1,
            Err(_) => break,
        }
    }
    decoded
}

#[cfg(test)]
#[path = "frames/tests.rs"]
mod tests;
