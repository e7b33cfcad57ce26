//! Waiting until consumers have what was published, and what is said of those that do not.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use corewire_proto::{PeerId, StreamId};
use corewire_rings::{contain, sync::Lock};

use super::Channel;

/// Datums that were accepted for a consumer and are not known to have reached it. Those on their way may
/// still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The stream.
    pub stream: StreamId,
    /// The consumer.
    pub consumer: PeerId,
    /// How many.
    pub datums: u64,
}

/// What the clerk and the handle of one flush share.
pub(crate) struct FlushShared {
    stream: StreamId,
    /// Consumers are waited for until they have every datum below.
    pub(crate) seq: u64,
    state: Lock<FlushState>,
}

#[derive(Default)]
struct FlushState {
    /// The channels of consumers that do not have everything yet; of an absent one the last.
    waiting: Vec<Arc<Channel>>,
    /// The consumers that are gone without it.
    failed: Vec<Shortfall>,
    /// Nothing is waited for any more.
    is_over: bool,
    waker: Option<Waker>,
}

impl FlushState {
    /// Stops waiting for a channel; `false` if it was not waited for.
    fn take(&mut self, channel: &Arc<Channel>) -> bool {
        let at = self.waiting.iter().position(|waiting| Arc::ptr_eq(waiting, channel));
        at.map(|at| self.waiting.swap_remove(at)).is_some()
    }
}

impl FlushShared {
    pub(crate) fn new(stream: StreamId, seq: u64) -> Arc<Self> {
        Arc::new(Self { stream, seq, state: Lock::default() })
    }

    /// What the consumer of a channel lacks that stopped at `position`.
    pub(crate) fn lacks(&self, channel: &Channel, position: u64) -> Option<Shortfall> {
        let datums = self.seq.saturating_sub(position);
        let (stream, consumer) = (self.stream, channel.consumer_id());
        (datums > 0).then_some(Shortfall { stream, consumer, datums })
    }

    /// Waits for these channels, which the clerk will report. Without any the flush is over. `failed` is what
    /// is known to be missing.
    pub(crate) fn begin(&self, waiting: Vec<Arc<Channel>>, failed: Vec<Shortfall>) {
        self.change(|state| (state.waiting, state.failed) = (waiting, failed));
    }

    /// The consumer of a channel has everything.
    pub(crate) fn reached(&self, channel: &Arc<Channel>) {
        self.change(|state| {
            state.take(channel);
        });
    }

    /// The consumer of a channel is gone, which stopped at `position`.
    pub(crate) fn ended(&self, channel: &Arc<Channel>, position: u64) {
        self.change(|state| {
            if state.take(channel) {
                state.failed.extend(self.lacks(channel, position));
            }
        });
    }

    /// Nothing is known any more of the channels that are waited for.
    pub(crate) fn give_up(&self) {
        self.change(|state| {
            let left = std::mem::take(&mut state.waiting);
            let lacks = left.iter().filter_map(|channel| self.lacks(channel, channel.snapshot().released));
            state.failed.extend(lacks);
        });
    }

    /// A consumer goes on with another channel. `true`: the flush waits for it.
    pub(crate) fn replaced(&self, before: &Arc<Channel>, after: &Arc<Channel>) -> bool {
        let mut state = self.state.lock();
        let waits = state.take(before);
        if waits {
            state.waiting.push(after.clone());
        }
        waits
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    fn change(&self, change: impl FnOnce(&mut FlushState)) {
        let waker = {
            let mut state = self.state.lock();
            change(&mut state);
            state.is_over |= state.waiting.is_empty();
            if state.is_over { state.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            contain(|| waker.wake());
        }
    }
}

/// Resolves when each consumer that was connected, or absent with its place kept, has what was published
/// before the flush began, or is gone. The error has those that are gone without it. Dropping it ends the
/// waiting and has no other effect.
#[must_use = "a flush does nothing for those who do not wait for it"]
pub struct Flush(pub(crate) Arc<FlushShared>);

impl Flush {
    /// The consumers that lack something at present, gone ones included.
    pub fn missing(&self) -> Vec<Shortfall> {
        let state = self.0.state.lock();
        let waiting =
            state.waiting.iter().filter_map(|channel| self.0.lacks(channel, channel.snapshot().released));
        state.failed.iter().copied().chain(waiting).collect()
    }
}

impl Future for Flush {
    type Output = Result<(), Vec<Shortfall>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Cloning and dropping a waker run code of an executor, so neither happens under the lock.
        let waker = cx.waker().clone();
        let (answer, spare) = {
            let mut state = self.0.state.lock();
            if state.is_over {
                (Poll::Ready(state.failed.clone()), Some(waker))
            } else {
                (Poll::Pending, state.waker.replace(waker))
            }
        };
        drop(spare);
        answer.map(|failed| if failed.is_empty() { Ok(()) } else { Err(failed) })
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flush").field("seq", &self.0.seq).field("missing", &self.missing()).finish()
    }
}
