//! The reading side: hold, read in place, release.

use crate::ring::{ReaderId, Shared};
use std::{
    cell::Cell,
    marker::PhantomData,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll},
};
use thiserror::Error;

/// A cursor on a ring. `Send`, not `Sync`, not `Clone`: one thread at a time. Dropping it leaves the ring.
pub struct Reader {
    _shared: Arc<Shared>,
    _one_thread: PhantomData<Cell<()>>,
}

/// The ring detached this reader; it will never see another record. Subscribe again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ring detached this reader; subscribe again")]
pub struct Detached;

/// Why there will never be another record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ended {
    /// The ring is closed and drained.
    #[error("the ring is closed and drained")]
    Closed,
    /// The ring detached this reader.
    #[error("the ring detached this reader; subscribe again")]
    Detached,
}

/// What stands at one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot<'a> {
    /// A record.
    Record(&'a [u8]),
    /// The writer gave this record up. Skip it.
    Abandoned,
    /// Not published yet.
    NotYet,
    /// Before the start of this hold.
    Passed,
}

impl Reader {
    /// This reader's name.
    #[must_use]
    pub fn id(&self) -> ReaderId {
        todo!()
    }
    /// Pins the cursor so that records from `Hold::start` on can be read in place. One atomic step for any number of
    /// records. Works on an empty ring too; look at [`Reader::is_ready`] first when polling.
    pub fn hold(&mut self) -> Result<Hold<'_>, Detached> {
        todo!()
    }
    /// The next record, if it is there. Abandoned ones are skipped. Dropping the record releases it.
    pub fn try_recv(&mut self) -> Result<Option<Record<'_>>, Ended> {
        todo!()
    }
    /// Waits for the next record. Cancel-safe.
    pub async fn recv(&mut self) -> Result<Record<'_>, Ended> {
        std::future::ready(()).await;
        todo!()
    }
    /// Ready when there is something to see: a published record, a gap, the end or a detachment. Else the waker is
    /// kept and woken once.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        todo!()
    }
    /// As `poll_ready`, without a waker. One or two loads.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        todo!()
    }
    /// Sequence of the next record to read.
    #[must_use]
    pub fn position(&self) -> u64 {
        todo!()
    }
    /// Records between the position and the tail.
    #[must_use]
    pub fn lag(&self) -> u64 {
        todo!()
    }
    /// Records that eviction took from this reader and that it noticed, in total.
    #[must_use]
    pub fn lost(&self) -> u64 {
        todo!()
    }
    /// Whether the ring is closed and everything was read.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        todo!()
    }
}

/// A pinned cursor. Nothing from `start` on is overwritten while it lives. Dropping it moves the cursor to where
/// `release_to` said (default: stays).
pub struct Hold<'a> {
    _reader: &'a mut Reader,
}

impl Hold<'_> {
    /// Sequence of the oldest record that can be read.
    #[must_use]
    pub fn start(&self) -> u64 {
        todo!()
    }
    /// Records lost (evicted) between the previous hold and this one.
    #[must_use]
    pub fn lost_before(&self) -> u64 {
        todo!()
    }
    /// What stands at `seq`, from `start` to any distance.
    #[must_use]
    pub fn get(&self, seq: u64) -> Slot<'_> {
        let _ = seq;
        todo!()
    }
    /// End of the published run that begins at `start`, looked for up to `max` records far.
    pub fn published_to(&mut self, max: usize) -> u64 {
        let _ = max;
        todo!()
    }
    /// Says where the cursor goes when the hold ends: `seq`, limited to `start` below and to the end of the published
    /// run above. Returns the position that was taken.
    pub fn release_to(&mut self, seq: u64) -> u64 {
        let _ = seq;
        todo!()
    }
    /// Gives the room up to the released position back now, and stays pinned.
    pub fn advance(&mut self) {
        todo!()
    }
}

/// One record, read in place. Dropping it releases it.
pub struct Record<'a> {
    _hold: Hold<'a>,
}

impl Record<'_> {
    /// Its sequence.
    #[must_use]
    pub fn seq(&self) -> u64 {
        todo!()
    }
    /// Records lost (evicted) between the previous record and this one.
    #[must_use]
    pub fn lost_before(&self) -> u64 {
        todo!()
    }
}
impl Deref for Record<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        todo!()
    }
}
