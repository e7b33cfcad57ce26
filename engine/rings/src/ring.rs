//! The ring: the handle that builds, closes and inspects it.

use crate::capacity::GatePosition;
use crate::config::RingConfig;
use crate::error::{DetachError, NoReaderSlot, RingConfigError};
use crate::fence::Fences;
use crate::gate::Retry;
use crate::limits::UNIT_BYTES;
use crate::reader::Reader;
use crate::reader_slots::ReaderId;
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::word::CursorKind;
use crate::writer::Writer;
use std::sync::Arc;

/// A fanout ring. Cloning clones the handle; the memory is freed with the last handle, writer and reader.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<RingShared>,
}

/// One reader as other threads see it. A snapshot: every field may be stale by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderStatus {
    /// Which reader.
    pub id: ReaderId,
    /// Sequence of its cursor: the oldest record that it keeps in the ring.
    pub position: u64,
    /// Records between its position and the tail.
    pub lag: u64,
    /// It reads in place right now, so it can be neither moved nor detached.
    pub pinned: bool,
    /// It lags, and no reader lags more: a full ring waits for this reader.
    pub blocks: bool,
    /// Records that eviction took from it, in total.
    pub lost: u64,
}

/// A position in datums and in bytes. Bytes count [`RingConfig::cost`] of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Sequence of the next record.
    pub seq: u64,
    /// Position in units, below `modulus`.
    position: u64,
    /// Where the ring's positions wrap.
    modulus: u64,
}

impl Mark {
    /// Bytes from `earlier` (a mark of the same ring) to here. Correct if fewer than 2 TiB lie between them.
    #[must_use]
    pub fn bytes_since(&self, earlier: &Mark) -> u64 {
        let distance = self.position.wrapping_sub(earlier.position);
        let units =
            if self.position >= earlier.position { distance } else { distance.wrapping_add(self.modulus) };
        units * UNIT_BYTES as u64
    }
}

/// Counters of one ring since it was built. They only rise; none costs a shared write for each datum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Records claimed (= the tail), abandoned ones included.
    pub accepted: u64,
    /// Records claimed and dropped without commit.
    pub abandoned: u64,
    /// Records that eviction took from readers, summed over readers.
    pub evicted: u64,
    /// Evictions refused because a reader read the oldest record in place.
    pub blocked_by_pin: u64,
    /// Evictions refused because the oldest record was claimed and not yet published.
    pub blocked_by_claim: u64,
    /// Sleeping readers woken.
    pub reader_wakes: u64,
    /// Waiting writers woken.
    pub writer_wakes: u64,
}

impl Ring {
    /// Builds a ring. Allocates all its memory here, except for the queue of waiting writers and for readers
    /// beyond the 63rd, and writes to each page of it once, so that no record waits for one.
    pub fn new(config: RingConfig) -> Result<Ring, RingConfigError> {
        let mut shared = RingShared::new(config, Fences::detect())?;
        shared.arena.touch();
        shared.descriptors.touch();
        Ok(Self::of(Arc::new(shared)))
    }

    /// As [`Ring::new`], but the memory of the records is not written here. A system that gives memory by
    /// pages gives it as records first reach it, so that a ring which is never filled costs little of it.
    pub fn new_untouched(config: RingConfig) -> Result<Ring, RingConfigError> {
        Ok(Self::of(Arc::new(RingShared::new(config, Fences::detect())?)))
    }

    /// As [`Ring::new`], for models of the biased tail and of pins by store.
    #[cfg(loom)]
    pub fn with_stores(config: RingConfig) -> Result<Ring, RingConfigError> {
        Ok(Self::of(Arc::new(RingShared::with_stores(config, Fences::detect(), true)?)))
    }

    /// As [`Ring::new`], for models of readers in groups: all but the first reader are.
    #[cfg(loom)]
    pub fn with_groups(config: RingConfig) -> Result<Ring, RingConfigError> {
        Ok(Self::of(Arc::new(RingShared::with_parts(config, Fences::detect(), false, 1)?)))
    }

    pub(crate) fn of(shared: Arc<RingShared>) -> Self {
        Self { shared }
    }

    /// The same for all handles of one ring, different for any two rings that exist at one time.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    /// A new writing handle.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer { shared: Arc::clone(&self.shared) }
    }

    /// A new reader at the tail: it sees what is claimed after this call. Lock-free. In a closed ring it gets
    /// [`RecvError::Closed`](crate::RecvError::Closed) at once.
    pub fn subscribe(&self) -> Result<Reader, NoReaderSlot> {
        Reader::join(&self.shared).ok_or(NoReaderSlot { limit: self.shared.config.readers })
    }

    /// No claim succeeds after this. Readers drain what was claimed before, then see the end; writers that
    /// wait get [`ClaimError::Closed`](crate::ClaimError::Closed). Idempotent.
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

    /// Oldest sequence that a reader still needs; without readers, the end of the published run. Scans the
    /// cursors.
    #[must_use]
    pub fn gate(&self) -> u64 {
        self.gate_mark().seq
    }

    /// As [`Ring::gate`], with the byte position. An inbox computes its credit from it.
    #[must_use]
    pub fn gate_mark(&self) -> Mark {
        let (gate, _) = self.fresh_span();
        Mark { seq: gate.seq, position: gate.position, modulus: self.shared.units.modulus }
    }

    /// Free room in datums and in bytes, after moving the gate as far as the cursors allow. A claim of one
    /// record fits if neither is less than it costs, unless other writers are faster or wait already.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        let (gate, _) = self.fresh_span();
        let used = self.shared.capacity().usage(gate, self.shared.load_tail(Ordering::Acquire));
        let config = &self.shared.config;
        let bytes = (config.capacity_units().saturating_sub(used.units)) as usize * UNIT_BYTES;
        (config.datums.saturating_sub(used.datums as usize), bytes)
    }

    /// Gate and tail, after moving the gate as far as the cursors allow.
    fn fresh_span(&self) -> (GatePosition, u64) {
        self.shared.advance_gate(self.shared.load_gate(), Retry::No);
        self.shared.span()
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

    /// Records between gate and tail: those that the ring must keep.
    #[must_use]
    pub fn len(&self) -> usize {
        let (gate, tail) = self.fresh_span();
        (tail - gate.seq) as usize
    }

    /// Whether the ring need not keep any record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Detaches a reader: its cursor no longer holds the gate, it is woken, and its next call returns
    /// [`Detached`](crate::Detached). Returns the sequence of the next record that it would have read; it has
    /// passed all before, and reads none from there on. Refused while it reads in place.
    pub fn detach(&self, id: ReaderId) -> Result<u64, DetachError> {
        self.shared.detach(id)
    }

    /// Calls `each` for every reader.
    pub fn each_reader(&self, mut each: impl FnMut(ReaderStatus)) {
        let (_, tail) = self.shared.span();
        let joined = |kind: CursorKind| matches!(kind, CursorKind::Joined | CursorKind::Pinned);
        let taken = || self.shared.readers.taken().filter(|(_, _, cursor)| joined(cursor.kind()));
        let slowest = taken().map(|(_, _, cursor)| cursor.seq()).min();
        for (index, slot, cursor) in taken() {
            let generation = slot.generation.load(Ordering::Acquire) as u32;
            let position = cursor.seq();
            each(ReaderStatus {
                id: ReaderId { index: index as u32, generation },
                position,
                lag: tail.saturating_sub(position),
                pinned: slot.is_pinned(cursor),
                blocks: slowest.is_some_and(|slowest| position <= slowest) && position < tail,
                lost: slot.lost.load(Ordering::Relaxed),
            });
        }
    }

    /// The readers that a full ring waits for: those that lag most.
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

impl Writer {
    /// The ring.
    #[must_use]
    pub fn ring(&self) -> Ring {
        Ring::of(Arc::clone(&self.shared))
    }
}
