//! The handle of a raw channel.

use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use corewire_rings::WaitTicket;

use super::shared::RawShared;
use super::{StreamConfig, StreamError, StreamStats};
use crate::blocking::{block_on, block_on_timeout};
use crate::id::PeerId;

/// A handle of a raw channel, made by [`Network::open_stream`](crate::Network::open_stream); see
/// [`raw`](crate::raw) for what it promises and for an example.
///
/// Clones are handles of the same channel and may be used from any number of threads: each payload is
/// received by one of them. Dropping handles does not close the channel.
#[derive(Clone)]
pub struct RawStream {
    pub(super) shared: Arc<RawShared>,
}

impl RawStream {
    /// The peer at the other end.
    pub fn peer(&self) -> &PeerId {
        &self.shared.peer
    }

    /// The channel's number, as it was opened.
    pub fn stream_id(&self) -> u64 {
        self.shared.number
    }

    /// The settings that the channel was opened with first.
    pub fn config(&self) -> &StreamConfig {
        &self.shared.config
    }

    /// Tells this opening of the channel from all others of this node: the number grows with each.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> StreamStats {
        self.shared.stats()
    }

    /// Whether the peer has opened the channel too, and is there.
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    /// Waits until the peer has opened the channel too, and is there.
    ///
    /// # Errors
    ///
    /// [`StreamError::NotConnected`] if the channel is closed at this side.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn connected(&self) -> Result<(), StreamError> {
        poll_fn(|cx| self.shared.poll_connected(cx)).await
    }

    /// [`connected`](Self::connected) without an async runtime: parks the thread.
    ///
    /// # Errors
    ///
    /// As [`connected`](Self::connected).
    pub fn connected_blocking(&self) -> Result<(), StreamError> {
        block_on(self.connected())
    }

    /// Sends one payload: waits until the peer has opened the channel, and then for room, in order of
    /// arrival.
    ///
    /// # Errors
    ///
    /// [`StreamError::NotConnected`] if the channel is closed at this side; [`StreamError::Transport`] if the
    /// payload is too long; [`StreamError::Backpressure`] if 1,024 sends wait for room already.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves sends nothing.
    pub fn send(&self, payload: impl Into<Bytes>) -> SendingRaw<'_> {
        SendingRaw { shared: &self.shared, payload: payload.into(), ticket: WaitTicket::default() }
    }

    /// Sends one payload now, or not at all. A `FireAndForget` channel without a window never answers
    /// `Backpressure`, and may wait as long as a shard's turn takes; see
    /// [`window_bytes`](StreamConfig::window_bytes).
    ///
    /// # Errors
    ///
    /// [`StreamError::NotConnected`] if the peer has not opened the channel or is gone, or if the channel is
    /// closed at this side; [`StreamError::Backpressure`] if there is no room, or other sends wait for it;
    /// [`StreamError::Transport`] if the payload is too long.
    pub fn try_send(&self, payload: impl Into<Bytes>) -> Result<(), StreamError> {
        self.shared.try_send(&[payload.into()])
    }

    /// Sends all payloads now, or none.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send): with each of them, nothing was sent, unless the channel is closed
    /// during the call: then the first payloads may have been sent. More payloads than the window takes never
    /// fit; a `FireAndForget` channel without a window drops the oldest for them.
    pub fn try_send_many(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        self.shared.try_send(payloads)
    }

    /// Sends payloads one after the other, each as [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). Payloads before the one that was refused are sent.
    ///
    /// # Cancel safety
    ///
    /// What it has sent stays sent when it is dropped.
    pub async fn send_many(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        for payload in payloads {
            self.send(payload.clone()).await?;
        }
        Ok(())
    }

    /// [`send`](Self::send) without an async runtime: parks the thread.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_blocking(&self, payload: impl Into<Bytes>) -> Result<(), StreamError> {
        block_on(self.send(payload))
    }

    /// [`send_blocking`](Self::send_blocking) for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and after the time what [`try_send`](Self::try_send) would answer.
    pub fn send_timeout(&self, payload: impl Into<Bytes>, timeout: Duration) -> Result<(), StreamError> {
        let payload = payload.into();
        let sent = block_on_timeout(self.send(payload.clone()), timeout);
        sent.unwrap_or_else(|| self.shared.try_send(&[payload]))
    }

    /// [`send_many`](Self::send_many) without an async runtime: parks the thread.
    ///
    /// # Errors
    ///
    /// As [`send_many`](Self::send_many).
    pub fn send_many_blocking(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        block_on(self.send_many(payloads))
    }

    /// Receives the next payload: waits until one is there.
    ///
    /// # Errors
    ///
    /// [`StreamError::NotConnected`] once for each time that the peer has closed the channel, after
    /// everything that had arrived; the next call waits for the peer's next opening. For ever if the channel
    /// is closed at this side.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves has taken nothing.
    pub async fn recv(&self) -> Result<Bytes, StreamError> {
        Ok(self.recv_numbered().await?.0)
    }

    /// As [`recv`](Self::recv), with the payload's sequence, which begins with 0 when the sender opens the
    /// channel, and the number of payloads that are missing before it, as far as it is known.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_numbered(&self) -> Result<(Bytes, u64, u64), StreamError> {
        poll_fn(|cx| self.shared.poll_receive(Some(cx))).await
    }

    /// Receives the next payload if one is there.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Bytes>, StreamError> {
        match self.shared.poll_receive(None) {
            Poll::Ready(received) => received.map(|(payload, ..)| Some(payload)),
            Poll::Pending => Ok(None),
        }
    }

    /// [`recv`](Self::recv) without an async runtime: parks the thread.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_blocking(&self) -> Result<Bytes, StreamError> {
        block_on(self.recv())
    }

    /// [`recv_blocking`](Self::recv_blocking) for at most `timeout`; `None` when nothing came.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Bytes>, StreamError> {
        block_on_timeout(self.recv(), timeout).transpose()
    }

    /// Closes the channel at this side for all its handles, which answer [`StreamError::NotConnected`] from
    /// then on. What waits to be sent is drained or dropped, as
    /// [`close_behavior`](StreamConfig::close_behavior) says; draining goes on in the background. Never
    /// waits. Closing again changes nothing.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl fmt::Debug for RawStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawStream")
            .field("peer", &self.shared.peer)
            .field("stream_id", &self.shared.number)
            .field("epoch", &self.shared.epoch)
            .finish_non_exhaustive()
    }
}

/// One payload on its way into a raw channel; made by [`RawStream::send`].
#[must_use = "nothing is sent unless the future is awaited"]
pub struct SendingRaw<'a> {
    shared: &'a RawShared,
    payload: Bytes,
    /// Its place among the sends that wait for room.
    ticket: WaitTicket,
}

impl Future for SendingRaw<'_> {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        me.shared.poll_send(&me.payload, &mut me.ticket, cx)
    }
}

impl fmt::Debug for SendingRaw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendingRaw").field("bytes", &self.payload.len()).finish_non_exhaustive()
    }
}
