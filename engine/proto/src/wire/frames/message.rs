//! The messages of the control stream, which is reliable and in order.
//!
//! ```text
//!          0      1          4                8
//! header   | kind | 0  0  0  | length of body |
//!
//! OPEN     label u32 | reliability u8 | weight u8 | tickets u16 | window_bytes u64 | window_datums u64 |
//!          max_datum_bytes u32 | criteria bytes u32 | stream id 32 | subscription 8 | resumes u8 |
//!          name bytes u8 | 0 x 6 | publication 16 | next_seq u64 | fingerprint 16 | name | criteria |
//!          tickets x { length u32, bytes }
//! ACCEPT   label u32 | reliability u8 | 0 0 0 | first_seq u64 | max_datum_bytes u32 | publication 16
//! REJECT   label u32 | code u32 | name bytes u8 | name
//! FIN      label u32 | end_seq u64
//! RESET    label u32 | code u32 | sender opened u8
//! RECORD   opaque bytes
//! SETTINGS max_ack_delay u32, in nanoseconds | large_bytes u64
//! ```
//!
//! Publication and next_seq of OPEN are zero when resumes is 0. A name is that of a datum type and its codec;
//! in REJECT it is the producer's, and given with `TYPE_MISMATCH`.
//!
//! SETTINGS comes before the sender's first other message.
//!
//! OPEN and the RESET of an opener name a label of the sender; all others name a label of the receiver.
//!
//! Not inside: reassembly of the stream ([`crate::session`]).

use alloc::vec::Vec;
use core::time::Duration;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use super::{FrameError, header};
use crate::{
    ids::StreamId,
    wire::{
        Accept, CloseCode, DatumForm, MAX_TICKETS, MAX_TYPE_NAME_BYTES, OpenRequest, PublicationId,
        Reliability, Resume, TypeName,
    },
};

header! {
    /// What every message starts with.
    MessageHeader, 8 {
        /// See the module's diagram.
        kind: u8,
        /// Zero.
        zero: [u8; 3],
        /// Bytes that follow.
        len: U32,
    }
}
header! {
    /// The fixed part of OPEN.
    OpenHeader, 120 {
        /// The channel, chosen by the sender.
        label: U32,
        /// 0 FireAndForget, 1 Reliable.
        reliability: u8,
        /// The weight that the consumer wishes.
        weight: u8,
        /// How many tickets follow.
        tickets: U16,
        /// Window in bytes; 0: no limit by the application.
        window_bytes: U64,
        /// Window in datums; 0: no limit by the application.
        window_datums: U64,
        /// The largest datum that the consumer takes.
        max_datum_bytes: U32,
        /// Bytes of the criteria.
        criteria: U32,
        /// The stream.
        stream_id: StreamId,
        /// Names the subscription.
        subscription: [u8; 8],
        /// 1 when a former channel is continued, else 0.
        resumes: u8,
        /// Bytes of the type's name.
        name: u8,
        /// Zero.
        zero: [u8; 6],
        /// The publication of the former channel.
        publication: PublicationId,
        /// The sequence at which the former channel ended.
        next_seq: U64,
        /// What the datums are; zeros: not stated.
        fingerprint: [u8; 16],
    }
}
header! {
    /// ACCEPT.
    AcceptBody, 36 {
        /// The channel.
        label: U32,
        /// 0 FireAndForget, 1 Reliable.
        reliability: u8,
        /// Zero.
        zero: [u8; 3],
        /// The first sequence that will be sent.
        first_seq: U64,
        /// The largest datum that will be sent, in bytes.
        max_datum_bytes: U32,
        /// The life of the producer's sequence.
        publication: PublicationId,
    }
}
header! {
    /// The fixed part of REJECT.
    RejectHeader, 9 {
        /// The channel.
        label: U32,
        /// A [`CloseCode`].
        code: U32,
        /// Bytes of the type's name.
        name: u8,
    }
}
header! {
    /// FIN.
    FinBody, 12 {
        /// The channel.
        label: U32,
        /// One past the last sequence.
        end_seq: U64,
    }
}
header! {
    /// RESET.
    ResetBody, 17 {
        /// The channel.
        label: U32,
        /// A [`CloseCode`].
        code: U32,
        /// 1 when the sender opened the channel, else 0.
        sender_opened: u8,
        /// One past the last sequence of a stream whose rest is dropped; else all ones.
        end_seq: U64,
    }
}

header! {
    /// SETTINGS.
    SettingsBody, 12 {
        /// Nanoseconds that the sender may wait before it acknowledges.
        max_ack_delay: U32,
        /// Bytes of large datums that it holds at once.
        large_bytes: U64,
    }
}

/// Bytes of a message's header.
pub const MESSAGE_HEADER_BYTES: usize = size_of::<MessageHeader>();
/// Most bytes of a message that the peer can cause (everything but OPEN and RECORD).
pub const SMALL_MESSAGE_BYTES: usize = MESSAGE_HEADER_BYTES + size_of::<RejectHeader>() + MAX_TYPE_NAME_BYTES;
const _: () = assert!(size_of::<AcceptBody>() <= size_of::<RejectHeader>() + MAX_TYPE_NAME_BYTES);

const OPEN: u8 = 1;
const ACCEPT: u8 = 2;
const REJECT: u8 = 3;
const FIN: u8 = 4;
const RESET: u8 = 5;
const RECORD: u8 = 6;
const SETTINGS: u8 = 7;

/// A message of the control stream. Labels are as on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionMessage {
    /// The sender asks to consume.
    Open(u32, OpenRequest),
    /// The sender accepts as producer.
    Accept(u32, Accept),
    /// The sender refuses. The name is that of its datum type, if that is why.
    Reject(u32, CloseCode, TypeName),
    /// The stream ends before this sequence.
    Fin(u32, u64),
    /// The channel ends at once.
    Reset {
        /// The channel.
        label: u32,
        /// Why.
        code: CloseCode,
        /// Whether the sender opened the channel.
        sender_opened: bool,
        /// Of a stream whose rest is dropped: one past its last sequence.
        end_seq: Option<u64>,
    },
    /// Bytes for the session's owner.
    Record(Vec<u8>),
    /// How the sender's session behaves.
    Settings {
        /// How long it may wait before it acknowledges; at most 4.29 s.
        max_ack_delay: Duration,
        /// Bytes of large Reliable datums of which it can hold fragments at once, with what each costs
        /// beside.
        large_bytes: u64,
    },
}

const fn reliability_byte(reliability: Reliability) -> u8 {
    match reliability {
        Reliability::FireAndForget => 0,
        Reliability::Reliable => 1,
    }
}

fn reliability_from(byte: u8) -> Result<Reliability, FrameError> {
    match byte {
        0 => Ok(Reliability::FireAndForget),
        1 => Ok(Reliability::Reliable),
        _ => Err(FrameError::Invalid),
    }
}

fn code_from(number: U32) -> Result<CloseCode, FrameError> {
    CloseCode::from_number(number.get()).ok_or(FrameError::Invalid)
}

/// Bytes that the request takes as a message, header included.
pub fn open_bytes(request: &OpenRequest) -> usize {
    let tickets: usize = request.tickets.iter().map(|ticket| ticket.len().saturating_add(4)).sum();
    let name = usize::from(request.form.name.wire_len());
    MESSAGE_HEADER_BYTES + size_of::<OpenHeader>() + name + request.criteria.len().saturating_add(tickets)
}

impl SessionMessage {
    /// Appends the message, with its header, to `out`.
    pub fn encode(&self, out: &mut impl Extend<u8>) {
        match self {
            Self::Open(label, request) => encode_open(*label, request, out),
            Self::Accept(label, accept) => small(
                out,
                ACCEPT,
                &AcceptBody {
                    label: U32::new(*label),
                    reliability: reliability_byte(accept.reliability),
                    zero: [0; 3],
                    first_seq: U64::new(accept.first_seq),
                    max_datum_bytes: U32::new(accept.max_datum_bytes),
                    publication: accept.publication,
                },
            ),
            Self::Reject(label, code, name) => {
                let (label, code) = (U32::new(*label), U32::new(code.number()));
                let fixed = RejectHeader { label, code, name: name.wire_len() };
                head(out, REJECT, size_of::<RejectHeader>() + name.as_str().len());
                out.extend(fixed.as_bytes().iter().copied());
                out.extend(name.as_str().bytes());
            }
            Self::Fin(label, end_seq) => {
                small(out, FIN, &FinBody { label: U32::new(*label), end_seq: U64::new(*end_seq) });
            }
            Self::Reset { label, code, sender_opened, end_seq } => small(
                out,
                RESET,
                &ResetBody {
                    label: U32::new(*label),
                    code: U32::new(code.number()),
                    sender_opened: u8::from(*sender_opened),
                    end_seq: U64::new(end_seq.unwrap_or(u64::MAX)),
                },
            ),
            Self::Record(bytes) => {
                head(out, RECORD, bytes.len());
                out.extend(bytes.iter().copied());
            }
            Self::Settings { max_ack_delay, large_bytes } => {
                let nanos = u32::try_from(max_ack_delay.as_nanos()).unwrap_or(u32::MAX);
                let (max_ack_delay, large_bytes) = (U32::new(nanos), U64::new(*large_bytes));
                small(out, SETTINGS, &SettingsBody { max_ack_delay, large_bytes });
            }
        }
    }

    /// Decodes the body of a message of kind `kind`.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, FrameError> {
        Ok(match kind {
            OPEN => decode_open(body)?,
            ACCEPT => {
                let accept = exact::<AcceptBody>(body)?;
                Self::Accept(
                    accept.label.get(),
                    Accept {
                        publication: accept.publication,
                        first_seq: accept.first_seq.get(),
                        max_datum_bytes: accept.max_datum_bytes.get(),
                        reliability: reliability_from(accept.reliability)?,
                        weight: 1,
                    },
                )
            }
            REJECT => {
                let (reject, name) = RejectHeader::ref_from_prefix(body).map_err(|_| FrameError::Short)?;
                if name.len() != usize::from(reject.name) {
                    return Err(FrameError::Short);
                }
                let name = TypeName::from_wire(name).ok_or(FrameError::Invalid)?;
                Self::Reject(reject.label.get(), code_from(reject.code)?, name)
            }
            FIN => {
                let fin = exact::<FinBody>(body)?;
                Self::Fin(fin.label.get(), fin.end_seq.get())
            }
            RESET => {
                let reset = exact::<ResetBody>(body)?;
                if reset.sender_opened > 1 {
                    return Err(FrameError::Invalid);
                }
                Self::Reset {
                    label: reset.label.get(),
                    code: code_from(reset.code)?,
                    sender_opened: reset.sender_opened == 1,
                    end_seq: Some(reset.end_seq.get()).filter(|seq| *seq != u64::MAX),
                }
            }
            RECORD => Self::Record(body.to_vec()),
            SETTINGS => {
                let settings = exact::<SettingsBody>(body)?;
                let max_ack_delay = Duration::from_nanos(u64::from(settings.max_ack_delay.get()));
                Self::Settings { max_ack_delay, large_bytes: settings.large_bytes.get() }
            }
            unknown => return Err(FrameError::Unknown(unknown)),
        })
    }
}

fn exact<T: FromBytes + KnownLayout + Immutable + Unaligned>(body: &[u8]) -> Result<&T, FrameError> {
    T::ref_from_bytes(body).map_err(|_| FrameError::Short)
}

fn head(out: &mut impl Extend<u8>, kind: u8, len: usize) {
    let len = U32::new(u32::try_from(len).unwrap_or(u32::MAX));
    out.extend(MessageHeader { kind, zero: [0; 3], len }.as_bytes().iter().copied());
}

fn small(out: &mut impl Extend<u8>, kind: u8, body: &(impl IntoBytes + Immutable)) {
    head(out, kind, body.as_bytes().len());
    out.extend(body.as_bytes().iter().copied());
}

fn encode_open(label: u32, request: &OpenRequest, out: &mut impl Extend<u8>) {
    let count = |len: usize| U32::new(u32::try_from(len).unwrap_or(u32::MAX));
    let fixed = OpenHeader {
        label: U32::new(label),
        reliability: reliability_byte(request.reliability),
        weight: request.weight,
        tickets: U16::new(u16::try_from(request.tickets.len()).unwrap_or(u16::MAX)),
        window_bytes: U64::new(request.window_bytes),
        window_datums: U64::new(request.window_datums),
        max_datum_bytes: U32::new(request.max_datum_bytes),
        criteria: count(request.criteria.len()),
        stream_id: request.stream_id,
        subscription: request.subscription,
        resumes: u8::from(request.resume.is_some()),
        name: request.form.name.wire_len(),
        zero: [0; 6],
        publication: request.resume.map_or_else(PublicationId::default, |resume| resume.publication),
        next_seq: U64::new(request.resume.map_or(0, |resume| resume.next_seq)),
        fingerprint: request.form.fingerprint,
    };
    head(out, OPEN, open_bytes(request) - MESSAGE_HEADER_BYTES);
    out.extend(fixed.as_bytes().iter().copied());
    out.extend(request.form.name.as_str().bytes());
    out.extend(request.criteria.iter().copied());
    for ticket in &request.tickets {
        out.extend(count(ticket.len()).as_bytes().iter().copied());
        out.extend(ticket.iter().copied());
    }
}

fn decode_open(body: &[u8]) -> Result<SessionMessage, FrameError> {
    let (fixed, rest) = OpenHeader::ref_from_prefix(body).map_err(|_| FrameError::Short)?;
    let (name, rest) = rest.split_at_checked(usize::from(fixed.name)).ok_or(FrameError::Short)?;
    let name = TypeName::from_wire(name).ok_or(FrameError::Invalid)?;
    let (criteria, mut rest) =
        rest.split_at_checked(fixed.criteria.get() as usize).ok_or(FrameError::Short)?;
    if usize::from(fixed.tickets.get()) > MAX_TICKETS {
        return Err(FrameError::Invalid);
    }
    // The vector grows with the tickets that are present, not with the announced number.
    let mut tickets = Vec::new();
    for _ in 0..fixed.tickets.get() {
        let (len, after) = U32::ref_from_prefix(rest).map_err(|_| FrameError::Short)?;
        let (ticket, after) = after.split_at_checked(len.get() as usize).ok_or(FrameError::Short)?;
        tickets.push(ticket.to_vec());
        rest = after;
    }
    if !rest.is_empty() {
        return Err(FrameError::Invalid);
    }
    let resume = Resume { publication: fixed.publication, next_seq: fixed.next_seq.get() };
    let none = Resume { publication: PublicationId::default(), next_seq: 0 };
    let resume = match fixed.resumes {
        0 if resume == none => None,
        1 => Some(resume),
        _ => return Err(FrameError::Invalid),
    };
    let request = OpenRequest {
        stream_id: fixed.stream_id,
        subscription: fixed.subscription,
        resume,
        reliability: reliability_from(fixed.reliability)?,
        window_bytes: fixed.window_bytes.get(),
        window_datums: fixed.window_datums.get(),
        max_datum_bytes: fixed.max_datum_bytes.get(),
        weight: fixed.weight,
        form: DatumForm { fingerprint: fixed.fingerprint, name },
        criteria: criteria.to_vec(),
        tickets,
    };
    Ok(SessionMessage::Open(fixed.label.get(), request))
}

/// Decodes the whole messages at the start of a stream; for fuzzing. Returns the number of well-formed ones.
pub fn decode_all(mut bytes: &[u8]) -> usize {
    let mut decoded = 0;
    while let Ok((header, rest)) = MessageHeader::ref_from_prefix(bytes) {
        let Some((body, rest)) = rest.split_at_checked(header.len.get() as usize) else { break };
        decoded += usize::from(SessionMessage::decode(header.kind, body).is_ok());
        bytes = rest;
    }
    decoded
}
