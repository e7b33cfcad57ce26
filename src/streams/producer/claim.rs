//! Writing datums where they will be read.
//!
//! Not inside: waiting. A claim holds its place in the order of the ring: readers come no further until it is
//! committed or dropped, and so does whoever wants its room. So nothing that may take long belongs between the two.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ops::{Deref, DerefMut, Range};

use corewire_engine::rings;

use super::core::{Core, Refusal};
use super::{Error, Producer};
use crate::datum::{InPlace, InPlaceMut, encode};
use crate::streams::policy::BackpressurePolicy;

/// Attempts of a claim of several whose room others took each time it was made.
const MAX_ATTEMPTS: u32 = 16;

/// Room for one datum in the ring, to be written in place; made by [`Producer::claim`].
///
/// [`commit`](Self::commit) publishes it. Dropped before, it is given up: consumers pass over its sequence number, and
/// the datum counts as cancelled. A number that was given up counts as skipped on a channel between engines; within one,
/// it counts as dropped if it is evicted before the consumer came to it.
///
/// It begins as what an earlier datum left there, or as zeros: write all of it. Do not hold it for long: consumers
/// read no datum behind it before it is committed or dropped. Leaked, it stops the stream there for ever.
#[must_use = "dropped without `commit`, the datum is not sent"]
pub struct Claim<'a, D, C> {
    // Dropped in this order, unless committed: counted as cancelled, then given up.
    cancelled: Cancelled<'a>,
    room: rings::RecordClaim<'a>,
    types: PhantomData<fn(C) -> D>,
}

impl<D, C> Claim<'_, D, C> {
    /// Publishes the datum; gives its sequence number.
    #[inline(always)]
    pub fn commit(self) -> u64 {
        let Self { cancelled, room, .. } = self;
        mem::forget(cancelled);
        room.commit()
    }
}

/// Counts a datum as cancelled when it is dropped.
struct Cancelled<'a>(&'a Core);

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl<D, C: InPlace<D>> Deref for Claim<'_, D, C> {
    type Target = D;

    #[inline]
    fn deref(&self) -> &D {
        C::view(&self.room).unwrap_or_else(|error| refused(&error))
    }
}

impl<D, C: InPlaceMut<D>> DerefMut for Claim<'_, D, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut D {
        C::view_mut(&mut self.room).unwrap_or_else(|error| refused(&error))
    }
}

impl<D, C> fmt::Debug for Claim<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("room", &self.room).finish_non_exhaustive()
    }
}

/// Room for several datums in a row, won in one step; made by [`Producer::claim_many`]. As [`Claim`] otherwise.
#[must_use = "dropped without `commit`, the datums are not sent"]
pub struct ClaimMany<'a, D, C> {
    core: &'a Core,
    /// Empty only once committed.
    room: Option<rings::BatchClaim<'a>>,
    types: PhantomData<fn(C) -> D>,
}

impl<D, C> ClaimMany<'_, D, C> {
    /// For how many datums there is room; at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.room.as_ref().map_or(0, rings::BatchClaim::len)
    }

    /// Publishes all of them; gives their sequence numbers.
    #[inline]
    pub fn commit(self) -> Range<u64> {
        let all = self.len();
        self.commit_first(all)
    }

    /// Publishes the first `n` (all, if there are fewer) and gives up the others.
    #[inline]
    pub fn commit_first(mut self, n: usize) -> Range<u64> {
        let Some(room) = self.room.take() else { unreachable!("a claim is committed once") };
        let given_up = room.len().saturating_sub(n);
        if given_up > 0 {
            self.core.cancel_many(given_up as u64);
        }
        room.commit_first(n)
    }
}

impl<D, C: InPlaceMut<D>> ClaimMany<'_, D, C> {
    /// The datum at `index`, to be written.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    #[inline]
    pub fn datum(&mut self, index: usize) -> &mut D {
        let Some(room) = &mut self.room else { unreachable!("a claim is committed once") };
        C::view_mut(room.record(index)).unwrap_or_else(|error| refused(&error))
    }
}

impl<D, C> Drop for ClaimMany<'_, D, C> {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            self.core.cancel_many(room.len() as u64);
        }
    }
}

impl<D, C> fmt::Debug for ClaimMany<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimMany").field("room", &self.room).finish_non_exhaustive()
    }
}

/// A codec broke its law.
#[cold]
fn refused(error: &crate::datum::DecodeError) -> ! {
    panic!("a codec whose datums can be written in place refused room of its own length: {error}")
}

/// Some datums of a row were sent, and then one was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sent} datums were sent, the next one was not: {error}")]
pub struct ManyError {
    /// How many were sent. The one after them was refused; those behind it were not tried.
    pub sent: usize,
    /// Why the next one was refused.
    pub error: Error<()>,
}

impl<D: Send + 'static, C: InPlaceMut<D>> Producer<D, C> {
    /// Room for one datum, to be written where it will be read. Never waits.
    ///
    /// ```
    /// # use corewire::{Network, Plain};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let network = Network::new("example").await?;
    /// let producer = network.streams().producer::<[u64; 512]>().codec(Plain).build()?;
    /// producer.when().online().await;
    /// let mut frame = producer.claim()?;
    /// frame.fill(7);
    /// frame.commit();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), with nothing to give back. Under `DegradeQuality` a full ring answers
    /// [`Error::Full`]: there is no datum yet that could be made cheaper, and a degrader must not run while the claim
    /// stops the stream. Send the datum with `try_send` then.
    #[inline(always)]
    pub fn claim(&self) -> Result<Claim<'_, D, C>, Error<()>> {
        if !self.core.common.board.is_online() {
            return Err(self.core.refuse_offline());
        }
        let room = match self.core.writer.try_claim(C::LEN) {
            Ok(room) => room,
            Err(refused) => self.core.claim_refused(refused, C::LEN)?,
        };
        Ok(Claim { cancelled: Cancelled(&self.core), room, types: PhantomData })
    }

    /// Room for up to `n` datums in a row, won in one step: as many as fit, at least one. `n` = 0 counts as 1. Under
    /// `DropOldest` a full ring makes room for one.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim); a refused claim counts as one refused datum.
    #[inline]
    pub fn claim_many(&self, n: usize) -> Result<ClaimMany<'_, D, C>, Error<()>> {
        let room = self.core.check_online().and_then(|()| self.core.claim_many(C::LEN, n));
        match room {
            Ok(room) => Ok(ClaimMany { core: &self.core, room: Some(room), types: PhantomData }),
            Err(refusal) => Err(self.core.refuse((), refusal)),
        }
    }

    /// Sends the datums in their order, as far as there is room, and never waits. What fits enters the ring in one
    /// step; what does not meets the policy, one by one, as in [`try_send`](Self::try_send).
    ///
    /// # Errors
    ///
    /// [`ManyError`] says how many were sent and why the next one was not.
    pub fn try_send_many(&self, datums: &[D]) -> Result<(), ManyError> {
        let mut sent = 0;
        while sent < datums.len() {
            match self.core.check_online().and_then(|()| self.send_some(&datums[sent..])) {
                Ok(some) => sent += some,
                Err(refusal) => return Err(ManyError { sent, error: self.core.refuse((), refusal) }),
            }
        }
        Ok(())
    }

    /// Sends at least the first of `datums`, which are some.
    fn send_some(&self, datums: &[D]) -> Result<usize, Refusal> {
        let mut room = match self.core.writer.try_claim_many(C::LEN, datums.len()) {
            Ok(room) => room,
            Err(rings::ClaimError::Full) => {
                self.core.put_when_full::<D, C>(&datums[0], C::LEN, None)?;
                return Ok(1);
            }
            Err(refused) => return Err(refused.into()),
        };
        let count = room.len();
        for (index, datum) in datums.iter().enumerate().take(count) {
            if let Err(error) = encode::<D, C>(datum, room.record(index)) {
                room.commit_first(index);
                return if index > 0 { Ok(index) } else { Err(Refusal::Encoding(error)) };
            }
        }
        room.commit();
        Ok(count)
    }
}

impl Core {
    /// Whether the online condition holds.
    #[inline]
    pub(super) fn check_online(&self) -> Result<(), Refusal> {
        if self.common.board.is_online() {
            return Ok(());
        }
        Err(self.why_offline())
    }

    pub(super) fn why_offline(&self) -> Refusal {
        if self.is_closed() { Refusal::Closed } else { Refusal::Offline }
    }

    /// Why nothing is sent while the online condition does not hold.
    #[cold]
    #[inline(never)]
    fn refuse_offline(&self) -> Error<()> {
        self.refuse((), self.why_offline())
    }

    /// Room for one record of `len` bytes, for which there was none at once.
    #[cold]
    #[inline(never)]
    fn claim_refused(
        &self,
        refused: rings::ClaimError,
        len: usize,
    ) -> Result<rings::RecordClaim<'_>, Error<()>> {
        self.note(refused);
        let room = match refused {
            rings::ClaimError::Full if self.common.policy == BackpressurePolicy::DropOldest => {
                self.writer.claim_evicting(len, |_, _| {})
            }
            refused => Err(refused),
        };
        room.map_err(|refused| self.refuse((), refused.into()))
    }

    /// Room for up to `n` records of `len` bytes each.
    fn claim_many(&self, len: usize, n: usize) -> Result<rings::BatchClaim<'_>, Refusal> {
        for _ in 0..MAX_ATTEMPTS {
            match self.writer.try_claim_many(len, n) {
                Err(rings::ClaimError::Full) => {
                    self.note(rings::ClaimError::Full);
                    if self.common.policy != BackpressurePolicy::DropOldest {
                        break;
                    }
                    self.writer.evict(len, |_, _| {})?;
                }
                other => return Ok(other?),
            }
        }
        Err(Refusal::Full)
    }
}
