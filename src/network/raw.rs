//! The raw channels of a node.

use super::Network;
use crate::id::PeerId;
use crate::raw::{RawStream, StreamConfig, StreamError, StreamStats};

impl Network {
    /// Opens the raw channel `stream_id` with `peer`, or gives the one that is open; see [`raw`](crate::raw)
    /// for what it promises and for an example. It does not wait for the peer.
    ///
    /// # Errors
    ///
    /// [`StreamError::NotConnected`] if the node has left its network; [`StreamError::Transport`] if it has
    /// as many channels as its [limit](crate::engine::Limits::direct), or no memory for another one.
    pub fn open_stream(
        &self,
        peer: PeerId,
        stream_id: u64,
        config: StreamConfig,
    ) -> Result<RawStream, StreamError> {
        self.raw.open(peer, stream_id, config)
    }

    /// Closes a raw channel of this node as [`RawStream::close`] does; `false` if it is not open.
    ///
    /// ```
    /// # use corewire::raw::StreamConfig;
    /// # use corewire::{Network, NetworkId, PeerId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let peer = PeerId::random();
    /// network.open_stream(peer, 7, StreamConfig::new())?;
    /// assert!(network.close_stream(peer, 7));
    /// assert!(!network.close_stream(peer, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_stream(&self, peer: PeerId, stream_id: u64) -> bool {
        self.raw.get(peer, stream_id).inspect(RawStream::close).is_some()
    }

    /// The counters of a raw channel of this node; `None` if it is not open.
    ///
    /// ```
    /// # use corewire::raw::StreamConfig;
    /// # use corewire::{Network, NetworkId, PeerId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let peer = PeerId::random();
    /// assert!(network.stream_stats(peer, 7).is_none());
    /// network.open_stream(peer, 7, StreamConfig::new())?;
    /// assert!(!network.stream_stats(peer, 7).unwrap().connected);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream_stats(&self, peer: PeerId, stream_id: u64) -> Option<StreamStats> {
        self.raw.get(peer, stream_id).map(|stream| stream.stats())
    }
}
