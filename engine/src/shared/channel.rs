//! What a channel shows to the threads that do not own it.
//!
//! [`ChannelShared`] has the channel's identity, its state and its counters. The shard that owns the channel
//! writes them once in each turn in which the channel moved. [`Channel`] adds the peer at the other end.
//!
//! Not inside: the channel's protocol state, which belongs to its session.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use corewire_proto::{PeerId, StreamId, channel::TypeName, session::CloseCode, time::Instant};
use corewire_rings::sync::Lock;
use tokio::sync::watch;

use super::{
    egress::Egress,
    keys::PublicationKey,
    path::{PathShared, PathStats},
    publication::PublicationShared,
    shown::Shown,
};
use crate::{criteria::Selection, peer::PeerInfo};

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Asked for, not answered yet.
    Connecting,
    /// Carries datums.
    Connected,
    /// Over; the channel's `close_code` has the reason. Final.
    Terminated,
}

macro_rules! channel_counters {
    ($($name:ident: $doc:literal,)*) => {
        /// The counters of one channel. One writer: the shard that owns the channel, or the consumer's thread
        /// if the channel is local. Readers see the state at the end of a recent turn.
        #[derive(Debug, Default)]
        pub struct ChannelCounters {
            $($name: AtomicU64,)*
        }

        /// The values of a channel's counters.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ChannelSnapshot {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl ChannelCounters {
            /// Reads every counter, one after the other: the values need not belong to one moment.
            pub fn read(&self) -> ChannelSnapshot {
                ChannelSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            /// Writes every counter. For the one writer only.
            pub fn write(&self, snapshot: &ChannelSnapshot) {
                $(self.$name.store(snapshot.$name, Ordering::Relaxed);)*
            }
        }
    };
}

channel_counters! {
    datums: "Datums sent for the first time (producer's end) or delivered to the inbox (consumer's end).",
    bytes: "Bytes of those datums, without any header.",
    resent: "Datums sent again after a loss (producer's end).",
    skipped: "Datums of the stream that the producer dropped for this channel.",
    filtered: "Datums of the stream that the consumer's criteria do not want.",
    lost: "Datums lost on the way and not sent again (consumer's end, fire-and-forget).",
    gaps: "Times that a gap of lost datums was seen (consumer's end).",
    duplicates: "Datums dropped because they were there already (consumer's end).",
    late: "Datums dropped because a later one had been delivered (consumer's end, fire-and-forget).",
    position: "Sequence after the last datum sent (producer's end) or delivered in order (consumer's end).",
    released: "Sequence below which the producer's ring keeps nothing for this channel (producer's end), or after \
               the last datum that the application took (consumer's end).",
    paced: "Times that a limit of the bandwidth held the channel back (producer's end).",
    paced_ns: "Nanoseconds for which it did; the present wait is not included (producer's end).",
    paced_since: "Since when it does, in nanoseconds of the shards' clock; 0: it does not (producer's end).",
    published: "Sequence after the last datum of the ring that this channel knows of (producer's end).",
    window_bytes: "The window that the consumer asked for; 0 means no limit.",
    credit_bytes: "Bytes that may be sent before the consumer takes something (producer's end); all ones means no \
                   limit.",
    backpressure: "Times that the channel had datums and no credit (producer's end).",
    grants: "Grants of credit received (producer's end) or sent (consumer's end).",
}

impl ChannelCounters {
    /// Writes how many datums the consumer of a *local* channel has passed over by its criteria. Its thread
    /// is the one writer.
    #[inline]
    pub fn passed_over(&self, filtered: u64) {
        self.filtered.store(filtered, Ordering::Relaxed);
    }

    /// Writes what the consumer of a *local* channel took and missed so far. Its thread is the one writer.
    #[inline]
    pub fn delivered(&self, datums: u64, bytes: u64, skipped: u64, position: u64) {
        self.datums.store(datums, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.skipped.store(skipped, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.released.store(position, Ordering::Relaxed);
    }
}

impl ChannelSnapshot {
    /// Records of the producer's ring that this channel still holds.
    pub fn lag(&self) -> u64 {
        self.published.saturating_sub(self.released)
    }
}

/// A channel's identity, state and counters. The clerk makes it, the shard writes it, handles read it.
#[derive(Debug)]
pub struct ChannelShared {
    stream_id: StreamId,
    producer_id: PeerId,
    consumer_id: PeerId,
    state: Shown<ChannelState>,
    /// Set before the state becomes `Terminated`.
    close_code: OnceLock<CloseCode>,
    /// Set before `close_code` when that is `TYPE_MISMATCH`, at the consumer.
    producer_type: OnceLock<TypeName>,
    /// What it passes on. At the producer's end, and of a local channel.
    selection: Selection,
    /// The limits under which it sends. At the producer's end.
    egress: Egress,
    counters: ChannelCounters,
    /// See [`ChannelShared::end_seq`]; all ones while it is not known.
    end_seq: AtomicU64,
    /// See [`ChannelShared::stopped_at`]; all ones while it is not known.
    stopped_at: AtomicU64,
    /// See [`ChannelShared::path`].
    path: OnceLock<Arc<PathShared>>,
    /// See [`ChannelShared::remote_address`].
    remote_address: Lock<Option<SocketAddr>>,
    /// See [`ChannelShared::missed_before`].
    missed_before: AtomicU64,
    /// The peer is silent.
    suspect: AtomicBool,
    /// When the state first became `Connected`, by the clock of the thread that set it: a shard's, or the
    /// clerk's, which follows the shards'.
    connected_at: OnceLock<Instant>,
    /// When the state became `Terminated`.
    ended_at: OnceLock<Instant>,
}

impl ChannelShared {
    /// A channel that was asked for and not answered yet.
    pub fn new(stream_id: StreamId, producer_id: PeerId, consumer_id: PeerId) -> Self {
        Self {
            stream_id,
            producer_id,
            consumer_id,
            state: Shown::new(ChannelState::Connecting),
            close_code: OnceLock::new(),
            producer_type: OnceLock::new(),
            selection: Selection::default(),
            egress: Egress::default(),
            counters: ChannelCounters::default(),
            end_seq: AtomicU64::new(u64::MAX),
            stopped_at: AtomicU64::new(u64::MAX),
            path: OnceLock::new(),
            remote_address: Lock::default(),
            missed_before: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            connected_at: OnceLock::new(),
            ended_at: OnceLock::new(),
        }
    }

    /// The same channel, which passes on a part of its stream.
    #[must_use]
    pub fn selecting(self, selection: Selection) -> Self {
        Self { selection, ..self }
    }

    /// The same channel, which sends under limits.
    #[must_use]
    pub(crate) fn limited(self, egress: Egress) -> Self {
        Self { egress, ..self }
    }

    pub(crate) fn egress(&self) -> &Egress {
        &self.egress
    }

    /// What the channel passes on. Everything at the consumer's end of a channel between engines, where only
    /// that arrives.
    #[inline]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The stream.
    pub fn stream_id(&self) -> StreamId {
        self.stream_id
    }

    /// The peer that produces.
    pub fn producer_id(&self) -> PeerId {
        self.producer_id
    }

    /// The peer that consumes.
    pub fn consumer_id(&self) -> PeerId {
        self.consumer_id
    }

    /// The state now.
    pub fn state(&self) -> ChannelState {
        *self.state.borrow()
    }

    /// Follows the state. Sees every final state; may miss a short one in between.
    pub fn watch(&self) -> watch::Receiver<ChannelState> {
        self.state.subscribe()
    }

    /// The counters, for their one writer.
    #[inline]
    pub fn counters(&self) -> &ChannelCounters {
        &self.counters
    }

    /// The counters at the end of a recent turn.
    pub fn snapshot(&self) -> ChannelSnapshot {
        self.counters.read()
    }

    /// How long the channel has been connected at `now`, or was when it ended; `None` when it never was.
    pub fn uptime(&self, now: Instant) -> Option<Duration> {
        let since = *self.connected_at.get()?;
        let until = self.ended_at.get().copied().unwrap_or(now);
        Some(until.saturating_since(since))
    }

    /// Whether the channel is or was connected.
    pub(crate) fn was_connected(&self) -> bool {
        self.connected_at.get().is_some()
    }

    /// Marks the channel as connected, unless it is over already.
    pub fn set_connected(&self, now: Instant) {
        self.state.show_if(|state| {
            let first = *state == ChannelState::Connecting && self.close_code.get().is_none();
            if first {
                let _ = self.connected_at.set(now);
                *state = ChannelState::Connected;
            }
            first
        });
    }

    /// Whether the peer of a channel between engines is silent at present, though it has something to
    /// acknowledge.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    pub(crate) fn set_suspect(&self, suspect: bool) {
        self.suspect.store(suspect, Ordering::Relaxed);
    }

    /// Why the channel is over; `None` while it is not. Known before the state says `Terminated`.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.close_code.get().copied()
    }

    /// The datum type and codec of a producer that refused with `TYPE_MISMATCH`. At the consumer.
    pub fn producer_type(&self) -> Option<&TypeName> {
        self.producer_type.get()
    }

    /// The producer is about to refuse because its datums are these. The first name stays.
    pub(crate) fn set_producer_type(&self, name: TypeName) {
        let _ = self.producer_type.set(name);
    }

    /// Where the producer's ring stood when the channel lost its place there: the sequence after the last
    /// datum that was accepted for it. `None` while it has its place, and at the consumer's end of a channel
    /// between engines.
    pub fn end_seq(&self) -> Option<u64> {
        Some(self.end_seq.load(Ordering::Acquire)).filter(|seq| *seq != u64::MAX)
    }

    /// Where packets for the other end go: the address that its session has validated last. `None` within one
    /// engine, and before the channel is there.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        *self.remote_address.lock()
    }

    /// What the channel's session has measured. `None` within one engine, and before the channel is there.
    pub fn path(&self) -> Option<PathStats> {
        self.path.get().map(|path| path.read())
    }

    pub(crate) fn set_path(&self, path: &Arc<PathShared>) {
        let _ = self.path.set(path.clone());
    }

    pub(crate) fn set_remote_address(&self, to: SocketAddr) {
        let ip = to.ip().to_canonical();
        *self.remote_address.lock() = Some(SocketAddr::new(ip, to.port()));
    }

    /// At the producer's end of a channel between engines: datums that the consumer missed between its
    /// channels of this publication so far, as it was told.
    pub fn missed_before(&self) -> u64 {
        self.missed_before.load(Ordering::Relaxed)
    }

    pub(crate) fn set_missed_before(&self, datums: u64) {
        self.missed_before.store(datums, Ordering::Relaxed);
    }

    /// The channel is about to lose its place in the ring, which stands at `seq`.
    pub(crate) fn end_at(&self, seq: u64) {
        self.end_seq.store(seq, Ordering::Release);
    }

    /// At the consumer's end of a channel between engines that did not end in good order: the first sequence
    /// that its inbox does not have. Known before the state says `Terminated`.
    pub fn stopped_at(&self) -> Option<u64> {
        Some(self.stopped_at.load(Ordering::Acquire)).filter(|seq| *seq != u64::MAX)
    }

    /// The inbox of the channel gets nothing from `seq` on.
    pub(crate) fn stop_at(&self, seq: u64) {
        self.stopped_at.store(seq, Ordering::Release);
    }

    /// Marks the channel as over. The first reason stays; true when this was the first.
    pub fn terminate(&self, code: CloseCode, now: Instant) -> bool {
        if self.close_code.set(code).is_err() {
            return false;
        }
        let _ = self.ended_at.set(now);
        self.state.show(ChannelState::Terminated);
        true
    }
}

/// One consumer's channel of a stream, seen from either end: its state, its counters, and the peer at the
/// other end.
#[derive(Debug)]
pub struct Channel {
    pub(crate) shared: Arc<ChannelShared>,
    pub(crate) peer: PeerInfo,
    /// The publication whose ring lies between both ends, if they live in one engine.
    pub(crate) source: Option<Source>,
    /// At the producer's end: the publication.
    pub(crate) published: Option<Source>,
}

/// A publication of this engine, by its key. Weak: a channel does not keep the ring.
#[derive(Clone)]
pub(crate) struct Source {
    key: PublicationKey,
    publication: Weak<PublicationShared>,
}

impl Source {
    pub(crate) fn new(publication: &Arc<PublicationShared>) -> Self {
        Self { key: publication.key, publication: Arc::downgrade(publication) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.key.number)
    }
}

impl Channel {
    /// State and counters.
    #[inline]
    pub fn shared(&self) -> &Arc<ChannelShared> {
        &self.shared
    }

    /// The peer at the other end, as it was known when the channel was made.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// Whether both ends live in this engine, with the producer's ring between them. Then both share one
    /// [`ChannelShared`], whose counters the consumer's thread writes.
    pub fn is_local(&self) -> bool {
        self.source.is_some()
    }

    /// Names the publication of a channel within this engine; no other publication of the engine ever has
    /// this name. Sequences go on from one channel to the next as long as it is the same.
    pub fn source(&self) -> Option<u64> {
        self.source.as_ref().map(|source| source.key.number)
    }

    /// The counters at the end of a recent turn. Where the ring is in this engine, `published` is its tail
    /// now, or its tail when the channel lost its place in it: a shard writes no counter of a channel that it
    /// can't send on.
    pub fn snapshot(&self) -> ChannelSnapshot {
        let mut snapshot = self.shared.snapshot();
        let is_over = !self.is_local() && self.shared.close_code().is_some();
        if let Some(source) = self.source.as_ref().or(self.published.as_ref().filter(|_| !is_over)) {
            let tail = || source.publication.upgrade().map(|publication| publication.ring.tail());
            let published = self.shared.end_seq().or_else(tail);
            snapshot.published = published.unwrap_or(0).max(snapshot.position);
        }
        snapshot
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_counts_from_the_connection_to_the_end() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let peer = PeerId::from_bytes([1; 32]);
        let channel = ChannelShared::new(StreamId::from_bytes([2; 32]), peer, peer);
        assert_eq!((channel.uptime(at(3)), channel.was_connected()), (None, false));
        channel.set_connected(at(5));
        channel.set_connected(at(6));
        assert_eq!(channel.uptime(at(9)), Some(Duration::from_secs(4)));
        assert!(channel.terminate(CloseCode::GRACEFUL, at(10)));
        assert!(!channel.terminate(CloseCode::GRACEFUL, at(11)));
        assert_eq!(channel.uptime(at(100)), Some(Duration::from_secs(5)));
    }
}
