//! Taking several datums at a time: one pin of the ring, one return of credit.

use core::future::{Future, poll_fn};
use core::time::Duration;

use super::legs::LegSet;
use super::{Consumer, RecvTimeoutError, TryRecvError};
use crate::datum::{Codec, decode};

impl<D: Send + 'static, C: Codec<D>> Consumer<D, C> {
    /// Takes up to `max` of the datums that have arrived and appends them to `into`. Returns how many. Each
    /// producer is asked once, so what one has beyond that is left for the next call.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// producer.send_blocking(8)?;
    /// let mut datums = Vec::new();
    /// assert_eq!(consumer.try_recv_many(&mut datums, 64), Ok(2));
    /// assert_eq!(datums, [7, 8]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`]; then nothing was appended.
    pub fn try_recv_many(&mut self, into: &mut Vec<D>, max: usize) -> Result<usize, TryRecvError> {
        Self::take_many(&mut self.legs, into, max)
    }

    /// Waits for a datum and takes up to `max` of those that have arrived, appended to `into`. Returns how
    /// many: 0 once the consumer is closed and everything was taken, or if `max` is 0.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # corewire::block_on(async {
    /// producer.send(7).await?;
    /// let mut datums = Vec::new();
    /// assert_eq!(consumer.recv_many(&mut datums, 64).await, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Datums are taken in the poll that resolves the future; dropping it before loses nothing.
    pub fn recv_many<'a>(
        &'a mut self,
        into: &'a mut Vec<D>,
        max: usize,
    ) -> impl Future<Output = usize> + Send + Unpin + use<'a, D, C> {
        poll_fn(move |cx| {
            self.legs.poll(cx, |legs| Self::take_many(legs, into, max)).map(Option::unwrap_or_default)
        })
    }

    /// [`recv_many`](Self::recv_many) without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// let mut datums = Vec::new();
    /// assert_eq!(consumer.recv_many_blocking(&mut datums, 64), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_many_blocking(&mut self, into: &mut Vec<D>, max: usize) -> usize {
        self.legs.wait(|legs| Self::take_many(legs, into, max)).unwrap_or_default()
    }

    /// [`recv_many_blocking`](Self::recv_many_blocking) for at most `timeout`.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// producer.send_blocking(7)?;
    /// let mut datums = Vec::new();
    /// assert_eq!(consumer.recv_many_timeout(&mut datums, 64, std::time::Duration::from_secs(1)), Ok(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] or [`RecvTimeoutError::Closed`]; then nothing was appended.
    pub fn recv_many_timeout(
        &mut self,
        into: &mut Vec<D>,
        max: usize,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.legs.wait_timeout(timeout, |legs| Self::take_many(legs, into, max))
    }

    fn take_many(legs: &mut LegSet, into: &mut Vec<D>, max: usize) -> Result<usize, TryRecvError> {
        let mut read = |bytes: &[u8]| {
            // Before the datum exists: growing the vector is a call, and the datum would be saved across it.
            if into.len() == into.capacity() {
                into.reserve(1);
            }
            match decode::<D, C>(bytes) {
                Ok(datum) => {
                    into.push(datum);
                    true
                }
                Err(_) => false,
            }
        };
        legs.batch(max, |leg, max| leg.take_many(max, &mut read))
    }
}
