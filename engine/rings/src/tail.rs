//! The tail, biased to its first writer: that thread, the owner, stores it; the first other thread that
//! claims, or closes the ring, revokes the bias, after which all threads swap. The crate's page has the
//! reason and the state diagram.
//!
//! ```text
//!   owner:    store owner_inside = 1; light fence; load mode;          inside if it is Owned(me)
//!   revoker:  CAS mode = Revoking;    heavy fence; load owner_inside,  until it is 0
//! ```
//!
//! At least one of the two sees the other's store. A thread's token is an address in its thread-local
//! storage. After the thread's end, a thread that gets the same address is the owner; handing that memory
//! over orders the old owner's stores before the new one's loads.
//!
//! The owner also caches how much room it saw behind the gate (`free_seq`, `free_position`). Room behind the
//! gate only grows until the owner itself takes it, so the owner loads the gate again only when the cached
//! room is used up.

use crate::bugs::mutate;
use crate::fence::Fences;
use crate::sync::{self, AtomicU64, Ordering};
use crate::units::Units;
use crate::word::Tail;
use crossbeam_utils::CachePadded;

/// Yields while the owner is inside, before the revoker sleeps between its loads.
const OWNER_YIELDS_MAX: u32 = 64;

/// Room that a claim has won.
#[derive(Clone, Copy)]
pub(crate) struct Reservation {
    /// Sequence of the first record.
    pub(crate) seq: u64,
    /// Its byte position, in units.
    pub(crate) position: u64,
    /// Byte position where the last record ends, in units.
    pub(crate) end: u64,
    /// How many records; at least 1.
    pub(crate) count: u64,
}

/// Who may move the tail, and how. The word of a `BiasedTail`'s mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TailMode {
    /// No thread has claimed yet.
    Unowned,
    /// The thread with this token stores the tail.
    Owned(u64),
    /// The owner enters no more, but may still be inside.
    Revoking,
    /// All threads swap the tail.
    Shared,
}

impl TailMode {
    /// Tokens are above 2.
    #[inline(always)]
    const fn word(self) -> u64 {
        match self {
            Self::Unowned => 0,
            Self::Owned(token) => token,
            Self::Revoking => 1,
            Self::Shared => 2,
        }
    }

    const fn of_word(word: u64) -> Self {
        match word {
            0 => Self::Unowned,
            1 => Self::Revoking,
            2 => Self::Shared,
            token => Self::Owned(token),
        }
    }
}

/// The tail, and who may move it how.
pub(crate) struct BiasedTail {
    /// A [`TailMode`]. Only moves forward, so its line is hardly ever written.
    mode: CachePadded<AtomicU64>,
    cache: CachePadded<OwnerCache>,
}

/// The tail, and what its owner alone writes. All on one cache line, because a processor merges stores to one
/// line: a claim makes three.
#[derive(Default)]
struct OwnerCache {
    /// A `Tail`.
    tail: AtomicU64,
    /// 1 while the owner is inside. The only word here that another thread loads, besides the tail.
    owner_inside: AtomicU64,
    /// Sequences below this are free. Stored by the owner when it has looked at the gate, as `free_position`.
    free_seq: AtomicU64,
    /// Units below this byte position are free.
    free_position: AtomicU64,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<OwnerCache>() <= 64, "one cache line");

/// The owner between entering and leaving: while it lives, no other thread moves the tail.
pub(crate) struct OwnerGuard<'a>(&'a OwnerCache);

impl OwnerGuard<'_> {
    /// Takes room for `count` records of `each` units and stores the tail. `None`: the cached room is too
    /// small.
    #[inline(always)]
    pub(crate) fn try_reserve(&self, sizes: Units, count: u64, each: u64) -> Option<Reservation> {
        let cache = self.0;
        debug_assert!(cache.owner_inside.load(Ordering::Relaxed) == 1, "the owner holds the tail");
        let tail = Tail(cache.tail.load(Ordering::Relaxed));
        let free_seq = cache.free_seq.load(Ordering::Relaxed);
        let (position, cost) = (tail.position(), count * each);
        let free = tail.datums_before(free_seq);
        let free_units = sizes.distance(cache.free_position.load(Ordering::Relaxed), position);
        if count > free || mutate!(cost > free_units, "cache-ignores-units" => false) {
            return None;
        }
        let (seq, end) = (free_seq - free, sizes.add(position, cost));
        // Release: a thread that claims after us sees every gate that we saw.
        cache.tail.store(Tail::open(seq + count, end).0, Ordering::Release);
        Some(Reservation { seq, position, end, count })
    }

    /// Caches that `datums` and `units` are free behind the tail, which is `next`.
    pub(crate) fn refill(&self, next: Reservation, datums: u64, units: u64, sizes: Units) {
        debug_assert!(self.0.owner_inside.load(Ordering::Relaxed) == 1, "the owner holds the tail");
        self.0.free_seq.store(next.seq + datums, Ordering::Relaxed);
        self.0.free_position.store(sizes.add(next.position, units), Ordering::Relaxed);
    }
}

impl Drop for OwnerGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: our tail comes before the revoker that sees us outside.
        self.0.owner_inside.store(0, Ordering::Release);
    }
}

impl BiasedTail {
    /// `biased`: whether storing pays here. Without `membarrier` the owner's fence costs as much as a swap.
    pub(crate) fn new(biased: bool) -> Self {
        let mode = if biased { TailMode::Unowned } else { TailMode::Shared };
        Self {
            mode: CachePadded::new(AtomicU64::new(mode.word())),
            cache: CachePadded::new(OwnerCache::default()),
        }
    }

    /// The ring's next record is `seq` at `position`, and no room is known.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn start_at(&self, seq: u64, position: u64) {
        self.cache.tail.store(Tail::open(seq, position).0, Ordering::Relaxed);
        self.cache.free_seq.store(seq, Ordering::Relaxed);
        self.cache.free_position.store(position, Ordering::Relaxed);
    }

    /// Puts a tail into `mode`, with an owner inside or not.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn force(&self, mode: TailMode) {
        self.mode.store(mode.word(), Ordering::Relaxed);
    }

    /// The mode now.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn mode(&self) -> TailMode {
        TailMode::of_word(self.mode.load(Ordering::Relaxed))
    }

    /// The word of the tail, in every mode.
    #[inline(always)]
    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.cache.tail
    }

    /// `Some`: this thread alone moves the tail until it drops the guard. `None`: swap.
    #[inline(always)]
    pub(crate) fn try_enter(&self, fences: Fences) -> Option<OwnerGuard<'_>> {
        // Acquire: a thread that sees `Shared` sees the owner's last tail.
        let mode = self.mode.load(Ordering::Acquire);
        if mode == TailMode::Shared.word() {
            return None;
        }
        let mine = TailMode::Owned(sync::thread_token()).word();
        if mode != mine && !self.become_owner(mine, fences) {
            return None;
        }
        self.cache.owner_inside.store(1, Ordering::Relaxed);
        let guard = OwnerGuard(&self.cache);
        fences.light();
        if mutate!(self.mode.load(Ordering::Relaxed) == mine, "owner-looks-once" => true) {
            return Some(guard);
        }
        drop(guard);
        self.revoke(fences);
        None
    }

    /// `false`: there is, or was, another owner; now all threads swap.
    #[cold]
    fn become_owner(&self, mine: u64, fences: Fences) -> bool {
        let unowned = TailMode::Unowned.word();
        if self.mode.compare_exchange(unowned, mine, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        self.revoke(fences);
        false
    }

    /// Revokes the bias. Afterwards all threads swap, and the caller sees the owner's last tail.
    #[cold]
    pub(crate) fn revoke(&self, fences: Fences) {
        let me = sync::thread_token();
        let mut word = self.mode.load(Ordering::Acquire);
        while word != TailMode::Revoking.word() {
            let next = match TailMode::of_word(word) {
                TailMode::Shared => return,
                // No thread is inside: there is no owner yet, or it is this thread, which is here.
                TailMode::Unowned => TailMode::Shared,
                TailMode::Owned(owner) if owner == me => TailMode::Shared,
                TailMode::Owned(_) | TailMode::Revoking => TailMode::Revoking,
            };
            // After a failure the mode has moved forward, so this loop is short.
            word = match self.mode.compare_exchange(word, next.word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => next.word(),
                Err(now) => now,
            };
        }
        // Each revoker issues its own fence.
        if !mutate!(fences.heavy(), "owner-unfenced" => true) {
            // The kernel refuses a barrier that it granted before (a system call filter was installed). Time
            // takes its place: a processor's stores reach the cache within a microsecond.
            sync::sleep_a_moment();
        }
        let mut loads = 0;
        while mutate!(self.cache.owner_inside.load(Ordering::Acquire) != 0, "owner-not-awaited" => false) {
            loads += 1;
            // The owner was preempted. Yielding does not let it run if this thread has the higher priority
            // and the owner's processor; sleeping does.
            if loads < OWNER_YIELDS_MAX { sync::yield_now() } else { sync::sleep_a_moment() }
        }
        // Release: the owner's tail comes before a thread that sees `Shared`. A failure means that another
        // revoker was faster.
        let (from, to) = (TailMode::Revoking.word(), TailMode::Shared.word());
        let _ = self.mode.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }
}
