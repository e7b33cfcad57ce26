//! Waiting for a topology: `when()` and the conditions of `online_when`.
//!
//! A condition looks at channels; it never makes, accepts or closes one.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::board::{Board, Waiter};
use super::channel::ChannelInfo;
use crate::discovery::{IntoTags, PeerEntry};
use crate::id::Tag;

/// A predicate over peers that the user wrote.
pub(crate) type Predicate = Arc<dyn Fn(&PeerEntry) -> bool + Send + Sync>;

/// What a condition asks for, apart from any board.
#[derive(Clone)]
pub(crate) struct Spec {
    minimum: usize,
    tags: BTreeSet<Tag>,
    predicates: Vec<Predicate>,
    inverse: bool,
}

impl Spec {
    /// At least one connected channel.
    pub(crate) const fn subscribed() -> Self {
        Self { minimum: 1, tags: BTreeSet::new(), predicates: Vec::new(), inverse: false }
    }

    /// Calls the user's predicates, which may panic.
    pub(crate) fn is_met(&self, channels: &[ChannelInfo]) -> bool {
        let enough = self.minimum == 0
            || channels.iter().filter(|channel| self.qualifies(channel)).nth(self.minimum - 1).is_some();
        enough != self.inverse
    }

    fn qualifies(&self, channel: &ChannelInfo) -> bool {
        channel.is_connected()
            && self.tags.is_subset(channel.peer().tags())
            && self.predicates.iter().all(|predicate| predicate(channel.peer()))
    }
}

/// What the function of an `online_when` makes of the default condition.
pub(crate) fn spec_of(condition: impl FnOnce(ChannelConditions) -> ChannelConditions) -> Spec {
    let nowhere = Arc::new(Board::new(Spec::subscribed()));
    condition(ChannelConditions::new(&nowhere, Spec::subscribed())).spec
}

/// Waits for changes of a producer's or a consumer's channels. Made by `when()` of either; independent of the
/// handle from then on.
#[derive(Clone)]
pub struct When {
    board: Arc<Board>,
}

impl When {
    pub(crate) fn new(board: &Arc<Board>) -> Self {
        Self { board: board.clone() }
    }

    /// Resolves when the handle is online; at once if it is. Never, once the handle is closed.
    pub fn online(&self) -> Online {
        Online { board: self.board.clone(), wanted: true, waiter: Waiter::default() }
    }

    /// Resolves when the handle is offline; at once if it is. A closed handle is offline.
    pub fn offline(&self) -> Online {
        Online { board: self.board.clone(), wanted: false, waiter: Waiter::default() }
    }

    /// Whether the handle is online.
    pub fn is_online(&self) -> bool {
        self.board.is_online()
    }

    /// Holds while at least one peer is connected; refine it with the methods of [`ChannelConditions`].
    pub fn subscribed(&self) -> ChannelConditions {
        ChannelConditions::new(&self.board, Spec::subscribed())
    }

    /// Holds while no peer is connected.
    pub fn unsubscribed(&self) -> ChannelConditions {
        self.subscribed().unmet()
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").field("online", &self.is_online()).finish_non_exhaustive()
    }
}

/// Resolves when a handle has become online, or offline. Made by [`When`]. Cancel-safe; works under any executor.
#[must_use = "futures do nothing unless awaited"]
pub struct Online {
    board: Arc<Board>,
    wanted: bool,
    waiter: Waiter,
}

impl Future for Online {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        if me.board.is_online() != me.wanted {
            me.waiter.register(&me.board, cx);
            if me.board.is_online() != me.wanted {
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
/// A channel qualifies when it is connected and its peer has all the tags and satisfies all the predicates that
/// were given. The condition holds when at least the minimum of channels qualifies: one, unless
/// [`minimum_of`](Self::minimum_of) says otherwise. [`unmet`](Self::unmet) turns that around.
///
/// As a future it resolves when the condition holds. Awaited once more (`(&mut condition).await`), it waits until
/// the condition has been seen not to hold and holds again; a change there and back between two polls may pass
/// unseen. It is cancel-safe, works under any executor, and sleeps between changes. Predicates are called by
/// whoever polls.
#[must_use = "futures do nothing unless awaited"]
pub struct ChannelConditions {
    board: Arc<Board>,
    spec: Spec,
    waiter: Waiter,
    /// Resolved, and not seen unmet since.
    resolved: bool,
}

impl ChannelConditions {
    pub(crate) fn new(board: &Arc<Board>, spec: Spec) -> Self {
        Self { board: board.clone(), spec, waiter: Waiter::default(), resolved: false }
    }

    /// At least `n` channels have to qualify. Default: 1. With 0 the condition always holds.
    pub fn minimum_of(mut self, n: usize) -> Self {
        self.spec.minimum = n;
        self
    }

    /// Only channels to peers with all of these tags qualify: one tag or many, as text or as
    /// [`Tag`]. Further calls add tags.
    pub fn with_tags(mut self, tags: impl IntoTags) -> Self {
        self.spec.tags.append(&mut tags.into_tags());
        self
    }

    /// Only channels to peers that satisfy the predicate qualify. Further calls add predicates.
    pub fn with_predicate(mut self, predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        self.spec.predicates.push(Arc::new(predicate));
        self
    }

    /// The opposite: holds while this condition does not.
    pub fn unmet(mut self) -> Self {
        self.spec.inverse = !self.spec.inverse;
        self
    }

    /// Whether the condition holds now.
    pub fn is_condition_met(&self) -> bool {
        self.spec.is_met(&self.board.channels())
    }
}

/// A fresh condition with the same wishes: it has not resolved yet.
impl Clone for ChannelConditions {
    fn clone(&self) -> Self {
        Self::new(&self.board, self.spec.clone())
    }
}

/// `condition == true` asks whether it holds now.
impl PartialEq<bool> for ChannelConditions {
    fn eq(&self, other: &bool) -> bool {
        self.is_condition_met() == *other
    }
}

impl Future for ChannelConditions {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.waiter.register(&me.board, cx);
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
            .field("inverse", &self.spec.inverse)
            .finish_non_exhaustive()
    }
}
