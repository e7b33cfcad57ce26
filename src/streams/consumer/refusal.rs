//! Receiving, with an end when every producer has refused.

use core::fmt;
use core::future::{Future, poll_fn};
use core::task::Poll;

use super::Consumer;
use crate::blocking::block_on;
use crate::datum::Codec;
use crate::id::PeerId;
use crate::streams::CloseCode;
use crate::streams::open::type_name_of;
use crate::streams::status::StatusWaiter;
use crate::streams::{ChannelInfo, TypeMismatch};

/// Why [`Consumer::recv_or_refusal`] gave no datum.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvRefusal {
    /// The consumer is closed and everything was taken.
    Closed,
    /// Every known producer has refused this consumer, and does not change its mind by itself.
    Refused {
        /// One of them.
        producer: PeerId,
        /// Its reason.
        code: CloseCode,
        /// What differs, with [`CloseCode::TYPE_MISMATCH`].
        mismatch: Option<TypeMismatch>,
    },
}

impl fmt::Display for RecvRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str(
                "the consumer is closed: its network was shut down or `close` was called; build a new consumer",
            ),
            Self::Refused { producer, code, mismatch } => {
                write!(f, "no producer lets this consumer in; {}: {code}", producer.short())?;
                mismatch.iter().try_for_each(|mismatch| write!(f, "; {mismatch}"))
            }
        }
    }
}

impl core::error::Error for RecvRefusal {}

impl<D: Send + 'static, C: Codec<D>> Consumer<D, C> {
    /// As [`recv`](Self::recv), but does not wait where nothing will come: when there are producers of the
    /// stream and every one of them has refused this consumer for a reason that only a change at either side
    /// removes, such as another datum type or a missing ticket. With no producer at all it waits.
    ///
    /// ```
    /// use corewire::streams::consumer::RecvRefusal;
    /// use corewire::{Network, NetworkId};
    ///
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// let mut consumer = network.streams().consumer::<u32>().with_stream_id("counts").build();
    /// let producer = network.streams().producer::<u64>().with_stream_id("counts").build()?;
    /// match consumer.recv_or_refusal_blocking() {
    ///     Err(RecvRefusal::Refused { mismatch: Some(mismatch), .. }) => println!("{mismatch}"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # drop(producer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RecvRefusal`]. After a refusal the call can be repeated: it may succeed once something has changed.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_or_refusal(
        &mut self,
    ) -> impl Future<Output = Result<D, RecvRefusal>> + Send + Unpin + use<'_, D, C> {
        let mut waiter = StatusWaiter::default();
        poll_fn(move |cx| {
            waiter.register(&self.status, cx);
            datum_or_refusal(self, |consumer| consumer.poll_take(cx), Self::refusal)
        })
    }

    /// [`recv_or_refusal`](Self::recv_or_refusal) without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let mut consumer = network.streams().consume::<u64>();
    /// network.streams().produce::<u64>().send_blocking(7)?;
    /// assert_eq!(consumer.recv_or_refusal_blocking()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RecvRefusal`].
    pub fn recv_or_refusal_blocking(&mut self) -> Result<D, RecvRefusal> {
        block_on(self.recv_or_refusal())
    }

    /// Why nothing will come, if every known producer has refused.
    fn refusal(&self) -> Option<RecvRefusal> {
        let channels = self.status.channels();
        // A producer that is being reached has no channel yet.
        if !channels.iter().all(ChannelInfo::is_refused) || self.legs.has_undecided() {
            return None;
        }
        let refused = channels.first()?;
        let theirs = refused.producer_type().cloned();
        let mismatch = theirs.map(|theirs| TypeMismatch { ours: type_name_of::<D, C>(), theirs });
        Some(RecvRefusal::Refused { producer: *refused.producer_id(), code: refused.close_code()?, mismatch })
    }
}

/// The next datum of `from`, or why none will come.
fn datum_or_refusal<T, D>(
    from: &mut T,
    mut take: impl FnMut(&mut T) -> Poll<Option<D>>,
    refusal: impl FnOnce(&T) -> Option<RecvRefusal>,
) -> Poll<Result<D, RecvRefusal>> {
    if let Poll::Ready(taken) = take(from) {
        return Poll::Ready(taken.ok_or(RecvRefusal::Closed));
    }
    let Some(refusal) = refusal(from) else { return Poll::Pending };
    // The last datums of a channel may have come between the two, and then the end of the channel.
    match take(from) {
        Poll::Ready(taken) => Poll::Ready(taken.ok_or(RecvRefusal::Closed)),
        Poll::Pending => Poll::Ready(Err(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datum_that_comes_just_before_the_refusal_is_taken_first() {
        let refused = RecvRefusal::Closed;
        let mut datums = vec![Poll::Pending, Poll::Ready(Some(7)), Poll::Pending];
        let mut next = || {
            let refusal = refused.clone();
            datum_or_refusal(&mut datums, |datums| datums.pop().unwrap(), |_| Some(refusal))
        };
        assert_eq!(next(), Poll::Ready(Ok(7)));
        datums = vec![Poll::Pending, Poll::Pending];
        assert_eq!(datum_or_refusal(&mut datums, |datums| datums.pop().unwrap(), |_| None), Poll::Pending);
    }
}
