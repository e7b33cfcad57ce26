//! The handle of a stream that a node produces.
//!
//! Not inside: types, policies and waiting for room (the typed layer's), and the choice of consumers (the
//! clerk's).

use std::{fmt, sync::Arc};

pub use corewire_proto::channel::{DatumForm, TypeName};
use corewire_proto::{StreamId, session::CloseCode};
use corewire_rings::sync::EventCounter;
use corewire_rings::{Ring, RingConfigError, Writer};
use thiserror::Error;
use tokio::sync::watch;

use crate::shared::publication::{PublicationGuard, note_full};
pub use crate::shared::{
    channel::{Channel, Channels},
    event::{ChannelEvent, OnEvent, TypeMismatch},
    flush::{Flush, Shortfall},
    publication::{
        Admit, Attachment, ChangeHook, DirectTo, OnChange, PublicationStats, PublishSpec, RESUME_FOR_DEFAULT,
        STANDSTILL_GRACE_DEFAULT, ShownChannels, StreamEnd, Verdict,
    },
};

/// Why a stream could not be published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// This node publishes the stream already. Here is that publication; its settings stay as they are.
    #[error("this node publishes the stream already; use the publication that this error carries")]
    AlreadyExists(Publication),
    /// The ring can't be made as asked.
    #[error("the stream's ring: {0}")]
    Ring(#[from] RingConfigError),
    /// The node has as many publications as configured.
    #[error("this node publishes {limit} streams already; drop one or raise `Limits::publications`")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The node has as many direct publications and subscriptions as configured.
    #[error("this node has {limit} directions of raw channels already; close one or raise `Limits::direct`")]
    TooManyDirect {
        /// The limit.
        limit: usize,
    },
    /// The node has left its network.
    #[error("the node has left its network; join again")]
    Left,
}

/// A stream that a node produces. Clones are handles of the same publication; when the last one is dropped
/// the ring is closed, what is in it is still delivered, and the stream is no longer announced.
#[derive(Clone)]
pub struct Publication(pub(crate) Arc<PublicationGuard>);

impl Publication {
    /// The stream.
    pub fn stream_id(&self) -> StreamId {
        self.0.shared.spec.stream
    }

    /// What the publication was made of.
    pub fn spec(&self) -> &PublishSpec {
        &self.0.shared.spec
    }

    /// The ring, for its counters.
    pub fn ring(&self) -> &Ring {
        &self.0.shared.ring
    }

    /// A new writing handle to the ring. It outlives the publication, but then finds the ring closed.
    pub fn writer(&self) -> Writer {
        self.0.shared.ring.writer()
    }

    /// What [`PublishSpec::attachment`] was.
    pub fn attachment(&self) -> Option<&Attachment> {
        self.0.shared.spec.attachment.as_ref()
    }

    /// The channels to consumers at present: asked for, connected, or just over and not yet removed.
    pub fn channels(&self) -> Channels {
        self.0.shared.channels.borrow().clone()
    }

    /// Follows [`Publication::channels`]: changes when one comes, goes, or changes its state.
    pub fn watch(&self) -> watch::Receiver<Channels> {
        self.0.shared.channels.subscribe()
    }

    /// Ends the stream for all handles: what is in the ring is still delivered. Never waits. A stream that
    /// has ended stays as it is.
    pub fn close(&self) {
        self.0.close(CloseCode::GRACEFUL);
    }

    /// As [`Publication::close`], for a stream that is not whole: its channels end with
    /// [`CloseCode::ABORTED`].
    pub fn abort(&self) {
        self.0.close(CloseCode::ABORTED);
    }

    /// As [`Publication::close`], without delivering what is in the ring: what no consumer has yet is dropped
    /// and counted as [`PublicationStats::skipped_at_close`]. Its channels end with
    /// [`CloseCode::DISCARDED`], and their consumers know how much they did not get.
    pub fn discard(&self) {
        self.0.discard(CloseCode::DISCARDED);
    }

    /// As [`Publication::discard`], for a direct publication. Its place among
    /// [`Limits::direct`](crate::shared::limits::Limits::direct) is free on return, though the clerk has not
    /// seen the end. `false`: the place is free once it has, because it is behind with very many of them.
    pub fn give_way(&self) -> bool {
        self.discard();
        self.0.shared.spec.direct.is_some() && self.0.node.direct.give_way(&self.0.shared.place)
    }

    /// Waits until the consumers have what is published by now: those that are connected, or absent with
    /// their place kept. A consumer of this engine reads the ring itself and is not waited for. One that
    /// loses datums by agreement (fire-and-forget) has what was sent to it.
    pub fn flush(&self) -> Flush {
        self.0.flush()
    }

    /// Whether the ring is closed.
    pub fn is_closed(&self) -> bool {
        self.0.shared.ring.is_closed()
    }

    /// Reports that the ring was found full, or that room was made by evicting, so that
    /// [`PublishSpec::lagging_grace`] is counted from here. To be called each time; costs two loads when the
    /// clerk knows already.
    pub fn note_full(&self) {
        note_full(&self.0.shared, &self.0.node.port);
    }

    /// [`Publication::note_full`] for callers that must not own a handle.
    pub fn full_notice(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let (shared, port) = (Arc::downgrade(&self.0.shared), self.0.node.port.clone());
        move || _ = shared.upgrade().map(|shared| note_full(&shared, &port))
    }

    /// What was admitted and refused so far.
    pub fn stats(&self) -> PublicationStats {
        let counters = &self.0.shared.counters;
        let get = |counter: &EventCounter| counter.get();
        PublicationStats {
            admitted: get(&counters.admitted),
            not_allowed: get(&counters.not_allowed),
            criteria_mismatch: get(&counters.criteria_mismatch),
            type_mismatch: get(&counters.type_mismatch),
            no_capacity: get(&counters.no_capacity),
            too_slow: get(&counters.too_slow),
            resumed: get(&counters.resumed),
            skipped_at_close: get(&counters.skipped_at_close),
            missed_while_away: get(&counters.missed_while_away),
            panics: get(&counters.panics),
        }
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("stream", &self.stream_id())
            .field("closed", &self.is_closed())
            .field("channels", &self.channels().len())
            .finish_non_exhaustive()
    }
}
