//! The reader slots: what each reader shows to the other threads. Storage; the transitions are in `pin`,
//! `gate`, `evict` and `reader`.

use crate::sync::{AtomicU64, Ordering};
use crate::word::Cursor;
use atomic_waker::AtomicWaker;
use crossbeam_utils::CachePadded;
use std::sync::OnceLock;

/// Slots that are there from the start. Their readers have a bit each in the word of sleepers, whose last bit
/// stands for all readers in groups.
pub(crate) const FIRST_SLOTS: usize = 63;

/// Most slots of a group: one bit each in its words.
const GROUP_SLOTS: usize = 64;

/// Names one reader of one ring. It never names a later reader in the same slot (until 2^32 readers had that
/// slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId {
    /// Which slot.
    pub(crate) index: u32,
    /// Which reader of that slot.
    pub(crate) generation: u32,
}

/// What one reader shows to the other threads, on cache lines of its own.
pub(crate) struct ReaderSlot {
    /// A `Cursor`. Stored by the reader while pinned; otherwise changed by compare-and-swap, by reader and
    /// writers.
    pub(crate) cursor: AtomicU64,
    /// 1 while the reader has pinned by a store; see `pin`. Stored by the reader.
    pub(crate) pinned: AtomicU64,
    /// Records below this do not count as lost for this reader, even if its cursor is before them (it joined
    /// while older records were not yet published). Stored by the reader before its cursor.
    pub(crate) wanted_from: AtomicU64,
    /// How many readers had this slot. Stored by the new reader before its cursor.
    pub(crate) generation: AtomicU64,
    /// Records that eviction took from this reader. Added to by evictors.
    pub(crate) lost: AtomicU64,
    /// The sleeping reader's waker. The thread that clears the reader's bit in `sleepers` may take it.
    pub(crate) waker: AtomicWaker,
}

/// Slots that are made when the slots before them are taken. They stay as long as the ring.
pub(crate) struct SlotGroup {
    slots: Box<[CachePadded<ReaderSlot>]>,
    /// As [`FirstTaken::bits`].
    taken: CachePadded<AtomicU64>,
    /// One bit for each sleeping reader; see `Signals`.
    pub(crate) sleepers: CachePadded<AtomicU64>,
}

/// What a scan of the slots loads first.
struct FirstTaken {
    /// One bit for each taken slot. Set before its reader's join swaps the gate, so a thread that loads that
    /// gate sees the bit.
    bits: AtomicU64,
    /// How many groups there are. Only grows. Stored before the first bit of the group.
    groups: AtomicU64,
}

/// All reader slots, and which are taken.
pub(crate) struct ReaderSlots {
    /// At most [`FIRST_SLOTS`].
    first: Box<[CachePadded<ReaderSlot>]>,
    taken: CachePadded<FirstTaken>,
    /// The others, in the order of their indices.
    groups: Box<[OnceLock<Box<SlotGroup>>]>,
    /// How many slots there may be.
    limit: usize,
}

fn free_slots(count: usize) -> Box<[CachePadded<ReaderSlot>]> {
    let slot = |_| {
        CachePadded::new(ReaderSlot {
            cursor: AtomicU64::new(Cursor::FREE.0),
            pinned: AtomicU64::new(0),
            wanted_from: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        })
    };
    (0..count).map(slot).collect()
}

/// Sets the lowest bit of `word` that is clear and below `limit`.
fn take_bit(word: &AtomicU64, limit: usize) -> Option<usize> {
    let mut taken = word.load(Ordering::Relaxed);
    loop {
        let index = taken.trailing_ones() as usize;
        if index >= limit {
            return None;
        }
        // Acquire: the previous reader's last stores to the slot come before ours.
        match word.compare_exchange(taken, taken | 1 << index, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(index),
            Err(now) => taken = now,
        }
    }
}

impl ReaderSlots {
    /// Slots for `limit` readers, at most `first` of them from the start.
    pub(crate) fn new(limit: usize, first: usize) -> Self {
        let first = limit.min(first);
        let groups = (limit - first).div_ceil(GROUP_SLOTS);
        Self {
            first: free_slots(first),
            taken: CachePadded::new(FirstTaken { bits: AtomicU64::new(0), groups: AtomicU64::new(0) }),
            groups: (0..groups).map(|_| OnceLock::new()).collect(),
            limit,
        }
    }

    /// Bytes that [`ReaderSlots::new`] allocates.
    pub(crate) fn memory_bytes(limit: usize, first: usize) -> usize {
        let first = limit.min(first);
        let groups = (limit - first).div_ceil(GROUP_SLOTS);
        first * size_of::<CachePadded<ReaderSlot>>() + groups * size_of::<OnceLock<Box<SlotGroup>>>()
    }

    /// Takes a free slot. Makes a group when all slots before it are taken.
    pub(crate) fn take(&self) -> Option<usize> {
        take_bit(&self.taken.bits, self.first.len())
            .or_else(|| (0..self.groups.len()).find_map(|number| self.take_in_group(number)))
    }

    #[cold]
    fn take_in_group(&self, number: usize) -> Option<usize> {
        let start = self.first.len() + number * GROUP_SLOTS;
        let group = self.groups[number].get_or_init(|| {
            Box::new(SlotGroup {
                slots: free_slots((self.limit - start).min(GROUP_SLOTS)),
                taken: CachePadded::new(AtomicU64::new(0)),
                sleepers: CachePadded::new(AtomicU64::new(0)),
            })
        });
        self.taken.groups.fetch_max(number as u64 + 1, Ordering::AcqRel);
        Some(start + take_bit(&group.taken, group.slots.len())?)
    }

    /// Gives a slot back. Its cursor is `FREE` already.
    pub(crate) fn give_back(&self, index: usize) {
        debug_assert!(self.at(index).cursor.load(Ordering::Relaxed) == Cursor::FREE.0);
        let (word, bit) = match self.group_of(index) {
            None => (&self.taken.bits, index),
            Some((group, bit)) => (&*group.taken, bit),
        };
        word.fetch_and(!(1 << bit), Ordering::AcqRel);
    }

    /// The group of a slot that exists, and its place there. `None`: one of the first slots.
    #[inline(always)]
    pub(crate) fn group_of(&self, index: usize) -> Option<(&SlotGroup, usize)> {
        let after = index.checked_sub(self.first.len())?;
        Some((self.group(after / GROUP_SLOTS), after % GROUP_SLOTS))
    }

    #[cold]
    #[inline(never)]
    fn group(&self, number: usize) -> &SlotGroup {
        self.groups[number].get().expect("a slot that was taken has its group")
    }

    /// The groups that there are, with the index of their first slots.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, &SlotGroup)> {
        let count = self.taken.groups.load(Ordering::Acquire) as usize;
        (0..count).map(|number| (self.first.len() + number * GROUP_SLOTS, self.group(number)))
    }

    /// `None` for an index that was never given out, such as one of another ring.
    pub(crate) fn get(&self, index: usize) -> Option<&ReaderSlot> {
        let Some(after) = index.checked_sub(self.first.len()) else { return Some(self.at(index)) };
        let is_there = after / GROUP_SLOTS < self.taken.groups.load(Ordering::Acquire) as usize;
        is_there.then(|| self.at(index))
    }

    /// A slot that is known to exist.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> &ReaderSlot {
        match self.first.get(index) {
            Some(slot) => slot,
            None => self.at_in_group(index),
        }
    }

    #[cold]
    #[inline(never)]
    fn at_in_group(&self, index: usize) -> &ReaderSlot {
        let after = index - self.first.len();
        &self.group(after / GROUP_SLOTS).slots[after % GROUP_SLOTS]
    }

    /// Every taken slot with its cursor. Load the gate first: all readers that had joined by then are among
    /// them.
    #[inline]
    pub(crate) fn taken(&self) -> impl Iterator<Item = (usize, &ReaderSlot, Cursor)> {
        let groups = self.taken.groups.load(Ordering::Acquire) as usize;
        let mut taken = self.taken.bits.load(Ordering::Acquire);
        let (mut start, mut next) = (0, 0);
        std::iter::from_fn(move || {
            while taken == 0 {
                if next == groups {
                    return None;
                }
                start = self.first.len() + next * GROUP_SLOTS;
                taken = self.group(next).taken.load(Ordering::Acquire);
                next += 1;
            }
            let index = start + taken.trailing_zeros() as usize;
            taken &= taken - 1;
            let slot = self.at(index);
            // Acquire: what the reader read before it moved here comes before the reuse of that memory.
            Some((index, slot, Cursor(slot.cursor.load(Ordering::Acquire))))
        })
    }
}
