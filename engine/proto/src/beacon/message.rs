//! The plaintext of a beacon.
//!
//! ```text
//! 1 | flags 1 | peer 32 | incarnation 8 | number 8 | token 8 | count 1 | count * token 8 | body | zeros
//! body of a record   1 | age in seconds 4 | length 2 | record
//! body of a long one 2 | which record (see `membership::LongRecord`)
//! ```
//!
//! Numbers are little-endian, an IPv4 address is mapped. Bit 0 of the flags asks for an answer.

use alloc::vec::Vec;

use super::BeaconEvent;
use crate::{
    ids::PeerId,
    membership::{
        LongRecord, SignedRecord,
        sealed::{ByteCursor, SEAL_BYTES},
    },
};

/// Longest beacon, in bytes: with the headers of IPv6 and UDP it fits the smallest packet that every IPv6
/// link carries (1,280 bytes).
pub const MAX_BEACON_BYTES: usize = 1_232;

/// Longest plaintext.
pub(super) const MAX_PLAIN_BYTES: usize = MAX_BEACON_BYTES - SEAL_BYTES;

/// Plaintexts are filled up to a multiple of this, or to the longest, so that the length of a beacon tells
/// little.
const STEP_BYTES: usize = 256;

const FORMAT: u8 = 1;
const ASKS: u8 = 1;
const RECORD: u8 = 1;
const LONG: u8 = 2;

/// What comes before the repeated tokens.
const HEAD_BYTES: usize = 2 + 32 + 8 + 8 + 8 + 1;
/// What comes before the bytes of a record.
const RECORD_HEAD_BYTES: usize = 1 + 4 + 2;
/// Tokens for which there is always room.
const ECHOES_MIN: usize = 16;

/// Longest record that a beacon carries: one with 23 tags and streams and a few addresses.
pub const MAX_BEACON_RECORD_BYTES: usize = MAX_PLAIN_BYTES - HEAD_BYTES - RECORD_HEAD_BYTES - 8 * ECHOES_MIN;

const _: () = assert!(LongRecord::MAX_BYTES < RECORD_HEAD_BYTES + MAX_BEACON_RECORD_BYTES);

/// What a node tells about itself.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A record, and its age in seconds if it was received.
    Record(Vec<u8>, u32),
    /// What it takes to fetch the record.
    Long(LongRecord),
}

impl Body {
    pub(super) fn of(record: &SignedRecord) -> Self {
        let bytes = record.bytes();
        if bytes.len() <= MAX_BEACON_RECORD_BYTES {
            return Self::Record(bytes.to_vec(), 0);
        }
        Self::Long(LongRecord::of(record))
    }

    pub(super) fn into_event(self) -> BeaconEvent {
        match self {
            Self::Record(bytes, age_s) => BeaconEvent::Record { bytes, age_s },
            Self::Long(long) => BeaconEvent::Long(long),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Record(bytes, _) => RECORD_HEAD_BYTES + bytes.len(),
            Self::Long(long) => 1 + long.len_bytes(),
        }
    }

    /// Tokens that fit beside it.
    pub(super) fn echo_room(&self) -> usize {
        ((MAX_PLAIN_BYTES - HEAD_BYTES - self.len()) / 8).min(usize::from(u8::MAX))
    }
}

/// A message that was opened.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) peer: PeerId,
    pub(super) incarnation: u64,
    pub(super) number: u64,
    pub(super) asks: bool,
    pub(super) token: u64,
    pub(super) echoes: Vec<u64>,
    pub(super) body: Body,
    /// Of everything in the body but its age.
    pub(super) body_hash: [u8; 32],
}

/// Writes a message. `body` comes with its age in seconds; the caller has asked for the room.
pub(super) fn encode(
    peer: &PeerId,
    (incarnation, number): (u64, u64),
    asks: bool,
    token: u64,
    echoes: &[u64],
    (body, age_s): (&Body, u32),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_PLAIN_BYTES);
    out.extend_from_slice(&[FORMAT, u8::from(asks) * ASKS]);
    out.extend_from_slice(peer.as_bytes());
    for number in [incarnation, number, token] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.push(u8::try_from(echoes.len()).expect("at most as many as there is room for"));
    echoes.iter().for_each(|echo| out.extend_from_slice(&echo.to_le_bytes()));
    match body {
        Body::Record(record, _) => {
            out.push(RECORD);
            out.extend_from_slice(&age_s.to_le_bytes());
            out.extend_from_slice(&u16::try_from(record.len()).expect("a short record").to_le_bytes());
            out.extend_from_slice(record);
        }
        Body::Long(long) => {
            out.push(LONG);
            long.write(&mut out);
        }
    }
    out
}

/// Fills a plaintext up to one of a few lengths.
pub(super) fn fill(plain: &mut Vec<u8>) {
    plain.resize(plain.len().next_multiple_of(STEP_BYTES).min(MAX_PLAIN_BYTES), 0);
}

/// Whether a beacon is ever this long.
pub(super) fn is_sent_length(len: usize) -> bool {
    let plain = len.checked_sub(SEAL_BYTES).filter(|plain| (1..=MAX_PLAIN_BYTES).contains(plain));
    plain.is_some_and(|plain| plain == MAX_PLAIN_BYTES || plain % STEP_BYTES == 0)
}

impl Message {
    /// Reads a message. `None`: it is not one, or carries an address that no packet can be sent to.
    pub(super) fn parse(plain: &[u8]) -> Option<Self> {
        let mut from = ByteCursor(plain);
        let (format, flags) = (from.u8()?, from.u8()?);
        if format != FORMAT || flags & !ASKS != 0 {
            return None;
        }
        let peer = PeerId(from.array()?);
        let (incarnation, number, token) = (from.u64()?, from.u64()?, from.u64()?);
        let count = from.u8()?;
        let echoes = (0..count).map(|_| from.u64()).collect::<Option<_>>()?;
        let (body, body_hash) = body(&mut from, peer)?;
        let message =
            Self { peer, incarnation, number, asks: flags & ASKS != 0, token, echoes, body, body_hash };
        from.0.iter().all(|byte| *byte == 0).then_some(message)
    }
}

fn body(from: &mut ByteCursor<'_>, peer: PeerId) -> Option<(Body, [u8; 32])> {
    match from.u8()? {
        RECORD => {
            let (age_s, len) = (from.u32()?, from.u16()?);
            let record = from.bytes(usize::from(len))?;
            Some((Body::Record(record.to_vec(), age_s), *blake3::hash(record).as_bytes()))
        }
        LONG => {
            let all = from.0;
            let long = LongRecord::read(from, peer)?;
            let hash = blake3::hash(&all[..all.len() - from.0.len()]);
            Some((Body::Long(long), *hash.as_bytes()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::membership::{MAX_ADDRESSES, RecordVersion};

    const PEER: PeerId = PeerId([7; 32]);

    fn long(addresses: Vec<SocketAddr>) -> Body {
        let version = RecordVersion { incarnation: 3, sequence: 4 };
        Body::Long(LongRecord { peer: PEER, version, mark: 9, len: 2_000, addresses })
    }

    fn message(body: &Body, echoes: &[u64]) -> Vec<u8> {
        encode(&PEER, (5, 6), true, 8, echoes, (body, 11))
    }

    #[test]
    fn messages_survive_the_way_and_their_padding() {
        let addresses = vec!["10.0.0.1:7".parse().unwrap(), "[fd00::1]:9".parse().unwrap()];
        for body in
            [Body::Record(vec![1; 300], 0), Body::Record(Vec::new(), 0), long(addresses), long(vec![])]
        {
            let mut plain = message(&body, &[1, u64::MAX]);
            plain.resize(plain.len() + 200, 0);
            let read = Message::parse(&plain).unwrap();
            assert_eq!((read.peer, read.incarnation, read.number, read.token), (PEER, 5, 6, 8));
            assert_eq!((read.asks, read.echoes), (true, vec![1, u64::MAX]));
            match (read.body.into_event(), body) {
                (BeaconEvent::Record { bytes, age_s }, Body::Record(sent, _)) => {
                    assert_eq!((bytes, age_s), (sent, 11));
                }
                (event, body) => assert_eq!(event, body.into_event()),
            }
        }
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        let good = message(&long(vec!["10.0.0.1:7".parse().unwrap()]), &[]);
        assert!(Message::parse(&good).is_some());
        for len in 0..good.len() {
            assert!(Message::parse(&good[..len]).is_none(), "cut to {len}");
        }
        let with = |at: usize, byte: u8| {
            let mut changed = good.clone();
            changed[at] = byte;
            Message::parse(&changed).is_some()
        };
        let port = good.len() - 2;
        assert!(!with(0, 2) && !with(1, 3) && with(1, 0), "format and flags");
        assert!(!with(HEAD_BYTES, 3), "kind");
        assert!(!with(port, 0), "port 0");
        assert!(!with(port - 17, 9), "more addresses than a record has");
        assert!(Message::parse(&[&good[..], &[0, 0, 1]].concat()).is_none(), "not filled with zeros");
    }

    #[test]
    fn every_body_leaves_room_for_tokens() {
        let longest = Body::Record(vec![1; MAX_BEACON_RECORD_BYTES], 0);
        assert_eq!(longest.echo_room(), ECHOES_MIN);
        let echoes = vec![1; longest.echo_room()];
        assert!(message(&longest, &echoes).len() <= MAX_PLAIN_BYTES);
        let address = "[fd00::1]:9".parse().unwrap();
        let body = long(vec![address; MAX_ADDRESSES]);
        assert!(message(&body, &vec![1; body.echo_room()]).len() <= MAX_PLAIN_BYTES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..MAX_PLAIN_BYTES),
            format in any::<bool>(),
        ) {
            if format && bytes.len() > HEAD_BYTES {
                (bytes[0], bytes[1], bytes[HEAD_BYTES - 1]) = (FORMAT, 0, 0);
                bytes[HEAD_BYTES] = 1 + bytes[HEAD_BYTES] % 2;
            }
            if let Some(message) = Message::parse(&bytes) {
                prop_assert!(message.echoes.len() <= 255);
            }
        }
    }
}
