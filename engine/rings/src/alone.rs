//! The right to move the tail without a swap: held by one thread, for as long as no other one writes.
//!
//! A swap waits until all that the processor has stored before has reached the cache. While a reader on another
//! processor follows at the writer's heels, the last record's stamp has not, and the swap costs the writer a trip of
//! that cache line for every record. A writer that is alone stores instead, and its processor goes on.
//!
//! The first thread that claims owns the right. After its end, the thread that gets its place in memory does; whatever
//! hands that memory on orders what the first one wrote there before what the second one reads. The first other thread
//! that wants to claim, or to close the ring, takes the right away for good: from then on all swap. Owner: enter, light
//! fence, look whether it still owns; other: take away, heavy fence, wait until the owner is not inside. Inside is a
//! handful of instructions and nothing of the user's, and this wait happens once in the life of a ring.
//!
//! What is free behind the gate only grows until the owner itself takes it. So the owner writes down how far that goes in
//! words of its own, its *desk*, and looks at the gate only when the tail has come there: see [`Inside::take`].
//!
//! Not inside: how the room is found; see `claim`.

use crate::bugs::bug;
use crate::claim::Reserved;
use crate::fence::Fences;
use crate::sync::{self, AtomicU64, Ordering};
use crate::units::Units;
use crate::word::Tail;
use crossbeam_utils::CachePadded;

/// Values of `owner` that are no thread's token.
const NOBODY: u64 = 0;
const TAKEN_AWAY: u64 = 1;
const EVERYBODY: u64 = 2;

/// Looks for the owner to be outside, before sleeping in between.
const MOST_YIELDS: u32 = 64;

/// Who may move the tail how.
pub(crate) struct Alone {
    /// `NOBODY` yet; the token of the thread that stores; `TAKEN_AWAY` from it, but it may still be inside;
    /// `EVERYBODY` swaps. Only forward, so this line is hardly ever written.
    owner: CachePadded<AtomicU64>,
    desk: CachePadded<Desk>,
}

/// The tail, and what only its owner writes and nobody else reads but `inside`. All zero at first: no room is known.
///
/// All on one cache line, and three stores a claim. A processor gathers stores as long as they go to one line, and how
/// many it can hold back decides how far it looks ahead for the lines of the next records: see the notebook, "what does a
/// store to another line cost?" and "how many stores may a claim make?".
#[derive(Default)]
struct Desk {
    /// A `Tail`.
    tail: AtomicU64,
    /// 1 while the owner is inside.
    inside: AtomicU64,
    /// Below this, sequences are certainly free. Written at a look at the gate, as `limit`.
    free_to: AtomicU64,
    /// Below this byte position, units are certainly free.
    limit: AtomicU64,
}

/// The owner between its look and its store.
pub(crate) struct Inside<'a>(&'a Desk);

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Desk>() <= 64, "one cache line");

impl Inside<'_> {
    /// Takes room for `count` records of `each` units and stores the tail. `None`: it is not known that so much is
    /// free.
    #[inline(always)]
    pub(crate) fn take(&self, sizes: Units, count: u64, each: u64) -> Option<Reserved> {
        let desk = self.0;
        let tail = Tail(desk.tail.load(Ordering::Relaxed));
        let free_to = desk.free_to.load(Ordering::Relaxed);
        let (position, cost) = (tail.position(), count * each);
        let free = tail.datums_before(free_to);
        let units = sizes.distance(desk.limit.load(Ordering::Relaxed), position);
        if count > free || cost > units && !bug("desk-keeps-units") {
            return None;
        }
        let (seq, end) = (free_to - free, sizes.add(position, cost));
        // Release: who claims after us sees every gate that we saw.
        desk.tail.store(Tail::open(seq + count, end).0, Ordering::Release);
        Some(Reserved { seq, position, end, count })
    }

    /// Writes down that `datums` and `units` are free behind the tail, which is `next`. [`Inside::take`] finds it.
    pub(crate) fn note(&self, next: Reserved, datums: u64, units: u64, sizes: Units) {
        self.0.free_to.store(next.seq + datums, Ordering::Relaxed);
        self.0.limit.store(sizes.add(next.position, units), Ordering::Relaxed);
    }
}

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: our tail comes before whoever waits for us to be outside.
        self.0.inside.store(0, Ordering::Release);
    }
}

impl Alone {
    /// `possible`: whether the right pays here. Without `membarrier` its fence costs as much as a swap.
    pub(crate) fn new(possible: bool) -> Self {
        let owner = if possible { NOBODY } else { EVERYBODY };
        Self { owner: CachePadded::new(AtomicU64::new(owner)), desk: CachePadded::new(Desk::default()) }
    }

    /// The ring's next record is `seq` at `position`, and no room is known.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn start_at(&self, seq: u64, position: u64) {
        self.desk.tail.store(Tail::open(seq, position).0, Ordering::Relaxed);
        self.desk.free_to.store(seq, Ordering::Relaxed);
        self.desk.limit.store(position, Ordering::Relaxed);
    }

    /// The word of the tail, whoever moves it.
    #[inline(always)]
    pub(crate) fn tail(&self) -> &AtomicU64 {
        &self.desk.tail
    }

    /// `Some`: this thread alone moves the tail until it drops that. `None`: swap.
    #[inline(always)]
    pub(crate) fn enter(&self, fences: Fences) -> Option<Inside<'_>> {
        // Acquire: who sees `EVERYBODY` sees the owner's last tail.
        let owner = self.owner.load(Ordering::Acquire);
        if owner == EVERYBODY {
            return None;
        }
        let me = sync::thread_token();
        if owner != me && !self.become_owner(me, fences) {
            return None;
        }
        self.desk.inside.store(1, Ordering::Relaxed);
        let inside = Inside(&self.desk);
        fences.light();
        if self.owner.load(Ordering::Relaxed) == me || bug("owner-looks-once") {
            return Some(inside);
        }
        drop(inside);
        self.share(fences);
        None
    }

    /// `false`: there is another owner, or there was; now everybody swaps.
    #[cold]
    fn become_owner(&self, me: u64, fences: Fences) -> bool {
        if self.owner.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        self.share(fences);
        false
    }

    /// Takes the right away. Afterwards everybody swaps, and the owner's last store to the tail is seen.
    #[cold]
    pub(crate) fn share(&self, fences: Fences) {
        let me = sync::thread_token();
        let mut owner = self.owner.load(Ordering::Acquire);
        while owner != TAKEN_AWAY {
            let next = match owner {
                EVERYBODY => return,
                // Nobody is inside: there is no owner yet, or it is this thread, and that is here.
                owner if owner == NOBODY || owner == me => EVERYBODY,
                _ => TAKEN_AWAY,
            };
            // A failed swap tells what is there: it only moves forward, so this ends soon.
            owner = match self.owner.compare_exchange(owner, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => next,
                Err(now) => now,
            };
        }
        // Everybody who waits does so behind a fence of its own.
        if !bug("owner-unfenced") && !fences.heavy() {
            // The kernel refuses a barrier that it had granted (a filter of system calls, installed later). What takes
            // its place is time: a processor's stores reach the cache within a microsecond.
            sync::sleep_a_moment();
        }
        let mut looks = 0;
        while self.desk.inside.load(Ordering::Acquire) != 0 && !bug("owner-not-awaited") {
            looks += 1;
            // The owner was preempted. If this thread has a higher priority and the owner's processor, yielding does
            // not let it go on; sleeping does.
            if looks < MOST_YIELDS { sync::yield_now() } else { sync::sleep_a_moment() }
        }
        // Release: the owner's tail comes before whoever sees this. A failure says that another one was faster.
        let _ = self.owner.compare_exchange(TAKEN_AWAY, EVERYBODY, Ordering::AcqRel, Ordering::Acquire);
    }
}
