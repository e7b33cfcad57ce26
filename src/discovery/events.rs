//! What happens to the peers of a node, event by event.

use core::fmt;
use core::time::Duration;

use corewire_engine::peer::PeerChange;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use super::PeerEntry;
use crate::blocking::{block_on, block_on_timeout};

/// A change of what a node knows about its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// A peer is known that was not.
    Joined {
        /// The peer.
        peer: PeerEntry,
    },
    /// A peer announces other tags, streams or addresses, or has shown other tickets.
    Changed {
        /// As it was.
        before: PeerEntry,
        /// As it is.
        now: PeerEntry,
    },
    /// A peer has said that it leaves the network.
    Left {
        /// As it was.
        peer: PeerEntry,
    },
    /// A peer is not heard any more: its session broke, it does not answer, or it did not renew its
    /// record in time. It joins again when it is heard again.
    Failed {
        /// As it was.
        peer: PeerEntry,
    },
}

impl PeerEvent {
    /// The peer, as it is or was last.
    pub fn peer(&self) -> &PeerEntry {
        match self {
            Self::Joined { peer } | Self::Left { peer } | Self::Failed { peer } => peer,
            Self::Changed { now, .. } => now,
        }
    }

    fn from_engine(change: &PeerChange) -> Self {
        match change {
            PeerChange::Joined(peer) => Self::Joined { peer: PeerEntry::new(peer) },
            PeerChange::Changed { before, now } => {
                Self::Changed { before: PeerEntry::new(before), now: PeerEntry::new(now) }
            }
            PeerChange::Left(peer) => Self::Left { peer: PeerEntry::new(peer) },
            PeerChange::Failed(peer) => Self::Failed { peer: PeerEntry::new(peer) },
        }
    }
}

/// The events of a node's peers from the call on that made it, each once and in order. Made by
/// [`Discovery::events`](super::Discovery::events). It does not keep the node in the network.
///
/// It holds up to 256 events. When more wait, the oldest are dropped and [counted](Self::dropped); then
/// [`Discovery::peers`](super::Discovery::peers) has the state to go on from.
///
/// ```
/// use corewire::{Network, NetworkId, PeerEvent};
///
/// let id = NetworkId::random();
/// let here = Network::new_blocking(id)?;
/// let mut events = here.discovery().events();
///
/// let there = Network::builder(id).with_tags("starting").build_blocking()?;
/// let joined = events.recv_blocking();
/// assert!(matches!(&joined, Some(PeerEvent::Joined { peer }) if peer.has_tag("starting")), "{joined:?}");
///
/// there.discovery().set_tags("ready");
/// let changed = events.recv_blocking();
/// assert!(matches!(&changed, Some(PeerEvent::Changed { now, .. }) if now.has_tag("ready")), "{changed:?}");
///
/// drop(there);
/// assert!(matches!(events.recv_blocking(), Some(PeerEvent::Left { .. })));
/// drop(here);
/// assert_eq!(events.recv_blocking(), None);
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
pub struct PeerEvents {
    receiver: broadcast::Receiver<PeerChange>,
    dropped: u64,
}

impl PeerEvents {
    pub(super) fn new(receiver: broadcast::Receiver<PeerChange>) -> Self {
        Self { receiver, dropped: 0 }
    }

    /// Waits for the next event. `None` when this node has left the network.
    ///
    /// # Cancel safety
    ///
    /// An event is taken in the poll that resolves the future; dropping it before loses none.
    pub async fn recv(&mut self) -> Option<PeerEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(change) => return Some(PeerEvent::from_engine(&change)),
                Err(RecvError::Lagged(count)) => self.dropped += count,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next event, if one waits.
    pub fn try_recv(&mut self) -> Option<PeerEvent> {
        loop {
            match self.receiver.try_recv() {
                Ok(change) => return Some(PeerEvent::from_engine(&change)),
                Err(TryRecvError::Lagged(count)) => self.dropped += count,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    /// [`recv`](Self::recv) without an async runtime: parks the thread while it waits.
    pub fn recv_blocking(&mut self) -> Option<PeerEvent> {
        block_on(self.recv())
    }

    /// [`recv_blocking`](Self::recv_blocking) for at most `timeout`; `None` also when the time is up.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<PeerEvent> {
        block_on_timeout(self.recv(), timeout).flatten()
    }

    /// Events that were dropped because too many waited. They were older than the next one.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl fmt::Debug for PeerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerEvents")
            .field("waiting", &self.receiver.len())
            .field("dropped", &self.dropped)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use corewire_engine::peer::{PeerFacts, PeerInfo};

    use super::*;

    #[test]
    fn events_that_find_no_room_are_dropped_and_counted() {
        let sender = broadcast::Sender::new(4);
        let mut events = PeerEvents::new(sender.subscribe());
        for _ in 0..7 {
            sender.send(PeerChange::Joined(PeerInfo::new(PeerFacts::default()))).unwrap();
        }
        assert!(events.try_recv().is_some());
        assert_eq!(events.dropped(), 3);
        drop(sender);
        assert_eq!(std::iter::from_fn(|| events.recv_blocking()).count(), 3);
        assert_eq!(events.recv_timeout(Duration::from_secs(9)), None);
    }
}
