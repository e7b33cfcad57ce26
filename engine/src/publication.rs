//! A stream that a node produces.
//!
//! Not inside: types, policies and waiting for room (the typed layer's, on the ring's writer), and who gets in
//! (the clerk asks [`PublishSpec::admit`]).

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use corewire_proto::{PeerId, StreamId, channel::Reliability};
use corewire_rings::{Ring, RingConfig, RingConfigError, Writer};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    clerk::port::{Port, Request},
    node::NodeShared,
    peer::PeerInfo,
    shard::{ChannelNumbers, ChannelShared, NodeId},
};

/// What a predicate says about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not this one. An existing channel is closed with `NOT_ALLOWED`.
    Deny,
    /// Let in, until the peer's entry changes and the question is asked again.
    Allow,
    /// Let in for this long; then the question is asked again, as after a change.
    AllowFor(Duration),
}

impl From<bool> for Verdict {
    fn from(allow: bool) -> Self {
        if allow { Self::Allow } else { Self::Deny }
    }
}

/// A question about a peer. Runs on the clerk, again after each change of the peer's entry. A panic counts as
/// [`Verdict::Deny`]. It should answer at once: the clerk does nothing else while it runs.
pub type Admit = Arc<dyn Fn(&PeerInfo) -> Verdict + Send + Sync>;

/// Called after each change that a condition over channels can see, without any lock held. Runs on the clerk, or
/// on the thread that made the change. A panic is caught and counted.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

/// Whatever the caller wants to find again at an existing publication.
pub type Attachment = Arc<dyn Any + Send + Sync>;

/// What a publication is made of.
#[derive(Clone)]
pub struct PublishSpec {
    /// The stream.
    pub stream: StreamId,
    /// Datums that the ring holds, exact.
    pub datums: usize,
    /// Bytes that the ring holds, each datum costing its length rounded up to 16, at least 16. If these are at least 128 for
    /// each datum (with the datums rounded up to a power of two), datums of up to 128 bytes lie in cells of their own, which
    /// take that memory besides, or instead if `max_datum` is not above 128, and pass faster between processors.
    pub bytes: usize,
    /// The longest datum in bytes.
    pub max_datum: usize,
    /// Consumers at one time; the next one is refused with `NO_CAPACITY`.
    pub max_consumers: usize,
    /// What is promised to consumers; each may ask for less.
    pub reliability: Reliability,
    /// Weight of its channels in the shard's scheduler, at least 1.
    pub weight: u8,
    /// Who may consume. `None`: everybody in the network.
    pub admit: Option<Admit>,
    /// A consumer that keeps the ring full for this long, without taking anything, is closed with `TOO_SLOW`; `None`:
    /// never. It keeps the ring full while nobody stands behind it and producers find no room, or make some by evicting
    /// what it has not taken. Each consumer has its own clock: it starts when the consumer begins to hold the ring,
    /// and anew when it takes something. Works only if producers call [`Publication::note_full`].
    ///
    /// A consumer of this engine that reads in place is told at once and loses its place in the ring when it has
    /// read. One whose node has left may read on, but keeps a ring full for ten seconds at most, also with `None`.
    pub lagging_grace: Option<Duration>,
    /// See [`OnChange`].
    pub on_change: Option<OnChange>,
    /// Given back by [`Publication::attachment`]. Must not own a [`Publication`], or the stream would never end.
    pub attachment: Option<Attachment>,
}

impl PublishSpec {
    /// A publication of `stream` with every default: 1,024 datums, 4 MiB, datums up to 1 MiB, any number of
    /// consumers, reliable, everybody admitted, lagging consumers never closed.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            datums: 1_024,
            bytes: 4 << 20,
            max_datum: 1 << 20,
            max_consumers: usize::MAX,
            reliability: Reliability::Reliable,
            weight: 1,
            admit: None,
            lagging_grace: None,
            on_change: None,
            attachment: None,
        }
    }

    /// The ring that this asks for.
    pub(crate) fn ring_config(&self) -> RingConfig {
        // One cursor per shard, one per consumer in the process.
        RingConfig {
            datums: self.datums,
            bytes: self.bytes,
            max_record: self.max_datum,
            readers: corewire_rings::limits::MAX_READERS,
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
            .field("lagging_grace", &self.lagging_grace)
            .finish_non_exhaustive()
    }
}

/// Why a stream could not be published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// This node publishes the stream already. Here is that publication; its settings stay as they are.
    #[error("this node publishes the stream already; use the publication that this error carries")]
    AlreadyExists(Publication),
    /// The ring can't be made as asked.
    #[error("the stream's ring: {0}")]
    Ring(#[from] RingConfigError),
    /// The node has as many publications as configured.
    #[error("this node publishes {limit} streams already; drop one or raise `Limits::publications`")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The node has left its network.
    #[error("the node has left its network; join again")]
    Left,
}

/// One consumer's leg of a stream, seen from either end: its state and numbers, and who is on the other side.
#[derive(Debug)]
pub struct Channel {
    pub(crate) shared: Arc<ChannelShared>,
    pub(crate) peer: PeerInfo,
    /// The publication whose ring lies between both ends, if they live in one engine.
    pub(crate) source: Option<Source>,
}

/// A publication of this engine, by its key. Whoever keeps a channel does not keep the ring.
#[derive(Clone)]
pub(crate) struct Source {
    key: u64,
    publication: Weak<PublicationShared>,
}

impl Source {
    pub(crate) fn new(publication: &Arc<PublicationShared>) -> Self {
        Self { key: publication.key, publication: Arc::downgrade(publication) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.key)
    }
}

impl Channel {
    /// State and numbers.
    #[inline]
    pub fn shared(&self) -> &Arc<ChannelShared> {
        &self.shared
    }

    /// The peer on the other side, as it was known when the channel was made.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// Whether both ends live in this engine, with the producer's ring between them. Then both share one
    /// [`ChannelShared`], whose cells belong to the consumer's thread.
    pub fn is_local(&self) -> bool {
        self.source.is_some()
    }

    /// Names the publication of a channel within this engine; no other publication of the engine ever has this name.
    /// Sequences go on from one channel to the next as long as it is the same.
    pub fn source(&self) -> Option<u64> {
        self.source.as_ref().map(|source| source.key)
    }

    /// The channel's numbers at the end of a recent turn. For a channel within this engine `published` is where the
    /// ring stands now, or stood when the channel lost its place in it.
    pub fn numbers(&self) -> ChannelNumbers {
        let mut numbers = self.shared.numbers();
        if let Some(source) = &self.source {
            let stands = || source.publication.upgrade().map(|publication| publication.ring.tail());
            let published = self.shared.end_seq().or_else(stands);
            numbers.published = published.unwrap_or(0).max(numbers.position);
        }
        numbers
    }

    /// The stream.
    pub fn stream_id(&self) -> StreamId {
        self.shared.stream_id()
    }

    /// Who produces.
    pub fn producer_id(&self) -> PeerId {
        self.shared.producer_id()
    }

    /// Who consumes.
    pub fn consumer_id(&self) -> PeerId {
        self.shared.consumer_id()
    }
}

/// The channels of a publication or a subscription, as one snapshot.
pub type Channels = Arc<[Arc<Channel>]>;

/// What the clerk and the handles of a publication share.
pub(crate) struct PublicationShared {
    pub(crate) key: u64,
    pub(crate) node: NodeId,
    pub(crate) spec: PublishSpec,
    pub(crate) ring: Ring,
    pub(crate) channels: watch::Sender<Channels>,
    /// A producer met a full ring and said so since the clerk looked last.
    pub(crate) full: AtomicBool,
    /// The ring is read by a consumer whose node has left.
    pub(crate) left: AtomicBool,
    pub(crate) counters: PublicationCounters,
}

impl PublicationShared {
    pub(crate) fn new(key: u64, node: NodeId, spec: PublishSpec, ring: Ring) -> Arc<Self> {
        Arc::new(Self {
            key,
            node,
            spec,
            ring,
            channels: watch::Sender::new(Arc::from([])),
            full: AtomicBool::new(false),
            left: AtomicBool::new(false),
            counters: PublicationCounters::default(),
        })
    }
}

/// What was refused, and what failed. Monotone.
#[derive(Debug, Default)]
pub(crate) struct PublicationCounters {
    pub(crate) admitted: AtomicU64,
    pub(crate) not_allowed: AtomicU64,
    pub(crate) no_capacity: AtomicU64,
    pub(crate) too_slow: AtomicU64,
    pub(crate) panics: AtomicU64,
}

/// What a publication counted. Monotone; a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicationStats {
    /// Consumers let in.
    pub admitted: u64,
    /// Consumers refused or cut off by [`PublishSpec::admit`].
    pub not_allowed: u64,
    /// Consumers refused because of [`PublishSpec::max_consumers`], or because the ring has no cursor left.
    pub no_capacity: u64,
    /// Consumers cut off because they kept the ring full.
    pub too_slow: u64,
    /// Panics of the caller's closures.
    pub panics: u64,
}

/// The handles' part: its drop is the end of the publication.
pub(crate) struct PublicationHandle {
    pub(crate) shared: Arc<PublicationShared>,
    pub(crate) node: Arc<NodeShared>,
    closed: AtomicBool,
}

impl PublicationHandle {
    pub(crate) fn new(shared: Arc<PublicationShared>, node: Arc<NodeShared>) -> Self {
        Self { shared, node, closed: AtomicBool::new(false) }
    }

    /// Makes the drop of a publication that the clerk never heard of silent.
    pub(crate) fn forget(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared.ring.close();
        self.node.forget_publication(&self.shared);
        self.node.port.send(Request::Unpublish(self.shared.clone()));
    }
}

impl Drop for PublicationHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// A stream that a node produces. Clones are handles of the same publication; when the last one is dropped the
/// ring is closed, what is in it is still delivered, and the stream is no longer announced.
#[derive(Clone)]
pub struct Publication(pub(crate) Arc<PublicationHandle>);

impl Publication {
    /// The stream.
    pub fn stream_id(&self) -> StreamId {
        self.0.shared.spec.stream
    }

    /// What the publication was made of.
    pub fn spec(&self) -> &PublishSpec {
        &self.0.shared.spec
    }

    /// The ring, for its numbers.
    pub fn ring(&self) -> &Ring {
        &self.0.shared.ring
    }

    /// A new writing handle to the ring. It works on after the publication is gone, but finds the ring closed.
    pub fn writer(&self) -> Writer {
        self.0.shared.ring.writer()
    }

    /// What [`PublishSpec::attachment`] was.
    pub fn attachment(&self) -> Option<&Attachment> {
        self.0.shared.spec.attachment.as_ref()
    }

    /// The channels to consumers at present: asked for, connected, or just over and not yet removed.
    pub fn channels(&self) -> Channels {
        self.0.shared.channels.borrow().clone()
    }

    /// Follows [`Publication::channels`]: changes when one comes, goes, or changes its state.
    pub fn watch(&self) -> watch::Receiver<Channels> {
        self.0.shared.channels.subscribe()
    }

    /// Ends the stream for all handles: what is in the ring is still delivered. Idempotent, never waits.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether the ring is closed.
    pub fn is_closed(&self) -> bool {
        self.0.shared.ring.is_closed()
    }

    /// Says that the ring was found full, or that room was made by evicting, so that
    /// [`PublishSpec::lagging_grace`] is counted from here. To be called each time; it costs two loads when the clerk
    /// knows already.
    pub fn note_full(&self) {
        note_full(&self.0.shared, &self.0.node.port);
    }

    /// [`Publication::note_full`] for whoever must not own a handle.
    pub fn full_notice(&self) -> FullNotice {
        FullNotice { shared: Arc::downgrade(&self.0.shared), port: self.0.node.port.clone() }
    }

    /// Whether the publication is over, for whoever asks later and keeps nothing of it until then.
    pub fn over(&self) -> impl Fn() -> bool + Send + Sync + 'static + use<> {
        let shared = Arc::downgrade(&self.0.shared);
        move || shared.upgrade().is_none_or(|shared| shared.ring.is_closed())
    }

    /// What was admitted and refused so far.
    pub fn stats(&self) -> PublicationStats {
        let counters = &self.0.shared.counters;
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        PublicationStats {
            admitted: get(&counters.admitted),
            not_allowed: get(&counters.not_allowed),
            no_capacity: get(&counters.no_capacity),
            too_slow: get(&counters.too_slow),
            panics: get(&counters.panics),
        }
    }
}

/// Tells that a ring was found full; made by [`Publication::full_notice`]. Does not keep the stream.
#[derive(Clone)]
pub struct FullNotice {
    shared: Weak<PublicationShared>,
    port: Arc<Port>,
}

impl FullNotice {
    /// As [`Publication::note_full`].
    pub fn note_full(&self) {
        if let Some(shared) = self.shared.upgrade() {
            note_full(&shared, &self.port);
        }
    }
}

impl fmt::Debug for FullNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FullNotice").finish_non_exhaustive()
    }
}

fn note_full(shared: &Arc<PublicationShared>, port: &Port) {
    if (shared.spec.lagging_grace.is_some() || shared.left.load(Ordering::Relaxed))
        && !shared.full.load(Ordering::Relaxed)
        && !shared.full.swap(true, Ordering::AcqRel)
    {
        port.send(Request::Full(shared.clone()));
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("stream", &self.stream_id())
            .field("closed", &self.is_closed())
            .field("channels", &self.channels().len())
            .finish_non_exhaustive()
    }
}
