//! The untyped half of a stream: bytes in, bytes out, and who waits for either.
//!
//! Producers claim room in the ring without a lock. What is taken out, delivered or dropped, goes through the ring's
//! one reader, behind the desk's lock, so that each datum goes to exactly one consumer and every loss is counted.
//! Whoever finds nothing to take, or no room, waits in one of two lines behind the same lock: a change and the look
//! for who waits for it are one step, and no wake-up is lost between them.
//!
//! Not inside: user code. Bytes are encoded before they come here and decoded after they have left. Wakers are run,
//! cloned and dropped outside of the lock; the ring knows one waker only, ours.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use corewire_engine::rings::{ClaimError, Reader, RecordClaim, Ring, Writer};

use crate::contain::contain;
use crate::local::line::{Line, Ticket};
use crate::local::metrics::StreamMetrics;
use crate::streams::cells::Flag;

pub(super) struct Core {
    writer: Writer,
    /// When there is no room: the oldest datums go, or those who wait are served in their order.
    drops: bool,
    desk: Mutex<Desk>,
    bell: Arc<Bell>,
    /// `bell` as the ring wants it.
    ringer: Waker,
    pub(super) metrics: Arc<StreamMetrics>,
}

/// What the lock protects.
struct Desk {
    reader: Reader,
    poppers: Line,
    pushers: Line,
}

/// What is taken out of the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    Datum,
    Nothing,
    /// The ring is closed and drained.
    Ended,
}

/// Wakers to be run and to be dropped once the lock is released.
#[derive(Default)]
struct Due {
    wake: [Option<Waker>; 3],
    gone: [Option<Waker>; 2],
}

impl Due {
    /// Runs and drops what came out of the lock. A waker that panics costs nobody a datum.
    fn settle(self) {
        for waker in self.wake.into_iter().flatten() {
            contain(|| waker.wake());
        }
        for waker in self.gone.into_iter().flatten() {
            contain(|| drop(waker));
        }
    }
}

/// The waker that the ring's reader sleeps with. It wakes the first that waits for a datum.
struct Bell {
    core: Weak<Core>,
    /// The ring is being asked whether there is something, under the desk's lock: a ring now must not take it.
    asking: Flag,
    /// The bell was rung while the ring was asked.
    rung: Flag,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // If the asker's look at `rung` comes later, it sees this; if it came before, we see that it asks no more.
        if self.asking.get() {
            self.rung.set(true);
            if self.asking.get() {
                return;
            }
        }
        if let Some(core) = self.core.upgrade() {
            core.something_came();
        }
    }
}

impl Core {
    /// `reader` is the ring's only one.
    pub(super) fn new(ring: &Ring, reader: Reader, drops: bool) -> Arc<Self> {
        Arc::new_cyclic(|core| {
            let bell =
                Arc::new(Bell { core: Weak::clone(core), asking: Flag::default(), rung: Flag::default() });
            Self {
                writer: ring.writer(),
                drops,
                desk: Mutex::new(Desk { reader, poppers: Line::default(), pushers: Line::default() }),
                ringer: Waker::from(Arc::clone(&bell)),
                bell,
                metrics: Arc::new(StreamMetrics::new(ring.clone())),
            }
        })
    }

    pub(super) fn ring(&self) -> Ring {
        self.writer.ring()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.writer.is_closed()
    }

    pub(super) fn close(&self) {
        self.writer.close();
        let mut desk = self.desk();
        let Desk { poppers, pushers, .. } = &mut *desk;
        let wakers: Vec<Waker> = poppers.all().chain(pushers.all()).collect();
        drop(desk);
        for waker in wakers {
            contain(|| waker.wake());
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // No code of users runs under it; and nothing under it is left half done by a panic.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A datum was published, or the ring was closed, and its reader slept.
    #[cold]
    fn something_came(&self) {
        let mut desk = self.desk();
        let mut due = Due::default();
        due.wake[0] = desk.poppers.first_asleep();
        if self.drops {
            // One who wants to drop the oldest datum and found it not yet published.
            due.wake[1] = desk.pushers.first();
        }
        drop(desk);
        due.settle();
    }

    /// Asks the ring for a bell. `true`: there is something to see already.
    fn ask_for_a_bell(&self, desk: &mut Desk) -> bool {
        self.bell.asking.set(true);
        let ready = desk.reader.poll_ready(&mut Context::from_waker(&self.ringer)).is_ready();
        self.bell.asking.set(false);
        self.bell.rung.set(false) || ready
    }

    /// Moves the oldest datum's bytes to `out`. Never waits.
    pub(super) fn take(&self, place: &mut Option<Ticket>, out: &mut Vec<u8>) -> Took {
        let mut due = Due::default();
        let mut desk = self.desk();
        let took = desk.take(out);
        self.after(&mut desk, took, place, &mut due);
        drop(desk);
        due.settle();
        took
    }

    /// As [`take`](Self::take), and keeps a place in the line while there is nothing.
    pub(super) fn poll_take(
        &self,
        place: &mut Option<Ticket>,
        out: &mut Vec<u8>,
        cx: &Context<'_>,
    ) -> Poll<Took> {
        let took = self.take(place, out);
        if took != Took::Nothing {
            return Poll::Ready(took);
        }
        let waker = cx.waker().clone();
        let mut due = Due::default();
        let mut desk = self.desk();
        let mut took = desk.take(out);
        if took == Took::Nothing {
            match desk.poppers.wait(place, waker) {
                Ok(before) => due.gone[0] = before,
                // More wait than the line takes. This one looks again and again instead.
                Err(waker) => due.wake[0] = Some(waker),
            }
            if self.ask_for_a_bell(&mut desk) {
                took = desk.take(out);
                if took == Took::Nothing {
                    due.wake[1] = desk.poppers.first_asleep(); // The ring had no bell to give: look again.
                }
            }
        } else {
            due.gone[0] = Some(waker);
        }
        self.after(&mut desk, took, place, &mut due);
        drop(desk);
        due.settle();
        if took == Took::Nothing { Poll::Pending } else { Poll::Ready(took) }
    }

    /// What follows from what was taken: whose turn it is.
    fn after(&self, desk: &mut Desk, took: Took, place: &mut Option<Ticket>, due: &mut Due) {
        if took == Took::Nothing {
            return;
        }
        due.gone[1] = desk.poppers.leave(place);
        due.wake[1] = self.next_popper(desk);
        if took == Took::Datum {
            due.wake[2] = desk.pushers.first();
        }
    }

    /// Who is to take what is left. If nothing is, the bell will tell.
    fn next_popper(&self, desk: &mut Desk) -> Option<Waker> {
        if !desk.poppers.is_empty() && self.ask_for_a_bell(desk) { desk.poppers.first_asleep() } else { None }
    }

    /// Gives a place among the takers up; a wake-up that it had passes on.
    pub(super) fn stop_taking(&self, place: &mut Option<Ticket>) {
        if place.is_none() {
            return;
        }
        let mut due = Due::default();
        let mut desk = self.desk();
        due.gone[0] = desk.poppers.leave(place);
        due.wake[0] = self.next_popper(&mut desk);
        drop(desk);
        due.settle();
    }

    /// Puts a datum in if there is room, and, where those who wait are served in their order, nobody waits for it.
    /// Lock-free.
    #[inline]
    pub(super) fn put(&self, bytes: &[u8]) -> Result<(), ClaimError> {
        if !self.drops && self.metrics.waiting.get() != 0 {
            return Err(if self.is_closed() { ClaimError::Closed } else { ClaimError::Full });
        }
        fill(self.writer.try_claim(bytes.len())?, bytes);
        Ok(())
    }

    /// Puts a datum in and drops the oldest ones if there is no room. `Full`: the oldest is claimed by another
    /// thread and not yet filled.
    pub(super) fn put_dropping(&self, bytes: &[u8]) -> Result<(), ClaimError> {
        match self.put(bytes) {
            Err(ClaimError::Full) => {}
            done => return done,
        }
        let mut due = Due::default();
        let mut desk = self.desk();
        let claimed = self.claim(&mut desk, &None, bytes.len(), &mut due);
        drop(desk);
        let done = claimed.map(|claim| fill(claim, bytes));
        due.settle();
        done
    }

    /// Puts a datum in, dropping the oldest if that is the policy, and waits in line while there is no room.
    pub(super) fn poll_put(
        &self,
        bytes: &[u8],
        place: &mut Option<Ticket>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), ClaimError>> {
        if place.is_none() {
            match if self.drops { self.put_dropping(bytes) } else { self.put(bytes) } {
                Err(ClaimError::Full) => {}
                done => return Poll::Ready(done),
            }
        }
        let waker = cx.waker().clone();
        let mut due = Due::default();
        let mut desk = self.desk();
        let mut claimed = self.claim(&mut desk, place, bytes.len(), &mut due);
        if let Err(ClaimError::Full) = claimed {
            claimed = self.join_line(&mut desk, place, waker, bytes.len(), &mut due);
        } else {
            due.gone[0] = Some(waker);
        }
        if let Err(ClaimError::Full) = claimed {
            drop(desk);
            due.settle();
            return Poll::Pending;
        }
        due.gone[1] = desk.pushers.leave(place);
        due.wake[0] = desk.pushers.first();
        self.metrics.waiting.set(desk.pushers.len());
        drop(desk);
        // Outside of the lock: publishing may ring our bell.
        let done = claimed.map(|claim| fill(claim, bytes));
        due.settle();
        Poll::Ready(done)
    }

    /// Joins the line of those who want room, or renews the place there. Under a policy that drops, the bell tells
    /// when the oldest datum has been filled; if it has been by now, this claims.
    fn join_line(
        &self,
        desk: &mut Desk,
        place: &mut Option<Ticket>,
        waker: Waker,
        len: usize,
        due: &mut Due,
    ) -> Result<RecordClaim<'_>, ClaimError> {
        let newcomer = place.is_none();
        match desk.pushers.wait(place, waker) {
            Ok(before) => due.gone[0] = before,
            Err(waker) => {
                due.gone[0] = Some(waker);
                return Err(ClaimError::TooManyWaiters);
            }
        }
        self.metrics.waiting.set(desk.pushers.len());
        if newcomer && !self.drops {
            self.metrics.paused.add_one();
        }
        if !self.drops || !self.ask_for_a_bell(desk) {
            return Err(ClaimError::Full);
        }
        let claimed = self.claim(desk, place, len, due);
        if let Err(ClaimError::Full) = claimed {
            due.wake[2] = desk.pushers.first(); // The ring had no bell to give: look again.
        }
        claimed
    }

    /// Claims room at the desk, where nobody takes meanwhile: a datum is dropped only if there is no room now.
    fn claim(
        &self,
        desk: &mut Desk,
        place: &Option<Ticket>,
        len: usize,
        due: &mut Due,
    ) -> Result<RecordClaim<'_>, ClaimError> {
        if !self.drops && !desk.pushers.is_first(place) {
            return Err(if self.is_closed() { ClaimError::Closed } else { ClaimError::Full });
        }
        loop {
            match self.writer.try_claim_at_once(len) {
                Err(ClaimError::Full) if self.drops => {}
                done => return done,
            }
            if !desk.discard() {
                return Err(ClaimError::Full);
            }
            self.metrics.dropped.add_one();
            // Whoever was woken for what is gone now may find nothing; another one hears the bell for what comes.
            due.wake[1] = due.wake[1].take().or_else(|| self.next_popper(desk));
        }
    }

    /// Whether the push at `place` has others in front of it, and nothing else has ended its wait. Keeps its waker.
    pub(super) fn must_wait(&self, place: &mut Option<Ticket>, cx: &Context<'_>) -> bool {
        if place.is_none() || self.drops {
            return false;
        }
        let waker = cx.waker().clone();
        let mut due = Due::default();
        let mut desk = self.desk();
        let must_wait = !desk.pushers.is_first(place) && !self.is_closed();
        due.gone[0] =
            if must_wait { desk.pushers.wait(place, waker).unwrap_or_else(Some) } else { Some(waker) };
        drop(desk);
        due.settle();
        must_wait
    }

    /// Gives a place among those who want room up; a wake-up that it had passes on.
    pub(super) fn stop_putting(&self, place: &mut Option<Ticket>) {
        if place.is_none() {
            return;
        }
        let mut due = Due::default();
        let mut desk = self.desk();
        due.gone[0] = desk.pushers.leave(place);
        due.wake[0] = desk.pushers.first();
        self.metrics.waiting.set(desk.pushers.len());
        drop(desk);
        due.settle();
    }
}

impl Desk {
    fn take(&mut self, out: &mut Vec<u8>) -> Took {
        match self.reader.try_recv() {
            Ok(Some(record)) => {
                out.clear();
                out.extend_from_slice(&record);
                Took::Datum
            }
            Ok(None) => Took::Nothing,
            // Closed: nobody detaches our reader.
            Err(_) => Took::Ended,
        }
    }

    /// Drops the oldest datum, if there is one that is published.
    fn discard(&mut self) -> bool {
        matches!(self.reader.try_recv(), Ok(Some(_)))
    }
}

/// Fills the room and publishes it. The lengths are equal, and nothing here panics.
#[inline]
fn fill(mut claim: RecordClaim<'_>, bytes: &[u8]) {
    claim.copy_from_slice(bytes);
    claim.commit();
}

#[cfg(test)]
mod tests {
    use corewire_engine::rings::RingConfig;

    use super::*;

    fn core(drops: bool) -> Arc<Core> {
        let ring =
            Ring::new(RingConfig { datums: 2, bytes: 64, max_record: 32, readers: 1, scatter_small: false })
                .unwrap();
        let reader = ring.subscribe().unwrap();
        Core::new(&ring, reader, drops)
    }

    /// A waker and whether it was woken.
    fn counted() -> (Arc<Woken>, Waker) {
        let wake = Arc::new(Woken::default());
        (Arc::clone(&wake), Waker::from(wake))
    }

    #[derive(Default)]
    struct Woken(Flag);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.set(true);
        }
    }

    #[test]
    fn the_oldest_datum_is_waited_for_while_another_thread_fills_it() {
        let core = core(true);
        let slow = core.writer.try_claim(1).unwrap();
        core.put(b"b").unwrap();
        // The ring is full, and its oldest datum cannot be dropped yet.
        assert_eq!(core.put_dropping(b"c"), Err(ClaimError::Full));
        let (woken, waker) = counted();
        let cx = Context::from_waker(&waker);
        let (mut place, mut other) = (None, None);
        assert!(core.poll_put(b"c", &mut place, &cx).is_pending());
        assert!(core.poll_put(b"d", &mut other, &cx).is_pending());
        assert_eq!((core.metrics.waiting.get(), core.metrics.paused.get()), (2, 0));
        fill(slow, b"a");
        assert!(woken.0.set(false), "filling it wakes the first");
        assert_eq!(core.poll_put(b"c", &mut place, &cx), Poll::Ready(Ok(())));
        assert!(woken.0.set(false), "and that wakes the second");
        assert_eq!(core.poll_put(b"d", &mut other, &cx), Poll::Ready(Ok(())));
        assert_eq!((core.metrics.waiting.get(), core.metrics.dropped.get()), (0, 2));
        let mut out = Vec::new();
        for expected in [b"c", b"d"] {
            assert!(core.take(&mut None, &mut out) == Took::Datum);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn room_that_a_consumer_makes_wakes_one_who_waits_to_drop() {
        let core = core(true);
        core.put(b"a").unwrap();
        let slow = core.writer.try_claim(1).unwrap();
        assert!(core.take(&mut None, &mut Vec::new()) == Took::Datum);
        let second = core.writer.try_claim(1).unwrap();
        let (woken, waker) = counted();
        let mut place = None;
        assert!(core.poll_put(b"d", &mut place, &Context::from_waker(&waker)).is_pending());
        fill(slow, b"b");
        assert!(core.take(&mut None, &mut Vec::new()) == Took::Datum);
        assert!(woken.0.set(false));
        assert_eq!(core.poll_put(b"d", &mut place, &Context::from_waker(&waker)), Poll::Ready(Ok(())));
        assert_eq!(core.metrics.dropped.get(), 0);
        fill(second, b"c");
    }

    #[test]
    fn a_datum_behind_one_that_is_not_filled_yet_is_not_taken_before_it() {
        let core = core(false);
        let slow = core.writer.try_claim(1).unwrap();
        core.put(b"b").unwrap();
        let (woken, waker) = counted();
        let (mut place, mut out) = (None, Vec::new());
        assert!(core.poll_take(&mut place, &mut out, &Context::from_waker(&waker)).is_pending());
        fill(slow, b"a");
        assert!(woken.0.set(false));
        assert!(
            core.poll_take(&mut place, &mut out, &Context::from_waker(&waker)) == Poll::Ready(Took::Datum)
        );
        assert_eq!(out, b"a");
    }

    /// The ring answers a poll with a wake where it has no barrier to sleep behind: under our own lock.
    #[test]
    fn a_bell_that_rings_while_the_ring_is_asked_takes_no_lock() {
        let core = core(false);
        let desk = core.desk();
        core.bell.asking.set(true);
        core.ringer.wake_by_ref();
        assert!(core.bell.rung.get());
        core.bell.asking.set(false);
        drop(desk);
        // The next to ask takes it for news, looks again, and goes on.
        let (woken, waker) = counted();
        let mut place = None;
        let polled = core.poll_take(&mut place, &mut Vec::new(), &Context::from_waker(&waker));
        assert!(polled.is_pending());
        assert!(woken.0.set(false));
        core.stop_taking(&mut place);
    }

    #[test]
    fn the_bell_does_not_keep_the_stream() {
        let core = core(false);
        let mut place = None;
        let polled = core.poll_take(&mut place, &mut Vec::new(), &Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let (weak, ringer) = (Arc::downgrade(&core), core.ringer.clone());
        drop(core);
        assert!(weak.upgrade().is_none());
        ringer.wake();
    }
}
