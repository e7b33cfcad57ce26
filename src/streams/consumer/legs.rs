//! The legs of one consumer: one reader for each producer, merged into one sequence of datums.
//!
//! Not inside: what one leg is, gives and counts; that is [`super::leg`]. How a leg comes to be is the engine's matter,
//! which hands it over.

use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::sync::Arc;

use corewire_engine::subscription::Subscription;

use super::TryRecvError;
use super::leg::{OpenLeg, Step, Totals};
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

    /// As [`visit_current`](Self::visit_current) for an `act` that leaves what it finds. Gives the leg's index.
    #[inline(always)]
    pub(super) fn look_at_current(
        &mut self,
        act: impl FnOnce(&mut OpenLeg, &mut Totals) -> Step<()>,
    ) -> Option<usize> {
        self.hear_news();
        let index = self.current;
        let Step::Done(()) = act(self.open.get_mut(index)?, &mut self.totals) else { return None };
        self.took_turn();
        Some(index)
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

    /// Takes up to `max` records, asking each leg once: `take` takes so many from one and gives how many it took, or
    /// `None` if there will be nothing ever. Gives how many were datums.
    pub(super) fn batch(
        &mut self,
        max: usize,
        mut take: impl FnMut(&mut OpenLeg, &mut Totals, usize) -> Option<usize>,
    ) -> Result<usize, TryRecvError> {
        self.hear_news();
        let (mut left, mut unasked) = (max, self.open.len());
        let before = self.totals.datums;
        while unasked > 0 && left > 0 {
            unasked -= 1;
            let index = self.current;
            match take(&mut self.open[index], &mut self.totals, left) {
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
        if self.open.get(index).is_some_and(OpenLeg::gave_its_last) {
            self.remove(index);
        }
    }

    /// The leg at an index that [`visit`](Self::visit) gave, with the counters to keep.
    #[inline(always)]
    pub(super) fn visited(&mut self, index: usize) -> Option<(&mut OpenLeg, &mut Totals)> {
        Some((self.open.get_mut(index)?, &mut self.totals))
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
                ready |= leg.poll_ready(cx).is_ready();
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
        self.open.iter().map(OpenLeg::lag).sum()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn finish(&mut self) {
        self.closed = true;
        for leg in &mut self.open {
            leg.end_here();
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
            leg.hear_state();
        }
        if ended {
            self.finish();
        }
    }

    /// Lets go of the legs that lost their place in a ring, so that the next leg of the same producer reports the gap.
    fn remove_cut(&mut self) {
        let mut index = 0;
        while let Some(leg) = self.open.get_mut(index) {
            if leg.is_cut() {
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
        let missing = leg.close_account(&mut self.totals);
        let (producer, source) = (*leg.producer(), leg.source_and_end());
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
    let begin = leg.source_and_position();
    owed.retain(|owed| {
        if owed.producer != *leg.producer() {
            return true;
        }
        leg.report_missing(owed.missing);
        if let (Some((before, end)), Some((key, first))) = (owed.source, begin)
            && before == key
        {
            // The same ring: what it accepted in between.
            let between = first.saturating_sub(end);
            leg.report_missing(between);
            totals.skipped += between;
        }
        false
    });
}
