//! The writing handle.

use crate::bugs::bug;
use crate::claim::{BatchClaim, RecordClaim};
use crate::gate::Look;
use crate::limits::MAX_ROOM_WAITERS;
use crate::ring::{ReaderId, Ring, Shared};
use crate::sync::Ordering;
use crate::units::Units;
use std::sync::Arc;
use thiserror::Error;

/// A writing handle. Clone it for each thread, or share it. Dropping the last one does not close the ring.
///
/// Claims know threads apart by their thread-local storage. Do not claim or close in a signal handler, in a coroutine
/// with a stack of its own that moves between threads, or in the child of a `fork`.
#[derive(Clone)]
pub struct Writer {
    pub(crate) shared: Arc<Shared>,
}

/// Why there is no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// No room now, or others wait for room before us. Wait with [`Writer::claim`], evict, or try again later.
    #[error("the ring is full; wait for room, evict, or try again later")]
    Full,
    /// The ring is closed for ever.
    #[error("the ring is closed")]
    Closed,
    /// The record can never fit. Split it, or build the ring with a larger `max_record`.
    #[error("a record of {len} bytes is longer than the ring's limit of {limit}; split it")]
    TooLarge {
        /// What was asked for, in bytes.
        len: usize,
        /// The ring's `max_record`.
        limit: usize,
    },
    /// Too many writers wait for room already.
    #[error("{MAX_ROOM_WAITERS} writers wait for room already; send from fewer tasks")]
    TooManyWaiters,
}

impl Writer {
    /// Claims room for one record of `len` bytes. Lock-free and never waits, except once in the life of a ring: the
    /// first claim of a second thread waits until the first one is not in the middle of a claim. `Full` also while other
    /// writers queue for room: newcomers do not overtake them.
    ///
    /// When the room that was known is used up and readers have given back only a little since, this pauses for some
    /// hundred nanoseconds, once, and looks again: the next claims have more then, and readers are disturbed less. See
    /// [`Writer::try_claim_at_once`].
    #[inline(always)]
    pub fn try_claim(&self, len: usize) -> Result<RecordClaim<'_>, ClaimError> {
        self.claim_looking(len, Look::Gather)
    }

    /// As [`Writer::try_claim`], without that pause: for who holds a lock that the readers want.
    #[inline]
    pub fn try_claim_at_once(&self, len: usize) -> Result<RecordClaim<'_>, ClaimError> {
        self.claim_looking(len, Look::Once)
    }

    #[inline(always)]
    fn claim_looking(&self, len: usize, look: Look) -> Result<RecordClaim<'_>, ClaimError> {
        self.shared.check_len(len)?;
        self.no_overtaking()?;
        let reserved = self.shared.reserve(1, Units::of(len), look)?;
        Ok(RecordClaim::new(&self.shared, reserved, len))
    }

    /// Copies `bytes` in as one record and gives its sequence.
    #[inline]
    pub fn try_push(&self, bytes: &[u8]) -> Result<u64, ClaimError> {
        let mut claim = self.try_claim(bytes.len())?;
        claim.copy_from_slice(bytes);
        Ok(claim.commit())
    }

    /// Claims up to `n` records of `len_each` bytes in one atomic step: as many as fit, at least one. `n` = 0 counts
    /// as 1.
    #[inline]
    pub fn try_claim_many(&self, len_each: usize, n: usize) -> Result<BatchClaim<'_>, ClaimError> {
        self.shared.check_len(len_each)?;
        self.no_overtaking()?;
        let count = n.clamp(1, self.shared.config.datums) as u64;
        let reserved = self.shared.reserve(count, Units::of(len_each), Look::Gather)?;
        Ok(BatchClaim::new(&self.shared, reserved, len_each))
    }

    /// Makes room for a record of `len` bytes by moving lagging cursors over the oldest published records, as few as
    /// possible. `on_lost` is told how many records each moved reader lost. `Full`: the oldest record is read in place
    /// right now, or is claimed and not yet published; nobody waits for either.
    ///
    /// `Ok` says that there was room; another writer may have taken it. See [`Writer::claim_evicting`].
    pub fn evict(&self, len: usize, mut on_lost: impl FnMut(ReaderId, u64)) -> Result<(), ClaimError> {
        self.shared.check_len(len)?;
        self.shared.evict(Units::of(len), &mut on_lost)
    }

    /// Claims room, evicting as [`Writer::evict`] does if there is none.
    #[inline]
    pub fn claim_evicting(
        &self,
        len: usize,
        mut on_lost: impl FnMut(ReaderId, u64),
    ) -> Result<RecordClaim<'_>, ClaimError> {
        self.shared.check_len(len)?;
        let units = Units::of(len);
        loop {
            match self.shared.reserve(1, units, Look::Once) {
                Ok(reserved) => return Ok(RecordClaim::new(&self.shared, reserved, len)),
                // Each turn of this loop means that another writer took the room that we made: somebody progresses.
                Err(ClaimError::Full) => self.shared.evict(units, &mut on_lost)?,
                Err(refused) => return Err(refused),
            }
        }
    }

    /// No claim succeeds after this. See [`Ring::close`].
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the ring is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> Ring {
        Ring::of(Arc::clone(&self.shared))
    }

    #[inline(always)]
    fn no_overtaking(&self) -> Result<(), ClaimError> {
        if self.shared.signals.waiters.load(Ordering::Relaxed) != 0 && !bug("newcomers-overtake") {
            return Err(self.behind_waiters());
        }
        Ok(())
    }

    #[cold]
    fn behind_waiters(&self) -> ClaimError {
        if self.is_closed() { ClaimError::Closed } else { ClaimError::Full }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
