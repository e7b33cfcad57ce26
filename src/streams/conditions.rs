//! Waiting for a topology: `when()` and the conditions of `online_when`.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::discovery::{IntoTags, PeerEntry};

/// Waits for changes of a producer's or a consumer's channels.
#[derive(Clone)]
pub struct When(());

impl When {
    /// Resolves when the handle is online; at once if it is.
    pub fn online(&self) -> Online {
        todo!()
    }
    /// Resolves when the handle is offline; at once if it is.
    pub fn offline(&self) -> Online {
        todo!()
    }
    /// Holds while at least one peer is connected; see [`ChannelConditions`].
    pub fn subscribed(&self) -> ChannelConditions {
        todo!()
    }
    /// Holds while no peer is connected.
    pub fn unsubscribed(&self) -> ChannelConditions {
        self.subscribed().unmet()
    }
}

/// Resolves when a handle has become online, or offline.
#[must_use = "futures do nothing unless awaited"]
pub struct Online(());

impl Future for Online {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        todo!()
    }
}

/// A condition on the connected channels of a stream, and a future that resolves when it holds.
#[derive(Clone)]
#[must_use = "futures do nothing unless awaited"]
pub struct ChannelConditions(());

impl ChannelConditions {
    /// At least `n` channels have to qualify. Default: 1.
    pub fn minimum_of(self, _n: usize) -> Self {
        todo!()
    }
    /// Only channels to peers with all of these tags qualify.
    pub fn with_tags(self, _tags: impl IntoTags) -> Self {
        todo!()
    }
    /// Only channels to peers that satisfy the predicate qualify.
    pub fn with_predicate(self, _predicate: impl Fn(&PeerEntry) -> bool + Send + Sync + 'static) -> Self {
        todo!()
    }
    /// The opposite of this condition.
    pub fn unmet(self) -> Self {
        todo!()
    }
    /// Whether the condition holds now.
    pub fn is_condition_met(&self) -> bool {
        todo!()
    }
}

impl Future for ChannelConditions {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        todo!()
    }
}
