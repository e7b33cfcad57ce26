//! Writing datums where consumers read them.
//!
//! A claim holds its place in the order of the ring: until it is committed or dropped, readers stop before
//! it, and writers cannot reuse its room. Nothing here waits, and no claim is held while the policy runs user
//! code.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ops::{Deref, DerefMut, Range};

use corewire_rings::{self as rings, ClaimError};

use super::shared::{ProducerCore, Refusal};
use super::{Error, Producer};
use crate::blocking::flush;
use crate::datum::{DecodeError, EncodeError, InPlace, InPlaceMut};
use crate::policy::BackpressurePolicy;

/// How often `claim_many` makes room that other writers take before it does.
const CLAIM_ATTEMPTS_MAX: u32 = 16;

/// Room for one datum in the ring, to be written in place; made by [`Producer::claim`].
///
/// [`commit`](Self::commit) publishes it. Dropped before, it is given up: consumers skip its sequence number,
/// and the datum counts as cancelled. On a channel between engines that number counts as skipped; within one
/// engine it counts as dropped if it is evicted before the consumer reached it.
///
/// The memory holds an earlier datum's bytes or zeros: write all of it. Commit or drop it soon: consumers
/// read nothing behind it until then. Leaked, it stops the stream at this place for ever.
#[must_use = "dropped without `commit`, the datum is not sent"]
pub struct Claim<'a, D, C> {
    // Dropped in this order, unless committed: counted as cancelled, then given up.
    cancelled: CancelOnDrop<'a>,
    room: rings::RecordClaim<'a>,
    types: PhantomData<fn(C) -> D>,
}

impl<D, C> Claim<'_, D, C> {
    /// Publishes the datum and returns its sequence number. See [`Producer::claim`] for an example.
    #[inline(always)]
    pub fn commit(self) -> u64 {
        let Self { cancelled, room, .. } = self;
        mem::forget(cancelled);
        let seq = room.commit();
        flush(1);
        seq
    }
}

/// Counts one cancelled datum when it is dropped.
struct CancelOnDrop<'a>(&'a ProducerCore);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel(1);
    }
}

impl<D, C: InPlace<D>> Deref for Claim<'_, D, C> {
    type Target = D;

    #[inline]
    fn deref(&self) -> &D {
        C::view(&self.room).unwrap_or_else(|error| view_failed(&error))
    }
}

impl<D, C: InPlaceMut<D>> DerefMut for Claim<'_, D, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut D {
        C::view_mut(&mut self.room).unwrap_or_else(|error| view_failed(&error))
    }
}

impl<D, C> fmt::Debug for Claim<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("room", &self.room).finish_non_exhaustive()
    }
}

/// Room for several consecutive datums, won in one step; made by [`Producer::claim_many`]. As [`Claim`]
/// otherwise.
#[must_use = "dropped without `commit`, the datums are not sent"]
pub struct ClaimMany<'a, D, C> {
    core: &'a ProducerCore,
    /// `None` only once committed.
    room: Option<rings::BatchClaim<'a>>,
    types: PhantomData<fn(C) -> D>,
}

impl<D, C> ClaimMany<'_, D, C> {
    /// For how many datums there is room; at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.room.as_ref().map_or(0, rings::BatchClaim::len)
    }

    /// Publishes all of them and returns their sequence numbers.
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
            self.core.cancel(given_up as u64);
        }
        let published = room.len() - given_up;
        let seqs = room.commit_first(n);
        flush(published);
        seqs
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
        C::view_mut(room.record(index)).unwrap_or_else(|error| view_failed(&error))
    }
}

impl<D, C> Drop for ClaimMany<'_, D, C> {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            self.core.cancel(room.len() as u64);
        }
    }
}

impl<D, C> fmt::Debug for ClaimMany<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimMany").field("room", &self.room).finish_non_exhaustive()
    }
}

/// A codec refused room of its own length, which [`InPlaceMut::view_mut`] forbids.
#[cold]
fn view_failed(error: &DecodeError) -> ! {
    panic!("a codec whose datums can be written in place refused room of its own length: {error}")
}

impl<D: Send + 'static, C: InPlaceMut<D>> Producer<D, C> {
    /// Room for one datum, to be written where consumers read it. Never waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::Plain;
    ///
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().producer::<[u64; 512]>().codec(Plain).build()?;
    /// let mut consumer = network.streams().consumer::<[u64; 512]>().codec(Plain).build();
    /// producer.when().online().await;
    /// let mut frame = producer.claim()?;
    /// frame.fill(7);
    /// frame.commit();
    /// assert_eq!(consumer.recv().await, Some([7; 512]));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), without a datum; [`Error::Closed`] in a stream with keys or an
    /// undelivered sink, which has to see its datums. Under `DegradeQuality` a full ring answers
    /// [`Error::Full`]: there is no datum yet that the degrader could make cheaper. Send the datum with
    /// `try_send` then.
    #[inline(always)]
    pub fn claim(&self) -> Result<Claim<'_, D, C>, Error<()>> {
        if !self.core.is_online() {
            return Err(self.core.claim_offline());
        }
        if self.core.selects() {
            return Err(self.core.claim_without_datum());
        }
        let room = match self.core.writer.try_claim(C::LEN) {
            Ok(room) => room,
            Err(error) => self.core.claim_slow(error, C::LEN)?,
        };
        Ok(Claim { cancelled: CancelOnDrop(&self.core), room, types: PhantomData })
    }

    /// Room for up to `n` consecutive datums, won in one step: as many as fit, at least one. `n` = 0 counts
    /// as 1. Under `DropOldest` a full ring makes room for one.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::Plain;
    ///
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().producer::<u64>().codec(Plain).with_buffer_size(8).build()?;
    /// let consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// producer.when().online().await;
    /// let mut claims = producer.claim_many(100)?;
    /// assert_eq!(claims.len(), 8);
    /// for index in 0..3 {
    ///     *claims.datum(index) = index as u64;
    /// }
    /// assert_eq!(claims.commit_first(3), 0..3);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim); a refused claim counts as one refused datum.
    #[inline]
    pub fn claim_many(&self, n: usize) -> Result<ClaimMany<'_, D, C>, Error<()>> {
        if !self.core.is_online() {
            return Err(self.core.claim_offline());
        }
        if self.core.selects() {
            return Err(self.core.claim_without_datum());
        }
        match self.core.claim_many(C::LEN, n) {
            Ok(room) => Ok(ClaimMany { core: &self.core, room: Some(room), types: PhantomData }),
            Err(refusal) => Err(self.core.refuse((), refusal)),
        }
    }
}

impl ProducerCore {
    /// Counts a claim that found the producer offline.
    #[cold]
    #[inline(never)]
    fn claim_offline(&self) -> Error<()> {
        self.refuse((), self.offline_refusal())
    }

    /// Counts a claim in a stream that has to see its datums.
    #[cold]
    #[inline(never)]
    fn claim_without_datum(&self) -> Error<()> {
        let why = "a stream with `with_key` or `with_undelivered_sink` gives no claims: send its datums";
        self.refuse((), EncodeError::custom(why).into())
    }

    /// Cold path of a claim: room for one record of `len` bytes, by eviction if the policy has it.
    #[cold]
    #[inline(never)]
    fn claim_slow(&self, error: ClaimError, len: usize) -> Result<rings::RecordClaim<'_>, Error<()>> {
        let room = match error {
            ClaimError::Full => {
                self.publication.note_full();
                match self.shared.policy {
                    BackpressurePolicy::DropOldest => self.writer.claim_evicting(len, |_, _| {}),
                    _ => Err(error),
                }
            }
            error => Err(error),
        };
        room.map_err(|error| self.refuse((), error.into()))
    }

    /// Room for up to `n` records of `len` bytes each.
    fn claim_many(&self, len: usize, n: usize) -> Result<rings::BatchClaim<'_>, Refusal> {
        for _ in 0..CLAIM_ATTEMPTS_MAX {
            match self.writer.try_claim_many(len, n) {
                Err(ClaimError::Full) => {
                    self.publication.note_full();
                    if self.shared.policy != BackpressurePolicy::DropOldest {
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
