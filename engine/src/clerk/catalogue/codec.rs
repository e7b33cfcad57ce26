//! The messages between two clerks inside a session.
//!
//! ```text
//! RECORDS   1 | ( age in seconds u32 | length u32 | signed record ) ...
//! TICKETS   2 | ( class 32 | length u32 | ticket ) ...      replaces what was shown before
//! DIGEST    3 | digest of the sender's catalogue 512
//! HAVE      4 | buckets u64 | summary 40 ...                all that the sender has of these buckets
//! ```
//!
//! Numbers are little-endian.

use corewire_proto::membership::{
    CatalogDigest, RecordSummary, SUMMARY_BYTES, SignedRecord, SummaryList, bucket_of,
};

use crate::{peer::ShownTicket, shared::limits::TICKETS_MESSAGE_MAX};

const RECORDS: u8 = 1;
const TICKETS: u8 = 2;
const DIGEST: u8 = 3;
const HAVE: u8 = 4;

/// Bytes of one RECORDS message: well below the session's limit for one message (64 KiB), and the largest
/// record (36 KiB) fits.
const RECORDS_BYTES_MAX: usize = 48 << 10;

const _: () = assert!(RECORDS_BYTES_MAX > corewire_proto::membership::MAX_RECORD_BYTES + 9);

/// A message of another clerk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClerkMessage<'a> {
    /// Records, each with its age in seconds.
    Records(Vec<(u64, &'a [u8])>),
    Tickets(Vec<ShownTicket>),
    Digest(Box<CatalogDigest>),
    /// The buckets, as a set, and what the peer has of them.
    Have(u64, SummaryList),
    /// Of a later version; ignored.
    Unknown,
}

impl<'a> ClerkMessage<'a> {
    /// `None` when the message is malformed, or carries more than `ticket_bytes` of tickets.
    pub(super) fn parse(bytes: &'a [u8], ticket_bytes: usize) -> Option<Self> {
        match bytes.split_first()? {
            (&RECORDS, body) => records(body).map(Self::Records),
            (&TICKETS, body) => tickets(body, ticket_bytes).map(Self::Tickets),
            (&DIGEST, body) => CatalogDigest::read(body).map(|digest| Self::Digest(Box::new(digest))),
            (&HAVE, body) => {
                let (buckets, list) = body.split_first_chunk::<8>()?;
                Some(Self::Have(u64::from_le_bytes(*buckets), SummaryList::read(list)?))
            }
            _ => Some(Self::Unknown),
        }
    }
}

/// Splits `length u32 | bytes` off.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn append(message: &mut Vec<u8>, bytes: &[u8]) {
    message.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    message.extend_from_slice(bytes);
}

fn records(mut body: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let (age, rest) = body.split_first_chunk::<4>()?;
        let (record, rest) = split(rest)?;
        records.push((u64::from(u32::from_le_bytes(*age)), record));
        body = rest;
    }
    Some(records)
}

fn tickets(mut body: &[u8], limit: usize) -> Option<Vec<ShownTicket>> {
    if body.len() > limit {
        return None;
    }
    let mut tickets = Vec::new();
    while !body.is_empty() {
        let (class, rest) = body.split_first_chunk::<32>()?;
        let (ticket, rest) = split(rest)?;
        tickets.push(ShownTicket { class: *class, bytes: ticket.into() });
        body = rest;
    }
    Some(tickets)
}

/// A RECORDS message that is being written.
pub(super) struct RecordsWriter(Vec<u8>);

impl RecordsWriter {
    pub(super) fn new() -> Self {
        Self(vec![RECORDS])
    }

    /// Adds a record of this age in seconds; `false` when the message has no room for it.
    pub(super) fn push(&mut self, age_s: u64, record: &[u8]) -> bool {
        let fits = self.0.len() + 8 + record.len() <= RECORDS_BYTES_MAX;
        if fits {
            self.0.extend_from_slice(&u32::try_from(age_s).unwrap_or(u32::MAX).to_le_bytes());
            append(&mut self.0, record);
        }
        fits
    }

    /// The message, unless it is empty.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        (self.0.len() > 1).then_some(self.0)
    }
}

/// A DIGEST message.
pub(super) fn encode_digest(digest: &CatalogDigest) -> Vec<u8> {
    let mut message = vec![DIGEST];
    digest.write(&mut message);
    message
}

/// A HAVE message about the first of these buckets, as many as fit, and the set of those. `records` are all
/// that the node has. A bucket that is too full for a message is listed in part; the peer then sends too
/// much.
pub(super) fn encode_have<'a>(
    buckets: u64,
    records: impl Iterator<Item = &'a SignedRecord> + Clone,
) -> (u64, Vec<u8>) {
    let mut message = vec![HAVE; 9];
    let mut covered = 0;
    let mut left = buckets;
    while left != 0 {
        let bucket = left & left.wrapping_neg();
        left ^= bucket;
        let of_bucket = records.clone().filter(|record| bucket_of(&record.record().peer_id) == bucket);
        let room = (RECORDS_BYTES_MAX - message.len()) / SUMMARY_BYTES;
        if covered != 0 && of_bucket.clone().count() > room {
            break;
        }
        of_bucket.take(room).for_each(|record| RecordSummary::of(record).write(&mut message));
        covered |= bucket;
    }
    message[1..9].copy_from_slice(&covered.to_le_bytes());
    (covered, message)
}

/// A TICKETS message. A peer with the same limits takes at most `ticket_bytes`; more would be a breach to it.
pub(super) fn encode_tickets(tickets: &[ShownTicket], ticket_bytes: usize) -> Vec<u8> {
    let most = TICKETS_MESSAGE_MAX.min(ticket_bytes.saturating_add(1));
    let mut message = vec![TICKETS];
    for ticket in tickets {
        if message.len() + ticket.message_bytes() <= most {
            message.extend_from_slice(&ticket.class);
            append(&mut message, &ticket.bytes);
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_can_be_split_again() {
        let mut writer = RecordsWriter::new();
        assert!(writer.push(1, b"one") && writer.push(2, b"") && writer.push(u64::MAX, b"three"));
        let mut message = writer.finish().expect("there are records");
        let parsed = ClerkMessage::parse(&message, 0);
        let records = vec![(1, &b"one"[..]), (2, b""), (u64::from(u32::MAX), b"three")];
        assert_eq!(parsed, Some(ClerkMessage::Records(records)));
        message.pop();
        assert_eq!(ClerkMessage::parse(&message, 0), None);
    }

    #[test]
    fn a_length_that_lies_is_no_message() {
        for length in [1u32, 1 << 20, u32::MAX] {
            assert_eq!(records(&[[0; 4], length.to_le_bytes()].concat()), None);
        }
        assert_eq!(tickets(&[0; 35], 1_000), None);
        assert_eq!(tickets(&[0; 72], 71), None);
        assert_eq!(tickets(&[0; 72], 72).map(|tickets| tickets.len()), Some(2));
    }

    #[test]
    fn tickets_beyond_the_limit_are_left_out() {
        let ticket = |bytes: usize| ShownTicket { class: [7; 32], bytes: vec![1; bytes].into() };
        let message = encode_tickets(&[ticket(100), ticket(1), ticket(2)], 80);
        let parsed = ClerkMessage::parse(&message, 80);
        assert_eq!(parsed, Some(ClerkMessage::Tickets(vec![ticket(1), ticket(2)])));
    }
}
