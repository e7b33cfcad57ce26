//! The legs of one consumer, one for each producer, merged into one sequence of datums.
//!
//! Legs take turns in bursts, so a busy producer delays another by at most [`BURST_DATUMS`] datums. The
//! engine queues new legs at the subscription and sets `news`; they are taken over by the next call.

use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use corewire_engine::subscription::{Leg, Subscription};
use corewire_rings::sync::AtomicFlag;

use super::leg::{LegStats, LegStep, OpenLeg, PendingGap};
use super::{RecvTimeoutError, TryRecvError};
use crate::blocking::{poll_for, wait};
use crate::id::PeerId;
use crate::streams::event::{ConsumerEvent, EventHub};
use crate::streams::status::{StatusWaiter, StreamStatus};

/// Datums taken from one leg before the next leg is asked. Enough to spread the search through idle legs over
/// many datums; few enough that a busy producer delays another by microseconds only.
const BURST_DATUMS: u32 = 16;

/// Undecodable records skipped in one search: a producer that sends nothing else must not keep a thread busy.
const SKIPS_MAX: u32 = 256;

/// Searches in one poll.
const SEARCHES_MAX: u32 = 4;

/// Gaps kept for producers that may come back. Beyond this the oldest is forgotten.
const PENDING_GAPS_MAX: usize = 1024;

/// See the module.
pub(crate) struct LegSet {
    /// `None` once the consumer was closed.
    subscription: Option<Subscription>,
    status: Arc<StreamStatus>,
    events: Arc<EventHub<ConsumerEvent>>,
    /// Set by the engine when a leg was queued, a channel changed or the subscription ended.
    news: Arc<AtomicFlag>,
    waiter: StatusWaiter,
    open: Vec<OpenLeg>,
    /// Of a consumer that was closed: legs that wait until an open one of their producer is read to the end.
    left: VecDeque<OpenLeg>,
    /// What legs that ended left unreported, at most [`PENDING_GAPS_MAX`], oldest first.
    gaps: VecDeque<PendingGap>,
    /// Index of the leg to ask next. Less than `open.len()`, or 0.
    current: usize,
    /// Datums that the current leg may still give in its burst, at least 1.
    burst_left: u32,
    /// No leg will be added.
    closed: bool,
    /// The consumer takes from one producer at a time: a leg is read to its end before the next one.
    one_by_one: bool,
    /// The statistics of the legs that have ended.
    finished: LegStats,
    /// Those of the subscription, once it is over.
    predicate_panics: u64,
}

impl LegSet {
    pub(crate) fn new(
        subscription: Option<Subscription>,
        status: Arc<StreamStatus>,
        news: Arc<AtomicFlag>,
        events: Arc<EventHub<ConsumerEvent>>,
    ) -> Self {
        // The engine may have queued a leg before the flag existed.
        news.set(true);
        Self {
            closed: subscription.is_none(),
            one_by_one: subscription.as_ref().is_some_and(|one| one.spec().prefer.is_some()),
            subscription,
            status,
            events,
            news,
            waiter: StatusWaiter::default(),
            predicate_panics: 0,
            open: Vec::new(),
            left: VecDeque::new(),
            gaps: VecDeque::new(),
            current: 0,
            burst_left: BURST_DATUMS,
            finished: LegStats::default(),
        }
    }

    /// Asks the current leg once. Returns its index if `act` found a datum; if not, [`search`](Self::search)
    /// has to ask all legs. Inlined, so that a datum goes from the ring straight to its place.
    #[inline(always)]
    pub(super) fn ask_current(&mut self, act: impl FnOnce(&mut OpenLeg) -> LegStep) -> Option<usize> {
        self.take_news();
        let index = self.current;
        match act(self.open.get_mut(index)?) {
            LegStep::Done => {
                self.spend_burst();
                Some(index)
            }
            LegStep::Skipped => {
                self.tell_undecodable(index, 1);
                None
            }
            LegStep::Filtered | LegStep::Empty | LegStep::Ended => None,
        }
    }

    /// Asks the legs in turn until `act` found a datum. Returns the leg's index.
    pub(super) fn search(
        &mut self,
        mut act: impl FnMut(&mut OpenLeg) -> LegStep,
    ) -> Result<usize, TryRecvError> {
        self.take_news();
        let mut unasked = self.open.len();
        let mut skips_left = SKIPS_MAX;
        while unasked > 0 && skips_left > 0 {
            let index = self.current;
            match act(&mut self.open[index]) {
                LegStep::Done => {
                    self.spend_burst();
                    return Ok(index);
                }
                // A skip counts like a datum: a backlog of undecodable records does not delay the other legs.
                LegStep::Skipped => {
                    skips_left -= 1;
                    unasked = self.open.len();
                    self.tell_undecodable(index, 1);
                    self.spend_burst();
                }
                LegStep::Filtered => {
                    skips_left -= 1;
                    unasked = self.open.len();
                    self.spend_burst();
                }
                LegStep::Empty => {
                    self.advance();
                    unasked -= 1;
                }
                LegStep::Ended => {
                    self.remove(index);
                    unasked -= 1;
                    // The next leg of its producer may have waited for this.
                    if self.news.get() {
                        self.take_over_legs();
                        unasked = self.open.len();
                    }
                }
            }
        }
        Err(self.reason_for_nothing())
    }

    /// Takes up to `max` records, asking each leg once. `take` takes so many from one leg and returns how
    /// many it took, or `None` once that leg has ended. Returns how many were datums.
    pub(super) fn batch(
        &mut self,
        max: usize,
        mut take: impl FnMut(&mut OpenLeg, usize) -> Option<usize>,
    ) -> Result<usize, TryRecvError> {
        self.take_news();
        let (mut left, mut unasked) = (max, self.open.len());
        let mut datums = 0;
        while unasked > 0 && left > 0 {
            unasked -= 1;
            let index = self.current;
            let leg = &mut self.open[index];
            let before = *leg.stats();
            let taken = take(leg, left);
            let undecodable = leg.stats().undecodable - before.undecodable;
            datums += (leg.stats().datums - before.datums) as usize;
            if undecodable > 0 {
                self.tell_undecodable(index, undecodable);
            }
            match taken {
                Some(records) => {
                    left -= records;
                    self.advance();
                    self.remove_if_finished(index);
                }
                None => self.remove(index),
            }
        }
        if datums > 0 || (max == 0 && !self.is_finished()) {
            Ok(datums)
        } else {
            Err(self.reason_for_nothing())
        }
    }

    /// Where the events of the consumer come together.
    pub(super) fn events(&self) -> &EventHub<ConsumerEvent> {
        &self.events
    }

    #[cold]
    fn tell_undecodable(&self, index: usize, datums: u64) {
        let Some(leg) = self.open.get(index) else { return };
        self.events.emit(|| ConsumerEvent::Undecodable { producer: *leg.producer(), datums });
    }

    /// The leg at an index that [`ask_current`](Self::ask_current) or [`search`](Self::search) returned.
    #[inline(always)]
    pub(super) fn leg_mut(&mut self, index: usize) -> Option<&mut OpenLeg> {
        self.open.get_mut(index)
    }

    /// Removes the leg at `index` if its channel has ended and its last datum was taken.
    #[inline]
    pub(super) fn remove_if_finished(&mut self, index: usize) {
        if self.open.get(index).is_some_and(OpenLeg::is_finished) {
            self.remove(index);
        }
    }

    /// Calls `attempt` until it finds something, and registers the task to be woken when it may. `None` once
    /// the consumer is closed and drained.
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> Poll<Option<R>> {
        for _ in 0..SEARCHES_MAX {
            match attempt(self) {
                Ok(found) => return Poll::Ready(Some(found)),
                Err(TryRecvError::Closed) => {
                    self.waiter.withdraw();
                    return Poll::Ready(None);
                }
                Err(TryRecvError::Empty) => {}
            }
            self.waiter.register(&self.status, cx);
            let mut ready = self.news.get();
            for leg in &mut self.open {
                ready |= leg.poll_ready(cx).is_ready();
            }
            if !ready {
                return Poll::Pending;
            }
        }
        // Reached only while undecodable records keep coming: let other tasks run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// As [`poll`](Self::poll), parking the thread until it is ready.
    pub(super) fn wait<R>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> Option<R> {
        wait(|cx| self.poll(cx, &mut attempt))
    }

    /// As [`wait`](Self::wait) for at most `timeout`.
    pub(super) fn wait_timeout<R>(
        &mut self,
        timeout: Duration,
        mut attempt: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> Result<R, RecvTimeoutError> {
        match poll_for(timeout, |cx| self.poll(cx, &mut attempt)) {
            Some(Some(found)) => Ok(found),
            Some(None) => Err(RecvTimeoutError::Closed),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    /// No leg is added from now on. What has arrived can still be taken.
    pub(super) fn close(&mut self) {
        self.take_over_legs();
        if let Some(subscription) = self.subscription.take() {
            self.predicate_panics = subscription.panics();
            let waiting = std::iter::from_fn(|| subscription.take_leg()).map(OpenLeg::new);
            self.left.extend(waiting);
        }
        self.end_legs();
    }

    /// Records that have arrived and were not taken. May be stale.
    pub(super) fn lag(&self) -> u64 {
        self.open.iter().map(OpenLeg::lag).sum()
    }

    /// The statistics of all legs, those that have ended included.
    pub(super) fn stats(&self) -> LegStats {
        let mut stats = self.finished;
        for leg in &self.open {
            stats.add(&LegStats { filtered: leg.filtered(), ..*leg.stats() });
        }
        stats
    }

    /// How often a predicate of `require` panicked.
    pub(super) fn predicate_panics(&self) -> u64 {
        self.subscription.as_ref().map_or(self.predicate_panics, Subscription::panics)
    }

    /// Whether a known producer may still let the consumer in, or does.
    pub(super) fn has_undecided(&self) -> bool {
        self.subscription.as_ref().is_some_and(Subscription::has_undecided)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn end_legs(&mut self) {
        self.closed = true;
        self.open.iter_mut().chain(&mut self.left).for_each(OpenLeg::end_here);
    }

    fn is_finished(&self) -> bool {
        self.closed && self.open.is_empty() && self.left.is_empty()
    }

    fn reason_for_nothing(&self) -> TryRecvError {
        if self.is_finished() { TryRecvError::Closed } else { TryRecvError::Empty }
    }

    #[inline]
    fn take_news(&mut self) {
        if self.news.get() {
            self.take_over_legs();
        }
    }

    /// Takes over the legs that the engine has queued, and reads which channels and whether the subscription
    /// ended.
    #[cold]
    fn take_over_legs(&mut self) {
        // Lowered first: what happens during this call raises it again.
        self.news.set(false);
        let ended = self.subscription.as_ref().is_some_and(Subscription::is_closed);
        loop {
            // Repeated for each leg: also one that was taken over just now may be over already.
            self.remove_ended();
            let Some(mut leg) = self.next_leg() else { break };
            let uncounted = &mut self.finished.skipped;
            self.gaps.retain(|gap| match leg.report_gap(gap) {
                Some(between) => {
                    *uncounted += between;
                    false
                }
                None => true,
            });
            if let Some((datums, unknown)) = leg.gap_before() {
                self.events.emit(|| ConsumerEvent::Gap { producer: *leg.producer(), datums, unknown });
            }
            self.open.push(leg);
        }
        self.open.iter_mut().for_each(OpenLeg::refresh_state);
        if ended {
            self.end_legs();
        }
    }

    /// The next leg of a producer whose last leg was read to the end.
    fn next_leg(&mut self) -> Option<OpenLeg> {
        let Self { open, left, one_by_one, .. } = self;
        let is_next = |producer: &PeerId| open.iter().all(|leg| leg.producer() != producer && !*one_by_one);
        if let Some(subscription) = &self.subscription {
            let leg = subscription.take_leg_where(|leg: &Leg| is_next(&leg.channel().producer_id().0.into()));
            return leg.map(OpenLeg::new);
        }
        let at = left.iter().position(|leg| is_next(leg.producer()))?;
        left.remove(at)
    }

    /// Removes the legs that are read to the end or lost their place in a ring, so that the next leg of the
    /// same producer can be taken and reports the gap.
    fn remove_ended(&mut self) {
        for index in (0..self.open.len()).rev() {
            self.open[index].refresh_state();
            if self.open[index].is_finished() || self.open[index].is_cut() {
                self.remove(index);
            }
        }
    }

    /// Counts a datum of the current leg's burst.
    #[inline]
    fn spend_burst(&mut self) {
        self.burst_left -= 1;
        if self.burst_left == 0 {
            self.advance();
        }
    }

    /// Makes the next leg the current one.
    fn advance(&mut self) {
        self.burst_left = BURST_DATUMS;
        self.current = if self.current + 1 < self.open.len() { self.current + 1 } else { 0 };
    }

    /// Removes a leg and keeps its gap. The other legs keep their order, so none of them loses its turn.
    #[cold]
    fn remove(&mut self, index: usize) {
        let (stats, gap) = self.open.remove(index).finish();
        self.finished.add(&stats);
        // The next leg of its producer may wait.
        self.news.set(true);
        if gap.datums > 0 || gap.restarted || gap.cut.is_some() {
            if self.gaps.len() == PENDING_GAPS_MAX {
                self.gaps.pop_front();
            }
            self.gaps.push_back(gap);
        }
        if index < self.current {
            self.current -= 1;
        } else if index == self.current {
            self.burst_left = BURST_DATUMS;
        }
        if self.current >= self.open.len() {
            self.current = 0;
        }
    }
}
