//! What a subscription is made of, and what the clerk and its handle share.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use corewire_proto::{
    PeerId, StreamId,
    channel::{DatumForm, Reliability},
    mutate,
};
use corewire_rings::{
    contain,
    sync::{AtomicFlag, EventCounter, Lock},
};

use super::{
    channel::{Channel, Channels},
    direct::DirectPlace,
    event::OnEvent,
    keys::{LegKey, SubscriptionKey},
    node::NodeShared,
    path::PathStats,
    port::{ClerkRequest, RequestPort},
    publication::{Admit, OnChange, ShownChannels},
    shown::Shown,
};
use crate::{criteria::StreamCriteria, peer::PeerInfo, shard::Inbox};

/// Credit of a channel between engines, in bytes: what a producer's ring holds by default, so that the window
/// stops no producer before its ring does.
pub const WINDOW_BYTES_DEFAULT: u64 = 1 << 20;

/// As many datums as a producer's ring holds by default.
pub const WINDOW_DATUMS_DEFAULT: u64 = 4_096;

/// When a subscription tries a producer again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay before the second attempt; at least a millisecond is used.
    pub initial: Duration,
    /// What each delay is multiplied by to give the next; below 1 counts as 1.
    pub multiplier: f64,
    /// The part of each delay, 0 to 1, by which it is randomly changed in either direction.
    pub jitter: f64,
    /// The longest delay.
    pub max: Duration,
    /// How long to try before a producer is given up until its entry changes; `None`: without end.
    pub max_elapsed: Option<Duration>,
}

impl Default for Backoff {
    /// 500 ms, growing by 1.5 up to 60 s, each randomly changed by up to a half, given up after 5 minutes.
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

/// A producer among which a subscription chooses.
#[derive(Clone, Copy, Debug)]
pub struct RankedProducer<'a> {
    /// Its entry.
    pub peer: &'a PeerInfo,
    /// 0 in this engine, 1 on this host, 2 elsewhere.
    pub hops: u8,
    /// What was measured about the path to it. Nothing within an engine.
    pub path: PathStats,
}

/// The rank of a producer, of which the lowest is the best; `None` while it cannot be ranked. Runs on the
/// clerk, twice a second for each. A panic counts as `None`.
pub type RankProducer = Arc<dyn Fn(&RankedProducer<'_>) -> Option<u64> + Send + Sync>;

/// How a subscription chooses among producers.
#[derive(Clone)]
pub struct PreferSpec {
    /// See [`RankProducer`].
    pub rank: RankProducer,
    /// How long another producer has to be better, by a fourth of its own rank, before it is chosen.
    pub hold: Duration,
}

/// What a subscription is made of.
#[derive(Clone)]
pub struct SubscribeSpec {
    /// The stream.
    pub stream: StreamId,
    /// Bytes that a remote producer may have in flight, each datum costing its length rounded up to 16, at
    /// least 16. Zero: no limit, so a slow consumer never stops the producer.
    pub window_bytes: u64,
    /// Datums likewise; zero: no limit by number.
    pub window_datums: u64,
    /// The longest datum that is taken, in bytes.
    pub max_datum: u32,
    /// What is wanted; a producer may promise less.
    pub reliability: Reliability,
    /// What it takes the datums for. A producer of another form refuses with `TYPE_MISMATCH`.
    pub form: DatumForm,
    /// Which datums it wants. `None`: all. A producer that cannot choose by them refuses with
    /// `CRITERIA_MISMATCH`.
    pub criteria: Option<Arc<StreamCriteria>>,
    /// Which producers to consume from. `None`: from every one of the stream.
    pub accept: Option<Admit>,
    /// Take the stream from one producer at a time, as this says. `None`: from all.
    pub prefer: Option<PreferSpec>,
    /// The one producer to consume from, which need not announce the stream. `None`: every one that does.
    pub producer: Option<PeerId>,
    /// When a producer is tried again.
    pub backoff: Backoff,
    /// See [`OnChange`].
    pub on_change: Option<OnChange>,
    /// See [`OnEvent`].
    pub on_event: Option<OnEvent>,
}

impl SubscribeSpec {
    /// A subscription to `stream` with every default: 1 MiB and 4,096 datums of window, datums up to 16 MiB,
    /// reliable, from every producer.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            window_bytes: WINDOW_BYTES_DEFAULT,
            window_datums: WINDOW_DATUMS_DEFAULT,
            max_datum: 16 << 20,
            reliability: Reliability::Reliable,
            form: DatumForm::default(),
            criteria: None,
            accept: None,
            prefer: None,
            producer: None,
            backoff: Backoff::default(),
            on_change: None,
            on_event: None,
        }
    }
}

impl SubscribeSpec {
    /// Whether this peer, as it describes itself, is one to consume from.
    pub(crate) fn wants(&self, peer: &PeerInfo) -> bool {
        self.producer.map_or_else(|| peer.produces(&self.stream), |only| peer.peer_id() == only)
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

/// What is missing between a leg and the one before it from the same producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegGap {
    /// Datums that neither leg has, between the last one that the earlier leg delivered or reported and the
    /// first one of this leg.
    pub datums: u64,
    /// The producer was restarted, or the place where the earlier leg ended is not known: it is not known how
    /// many datums are missing besides `datums`.
    pub unknown: bool,
}

/// The consumer's end of one channel. Dropping it ends the channel.
pub struct Leg {
    // Declared before `_end`, so that the cursor leaves the ring before the clerk is told.
    inbox: Inbox,
    channel: Arc<Channel>,
    gap: LegGap,
    _end: Option<LocalEnd>,
}

impl Leg {
    /// A leg that a shard fills.
    pub(crate) fn remote(inbox: Inbox, channel: Arc<Channel>, gap: LegGap) -> Self {
        Self { inbox, channel, gap, _end: None }
    }

    /// A leg that reads the producer's ring.
    pub(crate) fn local(inbox: Inbox, channel: Arc<Channel>, end: LocalEnd) -> Self {
        Self { inbox, channel, gap: LegGap::default(), _end: Some(end) }
    }

    /// What is missing before the first datum, besides what the datum says itself. Of a leg between engines
    /// only.
    #[inline]
    pub fn gap(&self) -> LegGap {
        self.gap
    }

    /// The datums that have arrived.
    #[inline]
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The datums that have arrived, to take them.
    #[inline]
    pub fn inbox_mut(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// State, counters and the producer. Its close code is the reason why the channel ended.
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

/// Tells the clerk that the consumer dropped its end of a local channel, which no shard sees.
#[derive(Debug)]
pub(crate) struct LocalEnd {
    pub(crate) port: Arc<RequestPort>,
    pub(crate) leg: LegKey,
}

impl Drop for LocalEnd {
    fn drop(&mut self) {
        self.port.send(ClerkRequest::LegDropped(self.leg));
    }
}

/// What the clerk and the handle of a subscription share.
pub(crate) struct SubscriptionShared {
    pub(crate) key: SubscriptionKey,
    pub(crate) spec: SubscribeSpec,
    pub(crate) channels: Shown<Channels>,
    pub(crate) panics: EventCounter,
    /// Legs made so far, plus one when closed.
    version: AtomicU64,
    closed: AtomicFlag,
    /// A producer is wanted that has neither refused nor was given up.
    pub(crate) undecided: AtomicFlag,
    /// Of one to one producer.
    pub(crate) place: DirectPlace,
    pub(crate) waiting: Lock<WaitingLegs>,
}

/// Legs that the consumer has not taken.
#[derive(Default)]
pub(crate) struct WaitingLegs {
    /// At most [`WAITING_LEGS_EACH`](super::limits::WAITING_LEGS_EACH) for each producer, and the clerk
    /// bounds the producers.
    pub(crate) fresh: VecDeque<Leg>,
    /// The consumer's, while it waits for a leg.
    pub(crate) waker: Option<Waker>,
}

impl SubscriptionShared {
    pub(crate) fn new(key: SubscriptionKey, spec: SubscribeSpec) -> Self {
        Self {
            key,
            spec,
            channels: Shown::new(Arc::from([])),
            panics: EventCounter::default(),
            version: AtomicU64::new(0),
            closed: AtomicFlag::default(),
            undecided: AtomicFlag::default(),
            place: DirectPlace::default(),
            waiting: Lock::new(WaitingLegs::default()),
        }
    }

    /// The clerk has forgotten it, or never took it in: its place at the node is free.
    pub(crate) fn forgotten(&self, node: &NodeShared) {
        if self.spec.producer.is_some() {
            node.direct.forgotten(&self.place);
        } else {
            node.live_subscriptions.give_back();
        }
    }

    /// Changes with each leg that is made, and at the end.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Hands a leg to the consumer and wakes it. If the subscription is closed the leg is dropped, which ends
    /// it.
    pub(crate) fn hand_over(&self, leg: Leg) {
        let (refused, waker) = {
            let mut legs = self.waiting.lock();
            if self.closed.get() {
                (Some(leg), None)
            } else {
                if mutate!(false, "waiting-leg-thrown-away" => true) {
                    legs.fresh.clear();
                }
                legs.fresh.push_back(leg);
                self.version.fetch_add(1, Ordering::Release);
                (None, legs.waker.take())
            }
        };
        drop(refused);
        if let Some(waker) = waker {
            contain(|| waker.wake());
        }
    }

    /// Legs of this producer that wait.
    pub(crate) fn waiting(&self, producer: PeerId) -> usize {
        let legs = self.waiting.lock();
        legs.fresh.iter().filter(|leg| leg.channel.producer_id() == producer).count()
    }

    /// Marks that no leg will come any more, and wakes the consumer.
    pub(crate) fn close(&self) {
        let waker = {
            let mut legs = self.waiting.lock();
            if self.closed.set(true) {
                return;
            }
            self.version.fetch_add(1, Ordering::Release);
            legs.waker.take()
        };
        if let Some(waker) = waker {
            contain(|| waker.wake());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Shows the hook where the channels are.
    pub(crate) fn attach(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        let is_over = Box::new(move || shared.upgrade().is_none_or(|shared| shared.is_closed()));
        if let Some(hook) = &self.spec.on_change {
            hook.attach(ShownChannels { channels: self.channels.subscribe(), is_over });
        }
    }
}
