//! Consumers.

mod builder;

pub use builder::Builder;

use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::channel::{ChannelInfo, Stats};
use super::conditions::When;
use crate::datum::{Codec, InPlace, Postcard};
use crate::id::{PeerId, StreamId};

/// A handle that receives the datums of all eligible producers of one stream.
pub struct Consumer<D, C = Postcard>(PhantomData<fn(C) -> D>);

/// A datum with its place in the stream of its producer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<D> {
    /// The datum.
    pub datum: D,
    /// Its sequence number in the producer's ring.
    pub seq: u64,
    /// How many datums of the same producer are missing just before it.
    pub skipped_before: u64,
    /// Who produced it.
    pub producer: PeerId,
}

/// A datum borrowed where it lies. Dropping it takes it.
pub struct Ref<'a, D>(PhantomData<&'a D>);

impl<D> core::ops::Deref for Ref<'_, D> {
    type Target = D;
    fn deref(&self) -> &D {
        todo!()
    }
}

/// Why there is no datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing has arrived.
    #[error("nothing has arrived: try again, or use `recv`, which waits")]
    Empty,
    /// The consumer is closed and everything was taken.
    #[error("the consumer is closed: its network was shut down or `close` was called")]
    Closed,
}

/// Why there is no datum in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// Nothing arrived in time.
    #[error("nothing arrived in time")]
    Timeout,
    /// The consumer is closed and everything was taken.
    #[error("the consumer is closed: its network was shut down or `close` was called")]
    Closed,
}

impl<D: Send + 'static, C: Codec<D>> Consumer<D, C> {
    /// The next datum; `None` once the consumer is closed and everything was taken.
    pub async fn recv(&mut self) -> Option<D> {
        core::future::pending().await
    }
    /// The next datum if there is one.
    pub fn try_recv(&mut self) -> Result<D, TryRecvError> {
        todo!()
    }
    /// [`recv`](Self::recv) with the datum's place in the stream.
    pub async fn recv_delivery(&mut self) -> Option<Delivery<D>> {
        core::future::pending().await
    }
    /// [`try_recv`](Self::try_recv) with the datum's place in the stream.
    pub fn try_recv_delivery(&mut self) -> Result<Delivery<D>, TryRecvError> {
        todo!()
    }
    /// [`recv`](Self::recv) for threads without an async runtime.
    pub fn recv_blocking(&mut self) -> Option<D> {
        todo!()
    }
    /// [`recv_blocking`](Self::recv_blocking) with a limit on the wait.
    pub fn recv_timeout(&mut self, _timeout: Duration) -> Result<D, RecvTimeoutError> {
        todo!()
    }
    /// Ends the subscription. What has arrived can still be taken.
    pub fn close(&mut self) {
        todo!()
    }
    /// Whether the condition of `online_when` holds.
    pub fn is_online(&self) -> bool {
        todo!()
    }
    /// Waits for producers.
    pub fn when(&self) -> When {
        todo!()
    }
    /// The channels to the producers, as they are now.
    pub fn producers(&self) -> impl ExactSizeIterator<Item = ChannelInfo> + use<D, C> {
        Vec::new().into_iter()
    }
    /// The stream.
    pub fn stream_id(&self) -> &StreamId {
        todo!()
    }
    /// What the application took.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}

impl<D: Send + 'static, C: InPlace<D>> Consumer<D, C> {
    /// The next datum, borrowed where it lies.
    pub async fn recv_ref(&mut self) -> Option<Ref<'_, D>> {
        core::future::pending().await
    }
    /// The next datum if there is one, borrowed where it lies.
    pub fn try_recv_ref(&mut self) -> Result<Ref<'_, D>, TryRecvError> {
        todo!()
    }
}

impl<D: Send + 'static, C: Codec<D>> futures_core::Stream for Consumer<D, C> {
    type Item = D;
    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<D>> {
        todo!()
    }
}
