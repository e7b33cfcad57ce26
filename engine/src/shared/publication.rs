//! What a publication is made of, and what the clerk and its handles share.
//!
//! The last handle owns a `PublicationGuard`; its drop closes the ring and tells the clerk.

use std::{
    any::Any,
    fmt,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use corewire_proto::{
    PeerId, StreamId,
    channel::{DatumForm, Reliability},
    session::CloseCode,
};
use corewire_rings::{
    Ring, RingConfig,
    limits::MAX_READERS,
    sync::{AtomicFlag, EventCounter, Lock},
};
use tokio::sync::watch;

use super::{
    channel::Channels,
    direct::DirectPlace,
    egress::EgressLimit,
    event::OnEvent,
    flush::{Flush, FlushShared, Shortfall},
    keys::PublicationKey,
    node::NodeShared,
    port::{ClerkRequest, RequestPort},
    shown::Shown,
};
use crate::{
    criteria::{KEY_ROOM, KeyKind},
    peer::PeerInfo,
};

/// What a predicate says about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not this one. An existing channel is closed with `NOT_ALLOWED`.
    Deny,
    /// Not this one for this long; then the question is asked again, as after a change.
    DenyFor(Duration),
    /// Let in, until the peer's entry changes and the question is asked again.
    Allow,
    /// Let in for this long; then the question is asked again, as after a change.
    AllowFor(Duration),
}

impl Verdict {
    /// Whether the peer is not let in now.
    pub(crate) const fn denies(self) -> bool {
        matches!(self, Self::Deny | Self::DenyFor(_))
    }
}

impl From<bool> for Verdict {
    fn from(allow: bool) -> Self {
        if allow { Self::Allow } else { Self::Deny }
    }
}

/// A question about a peer. Runs on the clerk, again after each change of the peer's entry. A panic counts as
/// [`Verdict::Deny`]. It should answer at once: the clerk does nothing else while it runs.
pub type Admit = Arc<dyn Fn(&PeerInfo) -> Verdict + Send + Sync>;

/// How a handle learns of changes of its channels that a condition can see. Called on the clerk, without any
/// lock held; a panic is caught and counted.
///
/// At the end of a turn the clerk refreshes all hooks whose channels have changed, those of publications
/// first, and then wakes all of them. So a task that is woken sees the new channels at both ends of this
/// engine, and a consumer that is seen connected is in its producer's list.
///
/// A closure is a hook that is only woken.
pub trait ChangeHook: Send + Sync {
    /// Where the channels are shown from now on. Called once, on the thread of the caller, before the clerk
    /// knows the publication or subscription.
    fn attach(&self, _channels: ShownChannels) {}

    /// Reads the channels again.
    fn refresh(&self) {}

    /// Wakes the tasks that wait for a change.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> ChangeHook for F {
    fn wake(&self) {
        self();
    }
}

/// See [`ChangeHook`].
pub type OnChange = Arc<dyn ChangeHook>;

/// What a [`ChangeHook`] looks at. It keeps no handle alive.
pub struct ShownChannels {
    /// The channels.
    pub channels: watch::Receiver<Channels>,
    /// Whether the publication or subscription is over.
    pub is_over: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A value of the caller's, found again at an existing publication.
pub type Attachment = Arc<dyn Any + Send + Sync>;

/// Makes a publication direct: it serves one peer. No record announces it, so only a subscription that knows
/// its stream and its producer ([`SubscribeSpec::producer`](super::subscription::SubscribeSpec::producer))
/// finds it. A ring that has no consumer keeps nothing: what is published meanwhile is counted as
/// [`PublicationStats::skipped_at_close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectTo {
    /// The one consumer. To every other peer the stream does not exist.
    pub consumer: PeerId,
    /// The stream of the other direction. When the consumer asks for a channel it publishes that one, so this
    /// node's subscription to it tries again at once.
    pub back: StreamId,
}

/// Longer than any pause of a healthy program: garbage collection, a storm of page faults, a short stop in a
/// debugger.
pub const STANDSTILL_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// How long the place of an absent consumer is kept.
pub const RESUME_FOR_DEFAULT: Duration = Duration::from_secs(10);

/// Cursors in the ring of a direct publication: its consumer's channel, the place of the one before, and as
/// many again while the consumer moves to another shard or opens anew.
const DIRECT_READERS: usize = 4;

/// What a publication is made of.
#[derive(Clone)]
pub struct PublishSpec {
    /// The stream.
    pub stream: StreamId,
    /// Datums that the ring holds, exact.
    pub datums: usize,
    /// Bytes that the ring holds, each datum costing its length rounded up to 16, at least 16. With at least
    /// 128 bytes for each datum (datums rounded up to a power of two), datums of up to 128 bytes are stored
    /// in lines of their own, which pass faster between processors. The lines take that much memory in
    /// addition, or instead if `max_datum` is at most 128.
    pub bytes: usize,
    /// The longest datum in bytes.
    pub max_datum: usize,
    /// Consumers at one time; the next one is refused with `NO_CAPACITY`.
    pub max_consumers: usize,
    /// What is promised to consumers; each may ask for less.
    pub reliability: Reliability,
    /// Weight of its channels in the shard's scheduler, at least 1.
    pub weight: u8,
    /// Bytes per second that its channels to other engines send, all together. `None`: no limit. Counted are
    /// the frames with its datums, also those that are sent again, and header and tag of their packets.
    pub max_bandwidth: Option<NonZeroU64>,
    /// What its datums are. A consumer of another form is refused with `TYPE_MISMATCH`.
    pub form: DatumForm,
    /// What the keys behind its datums are: see [`criteria`](crate::criteria). `None`: it has none.
    pub keys: Option<KeyKind>,
    /// Which peers may consume. `None`: every member of the network.
    pub admit: Option<Admit>,
    /// A consumer that has kept the ring full for this long in total, while another consumer had taken
    /// everything, is closed with `TOO_SLOW`; `None`: no consumer is closed for lagging. A consumer keeps the
    /// ring full while it is the furthest behind and producers find no room, or make room by evicting what it
    /// has not taken. The sum of a consumer starts anew when it has nothing left to take, and after ten
    /// seconds in which it did not keep the ring full. Works only if producers call
    /// [`Publication::note_full`](crate::publication::Publication::note_full).
    ///
    /// A local consumer that reads in place is closed at once and loses its cursor when it has read. One
    /// whose node has left may read on, but keeps a ring full for ten seconds at most without taking
    /// anything, also with `None`.
    pub lagging_grace: Option<Duration>,
    /// With a `lagging_grace`: a consumer that keeps the ring full for this long without taking anything is
    /// closed with `TOO_SLOW`, also if no other consumer waits for it. What is evicted does not count as
    /// taken.
    pub standstill_grace: Duration,
    /// How long the place of a remote consumer is kept in the ring after its session broke and it must have
    /// noticed that, for which it has the dead-peer time of the node's sessions. A consumer that is back in
    /// this time goes on where it stopped; until then it holds the ring as if it were there, and
    /// `lagging_grace` applies to it. Zero: not at all.
    pub resume_for: Duration,
    /// The one peer that it is for. `None`: it is announced, and for every peer that is admitted.
    pub direct: Option<DirectTo>,
    /// See [`OnChange`].
    pub on_change: Option<OnChange>,
    /// See [`OnEvent`].
    pub on_event: Option<OnEvent>,
    /// Given back by [`Publication::attachment`](crate::publication::Publication::attachment). Must not own a
    /// handle of the publication, or the stream would never end.
    pub attachment: Option<Attachment>,
}

impl PublishSpec {
    /// A publication of `stream` with every default: 4,096 datums, 4 MiB, datums up to 1 MiB, any number of
    /// consumers, reliable, every peer admitted, lagging consumers never closed, places kept for 10 s.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            datums: 4_096,
            bytes: 4 << 20,
            max_datum: 1 << 20,
            max_consumers: usize::MAX,
            reliability: Reliability::Reliable,
            weight: 1,
            max_bandwidth: None,
            form: DatumForm::default(),
            keys: None,
            admit: None,
            lagging_grace: None,
            standstill_grace: STANDSTILL_GRACE_DEFAULT,
            resume_for: RESUME_FOR_DEFAULT,
            direct: None,
            on_change: None,
            on_event: None,
            attachment: None,
        }
    }

    /// The ring that this asks for, with as many cursors as a ring can have: one per shard and one per local
    /// consumer. A direct one has one consumer, whose channel may be replaced.
    pub(crate) fn ring_config(&self) -> RingConfig {
        RingConfig {
            datums: self.datums,
            bytes: self.bytes,
            max_record: self.max_datum + if self.keys.is_some() { KEY_ROOM } else { 0 },
            readers: if self.direct.is_some() { DIRECT_READERS } else { MAX_READERS },
            scatter_small: RingConfig::scatter_fits(self.datums, self.bytes),
        }
    }
}

impl fmt::Debug for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishSpec")
            .field("stream", &self.stream)
            .field("datums", &self.datums)
            .field("bytes", &self.bytes)
            .field("max_datum", &self.max_datum)
            .field("max_consumers", &self.max_consumers)
            .field("reliability", &self.reliability)
            .field("weight", &self.weight)
            .field("max_bandwidth", &self.max_bandwidth)
            .field("lagging_grace", &self.lagging_grace)
            .field("standstill_grace", &self.standstill_grace)
            .field("resume_for", &self.resume_for)
            .finish_non_exhaustive()
    }
}

/// The code with which the channels of a publication end, once its ring is closed and they have delivered
/// what is in it. Set before the ring is closed, at most once.
#[derive(Debug)]
pub struct StreamEnd(AtomicU32);

impl StreamEnd {
    pub(crate) fn set(&self, code: CloseCode) {
        self.0.store(code.number(), Ordering::Release);
    }

    /// The code; [`CloseCode::GRACEFUL`] unless another one was set.
    pub fn code(&self) -> CloseCode {
        CloseCode::from_number(self.0.load(Ordering::Acquire)).unwrap_or(CloseCode::GRACEFUL)
    }
}

impl Default for StreamEnd {
    fn default() -> Self {
        Self(AtomicU32::new(CloseCode::GRACEFUL.number()))
    }
}

/// What the clerk and the handles of a publication share.
pub(crate) struct PublicationShared {
    pub(crate) key: PublicationKey,
    pub(crate) spec: PublishSpec,
    pub(crate) ring: Ring,
    /// How its channels end.
    pub(crate) end: Arc<StreamEnd>,
    /// Of its [`PublishSpec::max_bandwidth`].
    pub(crate) egress: Option<Arc<EgressLimit>>,
    pub(crate) channels: Shown<Channels>,
    /// A producer reported a full ring since the clerk last checked. Limits the requests to one per check.
    pub(crate) full: AtomicFlag,
    /// A consumer whose node has left still reads the ring.
    pub(crate) left: AtomicFlag,
    /// It was closed, and what is in the ring is not to be delivered.
    pub(crate) discarded: AtomicFlag,
    /// Of a direct one.
    pub(crate) place: DirectPlace,
    /// What consumers did not get after the close. At most one for each of their channels.
    pub(crate) undelivered: Lock<Vec<Shortfall>>,
    pub(crate) counters: PublicationCounters,
}

impl PublicationShared {
    pub(crate) fn new(key: PublicationKey, spec: PublishSpec, ring: Ring) -> Arc<Self> {
        let egress = spec.max_bandwidth.map(|rate| Arc::new(EgressLimit::new(rate)));
        Arc::new(Self {
            key,
            spec,
            ring,
            end: Arc::default(),
            egress,
            channels: Shown::new(Arc::from([])),
            full: AtomicFlag::default(),
            left: AtomicFlag::default(),
            discarded: AtomicFlag::default(),
            place: DirectPlace::default(),
            undelivered: Lock::default(),
            counters: PublicationCounters::default(),
        })
    }

    /// Shows the hook where the channels are.
    pub(crate) fn attach(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        let is_over = Box::new(move || shared.upgrade().is_none_or(|shared| shared.ring.is_closed()));
        if let Some(hook) = &self.spec.on_change {
            hook.attach(ShownChannels { channels: self.channels.subscribe(), is_over });
        }
    }

    /// The clerk has forgotten it, or never took it in: its place at the node is free.
    pub(crate) fn forgotten(&self, node: &NodeShared) {
        if self.spec.direct.is_some() {
            node.direct.forgotten(&self.place);
        } else {
            node.live_publications.give_back();
        }
    }
}

/// What a publication counts. The clerk is the only writer.
#[derive(Debug, Default)]
pub(crate) struct PublicationCounters {
    pub(crate) admitted: EventCounter,
    pub(crate) not_allowed: EventCounter,
    pub(crate) type_mismatch: EventCounter,
    pub(crate) criteria_mismatch: EventCounter,
    pub(crate) no_capacity: EventCounter,
    pub(crate) too_slow: EventCounter,
    pub(crate) resumed: EventCounter,
    pub(crate) skipped_at_close: EventCounter,
    pub(crate) missed_while_away: EventCounter,
    pub(crate) panics: EventCounter,
}

/// What a publication counted. Monotone; a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicationStats {
    /// Consumers let in.
    pub admitted: u64,
    /// Consumers refused or cut off by [`PublishSpec::admit`].
    pub not_allowed: u64,
    /// Consumers refused because their criteria ask for keys of another kind than [`PublishSpec::keys`].
    pub criteria_mismatch: u64,
    /// Consumers refused because of [`PublishSpec::form`].
    pub type_mismatch: u64,
    /// Consumers refused because of [`PublishSpec::max_consumers`], or because the ring has no cursor left.
    pub no_capacity: u64,
    /// Consumers cut off because they kept the ring full.
    pub too_slow: u64,
    /// Remote consumers that went on where their last channel stopped.
    pub resumed: u64,
    /// Datums that were accepted for a remote consumer and not acknowledged by it when its place in the ring
    /// was given up, summed over consumers. Those on their way at that moment may still have arrived. Of a
    /// publication that was [discarded](crate::publication::Publication::discard) also what local consumers
    /// had not taken.
    pub skipped_at_close: u64,
    /// Datums that remote consumers missed while they had no channel, summed over those that came back:
    /// exactly what they were told as missing before the first datum of their next channel.
    pub missed_while_away: u64,
    /// Panics of the caller's closures.
    pub panics: u64,
}

/// Owned by all handles of one publication together: its drop closes the publication.
pub(crate) struct PublicationGuard {
    pub(crate) shared: Arc<PublicationShared>,
    pub(crate) node: Arc<NodeShared>,
    /// The clerk has been told of the close, or never knew the publication.
    closed: AtomicFlag,
}

impl PublicationGuard {
    pub(crate) fn new(shared: Arc<PublicationShared>, node: Arc<NodeShared>) -> Self {
        Self { shared, node, closed: AtomicFlag::default() }
    }

    /// For a publication that the clerk never saw: its drop sends no request.
    pub(crate) fn forget(&self) {
        self.closed.set(true);
    }

    /// As [`PublicationGuard::close`] with `code`, without delivering what is in the ring.
    pub(crate) fn discard(&self, code: CloseCode) {
        if !self.closed.get() {
            self.shared.discarded.set(true);
        }
        self.close(code);
    }

    /// Closes the ring, frees the stream's name and tells the clerk. Channels end with `code`. Only the first
    /// call has an effect.
    pub(crate) fn close(&self, code: CloseCode) {
        if self.closed.set(true) {
            return;
        }
        self.shared.end.set(code);
        self.shared.ring.close();
        self.node.forget_publication(&self.shared);
        self.node.port.send(ClerkRequest::Unpublish(self.shared.clone()));
    }
}

impl PublicationGuard {
    /// Begins to wait until consumers have what is published by now.
    pub(crate) fn flush(&self) -> Flush {
        let flush = FlushShared::new(self.shared.spec.stream, self.shared.ring.tail());
        let request = ClerkRequest::Flush(self.shared.clone(), flush.clone());
        if !self.node.port.send(request) {
            // The engine has stopped, so what was not delivered is known.
            flush.begin(Vec::new(), self.shared.undelivered.lock().clone());
        }
        Flush(flush)
    }
}

impl Drop for PublicationGuard {
    fn drop(&mut self) {
        self.close(CloseCode::GRACEFUL);
    }
}

/// Tells the clerk that the ring is full, if lagging consumers are to be closed and the clerk does not know
/// yet.
pub(crate) fn note_full(shared: &Arc<PublicationShared>, port: &RequestPort) {
    if (shared.spec.lagging_grace.is_some() || shared.left.get())
        && !shared.full.get()
        && !shared.full.set(true)
    {
        port.send(ClerkRequest::Full(shared.clone()));
    }
}
