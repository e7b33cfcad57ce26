//! Builds handles: turns the typed settings of a builder into the engine's specification, and its answer into
//! a handle.

use std::any::Any;
use std::sync::{Arc, Weak};

use corewire_engine::peer::PeerInfo;
use corewire_engine::publication::{Admit, OnChange, Publication, PublishError, PublishSpec, Verdict};
use corewire_engine::subscription::SubscribeSpec;

use super::Streams;
use super::conditions::Predicate;
use super::consumer::{self, Consumer, LegSet};
use super::producer::{self, DatumType, Producer, ProducerCore, ProducerShared, TryBuildError};
use super::status::StreamStatus;
use crate::counters::AtomicFlag;
use crate::datum::Codec;
use crate::discovery::PeerEntry;
use crate::tickets::{Expiration, SharedValidator};

/// The longest datum that a consumer accepts from another engine, in encoded bytes. A producer announces its
/// own limit and the inbox is sized for it; this bounds the announcement.
const MAX_DATUM_BYTES: u32 = 64 << 20;

impl Streams {
    /// Makes a producer, or finds the one that there is.
    pub(crate) fn publish<D: Send + 'static, C: Codec<D>>(
        &self,
        mut settings: producer::ProducerSettings,
    ) -> Result<Producer<D, C>, TryBuildError<D, C>> {
        let datum_type = DatumType::of::<D, C>();
        let status = Arc::new(StreamStatus::new(settings.online.clone()));
        let shared = Arc::new(ProducerShared::new(
            settings.stream_id,
            settings.policy,
            settings.degrader.take(),
            status.clone(),
            datum_type,
        ));
        let spec = PublishSpec {
            datums: settings.buffer_datums,
            bytes: settings.buffer_bytes(),
            max_datum: settings.max_datum_bytes(),
            max_consumers: settings.max_consumers,
            reliability: settings.reliability,
            weight: settings.weight,
            admit: admit(settings.require, settings.tickets),
            lagging_grace: settings.lagging.grace,
            standstill_grace: settings.lagging.standstill,
            resume_for: settings.resume_for,
            on_change: Some(refresh(&status)),
            attachment: Some(shared.clone()),
            ..PublishSpec::new(settings.stream_id.to_bytes().into())
        };
        match self.node.publish(spec) {
            Ok(publication) => {
                status.attach(publication.watch(), publication.over());
                Ok(Producer::from_core(ProducerCore::new(publication, shared)))
            }
            Err(PublishError::AlreadyExists(existing)) => Err(found(existing, datum_type)),
            Err(PublishError::Ring(error)) => Err(TryBuildError::Ring(error)),
            Err(PublishError::TooMany { limit }) => Err(TryBuildError::TooMany { limit }),
            // `PublishError` is non-exhaustive; `Left` is the only other variant today.
            Err(_) => Err(TryBuildError::Closed),
        }
    }

    /// Makes a consumer.
    pub(crate) fn subscribe<D: Send + 'static, C: Codec<D>>(
        &self,
        settings: consumer::ConsumerSettings,
    ) -> Consumer<D, C> {
        let status = Arc::new(StreamStatus::new(settings.online));
        let news = Arc::new(AtomicFlag::default());
        let spec = SubscribeSpec {
            window_bytes: settings.window_bytes as u64,
            window_datums: settings.window_datums as u64,
            max_datum: MAX_DATUM_BYTES,
            reliability: settings.reliability,
            accept: admit(settings.require, settings.tickets),
            backoff: settings.backoff.0,
            on_change: Some(refresh_and_notify(&status, &news)),
            ..SubscribeSpec::new(settings.stream_id.to_bytes().into())
        };
        // A node that has left refuses; the consumer is then closed from the start.
        let subscription = self.node.subscribe(spec).ok();
        match &subscription {
            Some(subscription) => status.attach(subscription.watch(), subscription.over()),
            None => status.close(),
        }
        Consumer::from_legs(settings.stream_id, status.clone(), LegSet::new(subscription, status, news))
    }
}

/// The error that hands an existing producer over, if it is of the type that was asked for.
fn found<D, C>(existing: Publication, requested: DatumType) -> TryBuildError<D, C> {
    let shared =
        existing.attachment().cloned().and_then(|any: Arc<dyn Any + Send + Sync>| any.downcast().ok());
    match shared {
        Some(shared) if ProducerShared::datum_type(&shared) == requested => {
            TryBuildError::AlreadyExists(Producer::from_core(ProducerCore::new(existing, shared)))
        }
        other => TryBuildError::TypeConflict {
            stream_id: existing.stream_id().0.into(),
            existing: other.map_or("bytes of another program part", |shared| shared.datum_type().name()),
            requested: requested.name(),
        },
    }
}

/// Called by the engine when channels changed. Holds the status weakly: once the handle is dropped it does
/// nothing.
fn refresh(status: &Arc<StreamStatus>) -> OnChange {
    let status = Arc::downgrade(status);
    Arc::new(move || {
        if let Some(status) = Weak::upgrade(&status) {
            status.refresh();
        }
    })
}

/// As [`refresh`]; first sets `news`, so that a consumer that is woken looks for new legs.
fn refresh_and_notify(status: &Arc<StreamStatus>, news: &Arc<AtomicFlag>) -> OnChange {
    let (refresh, news) = (refresh(status), news.clone());
    Arc::new(move || {
        news.set(true);
        refresh();
    })
}

/// All of the user's predicates and validators as one. The engine catches and counts their panics.
fn admit(predicates: Vec<Predicate>, validators: Vec<SharedValidator>) -> Option<Admit> {
    if predicates.is_empty() && validators.is_empty() {
        return None;
    }
    Some(Arc::new(move |info: &PeerInfo| {
        let entry = PeerEntry::new(info);
        if !predicates.iter().all(|predicate| predicate(&entry)) {
            return Verdict::Deny;
        }
        entry.validate_tickets(&validators).map_or(Verdict::Deny, Expiration::verdict)
    }))
}
