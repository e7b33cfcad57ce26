//! What is here only so that programs written for the projects that this API takes after keep compiling. New
//! programs have the forms that each item names.

use core::ops::Deref;
use std::collections::BTreeSet;

use crate::discovery::PeerEntry;
use crate::id::Tag;
use crate::streams::{ChannelConditions, consumer, producer};

/// A peer whose tags can be asked for as text: what [`accept_if`](producer::Builder::accept_if) and
/// [`subscribe_if`](consumer::Builder::subscribe_if) pass to their predicates. Derefs to [`PeerEntry`].
///
/// It exists because those predicates write `peer.tags().contains("tag1")`, while a set of [`Tag`]s is asked
/// with `contains(&"tag1".into())`; new programs use [`PeerEntry::has_tag`].
pub struct NamedPeer<'a>(&'a PeerEntry);

impl<'a> NamedPeer<'a> {
    /// The labels that the peer announces about itself.
    pub fn tags(&self) -> TagNames<'a> {
        TagNames(self.0.tags())
    }
}

impl Deref for NamedPeer<'_> {
    type Target = PeerEntry;

    fn deref(&self) -> &PeerEntry {
        self.0
    }
}

/// Tags that can be asked for as text; see [`NamedPeer`]. Derefs to the set of [`Tag`]s.
#[derive(Clone, Copy)]
pub struct TagNames<'a>(&'a BTreeSet<Tag>);

impl TagNames<'_> {
    /// Whether this tag is among them: text, or a [`Tag`].
    pub fn contains(&self, tag: impl Into<Tag>) -> bool {
        self.0.contains(&tag.into())
    }
}

impl Deref for TagNames<'_> {
    type Target = BTreeSet<Tag>;

    fn deref(&self) -> &BTreeSet<Tag> {
        self.0
    }
}

impl<D: Send + 'static, C> consumer::Builder<D, C> {
    /// [`require`](Self::require) for predicates that write tags as text.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer =
    ///     network.streams().consumer::<u64>().subscribe_if(|peer| peer.tags().contains("tag2")).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn subscribe_if(self, predicate: impl Fn(&NamedPeer<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.require(move |peer| predicate(&NamedPeer(peer)))
    }

    /// [`with_window_datums`](Self::with_window_datums) under the name that builders of consumers have there.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let consumer = network.streams().consumer::<u64>().with_buffer_size(16).build();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn with_buffer_size(self, datums: usize) -> Self {
        self.with_window_datums(datums)
    }
}

impl<D: Send + 'static, C> producer::Builder<D, C> {
    /// [`require`](Self::require) for predicates that write tags as text.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let builder = network.streams().producer::<u64>();
    /// let producer = builder.accept_if(|peer| peer.tags().contains("tag1")).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn accept_if(self, predicate: impl Fn(&NamedPeer<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.require(move |peer| predicate(&NamedPeer(peer)))
    }
}

/// `condition == true` asks whether the condition holds now. It exists because the documents of those
/// projects compare conditions with `bool`; new programs call
/// [`is_condition_met`](ChannelConditions::is_condition_met).
impl PartialEq<bool> for ChannelConditions {
    fn eq(&self, other: &bool) -> bool {
        self.is_condition_met() == *other
    }
}
