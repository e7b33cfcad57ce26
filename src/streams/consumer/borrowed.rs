//! Reading datums in place.

use core::fmt;
use core::future::poll_fn;
use core::marker::PhantomData;
use core::ops::Deref;
use core::time::Duration;

use corewire_engine::shard::Taken;

use super::leg::{CountOnDrop, Delivered};
use super::legs::LegSet;
use super::{Consumer, RecvTimeoutError, TryRecvError};
use crate::contain::contain;
use crate::datum::{InPlace, accept};
use crate::id::PeerId;

/// A datum borrowed in place: in the producer's ring, or in the inbox that a shard filled. Dropping it takes
/// the datum and frees its room; until then the producer cannot use that room, and `DropOldest` does not drop
/// the datum.
///
/// ```
/// # use corewire::{Network, NetworkId, Plain};
/// # let network = Network::new_blocking(NetworkId::random())?;
/// let producer = network.streams().producer::<u64>().codec(Plain).build()?;
/// let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
/// producer.send_blocking(7)?;
///
/// let number = consumer.recv_ref_blocking().unwrap();
/// assert_eq!(*number, 7);
/// println!("{} of {}, {} missing before it", number.seq(), number.producer(), number.skipped_before());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Ref<'a, D, C> {
    // Dropped in this order: the room is freed before the datum counts as taken.
    record: Taken<'a>,
    count: CountOnDrop<'a>,
    types: PhantomData<(&'a D, C)>,
}

impl<D, C> Ref<'_, D, C> {
    /// The datum's sequence number in its producer's ring.
    pub fn seq(&self) -> u64 {
        self.count.delivered().seq
    }

    /// How many datums of the same producer are missing just before this one.
    pub fn skipped_before(&self) -> u64 {
        self.count.delivered().skipped_before
    }

    /// Whether an unknown number of datums may be missing besides them: see
    /// [`Delivery::restarted`](super::Delivery::restarted).
    pub fn restarted(&self) -> bool {
        self.count.delivered().restarted
    }

    /// The peer that produced it.
    pub fn producer(&self) -> PeerId {
        *self.count.delivered().producer
    }
}

impl<D, C: InPlace<D>> Deref for Ref<'_, D, C> {
    type Target = D;

    #[inline]
    fn deref(&self) -> &D {
        match C::view(self.record.bytes()) {
            Ok(datum) => datum,
            Err(error) => unreachable!("a codec refused the same bytes that it had accepted before: {error}"),
        }
    }
}

impl<D: fmt::Debug, C: InPlace<D>> fmt::Debug for Ref<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A datum in place, passed to the closure of [`Consumer::try_recv_refs`]. Derefs to the datum.
#[derive(Clone, Copy)]
pub struct DatumRef<'a, D> {
    datum: &'a D,
    delivered: Delivered<'a>,
}

impl<'a, D> DatumRef<'a, D> {
    /// The datum.
    pub fn get(self) -> &'a D {
        self.datum
    }

    /// The datum's sequence number in its producer's ring.
    pub fn seq(&self) -> u64 {
        self.delivered.seq
    }

    /// How many datums of the same producer are missing just before this one.
    pub fn skipped_before(&self) -> u64 {
        self.delivered.skipped_before
    }

    /// Whether an unknown number of datums may be missing besides them: see
    /// [`Delivery::restarted`](super::Delivery::restarted).
    pub fn restarted(&self) -> bool {
        self.delivered.restarted
    }

    /// The peer that produced it.
    pub fn producer(&self) -> PeerId {
        *self.delivered.producer
    }
}

impl<D> Deref for DatumRef<'_, D> {
    type Target = D;

    fn deref(&self) -> &D {
        self.datum
    }
}

impl<D: fmt::Debug> fmt::Debug for DatumRef<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.datum.fmt(f)
    }
}

impl<D: Send + 'static, C: InPlace<D>> Consumer<D, C> {
    /// Waits for the next datum and borrows it in place. `None` once the consumer is closed and everything
    /// was taken.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, Plain};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let producer = network.streams().producer::<u64>().codec(Plain).build()?;
    /// # let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// # consumer.when().online().wait_blocking();
    /// # corewire::block_on(async {
    /// producer.send(7).await?;
    /// assert_eq!(*consumer.recv_ref().await.unwrap(), 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// The datum is taken when the [`Ref`] is dropped; dropping the future loses nothing.
    pub async fn recv_ref(&mut self) -> Option<Ref<'_, D, C>> {
        let index = poll_fn(|cx| self.legs.poll(cx, Self::find)).await?;
        self.borrow(index)
    }

    /// The next datum in place, if one has arrived.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, Plain};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let producer = network.streams().producer::<u64>().codec(Plain).build()?;
    /// # let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// assert_eq!(*consumer.try_recv_ref()?, 7);
    /// assert!(consumer.try_recv_ref().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    #[inline(always)]
    pub fn try_recv_ref(&mut self) -> Result<Ref<'_, D, C>, TryRecvError> {
        let index = Self::find(&mut self.legs)?;
        self.borrow(index).ok_or(TryRecvError::Empty)
    }

    /// [`recv_ref`](Self::recv_ref) without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, Plain};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let producer = network.streams().producer::<u64>().codec(Plain).build()?;
    /// # let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// assert_eq!(*consumer.recv_ref_blocking().unwrap(), 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_ref_blocking(&mut self) -> Option<Ref<'_, D, C>> {
        let index = self.legs.wait(Self::find)?;
        self.borrow(index)
    }

    /// [`recv_ref_blocking`](Self::recv_ref_blocking) for at most `timeout`.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, Plain};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let producer = network.streams().producer::<u64>().codec(Plain).build()?;
    /// # let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// assert_eq!(*consumer.recv_ref_timeout(std::time::Duration::from_secs(1))?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] or [`RecvTimeoutError::Closed`].
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Ref<'_, D, C>, RecvTimeoutError> {
        let index = self.legs.wait_timeout(timeout, Self::find)?;
        self.borrow(index).ok_or(RecvTimeoutError::Timeout)
    }

    /// Passes up to `max` of the datums that have arrived to `each`, in place, and takes them. Returns how
    /// many. Each producer is asked once, so what one has beyond that is left for the next call.
    ///
    /// The room of the whole batch, and the credit for it, is returned after its last datum: a large `max`
    /// costs the producer room, a small one costs both sides time. If `each` panics, the datums that it has
    /// seen are taken.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, Plain};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let producer = network.streams().producer::<u64>().codec(Plain).build()?;
    /// # let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// producer.send_blocking(8)?;
    /// let mut sum = 0;
    /// assert_eq!(consumer.try_recv_refs(64, |datum| sum += *datum), Ok(2));
    /// assert_eq!(sum, 15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`]; then `each` was not called.
    pub fn try_recv_refs(
        &mut self,
        max: usize,
        mut each: impl FnMut(DatumRef<'_, D>),
    ) -> Result<usize, TryRecvError> {
        let mut each = |datum: &D, delivered: Delivered<'_>| each(DatumRef { datum, delivered });
        self.legs.batch(max, |leg, max| leg.take_refs(max, view::<D, C>, &mut each))
    }

    /// Index of a leg whose next record is a datum, which is pinned.
    #[inline(always)]
    fn find(legs: &mut LegSet) -> Result<usize, TryRecvError> {
        match legs.ask_current(|leg| leg.peek(accept::<D, C>)) {
            Some(index) => Ok(index),
            None => Self::find_in_any(legs),
        }
    }

    #[inline(never)]
    fn find_in_any(legs: &mut LegSet) -> Result<usize, TryRecvError> {
        legs.search(|leg| leg.peek(accept::<D, C>))
    }

    #[inline(always)]
    fn borrow(&mut self, index: usize) -> Option<Ref<'_, D, C>> {
        let (record, count) = self.legs.leg_mut(index)?.borrow()?;
        Some(Ref { record, count, types: PhantomData })
    }
}

/// [`InPlace::view`] with panics contained.
fn view<D, C: InPlace<D>>(bytes: &[u8]) -> Option<&D> {
    contain(|| C::view(bytes).ok()).flatten()
}
