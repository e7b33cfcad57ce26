//! What can be asked of one channel.

use core::fmt;
use core::time::Duration;

use tokio::sync::watch;

use crate::discovery::PeerEntry;
use crate::id::{PeerId, StreamId};

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Asked for, not yet accepted.
    Connecting,
    /// Datums can flow.
    Connected,
    /// Over; a new subscription is a new channel.
    Terminated,
}

/// One consumer's subscription to one producer's stream, seen from either end.
#[derive(Clone)]
pub struct ChannelInfo(());

impl ChannelInfo {
    /// The stream.
    pub fn stream_id(&self) -> &StreamId {
        todo!()
    }
    /// The peer that produces.
    pub fn producer_id(&self) -> &PeerId {
        todo!()
    }
    /// The peer that consumes.
    pub fn consumer_id(&self) -> &PeerId {
        todo!()
    }
    /// The entry of the other peer, as it was when the channel was made.
    pub fn peer(&self) -> &PeerEntry {
        todo!()
    }
    /// Where the channel is in its life. May be stale by the time it is looked at.
    pub fn state(&self) -> State {
        todo!()
    }
    /// Follows the state.
    pub fn state_watcher(&self) -> watch::Receiver<State> {
        todo!()
    }
    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        todo!()
    }
    /// Whether the state is [`State::Connected`].
    pub fn is_connected(&self) -> bool {
        self.state() == State::Connected
    }
    /// Waits until the channel is over.
    pub async fn disconnected(&self) {
        core::future::pending().await
    }
}

/// Counters of a channel, or of a whole consumer. A snapshot: it does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    datums: u64,
    bytes: u64,
    uptime: Option<Duration>,
}

impl Stats {
    /// Datums delivered.
    pub fn datums(&self) -> u64 {
        self.datums
    }
    /// Bytes of those datums, encoded, without headers.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Time since the channel was connected, if it is.
    pub fn uptime(&self) -> Option<Duration> {
        self.uptime
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "datums: {}, bytes: {}", self.datums, self.bytes)
    }
}
