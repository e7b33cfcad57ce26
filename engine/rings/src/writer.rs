//! The writing handle.

use crate::bugs::mutate;
use crate::claim::{BatchClaim, RecordClaim};
use crate::error::ClaimError;
use crate::gate::Retry;
use crate::reader_slots::ReaderId;
use crate::shared::RingShared;
use crate::sync::Ordering;
use crate::units::Units;
use std::sync::Arc;

/// A writing handle. Clone it for each thread, or share it. Dropping the last one does not close the ring.
///
/// Claims identify threads by their thread-local storage. Do not claim or close in a signal handler, in a
/// coroutine with a stack of its own that moves between threads, or in the child of a `fork`.
#[derive(Clone)]
pub struct Writer {
    pub(crate) shared: Arc<RingShared>,
}

impl Writer {
    /// Claims room for one record of `len` bytes. Lock-free; waits at most once per ring, when the first
    /// claim of a second thread waits until the first thread is not in the middle of a claim.
    /// [`ClaimError::Full`] also while other writers wait for room: newcomers do not overtake them.
    ///
    /// If the known room is used up and readers have given back only a little since, this pauses once, for
    /// some hundred nanoseconds, and scans the readers again: later claims then have more room, and readers
    /// are disturbed less.
    #[inline(always)]
    pub fn try_claim(&self, len: usize) -> Result<RecordClaim<'_>, ClaimError> {
        self.shared.check_len(len)?;
        self.no_overtaking()?;
        let reserved = self.shared.reserve(1, Units::of(len), Retry::OnceAfterPause)?;
        Ok(RecordClaim::new(&self.shared, reserved, len))
    }

    /// Publishes a copy of `bytes` as one record and gives its sequence.
    #[inline]
    pub fn try_push(&self, bytes: &[u8]) -> Result<u64, ClaimError> {
        let mut claim = self.try_claim(bytes.len())?;
        claim.copy_from_slice(bytes);
        Ok(claim.commit())
    }

    /// Claims up to `n` records of `len_each` bytes in one atomic step: as many as fit, at least one. `n` = 0
    /// counts as 1.
    #[inline]
    pub fn try_claim_many(&self, len_each: usize, n: usize) -> Result<BatchClaim<'_>, ClaimError> {
        self.shared.check_len(len_each)?;
        self.no_overtaking()?;
        let count = n.clamp(1, self.shared.config.datums) as u64;
        let reserved = self.shared.reserve(count, Units::of(len_each), Retry::OnceAfterPause)?;
        Ok(BatchClaim::new(&self.shared, reserved, len_each))
    }

    /// Makes room for a record of `len` bytes by moving lagging cursors over the oldest published records, as
    /// few as possible. `on_lost` gets each moved reader and how many records it lost. [`ClaimError::Full`]:
    /// the oldest record is read in place right now, or is claimed and not yet published; this does not wait
    /// for either.
    ///
    /// `Ok` means that there was room; another writer may have taken it. See [`Writer::claim_evicting`].
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
            match self.shared.reserve(1, units, Retry::No) {
                Ok(reserved) => return Ok(RecordClaim::new(&self.shared, reserved, len)),
                // Each repetition means that another writer took the room that we made: the ring progresses.
                Err(ClaimError::Full) => self.shared.evict(units, &mut on_lost)?,
                Err(refused) => return Err(refused),
            }
        }
    }

    /// No claim succeeds after this. As `Ring::close`.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the ring is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    #[inline(always)]
    fn no_overtaking(&self) -> Result<(), ClaimError> {
        let wait = self.shared.signals.waiters.load(Ordering::Relaxed) != 0;
        if mutate!(wait, "newcomers-overtake" => false) {
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
