//! Waiting for a topology: `when()` and the conditions of `online_when`.
//!
//! A condition reads channels; it never makes, accepts or closes one.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::channel::ChannelInfo;
use super::status::{StatusWaiter, StreamStatus};
use crate::blocking::{block_on, block_on_timeout};
use crate::discovery::{IntoTags, PeerEntry};
use crate::id::Tag;

/// A predicate over peers that the user wrote.
pub(crate) type Predicate = Arc<dyn Fn(&PeerEntry) -> bool + Send + Sync>;

/// What a condition asks for, without the handle that it is asked of.
#[derive(Clone)]
pub(crate) struct ConditionSpec {
    minimum: usize,
    tags: BTreeSet<Tag>,
    predicates: Vec<Predicate>,
    /// Counts channels that were refused, not those that are connected.
    refused: bool,
    inverse: bool,
}

impl ConditionSpec {
    /// At least one connected channel.
    pub(crate) const fn subscribed() -> Self {
        Self { minimum: 1, tags: BTreeSet::new(), predicates: Vec::new(), refused: false, inverse: false }
    }

    /// What `condition` makes of the default condition; the argument of an `online_when`.
    pub(crate) fn refined_by(condition: impl FnOnce(ChannelConditions) -> ChannelConditions) -> Self {
        let unattached = Arc::new(StreamStatus::new(Self::subscribed()));
        condition(ChannelConditions::new(&unattached, Self::subscribed())).spec
    }

    /// Calls the user's predicates, which may panic.
    pub(crate) fn is_met(&self, status: &StreamStatus, channels: &[ChannelInfo]) -> bool {
        let qualifying = || channels.iter().filter(|channel| self.qualifies(status, channel));
        let enough = self.minimum == 0 || qualifying().nth(self.minimum - 1).is_some();
        enough != self.inverse
    }

    fn qualifies(&self, status: &StreamStatus, channel: &ChannelInfo) -> bool {
        let counts = if self.refused { channel.is_refused() } else { channel.is_connected() };
        if !counts || (self.tags.is_empty() && self.predicates.is_empty()) {
            return counts;
        }
        let peer = status.entry_of(channel);
        self.tags.is_subset(peer.tags()) && self.predicates.iter().all(|predicate| predicate(&peer))
    }
}

/// Waits for changes of a producer's or a consumer's channels. Made by `when()` of either, and independent of
/// that handle from then on.
///
/// ```
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let producer = network.streams().produce::<u64>();
/// let when = producer.when();
/// assert!(!when.is_online() && when.unsubscribed().is_condition_met());
///
/// let consumer = network.streams().consume::<u64>();
/// when.online().wait_blocking();
/// when.subscribed().minimum_of(1).wait_blocking();
///
/// drop(consumer);
/// when.offline().wait_blocking();
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
#[derive(Clone)]
pub struct When {
    status: Arc<StreamStatus>,
}

impl When {
    pub(crate) fn new(status: &Arc<StreamStatus>) -> Self {
        Self { status: status.clone() }
    }

    /// Resolves when the handle is online: at once if it is, never once the handle is closed. For an example
    /// see [`When`].
    pub fn online(&self) -> Online {
        Online { status: self.status.clone(), wanted: true, waiter: StatusWaiter::default() }
    }

    /// Resolves when the handle is offline: at once if it is. A closed handle is offline. For an example see
    /// [`When`].
    pub fn offline(&self) -> Online {
        Online { status: self.status.clone(), wanted: false, waiter: StatusWaiter::default() }
    }

    /// Whether the handle is online now. For an example see [`When`].
    pub fn is_online(&self) -> bool {
        self.status.is_online()
    }

    /// Holds while at least one peer is connected. The methods of [`ChannelConditions`] refine it. For an
    /// example see [`When`].
    pub fn subscribed(&self) -> ChannelConditions {
        ChannelConditions::new(&self.status, ConditionSpec::subscribed())
    }

    /// Holds while a producer refuses this consumer for a reason that only a change at either side removes:
    /// another datum type, a predicate, a ticket. [`Consumer::events`](crate::Consumer::events) and
    /// [`Consumer::producers`](crate::Consumer::producers) tell the reason. At a producer it never holds.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consume::<u64>();
    /// let producer = network.streams().producer::<u64>().require(|_| false).build()?;
    /// consumer.when().refused().wait_blocking();
    /// # drop(producer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refused(&self) -> ChannelConditions {
        ChannelConditions::new(&self.status, ConditionSpec { refused: true, ..ConditionSpec::subscribed() })
    }

    /// Holds while no peer is connected. For an example see [`When`].
    pub fn unsubscribed(&self) -> ChannelConditions {
        self.subscribed().unmet()
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").field("online", &self.is_online()).finish_non_exhaustive()
    }
}

/// Resolves when a handle has become online, or offline. Made by [`When::online`] and [`When::offline`].
/// Works under any executor, and without one through [`wait_blocking`](Self::wait_blocking).
///
/// # Cancel safety
///
/// Dropping it has no effect on the handle or on other waiters.
#[must_use = "futures do nothing unless awaited"]
pub struct Online {
    status: Arc<StreamStatus>,
    wanted: bool,
    waiter: StatusWaiter,
}

impl Online {
    /// Waits without an async runtime: parks the thread. A closed handle never comes online: then this parks
    /// the thread for ever, so use [`wait_timeout`](Self::wait_timeout) where the handle may be closed.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// producer.when().offline().wait_blocking();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn wait_blocking(&mut self) {
        block_on(self);
    }

    /// As [`wait_blocking`](Self::wait_blocking) for at most `timeout`. Returns whether it resolved in time.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use std::time::Duration;
    ///
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// assert!(!producer.when().online().wait_timeout(Duration::from_millis(1)), "no consumer yet");
    /// assert!(producer.when().offline().wait_timeout(Duration::from_millis(1)));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> bool {
        block_on_timeout(self, timeout).is_some()
    }
}

impl Future for Online {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        if me.status.is_online() != me.wanted {
            me.waiter.register(&me.status, cx);
            if me.status.is_online() != me.wanted {
                return Poll::Pending;
            }
        }
        me.waiter.withdraw();
        Poll::Ready(())
    }
}

impl fmt::Debug for Online {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Online").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// A condition on the connected channels of a stream, and a future that resolves when it holds.
///
/// A channel qualifies when it is connected and its peer has all the tags and satisfies all the predicates
/// that were given. The condition holds when at least [`minimum_of`](Self::minimum_of) channels qualify
/// (default: 1); [`unmet`](Self::unmet) inverts it.
///
/// As a future it resolves when the condition holds. Awaited again (`(&mut condition).await`), it waits until
/// the condition was seen not to hold and holds again; a change there and back between two polls may go
/// unseen. It sleeps between changes and works under any executor. The thread that polls calls the
/// predicates.
///
/// # Cancel safety
///
/// Dropping it has no effect on the handle or on other waiters.
///
/// ```
/// use corewire::{Network, NetworkId};
///
/// let id = NetworkId::random();
/// let exchange = Network::new_blocking(id)?;
/// let trader = Network::builder(id).with_tags("validator").build_blocking()?;
/// let producer = exchange.streams().produce::<u64>();
/// let _consumer = trader.streams().consume::<u64>();
///
/// let me = *exchange.local().id();
/// producer
///     .when()
///     .subscribed()
///     .minimum_of(1)
///     .with_tags("validator")
///     .with_predicate(move |peer| *peer.id() != me)
///     .wait_blocking();
/// assert!(!producer.when().subscribed().with_tags("archive").is_condition_met());
/// assert!(producer.when().subscribed().with_tags("archive").unmet().is_condition_met());
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct ChannelConditions {
    status: Arc<StreamStatus>,
    spec: ConditionSpec,
    waiter: StatusWaiter,
    /// Resolved, and not seen unmet since.
    resolved: bool,
}

impl ChannelConditions {
    pub(crate) fn new(status: &Arc<StreamStatus>, spec: ConditionSpec) -> Self {
        Self { status: status.clone(), spec, waiter: StatusWaiter::default(), resolved: false }
    }

    /// The least number of channels that have to qualify. Default: 1. With 0 the condition always holds.
    pub fn minimum_of(mut self, n: usize) -> Self {
        self.spec.minimum = n;
        self
    }

    /// Only channels to peers with all of these tags qualify: one tag or many, as text or as [`Tag`]. Further
    /// calls add tags. Default: none. What counts are the tags that the peer announces now; the condition is
    /// looked at again when they change.
    pub fn with_tags(mut self, tags: impl IntoTags) -> Self {
        self.spec.tags.append(&mut tags.into_tags());
        self
    }

    /// Only channels to peers that satisfy the predicate qualify. Further calls add predicates. Default:
    /// none. It gets the peer's entry as it is now.
    pub fn with_predicate(mut self, predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        self.spec.predicates.push(Arc::new(predicate));
        self
    }

    /// The opposite condition: holds while this one does not.
    pub fn unmet(mut self) -> Self {
        self.spec.inverse = !self.spec.inverse;
        self
    }

    /// Whether the condition holds now. Calls the predicates.
    pub fn is_condition_met(&self) -> bool {
        self.spec.is_met(&self.status, &self.status.channels())
    }

    /// Waits without an async runtime: parks the thread. Called again, it waits for the condition to hold
    /// anew, as the future does. A condition that can no longer hold, as after the end of the network, parks
    /// the thread for ever: use [`wait_timeout`](Self::wait_timeout) where that may happen.
    pub fn wait_blocking(&mut self) {
        block_on(self);
    }

    /// As [`wait_blocking`](Self::wait_blocking) for at most `timeout`. Returns whether the condition held in
    /// time.
    pub fn wait_timeout(&mut self, timeout: Duration) -> bool {
        block_on_timeout(self, timeout).is_some()
    }
}

/// The same condition, which has not resolved yet.
impl Clone for ChannelConditions {
    fn clone(&self) -> Self {
        Self::new(&self.status, self.spec.clone())
    }
}

impl Future for ChannelConditions {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.waiter.register(&me.status, cx);
        let met = me.is_condition_met();
        if met && !me.resolved {
            me.resolved = true;
            me.waiter.withdraw();
            return Poll::Ready(());
        }
        me.resolved &= met;
        Poll::Pending
    }
}

impl fmt::Debug for ChannelConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelConditions")
            .field("minimum", &self.spec.minimum)
            .field("tags", &self.spec.tags)
            .field("predicates", &self.spec.predicates.len())
            .field("refused", &self.spec.refused)
            .field("inverse", &self.spec.inverse)
            .finish_non_exhaustive()
    }
}
