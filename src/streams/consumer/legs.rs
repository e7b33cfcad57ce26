//! The legs of one consumer: one reader for each producer, merged into one sequence of datums.
//!
//! Not inside: how a leg comes to be (the engine hands it over), and what a datum is (the caller brings a
//! function over bytes).

use core::mem;
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::sync::Arc;

use corewire_engine::publication::Channel;
use corewire_engine::shard::{ChannelState, Taken};
use corewire_engine::subscription::{Leg, Subscription};

use super::TryRecvError;
use crate::datum::DecodeError;
use crate::id::PeerId;
use crate::streams::board::{Board, Waiter};
use crate::streams::cells::Flag;

/// Datums that are taken from one leg before the next leg is asked. Enough that a search through idle legs is
/// spread over many datums; so few that a busy producer delays another by a few microseconds at most.
const BURST_DATUMS: u32 = 16;

/// Bytes that are no datums, skipped in one search: a peer that sends nothing else must not keep a thread busy.
const MAX_SKIPS: u32 = 256;

/// Searches in one poll.
const MAX_ATTEMPTS: u32 = 4;

/// Where a datum stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) seq: u64,
    pub(super) skipped_before: u64,
    pub(super) producer: &'a PeerId,
}

/// What the application took, from all legs together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) datums: u64,
    pub(super) bytes: u64,
    pub(super) skipped: u64,
    pub(super) undecodable: u64,
}

/// One leg, and what was seen of it.
pub(super) struct OpenLeg {
    leg: Leg,
    book: Book,
    /// Nothing from this record on is taken: the consumer was closed when the leg ended there.
    end: Option<u64>,
    /// The channel is over: the leg goes with its last datum, not with the next call, so that whoever waits for
    /// everything to be delivered waits no longer than that.
    ending: bool,
}

/// What is known of one leg's past.
struct Book {
    producer: PeerId,
    /// Missing datums that the next delivery has to report.
    unreported: u64,
    /// The numbers of the channel, if they are kept here: no shard carries a local leg.
    kept: Option<Kept>,
}

/// The numbers of a channel that no shard carries.
struct Kept {
    channel: Arc<Channel>,
    datums: u64,
    bytes: u64,
    skipped: u64,
    /// Sequence after the last record taken.
    next: u64,
}

/// What a leg that is over did not give, until the next leg of the same producer reports it as a gap.
struct Owed {
    producer: PeerId,
    missing: u64,
    /// The publication that it read, and up to where `missing` is counted.
    source: Option<(u64, u64)>,
}

/// Producers whose last leg left a gap that is still to be reported; beyond this the oldest is forgotten.
const MAX_OWED: usize = 1024;

/// See the module.
pub(crate) struct Legs {
    subscription: Option<Subscription>,
    board: Arc<Board>,
    /// Set by the engine when a leg was queued or the subscription ended.
    news: Arc<Flag>,
    waiter: Waiter,
    open: Vec<OpenLeg>,
    owed: VecDeque<Owed>,
    /// The leg whose turn it is, and what it has left of it.
    current: usize,
    left: u32,
    /// No leg will be added.
    closed: bool,
    pub(super) totals: Totals,
}

impl Legs {
    pub(crate) fn new(subscription: Option<Subscription>, board: Arc<Board>, news: Arc<Flag>) -> Self {
        // The engine may have had news before there was a flag to set.
        news.set(true);
        Self {
            closed: subscription.is_none(),
            subscription,
            board,
            news,
            waiter: Waiter::default(),
            open: Vec::new(),
            owed: VecDeque::new(),
            current: 0,
            left: BURST_DATUMS,
            totals: Totals::default(),
        }
    }

    /// Asks the leg whose turn it is, once. `None`: ask all of them, with [`visit`](Self::visit). Inlined, so that a
    /// datum goes from the ring straight to where it is used.
    #[inline(always)]
    pub(super) fn visit_current<R>(
        &mut self,
        act: impl FnOnce(&mut OpenLeg, &mut Totals) -> Step<R>,
    ) -> Option<R> {
        self.hear_news();
        let index = self.current;
        let leg = self.open.get_mut(index)?;
        let Step::Done(found) = act(leg, &mut self.totals) else { return None };
        self.took_turn();
        self.settle(index);
        Some(found)
    }

    /// Asks the legs in turn until `act` took or found something. Gives the leg's index with it.
    pub(super) fn visit<R>(
        &mut self,
        mut act: impl FnMut(&mut OpenLeg, &mut Totals) -> Step<R>,
    ) -> Result<(usize, R), TryRecvError> {
        self.hear_news();
        let mut unasked = self.open.len();
        let mut skips_left = MAX_SKIPS;
        while unasked > 0 && skips_left > 0 {
            let index = self.current;
            match act(&mut self.open[index], &mut self.totals) {
                Step::Done(value) => {
                    self.took_turn();
                    return Ok((index, value));
                }
                Step::Skipped => skips_left -= 1,
                Step::Empty => {
                    self.pass_turn();
                    unasked -= 1;
                }
                Step::Ended => {
                    self.remove(index);
                    unasked -= 1;
                }
            }
        }
        Err(if self.is_finished() { TryRecvError::Closed } else { TryRecvError::Empty })
    }

    /// A datum was taken from the current leg.
    #[inline]
    fn took_turn(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            self.pass_turn();
        }
    }

    /// Gives up to `max` records to `act`, asking each leg once. Gives how many were datums.
    pub(super) fn batch(
        &mut self,
        max: usize,
        mut act: impl FnMut(&[u8], Account<'_>),
    ) -> Result<usize, TryRecvError> {
        self.hear_news();
        let (mut left, mut unasked) = (max, self.open.len());
        let before = self.totals.datums;
        while unasked > 0 && left > 0 {
            unasked -= 1;
            let index = self.current;
            match self.open[index].take_each(&mut self.totals, left, &mut act) {
                Some(records) => {
                    left -= records;
                    self.pass_turn();
                    self.settle(index);
                }
                None => self.remove(index),
            }
        }
        let datums = (self.totals.datums - before) as usize;
        match datums {
            0 if self.is_finished() => Err(TryRecvError::Closed),
            0 if max > 0 => Err(TryRecvError::Empty),
            _ => Ok(datums),
        }
    }

    /// Lets go of a leg that gave its last datum.
    #[inline]
    pub(super) fn settle(&mut self, index: usize) {
        if self.open.get(index).is_some_and(|leg| leg.ending && leg.leg.inbox().is_finished()) {
            self.remove(index);
        }
    }

    /// The leg at an index that [`visit`](Self::visit) gave, with the counters to keep.
    pub(super) fn visited(&mut self, index: usize) -> (&mut OpenLeg, &mut Totals) {
        (&mut self.open[index], &mut self.totals)
    }

    /// Asks `attempt` until it has something, and to be woken when it may have.
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> Poll<Option<R>> {
        for _ in 0..MAX_ATTEMPTS {
            match attempt(self) {
                Ok(found) => return Poll::Ready(Some(found)),
                Err(TryRecvError::Closed) => {
                    self.waiter.withdraw();
                    return Poll::Ready(None);
                }
                Err(TryRecvError::Empty) => {}
            }
            self.waiter.register(&self.board, cx);
            let mut ready = self.news.get();
            for leg in &mut self.open {
                ready |= leg.leg.inbox_mut().poll_ready(cx).is_ready();
            }
            if !ready {
                return Poll::Pending;
            }
        }
        // Only a flood of bytes that are no datums comes here: let other tasks have a turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// No further leg; what has arrived can still be taken.
    pub(super) fn close(&mut self) {
        self.take_over();
        self.subscription = None;
        self.finish();
    }

    /// Datums that have arrived and were not taken. May be stale.
    pub(super) fn lag(&self) -> u64 {
        self.open.iter().map(|leg| leg.leg.inbox().lag()).sum()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn finish(&mut self) {
        self.closed = true;
        for leg in &mut self.open {
            let inbox = leg.leg.inbox();
            leg.end.get_or_insert(inbox.position() + inbox.lag());
        }
    }

    fn is_finished(&self) -> bool {
        self.closed && self.open.is_empty()
    }

    /// Takes new legs over, and learns that there will be none.
    #[inline]
    fn hear_news(&mut self) {
        if self.news.get() {
            self.take_over();
        }
    }

    #[cold]
    fn take_over(&mut self) {
        // Lowered first: news that come while we look raise it again.
        self.news.set(false);
        let Some(subscription) = &self.subscription else { return };
        let ended = subscription.is_closed();
        while let Some(leg) = self.subscription.as_ref().and_then(Subscription::take_leg) {
            // Also one that was taken a moment ago.
            self.remove_cut();
            let mut leg = OpenLeg::new(leg);
            pay(&mut self.owed, &mut self.totals, &mut leg);
            self.open.push(leg);
        }
        for leg in &mut self.open {
            leg.ending = leg.leg.channel().shared().state() == ChannelState::Terminated;
        }
        if ended {
            self.finish();
        }
    }

    /// Lets go of the legs that lost their place in a ring, so that the next leg of the same producer reports the gap.
    fn remove_cut(&mut self) {
        let mut index = 0;
        while let Some(OpenLeg { leg, .. }) = self.open.get_mut(index) {
            let cut = leg.channel().source().is_some() && leg.channel().shared().end_seq().is_some();
            if cut && leg.inbox_mut().peek(|_| ()).is_err() {
                self.remove(index);
            } else {
                index += 1;
            }
        }
    }

    fn pass_turn(&mut self) {
        self.left = BURST_DATUMS;
        self.current = if self.current + 1 < self.open.len() { self.current + 1 } else { 0 };
    }

    /// Keeps the order of the other legs, so that none of them loses its turn.
    fn remove(&mut self, index: usize) {
        let leg = self.open.remove(index);
        self.owe(leg);
        if index < self.current {
            self.current -= 1;
        } else if index == self.current {
            self.left = BURST_DATUMS;
        }
        if self.current >= self.open.len() {
            self.current = 0;
        }
    }
}

impl Legs {
    /// Notes what a leg that is over did not give.
    #[cold]
    fn owe(&mut self, mut leg: OpenLeg) {
        let rest = leg.rest();
        self.totals.skipped += rest;
        leg.book.passed_end(rest, leg.leg.inbox().position());
        let producer = leg.book.producer;
        let missing = leg.book.unreported + rest;
        let source = leg.source_and_end();
        if missing == 0 && source.is_none() {
            return;
        }
        if self.owed.len() == MAX_OWED {
            self.owed.pop_front();
        }
        self.owed.push_back(Owed { producer, missing, source });
    }
}

/// Lets a new leg report what its producer's earlier ones did not give.
#[cold]
fn pay(owed: &mut VecDeque<Owed>, totals: &mut Totals, leg: &mut OpenLeg) {
    let begin = leg.leg.channel().source().map(|key| (key, leg.leg.inbox().position()));
    let book = &mut leg.book;
    owed.retain(|owed| {
        if owed.producer != book.producer {
            return true;
        }
        book.unreported += owed.missing;
        if let (Some((before, end)), Some((key, first))) = (owed.source, begin)
            && before == key
        {
            // The same ring: what it accepted in between.
            let between = first.saturating_sub(end);
            book.unreported += between;
            totals.skipped += between;
        }
        false
    });
}

/// What one look at a leg gave.
pub(super) enum Step<R> {
    /// What was looked for.
    Done(R),
    /// A record that is no datum; there may be more behind it.
    Skipped,
    /// Nothing now.
    Empty,
    /// Nothing ever.
    Ended,
}

impl OpenLeg {
    fn new(leg: Leg) -> Self {
        let channel = leg.channel();
        let kept = (!leg.inbox().is_remote()).then(|| Kept {
            channel: channel.clone(),
            datums: 0,
            bytes: 0,
            skipped: 0,
            next: leg.inbox().position(),
        });
        let book = Book { producer: PeerId::from_bytes(channel.producer_id().into()), unreported: 0, kept };
        Self { leg, book, end: None, ending: false }
    }

    fn is_past_end(&self) -> bool {
        self.end.is_some_and(|end| self.leg.inbox().position() >= end)
    }

    /// Datums that a leg which is over did not give and no delivery has reported, as far as this end can know.
    fn rest(&self) -> u64 {
        let inbox = self.leg.inbox();
        match (&self.book.kept, self.end, self.source_and_end()) {
            // Closed by its consumer: nothing behind the end was asked for.
            (Some(kept), Some(end), _) => {
                inbox.lost().saturating_sub(kept.skipped).min(end.saturating_sub(kept.next))
            }
            // Cut off.
            (Some(kept), None, Some((_, end))) => end.saturating_sub(kept.next),
            _ => inbox.missing_at_end(),
        }
    }

    /// The publication of a leg that was cut off, and where its ring stood then.
    fn source_and_end(&self) -> Option<(u64, u64)> {
        let channel = self.leg.channel();
        Some((channel.source()?, channel.shared().end_seq()?))
    }

    /// Takes the next record and gives `keep` what `read` makes of its datum, and where it stood.
    #[inline(always)]
    pub(super) fn take<D>(
        &mut self,
        totals: &mut Totals,
        read: impl FnOnce(&[u8]) -> Result<D, DecodeError>,
        keep: impl FnOnce(D, Place<'_>),
    ) -> Step<()> {
        if self.is_past_end() {
            return Step::Ended;
        }
        let book = &mut self.book;
        // Eviction may take us past the end just now.
        let end = if book.kept.is_some() { self.end.unwrap_or(u64::MAX) } else { u64::MAX };
        let taken = self.leg.inbox_mut().try_take(|seq, skipped, bytes| {
            if seq >= end {
                return Step::Ended;
            }
            match read(bytes) {
                Ok(datum) => {
                    keep(datum, book.delivered(totals, seq, skipped, bytes.len()));
                    Step::Done(())
                }
                Err(_) => {
                    book.undecodable(totals, seq, skipped);
                    Step::Skipped
                }
            }
        });
        match taken {
            Ok(Some(step)) => step,
            Ok(None) => Step::Empty,
            Err(_) => Step::Ended,
        }
    }

    /// Takes up to `max` records with one pin and gives each to `act`. Gives how many; `None`: nothing ever.
    fn take_each(
        &mut self,
        totals: &mut Totals,
        max: usize,
        act: &mut impl FnMut(&[u8], Account<'_>),
    ) -> Option<usize> {
        if self.is_past_end() {
            return None;
        }
        let book = &mut self.book;
        let each = |seq, skipped, bytes: &[u8]| {
            act(bytes, Account { book: &mut *book, totals: &mut *totals, seq, skipped, len: bytes.len() });
        };
        self.leg.inbox_mut().try_recv_each(max, self.end.unwrap_or(u64::MAX), each).ok()
    }

    /// Looks at the next record and leaves it if `read` accepts its datum.
    pub(super) fn peek(
        &mut self,
        totals: &mut Totals,
        read: impl Fn(&[u8]) -> Result<(), DecodeError>,
    ) -> Step<()> {
        if self.is_past_end() {
            return Step::Ended;
        }
        match self.leg.inbox_mut().peek(|bytes| read(bytes).is_ok()) {
            // Eviction may have taken us past the end just now.
            Ok(Some(_)) if self.is_past_end() => Step::Ended,
            Ok(Some(true)) => Step::Done(()),
            Ok(None) => Step::Empty,
            Err(_) => Step::Ended,
            // Refused: taken in the ordinary way, so that it is counted in one place.
            Ok(Some(false)) => match self.take(totals, read, |(), _| {}) {
                Step::Done(_) | Step::Skipped => Step::Skipped,
                Step::Empty => Step::Empty,
                Step::Ended => Step::Ended,
            },
        }
    }

    /// Takes the record that [`peek`](Self::peek) accepted, to be read in place.
    pub(super) fn borrow<'a>(&'a mut self, totals: &'a mut Totals) -> Option<Borrowed<'a>> {
        let record = self.leg.inbox_mut().try_recv().ok().flatten()?;
        Some(Borrowed { record: Some(record), book: &mut self.book, totals })
    }
}

/// A record of a batch, to be accounted for.
pub(super) struct Account<'a> {
    book: &'a mut Book,
    totals: &'a mut Totals,
    seq: u64,
    skipped: u64,
    len: usize,
}

impl<'a> Account<'a> {
    /// It was a datum.
    #[inline]
    pub(super) fn delivered(self) -> Place<'a> {
        self.book.delivered(self.totals, self.seq, self.skipped, self.len)
    }

    /// It was none.
    pub(super) fn undecodable(self) {
        self.book.undecodable(self.totals, self.seq, self.skipped);
    }
}

impl Book {
    /// A datum reached the application.
    #[inline(always)]
    fn delivered(&mut self, totals: &mut Totals, seq: u64, skipped: u64, len: usize) -> Place<'_> {
        totals.datums += 1;
        totals.bytes += len as u64;
        totals.skipped += skipped;
        if let Some(kept) = &mut self.kept {
            kept.datums += 1;
            kept.bytes += len as u64;
            kept.skipped += skipped;
            kept.next = seq + 1;
            kept.show();
        }
        Place { seq, skipped_before: mem::take(&mut self.unreported) + skipped, producer: &self.producer }
    }

    /// The leg is over, with `rest` datums missing at its end. If it was read to the end, the policy took them.
    fn passed_end(&mut self, rest: u64, position: u64) {
        if let Some(kept) = &mut self.kept
            && kept.channel.shared().end_seq().is_none()
        {
            kept.skipped += rest;
            kept.next = kept.next.max(position);
            kept.show();
        }
    }

    /// A record was no datum.
    #[cold]
    fn undecodable(&mut self, totals: &mut Totals, seq: u64, skipped: u64) {
        totals.skipped += skipped;
        totals.undecodable += 1;
        if let Some(kept) = &mut self.kept {
            kept.skipped += skipped;
            kept.next = seq + 1;
            kept.show();
        }
        self.unreported += skipped + 1;
    }
}

impl Kept {
    /// Lets everybody see the numbers.
    #[inline]
    fn show(&self) {
        self.channel.shared().cells().delivered(self.datums, self.bytes, self.skipped, self.next);
    }
}

/// A record that is read in place. Dropping it takes the datum.
pub(super) struct Borrowed<'a> {
    /// Empty only while dropping.
    record: Option<Taken<'a>>,
    book: &'a mut Book,
    totals: &'a mut Totals,
}

impl Borrowed<'_> {
    /// The bytes of the datum.
    #[inline]
    pub(super) fn datum(&self) -> &[u8] {
        self.record.as_ref().map(Taken::bytes).unwrap_or_default()
    }

    pub(super) fn place(&self) -> Place<'_> {
        let (seq, skipped) =
            self.record.as_ref().map(|record| (record.seq(), record.skipped())).unwrap_or_default();
        Place { seq, skipped_before: self.book.unreported + skipped, producer: &self.book.producer }
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let (seq, skipped, len) = (record.seq(), record.skipped(), record.bytes().len());
            drop(record);
            self.book.delivered(self.totals, seq, skipped, len);
        }
    }
}
