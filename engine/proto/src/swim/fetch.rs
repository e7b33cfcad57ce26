//! Records that are too long for a packet. A node tells that it has one, and the others fetch it in parts, in
//! packets of their own: from the node that told of it, and each tells of it in turn.
//!
//! Invariants:
//!
//! * A request is as long as its answer, and as the packet that told of the record, of which one at most is
//!   fetched. The first part is asked for alone, and a few times. So a forger can not make a node send much
//!   to an address of its choice.
//! * At most [`FETCHES_MAX`] records are fetched at a time. A new one takes the place of one of which no part
//!   has come; a fetch without an answer ends after [`TRIES`] pauses.
//! * What was fetched is the record that was told of, by its mark, or is thrown away.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{
    RecordBook, Swim, SwimEvent, SwimTarget,
    message::{MAX_SWIM_RECORD_BYTES, SwimBody},
};
use crate::{
    ids::PeerId,
    membership::{LongRecord, MAX_RECORD_BYTES, SignedRecord},
    time::Instant,
};

/// Bytes of a record in one packet.
pub(super) const PART_BYTES: usize = 1_024;

/// Records that are fetched at a time.
pub(super) const FETCHES_MAX: usize = 8;

/// Parts that are asked for at a time once the first has come.
const PARTS_ASKED: usize = 4;

/// Pauses without a part after which a fetch ends. After each another address is asked.
const TRIES: u32 = 6;

/// A third of a period is the pause after which parts are asked for again.
const PAUSES_PER_PERIOD: u32 = 3;

// The parts of a record are a set in 64 bits.
const _: () = assert!(MAX_RECORD_BYTES <= 64 * PART_BYTES);

/// A record that is being fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    peer: PeerId,
    /// Of the record.
    mark: u64,
    /// In each request and its answer, so that only the node that is asked can answer.
    number: u64,
    /// Who is asked, in turn.
    ways: Vec<SwimTarget>,
    way: usize,
    /// The record, with zeros where parts are missing.
    bytes: Vec<u8>,
    /// Parts that have not come, as a set.
    missing: u64,
    /// Those of them that were not asked for since the last pause.
    unasked: u64,
    /// Pauses without a part.
    tries: u32,
    due: Instant,
}

impl Fetch {
    /// Whether a part has come.
    fn has_begun(&self) -> bool {
        self.missing.count_ones() as usize != self.bytes.len().div_ceil(PART_BYTES)
    }
}

impl Swim {
    /// A peer has told that it has a record that is too long for a packet, and where it can be reached.
    pub fn fetch(&mut self, now: Instant, long: &LongRecord, at: &[SocketAddr]) {
        let ways: Vec<SwimTarget> = at.iter().copied().map(SwimTarget::Address).collect();
        self.begin_fetch(now, long, &ways);
    }

    /// Fetches a record; `false` when it is known, outdated or not to be kept.
    pub(super) fn begin_fetch(&mut self, now: Instant, long: &LongRecord, ways: &[SwimTarget]) -> bool {
        let LongRecord { peer, version, mark, len, .. } = *long;
        let len = usize::from(len);
        if let Some(gone) = self.gone.get(&peer).filter(|gone| gone.covers(mark, version)) {
            if !(gone.left && gone.mark == mark) {
                // The one that told of it has not heard of that.
                self.news.tell(peer, mark, true, 2);
                self.schedule(now);
            }
            return false;
        }
        let wanted = match self.table.get(&peer) {
            Some(member) => version >= member.version && mark != member.mark,
            None => self.table.len() < self.max_members,
        };
        let same = |fetch: &Fetch| (fetch.peer, fetch.mark) == (peer, mark);
        let fits = (MAX_SWIM_RECORD_BYTES + 1..=MAX_RECORD_BYTES).contains(&len);
        if peer == self.own || !wanted || !fits || self.fetches.iter().any(same) {
            return false;
        }
        if ways.is_empty() {
            self.events.push_back(SwimEvent::Unfetched(peer));
            return false;
        }
        if self.fetches.len() == FETCHES_MAX {
            let idle = self.fetches.iter().position(|fetch| !fetch.has_begun());
            let peer = idle.map_or(peer, |place| self.fetches.remove(place).peer);
            self.events.push_back(SwimEvent::Unfetched(peer));
            if idle.is_none() {
                return false;
            }
        }
        let missing = u64::MAX >> (64 - len.div_ceil(PART_BYTES));
        let mut fetch = Fetch {
            peer,
            mark,
            number: self.chance.number(),
            ways: ways.to_vec(),
            way: 0,
            bytes: alloc::vec![0; len],
            missing,
            unasked: missing,
            tries: 0,
            due: now + self.period / PAUSES_PER_PERIOD,
        };
        self.ask_parts(&mut fetch, 1);
        self.fetches.push(fetch);
        true
    }

    /// Asks for some parts that were not asked for.
    fn ask_parts(&mut self, fetch: &mut Fetch, count: usize) {
        for _ in 0..count {
            if fetch.unasked == 0 {
                return;
            }
            let part = fetch.unasked.trailing_zeros();
            fetch.unasked &= fetch.unasked - 1;
            let part = u8::try_from(part).expect("below 64");
            let Fetch { number, peer, mark, .. } = *fetch;
            let packet = self.writer(&SwimBody::Ask { number, peer, mark, part });
            self.send(fetch.ways[fetch.way % fetch.ways.len()], packet);
        }
    }

    /// Sends a part of a record that this node has.
    pub(super) fn answer_ask(
        &mut self,
        from: SocketAddr,
        (number, peer, mark, part): (u64, PeerId, u64, u8),
        room: usize,
        book: &impl RecordBook,
    ) {
        let Some((record, age_s)) = book.record(&peer, mark).filter(|_| self.table.has(&peer, mark)) else {
            return;
        };
        let Some(bytes) = record.bytes().chunks(PART_BYTES).nth(usize::from(part)) else { return };
        let body = SwimBody::Part { number, part, age_s, bytes: bytes.to_vec() };
        if let Some(packet) = self.answer(&body, room) {
            self.send(SwimTarget::Address(from), packet);
        }
    }

    /// Takes in a part, and the record if it was the last one.
    pub(super) fn handle_part(&mut self, now: Instant, number: u64, part: u8, (age_s, bytes): (u32, &[u8])) {
        let Some(place) = self.fetches.iter().position(|fetch| fetch.number == number) else { return };
        let mut fetch = self.fetches.remove(place);
        let begin = usize::from(part) * PART_BYTES;
        let bit = 1_u64.checked_shl(u32::from(part)).unwrap_or(0);
        let end = fetch.bytes.len().min(begin + PART_BYTES);
        if fetch.missing & bit != 0 && end - begin == bytes.len() {
            let first = !fetch.has_begun();
            fetch.bytes[begin..end].copy_from_slice(bytes);
            fetch.missing &= !bit;
            fetch.unasked &= !bit;
            (fetch.tries, fetch.due) = (0, now + self.period / PAUSES_PER_PERIOD);
            if fetch.missing == 0 {
                return self.end_fetch(fetch, age_s);
            }
            self.ask_parts(&mut fetch, if first { PARTS_ASKED } else { 1 });
        }
        self.fetches.insert(place, fetch);
    }

    fn end_fetch(&mut self, fetch: Fetch, age_s: u32) {
        let is_it = SignedRecord::mark_of_bytes(&fetch.bytes) == fetch.mark;
        self.events.push_back(if is_it {
            SwimEvent::Record { bytes: fetch.bytes, age_s }
        } else {
            SwimEvent::Unfetched(fetch.peer)
        });
    }

    /// Asks again for parts that have not come, at another address, or ends without them.
    pub(super) fn fetch_again(&mut self, now: Instant) {
        while let Some(place) = self.fetches.iter().position(|fetch| now >= fetch.due) {
            let mut fetch = self.fetches.remove(place);
            fetch.tries += 1;
            if fetch.tries > TRIES {
                self.events.push_back(SwimEvent::Unfetched(fetch.peer));
                continue;
            }
            fetch.way += 1;
            for way in &mut fetch.ways {
                if let SwimTarget::Peer { again, .. } = way {
                    *again = true;
                }
            }
            fetch.unasked = fetch.missing;
            fetch.due = now + self.period / PAUSES_PER_PERIOD;
            let count = if fetch.has_begun() { PARTS_ASKED } else { 1 };
            self.ask_parts(&mut fetch, count);
            self.fetches.insert(place, fetch);
        }
    }

    pub(super) fn next_fetch(&self) -> Option<Instant> {
        self.fetches.iter().map(|fetch| fetch.due).min()
    }
}
