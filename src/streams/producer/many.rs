//! Sending a slice of datums: those that fit enter the ring in one step.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::put::RetryState;
use super::send::{WhenOffline, poll_online};
use super::shared::{ProducerCore, Refusal};
use super::{Error, Producer};
use crate::blocking::{block_on, flush};
use crate::datum::{InPlaceMut, encode};
use crate::streams::status::StatusWaiter;

/// Some datums of a slice were sent, and then one was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sent} datums were sent, the next one was not: {error}")]
pub struct ManyError {
    /// How many were sent. The one after them was refused; the datums behind it were not tried.
    pub sent: usize,
    /// Why the next one was refused.
    pub error: Error<()>,
}

impl<D: Send + 'static, C: InPlaceMut<D>> Producer<D, C> {
    /// Sends the datums in their order, waiting as [`send`](Self::send) does. What fits enters the ring in
    /// one step.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::Plain;
    ///
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().producer::<u64>().codec(Plain).build()?;
    /// let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// producer.send_many(&[1, 2, 3]).await?;
    /// assert_eq!(consumer.recv().await, Some(1));
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`ManyError`] says how many were sent and why the next one was not.
    ///
    /// # Cancel safety
    ///
    /// Datums that were sent stay sent; [`SendingMany::sent`] tells how many. Of the others the first counts
    /// as cancelled, and the rest as never offered.
    pub fn send_many<'a>(&'a self, datums: &'a [D]) -> SendingMany<'a, D, C> {
        SendingMany {
            core: &self.core,
            datums,
            sent: 0,
            resolved: false,
            waiter: StatusWaiter::default(),
            retry: RetryState::default(),
            codec: PhantomData,
        }
    }

    /// [`send_many`](Self::send_many) for threads without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::Plain;
    ///
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().producer::<u64>().codec(Plain).build()?;
    /// let mut consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// producer.send_many_blocking(&[1, 2, 3])?;
    /// assert_eq!(consumer.recv_blocking(), Some(1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send_many`](Self::send_many).
    pub fn send_many_blocking(&self, datums: &[D]) -> Result<(), ManyError> {
        block_on(self.send_many(datums))
    }

    /// Sends the datums in their order, as far as there is room, and never waits. What fits enters the ring
    /// in one step; the policy decides about the others one by one, as in [`try_send`](Self::try_send).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::Plain;
    ///
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().producer::<u64>().codec(Plain).with_buffer_size(2).build()?;
    /// let consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// producer.when().online().await;
    /// assert_eq!(producer.try_send_many(&[1, 2, 3]).unwrap_err().sent, 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`ManyError`] says how many were sent and why the next one was not.
    pub fn try_send_many(&self, datums: &[D]) -> Result<(), ManyError> {
        let mut sent = 0;
        while let Some(first) = datums.get(sent) {
            let put = if !self.core.is_online() {
                Err(self.core.offline_refusal())
            } else if self.core.selects() {
                self.core.try_put::<D, C>(first, &mut RetryState::default()).map(|()| {
                    self.core.sent_copy::<D, C>(first);
                    1
                })
            } else {
                match self.core.put_some::<D, C>(&datums[sent..]) {
                    Err(Refusal::Full) => self.core.put_full::<D, C>(first, C::LEN, None).map(|()| 1),
                    done => done,
                }
            };
            match put {
                Ok(some) => sent += some,
                Err(refusal) => return Err(ManyError { sent, error: self.core.refuse((), refusal) }),
            }
        }
        Ok(())
    }
}

impl ProducerCore {
    /// Puts as many of `datums` as there is room for and returns how many: at least one. Never waits, and
    /// leaves a full ring to the caller. `datums` is not empty.
    fn put_some<D, C: InPlaceMut<D>>(&self, datums: &[D]) -> Result<usize, Refusal> {
        let mut room = self.writer.try_claim_many(C::LEN, datums.len())?;
        let count = room.len();
        debug_assert!((1..=datums.len()).contains(&count));
        for (index, datum) in datums.iter().enumerate().take(count) {
            if let Err(error) = encode::<D, C>(datum, room.record(index)) {
                room.commit_first(index);
                flush(index);
                return if index > 0 { Ok(index) } else { Err(error.into()) };
            }
        }
        room.commit();
        flush(count);
        Ok(count)
    }
}

/// A slice of datums on its way into the ring; made by [`Producer::send_many`].
///
/// # Cancel safety
///
/// Dropped before it has resolved, the datums that it [has sent](Self::sent) stay sent, and the others are
/// not.
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is sent unless the future is awaited"]
pub struct SendingMany<'a, D, C> {
    core: &'a ProducerCore,
    datums: &'a [D],
    /// The datums below this index are in the ring.
    sent: usize,
    resolved: bool,
    waiter: StatusWaiter,
    /// Of the datum at `sent`.
    retry: RetryState,
    codec: PhantomData<fn(C)>,
}

impl<D, C> SendingMany<'_, D, C> {
    /// How many datums are in the ring so far.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::Plain;
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// let producer = network.streams().producer::<u64>().codec(Plain).with_buffer_size(2).build()?;
    /// let consumer = network.streams().consumer::<u64>().codec(Plain).build();
    /// let mut sending = producer.send_many(&[1, 2, 3]);
    /// assert!(tokio::time::timeout(Duration::from_millis(100), &mut sending).await.is_err());
    /// assert_eq!(sending.sent(), 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn sent(&self) -> usize {
        self.sent
    }
}

impl<D: 'static, C: InPlaceMut<D>> SendingMany<'_, D, C> {
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        while let Some(first) = self.datums.get(self.sent) {
            match poll_online(self.core, WhenOffline::Wait, &mut self.waiter, cx) {
                Poll::Ready(Ok(())) => {}
                other => {
                    self.retry.leave_queue();
                    return other;
                }
            }
            let put = if self.retry.is_first_attempt() && !self.core.selects() {
                self.core.put_some::<D, C>(&self.datums[self.sent..])
            } else {
                Err(Refusal::Full)
            };
            let put = match put {
                Err(Refusal::Full) => match self.core.poll_put::<D, C>(first, &mut self.retry, cx) {
                    Poll::Ready(put) => put.map(|()| {
                        self.core.sent_copy::<D, C>(first);
                        1
                    }),
                    Poll::Pending => return Poll::Pending,
                },
                done => done,
            };
            match put {
                Ok(some) => self.sent += some,
                Err(refusal) => return Poll::Ready(Err(refusal)),
            }
            self.retry = RetryState::default();
        }
        Poll::Ready(Ok(()))
    }
}

/// No field is pinned.
impl<D, C> Unpin for SendingMany<'_, D, C> {}

impl<D: 'static, C: InPlaceMut<D>> Future for SendingMany<'_, D, C> {
    type Output = Result<(), ManyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        assert!(!me.resolved, "a send was polled after it had resolved");
        let Poll::Ready(result) = me.poll_sent(cx) else { return Poll::Pending };
        me.resolved = true;
        me.waiter.withdraw();
        me.retry.leave_queue();
        Poll::Ready(result.map_err(|refusal| ManyError { sent: me.sent, error: me.core.refuse((), refusal) }))
    }
}

impl<D, C> Drop for SendingMany<'_, D, C> {
    fn drop(&mut self) {
        if !self.resolved && self.sent < self.datums.len() {
            self.core.cancel(1);
        }
    }
}

impl<D, C> fmt::Debug for SendingMany<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendingMany")
            .field("stream_id", &self.core.shared.stream_id)
            .field("sent", &self.sent)
            .field("of", &self.datums.len())
            .finish()
    }
}
