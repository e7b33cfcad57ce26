//! What must hold at every step, and what must have been taken at the end.
//!
//! The laws are those of the stream model: order, no unreported gap, and the order of a channel's positions.

use std::collections::BTreeMap;

use corewire_engine::{
    node::Node,
    publication::Publication,
    shared::{ChannelSnapshot, ChannelState},
    subscription::{Leg, Subscription},
};
use corewire_proto::{PeerId, StreamId, channel::Reliability, session::CloseCode};
use corewire_rings::{RecvError, Ring};

/// Bytes at the front of every datum: the number of its publication, and its sequence.
pub(crate) const HEAD: usize = 16;

/// A publication from its first handle to its last.
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) place: usize,
    pub(crate) stream: StreamId,
    pub(crate) publication: Option<Publication>,
    pub(crate) ring: Ring,
    /// Datums that the ring accepted.
    pub(crate) accepted: u64,
    /// A full ring drops the oldest datums.
    pub(crate) evicts: bool,
}

impl Life {
    /// Offers a datum, and reports a full ring as producers do. `false`: no room.
    pub(crate) fn push(&mut self, len: usize) -> bool {
        let Some(publication) = &self.publication else { return false };
        let writer = publication.writer();
        let mut claimed = writer.try_claim(len.max(HEAD));
        if claimed.is_err() {
            publication.note_full();
            if self.evicts {
                claimed = writer.claim_evicting(len.max(HEAD), |_, _| {});
            }
        }
        let Ok(mut claim) = claimed else { return false };
        let seq = claim.seq();
        claim[..8].copy_from_slice(&self.number.to_le_bytes());
        claim[8..HEAD].copy_from_slice(&seq.to_le_bytes());
        claim[HEAD..].fill(seq as u8);
        claim.commit();
        assert_eq!(seq, self.accepted, "the ring gave a sequence twice, or left one out");
        self.accepted += 1;
        true
    }

    /// What holds at the producer's end at any time.
    pub(crate) fn check(&self) {
        assert_eq!(self.ring.tail(), self.accepted, "accepted = appended");
        assert!(self.ring.len() <= self.ring.config().datums, "appended - gate <= capacity");
        let Some(publication) = &self.publication else { return };
        for channel in publication.channels().iter().filter(|channel| !channel.is_local()) {
            check_producer(&channel.shared().snapshot(), self.accepted);
        }
    }
}

/// `released <= position <= published <= appended` at the producer's end of a channel.
fn check_producer(numbers: &ChannelSnapshot, appended: u64) {
    assert!(
        numbers.released <= numbers.position
            && numbers.position <= numbers.published
            && numbers.published <= appended,
        "positions out of order: {numbers:?}, appended {appended}"
    );
}

/// One leg, and what was taken from it.
pub(crate) struct Tap {
    pub(crate) leg: Leg,
    pub(crate) life: Option<u64>,
    pub(crate) next: u64,
    pub(crate) taken: u64,
    pub(crate) ended: Option<RecvError>,
    /// The consumer's own node has left.
    pub(crate) left: bool,
}

/// What a consumer knows of one producer across its legs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The last datum's publication, and the sequence after it.
    last: Option<(u64, u64)>,
    /// Missing datums that legs have announced since the last datum.
    announced: u64,
    /// As many of them as were announced before the first datum of a leg.
    between: u64,
    /// An unknown number of datums was announced as missing.
    unknown: bool,
    /// The last leg gave everything of its publication, or something of it was thrown away unread.
    settled: bool,
    /// Datums taken, and datums announced as missing before them.
    pub(crate) taken: u64,
    pub(crate) missing: u64,
    pub(crate) restarts: u64,
    /// A leg was local: what is missing between it and others is not told by the engine.
    local: bool,
    /// What became of each publication.
    books: BTreeMap<u64, Book>,
}

/// What a consumer got of one publication.
#[derive(Clone, Copy, Debug, Default)]
struct Book {
    /// The sequence of the first datum.
    first: u64,
    taken: u64,
    told: u64,
    /// Datums that were missing between two legs.
    between: u64,
}

impl Account {
    /// A leg begins.
    fn begin(&mut self, leg: &Leg) {
        self.announced += leg.gap().datums;
        self.unknown |= leg.gap().unknown;
        // Of another publication.
        self.between = if leg.gap().unknown { 0 } else { self.between + leg.gap().datums };
    }

    /// A datum was taken that says that `skipped` are missing before it.
    fn take(&mut self, life: u64, seq: u64, skipped: u64, remote: bool) {
        let announced = self.announced + skipped;
        match self.last {
            None => {}
            Some((before, next)) if before == life => {
                assert!(seq >= next, "an older datum after a newer one: {seq} after {next}");
                // A local leg leaves it to its user to compare the positions of two legs.
                if remote && !self.settled && !self.unknown {
                    assert_eq!(seq, next + announced, "a silent or a wrong gap: {self:?}");
                }
            }
            Some((before, _)) => {
                assert!(life > before, "a life after a newer one: {life} after {before}");
                assert!(!remote || self.unknown || self.settled, "a silent restart: {self:?}");
            }
        }
        self.taken += 1;
        self.missing += announced;
        self.local |= !remote;
        match self.books.get_mut(&life) {
            Some(book) => (book.taken, book.told) = (book.taken + 1, book.told + announced),
            None => _ = self.books.insert(life, Book { first: seq, taken: 1, ..Book::default() }),
        }
        self.books.entry(life).and_modify(|book| book.between += std::mem::take(&mut self.between));
        self.restarts += u64::from(self.unknown);
        self.last = Some((life, seq + 1));
        (self.announced, self.unknown, self.settled) = (0, false, false);
    }

    /// A leg is over.
    fn end(&mut self, leg: &Leg, in_order: bool) {
        self.announced += leg.inbox().missing_at_end();
        self.settled |= in_order;
        if in_order {
            // It was of this publication, which gave no datum after it.
            self.between = 0;
        }
    }

    /// Datums that the consumer was told to have missed, with those that no datum has followed.
    pub(crate) fn told(&self) -> u64 {
        self.missing + self.announced
    }

    /// The consumer threw a leg away.
    fn drop_leg(&mut self) {
        self.settled = true;
    }
}

/// A subscription from its making to its end.
pub(crate) struct Consumer {
    pub(crate) place: usize,
    pub(crate) stream: StreamId,
    pub(crate) reliability: Reliability,
    pub(crate) subscription: Subscription,
    pub(crate) taps: Vec<Tap>,
    pub(crate) accounts: BTreeMap<PeerId, Account>,
    /// It has thrown away a leg, with what was in it.
    pub(crate) dropped_leg: bool,
}

impl Consumer {
    pub(crate) fn new(
        place: usize,
        stream: StreamId,
        reliability: Reliability,
        subscription: Subscription,
    ) -> Self {
        let (taps, accounts) = (Vec::new(), BTreeMap::new());
        Self { place, stream, reliability, subscription, taps, accounts, dropped_leg: false }
    }

    /// Throws a leg away, if there is one.
    pub(crate) fn drop_leg(&mut self) -> bool {
        let Some(tap) = self.taps.pop() else { return false };
        self.dropped_leg = true;
        self.accounts.entry(tap.leg.channel().producer_id()).or_default().drop_leg();
        true
    }

    /// Received and announced as missing is what was sent, from the first datum of a publication on, to a
    /// consumer that has everything up to now.
    pub(crate) fn check_books(&self, life: &Life) {
        let remote = |account: &&Account| !account.local && !self.dropped_leg;
        for book in
            self.accounts.values().filter(remote).filter_map(|account| account.books.get(&life.number))
        {
            assert_eq!(
                book.first + book.taken + book.told,
                life.accepted,
                "{book:?} of life {}",
                life.number
            );
        }
    }

    /// What is missing between the legs of a publication, as the consumer was told.
    pub(crate) fn missed_between(&self, life: &Life) -> u64 {
        self.accounts
            .values()
            .filter_map(|account| account.books.get(&life.number))
            .map(|book| book.between)
            .sum()
    }

    /// Takes the legs that were connected since, one of each producer at a time.
    pub(crate) fn gather(&mut self) {
        loop {
            let taps = &self.taps;
            let is_next = |leg: &Leg| {
                let producer = leg.channel().producer_id();
                taps.iter().all(|tap| tap.leg.channel().producer_id() != producer)
            };
            let Some(leg) = self.subscription.take_leg_where(is_next) else { return };
            self.accounts.entry(leg.channel().producer_id()).or_default().begin(&leg);
            self.taps.push(Tap { leg, life: None, next: 0, taken: 0, ended: None, left: false });
        }
    }

    /// Takes at most `most` datums from each leg, and checks each. Gives how many.
    pub(crate) fn take(&mut self, most: usize, lives: &[Life]) -> usize {
        let mut sum = 0;
        // A node that leaves ends its own legs in good order, wherever they are.
        let left = self.subscription.is_closed();
        for tap in &mut self.taps {
            tap.left = left;
            let account = self.accounts.entry(tap.leg.channel().producer_id()).or_default();
            sum += tap.take(most, self.reliability, lives, account);
        }
        self.taps.retain(|tap| tap.ended.is_none());
        sum
    }
}

impl Tap {
    fn take(
        &mut self,
        most: usize,
        reliability: Reliability,
        lives: &[Life],
        account: &mut Account,
    ) -> usize {
        for done in 0..most {
            let received = match self.leg.inbox_mut().try_recv() {
                Ok(Some(taken)) => {
                    let bytes = taken.bytes();
                    let word =
                        |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
                    let (life, seq) = (word(0), word(8));
                    assert_eq!(seq, taken.seq(), "a datum in another's place");
                    assert!(bytes[HEAD..].iter().all(|byte| *byte == seq as u8), "a datum was mangled");
                    Ok((seq, taken.skipped(), life))
                }
                Ok(None) => return done,
                Err(ended) => Err(ended),
            };
            let (seq, skipped, life) = match received {
                Ok(received) => received,
                Err(ended) => {
                    self.end(ended, reliability, lives);
                    let code = self.leg.channel().shared().close_code();
                    let in_order = ended == RecvError::Closed && code == Some(CloseCode::GRACEFUL);
                    account.end(&self.leg, in_order && self.leg.channel().shared().stopped_at().is_none());
                    return done;
                }
            };
            account.take(life, seq, skipped, !self.leg.channel().is_local());
            match self.life {
                None => self.life = Some(life),
                Some(before) => {
                    assert_eq!(before, life, "a leg changed its publication");
                    assert_eq!(seq, self.next + skipped, "a silent hole, or a datum twice or late");
                    if reliability == Reliability::Reliable && !lives[life as usize].evicts {
                        assert_eq!(skipped, 0, "a reliable leg has a hole");
                    }
                }
            }
            self.next = seq + 1;
            self.taken += 1;
            let life = lives.iter().find(|known| known.number == life).expect("a publication that exists");
            assert!(self.next <= life.accepted, "taken before it was accepted");
            assert_eq!(life.stream, self.leg.channel().stream_id(), "a datum of another stream");
            if !self.leg.channel().is_local() {
                let numbers = self.leg.channel().shared().snapshot();
                assert!(
                    self.next <= numbers.position,
                    "taken {} before it was in order: {numbers:?}",
                    self.next
                );
            }
        }
        most
    }

    /// A leg that ended in good order has given everything.
    fn end(&mut self, ended: RecvError, reliability: Reliability, lives: &[Life]) {
        self.ended = Some(ended);
        let shared = self.leg.channel().shared();
        if shared.state() != ChannelState::Terminated {
            // The ring closes first; the clerk sets the reason in a moment.
            return;
        }
        let Some(life) = self.life.and_then(|life| lives.iter().find(|known| known.number == life)) else {
            return;
        };
        let complete =
            shared.close_code() == Some(CloseCode::GRACEFUL) && ended == RecvError::Closed && !self.left;
        if complete && reliability == Reliability::Reliable && life.ring.is_closed() {
            assert_eq!(
                self.next,
                life.accepted,
                "closed in good order, and not everything was delivered: local {} {:?}",
                self.leg.channel().is_local(),
                shared.snapshot()
            );
        }
    }
}

/// Whether a node's subscription is connected to a life, and has taken everything it accepted.
pub(crate) fn has_everything(consumer: &Consumer, life: &Life, producer: &Node) -> bool {
    consumer.taps.iter().any(|tap| {
        let channel = tap.leg.channel();
        channel.producer_id() == producer.peer_id()
            && channel.shared().state() == ChannelState::Connected
            && (tap.life == Some(life.number) && tap.next == life.accepted)
    })
}
