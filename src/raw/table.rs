//! The raw channels of one node, by peer and number.

use core::sync::atomic::{AtomicU64, Ordering};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Weak};

use corewire_engine::node::Node;
use corewire_rings::sync::Lock;

use super::shared::{OpenError, RawShared};
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
        loop {
            match self.try_open((peer, number), config) {
                Ok(shared) => {
                    shared.warn_of_settings(&config);
                    return Ok(RawStream { shared });
                }
                // Another thread may take the place that is free then. It has opened a channel with it.
                Err(OpenError::Crowded(_)) if self.evict() => {}
                Err(OpenError::Crowded(error) | OpenError::Refused(error)) => return Err(error),
            }
        }
    }

    fn try_open(&self, name: ChannelName, config: StreamConfig) -> Result<Arc<RawShared>, OpenError> {
        if self.node.is_leaving() {
            return Err(OpenError::Refused(StreamError::NotConnected));
        }
        let mut channels = self.channels.lock();
        // One that is just being closed by another thread is not given out any more.
        if let Some(open) = channels.get(&name).filter(|open| !open.is_over()) {
            return Ok(open.clone());
        }
        let epoch = 1 + self.epochs.fetch_add(1, Ordering::Relaxed);
        let place = RawPlace { channels: Arc::downgrade(&self.channels), name, epoch };
        let shared = RawShared::open(&self.node, name, config, (epoch, place))?;
        let former = channels.insert(name, shared.clone());
        drop(channels);
        drop(former);
        Ok(shared)
    }

    /// Closes the channel that was idle for longest among those without handles and without payloads that
    /// wait. `true`: its place is free. It leaves the table first, under the lock under which handles are
    /// made of it, so no handle of it is made meanwhile.
    fn evict(&self) -> bool {
        let idlest = {
            let mut channels = self.channels.lock();
            let unheld = channels.iter().filter(|(_, channel)| Arc::strong_count(channel) == 1);
            let mut unheld: BinaryHeap<Reverse<(u64, ChannelName)>> =
                unheld.map(|(name, channel)| Reverse((channel.activity.last(), *name))).collect();
            let at_rest = |name: &ChannelName| channels.get(name).is_some_and(|open| open.is_at_rest());
            let found = std::iter::from_fn(|| unheld.pop()).map(|Reverse((_, name))| name).find(at_rest);
            found.and_then(|name| channels.remove(&name))
        };
        idlest.is_some_and(|idlest| idlest.give_way())
    }

    /// The channel of this name, if it is open.
    pub(crate) fn get(&self, peer: PeerId, number: u64) -> Option<RawStream> {
        let shared = self.channels.lock().get(&(peer, number)).cloned()?;
        Some(RawStream { shared })
    }
}

#[cfg(test)]
mod tests {
    use corewire_engine::shared::limits::Limits;
    use corewire_engine::{Engine, EngineConfig, Idle};

    use super::*;
    use crate::{Network, NetworkId};

    /// A node that may have three channels and a half.
    fn crowded() -> Network {
        let limits = Limits { direct: 7, ..Limits::default() };
        let config =
            EngineConfig { shards: 1, pin: false, idle: Idle::Park, limits, ..EngineConfig::default() };
        let engine = Engine::start(config).expect("an engine with one shard");
        Network::builder(NetworkId::random()).with_engine(engine).build_blocking().expect("a node")
    }

    #[test]
    fn each_opening_at_the_limit_succeeds_at_once() {
        let (here, peer) = (crowded(), PeerId::random());
        for number in 0..1_000 {
            let opened = here.open_stream(peer, number, StreamConfig::new()).expect("an idle one gives way");
            assert!(opened.stats().active, "number {number}");
        }
    }

    #[test]
    fn openings_that_race_with_evictions_get_open_channels() {
        let (here, peer) = (crowded(), PeerId::random());
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let here = &here;
                scope.spawn(move || {
                    for round in 0..500 {
                        let number = (round * 7 + thread) % 5;
                        let opened = here.open_stream(peer, number, StreamConfig::new()).expect("it opens");
                        assert!(opened.stats().active, "round {round} of thread {thread}");
                    }
                });
            }
        });
    }
}
