//! The handle of a stream that a node consumes.
//!
//! Not inside: types and the merging of legs (the typed layer's), and the search for producers (the clerk's).

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use corewire_proto::{StreamId, mutate};
use thiserror::Error;
use tokio::sync::watch;

pub use crate::shared::event::{ChannelEvent, OnEvent};
pub use crate::shared::path::PathStats;
pub use crate::shared::subscription::{
    Backoff, Leg, LegGap, PreferSpec, RankProducer, RankedProducer, SubscribeSpec, WINDOW_BYTES_DEFAULT,
    WINDOW_DATUMS_DEFAULT,
};
use crate::shared::{
    channel::Channels, node::NodeShared, port::ClerkRequest, subscription::SubscriptionShared,
};

/// Why a stream could not be subscribed to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The node has as many subscriptions as configured.
    #[error("this node has {limit} subscriptions already; drop one or raise `Limits::subscriptions`")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The node has as many direct publications and subscriptions as configured.
    #[error("this node has {limit} directions of raw channels already; close one or raise `Limits::direct`")]
    TooManyDirect {
        /// The limit.
        limit: usize,
    },
    /// The node has left its network.
    #[error("the node has left its network; join again")]
    Left,
}

/// A stream that a node consumes. Each subscription gets its own copy of every datum. Dropping it ends all
/// its legs and withdraws it from every producer.
pub struct Subscription {
    pub(crate) shared: Arc<SubscriptionShared>,
    pub(crate) node: Arc<NodeShared>,
}

impl Subscription {
    /// The stream.
    pub fn stream_id(&self) -> StreamId {
        self.shared.spec.stream
    }

    /// What the subscription was made of.
    pub fn spec(&self) -> &SubscribeSpec {
        &self.shared.spec
    }

    /// The next leg that was connected and not taken yet.
    pub fn take_leg(&self) -> Option<Leg> {
        self.shared.waiting.lock().fresh.pop_front()
    }

    /// The first waiting leg that `wanted` accepts.
    pub fn take_leg_where(&self, mut wanted: impl FnMut(&Leg) -> bool) -> Option<Leg> {
        let mut legs = self.shared.waiting.lock();
        let wanted = |leg: &Leg| mutate!(wanted(leg), "next-leg-too-early" => true);
        let at = legs.fresh.iter().position(wanted)?;
        legs.fresh.remove(at)
    }

    /// The next leg; `None` when the subscription is closed and all were taken. Keeps one waker, the latest.
    pub fn poll_leg(&self, cx: &mut Context<'_>) -> Poll<Option<Leg>> {
        let waker = cx.waker().clone();
        let mut legs = self.shared.waiting.lock();
        if let Some(leg) = legs.fresh.pop_front() {
            return Poll::Ready(Some(leg));
        }
        if self.shared.is_closed() {
            return Poll::Ready(None);
        }
        let replaced = legs.waker.replace(waker);
        drop(legs);
        // Dropping a waker runs an executor's code, so not under the lock.
        drop(replaced);
        Poll::Pending
    }

    /// Changes when a leg comes and when the subscription is closed: one load tells whether
    /// [`poll_leg`](Subscription::poll_leg) is worth calling.
    pub fn version(&self) -> u64 {
        self.shared.version()
    }

    /// The channels to producers at present: asked for, connected, or just over and not yet removed.
    pub fn channels(&self) -> Channels {
        self.shared.channels.borrow().clone()
    }

    /// Follows [`Subscription::channels`]: changes when one comes, goes, or changes its state.
    pub fn watch(&self) -> watch::Receiver<Channels> {
        self.shared.channels.subscribe()
    }

    /// Whether a known producer may still let this subscription in, or does: it has neither refused for a
    /// reason that stays, nor was given up.
    pub fn has_undecided(&self) -> bool {
        self.shared.undecided.get()
    }

    /// Whether the node has left: no leg will come any more.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Ends a subscription to one producer, as its drop does. Its place among
    /// [`Limits::direct`](crate::shared::limits::Limits::direct) is free on return, though the clerk has not
    /// seen the end. `false`: the place is free once it has, because it is behind with very many of them.
    pub fn give_way(self) -> bool {
        let (shared, node) = (self.shared.clone(), self.node.clone());
        drop(self);
        shared.spec.producer.is_some() && node.direct.give_way(&shared.place)
    }

    /// Panics of the caller's closures.
    pub fn panics(&self) -> u64 {
        self.shared.panics.get()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.close();
        // Legs that were not taken end here, outside the lock, because each drop sends a request.
        let fresh = std::mem::take(&mut self.shared.waiting.lock().fresh);
        drop(fresh);
        self.node.port.send(ClerkRequest::Unsubscribe(self.shared.clone()));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("stream", &self.stream_id())
            .field("closed", &self.is_closed())
            .field("channels", &self.channels().len())
            .finish_non_exhaustive()
    }
}
