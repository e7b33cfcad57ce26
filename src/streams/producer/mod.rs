//! Producers.

mod builder;
mod error;

pub use builder::{Builder, BuilderError};
pub use error::Error;

use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::channel::ChannelInfo;
use super::conditions::When;
use crate::datum::{Codec, Postcard};
use crate::id::StreamId;

/// A handle that sends datums of type `D` to every consumer of its stream.
pub struct Producer<D, C = Postcard>(PhantomData<fn(D, C)>);

/// Counters of a producer. `offered = accepted + every other field`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datums that were placed in the ring.
    pub accepted: u64,
    /// Refused because the ring was full.
    pub refused_full: u64,
    /// Refused because the producer was offline.
    pub refused_offline: u64,
    /// Refused because the producer was closed.
    pub refused_closed: u64,
    /// Refused because the datum was longer than the stream carries.
    pub too_large: u64,
    /// Refused because the datum could not be encoded.
    pub unencodable: u64,
    /// Datums of `send` futures that were dropped before they resolved.
    pub cancelled: u64,
}

impl<D, C> Clone for Producer<D, C> {
    fn clone(&self) -> Self {
        todo!()
    }
}

impl<D: Send + 'static, C: Codec<D>> Producer<D, C> {
    /// Sends one datum: waits until the producer is online and, with `PauseUpstream`, until there is room.
    pub async fn send(&self, _datum: D) -> Result<(), Error<D>> {
        core::future::pending().await
    }
    /// Sends one datum now or gives it back.
    pub fn try_send(&self, _datum: D) -> Result<(), Error<D>> {
        todo!()
    }
    /// Applies the policy: waits for room with `PauseUpstream`, never for consumers.
    pub async fn push(&self, _datum: D) -> Result<(), Error<D>> {
        core::future::pending().await
    }
    /// [`send`](Self::send) for threads without an async runtime.
    pub fn send_blocking(&self, _datum: D) -> Result<(), Error<D>> {
        todo!()
    }
    /// Ends the stream for all its handles: what is in the ring is still delivered.
    pub fn close(&self) {
        todo!()
    }
    /// Whether the stream is closed.
    pub fn is_closed(&self) -> bool {
        todo!()
    }
    /// Whether the condition of `online_when` holds.
    pub fn is_online(&self) -> bool {
        todo!()
    }
    /// Waits for consumers.
    pub fn when(&self) -> When {
        todo!()
    }
    /// The channels to the consumers, as they are now.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = ChannelInfo> + use<D, C> {
        Vec::new().into_iter()
    }
    /// The stream.
    pub fn stream_id(&self) -> &StreamId {
        todo!()
    }
    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}

impl<D: Send + 'static, C: Codec<D>> futures_sink::Sink<D> for Producer<D, C> {
    type Error = Error<D>;
    fn poll_ready(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        todo!()
    }
    fn start_send(self: Pin<&mut Self>, _datum: D) -> Result<(), Error<D>> {
        todo!()
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        todo!()
    }
    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), Error<D>>> {
        todo!()
    }
}
