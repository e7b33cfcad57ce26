//! The raw channels of one node, by peer and number.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use corewire_engine::node::Node;
use corewire_rings::sync::Lock;

use super::shared::RawShared;
use super::{RawStream, StreamConfig, StreamError};
use crate::id::PeerId;

/// Names a channel of a node.
type ChannelName = (PeerId, u64);

/// The channels that are open.
type OpenChannels = Lock<BTreeMap<ChannelName, Arc<RawShared>>>;

/// The raw channels of one node. It keeps them open when their handles are gone.
pub(crate) struct RawTable {
    node: Node,
    channels: Arc<OpenChannels>,
    /// The number of the latest opening.
    epochs: AtomicU64,
}

/// Where a channel is kept.
pub(super) struct RawPlace {
    channels: Weak<OpenChannels>,
    name: ChannelName,
    epoch: u64,
}

impl RawPlace {
    /// The channel was closed, so that its name is free. A later opening of the name stays.
    pub(super) fn leave(&self) {
        let Some(channels) = self.channels.upgrade() else { return };
        let removed = {
            let mut channels = channels.lock();
            let is_this = channels.get(&self.name).is_some_and(|open| open.epoch == self.epoch);
            if is_this { channels.remove(&self.name) } else { None }
        };
        drop(removed);
    }
}

impl RawTable {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, channels: Arc::default(), epochs: AtomicU64::new(0) }
    }

    /// Opens a channel, or gives the one that is open.
    pub(crate) fn open(
        &self,
        peer: PeerId,
        number: u64,
        config: StreamConfig,
    ) -> Result<RawStream, StreamError> {
        let mut crowded = false;
        loop {
            match self.try_open((peer, number), config) {
                Err(StreamError::Transport(_)) if !crowded && self.evict() => crowded = true,
                Ok(shared) => {
                    shared.warn_of_settings(&config);
                    return Ok(RawStream { shared });
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn try_open(&self, name: ChannelName, config: StreamConfig) -> Result<Arc<RawShared>, StreamError> {
        if self.node.is_leaving() {
            return Err(StreamError::NotConnected);
        }
        let mut channels = self.channels.lock();
        if let Some(open) = channels.get(&name) {
            return Ok(open.clone());
        }
        let epoch = 1 + self.epochs.fetch_add(1, Ordering::Relaxed);
        let place = RawPlace { channels: Arc::downgrade(&self.channels), name, epoch };
        let shared = RawShared::open(&self.node, name, config, (epoch, place))?;
        channels.insert(name, shared.clone());
        Ok(shared)
    }

    /// Closes the channel that was idle for longest among those without handles and without payloads that
    /// wait. `false`: there is none.
    fn evict(&self) -> bool {
        let mut idle: Vec<Arc<RawShared>> = {
            let channels = self.channels.lock();
            channels.values().filter(|channel| Arc::strong_count(channel) == 1).cloned().collect()
        };
        idle.retain(|channel| channel.is_at_rest());
        let Some(oldest) = idle.iter().min_by_key(|channel| channel.activity.last()) else { return false };
        oldest.close();
        true
    }

    /// The channel of this name, if it is open.
    pub(crate) fn get(&self, peer: PeerId, number: u64) -> Option<RawStream> {
        let shared = self.channels.lock().get(&(peer, number)).cloned()?;
        Some(RawStream { shared })
    }
}
