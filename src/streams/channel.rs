//! What can be asked of one channel: [`ChannelInfo`].

use core::fmt;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use corewire_engine::driver;
use corewire_engine::publication::Channel;
pub use corewire_engine::shared::ChannelState as State;
pub use corewire_engine::subscription::PathStats;
use tokio::sync::watch;

use super::stats::Stats;
use super::{CloseCode, TypeName};
use crate::blocking::block_on;
use crate::discovery::PeerEntry;
use crate::id::{PeerId, StreamId};

/// One consumer's subscription to one producer's stream, seen from either end. Cheap to clone; it stays
/// readable after the channel has ended.
///
/// ```
/// use corewire::streams::State;
/// use corewire::{Network, NetworkId, StreamId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let producer = network.streams().producer::<u64>().with_stream_id("prices").build().unwrap();
/// let mut consumer = network.streams().consumer::<u64>().with_stream_id("prices").build();
/// consumer.when().online().wait_blocking();
/// producer.send_blocking(7)?;
/// assert_eq!(consumer.recv_blocking(), Some(7));
///
/// let info = consumer.producers().next().expect("one channel");
/// assert_eq!(*info.stream_id(), StreamId::from("prices"));
/// assert_eq!((info.producer_id(), info.consumer_id()), (network.local().id(), network.local().id()));
/// assert_eq!(info.peer().id(), network.local().id());
/// assert!(info.is_connected() && info.close_code().is_none());
/// assert_eq!((info.state(), *info.state_watcher().borrow()), (State::Connected, State::Connected));
/// assert_eq!(info.stats().datums(), 1);
/// println!("{info}");
///
/// drop(producer);
/// info.disconnected_blocking();
/// assert_eq!(info.state(), State::Terminated);
/// assert!(info.close_code().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ChannelInfo {
    ends: Arc<ChannelEnds>,
}

/// A channel and what never changes about it.
struct ChannelEnds {
    channel: Arc<Channel>,
    stream_id: StreamId,
    producer_id: PeerId,
    consumer_id: PeerId,
    peer: PeerEntry,
}

impl ChannelInfo {
    pub(crate) fn new(channel: &Arc<Channel>) -> Self {
        Self {
            ends: Arc::new(ChannelEnds {
                channel: channel.clone(),
                stream_id: channel.stream_id().0.into(),
                producer_id: channel.producer_id().0.into(),
                consumer_id: channel.consumer_id().0.into(),
                peer: PeerEntry::new(channel.peer()),
            }),
        }
    }

    /// Whether its consumer wants every datum, or every nth. At the producer's end.
    pub(super) fn wants_all(&self) -> bool {
        let criteria = self.ends.channel.shared().selection().criteria.as_ref();
        criteria.is_none_or(|criteria| criteria.keys.is_none())
    }

    /// Whether its consumer wants datums with this key, or every nth of them. At the producer's end.
    pub(super) fn wants(&self, key: Option<&[u8]>) -> bool {
        // Every number of datums accepts the sequence 0.
        let criteria = self.ends.channel.shared().selection().criteria.as_ref();
        criteria.is_none_or(|criteria| criteria.accepts(0, key))
    }

    /// Whether the other end has refused the channel, or ended it, for a reason that stays.
    pub(super) fn is_refused(&self) -> bool {
        self.close_code().is_some_and(|code| !code.is_retriable())
    }

    /// Type and codec of a producer that refused because they differ.
    pub(super) fn producer_type(&self) -> Option<&TypeName> {
        self.ends.channel.shared().producer_type()
    }

    /// Whether this is about `channel`.
    pub(crate) fn is_of(&self, channel: &Arc<Channel>) -> bool {
        Arc::ptr_eq(&self.ends.channel, channel)
    }

    /// Whether both are about the same channel, seen from the same end.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// let (before, after) = (consumer.producers().next().unwrap(), consumer.producers().next().unwrap());
    /// assert!(before.is_same(&after));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_of(&other.ends.channel)
    }

    /// The stream.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.stream_id(), consumer.stream_id());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn stream_id(&self) -> &StreamId {
        &self.ends.stream_id
    }

    /// The peer that produces.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.producer_id(), network.local().id());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn producer_id(&self) -> &PeerId {
        &self.ends.producer_id
    }

    /// The peer that consumes.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.consumer_id(), network.local().id());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn consumer_id(&self) -> &PeerId {
        &self.ends.consumer_id
    }

    /// The entry of the peer at the other end, as it was when the channel was made.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.peer().id(), network.local().id(), "both ends are on one node");
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn peer(&self) -> &PeerEntry {
        &self.ends.peer
    }

    /// The state of the channel. May be stale at once.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.state(), corewire::streams::State::Connected);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn state(&self) -> State {
        self.ends.channel.shared().state()
    }

    /// Follows the state. The last state is always seen; a short one before it may be missed.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// let watcher = info.state_watcher();
    /// assert_eq!(*watcher.borrow(), info.state());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn state_watcher(&self) -> watch::Receiver<State> {
        self.ends.channel.shared().watch()
    }

    /// A snapshot of the counters. Those that a shard keeps are as of the end of one of its recent turns.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// producer.send_blocking(7).unwrap();
    /// assert_eq!((info.stats().lag(), info.stats().datums()), (1, 0), "the consumer has not taken it");
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let numbers = self.ends.channel.snapshot();
        let end = self.ends.channel.shared().end_seq();
        Stats {
            datums: numbers.datums,
            bytes: numbers.bytes,
            uptime: self.ends.channel.shared().uptime(driver::now()),
            lag: if end.is_some() { 0 } else { numbers.lag() },
            skipped: numbers.skipped + numbers.lost,
            filtered: numbers.filtered,
            dropped_oldest: numbers.skipped,
            skipped_at_close: end.map_or(0, |end| end.saturating_sub(numbers.released)),
            missed_while_away: self.ends.channel.shared().missed_before(),
            resent: numbers.resent,
            duplicates: numbers.duplicates,
            credit_bytes: numbers.credit_bytes,
            blocked: numbers.backpressure,
            paced: numbers.paced,
            paced_for: Duration::from_nanos(numbers.paced_ns),
            undecodable: 0,
            restarts: 0,
            predicate_panics: 0,
        }
    }

    /// Whether the state is [`State::Connected`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert!(info.is_connected());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn is_connected(&self) -> bool {
        self.state() == State::Connected
    }

    /// Where the packets for the other end go, as the session has validated it: behind a translator of
    /// addresses this is not one that the peer [announces](Self::peer). It follows a peer that moves, and
    /// stays as it was when the channel ends. `None` within one engine, and while the channel is being asked
    /// for.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.remote_address(), None);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.ends.channel.shared().remote_address()
    }

    /// The smoothed round trip to the other end, as the session measures it. `None` within one engine, and
    /// before the first measurement.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.round_trip(), None);
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn round_trip(&self) -> Option<Duration> {
        self.path()?.round_trip
    }

    /// What the channel's session has measured: round trip, packets sent and lost, congestion window, bytes
    /// in flight, packet size. Of a few milliseconds ago, or of when the session was last active. `None`
    /// within one engine.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// if let Some(path) = info.path() {
    ///     println!("{} of {} packets lost, {} bytes in flight", path.lost, path.sent, path.bytes_in_flight);
    /// }
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn path(&self) -> Option<PathStats> {
        self.ends.channel.shared().path()
    }

    /// The part of the packets from here to the other end that were lost, from 0 to 1, over the life of the
    /// session. `None` within one engine.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert!(info.loss().is_none_or(|part| (0.0..=1.0).contains(&part)));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn loss(&self) -> Option<f64> {
        let path = self.path()?;
        Some(if path.sent == 0 { 0.0 } else { path.lost as f64 / path.sent as f64 })
    }

    /// Whether nothing was heard of the peer for the time of
    /// [`with_suspect_after`](crate::network::SessionSettings::with_suspect_after) (1 s by default), although
    /// something waits for its answer. It may be stopped, or the path cut; the channel goes on until the
    /// session's [dead-peer time](crate::network::SessionSettings::with_dead_after).
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let _producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// assert!(!consumer.producers().any(|channel| channel.is_suspect()));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn is_suspect(&self) -> bool {
        self.is_connected() && self.ends.channel.shared().is_suspect()
    }

    /// Why the channel has ended; `None` while it has not.
    ///
    /// With [`CloseCode::TOO_SLOW`] the consumer kept the producer's ring full for longer than
    /// [`disconnect_lagging`](crate::streams::producer::Builder::disconnect_lagging) allows. If
    /// [`CloseCode::is_retriable`], the consumer connects again by itself after its backoff; at the consumer
    /// this channel stays listed until then.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// assert_eq!(info.close_code(), None);
    /// drop(producer);
    /// info.disconnected_blocking();
    /// assert!(info.close_code().is_some());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn close_code(&self) -> Option<CloseCode> {
        self.ends.channel.shared().close_code()
    }

    /// Waits until the channel has ended; at once if it has.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// drop(producer);
    /// corewire::block_on(info.disconnected());
    /// assert!(!info.is_connected());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn disconnected(&self) {
        let mut watcher = self.ends.channel.shared().watch();
        // An error means that the state can no longer change, so the channel has ended as well.
        let _ = watcher.wait_for(|state| *state == State::Terminated).await;
    }

    /// [`disconnected`](Self::disconnected) without an async runtime: parks the thread.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// # let consumer = network.streams().consume::<u64>();
    /// # let producer = network.streams().produce::<u64>();
    /// # consumer.when().online().wait_blocking();
    /// # let info = consumer.producers().next().unwrap();
    /// drop(producer);
    /// info.disconnected_blocking();
    /// assert!(!info.is_connected());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn disconnected_blocking(&self) {
        block_on(self.disconnected());
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
