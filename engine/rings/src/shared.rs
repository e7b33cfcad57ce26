//! What all handles of one ring share, and the wake-ups that combine its parts.

use crate::arena::{ALIGN_SLACK, Arena};
use crate::bugs::mutate;
use crate::capacity::Capacity;
use crate::config::RingConfig;
use crate::counters::RingCounters;
use crate::descriptors::{DESCRIPTOR_BYTES, Descriptors};
use crate::error::RingConfigError;
use crate::fence::Fences;
use crate::limits::MAX_ROOM_WAITERS;
use crate::pin::PinMode;
use crate::reader_slots::{FIRST_SLOTS, ReaderSlots};
use crate::signals::{Signals, wake};
use crate::sync::{AtomicU64, Lock, Ordering, fence};
use crate::tail::BiasedTail;
use crate::units::{POSITION_BITS, Units};
use crate::wait_queue::WaitQueue;
use crate::word::{Gate, Tail};
use crossbeam_utils::CachePadded;
use std::task::Waker;

const _: () = assert!(MAX_ROOM_WAITERS == WaitQueue::MAX_WAITERS);

/// What all handles of one ring share. `config`, `units` and `fences` never change.
pub(crate) struct RingShared {
    pub(crate) config: RingConfig,
    pub(crate) units: Units,
    pub(crate) fences: Fences,
    pub(crate) descriptors: Descriptors,
    pub(crate) arena: Arena,
    pub(crate) readers: ReaderSlots,
    pub(crate) tail: BiasedTail,
    /// A `Gate`: at or before every joined reader's cursor, and at or before the tail.
    pub(crate) gate: CachePadded<AtomicU64>,
    pub(crate) signals: CachePadded<Signals>,
    /// Writers that wait for room. Locked by them, and by readers that see `signals.waiters` set.
    pub(crate) room_queue: CachePadded<Lock<WaitQueue>>,
    pub(crate) counters: CachePadded<RingCounters>,
}

/// What `Arc` allocates: its two counts, then the value where its alignment allows.
#[repr(C)]
struct ArcInner<T> {
    counts: [usize; 2],
    value: T,
}

impl RingConfig {
    /// Memory that a ring of this size allocates when it is made, in bytes; 0 for sizes that `Ring::new`
    /// refuses. Beyond 63 readers it allocates for 64 more whenever these are too few.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        if self.check().is_err() {
            return 0;
        }
        let (blocks, units) = Arena::sizes(self);
        let descriptors = Descriptors::count(self.datums) * DESCRIPTOR_BYTES;
        let readers = ReaderSlots::memory_bytes(self.readers, FIRST_SLOTS);
        blocks + units + ALIGN_SLACK + descriptors + readers + size_of::<ArcInner<RingShared>>()
    }
}

impl RingShared {
    pub(crate) fn new(config: RingConfig, fences: Fences) -> Result<Self, RingConfigError> {
        // Loom's models ask for stores where they want them; see `Ring::with_stores`. The others would only
        // grow.
        Self::with_stores(config, fences, fences.light_is_free() || cfg!(any(miri, shuttle)))
    }

    /// `stores`: whether the tail is biased and readers pin by a store.
    pub(crate) fn with_stores(
        config: RingConfig,
        fences: Fences,
        stores: bool,
    ) -> Result<Self, RingConfigError> {
        Self::with_parts(config, fences, stores, FIRST_SLOTS)
    }

    /// `first`: how many readers have slots from the start, at most [`FIRST_SLOTS`].
    pub(crate) fn with_parts(
        config: RingConfig,
        fences: Fences,
        stores: bool,
        first: usize,
    ) -> Result<Self, RingConfigError> {
        config.check()?;
        let memory = RingConfigError::Memory(config.memory_bytes());
        let mut units = Units::new(config.capacity_units());
        units.modulus = mutate!(units.modulus, "wrap-anywhere" => 1 << POSITION_BITS);
        Ok(Self {
            units,
            fences,
            descriptors: Descriptors::new(config.datums).ok_or(memory)?,
            arena: Arena::new(&config, units).ok_or(memory)?,
            readers: ReaderSlots::new(config.readers, first),
            tail: BiasedTail::new(stores),
            gate: CachePadded::new(AtomicU64::new(Gate(0).0)),
            signals: CachePadded::new(Signals::new(if stores { PinMode::Store } else { PinMode::Swap })),
            room_queue: CachePadded::new(Lock::new(WaitQueue::new())),
            counters: CachePadded::new(RingCounters::default()),
            config,
        })
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity { datums: self.config.datums as u64, units: self.units }
    }

    #[inline(always)]
    pub(crate) fn load_tail(&self, order: Ordering) -> Tail {
        Tail(self.tail.word().load(order))
    }

    #[inline(always)]
    pub(crate) fn load_gate(&self) -> Gate {
        Gate(self.gate.load(Ordering::Acquire))
    }

    pub(crate) fn close(&self) {
        self.tail.revoke(self.fences);
        // From here on all claims swap the tail, and every swap fails. Readers see the copy of the flag, set
        // later.
        if Tail(self.tail.word().fetch_or(Tail::CLOSED, Ordering::AcqRel)).is_closed() {
            return;
        }
        self.signals.closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.wake_readers();
        mutate!(self.wake_all_writers(), "close-forgets-writers" => ());
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.signals.closed.load(Ordering::Acquire)
    }

    /// After publishing: wakes the readers that sleep, or a writer if there are no readers.
    ///
    /// Dekker pair: here stamp, light fence, load of the flags; there flag, heavy fence, load of the stamp.
    #[inline(always)]
    pub(crate) fn notify_published(&self) {
        mutate!(self.fences.light(), "publish-unfenced" => ());
        if self.signals.any_sleeper() {
            self.wake_after_publish();
        }
    }

    #[cold]
    fn wake_after_publish(&self) {
        self.wake_readers();
        // Readers that read on will free the room themselves. Without readers, publishing frees it.
        let waits = self.signals.waiters.load(Ordering::Acquire) != 0
            && self.signals.live.load(Ordering::Acquire) == 0;
        if mutate!(waits, "publish-forgets-room" => false) {
            self.wake_first_writer();
        }
    }

    /// After a cursor moved forward: wakes the first writer that waits for room.
    ///
    /// Dekker pair: here cursor, light fence, load of `waiters`; there `waiters`, heavy fence, scan of the
    /// cursors.
    #[inline(always)]
    pub(crate) fn notify_moved(&self) {
        mutate!(self.fences.light(), "move-unfenced" => ());
        if self.signals.waiters.load(Ordering::Relaxed) != 0 {
            self.wake_first_writer();
        }
    }

    pub(crate) fn wake_readers(&self) {
        self.signals.wake_readers(&self.readers, &self.counters);
    }

    /// Wakes the first writer that waits for room, unless it is awake.
    #[cold]
    fn wake_first_writer(&self) {
        let waker = self.room_queue.lock().wake_first();
        self.wake_writer(waker);
    }

    /// Wakes all writers that wait for room: each will find the ring closed.
    fn wake_all_writers(&self) {
        // All at once, because those that wake leave the queue meanwhile. No waker runs under the lock.
        let wakers = self.room_queue.lock().wake_all();
        wakers.into_iter().for_each(|waker| self.wake_writer(Some(waker)));
    }

    pub(crate) fn wake_writer(&self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.counters.add(&self.counters.writer_wakes, 1);
            wake(waker);
        }
    }
}
