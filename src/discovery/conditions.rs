//! Waiting for peers: `discovery().when()`.

use core::fmt;
use core::future::{Future, IntoFuture, pending};
use core::pin::Pin;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use corewire_engine::peer::PeerInfo;
use tokio::sync::watch;

use super::{IntoTags, PeerEntry};
use crate::blocking::{block_on, block_on_timeout};
use crate::id::{PeerId, StreamId, Tag};

/// A predicate over peers that the user wrote.
type PeerPredicate = Arc<dyn Fn(&PeerEntry) -> bool + Send + Sync>;

/// Waits for peers. Made by [`Discovery::when`](super::Discovery::when), and independent of it from then on.
///
/// ```
/// use corewire::{Network, NetworkId};
///
/// let id = NetworkId::random();
/// let here = Network::new_blocking(id)?;
/// let first = Network::builder(id).with_tags("validator").build_blocking()?;
/// let second = Network::builder(id).with_tags(["validator", "archive"]).build_blocking()?;
///
/// let when = here.discovery().when();
/// when.peers().minimum_of(2).with_tags("validator").wait_blocking();
/// when.peer(*first.local().id()).wait_blocking();
/// drop(second);
/// when.peers().with_tags("archive").unmet().wait_blocking();
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
#[derive(Clone)]
pub struct PeerWhen {
    peers: watch::Receiver<Arc<[PeerInfo]>>,
}

impl PeerWhen {
    pub(super) fn new(peers: watch::Receiver<Arc<[PeerInfo]>>) -> Self {
        Self { peers }
    }

    /// Holds while at least one peer is known. The methods of [`PeerConditions`] refine it.
    pub fn peers(&self) -> PeerConditions {
        PeerConditions {
            peers: self.peers.clone(),
            minimum: 1,
            id: None,
            tags: BTreeSet::new(),
            streams: BTreeSet::new(),
            predicates: Vec::new(),
            inverse: false,
        }
    }

    /// Holds while this peer is known.
    pub fn peer(&self, id: impl Into<PeerId>) -> PeerConditions {
        PeerConditions { id: Some(id.into()), ..self.peers() }
    }
}

impl fmt::Debug for PeerWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerWhen").field("known", &self.peers.borrow().len()).finish()
    }
}

/// A condition on the peers that a node knows. It can be awaited, and resolves when it holds: at once if it
/// does.
///
/// A peer qualifies when it has all the tags, produces all the streams and satisfies all the predicates that
/// were given. The condition holds when at least [`minimum_of`](Self::minimum_of) peers qualify (default: 1);
/// [`unmet`](Self::unmet) inverts it. It sleeps between changes and works under any executor; the thread that
/// waits calls the predicates. A change there and back between two looks may go unseen. After the node has
/// left the network nothing changes any more.
///
/// ```
/// # use corewire::{Network, NetworkId};
/// # corewire::block_on(async {
/// let id = NetworkId::random();
/// let (here, there) = (Network::new(id).await?, Network::new(id).await?);
/// let _producer = there.streams().producer::<u64>().with_stream_id("prices").build().unwrap();
///
/// let priced = here.discovery().when().peers().with_streams(["prices"]);
/// priced.clone().await;
/// assert!(priced.is_condition_met() && !priced.minimum_of(2).is_condition_met());
/// # Ok::<(), corewire::network::NetworkError>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropping it changes nothing.
#[derive(Clone)]
#[must_use = "a condition does nothing unless it is awaited"]
pub struct PeerConditions {
    peers: watch::Receiver<Arc<[PeerInfo]>>,
    minimum: usize,
    id: Option<PeerId>,
    tags: BTreeSet<Tag>,
    streams: BTreeSet<StreamId>,
    predicates: Vec<PeerPredicate>,
    inverse: bool,
}

impl PeerConditions {
    /// The least number of peers that have to qualify. Default: 1. With 0 the condition always holds.
    pub fn minimum_of(mut self, n: usize) -> Self {
        self.minimum = n;
        self
    }

    /// Only peers with all of these tags qualify: one tag or many, as text or as [`Tag`]. Further calls add
    /// tags. Default: none.
    pub fn with_tags(mut self, tags: impl IntoTags) -> Self {
        self.tags.append(&mut tags.into_tags());
        self
    }

    /// Only peers that produce all of these streams qualify. Further calls add streams. Default: none.
    pub fn with_streams<S: Into<StreamId>>(mut self, streams: impl IntoIterator<Item = S>) -> Self {
        self.streams.extend(streams.into_iter().map(Into::into));
        self
    }

    /// Only peers that satisfy the predicate qualify. Further calls add predicates. Default: none.
    pub fn with_predicate(mut self, predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        self.predicates.push(Arc::new(predicate));
        self
    }

    /// The opposite condition: holds while this one does not.
    pub fn unmet(mut self) -> Self {
        self.inverse = !self.inverse;
        self
    }

    /// Whether the condition holds now. Calls the predicates.
    pub fn is_condition_met(&self) -> bool {
        let known = self.peers.borrow().clone();
        self.is_met(&known)
    }

    /// Waits without an async runtime: parks the thread. A condition that can no longer hold parks the thread
    /// for ever: use [`wait_timeout`](Self::wait_timeout) where that may happen.
    pub fn wait_blocking(self) {
        block_on(self.into_future());
    }

    /// As [`wait_blocking`](Self::wait_blocking) for at most `timeout`. Returns whether the condition held in
    /// time.
    pub fn wait_timeout(self, timeout: Duration) -> bool {
        block_on_timeout(self.into_future(), timeout).is_some()
    }

    fn is_met(&self, known: &[PeerInfo]) -> bool {
        let qualifying = known.iter().map(PeerEntry::new).filter(|peer| self.qualifies(peer));
        let enough = qualifying.take(self.minimum).count() == self.minimum;
        enough != self.inverse
    }

    fn qualifies(&self, peer: &PeerEntry) -> bool {
        self.id.is_none_or(|id| *peer.id() == id)
            && self.tags.is_subset(peer.tags())
            && self.streams.is_subset(peer.streams())
            && self.predicates.iter().all(|predicate| predicate(peer))
    }
}

impl IntoFuture for PeerConditions {
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            loop {
                let known = self.peers.borrow_and_update().clone();
                if self.is_met(&known) {
                    return;
                }
                if self.peers.changed().await.is_err() {
                    // The node is gone: nothing changes any more.
                    pending::<()>().await;
                }
            }
        })
    }
}

impl fmt::Debug for PeerConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConditions")
            .field("minimum", &self.minimum)
            .field("id", &self.id)
            .field("tags", &self.tags)
            .field("streams", &self.streams)
            .field("predicates", &self.predicates.len())
            .field("inverse", &self.inverse)
            .finish_non_exhaustive()
    }
}
