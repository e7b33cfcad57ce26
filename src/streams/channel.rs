//! What can be asked of one channel.
//!
//! A channel lives in the engine; here is a window on it.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use corewire_engine::proto::session::CloseCode;
use corewire_engine::publication::Channel;
pub use corewire_engine::shared::ChannelState as State;
use tokio::sync::watch;

use crate::discovery::PeerEntry;
use crate::id::{PeerId, StreamId};

/// One consumer's subscription to one producer's stream, seen from either end. Cheap to clone.
#[derive(Clone)]
pub struct ChannelInfo {
    seen: Arc<Seen>,
}

/// What does not change about a channel, and the channel.
struct Seen {
    channel: Arc<Channel>,
    stream_id: StreamId,
    producer_id: PeerId,
    consumer_id: PeerId,
    peer: PeerEntry,
}

impl ChannelInfo {
    pub(crate) fn new(channel: &Arc<Channel>) -> Self {
        Self {
            seen: Arc::new(Seen {
                channel: channel.clone(),
                stream_id: StreamId::from_bytes(channel.stream_id().into()),
                producer_id: PeerId::from_bytes(channel.producer_id().into()),
                consumer_id: PeerId::from_bytes(channel.consumer_id().into()),
                peer: PeerEntry::new(channel.peer()),
            }),
        }
    }

    /// Whether this is a window on `channel`.
    pub(crate) fn shows(&self, channel: &Arc<Channel>) -> bool {
        Arc::ptr_eq(&self.seen.channel, channel)
    }

    /// Whether both are about the same channel, seen from the same end.
    pub fn is_same(&self, other: &Self) -> bool {
        self.shows(&other.seen.channel)
    }

    /// The stream.
    pub fn stream_id(&self) -> &StreamId {
        &self.seen.stream_id
    }

    /// The peer that produces.
    pub fn producer_id(&self) -> &PeerId {
        &self.seen.producer_id
    }

    /// The peer that consumes.
    pub fn consumer_id(&self) -> &PeerId {
        &self.seen.consumer_id
    }

    /// The entry of the other peer, as it was when the channel was made.
    pub fn peer(&self) -> &PeerEntry {
        &self.seen.peer
    }

    /// Where the channel is in its life. May be stale at once.
    pub fn state(&self) -> State {
        self.seen.channel.shared().state()
    }

    /// Follows the state. It sees the last state of the channel in any case; a short one before it may be missed.
    pub fn state_watcher(&self) -> watch::Receiver<State> {
        self.seen.channel.shared().watch()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        let numbers = self.seen.channel.snapshot();
        let end = self.seen.channel.shared().end_seq();
        Stats {
            datums: numbers.datums,
            bytes: numbers.bytes,
            uptime: self.seen.channel.shared().uptime(),
            lag: if end.is_some() { 0 } else { numbers.lag() },
            skipped: numbers.skipped + numbers.lost,
            dropped_oldest: numbers.skipped,
            skipped_at_close: end.map_or(0, |end| end.saturating_sub(numbers.released)),
            resent: numbers.resent,
            duplicates: numbers.duplicates,
            credit_bytes: numbers.credit_bytes,
            blocked: numbers.backpressure,
            undecodable: 0,
        }
    }

    /// Whether the state is [`State::Connected`].
    pub fn is_connected(&self) -> bool {
        self.state() == State::Connected
    }

    /// Why the channel is over; `None` while it is not. [`CloseCode::TOO_SLOW`] says that the consumer kept the
    /// producer's ring full ([`disconnect_lagging`](crate::streams::producer::Builder::disconnect_lagging)).
    /// [`CloseCode::is_retriable`] says whether the consumer tries again by itself, after its backoff. What it shows
    /// at a consumer stays until that attempt.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.seen.channel.shared().close_code()
    }

    /// Waits until the channel is over. Cancel-safe.
    pub async fn disconnected(&self) {
        let mut watcher = self.seen.channel.shared().watch();
        // An error means that nobody is left who could change the state: over as well.
        let _ = watcher.wait_for(|state| *state == State::Terminated).await;
    }
}

impl fmt::Debug for ChannelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelInfo")
            .field("stream_id", self.stream_id())
            .field("producer_id", self.producer_id())
            .field("consumer_id", self.consumer_id())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ChannelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stream {}: {} -> {}, {:?}, {}",
            self.stream_id().short(),
            self.producer_id().short(),
            self.consumer_id().short(),
            self.state(),
            self.stats()
        )
    }
}

/// Counters of a channel, or of a whole consumer. A snapshot: it does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    datums: u64,
    bytes: u64,
    uptime: Option<Duration>,
    lag: u64,
    skipped: u64,
    dropped_oldest: u64,
    skipped_at_close: u64,
    resent: u64,
    duplicates: u64,
    credit_bytes: u64,
    blocked: u64,
    undecodable: u64,
}

impl Stats {
    /// The numbers of a consumer, over all its channels.
    pub(crate) fn of_consumer(
        datums: u64,
        bytes: u64,
        skipped: u64,
        undecodable: u64,
        lag: u64,
        uptime: Option<Duration>,
    ) -> Self {
        Self { datums, bytes, uptime, lag, skipped, undecodable, ..Self::default() }
    }

    /// Datums delivered: on a channel between engines, sent at the producer's end or arrived at the consumer's;
    /// within an engine, and for a consumer as a whole, taken by the application.
    pub fn datums(&self) -> u64 {
        self.datums
    }

    /// Bytes of those datums, encoded, without any header.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long the channel is, or was, connected; `None` if it never was.
    pub fn uptime(&self) -> Option<Duration> {
        self.uptime
    }

    /// Datums that were accepted by the producer and are not yet acknowledged, or not yet taken.
    pub fn lag(&self) -> u64 {
        self.lag
    }

    /// Datums that will never be delivered: lost without being sent again, or dropped by policy.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Datums that the producer's policy took from this channel to make room; of a channel. Known once the gap was
    /// seen: at a shard when it comes to the place, within an engine when the consumer takes the next datum. Numbers
    /// whose room the producer gave up after claiming it count here too, on channels between engines.
    pub fn dropped_oldest(&self) -> u64 {
        self.dropped_oldest
    }

    /// Datums that had been accepted for this channel and were not taken (within an engine) or not acknowledged
    /// (between engines, at the producer's end) when it lost its place in the producer's ring, for instance because
    /// it was too slow; of a channel. What was on its way then may still have arrived.
    pub fn skipped_at_close(&self) -> u64 {
        self.skipped_at_close
    }

    /// Datums that were sent again after a loss; at the producer's end.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Datums that arrived more than once and were taken once; at the consumer's end.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Bytes that may be sent before the consumer takes something; at the producer's end of a channel between
    /// engines.
    pub fn credit_bytes(&self) -> u64 {
        self.credit_bytes
    }

    /// Times that there was something to send and no credit; at the producer's end of a channel between engines.
    pub fn blocked(&self) -> u64 {
        self.blocked
    }

    /// Records that were no datum of the consumer's type and were skipped; of a consumer.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uptime {
            Some(uptime) => write!(f, "uptime: {uptime:.1?}")?,
            None => f.write_str("uptime: none")?,
        }
        write!(f, ", datums: {}, bytes: {}", self.datums, self.bytes)?;
        for (count, what) in [
            (self.lag, "lag"),
            (self.skipped, "skipped"),
            (self.skipped_at_close, "skipped at close"),
            (self.resent, "resent"),
            (self.duplicates, "duplicates"),
            (self.blocked, "blocked"),
            (self.undecodable, "undecodable"),
        ] {
            if count > 0 {
                write!(f, ", {what}: {count}")?;
            }
        }
        Ok(())
    }
}
