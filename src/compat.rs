//! Aliases for programs written for mosaik's API, and the differences to the projects that this API follows.
//!
//! The typed streams follow [mosaik](https://crates.io/crates/mosaik), [`raw`](crate::raw) channels
//! [net-mesh](https://crates.io/crates/net-mesh), and [`local`](crate::local) the stream runtime of axon. The
//! items of this module only keep programs written for mosaik compiling; new programs have the forms that
//! each item names.
//!
//! # What differs
//!
//! | mosaik | here, and why |
//! |---|---|
//! | a `StreamId` is a `Digest` | a type for each kind of [id](crate::UniqueId), so that none is confused |
//! | `TooSlow` and other names | constants of [`CloseCode`]; a number that is not known passes through |
//! | who falls behind is disconnected | only who [holds others up][lagging] or stands still |
//! | producers have a backoff | only [consumers][backoff] dial, so only they have one |
//! | errors of a send hold the datum | [`Closed`] holds an [`Unsendable`], which has the cause too |
//! | `Closed`: the stream is closed | or closed to this datum: three variants make a `match` complete |
//! | `Network` and `Consumer` are `Clone` | not here: dropping one leaves, or ends; share [`Streams`] |
//! | `Link<P>`, typed by its protocol | a [raw channel](crate::raw): bytes to one peer, of any protocol |
//! | events of `tracing` | events of [producers][pe], [consumers][ce] and [peers][de], and counters |
//! | an mdBook | these pages, ARCHITECTURE.md, a page for each crate, examples that are tests |
//!
//! | net-mesh | raw channels, and why |
//! |---|---|
//! | `Stream` | [`RawStream`]: [`local::Stream`](crate::local::Stream) has that name |
//! | `MeshNode` | [`Network`](crate::Network), as for typed streams |
//! | `peer_node_id() -> u64` | [`peer`], a [`PeerId`](crate::PeerId) of 32 bytes: each node has its own |
//! | opened by the one that sends | by [both peers](crate::raw#what-it-promises): no bytes come unasked |
//! | `StreamError` has three variants | also those of local streams, and `#[non_exhaustive]` |
//! | the window counts headers and tags | [payloads](crate::raw#what-it-promises) only, rounded up to 16 |
//! | `window_bytes: 0` is unbounded | bounded by [64 MiB](crate::raw::StreamConfig::window_bytes) |
//!
//! | net-mesh, and raw channels | typed streams, and why |
//! |---|---|
//! | default `FireAndForget` | [`Reliable`]: nothing is lost unless that is asked for |
//! | opened again: a warning | [`AlreadyExists`] with the existing producer: the caller decides |
//! | `tx_credit_remaining: u32` | [`credit_bytes`], a `u64`; `u64::MAX` is no limit |
//! | `backpressure_events` | [`blocked`]: times without credit; [`refused_full`]: refused sends |
//! | a dropped handle changes nothing | the last handle of a [producer](crate::Producer) ends its stream |
//!
//! | axon | here, and why |
//! |---|---|
//! | `DegradationFn` takes a `T` | [a `&T`](crate::local::DegradationFn), so that a panic leaves the datum |
//! | `StreamMetrics` has atomic fields | a [`snapshot`], whose numbers balance at each moment |
//! | `depth().await` | [`depth`] without `.await`: nothing is waited for |
//! | the field `annotation.policy` | the method [`policy`], so that the options always fit the policy |
//! | a checker rejects impure degraders | Rust has none; a panic of a degrader is contained and counted |
//! | a dropped producer cancels | only [`close`] does: each handle is a producer's and a consumer's |
//! | `drop_oldest_hits` | also what `degrade_quality` drops |
//! | `pause_upstream_blocks`: each turn | once for each push that waits |
//! | texts of errors | other texts, each with what to do |
//!
//! [`CloseCode`]: crate::streams::CloseCode
//! [lagging]: producer::Builder::disconnect_lagging
//! [backoff]: consumer::Builder::with_backoff
//! [`Streams`]: crate::streams::Streams
//! [pe]: crate::Producer::events
//! [ce]: crate::Consumer::events
//! [de]: crate::discovery::Discovery::events
//! [`RawStream`]: crate::raw::RawStream
//! [`peer`]: crate::raw::RawStream::peer
//! [`Closed`]: producer::Error::Closed
//! [`Unsendable`]: producer::Unsendable
//! [`Reliable`]: crate::Reliability::Reliable
//! [`AlreadyExists`]: producer::BuilderError::AlreadyExists
//! [`credit_bytes`]: crate::streams::Stats::credit_bytes
//! [`blocked`]: crate::streams::Stats::blocked
//! [`refused_full`]: producer::Stats::refused_full
//! [`snapshot`]: crate::local::StreamMetrics::snapshot
//! [`depth`]: crate::local::Stream::depth
//! [`policy`]: crate::local::BackpressureAnnotation::policy
//! [`close`]: crate::local::Stream::close

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

    /// [`with_window_datums`](Self::with_window_datums) under the name that it has in mosaik.
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

/// `condition == true` asks whether the condition holds now. It exists because mosaik's documents compare
/// conditions with `bool`; new programs call
/// [`is_condition_met`](ChannelConditions::is_condition_met).
impl PartialEq<bool> for ChannelConditions {
    fn eq(&self, other: &bool) -> bool {
        self.is_condition_met() == *other
    }
}
