//! What all handles of one producer share, and the counters of what was not accepted.

use core::any::{TypeId, type_name};
use std::sync::Arc;

use corewire_engine::publication::{OnEvent, Publication};
use corewire_rings::sync::EventCounter;
use corewire_rings::{ClaimError, QueuedSend, Writer};

use super::put::AnyDegrader;
use super::select::Selecting;
use super::{Error, Stats};
use crate::datum::EncodeError;
use crate::id::StreamId;
use crate::policy::BackpressurePolicy;
use crate::streams::event::{EventHub, ProducerEvent};
use crate::streams::status::StreamStatus;

/// One handle's access to its producer.
#[derive(Clone)]
pub(crate) struct ProducerCore {
    pub(super) shared: Arc<ProducerShared>,
    pub(super) writer: Writer,
    pub(super) publication: Publication,
}

/// What all handles of one producer share. The engine keeps it as the publication's attachment, where a
/// second `build` finds it; it does not own the publication, or the stream would never end.
pub(crate) struct ProducerShared {
    pub(super) stream_id: StreamId,
    pub(super) policy: BackpressurePolicy,
    /// Present under `DegradeQuality`, which is not built without one.
    pub(super) degrader: Option<AnyDegrader>,
    pub(super) selecting: Selecting,
    pub(super) status: Arc<StreamStatus>,
    pub(super) events: Arc<EventHub<ProducerEvent>>,
    pub(super) counters: ProducerCounters,
    datum_type: DatumType,
}

/// The datum type and codec of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DatumType {
    id: TypeId,
    name: &'static str,
}

impl DatumType {
    pub(crate) fn of<D: 'static, C: 'static>() -> Self {
        Self { id: TypeId::of::<(D, C)>(), name: type_name::<(D, C)>() }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }
}

impl ProducerShared {
    pub(crate) fn new(
        stream_id: StreamId,
        policy: BackpressurePolicy,
        (degrader, selecting): (Option<AnyDegrader>, Selecting),
        status: Arc<StreamStatus>,
        datum_type: DatumType,
    ) -> Self {
        let (events, counters) = (Arc::default(), ProducerCounters::default());
        Self { stream_id, policy, degrader, selecting, status, events, counters, datum_type }
    }

    /// What the engine is to call for each event.
    pub(crate) fn event_hook(&self) -> OnEvent {
        self.events.hook()
    }

    pub(crate) fn datum_type(&self) -> DatumType {
        self.datum_type
    }
}

/// Datums that were offered and not accepted. The ring counts the accepted ones, without a shared write per
/// datum.
#[derive(Default)]
pub(super) struct ProducerCounters {
    full: EventCounter,
    offline: EventCounter,
    closed: EventCounter,
    too_large: EventCounter,
    unencodable: EventCounter,
    cancelled: EventCounter,
    /// Accepted after the degrader ran.
    pub(super) degraded: EventCounter,
    pub(super) degrader_panics: EventCounter,
    pub(super) undelivered: EventCounter,
    pub(super) undelivered_lost: EventCounter,
}

/// Why a datum did not enter the ring.
#[derive(Debug)]
pub(super) enum Refusal {
    Offline,
    Full,
    Closed,
    TooLarge(usize),
    Encoding(EncodeError),
}

impl Refusal {
    /// The error that gives `datum` back.
    fn with<D>(self, datum: D) -> Error<D> {
        match self {
            Self::Offline => Error::Offline(datum),
            Self::Full => Error::Full(datum),
            Self::Closed => Error::closed(datum),
            Self::TooLarge(limit) => Error::too_large(datum, limit),
            Self::Encoding(error) => Error::encoding(datum, error),
        }
    }
}

impl From<ClaimError> for Refusal {
    fn from(error: ClaimError) -> Self {
        match error {
            // A ring with too many waiting writers is full to the next one.
            ClaimError::Full | ClaimError::TooManyWaiters => Self::Full,
            ClaimError::Closed => Self::Closed,
            ClaimError::TooLarge { limit, .. } => Self::TooLarge(limit),
        }
    }
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        Self::Encoding(error)
    }
}

impl ProducerCore {
    /// A handle of `publication`, to which `shared` is attached.
    pub(crate) fn new(publication: Publication, shared: Arc<ProducerShared>) -> Self {
        Self { shared, writer: publication.writer(), publication }
    }

    /// Whether its datums have keys, or it has an undelivered sink.
    #[inline(always)]
    pub(super) fn selects(&self) -> bool {
        self.shared.selecting.is_any()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.publication.is_closed()
    }

    /// Puts `bytes` into the ring once there is room, whether or not the result is polled.
    pub(super) fn queue(&self, bytes: Vec<u8>) -> Arc<QueuedSend> {
        // Reports each time: the engine forgets a full ring once there was room.
        QueuedSend::start(self.writer.clone(), bytes, self.publication.full_notice())
    }

    pub(super) fn close(&self) {
        self.publication.close();
        self.shared.status.close();
    }

    pub(super) fn abort(&self) {
        self.publication.abort();
        self.shared.status.close();
    }

    pub(super) fn discard(&self) {
        self.publication.discard();
        self.shared.status.close();
    }

    /// Whether the condition of `online_when` holds. One load.
    #[inline(always)]
    pub(super) fn is_online(&self) -> bool {
        self.shared.status.is_online()
    }

    /// Why a producer that is not online sends nothing.
    pub(super) fn offline_refusal(&self) -> Refusal {
        if self.is_closed() { Refusal::Closed } else { Refusal::Offline }
    }

    /// Counts a refusal and gives the datum back.
    #[cold]
    pub(super) fn refuse<D>(&self, datum: D, refusal: Refusal) -> Error<D> {
        let counters = &self.shared.counters;
        let counter = match refusal {
            Refusal::Offline => &counters.offline,
            Refusal::Full => &counters.full,
            Refusal::Closed => &counters.closed,
            Refusal::TooLarge(_) => &counters.too_large,
            Refusal::Encoding(_) => &counters.unencodable,
        };
        counter.add_one();
        refusal.with(datum)
    }

    /// Counts datums that were offered and then withdrawn.
    pub(super) fn cancel(&self, datums: u64) {
        self.shared.counters.cancelled.add(datums);
    }

    pub(super) fn stats(&self) -> Stats {
        let ring = self.publication.ring();
        let counted = ring.stats();
        let counters = &self.shared.counters;
        let of_consumers = self.publication.stats();
        Stats {
            accepted: counted.accepted.saturating_sub(counted.abandoned),
            refused_full: counters.full.get(),
            refused_offline: counters.offline.get(),
            refused_closed: counters.closed.get(),
            too_large: counters.too_large.get(),
            unencodable: counters.unencodable.get(),
            cancelled: counters.cancelled.get(),
            degraded: counters.degraded.get(),
            dropped_oldest: counted.evicted,
            skipped_at_close: of_consumers.skipped_at_close,
            missed_while_away: of_consumers.missed_while_away,
            resumed: of_consumers.resumed,
            degrader_panics: counters.degrader_panics.get(),
            undelivered: counters.undelivered.get(),
            undelivered_lost: counters.undelivered_lost.get(),
            in_ring: ring.len() as u64,
            capacity: ring.config().datums as u64,
            predicate_panics: self.shared.status.predicate_panics() + of_consumers.panics,
            consumers_admitted: of_consumers.admitted,
            consumers_not_allowed: of_consumers.not_allowed,
            consumers_type_mismatch: of_consumers.type_mismatch,
            consumers_criteria_mismatch: of_consumers.criteria_mismatch,
            consumers_no_capacity: of_consumers.no_capacity,
            consumers_too_slow: of_consumers.too_slow,
        }
    }
}
