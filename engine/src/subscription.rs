//! A stream that a node consumes.
//!
//! Not inside: types and the merging of legs (the typed layer's), and the search for producers (the clerk's).

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use corewire_proto::{StreamId, channel::Reliability};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    clerk::{
        limits::WAITING_LEGS_EACH,
        port::{Port, Request},
    },
    node::NodeShared,
    publication::{Admit, Channel, Channels, OnChange},
    shard::{Inbox, NodeId},
};

/// When a consumer tries a producer again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay before the second attempt; at least a millisecond is used.
    pub initial: Duration,
    /// What each delay is multiplied by to give the next; below 1 counts as 1.
    pub multiplier: f64,
    /// The part of each delay, 0 to 1, by which chance may change it in either direction.
    pub jitter: f64,
    /// The longest delay.
    pub max: Duration,
    /// How long to try before a producer is given up until its entry changes; `None` is for ever.
    pub max_elapsed: Option<Duration>,
}

impl Default for Backoff {
    /// 500 ms, growing by 1.5 up to 60 s, each changed by up to a half, given up after 5 minutes.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            multiplier: 1.5,
            jitter: 0.5,
            max: Duration::from_secs(60),
            max_elapsed: Some(Duration::from_secs(300)),
        }
    }
}

/// What a subscription is made of.
#[derive(Clone)]
pub struct SubscribeSpec {
    /// The stream.
    pub stream: StreamId,
    /// Bytes that a remote producer may have on the way, each datum costing its length rounded up to 16, at
    /// least 16. Zero: the consumer's slowness never stops the producer.
    pub window_bytes: u64,
    /// Datums likewise; zero: no limit by number.
    pub window_datums: u64,
    /// The longest datum that is taken, in bytes.
    pub max_datum: u32,
    /// What is wanted; a producer may promise less.
    pub reliability: Reliability,
    /// From whom to consume. `None`: from everybody who produces the stream.
    pub accept: Option<Admit>,
    /// When a producer is tried again.
    pub backoff: Backoff,
    /// See [`OnChange`].
    pub on_change: Option<OnChange>,
}

impl SubscribeSpec {
    /// A subscription to `stream` with every default: 65,536 bytes and 1,024 datums of window, datums up to
    /// 16 MiB, reliable, from everybody.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            window_bytes: 65_536,
            window_datums: 1_024,
            max_datum: 16 << 20,
            reliability: Reliability::Reliable,
            accept: None,
            backoff: Backoff::default(),
            on_change: None,
        }
    }
}

impl fmt::Debug for SubscribeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribeSpec")
            .field("stream", &self.stream)
            .field("window_bytes", &self.window_bytes)
            .field("window_datums", &self.window_datums)
            .field("reliability", &self.reliability)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

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
    /// The node has left its network.
    #[error("the node has left its network; join again")]
    Left,
}

/// The consumer's end of one channel. Dropping it ends the channel.
pub struct Leg {
    // Before `_end`: the cursor leaves the ring before the clerk is told.
    inbox: Inbox,
    channel: Arc<Channel>,
    _end: Option<LocalEnd>,
}

impl Leg {
    pub(crate) fn new(inbox: Inbox, channel: Arc<Channel>, end: Option<LocalEnd>) -> Self {
        Self { inbox, channel, _end: end }
    }

    /// Where the datums are.
    #[inline]
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Where the datums are, to take them.
    #[inline]
    pub fn inbox_mut(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// State, numbers and the producer. Its close code says why the leg ended.
    #[inline]
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leg").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Tells the clerk that the consumer let go of a leg that no shard knows of.
#[derive(Debug)]
pub(crate) struct LocalEnd {
    pub(crate) port: Arc<Port>,
    pub(crate) leg: u64,
}

impl Drop for LocalEnd {
    fn drop(&mut self) {
        self.port.send(Request::LegDropped(self.leg));
    }
}

/// What the clerk and the handle of a subscription share.
pub(crate) struct SubscriptionShared {
    pub(crate) key: u64,
    pub(crate) node: NodeId,
    pub(crate) spec: SubscribeSpec,
    pub(crate) channels: watch::Sender<Channels>,
    pub(crate) panics: AtomicU64,
    /// Legs made so far, plus one when closed.
    version: AtomicU64,
    closed: AtomicBool,
    /// At most [`WAITING_LEGS_EACH`] for each producer, whose number the clerk bounds.
    legs: Mutex<Legs>,
}

#[derive(Default)]
struct Legs {
    fresh: VecDeque<Leg>,
    waker: Option<Waker>,
}

impl SubscriptionShared {
    pub(crate) fn new(key: u64, node: NodeId, spec: SubscribeSpec) -> Self {
        Self {
            key,
            node,
            spec,
            channels: watch::Sender::new(Arc::from([])),
            panics: AtomicU64::new(0),
            version: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            legs: Mutex::new(Legs::default()),
        }
    }

    /// Hands a leg to the consumer and wakes it. A leg for a closed subscription is dropped, which ends it.
    pub(crate) fn hand_over(&self, leg: Leg) {
        let (refused, waker) = {
            let mut legs = self.lock();
            if self.closed.load(Ordering::Acquire) {
                (Some(leg), None)
            } else {
                // One leg per producer is alive; those before it are over.
                let producer = leg.channel.producer_id();
                let same = |waiting: &Leg| waiting.channel.producer_id() == producer;
                let crowded = legs.fresh.iter().filter(|waiting| same(waiting)).count() >= WAITING_LEGS_EACH;
                let oldest = legs.fresh.iter().position(same).filter(|_| crowded);
                let dropped = oldest.and_then(|at| legs.fresh.remove(at));
                legs.fresh.push_back(leg);
                self.version.fetch_add(1, Ordering::Release);
                (dropped, legs.waker.take())
            }
        };
        drop(refused);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No leg will come any more. Wakes the consumer.
    pub(crate) fn close(&self) {
        let waker = {
            let mut legs = self.lock();
            if self.closed.swap(true, Ordering::AcqRel) {
                return;
            }
            self.version.fetch_add(1, Ordering::Release);
            legs.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Legs> {
        self.legs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that a node consumes. Each subscription gets its own copy of every datum. Dropping it ends all its
/// legs and withdraws it from every producer.
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
        self.shared.lock().fresh.pop_front()
    }

    /// The next leg; `None` when the subscription is closed and all were taken. Keeps one waker, the latest.
    pub fn poll_leg(&self, cx: &mut Context<'_>) -> Poll<Option<Leg>> {
        let waker = cx.waker().clone();
        let mut legs = self.shared.lock();
        if let Some(leg) = legs.fresh.pop_front() {
            return Poll::Ready(Some(leg));
        }
        if self.shared.is_closed() {
            return Poll::Ready(None);
        }
        let replaced = legs.waker.replace(waker);
        drop(legs);
        // Dropping a waker runs an executor's code: not under the lock.
        drop(replaced);
        Poll::Pending
    }

    /// Changes when a leg comes and when the subscription is closed: one load tells whether [`poll_leg`] is
    /// worth calling.
    ///
    /// [`poll_leg`]: Subscription::poll_leg
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// The channels to producers at present: asked for, connected, or just over and not yet removed.
    pub fn channels(&self) -> Channels {
        self.shared.channels.borrow().clone()
    }

    /// Follows [`Subscription::channels`]: changes when one comes, goes, or changes its state.
    pub fn watch(&self) -> watch::Receiver<Channels> {
        self.shared.channels.subscribe()
    }

    /// Whether the node has left: no leg will come any more.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// [`Subscription::is_closed`] for whoever asks later and keeps nothing of the subscription until then.
    pub fn over(&self) -> impl Fn() -> bool + Send + Sync + 'static + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade().is_none_or(|shared| shared.is_closed())
    }

    /// Panics of the caller's closures.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.close();
        // The legs that nobody took end here; outside the lock, because each tells the clerk.
        let fresh = std::mem::take(&mut self.shared.lock().fresh);
        drop(fresh);
        self.node.port.send(Request::Unsubscribe(self.shared.clone()));
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
