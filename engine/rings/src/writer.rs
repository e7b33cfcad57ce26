//! The writing side: claim, fill, publish.

use crate::{
    config::MAX_ROOM_WAITERS,
    ring::{ReaderId, Ring, Shared},
};
use std::{
    future::Future,
    marker::PhantomData,
    ops::{Deref, DerefMut, Range},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use thiserror::Error;

/// A writing handle. Clone it for each thread, or share it.
#[derive(Clone)]
pub struct Writer {
    #[allow(dead_code)]
    shared: Arc<Shared>,
}

/// Why there is no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// No room now, or others wait for room before us. Wait with `room`, evict, or try later.
    #[error("the ring is full")]
    Full,
    /// The ring is closed for ever.
    #[error("the ring is closed")]
    Closed,
    /// The record can never fit. Split it, or build the ring with a larger `max_record`.
    #[error("a record of {len} bytes is longer than the ring's limit of {limit}")]
    TooLarge {
        /// What was asked for, in bytes.
        len: usize,
        /// The ring's `max_record`.
        limit: usize,
    },
    /// Too many writers wait for room already.
    #[error("{MAX_ROOM_WAITERS} writers wait for room already; send from fewer tasks")]
    Crowded,
}

impl Writer {
    /// Claims room for one record of `len` bytes. Never blocks.
    pub fn try_claim(&self, len: usize) -> Result<Claim<'_>, Refused> {
        let _ = len;
        todo!()
    }
    /// Copies `bytes` in as one record and gives its sequence.
    pub fn try_push(&self, bytes: &[u8]) -> Result<u64, Refused> {
        let _ = bytes;
        todo!()
    }
    /// Claims up to `n` records of `len_each` bytes at once (one atomic step): as many as fit, at least one.
    /// `n` = 0 answers as `n` = 1.
    pub fn try_claim_many(&self, len_each: usize, n: usize) -> Result<ClaimMany<'_>, Refused> {
        let _ = (len_each, n);
        todo!()
    }
    /// Waits for room in FIFO order and claims it. Cancel-safe: dropping the future gives its place up.
    pub fn room(&self, len: usize) -> Room<'_> {
        Room { writer: self, turn: Turn::default(), len }
    }
    /// The poll form of [`Writer::room`], for a `Sink`: `turn` keeps the place in the queue between polls.
    pub fn poll_claim(
        &self,
        turn: &mut Turn,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Claim<'_>, Refused>> {
        let _ = (turn, len, cx);
        todo!()
    }
    /// Makes room for a record of `len` bytes by moving lagging cursors over the oldest published records, as few as
    /// possible, and claims it. `on_lost` is told how many records each moved reader lost. `Full`: the oldest record is
    /// being read in place, or is not published yet.
    pub fn claim_evicting(
        &self,
        len: usize,
        on_lost: impl FnMut(ReaderId, u64),
    ) -> Result<Claim<'_>, Refused> {
        let _ = (len, on_lost);
        todo!()
    }
    /// Makes room as [`Writer::claim_evicting`] does, without claiming it.
    pub fn evict(&self, len: usize, on_lost: impl FnMut(ReaderId, u64)) -> Result<(), Refused> {
        let _ = (len, on_lost);
        todo!()
    }
    /// As [`Ring::close`].
    pub fn close(&self) {
        todo!()
    }
    /// The ring.
    #[must_use]
    pub fn ring(&self) -> Ring {
        todo!()
    }
}

/// A place in the queue for room. Empty until the first `poll_claim`; dropping it gives the place up.
#[derive(Default)]
pub struct Turn {
    _ticket: Option<u64>,
}

/// Future of [`Writer::room`].
#[must_use = "futures do nothing unless polled"]
pub struct Room<'a> {
    writer: &'a Writer,
    turn: Turn,
    len: usize,
}

impl<'a> Future for Room<'a> {
    type Output = Result<Claim<'a>, Refused>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let writer: &'a Writer = me.writer;
        writer.poll_claim(&mut me.turn, me.len, cx)
    }
}

/// Room for one record: fill it, then `commit`. Dropped without commit = abandoned; readers skip it.
/// The bytes are whatever an earlier record left.
#[must_use = "an unused claim is abandoned"]
pub struct Claim<'a> {
    seq: u64,
    _ring: PhantomData<&'a Shared>,
}

impl Claim<'_> {
    /// The record's sequence.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }
    /// Publishes the record and gives its sequence.
    pub fn commit(self) -> u64 {
        todo!()
    }
}
impl Deref for Claim<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        todo!()
    }
}
impl DerefMut for Claim<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        todo!()
    }
}

/// Room for several records of one length, with consecutive sequences.
#[must_use = "an unused claim is abandoned"]
pub struct ClaimMany<'a> {
    _ring: PhantomData<&'a Shared>,
}

impl ClaimMany<'_> {
    /// How many records.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Sequence of the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        todo!()
    }
    /// The bytes of record `index` (0 to `len() - 1`; panics above).
    pub fn record(&mut self, index: usize) -> &mut [u8] {
        let _ = index;
        todo!()
    }
    /// Publishes all.
    pub fn commit(self) -> Range<u64> {
        todo!()
    }
    /// Publishes the first `n` (at most all) and abandons the others.
    pub fn commit_first(self, n: usize) -> Range<u64> {
        let _ = n;
        todo!()
    }
}
