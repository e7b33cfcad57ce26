//! One leg of a consumer: its records taken, borrowed or passed over, and the account of what it gave.
//!
//! Not inside: which leg is asked when, and what becomes of one that is over; that is [`super::legs`]. How a leg comes
//! to be is the engine's matter, and what a datum is the caller's, who brings a function over bytes.

use core::mem;
use core::task::{Context, Poll};
use std::sync::Arc;

use corewire_engine::publication::Channel;
use corewire_engine::subscription::Leg;
use corewire_engine::{shard::Taken, shared::ChannelState};

use crate::datum::DecodeError;
use crate::id::PeerId;

/// Datums of one batch that are decoded before others see the numbers. Few, so that a consumer whose decoding takes long
/// is seen to take something.
const DATUMS_UNSHOWN: u64 = 16;

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
    pub(super) fn new(leg: Leg) -> Self {
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

    /// Who produces what it carries.
    pub(super) fn producer(&self) -> &PeerId {
        &self.book.producer
    }

    /// Datums that have arrived and were not taken. May be stale.
    pub(super) fn lag(&self) -> u64 {
        self.leg.inbox().lag()
    }

    /// Ready when there is something to take or to learn; else `cx` is woken once.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.leg.inbox_mut().poll_ready(cx)
    }

    /// The consumer was closed: only what has arrived by now is taken.
    pub(super) fn end_here(&mut self) {
        let inbox = self.leg.inbox();
        self.end.get_or_insert(inbox.position() + inbox.lag());
    }

    /// Learns whether the channel is over.
    pub(super) fn hear_state(&mut self) {
        self.ending = self.leg.channel().shared().state() == ChannelState::Terminated;
    }

    /// Whether the channel is over and this leg gave its last datum.
    #[inline]
    pub(super) fn gave_its_last(&self) -> bool {
        self.ending && self.leg.inbox().is_finished()
    }

    /// Whether the leg lost its place in the producer's ring.
    pub(super) fn is_cut(&mut self) -> bool {
        let channel = self.leg.channel();
        let cut = channel.source().is_some() && channel.shared().end_seq().is_some();
        cut && self.leg.inbox_mut().peek(|_| ()).is_err()
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

    /// The leg is over: counts what it did not give. Gives how many datums no delivery has reported as missing.
    pub(super) fn close_account(&mut self, totals: &mut Totals) -> u64 {
        let rest = self.rest();
        totals.skipped += rest;
        self.book.passed_end(rest, self.leg.inbox().position());
        self.book.unreported + rest
    }

    /// The next delivery reports so many datums more as missing before it.
    pub(super) fn report_missing(&mut self, datums: u64) {
        self.book.unreported += datums;
    }

    /// The publication that a leg reads, and where it stands in it.
    pub(super) fn source_and_position(&self) -> Option<(u64, u64)> {
        Some((self.leg.channel().source()?, self.leg.inbox().position()))
    }

    /// The publication of a leg that was cut off, and where its ring stood then.
    pub(super) fn source_and_end(&self) -> Option<(u64, u64)> {
        let channel = self.leg.channel();
        Some((channel.source()?, channel.shared().end_seq()?))
    }

    /// Takes the next record; `read` says whether it is a datum, and `keep` gets to know where it stood.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        totals: &mut Totals,
        read: impl FnOnce(&[u8]) -> bool,
        keep: impl FnOnce(Place<'_>),
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
            if read(bytes) {
                book.add(totals, 1, bytes.len() as u64, skipped, seq);
                keep(book.place(seq, skipped));
                Step::Done(())
            } else {
                book.undecodable(totals, seq, skipped);
                Step::Skipped
            }
        });
        match taken {
            Ok(Some(step)) => {
                // Now that the room is free: whoever sees the numbers may want to use it.
                book.show();
                step
            }
            Ok(None) => Step::Empty,
            Err(_) => Step::Ended,
        }
    }

    /// Takes up to `max` records with one pin and gives each to `act`. Gives how many; `None`: nothing ever.
    pub(super) fn take_each(
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

    /// As [`take_each`](Self::take_each) for a `keep` that takes little time and says whether a record was a datum: the
    /// numbers are added up and shown now and then.
    pub(super) fn take_many(
        &mut self,
        totals: &mut Totals,
        max: usize,
        keep: &mut impl FnMut(&[u8]) -> bool,
    ) -> Option<usize> {
        if self.is_past_end() {
            return None;
        }
        let mut sum = Sum { book: &mut self.book, totals, datums: 0, bytes: 0, last: 0 };
        let each = |seq, skipped, bytes: &[u8]| {
            let is_datum = keep(bytes);
            if is_datum && skipped == 0 {
                sum.datums += 1;
                sum.bytes += bytes.len() as u64;
                sum.last = seq;
                if sum.datums == DATUMS_UNSHOWN {
                    sum.enter();
                }
            } else {
                sum.enter_unusual(is_datum, seq, skipped, bytes.len());
            }
        };
        self.leg.inbox_mut().try_recv_each(max, self.end.unwrap_or(u64::MAX), each).ok()
    }

    /// Looks at the next record and leaves it, for [`borrow`](Self::borrow), if `read` accepts its datum.
    #[inline(always)]
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
            Ok(Some(false)) => self.pass_over(totals),
            Ok(None) => Step::Empty,
            Err(_) => Step::Ended,
        }
    }

    /// Takes the record that was just looked at, which is no datum.
    #[cold]
    fn pass_over(&mut self, totals: &mut Totals) -> Step<()> {
        if let Some(taken) = self.leg.inbox_mut().take_peeked() {
            let (seq, skipped) = (taken.seq(), taken.skipped());
            drop(taken);
            self.book.undecodable(totals, seq, skipped);
        }
        Step::Skipped
    }

    /// Takes the record that [`peek`](Self::peek) accepted, to be read in place.
    #[inline(always)]
    pub(super) fn borrow<'a>(&'a mut self, totals: &'a mut Totals) -> Option<Borrowed<'a>> {
        let record = self.leg.inbox_mut().take_peeked()?;
        let (seq, skipped, len) = (record.seq(), record.skipped(), record.bytes().len());
        let account = Account { book: &mut self.book, totals, seq, skipped, len };
        Some(Borrowed { record, entry: Entry(account) })
    }
}

/// Datums that were taken one after the other and are not in the book yet. They get there at the end, also if somebody
/// panics.
struct Sum<'a> {
    book: &'a mut Book,
    totals: &'a mut Totals,
    datums: u64,
    bytes: u64,
    /// Sequence of the last one.
    last: u64,
}

impl Sum<'_> {
    #[inline(never)]
    fn enter(&mut self) {
        let (datums, bytes) = (mem::take(&mut self.datums), mem::take(&mut self.bytes));
        if datums > 0 {
            self.book.count(self.totals, datums, bytes, 0, self.last);
            self.book.unreported = 0;
        }
    }

    /// A record that is no datum, or a datum behind a gap.
    #[cold]
    fn enter_unusual(&mut self, is_datum: bool, seq: u64, skipped: u64, len: usize) {
        self.enter();
        if is_datum {
            self.book.delivered(self.totals, seq, skipped, len);
        } else {
            self.book.undecodable(self.totals, seq, skipped);
        }
    }
}

impl Drop for Sum<'_> {
    fn drop(&mut self) {
        self.enter();
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
    #[inline(always)]
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
        self.count(totals, 1, len as u64, skipped, seq);
        self.place(seq, skipped)
    }

    /// Where a datum stands that is being delivered.
    #[inline(always)]
    fn place(&mut self, seq: u64, skipped: u64) -> Place<'_> {
        Place { seq, skipped_before: mem::take(&mut self.unreported) + skipped, producer: &self.producer }
    }

    /// Counts datums of so many bytes together, the last of which is `seq`, and lets everybody see it.
    #[inline(always)]
    fn count(&mut self, totals: &mut Totals, datums: u64, bytes: u64, skipped: u64, seq: u64) {
        self.add(totals, datums, bytes, skipped, seq);
        self.show();
    }

    #[inline(always)]
    fn show(&self) {
        if let Some(kept) = &self.kept {
            kept.show();
        }
    }

    #[inline(always)]
    fn add(&mut self, totals: &mut Totals, datums: u64, bytes: u64, skipped: u64, seq: u64) {
        totals.datums += datums;
        totals.bytes += bytes;
        totals.skipped += skipped;
        if let Some(kept) = &mut self.kept {
            kept.datums += datums;
            kept.bytes += bytes;
            kept.skipped += skipped;
            kept.next = seq + 1;
        }
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
        self.channel.shared().counters().delivered(self.datums, self.bytes, self.skipped, self.next);
    }
}

/// A record that is read in place. Dropping it takes the datum.
pub(super) struct Borrowed<'a> {
    // Dropped in this order: the room is free before the datum counts as delivered.
    record: Taken<'a>,
    entry: Entry<'a>,
}

impl Borrowed<'_> {
    /// The bytes of the datum.
    #[inline(always)]
    pub(super) fn datum(&self) -> &[u8] {
        self.record.bytes()
    }

    #[inline]
    pub(super) fn place(&self) -> Place<'_> {
        let Account { book, seq, skipped, .. } = &self.entry.0;
        Place { seq: *seq, skipped_before: book.unreported + skipped, producer: &book.producer }
    }
}

/// Counts a datum as delivered when it is dropped.
struct Entry<'a>(Account<'a>);

impl Drop for Entry<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let Account { book, totals, seq, skipped, len } = &mut self.0;
        book.delivered(totals, *seq, *skipped, *len);
    }
}
