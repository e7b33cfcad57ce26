//! The bytes of membership packets.
//!
//! ```text
//! header 20 | salt 24 | ciphertext | tag 16           the header is [`Header`], and associated data
//!
//! plaintext: 1 | kind 1 | sender 32 | mark 8 | body | items | zeros
//!
//! body of  1 PING   number 8                     4 GOSSIP  nothing
//!          2 ACK    number 8 | flags 1           5 SYNC    range 5 | 128 * sum 8
//!          3 PROXY  number 8 | target 32         6 HAVE    range 5 | count 1 | count * ( peer 32 | mark 8 )
//!                                                7 WANT    count 1 | count * peer 32
//!          8 ASK    number 8 | peer 32 | mark 8 | part 1
//!          9 PART   number 8 | part 1 | age in seconds 4 | length 2 | bytes of the record
//!         10 VOUCH  number 8 | theirs 8 | room 64
//!         11 VOUCHED  number 8 | signature 64
//! flags    1: unknown, 2: suspected
//! range    depth 1 | path 4
//! item     1 RECORD   age in seconds 4 | length 2 | record
//!          2 SUSPECT  peer 32 | mark 8
//!          3 LONG     peer 32 | which record (see `membership::LongRecord`)
//! ```
//!
//! Numbers are little-endian. A mark is the first eight bytes of a record's hash.

use alloc::vec::Vec;

use super::{SUMS, fetch::PART_BYTES};
use crate::{
    identity::SIGNATURE_BYTES,
    ids::PeerId,
    membership::{
        LongRecord, SignedRecord,
        sealed::{ByteCursor, SEAL_BYTES},
    },
    wire::header::HEADER_BYTES,
};

/// Longest membership packet, in bytes: as long as a beacon, so that it fits the smallest packet of IPv6.
pub const MAX_SWIM_BYTES: usize = 1_232;

/// Bytes of a packet beside its plaintext.
pub(super) const FRAME_BYTES: usize = HEADER_BYTES + SEAL_BYTES;

/// Longest plaintext.
pub(super) const MAX_PLAIN_BYTES: usize = MAX_SWIM_BYTES - FRAME_BYTES;

/// Plaintexts are filled up to a multiple of this, or to the longest.
pub(super) const STEP_BYTES: usize = 64;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 2 + 32 + 8;
const RANGE_BYTES: usize = 1 + 4;
const ENTRY_BYTES: usize = 32 + 8;
const RECORD_HEAD_BYTES: usize = 1 + 4 + 2;
const PART_HEAD_BYTES: usize = 8 + 1 + 4 + 2;
const SUSPECT_BYTES: usize = 1 + 32 + 8;

/// What a node signs to show that it is there, before the number of the node that wants to know.
const CONTEXT_VOUCH: &[u8; 32] = b"corewire v1 member is here      ";

/// Entries of a HAVE.
pub(super) const ENTRIES_MAX: usize = (MAX_PLAIN_BYTES - HEAD_BYTES - RANGE_BYTES - 1) / ENTRY_BYTES;

/// Peers of a WANT: as many as may fit the answer.
pub(super) const WANTED_MAX: usize = 4;

/// Longest record that a membership packet carries: one with about 23 tags and streams.
pub const MAX_SWIM_RECORD_BYTES: usize = MAX_PLAIN_BYTES - HEAD_BYTES - 9 - RECORD_HEAD_BYTES;

const _: () = assert!(HEAD_BYTES + RANGE_BYTES + SUMS * 8 <= MAX_PLAIN_BYTES);
const _: () = assert!(HEAD_BYTES + 9 + 33 + LongRecord::MAX_BYTES <= MAX_PLAIN_BYTES);

const _: () = assert!(HEAD_BYTES + PART_HEAD_BYTES + PART_BYTES <= MAX_PLAIN_BYTES);

/// The ids whose first `7 * depth` bits are `path`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IdRange {
    depth: u8,
    path: u32,
}

impl IdRange {
    const BITS: u32 = SUMS.trailing_zeros();
    const DEPTH_MAX: u8 = 4;
    pub(super) const ALL: Self = Self { depth: 0, path: 0 };

    fn new(depth: u8, path: u32) -> Option<Self> {
        let fits = depth <= Self::DEPTH_MAX && u64::from(path) < 1 << (Self::BITS * u32::from(depth));
        fits.then_some(Self { depth, path })
    }

    /// The lowest first four bytes of its ids, and the first ones behind it.
    pub(super) fn bounds(self) -> (u64, u64) {
        let shift = 32 - Self::BITS * u32::from(self.depth);
        (u64::from(self.path) << shift, (u64::from(self.path) + 1) << shift)
    }

    /// Its part at this place; `None` when it cannot be divided any more.
    pub(super) fn part(self, place: usize) -> Option<Self> {
        Self::new(self.depth + 1, (self.path << Self::BITS) | u32::try_from(place).ok()?)
    }

    /// Which of its parts an id is in.
    pub(super) fn place_of(self, peer: &PeerId) -> usize {
        let shift = 32_u32.saturating_sub(Self::BITS * (u32::from(self.depth) + 1));
        (first_bytes(peer) >> shift) as usize % SUMS
    }
}

/// The first four bytes of an id, as a number in the order of ids.
pub(super) fn first_bytes(peer: &PeerId) -> u64 {
    let [a, b, c, d, ..] = peer.0;
    u64::from(u32::from_be_bytes([a, b, c, d]))
}

/// What a packet is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SwimBody {
    /// Answer, if you are there.
    Ping { number: u64 },
    /// The answer. `unknown`: send your record. `suspected`: the record that you named is suspected, or given
    /// up.
    Ack { number: u64, unknown: bool, suspected: bool },
    /// Ask this peer in my place, and let it sign the [`image`] of this number.
    Proxy { number: u64, target: PeerId },
    /// Answer, and sign the [`image`] of the number of the node in whose place you are asked. It is as long
    /// as the answer.
    Vouch { number: u64, theirs: u64 },
    /// The answer, and what is passed on of it under the number of the one that waits for it. The signature
    /// is of [`vouch_message`].
    Vouched { number: u64, signature: [u8; SIGNATURE_BYTES] },
    /// Items only.
    Gossip,
    /// The sums over the marks in each part of a range.
    Sync { range: IdRange, sums: Vec<u64> },
    /// All records of a range.
    Have { range: IdRange, entries: Vec<(PeerId, u64)> },
    /// Send the records of these peers.
    Want(Vec<PeerId>),
    /// Send this part of a record that is too long for a packet.
    Ask { number: u64, peer: PeerId, mark: u64, part: u8 },
    /// The answer.
    Part { number: u64, part: u8, age_s: u32, bytes: Vec<u8> },
}

/// What a helper shows of the number that it was given, which shows that the helper answers. The member that
/// it asks can not find the number, and so not answer in the helper's name.
pub(super) fn image(number: u64) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&number.to_le_bytes()).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What the signature of a [`SwimBody::Vouched`] is over: the [`image`] of its number.
pub(super) fn vouch_message(image: u64) -> [u8; CONTEXT_VOUCH.len() + 8] {
    let mut message = [0; CONTEXT_VOUCH.len() + 8];
    message[..CONTEXT_VOUCH.len()].copy_from_slice(CONTEXT_VOUCH);
    message[CONTEXT_VOUCH.len()..].copy_from_slice(&image.to_le_bytes());
    message
}

/// News about a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SwimItem {
    /// A signed record, not verified yet.
    Record { age_s: u32, bytes: Vec<u8> },
    /// The peer, of whose records this is the mark, does not answer.
    Suspect { peer: PeerId, mark: u64 },
    /// The sender has a record of a peer that is too long for a packet.
    Long(LongRecord),
}

/// A packet that was opened.
#[derive(Debug)]
pub(super) struct SwimMessage {
    pub(super) sender: PeerId,
    /// Of the sender's record.
    pub(super) mark: u64,
    pub(super) body: SwimBody,
    pub(super) items: Vec<SwimItem>,
}

/// A plaintext that is being written.
pub(super) struct SwimWriter {
    plain: Vec<u8>,
    /// Most bytes of the plaintext.
    limit: usize,
    /// It is filled up to the limit, to leave as much room for the answer.
    full: bool,
}

impl SwimWriter {
    /// A packet of at most `packet_bytes`; `None` when they have no room for the body.
    pub(super) fn new(sender: &PeerId, mark: u64, body: &SwimBody, packet_bytes: usize) -> Option<Self> {
        let mut plain = Vec::with_capacity(MAX_PLAIN_BYTES);
        let kind = match body {
            SwimBody::Ping { .. } => 1,
            SwimBody::Ack { .. } => 2,
            SwimBody::Proxy { .. } => 3,
            SwimBody::Gossip => 4,
            SwimBody::Sync { .. } => 5,
            SwimBody::Have { .. } => 6,
            SwimBody::Want(_) => 7,
            SwimBody::Ask { .. } => 8,
            SwimBody::Part { .. } => 9,
            SwimBody::Vouch { .. } => 10,
            SwimBody::Vouched { .. } => 11,
        };
        plain.extend_from_slice(&[FORMAT, kind]);
        plain.extend_from_slice(sender.as_bytes());
        plain.extend_from_slice(&mark.to_le_bytes());
        match body {
            SwimBody::Ping { number } => plain.extend_from_slice(&number.to_le_bytes()),
            SwimBody::Ack { number, unknown, suspected } => {
                plain.extend_from_slice(&number.to_le_bytes());
                plain.push(u8::from(*unknown) | u8::from(*suspected) << 1);
            }
            SwimBody::Proxy { number, target } => {
                plain.extend_from_slice(&number.to_le_bytes());
                plain.extend_from_slice(target.as_bytes());
            }
            SwimBody::Vouch { number, theirs } => {
                plain.extend_from_slice(&number.to_le_bytes());
                plain.extend_from_slice(&theirs.to_le_bytes());
                plain.extend_from_slice(&[0; SIGNATURE_BYTES]);
            }
            SwimBody::Vouched { number, signature } => {
                plain.extend_from_slice(&number.to_le_bytes());
                plain.extend_from_slice(signature);
            }
            SwimBody::Gossip => {}
            SwimBody::Sync { range, sums } => {
                write_range(&mut plain, *range);
                sums.iter().for_each(|sum| plain.extend_from_slice(&sum.to_le_bytes()));
            }
            SwimBody::Have { range, entries } => {
                write_range(&mut plain, *range);
                plain.push(u8::try_from(entries.len()).expect("they fit a packet"));
                for (peer, mark) in entries {
                    plain.extend_from_slice(peer.as_bytes());
                    plain.extend_from_slice(&mark.to_le_bytes());
                }
            }
            SwimBody::Want(peers) => {
                plain.push(u8::try_from(peers.len()).expect("they fit a packet"));
                peers.iter().for_each(|peer| plain.extend_from_slice(peer.as_bytes()));
            }
            SwimBody::Ask { number, peer, mark, part } => {
                plain.extend_from_slice(&number.to_le_bytes());
                plain.extend_from_slice(peer.as_bytes());
                plain.extend_from_slice(&mark.to_le_bytes());
                plain.push(*part);
            }
            SwimBody::Part { number, part, age_s, bytes } => {
                plain.extend_from_slice(&number.to_le_bytes());
                plain.push(*part);
                plain.extend_from_slice(&age_s.to_le_bytes());
                let len = u16::try_from(bytes.len()).expect("a part is short");
                plain.extend_from_slice(&len.to_le_bytes());
                plain.extend_from_slice(bytes);
            }
        }
        let full = matches!(
            body,
            SwimBody::Sync { .. } | SwimBody::Have { .. } | SwimBody::Want(_) | SwimBody::Ask { .. }
        );
        let limit = packet_bytes.min(MAX_SWIM_BYTES).saturating_sub(FRAME_BYTES);
        (plain.len() <= limit).then_some(Self { plain, limit, full })
    }

    /// Whether so many more bytes fit.
    fn fits(&self, bytes: usize) -> bool {
        self.plain.len() + bytes <= self.limit
    }

    /// Adds a record, or that there is one if it is too long; `false` when there is no room.
    pub(super) fn record(&mut self, record: &SignedRecord, age_s: u32) -> bool {
        let bytes = record.bytes();
        if bytes.len() > MAX_SWIM_RECORD_BYTES {
            let long = LongRecord { addresses: Vec::new(), ..LongRecord::of(record) };
            // The request for it is as long as the longest packet, and this one is not to be shorter.
            let fits = self.limit == MAX_PLAIN_BYTES && self.fits(33 + long.len_bytes());
            if fits {
                self.plain.push(3);
                self.plain.extend_from_slice(long.peer.as_bytes());
                long.write(&mut self.plain);
                self.full = true;
            }
            return fits;
        }
        let fits = self.fits(RECORD_HEAD_BYTES + bytes.len());
        if fits {
            self.plain.push(1);
            self.plain.extend_from_slice(&age_s.to_le_bytes());
            let len = u16::try_from(bytes.len()).expect("a short record");
            self.plain.extend_from_slice(&len.to_le_bytes());
            self.plain.extend_from_slice(bytes);
        }
        fits
    }

    /// Adds a suspicion; `false` when there is no room.
    pub(super) fn suspect(&mut self, peer: &PeerId, mark: u64) -> bool {
        let fits = self.fits(SUSPECT_BYTES);
        if fits {
            self.plain.push(2);
            self.plain.extend_from_slice(peer.as_bytes());
            self.plain.extend_from_slice(&mark.to_le_bytes());
        }
        fits
    }

    /// The plaintext, filled up.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let step = self.plain.len().next_multiple_of(STEP_BYTES).min(self.limit);
        self.plain.resize(if self.full { self.limit } else { step }, 0);
        self.plain
    }
}

fn write_range(out: &mut Vec<u8>, range: IdRange) {
    out.push(range.depth);
    out.extend_from_slice(&range.path.to_le_bytes());
}

fn range(from: &mut ByteCursor<'_>) -> Option<IdRange> {
    IdRange::new(from.u8()?, from.u32()?)
}

impl SwimMessage {
    /// Reads a plaintext; `None` when it is not one.
    pub(super) fn parse(plain: &[u8]) -> Option<Self> {
        let mut from = ByteCursor(plain);
        let (format, kind) = (from.u8()?, from.u8()?);
        if format != FORMAT {
            return None;
        }
        let (sender, mark) = (PeerId(from.array()?), from.u64()?);
        let body = match kind {
            1 => SwimBody::Ping { number: from.u64()? },
            2 => {
                let (number, flags) = (from.u64()?, from.u8().filter(|flags| *flags < 4)?);
                SwimBody::Ack { number, unknown: flags & 1 != 0, suspected: flags & 2 != 0 }
            }
            3 => SwimBody::Proxy { number: from.u64()?, target: PeerId(from.array()?) },
            4 => SwimBody::Gossip,
            5 => {
                let range = range(&mut from).filter(|range| range.part(0).is_some())?;
                SwimBody::Sync { range, sums: (0..SUMS).map(|_| from.u64()).collect::<Option<_>>()? }
            }
            6 => {
                let (range, count) = (range(&mut from)?, from.u8()?);
                let mut entry = || Some((PeerId(from.array()?), from.u64()?));
                SwimBody::Have { range, entries: (0..count).map(|_| entry()).collect::<Option<_>>()? }
            }
            7 => {
                let count = from.u8().filter(|count| usize::from(*count) <= WANTED_MAX)?;
                SwimBody::Want((0..count).map(|_| from.array().map(PeerId)).collect::<Option<_>>()?)
            }
            8 => SwimBody::Ask {
                number: from.u64()?,
                peer: PeerId(from.array()?),
                mark: from.u64()?,
                part: from.u8()?,
            },
            9 => {
                let (number, part, age_s, len) = (from.u64()?, from.u8()?, from.u32()?, from.u16()?);
                SwimBody::Part { number, part, age_s, bytes: from.bytes(usize::from(len))?.to_vec() }
            }
            10 => {
                let (number, theirs) = (from.u64()?, from.u64()?);
                from.bytes(SIGNATURE_BYTES)?;
                SwimBody::Vouch { number, theirs }
            }
            11 => SwimBody::Vouched { number: from.u64()?, signature: from.array()? },
            _ => return None,
        };
        let items = items(&mut from)?;
        from.0.iter().all(|byte| *byte == 0).then_some(Self { sender, mark, body, items })
    }
}

fn items(from: &mut ByteCursor<'_>) -> Option<Vec<SwimItem>> {
    let mut items = Vec::new();
    while from.0.first().is_some_and(|kind| *kind != 0) {
        items.push(match from.u8()? {
            1 => {
                let (age_s, len) = (from.u32()?, from.u16()?);
                SwimItem::Record { age_s, bytes: from.bytes(usize::from(len))?.to_vec() }
            }
            2 => SwimItem::Suspect { peer: PeerId(from.array()?), mark: from.u64()? },
            3 => {
                let peer = PeerId(from.array()?);
                SwimItem::Long(LongRecord::read(from, peer)?)
            }
            _ => return None,
        });
    }
    Some(items)
}
