//! The ring as a whole: what it is made of, and the handle that builds, closes and inspects it.

use crate::alone::Alone;
use crate::arena::Arena;
use crate::bugs::bug;
use crate::config::{RingConfig, RingConfigError};
use crate::counters::Counters;
use crate::cursor::Cells;
use crate::fence::Fences;
use crate::gate::Look;
use crate::reader::Reader;
use crate::room::RoomQueue;
use crate::signals::Signals;
use crate::slots::Slots;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::units::Units;
use crate::word::{Gate, Kind, Tail};
use crate::writer::Writer;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use thiserror::Error;

/// What all handles of one ring share. Fields above `alone` never change.
pub(crate) struct Shared {
    pub(crate) config: RingConfig,
    pub(crate) units: Units,
    pub(crate) fences: Fences,
    pub(crate) slots: Slots,
    pub(crate) arena: Arena,
    pub(crate) cells: Cells,
    pub(crate) alone: Alone,
    pub(crate) gate: CachePadded<AtomicU64>,
    pub(crate) signals: CachePadded<Signals>,
    pub(crate) room: CachePadded<RoomQueue>,
    pub(crate) counters: CachePadded<Counters>,
}

impl Shared {
    pub(crate) fn new(config: RingConfig, fences: Fences) -> Result<Self, RingConfigError> {
        config.check()?;
        let memory = RingConfigError::Memory(config.memory_bytes());
        let mut units = Units::new(config.capacity_units());
        if bug("wrap-anywhere") {
            units.modulus = 1 << crate::units::POSITION_BITS;
        }
        let stores = fences.light_is_free() || cfg!(any(miri, shuttle));
        Ok(Self {
            units,
            fences,
            slots: Slots::new(config.datums).ok_or(memory)?,
            arena: Arena::new(&config, units).ok_or(memory)?,
            cells: Cells::new(config.readers),
            // Loom's models have it where they ask for it; see `Ring::with_stores`. The others would only grow.
            alone: Alone::new(stores),
            gate: CachePadded::new(AtomicU64::new(Gate(0).0)),
            signals: CachePadded::new(Signals::new(stores)),
            room: CachePadded::new(RoomQueue::new()),
            counters: CachePadded::new(Counters::default()),
            config,
        })
    }

    /// The word of the tail: a `Tail`.
    #[inline(always)]
    pub(crate) fn tail(&self) -> &AtomicU64 {
        self.alone.tail()
    }

    pub(crate) fn close(&self) {
        self.alone.share(self.fences);
        // From here on everybody swaps, and every swap fails. Readers learn it from the copy, which is set later.
        if Tail(self.tail().fetch_or(Tail::CLOSED, Ordering::AcqRel)).is_closed() {
            return;
        }
        self.signals.closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.wake_readers();
        if !bug("close-forgets-writers") {
            self.wake_all_room();
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.signals.closed.load(Ordering::Acquire)
    }
}

/// A fanout ring. Cloning clones the handle; the memory goes with the last handle, writer and reader.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

/// All reader places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all {limit} reader places of the ring are taken; drop a reader or raise `readers`")]
pub struct NoReaderSlot {
    /// The configured number of readers.
    pub limit: usize,
}

/// Names one reader of one ring. It never names a later reader in the same place (until 2^32 readers had that place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What can be seen of one reader from outside. A snapshot; every field may be stale by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderStatus {
    /// Which reader.
    pub id: ReaderId,
    /// Sequence of the oldest record that it still holds in the ring.
    pub position: u64,
    /// Records between its position and the tail.
    pub lag: u64,
    /// It reads in place right now, so it can be neither moved nor detached.
    pub pinned: bool,
    /// It lags and nobody lags more: a full ring waits for this reader.
    pub blocks: bool,
    /// Records that eviction took from it, in total.
    pub lost: u64,
}

/// Why a reader was not detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DetachError {
    /// It reads in place right now. Try again later.
    #[error("the reader is reading in place; try again")]
    Pinned,
    /// It has left, or was detached before.
    #[error("the reader has left already")]
    Gone,
}

/// A position in datums and in bytes. Bytes count [`RingConfig::cost`] of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Sequence of the next record.
    pub seq: u64,
    position: u64,
    modulus: u64,
}

impl Mark {
    /// Bytes from `earlier` (of the same ring) to here. Right if less than 2 TiB lie between them.
    #[must_use]
    pub fn bytes_since(&self, earlier: &Mark) -> u64 {
        let distance = self.position.wrapping_sub(earlier.position);
        let units =
            if self.position >= earlier.position { distance } else { distance.wrapping_add(self.modulus) };
        units * crate::limits::UNIT_BYTES as u64
    }
}

/// Counters of one ring. All rise only, and none costs a shared write on the way of a datum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Records claimed so far (= the tail), abandoned ones included.
    pub accepted: u64,
    /// Records claimed and dropped without commit.
    pub abandoned: u64,
    /// Records that eviction took, summed over readers.
    pub evicted: u64,
    /// Evictions refused because a reader was reading the oldest record in place.
    pub blocked_by_pin: u64,
    /// Evictions refused because the oldest record was claimed and not yet published.
    pub blocked_by_claim: u64,
    /// Sleeping readers woken.
    pub reader_wakes: u64,
    /// Waiting writers woken.
    pub writer_wakes: u64,
}

impl Ring {
    /// Builds a ring. Allocates all memory that the ring will ever use, except the queue of waiting writers.
    pub fn new(config: RingConfig) -> Result<Ring, RingConfigError> {
        Ok(Self::of(Arc::new(Shared::new(config, Fences::detect())?)))
    }

    /// As [`Ring::new`], where a model is to see that the only writer stores its tail, and readers pin with a store.
    #[cfg(loom)]
    pub fn with_stores(config: RingConfig) -> Result<Ring, RingConfigError> {
        let mut shared = Shared::new(config, Fences::detect())?;
        shared.alone = Alone::new(true);
        shared.signals = CachePadded::new(Signals::new(true));
        Ok(Self::of(Arc::new(shared)))
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The same for all handles of one ring, and different for any two rings that exist at one time.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    /// A new writing handle.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer { shared: Arc::clone(&self.shared) }
    }

    /// A new reader at the tail ("latest"): it sees what is claimed after this call. Lock-free. Works on a closed
    /// ring, where the reader ends at once.
    pub fn subscribe(&self) -> Result<Reader, NoReaderSlot> {
        Reader::join(&self.shared).ok_or(NoReaderSlot { limit: self.shared.config.readers })
    }

    /// No claim succeeds after this. Readers drain what was claimed before, then see the end; waiting writers are
    /// refused. Idempotent.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the ring is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// The sizes that it was built with.
    #[must_use]
    pub fn config(&self) -> &RingConfig {
        &self.shared.config
    }

    /// Sequence of the next record to be claimed = records claimed so far.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.shared.span().1
    }

    /// Oldest sequence that some reader still needs; without readers, the end of the published run. Looks at all
    /// cursors.
    #[must_use]
    pub fn gate(&self) -> u64 {
        self.gate_mark().seq
    }

    /// As [`Ring::gate`], with the byte position: what an inbox's credit is computed from.
    #[must_use]
    pub fn gate_mark(&self) -> Mark {
        self.shared.advance_gate(Gate(self.shared.gate.load(Ordering::Acquire)), Look::Once);
        let (base, _) = self.shared.span();
        Mark { seq: base.seq, position: base.position, modulus: self.shared.units.modulus }
    }

    /// Readers at present, without detached ones.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.shared.signals.live.load(Ordering::Acquire) as usize
    }

    /// Writers that wait for room at present; may be stale.
    #[must_use]
    pub fn waiting_writers(&self) -> usize {
        self.shared.signals.waiters.load(Ordering::Relaxed) as usize
    }

    /// Records between gate and tail: what the ring cannot yet forget.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.advance_gate(Gate(self.shared.gate.load(Ordering::Acquire)), Look::Once);
        let (base, tail) = self.shared.span();
        (tail - base.seq) as usize
    }

    /// Whether nobody needs any record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Detaches a reader: it no longer holds the ring back, is woken, and its next call answers `Detached`. Never
    /// while it reads in place.
    pub fn detach(&self, id: ReaderId) -> Result<(), DetachError> {
        self.shared.detach(id)
    }

    /// Calls `each` for every reader.
    pub fn each_reader(&self, mut each: impl FnMut(ReaderStatus)) {
        let (_, tail) = self.shared.span();
        let joined = |kind: Kind| matches!(kind, Kind::Idle | Kind::Held);
        let taken = || self.shared.cells.taken().filter(|(_, _, cursor)| joined(cursor.kind()));
        let slowest = taken().map(|(_, _, cursor)| cursor.seq()).min();
        for (index, cell, cursor) in taken() {
            let generation = cell.generation.load(Ordering::Acquire) as u32;
            let position = cursor.seq();
            each(ReaderStatus {
                id: ReaderId { index: index as u32, generation },
                position,
                lag: tail.saturating_sub(position),
                pinned: cell.is_pinned(cursor),
                blocks: slowest.is_some_and(|slowest| position <= slowest) && position < tail,
                lost: cell.lost.load(Ordering::Relaxed),
            });
        }
    }

    /// The readers that a full ring waits for: those that lag, and that nobody lags behind.
    #[must_use]
    pub fn blockers(&self) -> Vec<ReaderId> {
        let mut ids = Vec::new();
        self.each_reader(|reader| {
            if reader.blocks {
                ids.push(reader.id);
            }
        });
        ids
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        let counters = &self.shared.counters;
        RingStats {
            accepted: self.tail(),
            abandoned: counters.get(&counters.abandoned),
            evicted: counters.get(&counters.evicted),
            blocked_by_pin: counters.get(&counters.blocked_by_pin),
            blocked_by_claim: counters.get(&counters.blocked_by_claim),
            reader_wakes: counters.get(&counters.reader_wakes),
            writer_wakes: counters.get(&counters.writer_wakes),
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("config", self.config()).finish_non_exhaustive()
    }
}
